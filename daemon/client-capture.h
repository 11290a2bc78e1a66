/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-capture.h - a recorded stream, decoded and counted
 *
 * The same decoders and the same record as in the daemon, so a stream that the
 * daemon would refuse is refused here with the same words.  What is read is held
 * in memory or mapped: it is the user's own file.
 */
#ifndef DAEMON_CLIENT_CAPTURE_H
#define DAEMON_CLIENT_CAPTURE_H

#include <stdbool.h>
#include <json-glib/json-glib.h>

/*
 * @path: a directory with main.c2s and mfdN.c2s (tests/captures/README.md), each
 * with .xz behind it or not; or a file: a migration stream, or a recording (pcapng).
 *
 * Returns what query-traffic has, and beside it `machine`, `channels` (of each
 * `channel`, `packets`, `normal-pages`, `zero-pages`, `bytes`, `syncs`, and
 * `epochs`, packets by epoch) and `devices`, the values in device sections.
 * *@ret_invalid: a copy of why a daemon would refuse the stream, or NULL; what was
 * counted up to there is returned.  NULL: it cannot be read.
 */
JsonObject *client_capture_read(const char *path, char **ret_invalid,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
