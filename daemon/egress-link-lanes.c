/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-link-lanes.c - lanes that come, and when
 *
 * A lane that is added connects in its own thread, as one that broke does; nobody
 * waits for it.  Lanes never go before the end: what one has sent and nobody has
 * acknowledged would have to be sent again.
 */
#include "daemon/egress-link-lanes.h"

#include "daemon/lane-count.h"
#include "daemon/log.h"
#include "daemon/units.h"

struct EgressLinkLanes {
    EgressLinkWriterSetup lane;     /* constant, as these */
    char *peer;                     /* for messages */
    GThread *counter;               /* NULL: was not started */
    uint32_t page_size;             /* set by start() */
    LinkReduction *reduction;       /* likewise; lent */

    GMutex lock;                    /* guards all below; those of the writers and
                                       the frames are taken under it */
    GCond stopped;
    bool stopping;
    LaneCount count;
    unsigned n;
    EgressLinkWriter *writers[LINK_LANES_MAX];
};

/* With the lock held, or before there are threads. */
static EgressLinkWriter *add_lane(EgressLinkLanes *self, Stream *stream,
                                  unsigned generation)
{
    EgressLinkWriterSetup lane = self->lane;

    lane.number = self->n;
    lane.stream = stream;
    lane.generation = generation;
    self->writers[self->n] = egress_link_writer_new(&lane);
    return self->writers[self->n++];
}

/* ---- how many ---------------------------------------------------------------------- */

/* Those that stand by count in what was delivered, but are not looked at. */
static void take_sample(EgressLinkLanes *self, LaneSample *ret)
{
    unsigned wanted = lane_count_get(&self->count);

    *ret = (LaneSample) { .acked = 0 };
    for (unsigned i = 0; i < self->n; i++) {
        StreamTcp tcp;

        if (!egress_link_writer_get_tcp(self->writers[i], &tcp)) {
            continue;
        }
        ret->acked += tcp.acked;
        if (ret->lanes < wanted) {
            lane_count_add(ret, tcp.rtt_us, tcp.least_rtt_us, tcp.unsent);
        }
    }
}

static void tell(const EgressLinkLanes *self, const LaneCount *count,
                 unsigned before)
{
    g_autofree char *rate = units_format_rate(lane_count_get_rate(count));

    log_info(NULL, "link to %s: sending on %u lanes instead of %u; TCP delivers %s",
             self->peer, lane_count_get(count), before, rate);
}

/* With the lock held. */
static void follow_count(EgressLinkLanes *self)
{
    unsigned wanted = lane_count_get(&self->count);

    egress_link_frames_set_lanes(self->lane.frames, wanted);
    while (self->n < wanted) {
        egress_link_writer_start(add_lane(self, NULL, 0), self->page_size,
                                 self->reduction);
    }
}

/* With the lock held, but for telling. */
static void look(EgressLinkLanes *self)
{
    unsigned before = lane_count_get(&self->count);
    LaneSample sample;
    LaneCount count;

    take_sample(self, &sample);
    if (!lane_count_note(&self->count, &sample, g_get_monotonic_time())) {
        return;
    }
    follow_count(self);
    count = self->count;
    g_mutex_unlock(&self->lock);
    tell(self, &count, before);
    g_mutex_lock(&self->lock);
}

static void *counter_thread(void *data)
{
    EgressLinkLanes *self = data;
    int64_t due_us = g_get_monotonic_time();

    g_mutex_lock(&self->lock);
    while (!self->stopping) {
        look(self);
        due_us += LANE_COUNT_SAMPLE_MS * 1000;
        while (!self->stopping &&
               g_cond_wait_until(&self->stopped, &self->lock, due_us)) {
        }
    }
    g_mutex_unlock(&self->lock);
    return NULL;
}

/* ---- life ------------------------------------------------------------------------- */

