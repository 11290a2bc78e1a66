/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/ingress-link-receipts.c - numbers, window and epochs of what came
 *
 * Theory of operation.  A frame costs window from its header on until its number
 * and all below are handed on; the sender counts it for longer than that, so
 * whoever we find above the window has broken the rule.
 *
 * A number is admitted by its header, and by the header alone once: what was admitted
 * and then did not come whole (its lane died) is taken back, as if it had not been
 * seen.  The sender sends it again, marked, and perhaps before we have noticed that
 * the old lane is dead; so a marked copy ends the lane that is still reading the
 * number.  What has come whole is read and dropped when it comes again.  Once there
 * was a marked frame, one without mark can be late too: the original may still lie
 * in the kernel when the copy is already handed on.
 *
 * An epoch is closed when all below are, its EPOCH_END has come, and as many
 * frames as that says have been pushed (not just admitted: a SYNC must not
 * overtake a packet that a lane is still reading).  Whoever completes one closes
 * it and all that follow, without the lock; `closing` keeps it to one thread, and
 * thereby in order.
 *
 * How far ahead an epoch may be needs no limit of its own: each epoch in between
 * has at least one frame, its EPOCH_END, with a lower number, so the limit on
 * numbers is one on epochs.  An honest sender can come that far, when the
 * EPOCH_END of the open epoch is on a slow lane.
 */
#include "daemon/ingress-link-receipts.h"

#include "wire/error.h"

typedef struct {
    uint64_t epoch;             /* the key */
    uint64_t admitted;          /* PAGES and DEVICE frames whose header came */
    uint64_t pushed;            /* of them: are in the exchange */
    bool end_admitted;
    bool told;                  /* EPOCH_END came, and said: */
    uint64_t expected;
    uint64_t end_number;        /* EPOCH_END's own frame number */
} Epoch;

struct IngressLinkReceipts {
    gatomicrefcount refs;
    Exchange *exchange;         /* constant; lent until closed */
    uint64_t window;            /* constant */

    GMutex lock;                /* guards all below; a leaf */
    GCond idle;                 /* calls has become 0 */
    GCond released;             /* a number is not being read any more */
    GHashTable *reading;        /* its number -> the Stream it comes on */
    bool resending;             /* a marked frame has come */
    uint64_t dropped_bytes;     /* of copies */
    LinkMain *main;             /* NULL: closed */
    unsigned calls;             /* threads that are calling `main` */
    LinkWindow numbers;
    uint64_t held;              /* cost of what came from numbers.base on */
    uint64_t ahead;             /* of it, what is handed on: some below is not */
    uint32_t costs[LINK_FRAMES_MAX];    /* by number % LINK_FRAMES_MAX */
    uint64_t open;              /* the epoch that is not closed yet */
    bool closing;
    GHashTable *epochs;         /* of those that something came of */
};

IngressLinkReceipts *ingress_link_receipts_new(Exchange *exchange,
                                               LinkMain *main, uint64_t window)
{
    IngressLinkReceipts *self = g_new0(IngressLinkReceipts, 1);

    g_atomic_ref_count_init(&self->refs);
    self->exchange = exchange;
    self->main = main;
    self->window = window;
    g_mutex_init(&self->lock);
    g_cond_init(&self->idle);
    g_cond_init(&self->released);
    self->reading = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                          NULL);
    link_window_init(&self->numbers);
    self->epochs = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                         g_free);
    return self;
}

void ingress_link_receipts_close(IngressLinkReceipts *self)
{
    g_mutex_lock(&self->lock);
    self->main = NULL;
    while (self->calls > 0) {
        g_cond_wait(&self->idle, &self->lock);
    }
    g_mutex_unlock(&self->lock);
}

void ingress_link_receipts_unref(IngressLinkReceipts *self)
{
    if (self && g_atomic_ref_count_dec(&self->refs)) {
        g_hash_table_unref(self->epochs);
        g_hash_table_unref(self->reading);
        g_cond_clear(&self->released);
        g_cond_clear(&self->idle);
        g_mutex_clear(&self->lock);
        g_free(self);
    }
}

/* ---- admitting ------------------------------------------------------------------ */

static bool refuse_epoch(const LinkFrame *frame, const char *why,
                         uint64_t value, GError **error)
{
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "link %s frame %" G_GUINT64_FORMAT ": got epoch %"
                G_GUINT64_FORMAT ", %s %" G_GUINT64_FORMAT,
                link_frame_type_name(frame->type), frame->sequence,
                frame->epoch, why, value);
    return false;
}

