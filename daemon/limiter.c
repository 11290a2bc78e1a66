/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * limiter-node.c knows whose turn it is and when; this file adds the clock, the
 * threads and the lock, one for a whole tree, in its root.
 *
 * Each waiting thread has a condition of its own, so a grant wakes only whom it
 * concerns.  One of the waiters is the keeper: it alone sleeps with a deadline
 * and grants when that comes.  A keeper that leaves names the next.
 */
#include "daemon/limiter.h"

#include <time.h>

#include "daemon/limiter-node.h"

typedef struct Waiter Waiter;

struct Waiter {
    LimiterRequest request;     /* first: requests are cast to waiters */
    GCond woken;
    bool done;
    bool granted;
    Waiter *prev;               /* in root->waiters */
    Waiter *next;
};

struct Limiter {
    gatomicrefcount refs;
    Limiter *parent;            /* a reference; constant */
    Limiter *root;              /* constant */

    GMutex lock;                /* of a root: guards all nodes of its tree;
                                 * no lock is taken under it */
    LimiterNode node;           /* its rate is also read without the lock */
    uint64_t rate;              /* as set; the node has what holds */
    unsigned weight;            /* likewise */
    bool in_hurry;              /* of a leaf */
    uint64_t hurry_rate;        /* what it wants of its parent then; 0: nothing */
    unsigned n_hurries;         /* children who want such a rate, ... */
    uint64_t hurries_rate;      /* ... and the highest wanted since there were none */
    int is_closed;              /* atomic; only goes from 0 to 1 */

    /* Of a root. */
    Waiter *keeper;
    int64_t keeper_until_ns;
    Waiter *waiters;
};

static void end_hurry(Limiter *self);

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

Limiter *limiter_new(Limiter *parent, uint64_t rate_bytes_per_s,
                     unsigned weight)
{
    Limiter *self = g_new0(Limiter, 1);

    g_atomic_ref_count_init(&self->refs);
    g_mutex_init(&self->lock);
    self->parent = parent ? limiter_ref(parent) : NULL;
    self->root = parent ? parent->root : self;
    self->rate = rate_bytes_per_s;
    self->weight = MAX(weight, 1);
    g_mutex_lock(&self->root->lock);
    limiter_node_init(&self->node, parent ? &parent->node : NULL,
                      rate_bytes_per_s, weight, now_ns());
    g_mutex_unlock(&self->root->lock);
    return self;
}

Limiter *limiter_ref(Limiter *self)
{
    g_atomic_ref_count_inc(&self->refs);
    return self;
}

void limiter_unref(Limiter *self)
{
    Limiter *parent;

    if (!self || !g_atomic_ref_count_dec(&self->refs)) {
        return;
    }
    g_mutex_lock(&self->root->lock);
    end_hurry(self);
    limiter_node_clear(&self->node);
    g_mutex_unlock(&self->root->lock);
    parent = self->parent;
    g_mutex_clear(&self->lock);
    g_free(self);
    limiter_unref(parent);
}

static void finish(Waiter *waiter, bool granted)
{
    waiter->done = true;
    waiter->granted = granted;
    g_cond_signal(&waiter->woken);
}

/* Under the lock.  All who may go; returns when to look again. */
static int64_t grant_all(Limiter *root)
{
    int64_t next_ns;
    LimiterRequest *request;

    while ((request = limiter_node_grant(&root->node, now_ns(), &next_ns))) {
        finish((Waiter *)request, true);
    }
    return next_ns;
}

/* Under the lock: something other than time has changed. */
static void look_again(Limiter *root)
{
    grant_all(root);
    if (root->keeper) {
        g_cond_signal(&root->keeper->woken);
    }
}

uint64_t limiter_get_rate(const Limiter *self)
{
    return __atomic_load_n(&self->node.rate, __ATOMIC_RELAXED);
}

/* Under the lock: what was set and who is in a hurry make what holds. */
static void apply(Limiter *self)
{
    uint64_t rate = self->rate;

    if (self->n_hurries > 0 && rate != 0) {
        rate = self->hurries_rate == LIMITER_UNLIMITED
               ? 0 : MAX(rate, self->hurries_rate);
    }
    if (rate != self->node.rate) {
        limiter_node_set_rate(&self->node, rate, now_ns());
        look_again(self->root);
    }
    limiter_node_set_weight(&self->node, self->in_hurry
                            ? self->weight * LIMITER_HURRY : self->weight);
}

void limiter_set_rate(Limiter *self, uint64_t rate_bytes_per_s)
{
    g_mutex_lock(&self->root->lock);
    self->rate = rate_bytes_per_s;
    apply(self);
    g_mutex_unlock(&self->root->lock);
}

void limiter_set_weight(Limiter *self, unsigned weight)
{
    g_mutex_lock(&self->root->lock);
    self->weight = MAX(weight, 1);
    apply(self);
    g_mutex_unlock(&self->root->lock);
}

