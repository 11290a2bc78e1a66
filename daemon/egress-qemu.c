/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-qemu.c - connections to a destination QEMU, and their order
 *
 * Theory of operation.  A destination blocks its main loop, QMP included, on an
 * accepted connection that is silent, and takes the first connection for main
 * (always before 8.0, and with TLS in every version).  So "connect, handshake,
 * first bytes" is one step that is never left half done: the main channel's
 * first, with bytes already at hand; then each channel's by itself.
 *
 * An abort in the middle of that would leave a destination waiting for ever for
 * the missing channels, so it first lets the steps under way (and, where the
 * destination is known to expect them, the missing ones) finish, then ends the
 * main channel, then the others.  Reading goes on meanwhile: what the
 * destination still says may be its verdict, and unread bytes would turn our
 * close into a reset that takes back what we wrote.
 */
#include "daemon/egress-qemu.h"

#include <sys/socket.h>

#include "daemon/channel-writer.h"
#include "daemon/worker.h"

enum {
    MAIN_BUFFER = 256 * 1024,
    ABORT_SETUP_MS = 500,       /* for connections under way */
    ABORT_ANSWER_MS = 300,      /* for the destination to close main */
};

typedef struct {
    Egress base;
    EgressQemuSetup setup;      /* constant, owns what it points to */
    Address *address;
    char *hostname;
    GCancellable *cancellable;  /* ends connects */
    uint64_t packet_num;        /* atomic */
    SyncConfirm *confirm;       /* set before the channels start; NULL: local */

    GMutex lock;                /* guards all below; a leaf */
    GCond changed;
    bool closing;
    bool cut;                   /* the streams there are were ended; no more */
    bool main_up;               /* connected, first bytes written */
    bool main_failed;
    bool main_closed;           /* by the destination */
    unsigned channels;          /* to be connected; known when they start */
    bool channels_started;
    unsigned channels_up;       /* connected, init written, or failed to */
    Stream *main;               /* owned; NULL until connected */
    Stream *preempt;            /* likewise */
    GPtrArray *streams;         /* of multifd channels; owned */
    GPtrArray *threads;
} EgressQemu;

typedef struct {
    EgressQemu *egress;
    unsigned out;
    uint8_t uuid[MULTIFD_UUID_SIZE];
} Channel;

static void fail(EgressQemu *self, const char *what, GError *error)
{
    g_prefix_error(&error, "%s to the destination QEMU at %s: ", what,
                   self->address->text);
    exchange_fail(self->setup.exchange, error);
}

static bool is_set_up(const EgressQemu *self)
{
    return self->channels_started && self->channels_up == self->channels;
}

/* ---- connecting -------------------------------------------------------------- */

static Stream *open_stream(EgressQemu *self, GError **error)
{
    TlsPeerRules rules = { .certificate_name = self->hostname };
    g_autoptr(Stream) stream = NULL;
    int fd;

    fd = address_connect(self->address, self->setup.connect_ms,
                         self->cancellable, error);
    if (fd < 0) {
        return NULL;
    }
    stream = stream_new(fd, self->address->text);
    if (self->setup.credentials) {
        stream_set_timeouts(stream, self->setup.handshake_ms,
                            self->setup.handshake_ms);
        if (!stream_start_tls(stream, self->setup.credentials, false, &rules,
                              self->setup.handshake_ms, error)) {
            return NULL;
        }
        stream_set_timeouts(stream, 0, 0);
    }
    return g_steal_pointer(&stream);
}

/* False: there are too many threads, and the migration has failed. */
static bool start_thread(EgressQemu *self, const char *name, GThreadFunc func,
                         void *data)
{
    GError *error = NULL;
    GThread *thread;

    g_mutex_lock(&self->lock);
    thread = worker_new(name, func, data,
                        exchange_get_cpu(self->setup.exchange), &error);
    if (thread) {
        g_ptr_array_add(self->threads, thread);
    }
    g_mutex_unlock(&self->lock);
    if (!thread) {
        exchange_fail(self->setup.exchange, error);
    }
    return thread != NULL;
}

/* ---- main channel ------------------------------------------------------------- */

/* Pages count against the rate and wait for it; the rest counts only. */
static bool pay_for_main(EgressQemu *self, Stream *stream, size_t len)
{
    size_t cost = stream_wire_cost(stream, len);

    if (!self->setup.limiter) {
        return true;
    }
    if (exchange_has_pages_on_main(self->setup.exchange)) {
        return limiter_acquire(self->setup.limiter, cost);
    }
    limiter_charge(self->setup.limiter, cost);
    return true;
}

