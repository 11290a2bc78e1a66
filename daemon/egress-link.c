/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-link.c - from the exchange to bulk lanes
 *
 * Theory of operation.  The dispatcher takes the next thing from the exchange, and has
 * it numbered (egress-link-frames.c); a lane that is free writes it (egress-link-
 * writer.c).  A lane whose line is slow is busy for longer and so carries fewer frames;
 * how many lanes there are is egress-link-lanes.c's to say.
 * The dispatcher may wait for the source, or for window, for as long as those please;
 * lanes that send again do not wait for it.
 *
 * A SYNC becomes an EPOCH_END with its own number.  exchange_synced() is called as
 * soon as it has that: the next to take must find the next epoch, and what order
 * is on the wire does not matter, for the far end closes an epoch by counting.
 * It also opens the marker gate of our own exchange, which concerns nobody: a
 * link reads the main stream ungated, the far end holds markers back.
 */
#include "daemon/egress-link.h"

#include "daemon/egress-link-frames.h"
#include "daemon/egress-link-lanes.h"
#include "daemon/link-path.h"
#include "daemon/link-watch.h"
#include "daemon/uuid.h"
#include "daemon/worker.h"

enum {
    QUEUE_PER_S = 20,           /* 50 ms of the rate */
    QUEUE_MIN = 1280 * 1024,    /* two whole packets, and something small */
    IN_HAND = 544 * 1024,       /* the packet that a lane is writing */
};

typedef struct {
    Egress base;
    Exchange *exchange;         /* constant, as all of these */
    LinkMain *main;
    Limiter *limiter;
    EgressLinkFrames *frames;
    EgressLinkLanes *lanes;
    LinkPacking packing;
    const ConfigPeer *peer;
    LinkWatch *watch;           /* NULL: none */
    GThread *dispatcher;
    MultifdGeometry geometry;   /* the dispatcher's */
    LinkReduction *reduction;   /* made by the dispatcher, then constant; NULL: none.
                                   Read and written atomically */
} EgressLink;

/* ---- the dispatcher ------------------------------------------------------------------ */

/* False: there will be nothing any more. */
static bool dispatch(EgressLink *self)
{
    Packet *packet = NULL;
    uint64_t epoch;
    ExchangeTake take = exchange_take(self->exchange, 0, &packet, &epoch);

    if (take == EXCHANGE_FAILED ||
        !egress_link_frames_add(self->frames,
                                take == EXCHANGE_PACKET ? packet : NULL, epoch)) {
        return false;
    }
    if (take == EXCHANGE_SYNC) {
        exchange_synced(self->exchange, 0);
    }
    return true;
}

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

/* False: failed. */
static bool make_reduction(EgressLink *self)
{
    LinkReductionSetup setup = {
        .page_size = self->geometry.page_size,
        .n_slots = MIN(self->packing.history / self->geometry.page_size,
                       (uint64_t)PAGE_HISTORY_SLOTS_MAX),
        .fixed = self->packing.fixed,
        .level = self->packing.level,
    };

    if (!self->packing.packed) {
        return true;
    }
    setup.blocks = exchange_wait_ramblocks(self->exchange);
    if (setup.blocks) {
        g_atomic_pointer_set(&self->reduction, link_reduction_new(&setup));
    }
    return setup.blocks != NULL;
}

static bool start(EgressLink *self)
{
    uint8_t uuid[MULTIFD_UUID_SIZE];
    unsigned channels_in;
    ExchangeMode mode = exchange_wait_decided(self->exchange, &channels_in,
                                              uuid);

    if (mode == EXCHANGE_UNDECIDED ||
        (mode == EXCHANGE_MULTIFD &&
         !exchange_wait_geometry(self->exchange, &self->geometry))) {
        return false;
    }
    tell_channels(self, mode == EXCHANGE_MULTIFD, channels_in, uuid);
    if (mode == EXCHANGE_MAIN_ONLY) {
        return false;       /* the lanes stay idle */
    }
    exchange_add_outs(self->exchange, 1, false);
    if (!make_reduction(self)) {
        return false;
    }
    egress_link_lanes_start(self->lanes, self->geometry.page_size,
                            self->reduction);
    return true;
}

static void *dispatcher_thread(void *data)
{
    EgressLink *self = data;

    if (start(self)) {
        while (dispatch(self)) {
        }
    }
    return NULL;
}

/* What waits here looks sent to the source QEMU, too: not more than the line takes in
 * a moment.  What lanes have in hand is of it: two have some in any case, and all have
 * while TCP keeps them from filling the line. */
static void size_queue(EgressLink *self)
{
    uint64_t rate = egress_link_frames_get_rate(self->frames);
    uint64_t in_hand = (uint64_t)IN_HAND *
                       egress_link_lanes_get_hungry(self->lanes);

    if (rate > 0) {
        exchange_set_queue(self->exchange, in_hand +
                           MAX(rate / QUEUE_PER_S, (uint64_t)QUEUE_MIN));
    }
}

/* In the main lane's reader. */
static bool on_ack(uint64_t bulk, uint64_t ahead, void *data, GError **error)
{
    EgressLink *self = data;
    bool ok = egress_link_frames_ack(self->frames, bulk, ahead, error);

    size_queue(self);
    return ok;
}

/* ---- watching over the lanes ------------------------------------------------------- */

