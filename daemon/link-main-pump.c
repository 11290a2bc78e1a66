/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-main-pump.c - a stream's bytes from the exchange to the writer
 *
 * No more than one frame is pulled ahead of the writer: what we hold looks sent to
 * the source QEMU.
 */
#include "daemon/link-main-private.h"

/* How much may be pulled now; 0: the lane is over. */
static size_t wait_room(LinkMain *self, LinkMainOut *out)
{
    uint64_t room = 0;

    g_mutex_lock(&self->lock);
    while (!link_main_is_over(self)) {
        room = out->window - byte_ring_get_held(&out->kept);
        if (room > 0 && out->kept.in - out->next < LINK_STREAM_MAX) {
            break;
        }
        room = 0;
        g_cond_wait(&self->changed, &self->lock);
    }
    g_mutex_unlock(&self->lock);
    return MIN(room, LINK_STREAM_MAX);
}

static bool keep(LinkMain *self, LinkMainOut *out, const uint8_t *buf,
                 size_t len)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = !self->finished && !self->error;
    if (ok) {
        out->ended = len == 0;
        byte_ring_write(&out->kept, buf, len);
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
static void settle_return(LinkMain *self, LinkMainOut *out)
{
    ExchangeSnapshot snapshot;
    bool delivered;

    exchange_get_snapshot(self->exchange, &snapshot);
    if (!snapshot.shut) {
        return;
    }
    g_mutex_lock(&self->lock);
    while (!link_main_is_over(self) && byte_ring_get_held(&out->kept) > 0) {
        g_cond_wait(&self->changed, &self->lock);
    }
    delivered = byte_ring_get_held(&out->kept) == 0;
    g_mutex_unlock(&self->lock);
    if (delivered) {
        exchange_return_delivered(self->exchange);
    }
}

/* Source side: there is no exchange_main_delivered() for what the peer has
 * acknowledged, as nobody on this side waits for it. */
void *link_main_pump_thread(void *data)
{
    LinkMainOut *out = data;
    LinkMain *self = out->self;
    g_autofree uint8_t *buf = g_malloc(LINK_STREAM_MAX);
    size_t max;
    gssize n = 1;

    /* link_main_attach() holds it until all is set. */
    g_mutex_lock(&self->lock);
    g_mutex_unlock(&self->lock);
    while (n > 0 && (max = wait_room(self, out)) > 0) {
        n = out->stream->pull(self, buf, max);
        if (n < 0 || !keep(self, out, buf, n)) {
            break;
        }
        if (out->stream->type == LINK_RETURN) {
            settle_return(self, out);
        }
    }
    return NULL;
}
