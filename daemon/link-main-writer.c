/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-main-writer.c - what goes out on a main lane, and in which order
 *
 * After a resume the first frame is the ACK from which the peer goes on, and nothing
 * that is numbered follows before the peer's own has come.
 */
#include "daemon/link-main-private.h"

#include "daemon/link-lane.h"

enum { PING_MS = 1000 };

/* One frame on its way out. */
typedef struct {
    Stream *stream;                     /* lent; `writing` holds it in place */
    LinkFrame frame;
    GBytes *control;                    /* a reference */
    uint8_t ack[LINK_ACK_SIZE];
    const void *payload;
} Outgoing;

static void take_control(LinkMain *self, Outgoing *out)
{
    out->control = g_bytes_ref(g_queue_peek_nth(
        &self->control, self->control_next - self->control_acked));
    out->payload = g_bytes_get_data(out->control, NULL);
    out->frame = (LinkFrame) {
        .type = LINK_CONTROL,
        .length = g_bytes_get_size(out->control),
        .sequence = self->control_next++,
    };
    self->writing_control = true;
}

static void take_pong(LinkMain *self, Outgoing *out)
{
    self->pong_wanted = false;
    out->frame = (LinkFrame) { .type = LINK_PONG, .sequence = self->pong };
}

static void take_ack(const LinkAck *ack, Outgoing *out)
{
    link_ack_encode(ack, out->ack);
    out->payload = out->ack;
    out->frame = (LinkFrame) { .type = LINK_ACK, .length = LINK_ACK_SIZE };
}

static void take_ping(LinkMain *self, int64_t now_us, Outgoing *out)
{
    self->next_ping_us = now_us + MIN(PING_MS, self->dead_ms / 3) * 1000LL;
    out->frame = (LinkFrame) { .type = LINK_PING, .sequence = now_us };
}

/* What is sent again counts as well; it waited for the limiter the first time. */
static void note_sent(LinkMain *self, LinkMainOut *from, uint64_t end)
{
    uint64_t again = MIN(end, from->sent) - MIN(from->next, from->sent);

    self->resent_bytes += again;
    if (again > 0 && self->limiter) {
        limiter_charge(self->limiter, stream_wire_cost(self->stream, again));
    }
    from->next = end;
    from->sent = MAX(from->sent, end);
}

static bool try_take_stream(LinkMain *self, LinkMainOut *from, uint8_t *buf,
                            Outgoing *out)
{
    size_t len = MIN(from->kept.in - from->next, LINK_STREAM_MAX);
    bool end = from->ended && from->next + len == from->kept.in;

    if (len == 0 && (!end || from->end_written)) {
        return false;
    }
    byte_ring_peek(&from->kept, from->next, buf, len);
    out->payload = buf;
    out->frame = (LinkFrame) {
        .type = from->stream->type,
        .flags = end ? LINK_FLAG_END : 0,
        .length = len,
        .sequence = from->next,
    };
    from->end_written = end;
    note_sent(self, from, from->next + len);
    g_cond_broadcast(&self->changed);
    return true;
}

static bool try_take_streams(LinkMain *self, uint8_t *buf, Outgoing *out)
{
    for (unsigned i = 0; i < self->n_out; i++) {
        if (try_take_stream(self, &self->out[i], buf, out)) {
            return true;
        }
    }
    return false;
}

/* The most urgent one, if there is any. */
static bool try_take(LinkMain *self, uint8_t *buf, Outgoing *out)
{
    int64_t now_us = g_get_monotonic_time();

    if (self->first_ack_wanted) {
        self->first_ack_wanted = false;
        take_ack(&self->first_ack, out);
    } else if (self->synced && self->control_next - self->control_acked <
                               self->control.length) {
        take_control(self, out);
    } else if (self->pong_wanted) {
        take_pong(self, out);
    } else if (self->ack_wanted) {
        self->ack_wanted = false;
        take_ack(&self->ack, out);
    } else if (now_us >= self->next_ping_us && !self->closing) {
        take_ping(self, now_us, out);
    } else {
        return self->synced && try_take_streams(self, buf, out);
    }
    return true;
}

/* Waits for something to write; false: there will be nothing any more. */
static bool take(LinkMain *self, uint8_t *buf, Outgoing *out)
{
    bool found = false;

    *out = (Outgoing) { .payload = NULL };
    g_mutex_lock(&self->lock);
    while (!self->ended && !self->error &&
           !(found = self->up && try_take(self, buf, out)) && !self->closing) {
        if (self->up) {
            g_cond_wait_until(&self->changed, &self->lock, self->next_ping_us);
        } else {
            g_cond_wait(&self->changed, &self->lock);
        }
    }
    self->writing = found;
    out->stream = self->stream;
    g_mutex_unlock(&self->lock);
    return found;
}

static void write_out(LinkMain *self, Outgoing *out)
{
    struct iovec piece = { (void *)out->payload, out->frame.length };
    GError *error = NULL;

    if (!link_lane_write(out->stream, NULL, &out->frame, &piece,
                         out->frame.length > 0, &error)) {
        link_main_lose(self, error);
    }
    g_clear_pointer(&out->control, g_bytes_unref);
    g_mutex_lock(&self->lock);
    self->writing = self->writing_control = false;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
}

/* The end of our direction, if there is a connection to tell it on. */
static void finish(LinkMain *self)
{
    Stream *stream = NULL;

    g_mutex_lock(&self->lock);
    if (self->up && !self->error) {
        self->writing = true;
        stream = self->stream;
    }
    g_mutex_unlock(&self->lock);
    if (stream) {
        stream_finish(stream);
    }
    g_mutex_lock(&self->lock);
    self->writing = false;
    self->finished = true;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
}

void *link_main_writer_thread(void *data)
{
    LinkMain *self = data;
    g_autofree uint8_t *buf = g_malloc(LINK_STREAM_MAX);
    Outgoing out;

    while (take(self, buf, &out)) {
        write_out(self, &out);
    }
    finish(self);
    return NULL;
}
