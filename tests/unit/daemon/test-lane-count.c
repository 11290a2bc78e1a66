/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many lanes are sent on, by what TCP says; a clock of our own. */
#include "daemon/lane-count.h"

#include <glib.h>

enum { RTT_US = 80 * 1000 };

/* A line, as far as its lanes can see. */
typedef struct {
    double lane_rate;           /* bytes per microsecond that one lane gets through */
    double line_rate;           /* that all do together */
    double source_rate;         /* that there is to send; 0: more than enough */
    int64_t connect_us;         /* until a lane that was added is up */
    bool queues;                /* a queue stands when the line is full */
    double noise;               /* of each lane's rate, both ways */
} Line;

typedef struct {
    const Line *line;
    LaneCount count;
    unsigned up;
    int64_t up_at_us;           /* those wanted */
    int64_t now_us;
    double acked;
    unsigned most;              /* that were ever wanted */
    unsigned changes;
} Run;

static double get_rate(const Run *self, unsigned lanes, bool *ret_full,
                       bool *ret_enough)
{
    const Line *line = self->line;
    double rate = lanes * line->lane_rate *
                  (1 + line->noise * g_test_rand_double_range(-1, 1));

    *ret_full = rate >= line->line_rate;
    rate = MIN(rate, line->line_rate);
    *ret_enough = line->source_rate == 0 || line->source_rate > rate;
    return *ret_enough ? rate : line->source_rate;
}

static void step(Run *self)
{
    unsigned wanted = lane_count_get(&self->count);
    unsigned used = MIN(self->up, wanted);
    bool full, enough;
    double rate = get_rate(self, used, &full, &enough);
    LaneSample sample;

    self->now_us += LANE_COUNT_SAMPLE_MS * 1000;
    self->acked += rate * LANE_COUNT_SAMPLE_MS * 1000;
    sample = (LaneSample) { .acked = self->acked };
    for (unsigned i = 0; i < used; i++) {
        lane_count_add(&sample, full && self->line->queues ? 2 * RTT_US : RTT_US,
                       RTT_US, enough ? 200000 : 0);
    }
    if (lane_count_note(&self->count, &sample, self->now_us)) {
        wanted = lane_count_get(&self->count);
        self->changes++;
        self->most = MAX(self->most, wanted);
        self->up_at_us = self->now_us + self->line->connect_us;
    }
    if (self->now_us >= self->up_at_us) {
        self->up = MAX(self->up, wanted);
    }
}

static void run_begin(Run *self, const Line *line, unsigned max)
{
    *self = (Run) { .line = line, .up = 4, .most = 4, .now_us = 1000000 };
    lane_count_init(&self->count, 4, max);
}

static void run_for(Run *self, unsigned seconds)
{
    int64_t end_us = self->now_us + seconds * INT64_C(1000000);

    while (self->now_us < end_us) {
        step(self);
    }
}

/* Each lane is throttled by loss: the more the better, until the line is full. */
static void test_loss_makes_more(void)
{
    static const Line line = { .lane_rate = 0.3, .line_rate = 25,
                               .connect_us = 240000, .queues = true,
                               .noise = 0.2 };
    Run run;

    run_begin(&run, &line, 32);
    run_for(&run, 12);
    g_assert_cmpuint(lane_count_get(&run.count), ==, 32);
    run_for(&run, 60);
    g_assert_cmpuint(lane_count_get(&run.count), ==, 32);
    g_assert_cmpuint(run.most, ==, 32);
}

static void test_maximum_is_kept(void)
{
    static const Line line = { .lane_rate = 0.3, .line_rate = 25 };
    Run run;

    run_begin(&run, &line, 6);
    run_for(&run, 60);
    g_assert_cmpuint(lane_count_get(&run.count), ==, 6);
    g_assert_cmpuint(run.most, ==, 6);

    run_begin(&run, &line, 2);
    g_assert_cmpuint(lane_count_get(&run.count), ==, 2);
    run_for(&run, 60);
    g_assert_cmpuint(run.most, ==, 4);     /* as it began: never asked for more */
    g_assert_cmpuint(run.changes, ==, 0);
}

