/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/flow-window.h"

#include <glib.h>

/* Of the largest frames seven. */
static const uint64_t WINDOW_MIN = 4 * 1024 * 1024;
/* What a window falls short of because frames go as a whole. */
static const uint64_t FRAME = 576 * 1024;
/* It doubles with each measurement while the line has room. */
static const uint64_t WINDOW_FIRST = 8 * 1024 * 1024;
static const int64_t MEASURE_US = 200 * 1000;   /* a rate is taken over that */
/* How long the best of both counts.  The rate's is shorter: a line that became slow
 * must drain before its delay is believed. */
static const int64_t RATE_MEMORY_US = 2 * 1000 * 1000;
static const int64_t DELAY_MEMORY_US = 10 * 1000 * 1000;
static const int64_t DRAIN_AFTER_US = 9 * 1000 * 1000;  /* not seen that delay */
/* What frames wait in threads and sockets at both ends, even on a short line. */
static const int64_t SLACK_US = 20 * 1000;
/* Less was measured to leave a third of a thin line idle: frames are large. */
static const double GAIN = 4;

void flow_window_init(FlowWindow *self, uint64_t max)
{
    *self = (FlowWindow) { .max = max, .window = MIN(WINDOW_FIRST, max) };
}

static void note_delay(FlowWindow *self, int64_t now_us)
{
    bool stale = now_us - self->delay_seen_us > DELAY_MEMORY_US;

    if (self->delay_us == 0 || self->least_us <= self->delay_us ||
        (stale && self->draining)) {
        self->delay_us = self->least_us;
        self->delay_seen_us = now_us;
    } else if (self->least_us <= self->delay_us + self->delay_us / 8) {
        self->delay_seen_us = now_us;
    }
}

/* A rate that only the source held down says nothing, unless it is the best. */
static void note_rate(FlowWindow *self, double rate, int64_t now_us)
{
    bool stale = now_us - self->rate_seen_us > RATE_MEMORY_US;

    if (rate >= self->rate || (self->limited && stale)) {
        self->rate = rate;
        self->rate_seen_us = now_us;
    }
}

static void set_window(FlowWindow *self)
{
    double least = self->draining ? FRAME : WINDOW_MIN;
    double window = self->draining
                    ? self->rate * self->delay_us * 3 / 4
                    : GAIN * self->rate * (self->delay_us + SLACK_US) + FRAME;

    self->window = MIN((uint64_t)MAX(window, least), self->max);
}

static void begin_measurement(FlowWindow *self, int64_t now_us)
{
    int64_t least_us = self->least_us;

    self->begin_us = now_us;
    self->acked = 0;
    self->limited = true;
    self->least_us = 0;
    self->draining = now_us - self->delay_seen_us >= DRAIN_AFTER_US &&
                     now_us - self->drained_us >= DRAIN_AFTER_US;
    self->length_us = MAX(MEASURE_US, 2 * self->delay_us);
    if (self->draining) {
        self->drained_us = now_us;
        self->length_us = MAX(self->length_us, least_us + least_us / 4);
    }
}

void flow_window_acked(FlowWindow *self, uint64_t bytes, int64_t delay_us,
                       int64_t now_us)
{
    if (self->begin_us == 0) {
        self->drained_us = now_us;
        begin_measurement(self, now_us);
        return;
    }
    self->acked += bytes;
    self->limited = self->limited && self->full;
    self->full = false;
    if (delay_us > 0 && (self->least_us == 0 || delay_us < self->least_us)) {
        self->least_us = delay_us;
    }
    if (now_us - self->begin_us < self->length_us || self->least_us == 0) {
        return;
    }
    note_delay(self, now_us);
    if (!self->draining) {
        note_rate(self, (double)self->acked / (now_us - self->begin_us), now_us);
    }
    begin_measurement(self, now_us);
    set_window(self);
}

void flow_window_note_full(FlowWindow *self)
{
    self->full = true;
}

uint64_t flow_window_get(const FlowWindow *self)
{
    return self->window;
}

uint64_t flow_window_get_rate(const FlowWindow *self)
{
    return self->rate * 1e6;
}
