/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-link-writer.c - writing frames on a lane that may break
 *
 * A lane is written to and never read.  So a writer that has nothing to write looks
 * now and then whether its connection still stands: frames that it has written may
 * be in the kernel yet, and somebody else must send them.
 */
#include "daemon/egress-link-writer.h"

#include <assert.h>

#include "daemon/address.h"
#include "daemon/link-lane.h"
#include "daemon/log.h"
#include "daemon/worker.h"
#include "wire/crc32c.h"
#include "wire/error.h"

enum {
    LOOK_MS = 250,
    SETTLE_MS = 2000,           /* for the peer to have all of a lane that moves */
    SETTLE_LOOK_US = 5000,
};

struct EgressLinkWriter {
    EgressLinkWriterSetup setup;        /* constant, but for .stream */
    char *peer;                         /* for messages; the thread's */
    uint32_t page_size;                 /* set before the thread starts */
    LinkReducer *reducer;               /* likewise; NULL: pages go as they are */
    GThread *thread;                    /* NULL: was not started */
    GCancellable *cancellable;
    uint8_t header[LINK_PAGES_HEADER_MAX];      /* the thread's */

    GMutex lock;                /* guards all below; a leaf */
    GCond stopped;
    bool stopping;
    Stream *stream;             /* owned; NULL: none now.  Only the thread replaces
                                   it, others may shut it */
    unsigned generation;        /* of the next connection */
    unsigned home_of;           /* go back, with so many paths; 0: stay */
    int64_t down_since_us;      /* without a stream */
    EgressLinkLane stats;
    uint64_t wire_bytes_before;
};
static_assert((int)METHOD_ZLIB == (int)LINK_FLAG_ZLIB &&
              (int)METHOD_ZSTD == (int)LINK_FLAG_ZSTD,
              "a PAGES frame's flags are the method's");
static_assert((int)LINK_PAGES_HEADER_MAX >= (int)MULTIFD_DEVICE_HEADER_SIZE,
              "a lane's header buffer must hold a device-state header");

/* ---- encoding ---------------------------------------------------------------------- */

static uint32_t sum_pages(const EgressLinkWriter *self, const Packet *packet)
{
    return packet->method == METHOD_NONE
           ? crc32c_pages(packet->payload, self->page_size,
                          packet->header.normal_pages)
           : crc32c(0, packet->payload, packet->payload_len);
}

static size_t encode_pages_header(EgressLinkWriter *self, const Packet *packet)
{
    LinkPages pages = {
        .page_size = self->page_size,
        .method = packet->method,
        .in_channel = packet->in_channel,
        .in_packet = packet->in_packet,
    };

    return link_pages_encode(&pages, &packet->header, self->header);
}

/* Once: from now on the frame is what is in body, if there is one. */
static void prepare_pages(EgressLinkWriter *self, EgressLinkFrame *frame,
                          size_t header_len)
{
    const Packet *packet = frame->packet;
    size_t len;

    /* The values are the same. */
    frame->frame.flags |= packet->method == METHOD_NONE ? packet->in_method : 0;
    frame->frame.checksum = sum_pages(self, packet);
    if (!self->reducer) {
        return;
    }
    frame->body = link_reducer_pack(
        self->reducer, packet, frame->frame.sequence,
        egress_link_frames_get_acked(self->setup.frames), header_len, &len);
    if (frame->body) {
        memcpy(frame->body, self->header, header_len);
        frame->frame.flags |= LINK_FLAG_PACKED;
        frame->frame.unpacked = frame->frame.length;
        frame->frame.length = len;
    }
}

static unsigned encode_pages(EgressLinkWriter *self, EgressLinkFrame *frame,
                             struct iovec *pieces)
{
    const Packet *packet = frame->packet;

    if (!frame->body) {
        pieces[0].iov_base = self->header;
        pieces[0].iov_len = encode_pages_header(self, packet);
        if (!frame->prepared) {
            prepare_pages(self, frame, pieces[0].iov_len);
        }
    }
    if (frame->body) {
        pieces[0].iov_base = frame->body;
        pieces[0].iov_len = frame->frame.length;
        return 1;
    }
    pieces[1].iov_base = packet->payload;
    pieces[1].iov_len = packet->payload_len;
    return packet->payload_len > 0 ? 2 : 1;
}

