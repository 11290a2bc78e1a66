/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/ingress-qemu.c - threads around a source QEMU's connections
 *
 * One reader thread per connection, one writer for the return path, and one
 * that settles the number of channels once the stream shows that all of them
 * must have connected (docs/architecture.md, "How many channels").
 */
#include "daemon/ingress-qemu.h"

#include <string.h>

#include "daemon/channel-reader.h"
#include "daemon/ingress-preempt.h"
#include "daemon/worker.h"
#include "wire/error.h"

enum {
    MAIN_BUFFER = 256 * 1024,
    SETTLE_MS = 1000,       /* for connections still in their first bytes */
    CONNECTING_MS = 500,    /* for a source to get up all of its own */
};

typedef struct {
    Ingress base;
    Exchange *exchange;
    Listener *listener;
    PacketPool *pool;
    IngressPreempt *preempt;

    GMutex lock;            /* guards all below; a leaf */
    bool closed;
    GPtrArray *streams;     /* owned */
    GPtrArray *threads;
    int64_t main_us;        /* when main came; 0: not yet */
} IngressQemu;

typedef struct {
    IngressQemu *ingress;
    Stream *stream;         /* lent */
    uint8_t start[4];       /* of main: what was read already */
    ChannelReaderSetup reader;
} Channel;

/* ---- threads --------------------------------------------------------------- */

static void *channel_thread(void *data)
{
    g_autofree Channel *channel = data;

    channel_reader_run(&channel->reader);
    return NULL;
}

static void *settle_thread(void *data)
{
    IngressQemu *self = data;

    if (exchange_wait_settle_needed(self->exchange)) {
        listener_settle(self->listener, SETTLE_MS);
        exchange_settle(self->exchange);
    }
    return NULL;
}

static void *main_reader_thread(void *data)
{
    g_autofree Channel *channel = data;
    Exchange *exchange = channel->ingress->exchange;
    g_autofree uint8_t *buf = g_malloc(MAIN_BUFFER);
    GError *error = NULL;
    gssize n;
    bool more = exchange_main_push(exchange, channel->start,
                                   sizeof(channel->start));

    while (more) {
        n = stream_read(channel->stream, buf, MAIN_BUFFER, &error);
        if (n < 0) {
            g_prefix_error(&error, "main channel: from the source QEMU: ");
            exchange_fail(exchange, error);
        }
        if (n <= 0) {
            exchange_main_end(exchange);
        }
        more = n > 0 && exchange_main_push(exchange, buf, n);
    }
    return NULL;
}

/*
 * What the destination says, first of all its SHUT.  The end of it is passed on
 * at once: a source that loses its return path runs the guest again.
 */
static void *return_writer_thread(void *data)
{
    g_autofree Channel *channel = data;
    Exchange *exchange = channel->ingress->exchange;
    uint8_t buf[16 * 1024];
    GError *error = NULL;
    gssize n;

    while ((n = exchange_return_pull(exchange, buf, sizeof(buf))) > 0) {
        if (!stream_write(channel->stream, buf, n, &error)) {
            g_prefix_error(&error, "return path: to the source QEMU: ");
            exchange_fail_delivery(exchange, error);
            return NULL;
        }
        exchange_return_delivered(exchange);
    }
    if (n == 0) {
        stream_finish(channel->stream);
    }
    return NULL;
}

/* ---- taking connections ------------------------------------------------------ */

/* False: there are too many threads, and the migration has failed.  Frees @channel
 * then, which may be NULL. */
static bool start_thread(IngressQemu *self, const char *name, GThreadFunc func,
                         void *data, Channel *channel)
{
    GError *error = NULL;
    GThread *thread = worker_new(name, func, data,
                                 exchange_get_cpu(self->exchange), &error);

    if (!thread) {
        g_free(channel);
        exchange_fail(self->exchange, error);
        return false;
    }
    g_ptr_array_add(self->threads, thread);
    return true;
}

static bool start_channel_thread(IngressQemu *self, const char *name,
                                 GThreadFunc func, Channel *channel)
{
    return start_thread(self, name, func, channel, channel);
}

static Channel *new_channel(IngressQemu *self, Stream *stream)
{
    Channel *channel = g_new0(Channel, 1);

    channel->ingress = self;
    channel->stream = stream;
    return channel;
}

static bool take_main(IngressQemu *self, const Arrival *arrival, GError **error)
{
    Channel *reader;

    if (self->main_us > 0) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a second main channel while a migration is running");
        return false;
    }
    self->main_us = g_get_monotonic_time();
    reader = new_channel(self, arrival->stream);
    memcpy(reader->start, arrival->start, sizeof(reader->start));
    /* If one cannot be had the migration has failed, and ends the other. */
    (void)(start_channel_thread(self, "in-main", main_reader_thread,
                                reader) &&
           start_channel_thread(self, "in-return", return_writer_thread,
                                new_channel(self, arrival->stream)));
    return true;
}

