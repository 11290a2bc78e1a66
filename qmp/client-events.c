/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp/client-events.h"

/* What is kept while there is no handler; the oldest go first. */
#define MAX_EVENTS 256u
#define MAX_BYTES  (256u * 1024)

typedef struct Event {
    char       *name;           /* NULL: the disconnect */
    JsonObject *data;
    int64_t     timestamp_us;
    size_t      bytes;
} Event;

/* Counted, as it may be replaced while it runs. */
typedef struct Handler {
    QmpClientEventHandler call;
    gpointer              user_data;
    GDestroyNotify        destroy;
} Handler;

struct QmpClientEvents {
    GMutex   lock;              /* guards all below */
    GQueue   queue;             /* of Event */
    size_t   bytes;             /* of all in the queue */
    Handler *handler;           /* atomic rc box */
    bool     closed;            /* sticky */
};

static void event_free(Event *event)
{
    g_free(event->name);
    g_clear_pointer(&event->data, json_object_unref);
    g_free(event);
}

static void handler_clear(gpointer data)
{
    Handler *handler = data;

    if (handler->destroy) {
        handler->destroy(handler->user_data);
    }
}

static void handler_unref(Handler *handler)
{
    if (handler) {
        g_atomic_rc_box_release_full(handler, handler_clear);
    }
}

QmpClientEvents *qmp_client_events_new(void)
{
    QmpClientEvents *self = g_new0(QmpClientEvents, 1);

    g_mutex_init(&self->lock);
    g_queue_init(&self->queue);
    return self;
}

void qmp_client_events_free(QmpClientEvents *self)
{
    if (!self) {
        return;
    }
    handler_unref(self->handler);
    g_queue_clear_full(&self->queue, (GDestroyNotify)event_free);
    g_mutex_clear(&self->lock);
    g_free(self);
}

/* Take the oldest event off the queue.  Locked. */
static Event *pop(QmpClientEvents *self)
{
    Event *event = g_queue_pop_head(&self->queue);

    if (event) {
        self->bytes -= event->bytes;
    }
    return event;
}

void qmp_client_events_push(QmpClientEvents *self, const char *name,
                            JsonObject *data, int64_t timestamp_us,
                            size_t bytes)
{
    Event *event = g_new0(Event, 1);

    event->name = g_strdup(name);
    event->data = data ? json_object_ref(data) : NULL;
    event->timestamp_us = timestamp_us;
    event->bytes = bytes;

    g_mutex_lock(&self->lock);
    g_queue_push_tail(&self->queue, event);
    self->bytes += bytes;
    while (!self->handler && self->queue.length > 1 &&
           (self->queue.length > MAX_EVENTS || self->bytes > MAX_BYTES)) {
        event_free(pop(self));
    }
    g_mutex_unlock(&self->lock);
}

void qmp_client_events_deliver(QmpClientEvents *self)
{
    for (;;) {
        Handler *handler = NULL;
        Event *event = NULL;

        g_mutex_lock(&self->lock);
        if (self->handler && !self->closed && (event = pop(self))) {
            handler = g_atomic_rc_box_acquire(self->handler);
        }
        g_mutex_unlock(&self->lock);
        if (!event) {
            return;
        }
        handler->call(event->name, event->data, event->timestamp_us,
                      handler->user_data);
        handler_unref(handler);
        event_free(event);
    }
}

void qmp_client_events_set_handler(QmpClientEvents *self,
                                   QmpClientEventHandler handler,
                                   gpointer user_data, GDestroyNotify destroy)
{
    Handler *fresh = NULL, *old;

    if (handler) {
        fresh = g_atomic_rc_box_new(Handler);
        *fresh = (Handler) { handler, user_data, destroy };
    }
    g_mutex_lock(&self->lock);
    old = self->handler;
    self->handler = fresh;
    g_mutex_unlock(&self->lock);
    handler_unref(old);
}

void qmp_client_events_close(QmpClientEvents *self)
{
    g_mutex_lock(&self->lock);
    self->closed = true;
    g_mutex_unlock(&self->lock);
}