static bool write_main(EgressQemu *self, Stream *stream, const uint8_t *buf,
                       size_t len, GError **error)
{
    while (len > 0) {
        size_t n = len;

        if (self->setup.limiter) {
            n = MIN(n, limiter_get_quantum(self->setup.limiter));
        }
        if (!pay_for_main(self, stream, n)) {
            g_set_error(error, STREAM_ERROR, STREAM_ERROR_SHUTDOWN,
                        "the migration is over");
            return false;
        }
        if (!stream_write(stream, buf, n, error)) {
            return false;
        }
        buf += n;
        len -= n;
    }
    exchange_main_delivered(self->setup.exchange);
    return true;
}

static void *return_reader_thread(void *data)
{
    EgressQemu *self = data;
    uint8_t buf[16 * 1024];
    GError *error = NULL;
    gssize n;

    /* Also after a failure: see the top of this file. */
    while ((n = stream_read(self->main, buf, sizeof(buf), &error)) > 0) {
        (void)exchange_return_push(self->setup.exchange, buf, n);
    }
    if (n < 0) {
        fail(self, "return path", error);
    }
    exchange_return_end(self->setup.exchange);
    g_mutex_lock(&self->lock);
    self->main_closed = true;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    return NULL;
}

/* After shutdown has looked at the streams none may be added: nobody would end it. */
static bool keep_main(EgressQemu *self, Stream *stream)
{
    bool kept;

    g_mutex_lock(&self->lock);
    kept = !self->cut;
    self->main = kept ? stream : NULL;
    g_mutex_unlock(&self->lock);
    if (!kept) {
        stream_free(stream);
    }
    return kept;
}

/* Connect and write the first bytes: one step, see above. */
static Stream *open_main(EgressQemu *self, const uint8_t *buf, size_t len)
{
    GError *error = NULL;
    Stream *stream = open_stream(self, &error);
    bool up = false;

    if (stream && keep_main(self, stream)) {
        up = start_thread(self, "out-return", return_reader_thread, self) &&
             write_main(self, stream, buf, len, &error);
    }
    if (error) {
        fail(self, "main channel", error);
    }
    g_mutex_lock(&self->lock);
    self->main_up = up;
    self->main_failed = !up;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    return up ? stream : NULL;
}

static void *main_writer_thread(void *data)
{
    EgressQemu *self = data;
    Exchange *exchange = self->setup.exchange;
    g_autofree uint8_t *buf = g_malloc(MAIN_BUFFER);
    GError *error = NULL;
    Stream *stream;
    gssize n;

    n = exchange_main_pull(exchange, buf, MAIN_BUFFER, true);
    stream = n > 0 ? open_main(self, buf, n) : NULL;
    if (!stream) {
        g_mutex_lock(&self->lock);
        self->main_failed = true;
        g_cond_broadcast(&self->changed);
        g_mutex_unlock(&self->lock);
        return NULL;
    }
    while ((n = exchange_main_pull(exchange, buf, MAIN_BUFFER, true)) > 0) {
        if (!write_main(self, stream, buf, n, &error)) {
            fail(self, "main channel", error);
            return NULL;
        }
    }
    if (n == 0) {
        stream_finish(stream);
    }
    return NULL;
}

/* ---- multifd channels ------------------------------------------------------------ */

static Stream *open_channel(EgressQemu *self, const Channel *channel)
{
    MultifdInit init = { .id = channel->out };
    uint8_t buf[MULTIFD_INIT_SIZE];
    GError *error = NULL;
    Stream *stream = open_stream(self, &error);

    memcpy(init.uuid, channel->uuid, sizeof(init.uuid));
    multifd_init_encode(&init, buf);
    if (stream && !stream_write(stream, buf, sizeof(buf), &error)) {
        g_clear_pointer(&stream, stream_free);
    }
    if (!stream) {
        g_prefix_error(&error, "channel %u: ", channel->out);
        fail(self, "multifd", error);
    }
    g_mutex_lock(&self->lock);
    if (stream && self->cut) {
        g_clear_pointer(&stream, stream_free);
    } else if (stream) {
        g_ptr_array_add(self->streams, stream);
    }
    self->channels_up++;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    return stream;
}

static void *channel_thread(void *data)
{
    g_autofree Channel *channel = data;
    EgressQemu *self = channel->egress;
    ChannelWriterSetup writer = {
        .stream = open_channel(self, channel),
        .exchange = self->setup.exchange,
        .limiter = self->setup.limiter,
        .out = channel->out,
        .rules = &self->setup.payload,
        .packet_num = &self->packet_num,
        .confirm = self->confirm,
    };
    GError *error = NULL;

    if (!writer.stream ||
        !exchange_wait_geometry(self->setup.exchange, &writer.geometry)) {
        return NULL;
    }
    if (self->confirm) {
        sync_confirm_add_channel(self->confirm, channel->out, writer.stream);
    }
    if (channel_writer_run(&writer, &error)) {
        stream_finish(writer.stream);
    } else {
        g_prefix_error(&error, "channel %u: ", channel->out);
        fail(self, "multifd", error);
    }
    return NULL;
}

