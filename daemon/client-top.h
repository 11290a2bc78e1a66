/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-top.h - the command "top": what runs, looked at every second
 *
 * The text is made by a pure function from two answers of query-migrations.  A
 * terminal is redrawn in place; elsewhere one table follows the other.
 */
#ifndef DAEMON_CLIENT_TOP_H
#define DAEMON_CLIENT_TOP_H

#include <stdint.h>
#include <json-glib/json-glib.h>
#include "daemon/client-session.h"

extern const GOptionEntry client_top_entries[];
ClientSessionExit client_top_run(ClientSession *session, char **args);

/*
 * @now and @before are answers of query-migrations, @elapsed_us apart; without
 * @before channels have no rates.  Only what runs; at least one line.  g_free().
 */
char *client_top_to_string(JsonArray *now, JsonArray *before,
                           int64_t elapsed_us);

#endif
