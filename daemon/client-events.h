/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-events.h - events of the daemon, brought to the main thread
 *
 * The QMP client calls its handler in a thread of its own.  A ClientEvents
 * hands the events to the default main context instead.
 */
#ifndef DAEMON_CLIENT_EVENTS_H
#define DAEMON_CLIENT_EVENTS_H

#include <stdint.h>
#include <json-glib/json-glib.h>
#include "daemon/client-session.h"

/*
 * In the main thread.  @data is never NULL and lent.  @name NULL: the
 * connection has ended; it is the last call.
 */
typedef void (*ClientEventsHandler)(const char *name, JsonObject *data,
                                    int64_t timestamp_us, gpointer user_data);

typedef struct ClientEvents ClientEvents;

/* @session is connected, and freed after this. */
ClientEvents *client_events_new(ClientSession *session,
                                ClientEventsHandler handler,
                                gpointer user_data);
/* No call is made after this. */
void client_events_free(ClientEvents *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ClientEvents, client_events_free)

/* The command "events": until the connection ends. */
ClientSessionExit client_events_run(ClientSession *session, char **args);

/* One line for people.  g_free(). */
char *client_events_to_string(const char *name, JsonObject *data,
                              int64_t timestamp_us);

#endif