/* ---- preempt channel ------------------------------------------------------------- */

/* A destination knows it by its turn: after main and every multifd channel. */
static bool wait_preempt_turn(EgressQemu *self)
{
    bool turn;

    g_mutex_lock(&self->lock);
    while (!self->closing && !(self->main_up && is_set_up(self)) &&
           !self->main_failed) {
        g_cond_wait(&self->changed, &self->lock);
    }
    turn = !self->closing && !self->main_failed;
    g_mutex_unlock(&self->lock);
    return turn;
}

static Stream *open_preempt(EgressQemu *self, GError **error)
{
    Stream *stream = open_stream(self, error);

    g_mutex_lock(&self->lock);
    if (stream && self->cut) {
        g_clear_pointer(&stream, stream_free);
    }
    self->preempt = stream;
    g_mutex_unlock(&self->lock);
    return stream;
}

/* Pages that the guest waits for: they count against the rate, and never wait
 * for it. */
static bool write_preempt(EgressQemu *self, const uint8_t *buf, size_t len,
                          GError **error)
{
    if (self->setup.limiter) {
        limiter_charge(self->setup.limiter,
                       stream_wire_cost(self->preempt, len));
    }
    return stream_write(self->preempt, buf, len, error);
}

/*
 * That it cannot be connected matters only once there is something to write: it
 * may be that what we took for the source's was a silent stranger.
 */
static void *preempt_thread(void *data)
{
    EgressQemu *self = data;
    Exchange *exchange = self->setup.exchange;
    uint8_t buf[16 * 1024];
    GError *error = NULL;
    bool up;
    gssize n;

    if (!exchange_preempt_wait_expected(exchange) ||
        !wait_preempt_turn(self)) {
        return NULL;
    }
    up = open_preempt(self, &error);
    while ((n = exchange_preempt_pull(exchange, buf, sizeof(buf))) > 0) {
        if (!up || !write_preempt(self, buf, n, &error)) {
            if (error) {
                fail(self, "preempt channel", g_steal_pointer(&error));
            }
            return NULL;
        }
        exchange_preempt_delivered(exchange);
    }
    if (n == 0 && up) {
        stream_finish(self->preempt);
    }
    g_clear_error(&error);
    return NULL;
}

/* ---- starting them ---------------------------------------------------------------- */

static bool wait_main_up(EgressQemu *self)
{
    bool up;

    g_mutex_lock(&self->lock);
    while (!self->main_up && !self->main_failed) {
        g_cond_wait(&self->changed, &self->lock);
    }
    up = self->main_up;
    g_mutex_unlock(&self->lock);
    return up;
}

static void start_channels(EgressQemu *self, unsigned n,
                           const uint8_t uuid[MULTIFD_UUID_SIZE])
{
    bool confirm = n > 0 && sync_confirm_is_needed(self->main);

    exchange_add_outs(self->setup.exchange, n, confirm);
    if (confirm) {
        self->confirm = sync_confirm_new(self->setup.exchange, n);
    }
    for (unsigned i = 0; i < n; i++) {
        Channel *channel = g_new0(Channel, 1);

        channel->egress = self;
        channel->out = i;
        memcpy(channel->uuid, uuid, MULTIFD_UUID_SIZE);
        if (!start_thread(self, "out-multifd", channel_thread, channel)) {
            g_free(channel);
            n = i;
        }
    }
    g_mutex_lock(&self->lock);
    self->channels = n;
    self->channels_started = true;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
}

static void *starter_thread(void *data)
{
    EgressQemu *self = data;
    uint8_t uuid[MULTIFD_UUID_SIZE] = { 0 };
    unsigned channels_in, n = 0;
    ExchangeMode mode;

    if (!wait_main_up(self)) {
        start_channels(self, 0, uuid);
        return NULL;
    }
    mode = exchange_wait_decided(self->setup.exchange, &channels_in, uuid);
    if (mode == EXCHANGE_MULTIFD) {
        n = self->setup.channels ? self->setup.channels : channels_in;
    } else if (mode == EXCHANGE_UNDECIDED && self->setup.multifd_expected) {
        n = self->setup.channels;   /* failed: see the top of this file */
    }
    start_channels(self, n, uuid);
    return NULL;
}

