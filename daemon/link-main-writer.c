/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-main-writer.c - what goes out on a main lane, and in which order
 *
 * Pump and writer have a buffer each and pass one between them, so that the next
 * bytes are fetched while the last ones are written.
 */
#include "daemon/link-main-private.h"

#include "daemon/link-lane.h"

enum { PING_MS = 1000 };

/* One frame on its way out. */
typedef struct {
    LinkFrame frame;
    GBytes *control;                    /* owned */
    uint8_t ack[LINK_ACK_SIZE];
    const void *payload;
} Outgoing;

/* ---- writer ------------------------------------------------------------------ */

static void take_control(LinkMain *self, Outgoing *out)
{
    out->control = g_queue_pop_head(&self->control);
    out->payload = g_bytes_get_data(out->control, NULL);
    out->frame = (LinkFrame) {
        .type = LINK_CONTROL,
        .length = g_bytes_get_size(out->control),
        .sequence = self->control_out++,
    };
    self->writing_control = true;
}

static void take_pong(LinkMain *self, Outgoing *out)
{
    self->pong_wanted = false;
    out->frame = (LinkFrame) { .type = LINK_PONG, .sequence = self->pong };
}

static void take_ack(LinkMain *self, Outgoing *out)
{
    self->ack_wanted = false;
    link_ack_encode(&self->ack, out->ack);
    out->payload = out->ack;
    out->frame = (LinkFrame) { .type = LINK_ACK, .length = LINK_ACK_SIZE };
}

static void take_ping(LinkMain *self, int64_t now_us, Outgoing *out)
{
    self->next_ping_us = now_us + MIN(PING_MS, self->dead_ms / 3) * 1000LL;
    out->frame = (LinkFrame) { .type = LINK_PING, .sequence = now_us };
}

/* *@buf changes places with the pump's. */
static void take_stream(LinkMain *self, uint8_t **buf, Outgoing *out)
{
    uint8_t *full = self->frame;

    self->frame = *buf;
    *buf = full;
    self->frame_full = false;
    g_cond_broadcast(&self->changed);
    out->payload = full;
    out->frame = (LinkFrame) {
        .type = self->source_side ? LINK_MAIN : LINK_RETURN,
        .flags = self->frame_len == 0 ? LINK_FLAG_END : 0,
        .length = self->frame_len,
        .sequence = self->frame_offset,
    };
}

/* The most urgent one, if there is any. */
static bool try_take(LinkMain *self, uint8_t **buf, Outgoing *out)
{
    int64_t now_us = g_get_monotonic_time();

    if (!g_queue_is_empty(&self->control)) {
        take_control(self, out);
    } else if (self->pong_wanted) {
        take_pong(self, out);
    } else if (self->ack_wanted) {
        take_ack(self, out);
    } else if (now_us >= self->next_ping_us && !self->closing) {
        take_ping(self, now_us, out);
    } else if (self->frame_full) {
        take_stream(self, buf, out);
    } else {
        return false;
    }
    return true;
}

/* Waits for something to write; false: there will be nothing any more. */
static bool take(LinkMain *self, uint8_t **buf, Outgoing *out)
{
    bool found = false;

    *out = (Outgoing) { .payload = NULL };
    g_mutex_lock(&self->lock);
    while (!self->ended && !self->error &&
           !(found = try_take(self, buf, out)) && !self->closing) {
        g_cond_wait_until(&self->changed, &self->lock, self->next_ping_us);
    }
    g_mutex_unlock(&self->lock);
    return found;
}

static bool write_out(LinkMain *self, Outgoing *out, GError **error)
{
    struct iovec piece = { (void *)out->payload, out->frame.length };
    bool ok = link_lane_write(self->stream, NULL, &out->frame, &piece,
                              out->frame.length > 0, error);

    if (out->control) {
        g_bytes_unref(out->control);
        g_mutex_lock(&self->lock);
        self->writing_control = false;
        g_cond_broadcast(&self->changed);
        g_mutex_unlock(&self->lock);
    }
    return ok;
}

