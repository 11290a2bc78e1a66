/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A line of a given rate and delay in simulated time: the window must let it be
 * used, and must not let much more be under way than it carries.
 */
#include <glib.h>

#include "daemon/flow-window.h"

enum { MIB = 1024 * 1024, FRAME = 521 * 1024 };

typedef struct {
    double rate;            /* bytes per microsecond that the line carries */
    int64_t delay_us;       /* there and back */
    double source;          /* bytes per microsecond that there are to send */
    FlowWindow window;
    GQueue under_way;       /* of Frame */
    uint64_t in_flight, acked, most;
    int64_t now_us, line_free_us, sent_all_us;
    double credit;
} Line;

typedef struct {
    int64_t sent_us, acked_us;
} Frame;

static void begin(Line *self, double mbit, unsigned delay_ms, uint64_t max)
{
    *self = (Line) { .rate = mbit / 8, .delay_us = delay_ms * 1000,
                     .source = 1e9, .now_us = 1 };
    flow_window_init(&self->window, max);
    g_queue_init(&self->under_way);
}

static void send_frame(Line *self)
{
    Frame *frame = g_new(Frame, 1);

    self->line_free_us = MAX(self->line_free_us, self->now_us) +
                         (int64_t)(FRAME / self->rate);
    *frame = (Frame) { self->now_us, self->line_free_us + self->delay_us };
    g_queue_push_tail(&self->under_way, frame);
    self->in_flight += FRAME;
    self->credit -= FRAME;
}

static void receive_acks(Line *self)
{
    Frame *frame;

    while ((frame = g_queue_peek_head(&self->under_way)) &&
           frame->acked_us <= self->now_us) {
        self->in_flight -= FRAME;
        self->acked += FRAME;
        flow_window_acked(&self->window, FRAME, self->now_us - frame->sent_us,
                          self->now_us);
        g_free(g_queue_pop_head(&self->under_way));
    }
}

/* In steps of a millisecond; notes the most that was under way in the last half. */
static void run(Line *self, unsigned seconds)
{
    int64_t end_us = self->now_us + seconds * G_USEC_PER_SEC;
    int64_t half_us = self->now_us + seconds * G_USEC_PER_SEC / 2;
    uint64_t acked_before = 0;

    self->most = 0;
    for (; self->now_us < end_us; self->now_us += 1000) {
        self->credit = MIN(self->credit + 1000 * self->source, 64.0 * MIB);
        receive_acks(self);
        while (self->credit >= FRAME &&
               self->in_flight + FRAME <= flow_window_get(&self->window)) {
            send_frame(self);
        }
        if (self->credit >= FRAME) {
            flow_window_note_full(&self->window);
        }
        if (self->now_us == half_us) {
            acked_before = self->acked;
        }
        if (self->now_us >= half_us) {
            self->most = MAX(self->most, self->in_flight);
        }
    }
    self->acked -= acked_before;    /* of the last half */
}

static void end(Line *self)
{
    g_queue_clear_full(&self->under_way, g_free);
}

static void test_fills_the_line_and_not_more(void)
{
    static const struct { unsigned mbit, delay_ms; } lines[] = {
        { 1000, 1 }, { 500, 10 }, { 200, 40 }, { 200, 80 }, { 50, 100 },
        { 10000, 20 },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++) {
        Line self;
        double bdp;

        begin(&self, lines[i].mbit, lines[i].delay_ms, 64 * MIB);
        run(&self, 10);
        bdp = self.rate * self.delay_us;
        /* Nine tenths of what it could carry in these five seconds. */
        g_assert_cmpfloat(self.acked, >=, 0.9 * MIN(self.rate, 64 * MIB /
                          (double)self.delay_us) * 5e6);
        g_assert_cmpfloat(self.most, <=, MAX(6 * (bdp + self.rate * 20000 + FRAME),
                                             5.0 * MIB));
        end(&self);
    }
}

static void test_never_above_what_was_granted(void)
{
    Line self;

    begin(&self, 10000, 100, 4 * MIB);
    run(&self, 4);
    g_assert_cmpuint(self.most, <=, 4 * MIB);
    end(&self);
}

/* A pause of the source is no reason to take the line for slow. */
static void test_a_lazy_source_changes_nothing(void)
{
    Line self;
    uint64_t before;

    begin(&self, 500, 10, 64 * MIB);
    run(&self, 4);
    before = flow_window_get(&self.window);
    self.source = 0.5;
    run(&self, 8);
    g_assert_cmpuint(flow_window_get(&self.window), >=, before / 2);
    end(&self);
}

/* A line that becomes slow, and fast again. */
static void test_follows_the_line(void)
{
    Line self;
    uint64_t fast, slow;

    begin(&self, 1000, 20, 64 * MIB);
    run(&self, 5);
    fast = flow_window_get(&self.window);
    self.rate = 50 / 8.0;
    run(&self, 40);
    slow = flow_window_get(&self.window);
    g_assert_cmpuint(slow * 2, <, fast);
    self.rate = 1000 / 8.0;
    run(&self, 20);
    g_assert_cmpuint(flow_window_get(&self.window) * 2, >, fast);
    end(&self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/daemon/flow-window/" name, function)
    ADD("fills-the-line-and-not-more", test_fills_the_line_and_not_more);
    ADD("never-above-what-was-granted", test_never_above_what_was_granted);
    ADD("a-lazy-source-changes-nothing", test_a_lazy_source_changes_nothing);
    ADD("follows-the-line", test_follows_the_line);
    return g_test_run();
}