/* ---- life ------------------------------------------------------------------- */

static void wait_until(EgressQemu *self, bool (*done)(const EgressQemu *),
                       unsigned timeout_ms)
{
    int64_t deadline_us = g_get_monotonic_time() + timeout_ms * 1000LL;

    while (!done(self) &&
           g_cond_wait_until(&self->changed, &self->lock, deadline_us)) {
    }
}

static bool is_main_closed(const EgressQemu *self)
{
    return !self->main || self->main_closed;
}

static void shutdown_channels(EgressQemu *self)
{
    if (self->preempt) {
        stream_shutdown(self->preempt);
    }
    for (unsigned i = 0; i < self->streams->len; i++) {
        stream_shutdown(g_ptr_array_index(self->streams, i));
    }
}

/*
 * FIN on main first.  Not stream_finish(): its writer may be in the middle of a
 * write, which this ends.
 */
static void shutdown_egress(Egress *egress)
{
    EgressQemu *self = (EgressQemu *)egress;

    if (self->setup.limiter) {
        limiter_close(self->setup.limiter);
    }
    g_mutex_lock(&self->lock);
    if (!self->closing) {
        self->closing = true;
        if (self->main) {
            wait_until(self, is_set_up, ABORT_SETUP_MS);
        }
        g_cond_broadcast(&self->changed);
        g_mutex_unlock(&self->lock);
        g_cancellable_cancel(self->cancellable);
        g_mutex_lock(&self->lock);
        self->cut = true;
        if (self->main) {
            shutdown(stream_get_fd(self->main), SHUT_WR);
        }
        shutdown_channels(self);
        wait_until(self, is_main_closed, ABORT_ANSWER_MS);
        if (self->main) {
            stream_shutdown(self->main);
        }
    }
    g_mutex_unlock(&self->lock);
}

/* Threads start threads: join until there is none left. */
static void join_threads(EgressQemu *self)
{
    for (;;) {
        GThread *thread = NULL;

        g_mutex_lock(&self->lock);
        if (self->threads->len > 0) {
            thread = g_ptr_array_steal_index(self->threads, 0);
        }
        g_mutex_unlock(&self->lock);
        if (!thread) {
            return;
        }
        g_thread_join(thread);
    }
}

static void free_egress(Egress *egress)
{
    EgressQemu *self = (EgressQemu *)egress;

    join_threads(self);
    sync_confirm_free(self->confirm);
    g_ptr_array_unref(self->threads);
    g_ptr_array_unref(self->streams);
    stream_free(self->preempt);
    stream_free(self->main);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
    g_object_unref(self->cancellable);
    limiter_unref(self->setup.limiter);
    tls_credentials_unref(self->setup.credentials);
    g_free(self->hostname);
    address_free(self->address);
    g_free(self);
}

static uint64_t get_wire_bytes(Egress *egress)
{
    EgressQemu *self = (EgressQemu *)egress;
    uint64_t bytes = 0;

    g_mutex_lock(&self->lock);
    if (self->main) {
        bytes += stream_get_wire_bytes_out(self->main);
    }
    if (self->preempt) {
        bytes += stream_get_wire_bytes_out(self->preempt);
    }
    for (unsigned i = 0; i < self->streams->len; i++) {
        bytes += stream_get_wire_bytes_out(
            g_ptr_array_index(self->streams, i));
    }
    g_mutex_unlock(&self->lock);
    return bytes;
}

Egress *egress_qemu_new(const EgressQemuSetup *setup)
{
    static const EgressOps ops = {
        .kind = "qemu",
        .shutdown = shutdown_egress,
        .free = free_egress,
        .get_wire_bytes = get_wire_bytes,
    };
    EgressQemu *self = g_new0(EgressQemu, 1);

    self->base.ops = &ops;
    self->setup = *setup;
    self->address = address_copy(setup->address);
    self->hostname = g_strdup(setup->tls_hostname ? setup->tls_hostname
                                                  : setup->address->host);
    if (setup->credentials) {
        tls_credentials_ref(setup->credentials);
    }
    if (setup->limiter) {
        limiter_ref(setup->limiter);
    }
    self->cancellable = g_cancellable_new();
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    self->streams =
        g_ptr_array_new_with_free_func((GDestroyNotify)stream_free);
    self->threads = g_ptr_array_new();
    if (!start_thread(self, "out-main", main_writer_thread, self) ||
        !start_thread(self, "out-start", starter_thread, self) ||
        !start_thread(self, "out-preempt", preempt_thread, self)) {
        self->main_failed = true;   /* nobody is to wait for it */
    }
    return &self->base;
}
