/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/exchange-preempt.c - postcopy's preempt channel through the exchange
 *
 * A byte stream beside the main stream, one way, for the pages that the
 * destination has asked for.  Nothing in it is held back, and what is looked at is
 * only counted.  Few bytes are ever in it: the source writes one host page for each
 * request.
 */
#include "daemon/exchange-private.h"

/* A silent connection of the source could be one of these, or nothing else. */
static bool is_possible(const Exchange *self)
{
    return self->advised &&
           (self->mode == EXCHANGE_MAIN_ONLY ||
            (self->mode == EXCHANGE_MULTIFD && self->settled));
}

bool exchange_preempt_is_possible(Exchange *self)
{
    bool possible;

    g_mutex_lock(&self->lock);
    possible = is_possible(self) && !exchange_is_over(self);
    g_mutex_unlock(&self->lock);
    return possible;
}

PreemptStart exchange_preempt_judge(Exchange *self, const uint8_t *buf,
                                    size_t len)
{
    PreemptStart verdict;

    g_mutex_lock(&self->lock);
    verdict = preempt_start_judge(buf, len, self->ramblocks
                                  ? main_stream_get_ramblocks(self->main)
                                  : NULL);
    g_mutex_unlock(&self->lock);
    return verdict;
}

void exchange_preempt_expect(Exchange *self)
{
    bool first;

    g_mutex_lock(&self->lock);
    first = !self->preempt_expected;
    self->preempt_expected = true;
    g_cond_broadcast(&self->state);
    g_mutex_unlock(&self->lock);
    if (first) {
        exchange_notify(self, EXCHANGE_EVENT_PREEMPT);
    }
}

bool exchange_preempt_wait_expected(Exchange *self)
{
    bool expected;

    g_mutex_lock(&self->lock);
    while (!exchange_is_over(self) && !self->preempt_expected) {
        g_cond_wait(&self->state, &self->lock);
    }
    expected = !exchange_is_over(self);
    g_mutex_unlock(&self->lock);
    return expected;
}

static void tell_page(const Ramblock *block, uint64_t offset, bool zero,
                      void *data)
{
    Exchange *self = data;

    traffic_note_preempt_page(self->traffic, self->markers_seen, block->name,
                              offset, zero);
}

/* Of a migration that is recovered the blocks are not known. */
static void look_at(Exchange *self, const uint8_t *buf, size_t len)
{
    if (self->ramblocks && self->configured) {
        preempt_stream_feed(&self->preempt_stream, buf, len,
                            main_stream_get_ramblocks(self->main),
                            self->geometry.page_size, tell_page, self);
    } else {
        self->preempt_stream.state = PREEMPT_STREAM_LOST;
    }
}

bool exchange_preempt_push(Exchange *self, const uint8_t *buf, size_t len)
{
    bool ok = true;

    g_mutex_lock(&self->lock);
    while (ok && len > 0) {
        size_t n;

        while (!exchange_is_over(self) &&
               byte_ring_get_space(&self->preempt_ring) == 0) {
            g_cond_wait(&self->preempt_space, &self->lock);
        }
        ok = !exchange_is_over(self);
        if (ok) {
            n = byte_ring_write(&self->preempt_ring, buf, len);
            look_at(self, buf, n);
            buf += n;
            len -= n;
            g_cond_signal(&self->preempt_data);
        }
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

void exchange_preempt_end(Exchange *self)
{
    g_mutex_lock(&self->lock);
    self->preempt_ended = true;
    g_cond_broadcast(&self->preempt_data);
    g_mutex_unlock(&self->lock);
}

gssize exchange_preempt_pull(Exchange *self, uint8_t *buf, size_t max)
{
    gssize n = -1;

    g_mutex_lock(&self->lock);
    while (!exchange_is_over(self)) {
        if (byte_ring_get_held(&self->preempt_ring) > 0) {
            n = byte_ring_read(&self->preempt_ring, buf, max);
            g_cond_signal(&self->preempt_space);
            break;
        }
        if (self->preempt_ended) {
            n = 0;
            break;
        }
        g_cond_wait(&self->preempt_data, &self->lock);
    }
    g_mutex_unlock(&self->lock);
    return n;
}

void exchange_preempt_delivered(Exchange *self)
{
    uint64_t main_offset, return_offset;

    g_mutex_lock(&self->lock);
    self->stats.preempt_delivered = self->preempt_ring.out;
    main_offset = self->stats.main_delivered;
    return_offset = self->stats.return_delivered;
    g_mutex_unlock(&self->lock);
    exchange_call_delivery_hook(self, main_offset, return_offset);
}

uint64_t exchange_preempt_get_delivered(Exchange *self)
{
    uint64_t offset;

    g_mutex_lock(&self->lock);
    offset = self->stats.preempt_delivered;
    g_mutex_unlock(&self->lock);
    return offset;
}