EgressLinkLanes *egress_link_lanes_new(const EgressLinkWriterSetup *lane,
                                       GPtrArray *streams, unsigned generation,
                                       unsigned max)
{
    EgressLinkLanes *self = g_new0(EgressLinkLanes, 1);

    g_assert(streams->len <= LINK_LANES_MAX && max <= LINK_LANES_MAX);
    self->lane = *lane;
    g_mutex_init(&self->lock);
    g_cond_init(&self->stopped);
    lane_count_init(&self->count, streams->len, MAX(max, streams->len));
    g_ptr_array_set_free_func(streams, NULL);
    for (unsigned i = 0; i < streams->len; i++) {
        Stream *stream = g_ptr_array_index(streams, i);

        if (stream && !self->peer) {
            self->peer = g_strdup(stream_get_peer(stream));
        }
        add_lane(self, stream, stream ? generation : generation + 1);
    }
    g_ptr_array_unref(streams);
    return self;
}

void egress_link_lanes_start(EgressLinkLanes *self, uint32_t page_size,
                             LinkReduction *reduction)
{
    g_mutex_lock(&self->lock);
    self->page_size = page_size;
    self->reduction = reduction;
    for (unsigned i = 0; i < self->n; i++) {
        egress_link_writer_start(self->writers[i], page_size, reduction);
    }
    self->counter = g_thread_new("lane-count", counter_thread, self);
    g_mutex_unlock(&self->lock);
}

void egress_link_lanes_shutdown(EgressLinkLanes *self)
{
    g_mutex_lock(&self->lock);
    self->stopping = true;
    g_cond_broadcast(&self->stopped);
    for (unsigned i = 0; i < self->n; i++) {
        egress_link_writer_shutdown(self->writers[i]);
    }
    g_mutex_unlock(&self->lock);
}

void egress_link_lanes_free(EgressLinkLanes *self)
{
    if (self->counter) {
        g_thread_join(self->counter);
    }
    for (unsigned i = 0; i < self->n; i++) {
        egress_link_writer_free(self->writers[i]);
    }
    g_cond_clear(&self->stopped);
    g_mutex_clear(&self->lock);
    g_free(self->peer);
    g_free(self);
}

/* ---- looking ------------------------------------------------------------------------- */

unsigned egress_link_lanes_get(EgressLinkLanes *self, EgressLinkLane *ret,
                               unsigned max)
{
    unsigned n;

    g_mutex_lock(&self->lock);
    n = self->n;
    for (unsigned i = 0; i < MIN(max, n); i++) {
        egress_link_writer_get(self->writers[i], &ret[i]);
    }
    g_mutex_unlock(&self->lock);
    return n;
}

bool egress_link_lanes_get_one(EgressLinkLanes *self, unsigned lane,
                               EgressLinkLane *ret)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = lane < self->n;
    if (ok) {
        egress_link_writer_get(self->writers[lane], ret);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

void egress_link_lanes_remake(EgressLinkLanes *self, unsigned lane,
                              unsigned n_paths)
{
    g_mutex_lock(&self->lock);
    if (lane < self->n) {
        egress_link_writer_remake(self->writers[lane], n_paths);
    }
    g_mutex_unlock(&self->lock);
}

unsigned egress_link_lanes_get_wanted(EgressLinkLanes *self)
{
    unsigned wanted;

    g_mutex_lock(&self->lock);
    wanted = lane_count_get(&self->count);
    g_mutex_unlock(&self->lock);
    return wanted;
}

unsigned egress_link_lanes_get_hungry(EgressLinkLanes *self)
{
    unsigned hungry;

    g_mutex_lock(&self->lock);
    hungry = lane_count_is_hungry(&self->count) ? lane_count_get(&self->count)
                                                : 0;
    g_mutex_unlock(&self->lock);
    return hungry;
}

uint64_t egress_link_lanes_get_wire_bytes(EgressLinkLanes *self)
{
    uint64_t bytes = 0;

    g_mutex_lock(&self->lock);
    for (unsigned i = 0; i < self->n; i++) {
        bytes += egress_link_writer_get_wire_bytes(self->writers[i]);
    }
    g_mutex_unlock(&self->lock);
    return bytes;
}

unsigned egress_link_lanes_get_down_ms(EgressLinkLanes *self)
{
    unsigned down_ms = G_MAXUINT;

    g_mutex_lock(&self->lock);
    for (unsigned i = 0; i < self->n && down_ms > 0; i++) {
        EgressLinkLane lane;

        egress_link_writer_get(self->writers[i], &lane);
        down_ms = MIN(down_ms, lane.down_ms);
    }
    down_ms = self->n > 0 ? down_ms : 0;
    g_mutex_unlock(&self->lock);
    return down_ms;
}
