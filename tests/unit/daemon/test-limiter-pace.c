/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a line sees of limited senders, in simulated time: within 2 % of the rate over
 * any second, and never more than 10 ms of it at once.  Their threads wake late, as
 * real ones do, and their pieces are those of paced-write, with what TLS adds.
 */
#include "daemon/limiter-node.h"

#include <glib.h>

#define SECOND INT64_C(1000000000)
#define MS INT64_C(1000000)

enum {
    TLS_RECORD = 16384, TLS_MORE = 22,
    THREADS = 4,                /* of each leaf */
    LEAVES_MAX = 3,
    BURST_MS = 10,
};

typedef struct {
    LimiterNode node;
    LimiterRequest requests[THREADS];
    uint64_t got;
} Leaf;

typedef struct {
    int64_t at_ns;
    uint64_t bytes;             /* all that went until then, with this */
    double allowed;             /* the rate's integral until then */
} Moment;

typedef struct {
    LimiterNode root;
    Leaf leaves[LEAVES_MAX];
    unsigned n;
    uint64_t rate;
    int64_t now_ns, changed_ns;
    int64_t late_ns;            /* threads wake so late, at most */
    uint64_t sent;
    double allowed;
    double level;               /* of a bucket that leaks at the rate */
    double highest;             /* in seconds of the rate */
    GArray *moments;
} Scene;

static size_t get_piece(uint64_t rate)
{
    size_t quantum = limiter_node_get_quantum(rate);

    return quantum + (quantum + TLS_RECORD - 1) / TLS_RECORD * TLS_MORE;
}

static void begin(Scene *self, uint64_t rate, unsigned n, int64_t late_ns)
{
    *self = (Scene) { .n = n, .rate = rate, .late_ns = late_ns };
    self->moments = g_array_new(FALSE, FALSE, sizeof(Moment));
    limiter_node_init(&self->root, NULL, rate, 1, 0);
    for (unsigned i = 0; i < n; i++) {
        Leaf *leaf = &self->leaves[i];

        limiter_node_init(&leaf->node, &self->root, 0, i + 1, 0);
        for (unsigned j = 0; j < THREADS; j++) {
            leaf->requests[j].bytes = get_piece(rate);
            limiter_node_push(&leaf->node, &leaf->requests[j]);
        }
    }
}

static void end(Scene *self)
{
    for (unsigned i = 0; i < self->n; i++) {
        while (limiter_node_drop(&self->leaves[i].node)) {
        }
        limiter_node_clear(&self->leaves[i].node);
    }
    limiter_node_clear(&self->root);
    g_array_unref(self->moments);
}

static void pass_time(Scene *self, int64_t to_ns)
{
    double drained = (double)self->rate * (to_ns - self->now_ns) / SECOND;

    self->allowed += drained;
    self->level = MAX(self->level - drained, 0);
    self->now_ns = to_ns;
}

static void note(Scene *self, uint64_t bytes)
{
    Moment moment;

    self->sent += bytes;
    self->level += bytes;
    moment = (Moment) { self->now_ns, self->sent, self->allowed };
    g_array_append_val(self->moments, moment);
    /* What was saved at another rate is measured by that. */
    if (self->now_ns - self->changed_ns > BURST_MS * MS) {
        self->highest = MAX(self->highest, self->level / self->rate);
    }
}

static void grant(Scene *self, LimiterRequest *request)
{
    for (unsigned i = 0; i < self->n; i++) {
        Leaf *leaf = &self->leaves[i];

        if (request >= leaf->requests && request < leaf->requests + THREADS) {
            leaf->got += request->bytes;
            note(self, request->bytes);
            request->bytes = get_piece(self->rate);
            limiter_node_push(&leaf->node, request);
        }
    }
}