static bool check_window(IngressLinkReceipts *self, const LinkFrame *frame,
                         GError **error)
{
    uint64_t cost = link_frame_cost(frame);

    if (self->held > 0 && self->held + cost > self->window) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link %s frame %" G_GUINT64_FORMAT ": got %"
                    G_GUINT64_FORMAT " bytes not acknowledged, allowed %"
                    G_GUINT64_FORMAT, link_frame_type_name(frame->type),
                    frame->sequence, self->held + cost, self->window);
        return false;
    }
    return true;
}

static bool check_epoch(IngressLinkReceipts *self, const LinkFrame *frame,
                        GError **error)
{
    if (frame->epoch < self->open) {
        return refuse_epoch(frame, "allowed from the open epoch on, which is",
                            self->open, error);
    }
    if (frame->epoch - self->open >= LINK_FRAMES_MAX) {
        return refuse_epoch(frame, "allowed below",
                            self->open + LINK_FRAMES_MAX, error);
    }
    if (frame->epoch == 0 && frame->type != LINK_EPOCH_END) {
        /* The destination has no RAM block list before SYNC 1. */
        return refuse_epoch(frame, "data is allowed from epoch", 1, error);
    }
    return true;
}

static Epoch *get_epoch(IngressLinkReceipts *self, uint64_t number)
{
    Epoch *epoch = g_hash_table_lookup(self->epochs, &number);

    if (!epoch) {
        epoch = g_new0(Epoch, 1);
        epoch->epoch = number;
        g_hash_table_insert(self->epochs, &epoch->epoch, epoch);
    }
    return epoch;
}

static bool count_frame(IngressLinkReceipts *self, const LinkFrame *frame,
                        GError **error)
{
    Epoch *epoch = get_epoch(self, frame->epoch);

    if (frame->type == LINK_EPOCH_END) {
        if (epoch->end_admitted) {
            return refuse_epoch(frame, "EPOCH_END frames allowed for each:", 1,
                                error);
        }
        epoch->end_admitted = true;
        return true;
    }
    if (epoch->told && epoch->admitted >= epoch->expected) {
        return refuse_epoch(frame, "whose EPOCH_END said frames:",
                            epoch->expected, error);
    }
    epoch->admitted++;
    return true;
}

static bool admit_new(IngressLinkReceipts *self, const LinkFrame *frame,
                      Stream *stream, GError **error)
{
    uint64_t cost = link_frame_cost(frame);

    if (!link_window_receive(&self->numbers, frame->sequence, error) ||
        !check_window(self, frame, error) || !check_epoch(self, frame, error) ||
        !count_frame(self, frame, error)) {
        return false;
    }
    self->costs[frame->sequence % LINK_FRAMES_MAX] = cost;
    self->held += cost;
    g_hash_table_insert(self->reading,
                        g_memdup2(&frame->sequence, sizeof(frame->sequence)),
                        stream);
    return true;
}

/* The lane that is still reading the original is dead, or as good as that. */
static void take_from_reader(IngressLinkReceipts *self, uint64_t number)
{
    Stream *reader;

    while ((reader = g_hash_table_lookup(self->reading, &number))) {
        stream_shutdown(reader);
        g_cond_wait(&self->released, &self->lock);
    }
}

static bool is_copy(IngressLinkReceipts *self, const LinkFrame *frame)
{
    if (frame->flags & LINK_FLAG_RESENT) {
        self->resending = true;
        take_from_reader(self, frame->sequence);
    }
    return self->resending && link_window_has(&self->numbers, frame->sequence);
}

