/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-test-load.h"

#include <inttypes.h>

#include "daemon/link-lane.h"
#include "daemon/stream-tcp.h"
#include "daemon/worker.h"
#include "wire/error.h"

enum {
    FRAME_MIN = 8 * 1024,       /* of payload; less is mostly headers */
    FRAME_MAX = LINK_STREAM_MAX,
    RAMP_PARTS = 3,             /* the first of so many does not count */
};

typedef struct {
    LinkTestLoad *load;
    Stream *stream;
    GThread *thread;
    StreamTcp before;           /* when what counts began; of its thread */
} Lane;

struct LinkTestLoad {
    LinkTestLoadSetup setup;        /* constant */
    uint8_t *filler;                /* likewise; NULL: it receives */
    Lane *lanes;
    unsigned n_lanes;
    int64_t begin_us;               /* likewise */
    bool joined;                    /* of the owner */

    GMutex lock;                    /* guards all below; a leaf */
    unsigned n_running;
    GError *error;                  /* the first */
    int64_t first_us, last_us;      /* when bytes came; 0: none yet */
    uint64_t bytes;
    uint64_t counted;               /* of these in the time that counts */
};

/* ---- sending ---------------------------------------------------------------- */

/* What no device on the way can shrink. */
static uint8_t *make_filler(void)
{
    uint8_t *filler = g_malloc(FRAME_MAX);
    uint64_t x = (uint64_t)g_random_int() << 32 | g_random_int() | 1;

    for (size_t i = 0; i < FRAME_MAX; i += sizeof(x)) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(filler + i, &x, sizeof(x));
    }
    return filler;
}

/* Small where a limit is low, so that no lane overruns its time by much. */
static uint32_t get_frame_size(const LinkTestLoad *self)
{
    size_t quantum = self->setup.limiter
                     ? limiter_get_quantum(self->setup.limiter) : FRAME_MAX;

    return CLAMP(quantum, FRAME_MIN, FRAME_MAX);
}

static bool has_failed(LinkTestLoad *self)
{
    bool failed;

    g_mutex_lock(&self->lock);
    failed = self->error != NULL;
    g_mutex_unlock(&self->lock);
    return failed;
}

static void count_sent(LinkTestLoad *self, uint32_t len)
{
    g_mutex_lock(&self->lock);
    self->bytes += len;
    g_mutex_unlock(&self->lock);
}

static void take_stock(Lane *lane)
{
    if (!stream_tcp_get(lane->stream, &lane->before)) {
        lane->before = (StreamTcp) { 0 };
    }
}

static bool send_lane(Lane *lane, GError **error)
{
    LinkTestLoad *self = lane->load;
    int64_t time_us = self->setup.time_ms * 1000LL, passed_us;
    LinkFrame frame = { .type = LINK_TEST };
    bool counts = false;

    do {
        struct iovec piece = { self->filler, get_frame_size(self) };

        frame.length = piece.iov_len;
        if (!link_lane_write(lane->stream, self->setup.limiter, &frame, &piece,
                             1, error)) {
            return false;
        }
        frame.sequence += frame.length;
        count_sent(self, frame.length);
        passed_us = g_get_monotonic_time() - self->begin_us;
        if (!counts && passed_us >= time_us / RAMP_PARTS) {
            take_stock(lane);
            counts = true;
        }
    } while (passed_us < time_us && !has_failed(self));
    frame.length = 0;
    frame.flags = LINK_FLAG_END;
    return link_lane_write(lane->stream, NULL, &frame, NULL, 0, error);
}

/* ---- receiving -------------------------------------------------------------- */

static bool count_received(LinkTestLoad *self, size_t len, GError **error)
{
    int64_t now_us = g_get_monotonic_time();
    int64_t time_us = self->setup.time_ms * 1000LL;
    bool ok;

    g_mutex_lock(&self->lock);
    if (self->first_us == 0) {
        self->first_us = now_us;
    }
    if (now_us - self->first_us >= time_us / RAMP_PARTS &&
        now_us - self->first_us < time_us) {
        self->counted += len;
    }
    self->last_us = now_us;
    self->bytes += len;
    ok = self->bytes <= self->setup.bytes_max;
    g_mutex_unlock(&self->lock);
    if (!ok) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link test: got more than %" PRIu64 " bytes, which is all "
                    "that is allowed", self->setup.bytes_max);
    }
    return ok;
}

static bool drop(Lane *lane, uint8_t *buf, size_t left, GError **error)
{
    while (left > 0) {
        gssize n = stream_read(lane->stream, buf, MIN(left, FRAME_MAX), error);

        if (n == 0) {
            g_set_error(error, STREAM_ERROR, STREAM_ERROR_EOF,
                        "%s: the lane ended in the middle of a frame",
                        stream_get_peer(lane->stream));
        }
        if (n <= 0 || !count_received(lane->load, n, error)) {
            return false;
        }
        left -= n;
    }
    return true;
}

static bool check_frame(const LinkFrame *frame, uint64_t offset, GError **error)
{
    if (frame->type != LINK_TEST) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a %s frame, which a test's bulk lane does not carry",
                    link_frame_type_name(frame->type));
        return false;
    }
    if (frame->sequence != offset) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a TEST frame with offset %" PRIu64 ", expected %"
                    PRIu64, frame->sequence, offset);
        return false;
    }
    return true;
}

