/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-main.c - life and death of a main lane
 *
 * Theory of operation.  The reader (link-main-reader.c) takes whatever comes and
 * never waits for anything but the peer: what it pushes into the exchange fits,
 * because the peer keeps to the window.  So heartbeats and control messages always
 * get through.  A pump for each stream that we send (link-main-pump.c) fetches
 * bytes from the exchange within the peer's window, waits for the limiter, and
 * keeps them until they are acknowledged.  The writer (link-main-writer.c) writes
 * what is most urgent of what was not written yet.
 *
 * What breaks the connection is recorded in `lost` and the socket is shut; the
 * reader notices, and waits for another connection (link-main-resume.c) if it may.
 * What ends the lane is recorded once, in `error`; the reader tells the exchange
 * and the owner.
 */
#include "daemon/link-main-private.h"

#include "daemon/worker.h"

enum {
    SHUTDOWN_WRITE_MS = 300,    /* for what is queued to go out */
    SHUTDOWN_READ_MS = 300,     /* for the peer's end, see below */
};

void link_main_fail(LinkMain *self, GError *error)
{
    g_mutex_lock(&self->lock);
    if (!self->error) {
        g_prefix_error(&error, "link to %s, main lane: ", self->peer);
        self->error = g_steal_pointer(&error);
        g_cond_broadcast(&self->changed);
    }
    stream_shutdown(self->stream);
    g_mutex_unlock(&self->lock);
    g_clear_error(&error);
    g_cancellable_cancel(self->cancellable);
}

void link_main_lose(LinkMain *self, GError *error)
{
    g_mutex_lock(&self->lock);
    link_main_mark_down(self, error);
    g_mutex_unlock(&self->lock);
}

GError *link_main_get_error(LinkMain *self)
{
    GError *copy;

    g_mutex_lock(&self->lock);
    copy = self->error ? g_error_copy(self->error) : NULL;
    g_mutex_unlock(&self->lock);
    return copy;
}

uint64_t link_main_get_rtt_us(LinkMain *self)
{
    uint64_t rtt_us;

    g_mutex_lock(&self->lock);
    rtt_us = self->rtt_us;
    g_mutex_unlock(&self->lock);
    return rtt_us;
}

uint64_t link_main_get_wire_bytes_out(LinkMain *self)
{
    uint64_t bytes;

    g_mutex_lock(&self->lock);
    bytes = self->wire_bytes_before + stream_get_wire_bytes_out(self->stream);
    g_mutex_unlock(&self->lock);
    return bytes;
}

/* ---- acknowledging ----------------------------------------------------------- */

void link_main_ack_bulk(LinkMain *self, uint64_t bulk, uint64_t ahead)
{
    g_mutex_lock(&self->lock);
    /* Callers may overtake each other on their way here. */
    if (bulk > self->ack.bulk ||
        (bulk == self->ack.bulk && ahead > self->ack.ahead)) {
        self->ack.bulk = bulk;
        self->ack.ahead = ahead;
        self->ack_wanted = true;
        g_cond_broadcast(&self->changed);
    }
    g_mutex_unlock(&self->lock);
}

static void note_delivered(LinkMain *self, uint8_t type, uint64_t offset)
{
    for (unsigned i = 0; i < self->n_in; i++) {
        LinkMainIn *in = &self->in[i];

        if (in->stream->type == type && offset > in->delivered) {
            in->delivered = offset;
            *in->stream->ack_field(&self->ack) = offset;
            self->ack_wanted = true;
            g_cond_broadcast(&self->changed);
        }
    }
}

/* The exchange's delivery hook: those of the offsets count that we receive. */
static void on_delivered(uint64_t main_offset, uint64_t return_offset,
                         void *data)
{
    LinkMain *self = data;
    uint64_t preempt_offset = 0;
    Exchange *exchange;

    g_mutex_lock(&self->lock);
    exchange = self->exchange;
    g_mutex_unlock(&self->lock);
    if (exchange) {
        preempt_offset = exchange_preempt_get_delivered(exchange);
    }
    g_mutex_lock(&self->lock);
    note_delivered(self, LINK_MAIN, main_offset);
    note_delivered(self, LINK_RETURN, return_offset);
    note_delivered(self, LINK_PREEMPT, preempt_offset);
    g_mutex_unlock(&self->lock);
}

/* So that nobody is called any more who may be freed next. */
void link_main_set_ack_handler(LinkMain *self, LinkMainAck handler, void *data)
{
    g_mutex_lock(&self->lock);
    while (self->in_ack_handler && self->reader != g_thread_self()) {
        g_cond_wait(&self->changed, &self->lock);
    }
    self->ack_handler = handler;
    self->ack_data = data;
    g_mutex_unlock(&self->lock);
}

/* ---- life ------------------------------------------------------------------- */

static void fail_exchange(LinkMain *self, Exchange *exchange)
{
    GError *error = link_main_get_error(self);

    if (self->source_side) {
        exchange_fail(exchange, error);
    } else {
        /* The source will not get to know how it ended. */
        exchange_fail_delivery(exchange, error);
    }
}

