/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-link-frames.c - numbers, window, and what must be sent again
 *
 * A frame is in the table from its number on until it is acknowledged.  Until a lane
 * has it, it is in one of two queues: `fresh`, short, so that what is not on the wire
 * yet stays in the exchange; or `again`, in the order of numbers, because the far end
 * acknowledges in that order.
 *
 * To the exchange a packet is gone once it was written, as without resending: only
 * then more may come in.  What we keep beyond that is within the window.
 */
#include "daemon/egress-link-frames.h"

#include "daemon/flow-window.h"
#include "wire/error.h"

enum { FRESH_MAX = 2 };

struct EgressLinkFrames {
    Exchange *exchange;         /* constant; lent */
    uint64_t capacity;          /* constant: entries in table */
    uint64_t granted;           /* constant: bytes not acknowledged */

    GMutex lock;                /* guards all below; the exchange's is not taken
                                   under it */
    GCond room;                 /* for the next number */
    GCond work[LINK_LANES_MAX]; /* of each lane: a frame for it, or stopping */
    bool stopping;
    uint64_t epoch_frames;      /* of the epoch being sent */
    uint64_t next_number;
    uint64_t acked;
    uint64_t in_flight;         /* costs of acked to next_number */
    uint64_t ahead;             /* of it, what the peer says it has handed on: some
                                   frame below it is late */
    uint64_t handed_on;         /* bytes that it has ever handed on */
    uint64_t acked_bytes;       /* costs below acked */
    FlowWindow window;
    uint64_t resent_bytes;
    GQueue fresh, again;        /* of EgressLinkFrame */
    uint64_t waiting;           /* bit per lane that has nothing to write */
    uint64_t standing;          /* bit per lane that takes frames, and is not lost */
    unsigned n_lanes;           /* of these, the first ones that get any */
    EgressLinkFrame **table;    /* by number % capacity */
};

EgressLinkFrames *egress_link_frames_new(Exchange *exchange, uint64_t window)
{
    EgressLinkFrames *self = g_new0(EgressLinkFrames, 1);

    self->exchange = exchange;
    self->n_lanes = LINK_LANES_MAX;
    self->granted = window;
    flow_window_init(&self->window, window);
    /* Each costs that much at least; one is allowed in any case. */
    self->capacity = MIN(window / LINK_FRAME_OVERHEAD + 1,
                         (uint64_t)LINK_FRAMES_MAX);
    self->table = g_new0(EgressLinkFrame *, self->capacity);
    g_queue_init(&self->fresh);
    g_queue_init(&self->again);
    g_mutex_init(&self->lock);
    g_cond_init(&self->room);
    for (unsigned i = 0; i < LINK_LANES_MAX; i++) {
        g_cond_init(&self->work[i]);
    }
    return self;
}

/* With the lock held; true: it was the last reference. */
static bool drop_reference(EgressLinkFrame *frame)
{
    return --frame->refs == 0;
}

static void free_frame(EgressLinkFrames *self, EgressLinkFrame *frame)
{
    if (frame->packet && !frame->written) {
        exchange_done(self->exchange, 0, frame->packet);
    }
    packet_free(frame->packet);
    g_free(frame->body);
    g_free(frame);
}

void egress_link_frames_free(EgressLinkFrames *self)
{
    for (uint64_t n = self->acked; n < self->next_number; n++) {
        free_frame(self, self->table[n % self->capacity]);
    }
    g_queue_clear(&self->fresh);
    g_queue_clear(&self->again);
    for (unsigned i = 0; i < LINK_LANES_MAX; i++) {
        g_cond_clear(&self->work[i]);
    }
    g_cond_clear(&self->room);
    g_mutex_clear(&self->lock);
    g_free(self->table);
    g_free(self);
}

void egress_link_frames_stop(EgressLinkFrames *self)
{
    g_mutex_lock(&self->lock);
    self->stopping = true;
    g_cond_broadcast(&self->room);
    for (unsigned i = 0; i < LINK_LANES_MAX; i++) {
        g_cond_signal(&self->work[i]);
    }
    g_mutex_unlock(&self->lock);
}

