/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire/epoch.h"

static void make(EpochBarrier *b, unsigned n_in, unsigned n_out)
{
    epoch_barrier_init(b);
    for (unsigned i = 0; i < n_in; i++) {
        g_assert_cmpuint(epoch_barrier_add_in(b, 0), ==, i);
    }
    for (unsigned i = 0; i < n_out; i++) {
        g_assert_cmpuint(epoch_barrier_add_out(b), ==, i);
    }
}

static void test_closes_when_all_have_synced(void)
{
    EpochBarrier b;

    make(&b, 2, 1);
    epoch_barrier_in_sync(&b, 0);
    g_assert_false(epoch_barrier_try_close(&b));
    g_assert_false(epoch_barrier_in_may_push(&b, 0));    /* ahead: waits */
    g_assert_true(epoch_barrier_in_may_push(&b, 1));
    g_assert_false(epoch_barrier_out_may_sync(&b, 0, true));
    epoch_barrier_in_sync(&b, 1);
    g_assert_true(epoch_barrier_try_close(&b));
    g_assert_false(epoch_barrier_try_close(&b));
    g_assert_true(epoch_barrier_in_may_push(&b, 0));
    g_assert_cmpuint(epoch_barrier_in_epoch(&b, 0), ==, 1);
}

/* What is left of an epoch must not follow its SYNC. */
static void test_sync_waits_for_the_rest_of_its_epoch(void)
{
    EpochBarrier b;

    make(&b, 1, 2);
    epoch_barrier_in_sync(&b, 0);
    g_assert_true(epoch_barrier_try_close(&b));
    g_assert_false(epoch_barrier_out_may_sync(&b, 0, false));
    g_assert_true(epoch_barrier_out_may_sync(&b, 0, true));
    epoch_barrier_out_synced(&b, 0);
    g_assert_cmpuint(epoch_barrier_out_epoch(&b, 0), ==, 1);
    g_assert_false(epoch_barrier_out_may_sync(&b, 0, true));
}

static void test_marker_waits_for_every_channel(void)
{
    EpochBarrier b;

    make(&b, 1, 3);
    epoch_barrier_in_sync(&b, 0);
    g_assert_true(epoch_barrier_try_close(&b));
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpuint(epoch_barrier_synced_out(&b), ==, 0);
        epoch_barrier_out_synced(&b, i);
    }
    g_assert_cmpuint(epoch_barrier_synced_out(&b), ==, 1);
}

static void test_nothing_closes_without_channels(void)
{
    EpochBarrier b;

    make(&b, 0, 0);
    g_assert_false(epoch_barrier_try_close(&b));
    g_assert_cmpuint(epoch_barrier_synced_out(&b), ==, 0);
}

/* The number of channels is known late: an early SYNC closes nothing by itself. */
static void test_late_channel_joins_the_open_epoch(void)
{
    EpochBarrier b;

    make(&b, 1, 1);
    epoch_barrier_in_sync(&b, 0);
    g_assert_cmpuint(epoch_barrier_add_in(&b, 0), ==, 1);
    g_assert_false(epoch_barrier_try_close(&b));
    epoch_barrier_in_sync(&b, 1);
    g_assert_true(epoch_barrier_try_close(&b));
}

static void test_late_channel_owes_one_sync(void)
{
    EpochBarrier b;

    make(&b, 1, 1);
    epoch_barrier_in_sync(&b, 0);
    g_assert_true(epoch_barrier_try_close(&b));
    g_assert_cmpuint(epoch_barrier_add_in(&b, 0), ==, 1);
    g_assert_false(epoch_barrier_in_may_push(&b, 1));    /* epoch 0 is closed */
    epoch_barrier_in_sync(&b, 1);
    g_assert_true(epoch_barrier_in_may_push(&b, 1));
}

static void test_link_closes_by_number(void)
{
    EpochBarrier b;

    make(&b, 0, 1);
    epoch_barrier_close(&b, 0);
    epoch_barrier_close(&b, 1);
    g_assert_cmpuint(b.closed, ==, 2);
    epoch_barrier_out_synced(&b, 0);
    g_assert_true(epoch_barrier_out_may_sync(&b, 0, true));
    epoch_barrier_out_synced(&b, 0);
    g_assert_false(epoch_barrier_out_may_sync(&b, 0, true));
    g_assert_cmpuint(epoch_barrier_synced_out(&b), ==, 2);
}

static void test_most_channels(void)
{
    EpochBarrier b;

    make(&b, MULTIFD_CHANNELS_MAX, MULTIFD_CHANNELS_MAX);
    for (unsigned i = 0; i < MULTIFD_CHANNELS_MAX; i++) {
        g_assert_false(epoch_barrier_try_close(&b));
        epoch_barrier_in_sync(&b, i);
    }
    g_assert_true(epoch_barrier_try_close(&b));
}

