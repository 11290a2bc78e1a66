/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp/server.h - a QMP server on the main loop
 *
 * Any QMP client works on it: it greets, negotiates, checks arguments against
 * the tables of qmp/schema.h, echoes ids, sends events with timestamps, and
 * answers query-version, query-commands and query-qmp-schema by itself.  What
 * the other commands mean is their handlers'.
 *
 * One thread: everything here is called in the thread whose thread-default
 * main context was current in qmp_server_new(), and so are the callbacks.
 * Nothing blocks.
 */
#ifndef QMP_SERVER_H
#define QMP_SERVER_H

#include "qmp/peer.h"
#include "qmp/schema.h"
#include "qmp/server-session.h"

#include <gio/gio.h>

#define QMP_SERVER_DEFAULT_SESSIONS 32u
#define QMP_SERVER_DEFAULT_QUEUE_BYTES (1024u * 1024)

typedef struct QmpServer QmpServer;

typedef struct QmpServerInfo {
    const char *name;           /* our key beside "qemu" in the version */
    unsigned    major, minor, micro;
    const char *package;
    /* 0 for each means its default. */
    unsigned    max_sessions;
    size_t      max_message_bytes;
    size_t      max_queue_bytes;
} QmpServerInfo;

/* @peer is NULL for TCP.  Refuse with false and an error, told to the peer. */
typedef bool (*QmpServerAccessCheck)(const QmpPeer *peer, gpointer user_data,
                                     GError **error);

/* The strings of @info are copied. */
QmpServer *qmp_server_new(const QmpServerInfo *info);

/* Close all sessions and listeners.  Not from a command handler. */
void qmp_server_free(QmpServer *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpServer, qmp_server_free)

/* The tables are kept, not copied.  A name twice is a bug of ours. */
void qmp_server_add_command(QmpServer *self, const QmpCommand *command,
                            gpointer user_data);
void qmp_server_add_event(QmpServer *self, const QmpEvent *event);

/* Without one, whoever may connect to the socket is let in. */
void qmp_server_set_access_check(QmpServer *self, QmpServerAccessCheck check,
                                 gpointer user_data);

/*
 * Accept from @fd, which is bound and listening; it belongs to the server if
 * and only if this succeeds.  May be called for several.
 */
bool qmp_server_listen_fd(QmpServer *self, int fd,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Serve @connection (a reference is taken).  One that is refused or too many
 * gets an error in QMP's form and is closed.
 */
void qmp_server_add_connection(QmpServer *self, GSocketConnection *connection);

/*
 * Send an event that was added before to every negotiated session, with the
 * time of now.  @data may be NULL and is consumed.  A client that does not
 * read loses QMP_EVENT_DROPPABLE events first, and then its session.
 */
void qmp_server_broadcast(QmpServer *self, const char *name, JsonObject *data);

unsigned qmp_server_get_n_sessions(const QmpServer *self);

#endif