/* ---- numbers --------------------------------------------------------------------- */

/* Type, length and epoch: what can be said before there is a number. */
static EgressLinkFrame *new_frame(Packet *packet, uint64_t epoch)
{
    EgressLinkFrame *self = g_new0(EgressLinkFrame, 1);

    self->refs = 1;
    self->frame.epoch = epoch;
    if (!packet) {
        self->frame.type = LINK_EPOCH_END;
        self->frame.length = LINK_EPOCH_END_SIZE;
        return self;
    }
    self->packet = packet_ref(packet);
    if (packet->kind == PACKET_DEVICE_STATE) {
        self->frame.type = LINK_DEVICE;
        self->frame.length = MULTIFD_DEVICE_HEADER_SIZE + packet->payload_len;
    } else {
        self->frame.type = LINK_PAGES;
        self->frame.length =
            link_pages_header_size(strlen(packet->header.ramblock),
                                   packet->header.normal_pages,
                                   packet->header.zero_pages) +
            packet->payload_len;
    }
    return self;
}

static bool has_window(EgressLinkFrames *self, uint64_t cost)
{
    if (self->in_flight == 0) {
        return true;
    }
    if (self->in_flight - self->ahead + cost > flow_window_get(&self->window)) {
        flow_window_note_full(&self->window);
        return false;
    }
    return self->in_flight + cost <= self->granted;
}

static bool has_room(EgressLinkFrames *self, uint64_t cost)
{
    return has_window(self, cost) &&
           self->next_number - self->acked < self->capacity &&
           self->fresh.length < FRESH_MAX;
}

/*
 * The one that is to take the next frame, and no other; having taken it, that wakes
 * the next one if there is more.
 */
static void wake_lane(EgressLinkFrames *self)
{
    if (self->waiting != 0) {
        g_cond_signal(&self->work[__builtin_ctzll(self->waiting)]);
    }
}

static void number_frame(EgressLinkFrames *self, EgressLinkFrame *frame)
{
    frame->frame.sequence = self->next_number++;
    frame->numbered_us = g_get_monotonic_time();
    frame->epoch_frames = self->epoch_frames;
    self->epoch_frames = frame->packet ? self->epoch_frames + 1 : 0;
    self->in_flight += frame->cost;
    self->table[frame->frame.sequence % self->capacity] = frame;
    g_queue_push_tail(&self->fresh, frame);
    wake_lane(self);
}

bool egress_link_frames_add(EgressLinkFrames *self, Packet *packet,
                            uint64_t epoch)
{
    EgressLinkFrame *frame = new_frame(packet, epoch);
    bool ok;

    /* Before it is packed, which does not change what it takes the peer to hold. */
    frame->cost = link_frame_cost(&frame->frame);
    g_mutex_lock(&self->lock);
    while (!self->stopping && !has_room(self, frame->cost)) {
        g_cond_wait(&self->room, &self->lock);
    }
    ok = !self->stopping;
    if (ok) {
        number_frame(self, frame);
    }
    g_mutex_unlock(&self->lock);
    if (!ok) {
        free_frame(self, frame);
    }
    return ok;
}

/* ---- handing out ------------------------------------------------------------------ */

static EgressLinkFrame *pop(EgressLinkFrames *self)
{
    EgressLinkFrame *frame = g_queue_pop_head(&self->again);

    if (frame) {
        frame->queued = false;
        if (frame->begun) {
            frame->frame.flags |= LINK_FLAG_RESENT;
            self->resent_bytes += LINK_HEADER_SIZE + frame->frame.length;
        }
        return frame;
    }
    frame = g_queue_pop_head(&self->fresh);
    if (frame) {
        g_cond_signal(&self->room);
    }
    return frame;
}

void egress_link_frames_set_lanes(EgressLinkFrames *self, unsigned n)
{
    g_mutex_lock(&self->lock);
    self->n_lanes = n;
    wake_lane(self);
    g_mutex_unlock(&self->lock);
}

