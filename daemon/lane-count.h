/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/lane-count.h - how many lanes a migration sends on, by measurement
 *
 * More lanes help where TCP itself is the limit, through loss or a window, and the
 * line is not full.  So there must be more to send than each connection may send, and
 * no queue before the line: where one stands, more lanes would only take from others.
 * Then their number is doubled, and halved again if not much more goes.  Pure: what
 * TCP says, and time, are given.
 */
#ifndef DAEMON_LANE_COUNT_H
#define DAEMON_LANE_COUNT_H

#include <stdbool.h>
#include <stdint.h>

enum { LANE_COUNT_SAMPLE_MS = 50 };     /* between two calls of lane_count_note() */

typedef struct {
    /* all private */
    unsigned max;
    unsigned wanted;        /* now */
    unsigned before;        /* wanted, until lanes were added on trial; 0: no trial */
    double rate_before;     /* bytes per microsecond, with these */
    double rate_tried;      /* with those that were taken away again */
    double rate;            /* of the last measurement; 0: none to compare with */
    unsigned changing;      /* so many measurements were unlike the one before */
    int64_t not_before_us;  /* no trial before that */
    bool hungry;            /* as last measured: see lane_count_is_hungry() */

    /* The present measurement. */
    int64_t begin_us;       /* 0: none */
    uint64_t acked;         /* at its begin */
    uint32_t rtt_us;        /* the longest in it */
    unsigned samples;
    unsigned lanes;         /* sums over them */
    unsigned held_back;
    unsigned queued;
    bool incomplete;        /* not all lanes wanted were up */
} LaneCount;

/* What is so at one moment, of the lanes that are in use. */
typedef struct {
    uint64_t acked;         /* bytes that TCP has delivered, on all lanes, ever */
    uint32_t rtt_us;        /* the longest */
    unsigned lanes;         /* that are up */
    unsigned held_back;     /* of these: have more to send than TCP lets them */
    unsigned queued;        /* of those: their round trip says that a queue stands */
} LaneSample;

/* Begins with @first lanes; never more than @max. */
void lane_count_init(LaneCount *self, unsigned first, unsigned max);
/* Add a connection that has been sending to a sample, by what TCP says of it: the
 * round trip now, the least ever, and bytes that it may not send yet. */
void lane_count_add(LaneSample *sample, uint32_t rtt_us, uint32_t least_rtt_us,
                    uint32_t unsent);
/* True: another number is wanted. */
bool lane_count_note(LaneCount *self, const LaneSample *sample, int64_t now_us);
unsigned lane_count_get(const LaneCount *self);
/* TCP is what limits lanes, and the line is not full: all shall have something to
 * send, for others can send while some cannot. */
bool lane_count_is_hungry(const LaneCount *self);
/* Bytes per second that TCP delivered in the last measurement; 0: not known. */
uint64_t lane_count_get_rate(const LaneCount *self);

#endif
