/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-link-test.h - the command "link test": measure the link to a peer
 */
#ifndef DAEMON_CLIENT_LINK_TEST_H
#define DAEMON_CLIENT_LINK_TEST_H

#include <json-glib/json-glib.h>
#include "daemon/client-session.h"

extern const GOptionEntry client_link_test_entries[];
ClientSessionExit client_link_test_run(ClientSession *session, char **args);

/* Of a member of query-link-tests' answer that is over; several lines.  g_free(). */
char *client_link_test_to_string(JsonObject *test);

#endif
