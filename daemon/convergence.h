/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/convergence.h - will a migration ever end?  What is to be done if not?
 *
 * It will not while the guest writes pages faster than they leave.  Judged from
 * what the source QEMU says of both, from the second pass on (in the first
 * everything has to go, and that says nothing), and only when it has been so for
 * long enough.  Pure: time is given.
 */
#ifndef DAEMON_CONVERGENCE_H
#define DAEMON_CONVERGENCE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    CONVERGENCE_CONTINUE,   /* only say so */
    CONVERGENCE_CANCEL,
    CONVERGENCE_THROTTLE,   /* let QEMU slow the guest, from the beginning */
    CONVERGENCE_POSTCOPY,   /* switch to it */
} ConvergencePolicy;

/* For messages. */
#define CONVERGENCE_POLICIES "continue, cancel, throttle or postcopy"

const char *convergence_policy_to_string(ConvergencePolicy policy);
/* False: it is none of them. */
bool convergence_policy_parse(const char *text, ConvergencePolicy *ret);

typedef struct {
    int64_t now_us;
    uint64_t passes;        /* QEMU's dirty-sync-count */
    uint64_t dirty_rate;    /* bytes per second that the guest writes: its
                               dirty-pages-rate times its page size */
    uint64_t sent;          /* bytes of guest pages that have left, zero pages
                               among them: they too were dirty */
} ConvergenceSample;

typedef struct {
    /* all private but `rate`; zero it and set patience */
    int64_t patience_us;    /* how long it may be too slow */
    int64_t window_us;      /* when the present measurement began; 0: never */
    uint64_t window_sent;
    uint64_t rate;          /* bytes per second that left lately; 0: not known */
    int64_t bad_since_us;   /* 0: is not too slow */
    int64_t good_since_us;
    bool hopeless;
} Convergence;

/* True when the verdict has changed: convergence_is_hopeless() has the new one. */
bool convergence_add(Convergence *self, const ConvergenceSample *sample);
/* Nothing can leave now: begin to measure anew.  The verdict stays. */
void convergence_pause(Convergence *self);
/* Too slow, and for longer than patience. */
bool convergence_is_hopeless(const Convergence *self);

#endif
