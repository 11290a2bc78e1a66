/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp/connect.h - from a written address to a connected socket
 */
#ifndef QMP_CONNECT_H
#define QMP_CONNECT_H

#include <gio/gio.h>
#include <stdint.h>

/*
 * Connect to "/path", "unix:/path" or "tcp:host:port" ("tcp:[::1]:4444"),
 * waiting until the monotonic time @deadline_us.  The socket is non-blocking.
 *
 * QMP_ERROR_ADDRESS: @address is none of these.
 * QMP_ERROR_TIMEOUT: nobody accepted in time.
 * G_IO_ERROR:        refused, cancelled, no such file, ...
 */
GSocket *qmp_connect(const char *address, int64_t deadline_us,
                     GCancellable *cancellable,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
