/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-link.c - a thread per bulk lane; one at a time is the dispatcher
 *
 * Theory of operation.  Whoever has the token takes the next thing from the
 * exchange, waits for window, gives it its number and passes the token on; then
 * it encodes and writes, beside the others.  A lane whose line is slow stays away
 * from the token for longer and so carries fewer frames.
 *
 * The token is a flag, not a mutex: taking and waiting for window last as long as
 * the source and the peer please, and shutdown must get through.
 *
 * A SYNC becomes an EPOCH_END with its own number.  exchange_synced() is called as
 * soon as it has that: the next to take must find the next epoch, and what order
 * is on the wire does not matter, for the far end closes an epoch by counting.
 * It also opens the marker gate of our own exchange, which concerns nobody: a
 * link reads the main stream ungated, the far end holds markers back.
 */
#include "daemon/egress-link.h"

#include <assert.h>

#include "daemon/link-lane.h"
#include "daemon/uuid.h"
#include "wire/crc32c.h"
#include "wire/error.h"

typedef struct Lane Lane;

typedef struct {
    Egress base;
    Exchange *exchange;         /* constant, as all of these */
    LinkMain *main;
    Limiter *limiter;
    uint64_t window;
    unsigned n_lanes;
    Lane *lanes;
    GThread *starter;
    MultifdGeometry geometry;   /* set by the starter, before `started` */

    GMutex lock;                /* guards all below; a leaf */
    GCond token_free;
    GCond window_moved;
    GCond state;                /* started, stopping */
    bool started;               /* there are multifd packets to be sent */
    bool stopping;
    bool token;                 /* some lane is the dispatcher */
    uint64_t epoch_frames;      /* of the epoch being sent */
    uint64_t next_number;
    uint64_t acked;
    uint64_t in_flight;         /* costs of acked to next_number */
    uint32_t costs[LINK_FRAMES_MAX];    /* by number % LINK_FRAMES_MAX */
} EgressLink;

struct Lane {
    EgressLink *egress;
    unsigned number;
    Stream *stream;             /* owned */
    GThread *thread;
    uint64_t frames, bytes;     /* atomic */
    uint8_t header[LINK_PAGES_HEADER_MAX];
};
static_assert((int)METHOD_ZLIB == (int)LINK_FLAG_ZLIB &&
              (int)METHOD_ZSTD == (int)LINK_FLAG_ZSTD,
              "a PAGES frame's flags are the method's");
static_assert((int)LINK_PAGES_HEADER_MAX >= (int)MULTIFD_DEVICE_HEADER_SIZE,
              "a lane's header buffer must hold a device-state header");

/* What the dispatcher took, with its number. */
typedef struct {
    Packet *packet;             /* NULL: an EPOCH_END */
    LinkFrame frame;
    uint64_t epoch_frames;      /* for EPOCH_END */
} Job;

/* ---- window and numbers ---------------------------------------------------------- */

static bool has_window(const EgressLink *self, uint64_t cost)
{
    return (self->in_flight == 0 || self->in_flight + cost <= self->window) &&
           self->next_number - self->acked < LINK_FRAMES_MAX;
}

/* Waits for window; false: shut down. */
static bool number_frame(EgressLink *self, Job *job)
{
    uint64_t cost = link_frame_cost(&job->frame);
    bool ok;

    g_mutex_lock(&self->lock);
    while (!self->stopping && !has_window(self, cost)) {
        g_cond_wait(&self->window_moved, &self->lock);
    }
    ok = !self->stopping;
    if (ok) {
        job->frame.sequence = self->next_number++;
        self->costs[job->frame.sequence % LINK_FRAMES_MAX] = cost;
        self->in_flight += cost;
        job->epoch_frames = self->epoch_frames;
        self->epoch_frames = job->packet ? self->epoch_frames + 1 : 0;
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

static bool check_ack(const EgressLink *self, uint64_t bulk, GError **error)
{
    if (bulk < self->acked || bulk > self->next_number) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got ACK of bulk frames below %" G_GUINT64_FORMAT
                    ", allowed %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
                    bulk, self->acked, self->next_number);
        return false;
    }
    return true;
}

