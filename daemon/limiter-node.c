/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * A bucket is one number: the time at which everything sent so far is paid for
 * at the node's rate.  A request may go once that time has come, and moves it on
 * by its own cost.  The time may lie up to CREDIT_NS in the past, which lets a
 * sender that woke late catch up; but with the request no more than BURST_NS, which
 * bounds what can go at once.  Costs are divided in integers and the remainder is
 * carried, so nothing drifts.
 *
 * Turns among siblings are start-time fair queueing (Goyal, Vin, Cheng 1996): a
 * request starts, in its parent's virtual time, where the node's last one ended
 * or where the parent is now, and ends bytes/weight later; the smallest start
 * goes next.  A child whose own bucket is empty is passed over; when it comes
 * back it starts from the present, and is not paid for the turns it missed.
 */
#include "daemon/limiter-node.h"

#include <glib.h>

#define NS_PER_S UINT64_C(1000000000)
#define BURST_NS INT64_C(10000000)
/* What a quantum of 2.5 ms leaves of that. */
#define CREDIT_NS INT64_C(7500000)
/* At 1 Mbit/s 6 ms, so that threads may still wake late. */
#define QUANTUM_MIN 768
#define QUANTUM_MAX (256 * 1024)
#define QUANTA_PER_S 400        /* 2.5 ms */
#define DEBT_MAX_NS (INT64_MAX / 4)
#define TAG_SCALE 1024      /* so that weights divide finely enough */

void limiter_node_init(LimiterNode *self, LimiterNode *parent, uint64_t rate,
                       unsigned weight, int64_t now_ns)
{
    *self = (LimiterNode) {
        .parent = parent,
        .rate = rate,
        .weight = MAX(weight, 1),
        .paid_at_ns = now_ns,
    };
    if (parent) {
        self->start = parent->virtual_time;
        self->next_sibling = parent->first_child;
        parent->first_child = self;
    }
}

void limiter_node_clear(LimiterNode *self)
{
    LimiterNode **link;

    g_assert(!self->first_child && self->n_waiting == 0);
    if (!self->parent) {
        return;
    }
    link = &self->parent->first_child;
    while (*link != self) {
        link = &(*link)->next_sibling;
    }
    *link = self->next_sibling;
}

size_t limiter_node_get_quantum(uint64_t rate)
{
    return CLAMP(rate / QUANTA_PER_S, QUANTUM_MIN, QUANTUM_MAX);
}

void limiter_node_set_rate(LimiterNode *self, uint64_t rate, int64_t now_ns)
{
    int64_t debt_ns = self->paid_at_ns - now_ns;

    if (self->rate == 0 || rate == 0) {
        debt_ns = 0;
    } else if (debt_ns > 0) {
        unsigned __int128 scaled = (unsigned __int128)debt_ns * self->rate /
                                   rate;

        debt_ns = (int64_t)MIN(scaled, (unsigned __int128)DEBT_MAX_NS);
    }
    self->paid_at_ns = now_ns + debt_ns;
    self->remainder = 0;
    __atomic_store_n(&self->rate, rate, __ATOMIC_RELAXED);
}

void limiter_node_set_weight(LimiterNode *self, unsigned weight)
{
    self->weight = MAX(weight, 1);
}

void limiter_node_push(LimiterNode *self, LimiterRequest *request)
{
    LimiterNode *node;

    g_assert(!self->first_child);
    request->next = NULL;
    if (self->last) {
        self->last->next = request;
    } else {
        self->first = request;
    }
    self->last = request;
    for (node = self; node; node = node->parent) {
        if (node->n_waiting++ == 0 && node->parent) {
            node->start = MAX(node->start, node->parent->virtual_time);
        }
    }
}

LimiterRequest *limiter_node_drop(LimiterNode *self)
{
    LimiterRequest *request = self->first;
    LimiterNode *node;

    if (!request) {
        return NULL;
    }
    self->first = request->next;
    if (!self->first) {
        self->last = NULL;
    }
    for (node = self; node; node = node->parent) {
        node->n_waiting--;
    }
    return request;
}

static int64_t get_credit_ns(unsigned __int128 cost_ns)
{
    return cost_ns < BURST_NS ? MIN(CREDIT_NS, BURST_NS - (int64_t)cost_ns) : 0;
}

static void pay(LimiterNode *self, size_t bytes, int64_t now_ns)
{
    unsigned __int128 cost;
    unsigned __int128 whole_ns;
    int64_t from_ns;

    if (self->rate == 0) {
        return;
    }
    cost = (unsigned __int128)bytes * NS_PER_S + self->remainder;
    whole_ns = cost / self->rate;
    self->remainder = (uint64_t)(cost % self->rate);
    from_ns = MAX(self->paid_at_ns, now_ns - get_credit_ns(whole_ns));
    self->paid_at_ns = (int64_t)MIN((unsigned __int128)from_ns + whole_ns,
                                    (unsigned __int128)now_ns + DEBT_MAX_NS);
}

void limiter_node_charge(LimiterNode *self, size_t bytes, int64_t now_ns)
{
    LimiterNode *node;

    for (node = self; node; node = node->parent) {
        pay(node, bytes, now_ns);
        if (node->parent) {
            node->start = MAX(node->start, node->parent->virtual_time) +
                          (uint64_t)bytes * TAG_SCALE / node->weight;
        }
    }
}

/* The leaf whose turn it is at or below @self, or NULL: *next_ns is lowered to
 * when that may change.  The tree is small: one node per live migration. */
static LimiterNode *pick(LimiterNode *self, int64_t now_ns, int64_t *next_ns)
{
    LimiterNode *best = NULL;
    uint64_t best_start = 0;
    LimiterNode *child;

    if (self->n_waiting == 0) {
        return NULL;
    }
    if (self->rate != 0 && self->paid_at_ns > now_ns) {
        *next_ns = MIN(*next_ns, self->paid_at_ns);
        return NULL;
    }
    if (!self->first_child) {
        return self;
    }
    for (child = self->first_child; child; child = child->next_sibling) {
        LimiterNode *leaf;

        if (best && child->start >= best_start) {
            continue;
        }
        leaf = pick(child, now_ns, next_ns);
        if (leaf) {
            best = leaf;
            best_start = child->start;
        }
    }
    return best;
}

/* Virtual time moves to the start of what is served. */
static void advance_virtual_time(LimiterNode *leaf)
{
    LimiterNode *node;

    for (node = leaf; node->parent; node = node->parent) {
        node->parent->virtual_time = MAX(node->parent->virtual_time,
                                         node->start);
    }
}

LimiterRequest *limiter_node_grant(LimiterNode *root, int64_t now_ns,
                                   int64_t *ret_next_ns)
{
    int64_t next_ns = INT64_MAX;
    LimiterNode *leaf = pick(root, now_ns, &next_ns);
    LimiterRequest *request;

    if (!leaf) {
        *ret_next_ns = next_ns;
        return NULL;
    }
    advance_virtual_time(leaf);
    request = limiter_node_drop(leaf);
    limiter_node_charge(leaf, request->bytes, now_ns);
    return request;
}