static bool get_watched_main(EgressLink *self, LinkWatchLane *ret)
{
    StreamTcp tcp;

    *ret = (LinkWatchLane) { .up = false };
    if (link_main_get_tcp(self->main, &tcp, &ret->path)) {
        ret->up = true;
        ret->stuck_ms = tcp.stuck_ms;
        ret->patience_ms = tcp.rto_max_ms;
    }
    return true;
}

static bool get_watched(int lane, LinkWatchLane *ret, void *data)
{
    EgressLink *self = data;
    EgressLinkLane now;

    if (lane == LINK_WATCH_MAIN) {
        return get_watched_main(self, ret);
    }
    if (!egress_link_lanes_get_one(self->lanes, lane, &now)) {
        return false;
    }
    *ret = (LinkWatchLane) {
        .up = now.up,
        .path = now.path,
        .stuck_ms = now.stuck_ms,
        .patience_ms = now.rto_max_ms,
    };
    return true;
}

static void remake(int lane, bool home, void *data)
{
    EgressLink *self = data;

    if (lane == LINK_WATCH_MAIN) {
        link_main_break(self->main, g_error_new(
            STREAM_ERROR, STREAM_ERROR_IO, "TCP sends in vain on a path that is "
            "good"));
        return;
    }
    egress_link_lanes_remake(self->lanes, lane,
                             home ? link_path_get_count(self->peer) : 0);
}

/* Not while the guest stands still: what is left of it is to go at once. */
static bool may_move(void *data)
{
    EgressLink *self = data;
    g_autofree ExchangeSnapshot *now = g_new(ExchangeSnapshot, 1);

    exchange_get_snapshot(self->exchange, now);
    return !now->opaque && !now->shut && !now->postcopy;
}

static LinkWatch *make_watch(EgressLink *self)
{
    LinkWatchSetup setup = {
        .peer = self->peer,
        .get_lane = get_watched,
        .remake_lane = remake,
        .may_move = may_move,
        .data = self,
    };

    return link_watch_new(&setup);
}

/* ---- life ------------------------------------------------------------------------- */

static void shutdown_egress(Egress *egress)
{
    EgressLink *self = (EgressLink *)egress;

    if (self->watch) {
        link_watch_shutdown(self->watch);
    }
    if (self->limiter) {
        limiter_close(self->limiter);
    }
    egress_link_frames_stop(self->frames);
    egress_link_lanes_shutdown(self->lanes);
}

static void free_egress(Egress *egress)
{
    EgressLink *self = (EgressLink *)egress;

    link_watch_free(self->watch);
    link_main_set_ack_handler(self->main, NULL, NULL);
    g_thread_join(self->dispatcher);
    egress_link_lanes_free(self->lanes);
    egress_link_frames_free(self->frames);
    link_reduction_free(self->reduction);
    limiter_unref(self->limiter);
    g_free(self);
}

static uint64_t get_wire_bytes(Egress *egress)
{
    EgressLink *self = (EgressLink *)egress;

    return link_main_get_wire_bytes_out(self->main) +
           egress_link_lanes_get_wire_bytes(self->lanes);
}

unsigned egress_link_get_lanes(Egress *egress, EgressLinkLane *ret,
                               unsigned max)
{
    return egress_link_lanes_get(((EgressLink *)egress)->lanes, ret, max);
}

unsigned egress_link_get_lanes_wanted(Egress *egress)
{
    return egress_link_lanes_get_wanted(((EgressLink *)egress)->lanes);
}

uint64_t egress_link_get_handed_on(Egress *egress)
{
    return egress_link_frames_get_handed_on(((EgressLink *)egress)->frames);
}

uint64_t egress_link_get_window(Egress *egress)
{
    return egress_link_frames_get_window(((EgressLink *)egress)->frames);
}

uint64_t egress_link_get_in_flight(Egress *egress)
{
    return egress_link_frames_get_in_flight(((EgressLink *)egress)->frames);
}

uint64_t egress_link_get_resent_bytes(Egress *egress)
{
    return egress_link_frames_get_resent(((EgressLink *)egress)->frames);
}

bool egress_link_get_reduction(Egress *egress, LinkReductionCounts *ret)
{
    LinkReduction *reduction =
        g_atomic_pointer_get(&((EgressLink *)egress)->reduction);

    if (reduction) {
        link_reduction_get_counts(reduction, ret);
    }
    return reduction != NULL;
}

unsigned egress_link_get_down_ms(Egress *egress)
{
    return egress_link_lanes_get_down_ms(((EgressLink *)egress)->lanes);
}

static EgressLinkLanes *make_lanes(const EgressLink *self,
                                   const EgressLinkSetup *setup)
{
    EgressLinkWriterSetup lane = {
        .exchange = setup->exchange,
        .frames = self->frames,
        .limiter = setup->limiter,
        .connect = setup->connect,
        .connect_data = setup->connect_data,
    };

    return egress_link_lanes_new(&lane, setup->lanes, setup->generation,
                                 setup->lanes_max);
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
    self->limiter = setup->limiter ? limiter_ref(setup->limiter) : NULL;
    self->packing = setup->packing;
    self->peer = setup->peer;
    self->frames = egress_link_frames_new(setup->exchange, setup->window);
    self->lanes = make_lanes(self, setup);
    link_main_set_ack_handler(self->main, on_ack, self);
    self->dispatcher = worker_new("dispatcher", dispatcher_thread, self,
                                  exchange_get_cpu(self->exchange), NULL);
    self->watch = self->peer && setup->connect ? make_watch(self) : NULL;
    return &self->base;
}