static unsigned encode_device(EgressLinkWriter *self, EgressLinkFrame *frame,
                              struct iovec *pieces)
{
    const Packet *packet = frame->packet;

    if (!frame->prepared) {
        frame->frame.checksum = crc32c(0, packet->payload, packet->payload_len);
    }
    multifd_device_header_encode(&packet->device, self->header);
    pieces[0].iov_base = self->header;
    pieces[0].iov_len = MULTIFD_DEVICE_HEADER_SIZE;
    pieces[1].iov_base = packet->payload;
    pieces[1].iov_len = packet->payload_len;
    return 2;
}

static unsigned encode_epoch_end(EgressLinkWriter *self, EgressLinkFrame *frame,
                                 struct iovec *pieces)
{
    link_epoch_end_encode(frame->epoch_frames, self->header);
    pieces[0].iov_base = self->header;
    pieces[0].iov_len = LINK_EPOCH_END_SIZE;
    return 1;
}

static unsigned encode(EgressLinkWriter *self, EgressLinkFrame *frame,
                       struct iovec *pieces)
{
    unsigned n;

    switch (frame->frame.type) {
    case LINK_PAGES:
        n = encode_pages(self, frame, pieces);
        break;
    case LINK_DEVICE:
        n = encode_device(self, frame, pieces);
        break;
    default:
        n = encode_epoch_end(self, frame, pieces);
        break;
    }
    frame->prepared = true;
    return n;
}

/* ---- breaking and mending ------------------------------------------------------------ */

static bool is_stopping(EgressLinkWriter *self)
{
    bool stopping;

    g_mutex_lock(&self->lock);
    stopping = self->stopping;
    g_mutex_unlock(&self->lock);
    return stopping;
}

/* The destination has said that it has everything, and may close. */
static bool is_done(EgressLinkWriter *self)
{
    g_autofree ExchangeSnapshot *now = g_new(ExchangeSnapshot, 1);

    exchange_get_snapshot(self->setup.exchange, now);
    return now->shut || now->return_ended;
}

/* Takes @error.  @frame (may be NULL) is what it was writing. */
static void lose(EgressLinkWriter *self, EgressLinkFrame *frame, GError *error)
{
    Stream *stream;
    StreamTcp tcp;

    if (!is_stopping(self) && !is_done(self)) {
        log_info(NULL, "link to %s: bulk lane %u broke, others send what it had: "
                 "%s", self->peer, self->setup.number, error->message);
        stream_note_broken(self->stream, error);
    }
    if (!self->setup.connect) {
        g_prefix_error(&error, "link to %s, bulk lane %u: ", self->peer,
                       self->setup.number);
        exchange_fail(self->setup.exchange, g_error_copy(error));
    }
    g_error_free(error);
    g_mutex_lock(&self->lock);
    stream = g_steal_pointer(&self->stream);
    if (stream_tcp_get(stream, &tcp)) {
        self->stats.retransmits += tcp.retransmits;
    }
    self->wire_bytes_before += stream_get_wire_bytes_out(stream);
    self->stats.up = false;
    self->stats.address[0] = '\0';
    self->down_since_us = g_get_monotonic_time();
    g_mutex_unlock(&self->lock);
    stream_free(stream);
    egress_link_frames_lost(self->setup.frames, self->setup.number, frame);
}

/* With the lock held, or before there are threads. */
static void note_up(EgressLinkWriter *self, Stream *stream)
{
    g_autofree char *address = address_describe_peer(stream_get_fd(stream));

    self->stream = stream;
    self->stats.up = true;
    self->stats.path = stream_get_path(stream);
    g_strlcpy(self->stats.address, address, sizeof(self->stats.address));
}

static void note_connected(EgressLinkWriter *self, Stream *stream, bool again)
{
    g_mutex_lock(&self->lock);
    note_up(self, stream);
    self->stats.resumes += again;
    g_mutex_unlock(&self->lock);
    g_free(self->peer);
    self->peer = g_strdup(stream_get_peer(stream));
}

