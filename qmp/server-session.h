/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp/server-session.h - one client's connection to the server
 *
 * Framing in, a bounded queue out, on the main context, never blocking.  What
 * a message means is the server's: it comes up through the callbacks.
 *
 * All here is for qmp/server.c, but the getters, which are for handlers.
 */
#ifndef QMP_SERVER_SESSION_H
#define QMP_SERVER_SESSION_H

#include "qmp/peer.h"
#include "qmp/schema.h"

#include <gio/gio.h>

/* --- for command handlers --- */

/* Who is connected; false for TCP, where the kernel does not know. */
bool qmp_server_session_get_peer(const QmpServerSession *self, QmpPeer *ret);

/* --- for the server --- */

typedef struct QmpServerSessionCallbacks {
    /* A whole message came. */
    void (*message)(QmpServerSession *session, JsonObject *message,
                    gpointer user_data);
    /* Something else came; on QMP_ERROR_TOO_LARGE the session then ends. */
    void (*bad_input)(QmpServerSession *session, const GError *error,
                      gpointer user_data);
    /* The connection ended; the last call.  @why is NULL at a proper end. */
    void (*closed)(QmpServerSession *session, const GError *why,
                   gpointer user_data);
} QmpServerSessionCallbacks;

/* One reference is the caller's.  Nothing is read before _start(). */
QmpServerSession *qmp_server_session_new(
    GSocketConnection *connection, size_t max_message_bytes,
    size_t max_queue_bytes, const QmpServerSessionCallbacks *callbacks,
    gpointer user_data);
QmpServerSession *qmp_server_session_ref(QmpServerSession *self);
void qmp_server_session_unref(QmpServerSession *self);

/* Begin to read, on the thread-default main context. */
void qmp_server_session_start(QmpServerSession *self);

/*
 * Queue @bytes and write what the socket takes now.  When the queue is full
 * @droppable messages are dropped; when that is not enough the session ends.
 */
void qmp_server_session_send(QmpServerSession *self, GBytes *bytes,
                             bool droppable);

/* End it now: unwritten output is lost.  Calls closed(), once. */
void qmp_server_session_close(QmpServerSession *self, const GError *why);

/* Whether qmp_capabilities was executed: events and commands from then on. */
bool qmp_server_session_is_negotiated(const QmpServerSession *self);
void qmp_server_session_set_negotiated(QmpServerSession *self);

#endif