/* The rest stand by, for one that is lost. */
static bool is_wanted(const EgressLinkFrames *self, uint64_t bit)
{
    return (unsigned)__builtin_popcountll(self->standing & (bit - 1)) <
           self->n_lanes;
}

/* Where there is less to send than lanes, always the same lanes send it: TCP forgets
 * what a connection carries that is idle every other moment. */
static bool is_first_waiting(const EgressLinkFrames *self, uint64_t bit)
{
    return (self->waiting & (bit - 1)) == 0;
}

EgressLinkFrame *egress_link_frames_take(EgressLinkFrames *self, unsigned lane,
                                         unsigned wait_ms)
{
    int64_t until_us = g_get_monotonic_time() + wait_ms * 1000LL;
    uint64_t bit = UINT64_C(1) << lane;
    EgressLinkFrame *frame = NULL;

    g_mutex_lock(&self->lock);
    self->waiting |= bit;
    self->standing |= bit;
    while (!self->stopping &&
           !(is_first_waiting(self, bit) && is_wanted(self, bit) &&
             (frame = pop(self))) &&
           g_cond_wait_until(&self->work[lane], &self->lock, until_us)) {
    }
    self->waiting &= ~bit;
    if (self->fresh.length > 0 || self->again.length > 0) {
        wake_lane(self);
    }
    if (frame) {
        frame->refs++;
        frame->lane = lane;
        frame->taken = frame->begun = true;
    }
    g_mutex_unlock(&self->lock);
    return frame;
}

/* Back from a lane. */
static void put_back(EgressLinkFrames *self, EgressLinkFrame *frame, bool whole)
{
    bool first, last;

    g_mutex_lock(&self->lock);
    first = whole && !frame->written && frame->packet;
    frame->taken = false;
    frame->written |= whole;
    g_mutex_unlock(&self->lock);
    /* The lane's reference still keeps it. */
    if (first) {
        exchange_done(self->exchange, 0, frame->packet);
        if (frame->body) {
            g_clear_pointer(&frame->packet, packet_free);
        }
    }
    g_mutex_lock(&self->lock);
    last = drop_reference(frame);
    g_mutex_unlock(&self->lock);
    if (last) {
        free_frame(self, frame);
    }
}

void egress_link_frames_written(EgressLinkFrames *self, EgressLinkFrame *frame)
{
    put_back(self, frame, true);
}

/* ---- sending again ------------------------------------------------------------------ */

static int compare_numbers(const void *a, const void *b, void *data)
{
    uint64_t left = ((const EgressLinkFrame *)a)->frame.sequence;
    uint64_t right = ((const EgressLinkFrame *)b)->frame.sequence;

    (void)data;
    return (left > right) - (left < right);
}

/* With the lock held. */
static void requeue(EgressLinkFrames *self, unsigned lane)
{
    for (uint64_t n = self->acked; n < self->next_number; n++) {
        EgressLinkFrame *frame = self->table[n % self->capacity];

        if (frame->begun && !frame->taken && !frame->queued &&
            frame->lane == lane) {
            frame->queued = true;
            g_queue_insert_sorted(&self->again, frame, compare_numbers, NULL);
        }
    }
    wake_lane(self);
}

bool egress_link_frames_is_idle(EgressLinkFrames *self, unsigned lane)
{
    bool idle = true;

    g_mutex_lock(&self->lock);
    for (uint64_t n = self->acked; idle && n < self->next_number; n++) {
        const EgressLinkFrame *frame = self->table[n % self->capacity];

        idle = !frame->begun || frame->queued || frame->lane != lane;
    }
    g_mutex_unlock(&self->lock);
    return idle;
}

void egress_link_frames_lost(EgressLinkFrames *self, unsigned lane,
                             EgressLinkFrame *frame)
{
    if (frame) {
        put_back(self, frame, false);
    }
    g_mutex_lock(&self->lock);
    self->standing &= ~(UINT64_C(1) << lane);
    requeue(self, lane);
    g_mutex_unlock(&self->lock);
}

/* ---- acknowledgement ----------------------------------------------------------------- */