/* What fills the line with a queue before it needs no more lanes: these would only
 * take from other people's connections. */
static void test_queue_needs_no_more(void)
{
    static const Line line = { .lane_rate = 25, .line_rate = 25,
                               .queues = true };
    Run run;

    run_begin(&run, &line, 32);
    run_for(&run, 120);
    g_assert_cmpuint(run.changes, ==, 0);
}

/* The source, or a rate limit, has no more to send. */
static void test_little_to_send_needs_no_more(void)
{
    static const Line line = { .lane_rate = 1, .line_rate = 25,
                               .source_rate = 3 };
    Run run;

    run_begin(&run, &line, 32);
    run_for(&run, 120);
    g_assert_cmpuint(run.changes, ==, 0);
}

/* A policer drops what is too much, without a queue: a trial in vain goes back, and
 * the next one is much later. */
static void test_plateau_goes_back(void)
{
    static const Line line = { .lane_rate = 25, .line_rate = 25 };
    Run run;

    run_begin(&run, &line, 32);
    run_for(&run, 25);
    g_assert_cmpuint(run.changes, ==, 2);
    g_assert_cmpuint(run.most, ==, 8);
    g_assert_cmpuint(lane_count_get(&run.count), ==, 4);
    run_for(&run, 60);
    g_assert_cmpuint(run.changes, <=, 2 + 2 * 2);
    g_assert_cmpuint(run.most, ==, 8);
}

/* All that is measured falls while the trial goes on: it seems vain, until it shows
 * how much less there is without it. */
static void test_falling_rate_is_no_verdict(void)
{
    Line line = { .lane_rate = 6.4, .line_rate = 1000 };
    Run run;

    run_begin(&run, &line, 32);
    for (unsigned i = 0; i < 36; i++) {     /* to a 40th within six seconds */
        for (unsigned j = 0; j < 3; j++) {
            step(&run);
        }
        line.lane_rate *= 0.9;
    }
    g_assert_cmpuint(run.changes, >=, 2);
    run_for(&run, 15);
    g_assert_cmpuint(lane_count_get(&run.count), ==, 32);
}

/* While lanes come up to speed, nothing is known of what they carry. */
static void test_slow_start_is_waited_for(void)
{
    Line line = { .lane_rate = 0.1, .line_rate = 1000 };
    Run run;

    run_begin(&run, &line, 32);
    for (unsigned i = 0; i < 4; i++) {      /* twice as fast each half second */
        for (unsigned j = 0; j < 10; j++) {
            step(&run);
        }
        line.lane_rate *= 2;
    }
    g_assert_cmpuint(run.changes, ==, 0);
    run_for(&run, 3);
    g_assert_cmpuint(run.changes, >, 0);
}

/* An outage, or a lane that is made anew, says nothing of the rest. */
static void test_missing_lanes_say_nothing(void)
{
    static const Line line = { .lane_rate = 0.3, .line_rate = 25 };
    Run run;

    run_begin(&run, &line, 32);
    run.up = 3;
    run.up_at_us = G_MAXINT64;
    run_for(&run, 60);
    g_assert_cmpuint(run.changes, ==, 0);
    run.up_at_us = 0;
    run_for(&run, 12);
    g_assert_cmpuint(lane_count_get(&run.count), ==, 32);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add_func("/daemon/lane-count/" path, test)
    ADD("loss-makes-more", test_loss_makes_more);
    ADD("maximum-is-kept", test_maximum_is_kept);
    ADD("queue-needs-no-more", test_queue_needs_no_more);
    ADD("little-to-send-needs-no-more", test_little_to_send_needs_no_more);
    ADD("plateau-goes-back", test_plateau_goes_back);
    ADD("falling-rate-is-no-verdict", test_falling_rate_is_no_verdict);
    ADD("slow-start-is-waited-for", test_slow_start_is_waited_for);
    ADD("missing-lanes-say-nothing", test_missing_lanes_say_nothing);
    return g_test_run();
}
