/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/totals.h - what all migrations since the start add up to
 *
 * Counted from what migration_to_json() says.  Rows are few: one for each peer
 * and role, and one for each kind of error.  No lock of its own.
 */
#ifndef DAEMON_TOTALS_H
#define DAEMON_TOTALS_H

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

#define TOTALS_DOWNTIME_BUCKETS 7
#define TOTALS_DURATION_BUCKETS 7

/* Upper ends, in milliseconds. */
extern const uint64_t totals_downtime_ms[TOTALS_DOWNTIME_BUCKETS];
extern const uint64_t totals_duration_ms[TOTALS_DURATION_BUCKETS];

typedef enum {
    TOTALS_BYTES_IN,
    TOTALS_BYTES_OUT,
    TOTALS_WIRE_BYTES_OUT,
    TOTALS_PACKETS,
    TOTALS_NORMAL_PAGES,
    TOTALS_ZERO_PAGES,
    TOTALS_MAIN_PAGES,
    TOTALS_PREEMPT_PAGES,
    TOTALS_CPU_MS,
    TOTALS_COMPLETED,
    TOTALS_FAILED,
    TOTALS_CANCELLED,
    TOTALS_N_COUNTERS,
} TotalsCounter;

typedef struct {
    uint64_t n, sum_ms;
    uint64_t at_most[TOTALS_DURATION_BUCKETS];  /* cumulative */
} TotalsHistogram;

typedef struct {
    char *peer;                     /* "" without one */
    char *role;
    uint64_t counters[TOTALS_N_COUNTERS];
    TotalsHistogram downtime, duration;
} TotalsRow;

typedef struct {
    GPtrArray *rows;                /* of TotalsRow; never removed */
    GHashTable *reasons;            /* kind of error -> uint64_t * */
} Totals;

Totals *totals_new(void);
Totals *totals_copy(const Totals *self);
void totals_free(Totals *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Totals, totals_free)

/* What it has moved until now; with a final state also that it has ended. */
void totals_add(Totals *self, JsonObject *migration);
/* @reason is the kind of error that ended one; static. */
void totals_add_reason(Totals *self, const char *reason);

/* Take from @before whatever is higher there: a counter that falls would be
 * taken for a restart of the daemon. */
void totals_keep_growing(Totals *self, const Totals *before);

#endif