/* ---- any interleaving, against a model that knows only the wire's rule ---- */

enum { CHANNELS = 6, EPOCHS = 8, PER_EPOCH = 4 };

typedef struct {
    EpochBarrier b;
    GRand *rand;
    unsigned todo[CHANNELS][EPOCHS];    /* packets an inbound will still send */
    unsigned sent[CHANNELS];            /* SYNCs it sent */
    unsigned held[EPOCHS + 1];          /* packets in the exchange */
    unsigned taken[EPOCHS + 1];
    unsigned total[EPOCHS + 1];
    unsigned written[CHANNELS];         /* SYNCs on each outbound's wire */
    unsigned markers;                   /* let through to main */
} Model;

static void model_in(Model *m, unsigned in)
{
    unsigned epoch = m->sent[in];

    if (epoch == EPOCHS || !epoch_barrier_in_may_push(&m->b, in)) {
        return;
    }
    g_assert_cmpuint(epoch_barrier_in_epoch(&m->b, in), ==, epoch);
    if (m->todo[in][epoch] > 0) {
        m->todo[in][epoch]--;
        m->held[epoch]++;
        return;
    }
    epoch_barrier_in_sync(&m->b, in);
    m->sent[in]++;
    if (epoch_barrier_try_close(&m->b)) {
        for (unsigned i = 0; i < m->b.n_in; i++) {
            g_assert_cmpuint(m->sent[i], ==, m->b.closed);
        }
    }
}

static void model_out(Model *m, unsigned out)
{
    unsigned epoch = epoch_barrier_out_epoch(&m->b, out);

    g_assert_cmpuint(epoch, ==, m->written[out]);
    if (m->held[epoch] > 0) {
        m->held[epoch]--;
        m->taken[epoch]++;
    } else if (epoch_barrier_out_may_sync(&m->b, out, true)) {
        /* All that any inbound had in this epoch is on some wire by now. */
        g_assert_cmpuint(m->taken[epoch], ==, m->total[epoch]);
        for (unsigned i = 0; i < m->b.n_in; i++) {
            g_assert_cmpuint(m->sent[i], >, epoch);
        }
        epoch_barrier_out_synced(&m->b, out);
        m->written[out]++;
    }
}

static void model_marker(Model *m)
{
    if (m->markers < epoch_barrier_synced_out(&m->b)) {
        m->markers++;
        for (unsigned i = 0; i < m->b.n_out; i++) {
            g_assert_cmpuint(m->written[i], >=, m->markers);
        }
    }
}

static void run_model(GRand *rand)
{
    Model m = { .rand = rand };
    unsigned n_in = g_rand_int_range(rand, 1, CHANNELS + 1);
    unsigned n_out = g_rand_int_range(rand, 1, CHANNELS + 1);
    unsigned steps = 0;

    make(&m.b, n_in, n_out);
    for (unsigned i = 0; i < n_in; i++) {
        for (unsigned e = 0; e < EPOCHS; e++) {
            m.todo[i][e] = g_rand_int_range(rand, 0, PER_EPOCH);
            m.total[e] += m.todo[i][e];
        }
    }
    /* Progress is part of the promise: it ends, and within this many steps. */
    while (m.markers < EPOCHS) {
        unsigned who = g_rand_int_range(rand, 0, n_in + n_out + 1);

        g_assert_cmpuint(++steps, <, 100000);
        if (who < n_in) {
            model_in(&m, who);
        } else if (who < n_in + n_out) {
            model_out(&m, who - n_in);
        } else {
            model_marker(&m);
        }
    }
    for (unsigned e = 0; e < EPOCHS; e++) {
        g_assert_cmpuint(m.taken[e], ==, m.total[e]);
    }
}

static void test_any_interleaving_keeps_the_rule(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(g_test_rand_int());

    for (int i = 0; i < 4000; i++) {
        run_model(rand);
    }
}

#define ADD(path, func) g_test_add_func("/wire/epoch/" path, func)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("closes-when-all-have-synced", test_closes_when_all_have_synced);
    ADD("sync-waits-for-the-rest-of-its-epoch",
        test_sync_waits_for_the_rest_of_its_epoch);
    ADD("marker-waits-for-every-channel", test_marker_waits_for_every_channel);
    ADD("nothing-closes-without-channels",
        test_nothing_closes_without_channels);
    ADD("late-channel-joins-the-open-epoch",
        test_late_channel_joins_the_open_epoch);
    ADD("late-channel-owes-one-sync", test_late_channel_owes_one_sync);
    ADD("link-closes-by-number", test_link_closes_by_number);
    ADD("most-channels", test_most_channels);
    ADD("any-interleaving-keeps-the-rule",
        test_any_interleaving_keeps_the_rule);
    return g_test_run();
}