bool ingress_link_receipts_admit(IngressLinkReceipts *self,
                                 const LinkFrame *frame, Stream *stream,
                                 bool *ret_copy, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    *ret_copy = is_copy(self, frame);
    self->dropped_bytes += *ret_copy ? LINK_HEADER_SIZE + frame->length : 0;
    ok = *ret_copy || admit_new(self, frame, stream, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

/* With the lock held. */
static void release(IngressLinkReceipts *self, uint64_t number)
{
    g_hash_table_remove(self->reading, &number);
    g_cond_broadcast(&self->released);
}

void ingress_link_receipts_abandon(IngressLinkReceipts *self,
                                   const LinkFrame *frame, const Stream *stream)
{
    Epoch *epoch;

    g_mutex_lock(&self->lock);
    if (g_hash_table_lookup(self->reading, &frame->sequence) == stream) {
        epoch = get_epoch(self, frame->epoch);
        if (frame->type == LINK_EPOCH_END) {
            epoch->end_admitted = false;
        } else {
            epoch->admitted--;
        }
        self->held -= self->costs[frame->sequence % LINK_FRAMES_MAX];
        link_window_forget(&self->numbers, frame->sequence);
        release(self, frame->sequence);
    }
    g_mutex_unlock(&self->lock);
}

uint64_t ingress_link_receipts_get_dropped(IngressLinkReceipts *self)
{
    uint64_t bytes;

    g_mutex_lock(&self->lock);
    bytes = self->dropped_bytes;
    g_mutex_unlock(&self->lock);
    return bytes;
}

/* ---- handing on ------------------------------------------------------------------ */

/* With the lock held. */
static void hand_on_locked(IngressLinkReceipts *self, uint64_t number)
{
    uint64_t before = self->numbers.base;

    self->ahead += self->costs[number % LINK_FRAMES_MAX];
    if (!link_window_hand_on(&self->numbers, number)) {
        return;
    }
    for (uint64_t n = before; n < self->numbers.base; n++) {
        self->held -= self->costs[n % LINK_FRAMES_MAX];
        self->ahead -= self->costs[n % LINK_FRAMES_MAX];
    }
}

static void hand_on(IngressLinkReceipts *self, uint64_t number)
{
    LinkMain *main;
    uint64_t base, ahead;

    g_mutex_lock(&self->lock);
    hand_on_locked(self, number);
    main = self->main;
    base = self->numbers.base;
    ahead = self->ahead;
    self->calls += main != NULL;
    g_mutex_unlock(&self->lock);
    if (!main) {
        return;
    }
    link_main_ack_bulk(main, base, ahead);
    g_mutex_lock(&self->lock);
    if (--self->calls == 0) {
        g_cond_broadcast(&self->idle);
    }
    g_mutex_unlock(&self->lock);
}

static void on_packet_freed(const Packet *packet, void *data)
{
    IngressLinkReceipts *self = data;

    hand_on(self, packet->sequence);
    ingress_link_receipts_unref(self);
}

/* ---- epochs ----------------------------------------------------------------------- */

/* With the lock held: the open epoch, if nothing of it is missing. */
static Epoch *find_complete(IngressLinkReceipts *self)
{
    Epoch *epoch = g_hash_table_lookup(self->epochs, &self->open);

    return epoch && epoch->told && epoch->pushed == epoch->expected ? epoch
                                                                    : NULL;
}

static void close_epochs(IngressLinkReceipts *self)
{
    Epoch *epoch;

    g_mutex_lock(&self->lock);
    while (!self->closing && (epoch = find_complete(self))) {
        uint64_t end_number = epoch->end_number;
        uint64_t number = self->open;

        g_hash_table_remove(self->epochs, &self->open);
        self->open++;
        self->closing = true;
        g_mutex_unlock(&self->lock);

        exchange_close_epoch(self->exchange, number);
        hand_on(self, end_number);

        g_mutex_lock(&self->lock);
        self->closing = false;
    }
    g_mutex_unlock(&self->lock);
}

static void count_pushed(IngressLinkReceipts *self, uint64_t number)
{
    g_mutex_lock(&self->lock);
    get_epoch(self, number)->pushed++;
    g_mutex_unlock(&self->lock);
    close_epochs(self);
}

bool ingress_link_receipts_push(IngressLinkReceipts *self,
                                const LinkFrame *frame, Packet *packet)
{
    g_mutex_lock(&self->lock);
    release(self, frame->sequence);
    g_mutex_unlock(&self->lock);
    packet->sequence = frame->sequence;
    packet->done = on_packet_freed;
    packet->done_data = self;
    g_atomic_ref_count_inc(&self->refs);
    if (!exchange_push_epoch(self->exchange, frame->epoch, packet)) {
        return false;
    }
    count_pushed(self, frame->epoch);
    return true;
}

bool ingress_link_receipts_epoch_end(IngressLinkReceipts *self,
                                     const LinkFrame *frame, uint64_t frames,
                                     GError **error)
{
    Epoch *epoch;
    bool ok;

    g_mutex_lock(&self->lock);
    release(self, frame->sequence);
    epoch = get_epoch(self, frame->epoch);
    ok = epoch->admitted <= frames;
    if (ok) {
        epoch->told = true;
        epoch->expected = frames;
        epoch->end_number = frame->sequence;
    } else {
        refuse_epoch(frame, "with fewer frames than came already:",
                     epoch->admitted, error);
    }
    g_mutex_unlock(&self->lock);
    close_epochs(self);
    return ok;
}
