/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-inspect.h - the command "inspect": what is in a migration's
 * traffic, or in a recording of it
 */
#ifndef DAEMON_CLIENT_INSPECT_H
#define DAEMON_CLIENT_INSPECT_H

#include <json-glib/json-glib.h>
#include "daemon/client-session.h"

extern const GOptionEntry client_inspect_entries[];
ClientSessionExit client_inspect_run(ClientSession *session, char **args);

/* Of what query-traffic or client_capture_read() returned; several lines.
 * @channels: an array with `channel`, `packets`, `bytes`, `syncs`, or NULL.  g_free(). */
char *client_inspect_to_string(JsonObject *traffic, JsonArray *channels);

#endif
