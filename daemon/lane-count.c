/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation.  Measurements follow each other, each a few round trips long.
 * One in which lanes had not enough to send, or not all were up, says nothing.  While
 * the rate still changes from one to the next, connections are on their way to what
 * they can carry: up in slow start, or down from where its first loss found them.
 * When it has settled, a trial is judged, or one begins.
 *
 * What is measured are bytes that TCP has delivered.  Our own acknowledgements
 * come in the order of frames, and a frame can take a slow lane seconds.
 */
#include "daemon/lane-count.h"

#include <glib.h>

static const int64_t MEASURE_US = 300 * 1000;
static const unsigned ROUND_TRIPS = 6;      /* or so many */
static const double SETTLED = 1.15;         /* times the last, or by so much less */
static const unsigned CHANGING_MAX = 3;     /* measurements; noise changes, too */
static const double WORTH = 1.20;           /* twice the lanes must carry so much */
static const int64_t AGAIN_US = 30 * 1000 * 1000;   /* after a trial in vain */
/* A lane with less unsent than a TLS record is about to have nothing. */
static const uint32_t UNSENT_MIN = 16 * 1024;
static const uint32_t RTT_SLACK_US = 1000;

void lane_count_init(LaneCount *self, unsigned first, unsigned max)
{
    *self = (LaneCount) { .max = max, .wanted = MIN(first, max) };
}

void lane_count_add(LaneSample *sample, uint32_t rtt_us, uint32_t least_rtt_us,
                    uint32_t unsent)
{
    bool held_back = unsent >= UNSENT_MIN;

    sample->lanes++;
    sample->held_back += held_back;
    /* What one says that has been idle is old. */
    sample->queued += held_back && rtt_us > least_rtt_us + least_rtt_us / 4 +
                                            RTT_SLACK_US;
    sample->rtt_us = MAX(sample->rtt_us, rtt_us);
}

/* ---- one measurement --------------------------------------------------------------- */

static void begin_measurement(LaneCount *self, const LaneSample *sample,
                              int64_t now_us)
{
    self->begin_us = now_us;
    self->acked = sample->acked;
    self->rtt_us = 0;
    self->samples = self->lanes = self->held_back = self->queued = 0;
    self->incomplete = false;
}

static void add_sample(LaneCount *self, const LaneSample *sample)
{
    self->rtt_us = MAX(self->rtt_us, sample->rtt_us);
    self->samples++;
    self->lanes += sample->lanes;
    self->held_back += sample->held_back;
    self->queued += sample->queued;
    /* The sum falls when a connection goes. */
    self->incomplete |= sample->lanes < self->wanted ||
                        sample->acked < self->acked;
}

static bool is_over(const LaneCount *self, int64_t now_us)
{
    return now_us - self->begin_us >=
           MAX(MEASURE_US, (int64_t)self->rtt_us * ROUND_TRIPS);
}

/* It says what the lanes can carry, not what they were given. */
static bool is_telling(const LaneCount *self)
{
    return !self->incomplete && self->held_back * 4 >= self->lanes * 3;
}

static bool is_line_full(const LaneCount *self)
{
    return self->queued * 3 >= self->held_back;
}

/* ---- what follows from it ------------------------------------------------------------ */

static bool is_still_changing(LaneCount *self, double rate)
{
    bool changes = self->rate == 0 || rate > self->rate * SETTLED ||
                   rate * SETTLED < self->rate;

    self->rate = rate;
    self->changing = changes ? self->changing + 1 : 0;
    return changes && self->changing <= CHANGING_MAX;
}

static void want(LaneCount *self, unsigned lanes)
{
    self->wanted = lanes;
    self->changing = 0;
}

/* True: lanes go away again. */
static bool judge_trial(LaneCount *self, int64_t now_us)
{
    unsigned before = self->before;
    /* Of what twice as many had to bring; the maximum may have allowed less. */
    double more = (double)(self->wanted - before) / before;

    self->before = 0;
    if (self->rate >= self->rate_before * (1 + (WORTH - 1) * more)) {
        return false;
    }
    want(self, before);
    self->rate_tried = self->rate;
    self->not_before_us = now_us + AGAIN_US;
    return true;
}

/* Much less without them: they had been compared with a rate that was on its way down
 * anyway, as the first seconds' is. */
static bool was_misjudged(const LaneCount *self)
{
    return self->rate * WORTH < self->rate_tried;
}

static bool begin_trial(LaneCount *self, int64_t now_us)
{
    if (self->wanted >= self->max || is_line_full(self) ||
        (now_us < self->not_before_us && !was_misjudged(self))) {
        return false;
    }
    self->before = self->wanted;
    self->rate_before = self->rate;
    want(self, MIN(self->wanted * 2, self->max));
    return true;
}

/* True: another number is wanted. */
static bool judge(LaneCount *self, double rate, int64_t now_us)
{
    if (!is_telling(self) || is_still_changing(self, rate)) {
        return false;
    }
    return (self->before > 0 && judge_trial(self, now_us)) ||
           begin_trial(self, now_us);
}

bool lane_count_note(LaneCount *self, const LaneSample *sample, int64_t now_us)
{
    bool changed;

    if (self->begin_us == 0) {
        begin_measurement(self, sample, now_us);
        return false;
    }
    add_sample(self, sample);
    if (!is_over(self, now_us)) {
        return false;
    }
    self->hungry = self->held_back >= self->samples && !is_line_full(self);
    changed = judge(self, (double)(sample->acked - self->acked) /
                          (now_us - self->begin_us), now_us);
    begin_measurement(self, sample, now_us);
    return changed;
}

unsigned lane_count_get(const LaneCount *self)
{
    return self->wanted;
}

bool lane_count_is_hungry(const LaneCount *self)
{
    return self->hungry;
}

uint64_t lane_count_get_rate(const LaneCount *self)
{
    return self->rate * 1e6;
}