/* Until it is time for the next attempt; false: stopped. */
static bool pause_until(EgressLinkWriter *self, int64_t due_us)
{
    bool ok;

    g_mutex_lock(&self->lock);
    while (!self->stopping &&
           g_cond_wait_until(&self->stopped, &self->lock, due_us)) {
    }
    ok = !self->stopping;
    g_mutex_unlock(&self->lock);
    return ok;
}

static bool try_connect(EgressLinkWriter *self)
{
    g_autoptr(GError) error = NULL;
    unsigned generation = self->generation++;
    Stream *stream = self->setup.connect(self->setup.number, generation,
                                         self->cancellable,
                                         self->setup.connect_data, &error);

    if (!stream) {
        log_debug(NULL, "%s", error->message);
        return false;
    }
    note_connected(self, stream, generation > 0);
    log_info(NULL, "link to %s: bulk lane %u is %s", self->peer,
             self->setup.number, generation > 0 ? "back" : "up");
    return true;
}

static bool ensure_connected(EgressLinkWriter *self)
{
    int64_t due_us;

    if (is_stopping(self) || (!self->stream && !self->setup.connect)) {
        return false;
    }
    for (unsigned attempt = 0; !self->stream; attempt++) {
        if (is_done(self)) {
            return false;
        }
        due_us = g_get_monotonic_time() + link_lane_get_retry_us(attempt);
        if (!try_connect(self) && !pause_until(self, due_us)) {
            return false;
        }
    }
    return true;
}

/* ---- going back to its own path ------------------------------------------------------- */

static unsigned take_home_of(EgressLinkWriter *self)
{
    unsigned n_paths;

    g_mutex_lock(&self->lock);
    n_paths = self->home_of;
    self->home_of = 0;
    g_mutex_unlock(&self->lock);
    return n_paths;
}

/* The far end closes the connection when it takes the next, so let it read this one
 * first: nothing is to be sent again. */
static bool settle(EgressLinkWriter *self)
{
    int64_t until_us = g_get_monotonic_time() + SETTLE_MS * 1000LL;

    while (!egress_link_frames_is_idle(self->setup.frames, self->setup.number)) {
        if (is_stopping(self) || g_get_monotonic_time() > until_us) {
            return false;
        }
        g_usleep(SETTLE_LOOK_US);
    }
    return true;
}

/* The generation says which path it is: the next one that leads home. */
static void move_home(EgressLinkWriter *self, unsigned n_paths)
{
    g_autoptr(GError) error = NULL;
    Stream *stream, *old;
    unsigned generation;

    if (!self->setup.connect || !settle(self)) {
        return;
    }
    generation = (self->generation + n_paths - 1) / n_paths * n_paths;
    self->generation = generation + 1;
    stream = self->setup.connect(self->setup.number, generation,
                                 self->cancellable, self->setup.connect_data,
                                 &error);
    if (!stream) {
        log_debug(NULL, "%s", error->message);
        return;
    }
    g_mutex_lock(&self->lock);
    old = g_steal_pointer(&self->stream);
    self->wire_bytes_before += stream_get_wire_bytes_out(old);
    g_mutex_unlock(&self->lock);
    stream_free(old);
    note_connected(self, stream, true);
}

void egress_link_writer_remake(EgressLinkWriter *self, unsigned n_paths)
{
    g_mutex_lock(&self->lock);
    self->home_of = n_paths;
    if (n_paths == 0 && self->stream) {
        stream_shutdown(self->stream);
    }
    g_mutex_unlock(&self->lock);
}

/* ---- the thread ---------------------------------------------------------------------- */

static void write_frame(EgressLinkWriter *self, EgressLinkFrame *frame)
{
    struct iovec pieces[2];
    unsigned n = encode(self, frame, pieces);
    uint64_t payload = frame->packet ? frame->packet->payload_len : 0;
    bool again = frame->frame.flags & LINK_FLAG_RESENT;
    int64_t begin_us = g_get_monotonic_time();
    GError *error = NULL;

    if (!link_lane_write(self->stream, self->setup.limiter, &frame->frame, pieces,
                         n, &error)) {
        lose(self, frame, error);
        return;
    }
    if (self->reducer) {
        link_reducer_note_write(self->reducer,
                                g_get_monotonic_time() - begin_us);
    }
    g_mutex_lock(&self->lock);
    self->stats.frames += !again;
    self->stats.bytes += again ? 0 : payload;
    self->stats.resent += again;
    g_mutex_unlock(&self->lock);
    egress_link_frames_written(self->setup.frames, frame);
}

