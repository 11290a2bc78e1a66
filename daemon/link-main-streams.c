/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-main-streams.h"

#include "daemon/link-main-private.h"

/* ---- main channel ---------------------------------------------------------------- */

static size_t get_wire_cost(LinkMain *self, size_t len)
{
    size_t cost;

    g_mutex_lock(&self->lock);
    cost = stream_wire_cost(self->stream, len);
    g_mutex_unlock(&self->lock);
    return cost;
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
    cost = get_wire_cost(self, LINK_HEADER_SIZE + n);
    if (waits) {
        return limiter_acquire(limiter, cost) ? n : -1;
    }
    limiter_charge(limiter, cost);
    return n;
}

static bool push_main(LinkMain *self, const uint8_t *buf, size_t len)
{
    return exchange_main_push(self->exchange, buf, len);
}

static void end_main(LinkMain *self)
{
    exchange_main_end(self->exchange);
}

static uint64_t *get_main_ack(LinkAck *ack)
{
    return &ack->main_offset;
}

/* ---- preempt channel -------------------------------------------------------------- */

/* Pages that the guest waits for: they count, and never wait. */
static gssize pull_preempt(LinkMain *self, uint8_t *buf, size_t max)
{
    gssize n = exchange_preempt_pull(self->exchange, buf, max);

    if (n > 0 && self->limiter) {
        limiter_charge(self->limiter,
                       get_wire_cost(self, LINK_HEADER_SIZE + n));
    }
    return n;
}

static bool push_preempt(LinkMain *self, const uint8_t *buf, size_t len)
{
    return exchange_preempt_push(self->exchange, buf, len);
}

static void end_preempt(LinkMain *self)
{
    exchange_preempt_end(self->exchange);
}

static uint64_t *get_preempt_ack(LinkAck *ack)
{
    return &ack->preempt_offset;
}

static uint64_t get_preempt_window(const LinkMainFlow *flow, bool sending)
{
    (void)sending;
    return flow->preempt_window;
}

/* ---- return path ------------------------------------------------------------------ */

static gssize pull_return(LinkMain *self, uint8_t *buf, size_t max)
{
    return exchange_return_pull(self->exchange, buf, max);
}

static bool push_return(LinkMain *self, const uint8_t *buf, size_t len)
{
    return exchange_return_push(self->exchange, buf, len);
}

static void end_return(LinkMain *self)
{
    exchange_return_end(self->exchange);
}

static uint64_t *get_return_ack(LinkAck *ack)
{
    return &ack->return_offset;
}

static uint64_t get_one_way_window(const LinkMainFlow *flow, bool sending)
{
    return sending ? flow->send_window : flow->receive_window;
}

/* ---- the table --------------------------------------------------------------------- */

/* The most urgent first. */
static const LinkMainStream streams[] = {
    { LINK_PREEMPT, true, pull_preempt, push_preempt, end_preempt,
      get_preempt_ack, get_preempt_window },
    { LINK_MAIN, true, pull_main, push_main, end_main, get_main_ack,
      get_one_way_window },
    { LINK_RETURN, false, pull_return, push_return, end_return, get_return_ack,
      get_one_way_window },
};
G_STATIC_ASSERT(G_N_ELEMENTS(streams) <= LINK_MAIN_STREAMS);

unsigned link_main_streams_find(bool source_side, bool sending,
                                const LinkMainFlow *flow,
                                const LinkMainStream *ret[LINK_MAIN_STREAMS])
{
    unsigned n = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(streams); i++) {
        if (streams[i].from_source == (source_side == sending) &&
            streams[i].get_window(flow, sending) > 0) {
            ret[n++] = &streams[i];
        }
    }
    return n;
}