static void end(LinkMain *self)
{
    Exchange *exchange;
    bool expected;

    g_mutex_lock(&self->lock);
    self->ended = true;
    expected = self->closing;
    exchange = self->exchange;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    if (expected) {
        return;
    }
    if (exchange) {
        fail_exchange(self, exchange);
    }
    self->handler(NULL, self->data);
}

static void *reader_thread(void *data)
{
    LinkMain *self = data;
    GError *error;

    g_mutex_lock(&self->lock);      /* link_main_new() holds it until all is set */
    g_mutex_unlock(&self->lock);
    do {
        error = NULL;
        link_main_read(self, &error);
    } while (link_main_resume(self, error));
    end(self);
    return NULL;
}

LinkMain *link_main_new(const LinkMainSetup *setup)
{
    LinkMain *self = g_new0(LinkMain, 1);

    self->stream = setup->stream;
    self->peer = g_strdup(stream_get_peer(self->stream));
    self->source_side = setup->source_side;
    self->dead_ms = setup->dead_ms;
    self->handler = setup->handler;
    self->connect = setup->connect;
    self->outage_handler = setup->outage_handler;
    self->data = setup->data;
    self->cpu = cpu_meter_ref(setup->cpu);
    self->up = self->synced = true;
    stream_set_timeouts(self->stream, self->dead_ms, self->dead_ms);
    self->in_buf = g_malloc(LINK_STREAM_MAX);
    self->cancellable = g_cancellable_new();
    g_queue_init(&self->control);
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    /* The reader may call the handler at once, and that may look at `reader`. */
    g_mutex_lock(&self->lock);
    self->reader = worker_new("link-reader", reader_thread, self,
                              self->cpu, NULL);
    self->writer = worker_new("link-writer", link_main_writer_thread, self,
                              self->cpu, NULL);
    g_mutex_unlock(&self->lock);
    return self;
}

static void attach_streams(LinkMain *self, const LinkMainFlow *flow)
{
    const LinkMainStream *streams[LINK_MAIN_STREAMS];

    self->n_in = link_main_streams_find(self->source_side, false, flow, streams);
    for (unsigned i = 0; i < self->n_in; i++) {
        self->in[i].stream = streams[i];
        self->in[i].window = streams[i]->get_window(flow, false);
    }
    self->n_out = link_main_streams_find(self->source_side, true, flow, streams);
    for (unsigned i = 0; i < self->n_out; i++) {
        LinkMainOut *out = &self->out[i];

        out->self = self;
        out->stream = streams[i];
        out->window = streams[i]->get_window(flow, true);
        byte_ring_init(&out->kept, out->window);
        out->pump = worker_new("link-pump", link_main_pump_thread, out,
                               self->cpu, NULL);
    }
}

void link_main_attach(LinkMain *self, const LinkMainFlow *flow)
{
    bool dead;

    exchange_set_delivery_hook(flow->exchange, on_delivered, self);
    g_mutex_lock(&self->lock);
    g_assert(!self->exchange);
    self->exchange = flow->exchange;
    self->limiter = flow->limiter ? limiter_ref(flow->limiter) : NULL;
    attach_streams(self, flow);
    dead = self->ended && !self->closing;
    g_mutex_unlock(&self->lock);
    if (dead) {
        fail_exchange(self, flow->exchange);
    }
}

static void wait_for(LinkMain *self, const bool *flag, unsigned timeout_ms)
{
    int64_t deadline_us = g_get_monotonic_time() + timeout_ms * 1000LL;

    while (!*flag && !self->error &&
           g_cond_wait_until(&self->changed, &self->lock, deadline_us)) {
    }
}

/*
 * The writer says the last words and ends its direction; the reader goes on a
 * moment, because closing with unread bytes would make the kernel reset the
 * connection and could take the last words back.
 */
void link_main_shutdown(LinkMain *self)
{
    Limiter *limiter;

    g_mutex_lock(&self->lock);
    if (self->closing) {
        g_mutex_unlock(&self->lock);
        return;
    }
    self->closing = true;
    link_main_say_end(self);
    limiter = self->limiter;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);

    g_cancellable_cancel(self->cancellable);
    if (limiter) {
        limiter_close(limiter);
    }
    g_mutex_lock(&self->lock);
    if (g_thread_self() != self->reader && g_thread_self() != self->writer) {
        wait_for(self, &self->finished, SHUTDOWN_WRITE_MS);
        wait_for(self, &self->ended, SHUTDOWN_READ_MS);
    }
    stream_shutdown(self->stream);
    g_mutex_unlock(&self->lock);
}

void link_main_free(LinkMain *self)
{
    if (!self) {
        return;
    }
    link_main_shutdown(self);
    g_thread_join(self->reader);
    g_thread_join(self->writer);
    for (unsigned i = 0; i < self->n_out; i++) {
        g_thread_join(self->out[i].pump);
        byte_ring_clear(&self->out[i].kept);
    }
    g_queue_clear_full(&self->control, (GDestroyNotify)g_bytes_unref);
    g_clear_pointer(&self->answer, json_object_unref);
    g_clear_error(&self->error);
    g_clear_error(&self->lost);
    limiter_unref(self->limiter);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
    g_object_unref(self->cancellable);
    g_free(self->in_buf);
    stream_free(self->next_stream);
    stream_free(self->stream);
    cpu_meter_unref(self->cpu);
    g_free(self->peer);
    g_free(self);
}