/* In the main lane's reader. */
static bool on_ack(uint64_t bulk, void *data, GError **error)
{
    EgressLink *self = data;
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_ack(self, bulk, error);
    if (ok) {
        while (self->acked < bulk) {
            self->in_flight -= self->costs[self->acked % LINK_FRAMES_MAX];
            self->acked++;
        }
        g_cond_broadcast(&self->window_moved);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

/* ---- the token --------------------------------------------------------------------- */

static bool take_token(EgressLink *self)
{
    bool ok;

    g_mutex_lock(&self->lock);
    while (!self->stopping && self->token) {
        g_cond_wait(&self->token_free, &self->lock);
    }
    ok = !self->stopping;
    self->token = true;
    g_mutex_unlock(&self->lock);
    return ok;
}

static void pass_token(EgressLink *self)
{
    g_mutex_lock(&self->lock);
    self->token = false;
    g_cond_signal(&self->token_free);
    g_mutex_unlock(&self->lock);
}

/* Type, length and epoch: what can be said before there is a number. */
static void describe(Job *job, uint64_t epoch)
{
    const Packet *packet = job->packet;

    job->frame = (LinkFrame) { .epoch = epoch };
    if (!packet) {
        job->frame.type = LINK_EPOCH_END;
        job->frame.length = LINK_EPOCH_END_SIZE;
    } else if (packet->kind == PACKET_DEVICE_STATE) {
        job->frame.type = LINK_DEVICE;
        job->frame.length = MULTIFD_DEVICE_HEADER_SIZE + packet->payload_len;
    } else {
        job->frame.type = LINK_PAGES;
        job->frame.length =
            link_pages_header_size(strlen(packet->header.ramblock),
                                   packet->header.normal_pages,
                                   packet->header.zero_pages) +
            packet->payload_len;
    }
}

/* As the dispatcher.  False: there will be nothing any more. */
static bool dispatch(EgressLink *self, Job *job)
{
    uint64_t epoch;

    if (exchange_take(self->exchange, 0, &job->packet, &epoch) ==
        EXCHANGE_FAILED) {
        return false;
    }
    describe(job, epoch);
    if (!number_frame(self, job)) {
        if (job->packet) {
            exchange_done(self->exchange, 0, job->packet);
        }
        return false;
    }
    if (!job->packet) {
        exchange_synced(self->exchange, 0);
    }
    return true;
}

/* ---- writing ---------------------------------------------------------------------- */

static unsigned encode_pages(Lane *self, Job *job, struct iovec *pieces)
{
    const Packet *packet = job->packet;
    uint32_t page_size = self->egress->geometry.page_size;
    LinkPages pages = {
        .page_size = page_size,
        .method = packet->method,
        .in_channel = packet->in_channel,
        .in_packet = packet->in_packet,
    };

    if (packet->method == METHOD_NONE) {
        job->frame.flags = packet->in_method;   /* the values are the same */
    }
    job->frame.checksum = packet->method == METHOD_NONE
        ? crc32c_pages(packet->payload, page_size, packet->header.normal_pages)
        : crc32c(0, packet->payload, packet->payload_len);
    pieces[0].iov_base = self->header;
    pieces[0].iov_len = link_pages_encode(&pages, &packet->header,
                                          self->header);
    pieces[1].iov_base = packet->payload;
    pieces[1].iov_len = packet->payload_len;
    return packet->payload_len > 0 ? 2 : 1;
}

static unsigned encode_device(Lane *self, Job *job, struct iovec *pieces)
{
    const Packet *packet = job->packet;

    job->frame.checksum = crc32c(0, packet->payload, packet->payload_len);
    multifd_device_header_encode(&packet->device, self->header);
    pieces[0].iov_base = self->header;
    pieces[0].iov_len = MULTIFD_DEVICE_HEADER_SIZE;
    pieces[1].iov_base = packet->payload;
    pieces[1].iov_len = packet->payload_len;
    return 2;
}

static unsigned encode_epoch_end(Lane *self, Job *job, struct iovec *pieces)
{
    link_epoch_end_encode(job->epoch_frames, self->header);
    pieces[0].iov_base = self->header;
    pieces[0].iov_len = LINK_EPOCH_END_SIZE;
    return 1;
}

static unsigned encode(Lane *self, Job *job, struct iovec *pieces)
{
    switch (job->frame.type) {
    case LINK_PAGES:
        return encode_pages(self, job, pieces);
    case LINK_DEVICE:
        return encode_device(self, job, pieces);
    default:
        return encode_epoch_end(self, job, pieces);
    }
}

static bool write_job(Lane *self, Job *job)
{
    EgressLink *egress = self->egress;
    struct iovec pieces[2];
    unsigned n = encode(self, job, pieces);
    GError *error = NULL;
    bool ok = link_lane_write(self->stream, egress->limiter, &job->frame,
                              pieces, n, &error);

    if (ok) {
        __atomic_add_fetch(&self->frames, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&self->bytes, job->packet
                           ? job->packet->payload_len : 0, __ATOMIC_RELAXED);
    } else {
        g_prefix_error(&error, "link to %s, bulk lane %u: ",
                       stream_get_peer(self->stream), self->number);
        exchange_fail(egress->exchange, error);
    }
    /* After the failure, so that nobody takes it for sent. */
    if (job->packet) {
        exchange_done(egress->exchange, 0, job->packet);
    }
    return ok;
}

static bool wait_started(EgressLink *self)
{
    bool ok;

    g_mutex_lock(&self->lock);
    while (!self->started && !self->stopping) {
        g_cond_wait(&self->state, &self->lock);
    }
    ok = !self->stopping;
    g_mutex_unlock(&self->lock);
    return ok;
}

static void *lane_thread(void *data)
{
    Lane *self = data;
    EgressLink *egress = self->egress;
    bool more = wait_started(egress);

    while (more && take_token(egress)) {
        Job job;

        more = dispatch(egress, &job);
        pass_token(egress);
        more = more && write_job(self, &job);
    }
    return NULL;
}

/* ---- starting --------------------------------------------------------------------- */

static void tell_channels(EgressLink *self, bool multifd, unsigned count,
                          const uint8_t uuid[MULTIFD_UUID_SIZE])
{
    g_autofree char *text = uuid_to_string(uuid);
    JsonObject *data = json_object_new();

    json_object_set_boolean_member(data, "multifd", multifd);
    json_object_set_int_member(data, "count", multifd ? count : 0);
    json_object_set_string_member(data, "uuid", text);
    if (multifd) {
        json_object_set_int_member(data, "page-size",
                                   self->geometry.page_size);
    }
    link_main_send_event(self->main, "channels", data);
}

static void *starter_thread(void *data)
{
    EgressLink *self = data;
    uint8_t uuid[MULTIFD_UUID_SIZE];
    unsigned channels_in;
    ExchangeMode mode = exchange_wait_decided(self->exchange, &channels_in,
                                              uuid);

    if (mode == EXCHANGE_UNDECIDED ||
        (mode == EXCHANGE_MULTIFD &&
         !exchange_wait_geometry(self->exchange, &self->geometry))) {
        return NULL;
    }
    tell_channels(self, mode == EXCHANGE_MULTIFD, channels_in, uuid);
    if (mode == EXCHANGE_MAIN_ONLY) {
        return NULL;        /* the lanes stay idle */
    }
    exchange_add_outs(self->exchange, 1, false);
    g_mutex_lock(&self->lock);
    self->started = true;
    g_cond_broadcast(&self->state);
    g_mutex_unlock(&self->lock);
    return NULL;
}

/* ---- life ------------------------------------------------------------------------- */

static void shutdown_egress(Egress *egress)
{
    EgressLink *self = (EgressLink *)egress;

    if (self->limiter) {
        limiter_close(self->limiter);
    }
    g_mutex_lock(&self->lock);
    self->stopping = true;
    g_cond_broadcast(&self->state);
    g_cond_broadcast(&self->token_free);
    g_cond_broadcast(&self->window_moved);
    g_mutex_unlock(&self->lock);
    for (unsigned i = 0; i < self->n_lanes; i++) {
        stream_shutdown(self->lanes[i].stream);
    }
}

static void free_egress(Egress *egress)
{
    EgressLink *self = (EgressLink *)egress;

    link_main_set_ack_handler(self->main, NULL, NULL);
    g_thread_join(self->starter);
    for (unsigned i = 0; i < self->n_lanes; i++) {
        g_thread_join(self->lanes[i].thread);
        stream_free(self->lanes[i].stream);
    }
    g_cond_clear(&self->state);
    g_cond_clear(&self->window_moved);
    g_cond_clear(&self->token_free);
    g_mutex_clear(&self->lock);
    limiter_unref(self->limiter);
    g_free(self->lanes);
    g_free(self);
}

static uint64_t get_wire_bytes(Egress *egress)
{
    EgressLink *self = (EgressLink *)egress;
    uint64_t bytes = link_main_get_wire_bytes_out(self->main);

    for (unsigned i = 0; i < self->n_lanes; i++) {
        bytes += stream_get_wire_bytes_out(self->lanes[i].stream);
    }
    return bytes;
}

unsigned egress_link_get_lanes(Egress *egress, EgressLinkLane *ret,
                               unsigned max)
{
    EgressLink *self = (EgressLink *)egress;

    for (unsigned i = 0; i < MIN(max, self->n_lanes); i++) {
        Lane *lane = &self->lanes[i];

        ret[i].frames = __atomic_load_n(&lane->frames, __ATOMIC_RELAXED);
        ret[i].bytes = __atomic_load_n(&lane->bytes, __ATOMIC_RELAXED);
    }
    return self->n_lanes;
}

uint64_t egress_link_get_in_flight(Egress *egress)
{
    EgressLink *self = (EgressLink *)egress;
    uint64_t in_flight;

    g_mutex_lock(&self->lock);
    in_flight = self->in_flight;
    g_mutex_unlock(&self->lock);
    return in_flight;
}

static void start_lanes(EgressLink *self, GPtrArray *streams)
{
    self->n_lanes = streams->len;
    self->lanes = g_new0(Lane, self->n_lanes);
    g_ptr_array_set_free_func(streams, NULL);
    for (unsigned i = 0; i < self->n_lanes; i++) {
        Lane *lane = &self->lanes[i];

        lane->egress = self;
        lane->number = i;
        lane->stream = g_ptr_array_index(streams, i);
    }
    g_ptr_array_unref(streams);
    for (unsigned i = 0; i < self->n_lanes; i++) {
        self->lanes[i].thread = g_thread_new("out-lane", lane_thread,
                                             &self->lanes[i]);
    }
}

Egress *egress_link_new(const EgressLinkSetup *setup)
{
    static const EgressOps ops = {
        .kind = "link",
        .shutdown = shutdown_egress,
        .free = free_egress,
        .get_wire_bytes = get_wire_bytes,
    };
    EgressLink *self = g_new0(EgressLink, 1);

    self->base.ops = &ops;
    self->exchange = setup->exchange;
    self->main = setup->main;
    self->window = setup->window;
    self->limiter = setup->limiter ? limiter_ref(setup->limiter) : NULL;
    g_mutex_init(&self->lock);
    g_cond_init(&self->token_free);
    g_cond_init(&self->window_moved);
    g_cond_init(&self->state);
    link_main_set_ack_handler(self->main, on_ack, self);
    start_lanes(self, setup->lanes);
    self->starter = g_thread_new("out-start", starter_thread, self);
    return &self->base;
}
