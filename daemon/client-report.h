/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-report.h - the command "report": a migration as one HTML page
 *
 * The page needs nothing from anywhere: no script, no font, no picture.  All text
 * in it is escaped.
 */
#ifndef DAEMON_CLIENT_REPORT_H
#define DAEMON_CLIENT_REPORT_H

#include <json-glib/json-glib.h>
#include "daemon/client-session.h"

ClientSessionExit client_report_run(ClientSession *session, char **args);

/* From a member of query-migrations' answer and query-traffic's.  g_free(). */
char *client_report_to_html(JsonObject *migration, JsonObject *traffic);

#endif
