/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/limiter-node.h - the arithmetic of the limiter: buckets and turns
 *
 * For limiter.c only.  Pure: no clock, no lock, no thread, nothing allocated;
 * the time is an argument, in nanoseconds of any monotonic clock.
 */
#ifndef DAEMON_LIMITER_NODE_H
#define DAEMON_LIMITER_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct LimiterNode LimiterNode;
typedef struct LimiterRequest LimiterRequest;

/* A wish to send, embedded by whoever waits for it. */
struct LimiterRequest {
    size_t bytes;
    LimiterRequest *next;
};

struct LimiterNode {
    LimiterNode *parent;
    LimiterNode *first_child;
    LimiterNode *next_sibling;
    uint64_t rate;              /* bytes per second, 0: unlimited; atomic */
    uint64_t weight;

    /* The bucket: when all that was sent will be paid for. */
    int64_t paid_at_ns;
    uint64_t remainder;         /* of the division, below rate */

    /* Turns: tags in bytes per weight. */
    uint64_t start;             /* of our next request, in parent's time */
    uint64_t virtual_time;      /* our children's */
    unsigned n_waiting;         /* requests here and below */

    LimiterRequest *first;      /* a leaf's own, first come first served */
    LimiterRequest *last;
};

void limiter_node_init(LimiterNode *self, LimiterNode *parent, uint64_t rate,
                       unsigned weight, int64_t now_ns);
/* Leaves its parent; has no children and no requests by now. */
void limiter_node_clear(LimiterNode *self);

/* The most to ask for at once where that is the lowest rate on the way up: see
 * limiter_get_quantum(). */
size_t limiter_node_get_quantum(uint64_t rate);

/* What is owed stays owed, in bytes. */
void limiter_node_set_rate(LimiterNode *self, uint64_t rate, int64_t now_ns);
void limiter_node_set_weight(LimiterNode *self, unsigned weight);

void limiter_node_push(LimiterNode *self, LimiterRequest *request);
/* The first request of this leaf, not granted; NULL if none waits. */
LimiterRequest *limiter_node_drop(LimiterNode *self);

/* Account for bytes that go out in any case. */
void limiter_node_charge(LimiterNode *self, size_t bytes, int64_t now_ns);

/*
 * Grant the request whose turn it is, and account for it.  NULL when none may
 * go now; then *ret_next_ns is when to ask again, INT64_MAX if none waits.
 */
LimiterRequest *limiter_node_grant(LimiterNode *root, int64_t now_ns,
                                   int64_t *ret_next_ns);

#endif
