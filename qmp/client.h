/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp/client.h - a synchronous, thread-safe QMP client
 *
 * For threads that want an answer before they go on: connect, execute, free.
 * One thread of the client's own does all I/O and calls the event handler; any
 * number of other threads may execute at the same time.  It never decides
 * what to ask, never reconnects, and has no timeout of its own: a QEMU that
 * waits in a multifd sync is silent for long and not dead.
 *
 * A cancelled GCancellable ends any wait at once with G_IO_ERROR_CANCELLED.
 * A timeout_ms of 0 means no limit.
 */
#ifndef QMP_CLIENT_H
#define QMP_CLIENT_H

#include "qmp/peer.h"

#include <gio/gio.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct QmpClient QmpClient;

/*
 * An event, in the client's own thread: keep it short, and neither execute
 * nor free the client from it (both assert).  @data may be NULL and is lent.
 * @timestamp_us is the peer's wall clock, 0 when it gave none.
 *
 * The end of the connection is the last call, made exactly once, with @name
 * NULL; qmp_client_get_error() then says why.  qmp_client_free() is not an
 * end in this sense and makes no call.
 */
typedef void (*QmpClientEventHandler)(const char *name, JsonObject *data,
                                      int64_t timestamp_us,
                                      gpointer user_data);

/*
 * Connect to "/path", "unix:/path" or "tcp:host:port", read the greeting and
 * negotiate, with "oob" where it is offered.  @timeout_ms is for all of it.
 *
 * QMP_ERROR_ADDRESS:  @address is none of these.
 * QMP_ERROR_TIMEOUT:  no connection, or no greeting: a QEMU serves one client
 *                     at a time and lets the others wait.
 * QMP_ERROR_PROTOCOL: not a QMP server.
 * G_IO_ERROR:         refused, no such file, cancelled, ...
 */
QmpClient *qmp_client_connect(const char *address, unsigned timeout_ms,
                              GCancellable *cancellable,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Disconnect and join the thread; waits at most for a handler that is
 * running.  No other thread may be inside the client.  NULL is fine.
 */
void qmp_client_free(QmpClient *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpClient, qmp_client_free)

/*
 * Execute @command and wait for its answer, of which "return" is returned
 * (transfer full).  @arguments may be NULL and is consumed in every case.
 *
 * QMP_ERROR_COMMAND:      the peer said no; see qmp_error_get_class().
 * QMP_ERROR_TIMEOUT:      no answer yet.  The command may still be carried
 *                         out; a late answer is ignored.
 * QMP_ERROR_DISCONNECTED: the connection ended, before or during the wait.
 * QMP_ERROR_TOO_LARGE:    the peer stopped reading and the queue is full.
 * G_IO_ERROR_CANCELLED:   as for a timeout, the command may be carried out.
 */
JsonNode *qmp_client_execute(QmpClient *self, const char *command,
                             JsonObject *arguments, unsigned timeout_ms,
                             GCancellable *cancellable,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The same out of band: answered while QEMU's main loop is blocked.  Only for
 * the commands that allow it (yank, migrate-recover, migrate-pause, ...) and
 * when qmp_client_has_oob().
 */
JsonNode *qmp_client_execute_oob(QmpClient *self, const char *command,
                                 JsonObject *arguments, unsigned timeout_ms,
                                 GCancellable *cancellable,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Have @handler called for events; NULL to stop.  Events that come while there
 * is none are kept (the newest 256) and delivered to the next, as is a
 * disconnect.  The old handler may be running while this returns; @destroy
 * is called on its data when it no longer does, in either thread.
 */
void qmp_client_set_event_handler(QmpClient *self,
                                  QmpClientEventHandler handler,
                                  gpointer user_data, GDestroyNotify destroy);

/* The QEMU version of the greeting. */
void qmp_client_get_version(const QmpClient *self, unsigned *ret_major,
                            unsigned *ret_minor, unsigned *ret_micro);

/* Whether out-of-band execution was negotiated. */
bool qmp_client_has_oob(const QmpClient *self);

/* False for TCP. */
bool qmp_client_get_peer_credentials(const QmpClient *self, QmpPeer *ret);

/* Why the connection ended, for g_error_free(); NULL while it stands. */
GError *qmp_client_get_error(QmpClient *self);

#endif
