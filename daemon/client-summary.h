/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-summary.h - all that is known of one migration, as text
 */
#ifndef DAEMON_CLIENT_SUMMARY_H
#define DAEMON_CLIENT_SUMMARY_H

#include <json-glib/json-glib.h>

/* From a member of query-migrations' answer; several lines.  g_free(). */
char *client_summary_to_string(JsonObject *migration);

/* "web1", or the tunnel's name; lent by @migration, never NULL. */
const char *client_summary_get_subject(JsonObject *migration);

#endif
