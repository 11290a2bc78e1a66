/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/epoch.h - the rule that keeps a re-striped stream right, and nothing else
 *
 * Theory of operation.  QEMU ends a round of page sending with one SYNC packet
 * on every multifd channel.  What an inbound channel sends after its k-th SYNC
 * belongs to epoch k.  Pages of one epoch may change channel and order; nothing
 * may cross a SYNC.  So:
 *
 *   - epoch k is closed once SYNC number k + 1 has come in on every inbound
 *     channel; an inbound channel that is ahead waits (it may not push);
 *   - an outbound channel writes what it will write of epoch k, then one SYNC,
 *     then goes on with epoch k + 1; it may write that SYNC only when epoch k
 *     is closed and nothing of it is left to take;
 *   - marker number k (MULTIFD_FLUSH, or EOS in the legacy mode) may go out on
 *     the main channel only when SYNC number k is written on every outbound
 *     channel.  Both are counted from 1.
 *
 * A pure state machine: no lock, no wait.  The exchange calls it under its lock.
 * Indices are the caller's and must be in range.
 */
#ifndef WIRE_EPOCH_H
#define WIRE_EPOCH_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "wire/multifd.h"

typedef struct {
    unsigned n_in;
    unsigned n_out;
    uint64_t closed;                    /* epochs closed so far */
    uint64_t in_syncs[MULTIFD_CHANNELS_MAX];
    uint64_t out_syncs[MULTIFD_CHANNELS_MAX];
} EpochBarrier;

void epoch_barrier_init(EpochBarrier *self);

/*
 * Inbound channels join before epoch 0 closes, or later as long as they are
 * only one SYNC behind (@syncs_done says how many SYNCs count as seen); that one
 * may not push before it has sent the SYNC that it owes.  Outbound channels join
 * before the first SYNC is written on all of them.  Returns the channel's index.
 */
unsigned epoch_barrier_add_in(EpochBarrier *self, uint64_t syncs_done);
unsigned epoch_barrier_add_out(EpochBarrier *self);

/* The epoch that inbound channel @in is in, and whether it is the open one. */
uint64_t epoch_barrier_in_epoch(const EpochBarrier *self, unsigned in);
bool epoch_barrier_in_may_push(const EpochBarrier *self, unsigned in);

/* Channel @in sent a SYNC.  It must not be ahead of the open epoch. */
void epoch_barrier_in_sync(EpochBarrier *self, unsigned in);

/*
 * Close the open epoch if every inbound channel has sent its SYNC and there is
 * at least one; true if it closed now.  Separate from in_sync, because in the
 * first epoch the number of channels may not be known yet.
 */
bool epoch_barrier_try_close(EpochBarrier *self);

/* A link carries epochs by number: its receiver closes them directly, in order. */
void epoch_barrier_close(EpochBarrier *self, uint64_t epoch);

/* The epoch outbound @out writes now; whether its SYNC may follow; it did. */
uint64_t epoch_barrier_out_epoch(const EpochBarrier *self, unsigned out);
bool epoch_barrier_out_may_sync(const EpochBarrier *self, unsigned out,
                                bool epoch_drained);
void epoch_barrier_out_synced(EpochBarrier *self, unsigned out);

/* Number of SYNCs that every outbound channel has written: the marker gate. */
uint64_t epoch_barrier_synced_out(const EpochBarrier *self);

#endif