static bool receive_lane(Lane *lane, GError **error)
{
    g_autofree uint8_t *buf = g_malloc(FRAME_MAX);
    uint64_t offset = 0;
    LinkFrame frame;

    do {
        if (!link_lane_read(lane->stream, &frame, NULL, error) ||
            !check_frame(&frame, offset, error) ||
            !drop(lane, buf, frame.length, error)) {
            return false;
        }
        offset += frame.length;
    } while (!(frame.flags & LINK_FLAG_END));
    return true;
}

/* ---- threads ---------------------------------------------------------------- */

static void shut(LinkTestLoad *self)
{
    if (self->setup.limiter) {
        limiter_close(self->setup.limiter);
    }
    for (unsigned i = 0; i < self->n_lanes; i++) {
        stream_shutdown(self->lanes[i].stream);
    }
}

/* Takes @error.  Without one lane the others measure nothing. */
static void fail(LinkTestLoad *self, GError *error)
{
    bool first;

    g_mutex_lock(&self->lock);
    first = !self->error;
    if (first) {
        self->error = error;
    }
    g_mutex_unlock(&self->lock);
    if (!first) {
        g_error_free(error);
        return;
    }
    shut(self);
}

static void *lane_thread(void *data)
{
    Lane *lane = data;
    LinkTestLoad *self = lane->load;
    GError *error = NULL;
    bool ok = self->setup.send ? send_lane(lane, &error)
                               : receive_lane(lane, &error);

    if (!ok) {
        fail(self, error);
    }
    g_mutex_lock(&self->lock);
    self->n_running--;
    g_mutex_unlock(&self->lock);
    return NULL;
}

LinkTestLoad *link_test_load_new(Stream *const *lanes, unsigned n_lanes,
                                 const LinkTestLoadSetup *setup)
{
    LinkTestLoad *self = g_new0(LinkTestLoad, 1);

    self->setup = *setup;
    self->filler = setup->send ? make_filler() : NULL;
    self->lanes = g_new0(Lane, n_lanes);
    self->n_lanes = self->n_running = n_lanes;
    self->begin_us = g_get_monotonic_time();
    g_mutex_init(&self->lock);
    for (unsigned i = 0; i < n_lanes; i++) {
        self->lanes[i] = (Lane) { .load = self, .stream = lanes[i] };
        take_stock(&self->lanes[i]);
    }
    for (unsigned i = 0; i < n_lanes; i++) {
        self->lanes[i].thread = worker_new("link-test-lane", lane_thread,
                                           &self->lanes[i], NULL, NULL);
    }
    return self;
}

bool link_test_load_is_over(LinkTestLoad *self)
{
    bool over;

    g_mutex_lock(&self->lock);
    over = self->n_running == 0;
    g_mutex_unlock(&self->lock);
    return over;
}

static void join(LinkTestLoad *self)
{
    for (unsigned i = 0; i < self->n_lanes && !self->joined; i++) {
        g_thread_join(self->lanes[i].thread);
    }
    self->joined = true;
}

/* ---- results ---------------------------------------------------------------- */

static void add_tcp(const LinkTestLoad *self, LinkTestLoadResult *ret)
{
    uint64_t busy_us = 0, rwnd_us = 0, sndbuf_us = 0;

    for (unsigned i = 0; i < self->n_lanes; i++) {
        const StreamTcp *before = &self->lanes[i].before;
        StreamTcp now;

        if (stream_tcp_get(self->lanes[i].stream, &now)) {
            ret->segments += now.segments - before->segments;
            ret->retransmits += now.retransmits - before->retransmits;
            busy_us += now.busy_us - before->busy_us;
            rwnd_us += now.rwnd_limited_us - before->rwnd_limited_us;
            sndbuf_us += now.sndbuf_limited_us - before->sndbuf_limited_us;
        }
    }
    if (busy_us > 0) {
        ret->rwnd_limited = MIN(rwnd_us * 1000 / busy_us, 1000);
        ret->sndbuf_limited = MIN(sndbuf_us * 1000 / busy_us, 1000);
    }
}

/* Where it was over before its time there is only what there was. */
static uint64_t get_rate(const LinkTestLoad *self)
{
    int64_t time_us = self->setup.time_ms * 1000LL;
    int64_t came_us = self->last_us - self->first_us;
    int64_t counted_us = MIN(came_us, time_us) - time_us / RAMP_PARTS;

    if (counted_us > 0) {
        return self->counted * 1e6 / counted_us;
    }
    return came_us > 0 ? self->bytes * 1e6 / came_us : 0;
}

bool link_test_load_finish(LinkTestLoad *self, LinkTestLoadResult *ret,
                           GError **error)
{
    LinkTestLoadResult result = { 0 };

    join(self);
    if (self->error) {
        g_propagate_error(error, g_steal_pointer(&self->error));
        return false;
    }
    result.bytes = self->bytes;
    if (self->setup.send) {
        add_tcp(self, &result);
    } else {
        result.rate = get_rate(self);
    }
    *ret = result;
    return true;
}

void link_test_load_free(LinkTestLoad *self)
{
    if (self) {
        if (!self->joined) {
            shut(self);
        }
        join(self);
        g_clear_error(&self->error);
        g_mutex_clear(&self->lock);
        g_free(self->filler);
        g_free(self->lanes);
        g_free(self);
    }
}
