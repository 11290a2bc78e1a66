/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire/epoch.h"

void epoch_barrier_init(EpochBarrier *self)
{
    *self = (EpochBarrier) { 0 };
}

unsigned epoch_barrier_add_in(EpochBarrier *self, uint64_t syncs_done)
{
    g_assert(self->n_in < MULTIFD_CHANNELS_MAX);
    /* Subtract rather than add: syncs_done is the caller's count. */
    g_assert(syncs_done <= self->closed || syncs_done - self->closed == 1);
    g_assert(syncs_done >= self->closed || self->closed - syncs_done == 1);

    self->in_syncs[self->n_in] = syncs_done;
    return self->n_in++;
}

unsigned epoch_barrier_add_out(EpochBarrier *self)
{
    g_assert(self->n_out < MULTIFD_CHANNELS_MAX);
    /* Later, a marker could already be out that this channel had no SYNC for. */
    g_assert(epoch_barrier_synced_out(self) == 0);

    self->out_syncs[self->n_out] = 0;
    return self->n_out++;
}

uint64_t epoch_barrier_in_epoch(const EpochBarrier *self, unsigned in)
{
    g_assert(in < self->n_in);
    return self->in_syncs[in];
}

bool epoch_barrier_in_may_push(const EpochBarrier *self, unsigned in)
{
    g_assert(in < self->n_in);
    return self->in_syncs[in] == self->closed;
}

void epoch_barrier_in_sync(EpochBarrier *self, unsigned in)
{
    g_assert(in < self->n_in);
    /* One that joined late sends the SYNC it owes for an epoch closed by now. */
    g_assert(self->in_syncs[in] <= self->closed);
    self->in_syncs[in]++;
}

bool epoch_barrier_try_close(EpochBarrier *self)
{
    if (self->n_in == 0) {
        return false;
    }
    for (unsigned i = 0; i < self->n_in; i++) {
        if (self->in_syncs[i] <= self->closed) {
            return false;
        }
    }
    self->closed++;
    return true;
}

void epoch_barrier_close(EpochBarrier *self, uint64_t epoch)
{
    g_assert(epoch == self->closed);
    self->closed++;
}

uint64_t epoch_barrier_out_epoch(const EpochBarrier *self, unsigned out)
{
    g_assert(out < self->n_out);
    return self->out_syncs[out];
}

bool epoch_barrier_out_may_sync(const EpochBarrier *self, unsigned out,
                                bool epoch_drained)
{
    g_assert(out < self->n_out);
    return epoch_drained && self->out_syncs[out] < self->closed;
}

void epoch_barrier_out_synced(EpochBarrier *self, unsigned out)
{
    g_assert(epoch_barrier_out_may_sync(self, out, true));
    self->out_syncs[out]++;
}

uint64_t epoch_barrier_synced_out(const EpochBarrier *self)
{
    uint64_t least = self->n_out ? self->out_syncs[0] : 0;

    for (unsigned i = 1; i < self->n_out; i++) {
        least = MIN(least, self->out_syncs[i]);
    }
    return least;
}