static void take_channel(IngressQemu *self, Stream *stream,
                         const ChannelReaderSetup *reader)
{
    Channel *channel = new_channel(self, stream);

    channel->reader = *reader;
    (void)start_channel_thread(self, "in-multifd", channel_thread, channel);
}

static bool take_locked(IngressQemu *self, Arrival *arrival,
                        const ChannelReaderSetup *reader, GError **error)
{
    if (self->closed) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "the migration is over");
        return false;
    }
    if (arrival->kind == ARRIVAL_CHANNEL) {
        take_channel(self, arrival->stream, reader);
    } else if (!take_main(self, arrival, error)) {
        return false;
    }
    g_ptr_array_add(self->streams, g_steal_pointer(&arrival->stream));
    return true;
}

bool ingress_qemu_hold(Ingress *ingress, Arrival *arrival)
{
    IngressQemu *self = (IngressQemu *)ingress;
    bool held;

    g_mutex_lock(&self->lock);
    held = !self->closed;
    if (held) {
        g_ptr_array_add(self->streams, g_steal_pointer(&arrival->stream));
    }
    g_mutex_unlock(&self->lock);
    return held;
}

bool ingress_qemu_take(Ingress *ingress, Arrival *arrival, GError **error)
{
    IngressQemu *self = (IngressQemu *)ingress;
    ChannelReaderSetup reader = {
        .stream = arrival->stream,
        .exchange = self->exchange,
        .pool = self->pool,
        .id = arrival->init.id,
    };
    bool ok;

    if (arrival->kind == ARRIVAL_PREEMPT) {
        return ingress_preempt_take(self->preempt, arrival, error);
    }
    if (arrival->kind == ARRIVAL_CHANNEL &&
        exchange_ended_early(self->exchange) &&
        ingress_qemu_hold(ingress, arrival)) {
        return true;
    }
    if (arrival->kind == ARRIVAL_CHANNEL &&
        !exchange_join(self->exchange, &arrival->init, &reader.in,
                       &reader.syncs_to_drop, error)) {
        return false;
    }
    g_mutex_lock(&self->lock);
    ok = take_locked(self, arrival, &reader, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

/* ---- life ------------------------------------------------------------------- */

/*
 * A source begins to connect its channels when it has its main one.  QEMU 7.2 ends
 * by an assertion, and the guest with it, if it loses main while one of them is
 * under way (yank_register_function in util/yank.c: the instance is gone already).
 * So one that is refused early keeps main a moment longer, and what else it connects
 * (ingress_qemu_hold()); its guest runs.
 */
static void let_source_connect(IngressQemu *self)
{
    int64_t left_us;

    if (!exchange_ended_early(self->exchange)) {
        return;
    }
    g_mutex_lock(&self->lock);
    left_us = self->main_us > 0 ? self->main_us + CONNECTING_MS * 1000 -
                                  g_get_monotonic_time() : 0;
    g_mutex_unlock(&self->lock);
    if (left_us > 0) {
        g_usleep(left_us);
    }
}

static void shutdown_ingress(Ingress *ingress)
{
    IngressQemu *self = (IngressQemu *)ingress;

    let_source_connect(self);
    ingress_preempt_shutdown(self->preempt);
    g_mutex_lock(&self->lock);
    self->closed = true;
    for (unsigned i = 0; i < self->streams->len; i++) {
        stream_shutdown(g_ptr_array_index(self->streams, i));
    }
    g_mutex_unlock(&self->lock);
}

static void free_ingress(Ingress *ingress)
{
    IngressQemu *self = (IngressQemu *)ingress;

    /* Closed, so nobody adds to these any more. */
    for (unsigned i = 0; i < self->threads->len; i++) {
        g_thread_join(g_ptr_array_index(self->threads, i));
    }
    g_ptr_array_unref(self->threads);
    g_ptr_array_unref(self->streams);
    ingress_preempt_free(self->preempt);
    packet_pool_unref(self->pool);
    g_mutex_clear(&self->lock);
    g_free(self);
}

Ingress *ingress_qemu_new(Exchange *exchange, Listener *listener)
{
    static const IngressOps ops = {
        .kind = "qemu",
        .shutdown = shutdown_ingress,
        .free = free_ingress,
    };
    IngressQemu *self = g_new0(IngressQemu, 1);

    self->base.ops = &ops;
    self->exchange = exchange;
    self->listener = listener;
    self->pool = packet_pool_new();
    self->preempt = ingress_preempt_new(exchange);
    g_mutex_init(&self->lock);
    self->streams =
        g_ptr_array_new_with_free_func((GDestroyNotify)stream_free);
    self->threads = g_ptr_array_new();
    (void)start_thread(self, "settle", settle_thread, self, NULL);
    return &self->base;
}
