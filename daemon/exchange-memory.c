/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/exchange-memory.c - how much of a migration's packets is held
 *
 * Who comes with a packet that does not fit waits in a line.  Memory that is freed
 * is given away at once, to those for whom there is room, in the order in which
 * they came, and only they are woken.  To wake all of them instead, to look for
 * themselves, costs with 16 channels more than carrying the packet does.
 *
 * One that does not fit lets a smaller one pass: the source may have to get rid of
 * that before it goes on with what we are in the middle of.
 */
#include "daemon/exchange-private.h"

#include "wire/error.h"

typedef struct {
    GList link;
    uint64_t footprint;
    bool granted;
    GCond changed;
} Waiter;

void exchange_hold_locked(Exchange *self, uint64_t footprint)
{
    self->stats.held += footprint;
    self->stats.held_peak = MAX(self->stats.held_peak, self->stats.held);
}

/* One packet always fits, however small the share. */
static bool fits(const Exchange *self, uint64_t footprint)
{
    return self->stats.held == 0 ||
           self->stats.held + footprint <= self->queue;
}

static void grant_locked(Exchange *self)
{
    GList *next;

    for (GList *link = self->waiters.head; link; link = next) {
        Waiter *waiter = link->data;

        next = link->next;
        if (fits(self, waiter->footprint)) {
            exchange_hold_locked(self, waiter->footprint);
            g_queue_unlink(&self->waiters, link);
            waiter->granted = true;
            g_cond_signal(&waiter->changed);
        }
    }
}

void exchange_unhold_locked(Exchange *self, uint64_t footprint)
{
    self->stats.held -= footprint;
    if (self->stats.held == 0) {
        g_cond_broadcast(&self->sent);
    }
    grant_locked(self);
}

void exchange_wake_waiters_locked(Exchange *self)
{
    for (GList *link = self->waiters.head; link; link = link->next) {
        g_cond_signal(&((Waiter *)link->data)->changed);
    }
}

static bool wait_locked(Exchange *self, uint64_t footprint)
{
    Waiter waiter = { .footprint = footprint };

    waiter.link.data = &waiter;
    g_cond_init(&waiter.changed);
    g_queue_push_tail_link(&self->waiters, &waiter.link);
    while (!exchange_is_over(self) && !waiter.granted) {
        g_cond_wait(&waiter.changed, &self->lock);
    }
    if (!waiter.granted) {
        g_queue_unlink(&self->waiters, &waiter.link);
    }
    g_cond_clear(&waiter.changed);
    return waiter.granted;
}

static bool reserve_locked(Exchange *self, unsigned in, uint64_t footprint)
{
    while (!exchange_is_over(self) &&
           !epoch_barrier_in_may_push(&self->barrier, in)) {
        g_cond_wait(&self->barrier_moved, &self->lock);
    }
    if (exchange_is_over(self)) {
        return false;
    }
    if (!fits(self, footprint)) {
        return wait_locked(self, footprint);
    }
    exchange_hold_locked(self, footprint);
    return true;
}

bool exchange_reserve(Exchange *self, unsigned in, uint64_t footprint)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = reserve_locked(self, in, footprint);
    g_mutex_unlock(&self->lock);
    return ok;
}

void exchange_release(Exchange *self, uint64_t footprint)
{
    g_mutex_lock(&self->lock);
    exchange_unhold_locked(self, footprint);
    g_mutex_unlock(&self->lock);
}

void exchange_set_queue(Exchange *self, uint64_t bytes)
{
    g_mutex_lock(&self->lock);
    self->queue = MIN(bytes, self->memory);
    grant_locked(self);
    g_mutex_unlock(&self->lock);
}

bool exchange_charge(Exchange *self, uint64_t bytes, const char *what)
{
    uint64_t room;
    bool ok;

    g_mutex_lock(&self->lock);
    room = self->share - MIN(self->share, self->stats.charged + self->memory);
    ok = bytes <= room;
    if (ok) {
        self->stats.charged += bytes;
    }
    g_mutex_unlock(&self->lock);
    if (!ok) {
        exchange_fail(self, g_error_new(
            WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
            "%s: needs %" G_GUINT64_FORMAT " bytes, allowed are %"
            G_GUINT64_FORMAT " of the migration's share ([daemon] "
            "migration-memory)", what, bytes, room));
    }
    return ok;
}
