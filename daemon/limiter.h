/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/limiter.h - a tree of token buckets: daemon, peer, migration
 *
 * A writer asks the leaf of its migration for leave to send some bytes; leave
 * is given when every bucket up to the root has them.  Among the children of a
 * node that wait, turns go by weight.  No more than 10 ms of a rate goes at once,
 * so nothing bursts, as long as callers ask in pieces of at most limiter_get_quantum()
 * bytes: a piece that is larger goes as a whole.
 *
 * Thread-safe.  Rates are bytes per second on the wire; 0 is unlimited.
 */
#ifndef DAEMON_LIMITER_H
#define DAEMON_LIMITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

typedef struct Limiter Limiter;     /* a node */

/* A node holds a reference on its parent.  @parent NULL: a root.  Only a node
 * without children may be asked for leave.  @weight: at least 1. */
Limiter *limiter_new(Limiter *parent, uint64_t rate_bytes_per_s,
                     unsigned weight);
Limiter *limiter_ref(Limiter *self);
void limiter_unref(Limiter *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Limiter, limiter_unref)

/* At any time; those who wait are looked at again at once. */
void limiter_set_rate(Limiter *self, uint64_t rate_bytes_per_s);
/* What holds now: more than was set while a child is in a hurry. */
uint64_t limiter_get_rate(const Limiter *self);
void limiter_set_weight(Limiter *self, unsigned weight);
/* As it was set. */
unsigned limiter_get_weight(Limiter *self);

/* In a hurry a leaf's weight counts so often. */
#define LIMITER_HURRY 16
#define LIMITER_UNLIMITED UINT64_MAX

/*
 * Let this leaf go first for a while: its weight counts LIMITER_HURRY-fold, and
 * its parent's rate is @parent_rate at least, whatever is set meanwhile; 0 leaves
 * that alone, LIMITER_UNLIMITED lifts it.  Until limiter_end_hurry(), or
 * limiter_close(), or until the leaf is gone.  Each may be called again.
 */
void limiter_begin_hurry(Limiter *self, uint64_t parent_rate);
void limiter_end_hurry(Limiter *self);

/* The most a caller should ask for at once: 2.5 ms of the lowest rate on the
 * way to the root, between 768 bytes (6 ms at 1 Mbit/s) and 256 KiB; SIZE_MAX when
 * nothing limits. */
size_t limiter_get_quantum(Limiter *self);

/*
 * Wait for leave to send @bytes.  False: limiter_close() was called on this
 * leaf.  Fast (one atomic read) while no rate is set anywhere on the way up.
 */
bool limiter_acquire(Limiter *self, size_t bytes) G_GNUC_WARN_UNUSED_RESULT;

/* Take without waiting, into debt if need be: the main channel never waits
 * behind pages, but what it sends counts. */
void limiter_charge(Limiter *self, size_t bytes);

/* Wakes and refuses everyone waiting on this leaf, now and later. */
void limiter_close(Limiter *self);

#endif