static bool check_ack(EgressLinkFrames *self, uint64_t number, GError **error)
{
    const EgressLinkFrame *unsent = g_queue_peek_head(&self->fresh);
    uint64_t sent = unsent ? unsent->frame.sequence : self->next_number;

    if (number < self->acked || number > sent) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got ACK of bulk frames below %" G_GUINT64_FORMAT
                    ", allowed %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
                    number, self->acked, sent);
        return false;
    }
    return true;
}

/* With the lock held: out of table and queue; true: nobody has it any more. */
static bool forget_oldest(EgressLinkFrames *self, EgressLinkFrame **ret)
{
    EgressLinkFrame *frame = self->table[self->acked % self->capacity];

    if (frame->queued) {
        g_queue_remove(&self->again, frame);
        frame->queued = false;
    }
    self->in_flight -= frame->cost;
    self->acked_bytes += frame->cost;
    self->acked++;
    *ret = frame;
    return drop_reference(frame);
}

/*
 * With the lock held.  Lanes that are slow for a while hold back the number up to
 * which all is handed on, and the window that we may use; but not what is really
 * under way, which is measured.  @numbered_us: of the last frame acknowledged, or 0.
 */
static void measure(EgressLinkFrames *self, uint64_t ahead, int64_t numbered_us)
{
    int64_t now_us = g_get_monotonic_time();
    uint64_t handed_on;

    self->ahead = MIN(ahead, self->in_flight);
    handed_on = MAX(self->acked_bytes + self->ahead, self->handed_on);
    if (handed_on > self->handed_on) {
        flow_window_acked(&self->window, handed_on - self->handed_on,
                          numbered_us > 0 ? now_us - numbered_us : 0, now_us);
    }
    self->handed_on = handed_on;
}

bool egress_link_frames_ack(EgressLinkFrames *self, uint64_t number,
                            uint64_t ahead, GError **error)
{
    g_autoptr(GPtrArray) done = g_ptr_array_new();
    int64_t numbered_us = 0;
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_ack(self, number, error);
    while (ok && self->acked < number) {
        EgressLinkFrame *frame;

        numbered_us = self->table[self->acked % self->capacity]->numbered_us;
        if (forget_oldest(self, &frame)) {
            g_ptr_array_add(done, frame);
        }
    }
    if (ok) {
        measure(self, ahead, numbered_us);
    }
    g_cond_broadcast(&self->room);
    g_mutex_unlock(&self->lock);
    for (unsigned i = 0; i < done->len; i++) {
        free_frame(self, g_ptr_array_index(done, i));
    }
    return ok;
}

/* ---- looking ------------------------------------------------------------------------- */

uint64_t egress_link_frames_get_acked(EgressLinkFrames *self)
{
    uint64_t acked;

    g_mutex_lock(&self->lock);
    acked = self->acked;
    g_mutex_unlock(&self->lock);
    return acked;
}

uint64_t egress_link_frames_get_rate(EgressLinkFrames *self)
{
    uint64_t rate;

    g_mutex_lock(&self->lock);
    rate = flow_window_get_rate(&self->window);
    g_mutex_unlock(&self->lock);
    return rate;
}

uint64_t egress_link_frames_get_handed_on(EgressLinkFrames *self)
{
    uint64_t handed_on;

    g_mutex_lock(&self->lock);
    handed_on = self->handed_on;
    g_mutex_unlock(&self->lock);
    return handed_on;
}

uint64_t egress_link_frames_get_window(EgressLinkFrames *self)
{
    uint64_t window;

    g_mutex_lock(&self->lock);
    window = flow_window_get(&self->window);
    g_mutex_unlock(&self->lock);
    return window;
}

uint64_t egress_link_frames_get_in_flight(EgressLinkFrames *self)
{
    uint64_t in_flight;

    g_mutex_lock(&self->lock);
    in_flight = self->in_flight - self->ahead;
    g_mutex_unlock(&self->lock);
    return in_flight;
}

uint64_t egress_link_frames_get_resent(EgressLinkFrames *self)
{
    uint64_t resent;

    g_mutex_lock(&self->lock);
    resent = self->resent_bytes;
    g_mutex_unlock(&self->lock);
    return resent;
}