void *link_main_writer_thread(void *data)
{
    LinkMain *self = data;
    g_autofree uint8_t *buf = g_malloc(LINK_STREAM_MAX);
    GError *error = NULL;
    Outgoing out;

    while (!error && take(self, &buf, &out)) {
        if (!write_out(self, &out, &error)) {
            link_main_fail(self, g_error_copy(error));
        }
    }
    if (!error) {
        stream_finish(self->stream);
    }
    g_clear_error(&error);
    g_mutex_lock(&self->lock);
    self->finished = true;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    return NULL;
}

/* ---- pump -------------------------------------------------------------------- */

/* How much the peer has room for; 0: the lane is over. */
static size_t wait_window(LinkMain *self)
{
    uint64_t room = 0;

    g_mutex_lock(&self->lock);
    while (!link_main_is_over(self) &&
           self->sent - self->acked >= self->send_window) {
        g_cond_wait(&self->changed, &self->lock);
    }
    if (!link_main_is_over(self)) {
        room = self->send_window - (self->sent - self->acked);
    }
    g_mutex_unlock(&self->lock);
    return MIN(room, LINK_STREAM_MAX);
}

/* Pages wait for the limiter, in portions it likes; the rest counts only. */
static gssize pull_main(LinkMain *self, uint8_t *buf, size_t max)
{
    Limiter *limiter = self->limiter;
    bool waits = limiter && exchange_has_pages_on_main(self->exchange);
    size_t cost;
    gssize n;

    if (waits) {
        max = MIN(max, limiter_get_quantum(limiter));
    }
    n = exchange_main_pull(self->exchange, buf, max, false);
    if (n <= 0 || !limiter) {
        return n;
    }
    cost = stream_wire_cost(self->stream, LINK_HEADER_SIZE + n);
    if (waits) {
        return limiter_acquire(limiter, cost) ? n : -1;
    }
    limiter_charge(limiter, cost);
    return n;
}

static bool give_to_writer(LinkMain *self, uint8_t **buf, size_t len)
{
    uint8_t *empty;
    bool ok;

    g_mutex_lock(&self->lock);
    while (self->frame_full && !self->finished && !self->error) {
        g_cond_wait(&self->changed, &self->lock);
    }
    ok = !self->finished && !self->error;
    if (ok) {
        empty = self->frame;
        self->frame = *buf;
        *buf = empty;
        self->frame_len = len;
        self->frame_offset = self->sent;
        self->frame_full = true;
        self->sent += len;
        g_cond_broadcast(&self->changed);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

/*
 * SHUT counts as delivered only when the far end has written it to the source
 * QEMU.  Here, in the only thread that pulls, because the exchange takes all that
 * was pulled for delivered; and only after SHUT, because before it nobody asks
 * and a round trip for each answer of the destination would be dear.
 */
static void settle_return(LinkMain *self)
{
    ExchangeSnapshot snapshot;
    bool delivered;

    exchange_get_snapshot(self->exchange, &snapshot);
    if (!snapshot.shut) {
        return;
    }
    g_mutex_lock(&self->lock);
    while (!link_main_is_over(self) && self->acked < self->sent) {
        g_cond_wait(&self->changed, &self->lock);
    }
    delivered = self->acked == self->sent;
    g_mutex_unlock(&self->lock);
    if (delivered) {
        exchange_return_delivered(self->exchange);
    }
}

/* Source side: there is no exchange_main_delivered() for what the peer has
 * acknowledged, as nobody on this side waits for it. */
void *link_main_pump_thread(void *data)
{
    LinkMain *self = data;
    g_autofree uint8_t *buf = g_malloc(LINK_STREAM_MAX);
    size_t max;
    gssize n = 1;

    /* link_main_attach() holds it until all is set. */
    g_mutex_lock(&self->lock);
    g_mutex_unlock(&self->lock);
    while (n > 0 && (max = wait_window(self)) > 0) {
        n = self->source_side ? pull_main(self, buf, max)
                              : exchange_return_pull(self->exchange, buf, max);
        if (n < 0 || !give_to_writer(self, &buf, n)) {
            break;
        }
        if (!self->source_side) {
            settle_return(self);
        }
    }
    return NULL;
}