void limiter_begin_hurry(Limiter *self, uint64_t parent_rate)
{
    Limiter *parent = self->parent;

    g_mutex_lock(&self->root->lock);
    end_hurry(self);
    self->in_hurry = true;
    self->hurry_rate = parent ? parent_rate : 0;
    apply(self);
    if (self->hurry_rate > 0) {
        parent->n_hurries++;
        parent->hurries_rate = MAX(parent->hurries_rate, parent_rate);
        apply(parent);
    }
    g_mutex_unlock(&self->root->lock);
}

/* Under the lock. */
static void end_hurry(Limiter *self)
{
    Limiter *parent = self->parent;

    if (!self->in_hurry) {
        return;
    }
    self->in_hurry = false;
    apply(self);
    if (self->hurry_rate > 0) {
        if (--parent->n_hurries == 0) {
            parent->hurries_rate = 0;
        }
        apply(parent);
    }
}

void limiter_end_hurry(Limiter *self)
{
    g_mutex_lock(&self->root->lock);
    end_hurry(self);
    g_mutex_unlock(&self->root->lock);
}

unsigned limiter_get_weight(Limiter *self)
{
    unsigned weight;

    g_mutex_lock(&self->root->lock);
    weight = self->weight;
    g_mutex_unlock(&self->root->lock);
    return weight;
}

/* The lowest rate on the way up, 0 if none is set. */
static uint64_t get_lowest_rate(const Limiter *self)
{
    uint64_t lowest = 0;

    for (; self; self = self->parent) {
        uint64_t rate = limiter_get_rate(self);

        if (rate != 0 && (lowest == 0 || rate < lowest)) {
            lowest = rate;
        }
    }
    return lowest;
}

size_t limiter_get_quantum(Limiter *self)
{
    uint64_t rate = get_lowest_rate(self);

    return rate == 0 ? SIZE_MAX : limiter_node_get_quantum(rate);
}

static void add_waiter(Limiter *root, Waiter *waiter)
{
    waiter->next = root->waiters;
    if (waiter->next) {
        waiter->next->prev = waiter;
    }
    root->waiters = waiter;
}

static void remove_waiter(Limiter *root, Waiter *waiter)
{
    if (waiter->next) {
        waiter->next->prev = waiter->prev;
    }
    if (waiter->prev) {
        waiter->prev->next = waiter->next;
    } else {
        root->waiters = waiter->next;
    }
}

/* Those that are done already have been woken and will not keep the time. */
static void name_keeper(Limiter *root)
{
    Waiter *waiter = root->waiters;

    while (waiter && waiter->done) {
        waiter = waiter->next;
    }
    root->keeper = waiter;
    if (waiter) {
        g_cond_signal(&waiter->woken);
    }
}

static void wait_turn(Limiter *root, Waiter *waiter)
{
    add_waiter(root, waiter);
    while (!waiter->done) {
        int64_t next_ns = grant_all(root);

        if (waiter->done) {
            break;
        }
        if (!root->keeper) {
            root->keeper = waiter;
        }
        if (root->keeper == waiter) {
            root->keeper_until_ns = next_ns;
            g_cond_wait_until(&waiter->woken, &root->lock,
                              next_ns / 1000 + 1);
            continue;
        }
        if (next_ns < root->keeper_until_ns) {
            g_cond_signal(&root->keeper->woken);
        }
        g_cond_wait(&waiter->woken, &root->lock);
    }
    remove_waiter(root, waiter);
    if (root->keeper == waiter) {
        name_keeper(root);
    }
}

static bool is_closed(const Limiter *self)
{
    return __atomic_load_n(&self->is_closed, __ATOMIC_ACQUIRE);
}

bool limiter_acquire(Limiter *self, size_t bytes)
{
    Waiter waiter = { .request.bytes = bytes };

    if (is_closed(self)) {
        return false;
    }
    if (get_lowest_rate(self) == 0) {
        return true;
    }
    g_cond_init(&waiter.woken);
    g_mutex_lock(&self->root->lock);
    if (!is_closed(self)) {
        limiter_node_push(&self->node, &waiter.request);
        wait_turn(self->root, &waiter);
    }
    g_mutex_unlock(&self->root->lock);
    g_cond_clear(&waiter.woken);
    return waiter.granted;
}

void limiter_charge(Limiter *self, size_t bytes)
{
    if (get_lowest_rate(self) == 0) {
        return;
    }
    g_mutex_lock(&self->root->lock);
    limiter_node_charge(&self->node, bytes, now_ns());
    g_mutex_unlock(&self->root->lock);
}

void limiter_close(Limiter *self)
{
    LimiterRequest *request;

    g_mutex_lock(&self->root->lock);
    __atomic_store_n(&self->is_closed, 1, __ATOMIC_RELEASE);
    while ((request = limiter_node_drop(&self->node))) {
        finish((Waiter *)request, false);
    }
    end_hurry(self);
    look_again(self->root);
    g_mutex_unlock(&self->root->lock);
}