static void run(Scene *self, int64_t until_ns)
{
    while (self->now_ns < until_ns) {
        int64_t next_ns;
        LimiterRequest *request = limiter_node_grant(&self->root, self->now_ns,
                                                     &next_ns);

        if (request) {
            grant(self, request);
        } else {
            int64_t late_ns = self->late_ns *
                              g_test_rand_double_range(0, 1);

            pass_time(self, MIN(next_ns + late_ns, until_ns));
        }
    }
}

static void change(Scene *self, uint64_t rate)
{
    self->rate = rate;
    self->changed_ns = self->now_ns;
    limiter_node_set_rate(&self->root, rate, self->now_ns);
}

/* Every second that begins or ends with something sent. */
static void check_seconds(const Scene *self)
{
    const Moment *moments = (const Moment *)self->moments->data;
    unsigned last = 0;

    for (unsigned first = 0; first < self->moments->len; first++) {
        double sent, allowed;

        while (last < self->moments->len &&
               moments[last].at_ns - moments[first].at_ns < SECOND) {
            last++;
        }
        if (last == self->moments->len) {
            break;
        }
        sent = moments[last].bytes - moments[first].bytes;
        allowed = moments[last].allowed - moments[first].allowed;
        g_assert_cmpfloat(sent, >=, allowed * 0.98);
        g_assert_cmpfloat(sent, <=, allowed * 1.02);
    }
    g_assert_cmpuint(last, >, 0);
}

static void check_bursts(const Scene *self)
{
    g_assert_cmpfloat(self->highest, >, 0);
    g_assert_cmpfloat(self->highest, <=, BURST_MS / 1000.0 + 1e-6);
}

static const uint64_t mbits[] = { 1, 10, 100, 1000, 10000 };

static void run_all(unsigned leaves, int64_t late_ns)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(mbits); i++) {
        uint64_t rate = mbits[i] * 1000 * 1000 / 8;
        Scene scene;

        begin(&scene, rate, leaves, late_ns);
        run(&scene, 3 * SECOND);
        check_seconds(&scene);
        check_bursts(&scene);
        for (unsigned j = 0; j < leaves; j++) {
            double share = (double)scene.leaves[j].got / scene.sent;
            double wanted = (j + 1.0) / (leaves * (leaves + 1) / 2);

            g_assert_cmpfloat(ABS(share - wanted), <, 0.02);
        }
        end(&scene);
    }
}

static void test_in_time(void)
{
    run_all(1, 0);
}

/* As on a machine that is busy: nothing is lost, and nothing is made up at once. */
static void test_late_threads(void)
{
    run_all(1, 3 * MS);
}

static void test_weights(void)
{
    run_all(3, 3 * MS);
}

/* Up, down, and between any two of the rates, in the middle of seconds. */
static void test_live_changes(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(mbits); i++) {
        for (unsigned j = 0; j < G_N_ELEMENTS(mbits); j++) {
            Scene scene;

            begin(&scene, mbits[i] * 1000 * 1000 / 8, 2, MS);
            run(&scene, 1700 * MS);
            check_seconds(&scene);
            change(&scene, mbits[j] * 1000 * 1000 / 8);
            /* A piece of the old rate may be waiting, and goes as it is. */
            run(&scene, 1700 * MS + (i > j ? 3 * SECOND : 0));
            g_array_set_size(scene.moments, 0);
            run(&scene, scene.now_ns + 3 * SECOND);
            check_seconds(&scene);
            end(&scene);
        }
    }
}

/* Having had nothing to send for long is no reason to burst. */
static void test_after_idling(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(mbits); i++) {
        Scene scene;

        begin(&scene, mbits[i] * 1000 * 1000 / 8, 1, MS);
        pass_time(&scene, 100 * SECOND);
        run(&scene, 101 * SECOND);
        check_bursts(&scene);
        end(&scene);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add_func("/daemon/limiter-pace/" path, test)
    ADD("in-time", test_in_time);
    ADD("late-threads", test_late_threads);
    ADD("weights", test_weights);
    ADD("live-changes", test_live_changes);
    ADD("after-idling", test_after_idling);
    return g_test_run();
}
