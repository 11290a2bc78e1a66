/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp/client-events.h - events on their way from the I/O thread to a handler
 *
 * Private to qmp/client.c.  A queue with a lock of its own, under which no
 * other lock is taken and no handler called.
 */
#ifndef QMP_CLIENT_EVENTS_H
#define QMP_CLIENT_EVENTS_H

#include "qmp/client.h"

typedef struct QmpClientEvents QmpClientEvents;

QmpClientEvents *qmp_client_events_new(void);

/* Releases the handler.  NULL is fine. */
void qmp_client_events_free(QmpClientEvents *self);

/*
 * Queue an event of @bytes on the wire; @name NULL is the disconnect.  With
 * no handler to take them only the newest are kept.
 */
void qmp_client_events_push(QmpClientEvents *self, const char *name,
                            JsonObject *data, int64_t timestamp_us,
                            size_t bytes);

/* Call the handler, if there is one, for all that waits.  I/O thread only. */
void qmp_client_events_deliver(QmpClientEvents *self);

/* See qmp_client_set_event_handler(). */
void qmp_client_events_set_handler(QmpClientEvents *self,
                                   QmpClientEventHandler handler,
                                   gpointer user_data, GDestroyNotify destroy);

/* Have no handler called any more, but for one that is running. */
void qmp_client_events_close(QmpClientEvents *self);

#endif