/* Tells the reducer where the time goes. */
static EgressLinkFrame *take_frame(EgressLinkWriter *self)
{
    int64_t begin_us = g_get_monotonic_time();
    EgressLinkFrame *frame = egress_link_frames_take(
        self->setup.frames, self->setup.number, LOOK_MS);

    if (self->reducer) {
        link_reducer_note_idle(self->reducer,
                               g_get_monotonic_time() - begin_us);
    }
    return frame;
}

static void *writer_thread(void *data)
{
    EgressLinkWriter *self = data;

    while (ensure_connected(self)) {
        unsigned home_of = take_home_of(self);
        EgressLinkFrame *frame;

        if (home_of > 0) {
            move_home(self, home_of);
        }
        frame = take_frame(self);
        if (frame) {
            write_frame(self, frame);
        } else if (stream_is_hung_up(self->stream)) {
            lose(self, NULL, g_error_new(STREAM_ERROR, STREAM_ERROR_EOF,
                                         "the connection has ended"));
        }
    }
    return NULL;
}

/* ---- life ---------------------------------------------------------------------------- */

EgressLinkWriter *egress_link_writer_new(const EgressLinkWriterSetup *setup)
{
    EgressLinkWriter *self = g_new0(EgressLinkWriter, 1);

    self->setup = *setup;
    self->generation = setup->generation;
    if (setup->stream) {
        note_up(self, setup->stream);
        self->peer = g_strdup(stream_get_peer(setup->stream));
        self->generation++;
    } else {
        self->down_since_us = g_get_monotonic_time();
    }
    self->cancellable = g_cancellable_new();
    g_mutex_init(&self->lock);
    g_cond_init(&self->stopped);
    return self;
}

void egress_link_writer_start(EgressLinkWriter *self, uint32_t page_size,
                              LinkReduction *reduction)
{
    self->page_size = page_size;
    self->reducer = reduction ? link_reducer_new(reduction) : NULL;
    self->thread = worker_new("out-lane", writer_thread, self,
                              exchange_get_cpu(self->setup.exchange), NULL);
}

void egress_link_writer_shutdown(EgressLinkWriter *self)
{
    g_mutex_lock(&self->lock);
    self->stopping = true;
    g_cond_broadcast(&self->stopped);
    if (self->stream) {
        stream_shutdown(self->stream);
    }
    g_mutex_unlock(&self->lock);
    g_cancellable_cancel(self->cancellable);
}

void egress_link_writer_free(EgressLinkWriter *self)
{
    if (self->thread) {
        g_thread_join(self->thread);
    }
    stream_free(self->stream);
    link_reducer_free(self->reducer);
    g_object_unref(self->cancellable);
    g_cond_clear(&self->stopped);
    g_mutex_clear(&self->lock);
    g_free(self->peer);
    g_free(self);
}

void egress_link_writer_get(EgressLinkWriter *self, EgressLinkLane *ret)
{
    StreamTcp tcp;

    g_mutex_lock(&self->lock);
    *ret = self->stats;
    if (self->stream && stream_tcp_get(self->stream, &tcp)) {
        ret->rtt_us = tcp.rtt_us;
        ret->retransmits += tcp.retransmits;
        ret->stuck_ms = tcp.stuck_ms;
        ret->rto_max_ms = tcp.rto_max_ms;
    }
    ret->down_ms = self->stats.up
                   ? 0 : (g_get_monotonic_time() - self->down_since_us) / 1000;
    g_mutex_unlock(&self->lock);
}

bool egress_link_writer_get_tcp(EgressLinkWriter *self, StreamTcp *ret)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = self->stream && stream_tcp_get(self->stream, ret);
    g_mutex_unlock(&self->lock);
    return ok;
}

uint64_t egress_link_writer_get_wire_bytes(EgressLinkWriter *self)
{
    uint64_t bytes;

    g_mutex_lock(&self->lock);
    bytes = self->wire_bytes_before +
            (self->stream ? stream_get_wire_bytes_out(self->stream) : 0);
    g_mutex_unlock(&self->lock);
    return bytes;
}
