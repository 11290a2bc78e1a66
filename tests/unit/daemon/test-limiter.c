/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/limiter.h"

#include "daemon/limiter-node.h"

#define SECOND INT64_C(1000000000)
#define MS INT64_C(1000000)

/* A leaf that always has requests waiting, and counts what it got. */
typedef struct {
    LimiterNode node;
    LimiterRequest requests[4];     /* as many threads */
    size_t piece;
    uint64_t got;
    uint64_t first_10ms;
} Sender;

static void sender_init(Sender *self, LimiterNode *parent, uint64_t rate,
                        unsigned weight, size_t piece)
{
    size_t i;

    *self = (Sender) { .piece = piece };
    limiter_node_init(&self->node, parent, rate, weight, 0);
    for (i = 0; i < G_N_ELEMENTS(self->requests); i++) {
        self->requests[i].bytes = piece;
        limiter_node_push(&self->node, &self->requests[i]);
    }
}

static void sender_clear(Sender *self)
{
    while (limiter_node_drop(&self->node)) {
    }
    limiter_node_clear(&self->node);
}

static Sender *sender_of(Sender *senders, size_t n, LimiterRequest *request)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (request >= senders[i].requests &&
            request < senders[i].requests + 4) {
            return &senders[i];
        }
    }
    g_assert_not_reached();
}

/* Let virtual time run from @from_ns to @to_ns; each granted request comes back
 * at once, as from a thread with nothing but sending to do. */
static void run(LimiterNode *root, Sender *senders, size_t n, int64_t from_ns,
                int64_t to_ns)
{
    int64_t now_ns = from_ns;

    while (now_ns < to_ns) {
        int64_t next_ns = 0;
        LimiterRequest *request = limiter_node_grant(root, now_ns, &next_ns);

        if (request) {
            Sender *sender = sender_of(senders, n, request);

            sender->got += request->bytes;
            if (now_ns - from_ns < 10 * MS) {
                sender->first_10ms += request->bytes;
            }
            limiter_node_push(&sender->node, request);
        } else {
            g_assert_cmpint(next_ns, >, now_ns);
            now_ns = next_ns;
        }
    }
}

static void assert_within(uint64_t got, uint64_t expected, unsigned per_mille)
{
    g_assert_cmpuint(got * 1000, >=, expected * (1000 - per_mille));
    g_assert_cmpuint(got * 1000, <=, expected * (1000 + per_mille));
}

/* The promise is 2 % over any second; waking exactly in time it is better. */
static void test_keeps_every_rate(void)
{
    static const uint64_t mbits[] = { 1, 3, 10, 97, 1000, 10000 };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(mbits); i++) {
        uint64_t rate = mbits[i] * 1000000 / 8;
        size_t piece = CLAMP(rate / 400, 1024, 256 * 1024);
        LimiterNode root;
        Sender sender;
        int second;

        limiter_node_init(&root, NULL, rate, 1, 0);
        sender_init(&sender, &root, 0, 1, piece);
        for (second = 0; second < 3; second++) {
            sender.got = 0;
            run(&root, &sender, 1, second * SECOND, (second + 1) * SECOND);
            assert_within(sender.got, rate, 10);
        }
        sender_clear(&sender);
        limiter_node_clear(&root);
    }
}

/* Odd sizes and odd rates divide badly; the remainders must not get lost. */
static void test_does_not_drift(void)
{
    const uint64_t rate = 999983;
    LimiterNode root;
    Sender sender;

    limiter_node_init(&root, NULL, rate, 1, 0);
    sender_init(&sender, &root, 0, 1, 1021);
    run(&root, &sender, 1, 0, 1000 * SECOND);
    g_assert_cmpuint(sender.got, >=, rate * 1000);
    g_assert_cmpuint(sender.got, <=, rate * 1000 + rate / 100);
    sender_clear(&sender);
    limiter_node_clear(&root);
}

/* After idling, no more than 10 ms of the rate may go at once. */
static void test_idling_saves_10_ms_at_most(void)
{
    const uint64_t rate = 100000000;
    LimiterNode root;
    Sender sender;
    int64_t next_ns;
    LimiterRequest *request;
    uint64_t at_once = 0;

    limiter_node_init(&root, NULL, rate, 1, 0);
    sender_init(&sender, &root, 0, 1, rate / 400);
    while ((request = limiter_node_grant(&root, 100 * SECOND, &next_ns))) {
        at_once += request->bytes;
        limiter_node_push(&sender.node, request);
    }
    g_assert_cmpuint(at_once, <=, rate / 100);
    sender_clear(&sender);
    limiter_node_clear(&root);
}

/* A sender that wakes late, by less than the credit, still gets its rate. */
static void test_late_wakeups_are_made_good(void)
{
    const uint64_t rate = 1250000000;
    LimiterNode root;
    Sender sender;
    int64_t now_ns;

    limiter_node_init(&root, NULL, rate, 1, 0);
    sender_init(&sender, &root, 0, 1, 256 * 1024);
    for (now_ns = 0; now_ns < SECOND; now_ns += 3 * MS) {
        int64_t next_ns;
        LimiterRequest *request;

        while ((request = limiter_node_grant(&root, now_ns, &next_ns))) {
            sender.got += request->bytes;
            limiter_node_push(&sender.node, request);
        }
    }
    assert_within(sender.got, rate, 10);
    sender_clear(&sender);
    limiter_node_clear(&root);
}

static void test_shares_by_weight(void)
{
    const uint64_t rate = 12500000;
    LimiterNode root;
    Sender senders[3];
    static const unsigned weights[] = { 1, 2, 5 };
    size_t i;

    limiter_node_init(&root, NULL, rate, 1, 0);
    for (i = 0; i < 3; i++) {
        /* pieces of different size: bytes count, not turns */
        sender_init(&senders[i], &root, 0, weights[i], 4096 << i);
    }
    run(&root, senders, 3, 0, 4 * SECOND);
    for (i = 0; i < 3; i++) {
        assert_within(senders[i].got, rate * 4 * weights[i] / 8, 20);
    }
    for (i = 0; i < 3; i++) {
        sender_clear(&senders[i]);
    }
    limiter_node_clear(&root);
}

/* Who has a low rate of its own must not hold back who has none. */
static void test_slow_child_does_not_hold_back_siblings(void)
{
    const uint64_t rate = 12500000;
    LimiterNode root;
    Sender senders[2];

    limiter_node_init(&root, NULL, rate, 1, 0);
    sender_init(&senders[0], &root, rate / 100, 10, 4096);
    sender_init(&senders[1], &root, 0, 1, 4096);
    run(&root, senders, 2, 0, 2 * SECOND);
    assert_within(senders[0].got, rate * 2 / 100, 30);
    assert_within(senders[1].got, rate * 2 * 99 / 100, 20);

    /* Nor does it make up for missed turns once its own limit is lifted. */
    limiter_node_set_rate(&senders[0].node, 0, 2 * SECOND);
    limiter_node_set_weight(&senders[0].node, 1);
    senders[0].got = senders[1].got = 0;
    run(&root, senders, 2, 2 * SECOND, 3 * SECOND);
    assert_within(senders[0].got, rate / 2, 20);
    sender_clear(&senders[0]);
    sender_clear(&senders[1]);
    limiter_node_clear(&root);
}

/* A sibling that was away does not get the turns that it did not want. */
static void test_absence_earns_nothing(void)
{
    const uint64_t rate = 12500000;
    LimiterNode root;
    Sender senders[2];

    limiter_node_init(&root, NULL, rate, 1, 0);
    sender_init(&senders[0], &root, 0, 1, 4096);
    limiter_node_init(&senders[1].node, &root, 0, 1, 0);
    run(&root, senders, 1, 0, 10 * SECOND);
    limiter_node_clear(&senders[1].node);
    sender_init(&senders[1], &root, 0, 1, 4096);
    senders[0].got = 0;
    run(&root, senders, 2, 10 * SECOND, 11 * SECOND);
    assert_within(senders[0].got, rate / 2, 20);
    assert_within(senders[1].got, rate / 2, 20);
    sender_clear(&senders[0]);
    sender_clear(&senders[1]);
    limiter_node_clear(&root);
}

/* What the main channel takes without asking is missing for the pages. */
static void test_charge_makes_debt_all_the_way_up(void)
{
    const uint64_t rate = 1000000;
    LimiterNode root;
    Sender senders[2];

    limiter_node_init(&root, NULL, rate, 1, 0);
    sender_init(&senders[0], &root, 0, 1, 1024);
    sender_init(&senders[1], &root, 0, 1, 1024);
    limiter_node_charge(&senders[0].node, rate / 2, 0);
    run(&root, senders, 2, 0, SECOND);
    assert_within(senders[0].got + senders[1].got, rate / 2, 30);
    /* and it counts as a turn of its own leaf */
    g_assert_cmpuint(senders[1].got, >, senders[0].got * 10);
    sender_clear(&senders[0]);
    sender_clear(&senders[1]);
    limiter_node_clear(&root);
}

static void test_debt_is_in_bytes_when_the_rate_changes(void)
{
    const uint64_t rate = 1000000;
    LimiterNode root;
    Sender sender;
    int64_t next_ns;

    limiter_node_init(&root, NULL, rate, 1, 0);
    sender_init(&sender, &root, 0, 1, 1000);
    limiter_node_charge(&sender.node, rate, 0);     /* a second of debt */
    limiter_node_set_rate(&root, rate * 10, 0);     /* a tenth now */
    g_assert_null(limiter_node_grant(&root, 0, &next_ns));
    g_assert_cmpint(next_ns, >, 90 * MS);
    g_assert_cmpint(next_ns, <=, 100 * MS);
    limiter_node_set_rate(&root, 0, 0);
    g_assert_nonnull(limiter_node_grant(&root, 0, &next_ns));
    sender_clear(&sender);
    limiter_node_clear(&root);
}

/*
 * With threads
 */

static void test_unlimited_never_waits(void)
{
    g_autoptr(Limiter) root = limiter_new(NULL, 0, 1);
    g_autoptr(Limiter) leaf = limiter_new(root, 0, 1);

    g_assert_cmpuint(limiter_get_quantum(leaf), ==, SIZE_MAX);
    g_assert_true(limiter_acquire(leaf, SIZE_MAX));
    limiter_charge(leaf, SIZE_MAX);
    g_assert_true(limiter_acquire(leaf, 1));
    limiter_close(leaf);
    g_assert_false(limiter_acquire(leaf, 1));
}

static void test_quantum_follows_the_lowest_rate(void)
{
    g_autoptr(Limiter) root = limiter_new(NULL, 1250000000, 1);
    g_autoptr(Limiter) leaf = limiter_new(root, 0, 1);

    g_assert_cmpuint(limiter_get_quantum(leaf), ==, 256 * 1024);
    limiter_set_rate(leaf, 4000000);
    g_assert_cmpuint(limiter_get_quantum(leaf), ==, 10000);
    limiter_set_rate(leaf, 125000);
    g_assert_cmpuint(limiter_get_quantum(leaf), ==, 768);
    g_assert_cmpuint(limiter_get_rate(leaf), ==, 125000);
}

static gpointer acquire_thread(gpointer data)
{
    return GINT_TO_POINTER(limiter_acquire(data, 1) ? 1 : 2);
}

/* The leaf is in debt for days; only the event can end the wait. */
static void check_wakes(void (*event)(Limiter *root, Limiter *leaf),
                        int expected)
{
    g_autoptr(Limiter) root = limiter_new(NULL, 1000, 1);
    g_autoptr(Limiter) leaf = limiter_new(root, 0, 1);
    GThread *threads[3];
    size_t i;

    limiter_charge(leaf, 1000 * 1000 * 1000);
    for (i = 0; i < 3; i++) {
        threads[i] = g_thread_new("acquire", acquire_thread, leaf);
    }
    g_usleep(20000);    /* so that they mostly wait already; right either way */
    event(root, leaf);
    for (i = 0; i < 3; i++) {
        g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(threads[i])), ==,
                        expected);
    }
}

static void lift_rate(Limiter *root, Limiter *leaf G_GNUC_UNUSED)
{
    limiter_set_rate(root, 0);
}

static void close_leaf(Limiter *root G_GNUC_UNUSED, Limiter *leaf)
{
    limiter_close(leaf);
}

static void test_rate_change_wakes_waiters(void)
{
    check_wakes(lift_rate, 1);
}

static void test_close_wakes_and_refuses(void)
{
    check_wakes(close_leaf, 2);
}

static gpointer many_thread(gpointer data)
{
    int i;

    for (i = 0; i < 2000; i++) {
        if (!limiter_acquire(data, 1000)) {
            return NULL;
        }
    }
    return data;
}

/* Everyone gets through, whoever keeps the time, while the rate changes. */
static void test_many_threads_get_through(void)
{
    g_autoptr(Limiter) root = limiter_new(NULL, 400000000, 1);
    Limiter *leaves[3];
    GThread *threads[6];
    int i;

    for (i = 0; i < 3; i++) {
        leaves[i] = limiter_new(root, i == 2 ? 40000000 : 0, i + 1);
    }
    for (i = 0; i < 6; i++) {
        threads[i] = g_thread_new("many", many_thread, leaves[i / 2]);
    }
    for (i = 0; i < 20; i++) {
        limiter_set_rate(root, 400000000 + i * 1000000);
        limiter_set_weight(leaves[0], i);
        limiter_charge(leaves[1], 1000);
        g_thread_yield();
    }
    for (i = 0; i < 6; i++) {
        g_assert_nonnull(g_thread_join(threads[i]));
    }
    for (i = 0; i < 3; i++) {
        limiter_unref(leaves[i]);
    }
}

/* What is set meanwhile, by schedule or hand, holds afterwards; ends are many. */
static void test_a_hurry_raises_the_parent(void)
{
    g_autoptr(Limiter) root = limiter_new(NULL, 0, 1);
    g_autoptr(Limiter) peer = limiter_new(root, 1000, 1);
    g_autoptr(Limiter) one = limiter_new(peer, 0, 3);
    Limiter *two = limiter_new(peer, 0, 1);

    limiter_begin_hurry(one, 5000);
    limiter_begin_hurry(one, 5000);
    limiter_begin_hurry(two, 5000);
    g_assert_cmpuint(limiter_get_rate(peer), ==, 5000);
    g_assert_cmpuint(limiter_get_weight(one), ==, 3);
    limiter_set_rate(peer, 2000);
    g_assert_cmpuint(limiter_get_rate(peer), ==, 5000);
    limiter_set_rate(peer, 7000);
    g_assert_cmpuint(limiter_get_rate(peer), ==, 7000);
    limiter_set_rate(peer, 2000);
    limiter_end_hurry(one);
    limiter_end_hurry(one);
    g_assert_cmpuint(limiter_get_rate(peer), ==, 5000);
    limiter_unref(two);
    g_assert_cmpuint(limiter_get_rate(peer), ==, 2000);
    limiter_begin_hurry(one, LIMITER_UNLIMITED);
    g_assert_cmpuint(limiter_get_rate(peer), ==, 0);
    limiter_close(one);
    g_assert_cmpuint(limiter_get_rate(peer), ==, 2000);
}

static gpointer take_until_closed(gpointer leaf)
{
    gsize n = 0;

    while (limiter_acquire(leaf, 1024)) {
        n++;
    }
    return GSIZE_TO_POINTER(n);
}

/* Grants are counted, not time: 600 of one, and the other had its 17th of them. */
static void test_a_hurry_goes_first(void)
{
    g_autoptr(Limiter) peer = limiter_new(NULL, 1024 * 1024, 1);
    g_autoptr(Limiter) one = limiter_new(peer, 0, 1);
    g_autoptr(Limiter) two = limiter_new(peer, 0, 1);
    GThread *other[4];
    gsize n = 0;

    limiter_begin_hurry(one, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(other); i++) {
        other[i] = g_thread_new("other", take_until_closed, i < 2 ? one : two);
    }
    for (unsigned i = 0; i < 600; i++) {
        g_assert_true(limiter_acquire(one, 1024));
    }
    limiter_close(two);
    limiter_close(one);
    for (unsigned i = 0; i < G_N_ELEMENTS(other); i++) {
        gsize got = GPOINTER_TO_SIZE(g_thread_join(other[i]));

        n += i < 2 ? 0 : got;
    }
    g_assert_cmpuint(n, <, 450);    /* a half of all would be 1800 */
}

/* No rate may be lowered by it, and none be set where there was none. */
static void test_a_hurry_never_slows(void)
{
    g_autoptr(Limiter) root = limiter_new(NULL, 0, 1);
    g_autoptr(Limiter) peer = limiter_new(root, 1000, 1);
    g_autoptr(Limiter) leaf = limiter_new(peer, 0, 1);

    limiter_begin_hurry(leaf, 10);
    g_assert_cmpuint(limiter_get_rate(peer), ==, 1000);
    limiter_set_rate(peer, 0);
    g_assert_cmpuint(limiter_get_rate(peer), ==, 0);
    limiter_end_hurry(leaf);
    limiter_begin_hurry(leaf, 0);
    g_assert_cmpuint(limiter_get_rate(peer), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add_func("/daemon/limiter/" path, test)
    ADD("keeps-every-rate", test_keeps_every_rate);
    ADD("does-not-drift", test_does_not_drift);
    ADD("idling-saves-10-ms-at-most", test_idling_saves_10_ms_at_most);
    ADD("late-wakeups-are-made-good", test_late_wakeups_are_made_good);
    ADD("shares-by-weight", test_shares_by_weight);
    ADD("slow-child-does-not-hold-back-siblings",
        test_slow_child_does_not_hold_back_siblings);
    ADD("absence-earns-nothing", test_absence_earns_nothing);
    ADD("charge-makes-debt-all-the-way-up",
        test_charge_makes_debt_all_the_way_up);
    ADD("debt-is-in-bytes-when-the-rate-changes",
        test_debt_is_in_bytes_when_the_rate_changes);
    ADD("unlimited-never-waits", test_unlimited_never_waits);
    ADD("quantum-follows-the-lowest-rate",
        test_quantum_follows_the_lowest_rate);
    ADD("rate-change-wakes-waiters", test_rate_change_wakes_waiters);
    ADD("close-wakes-and-refuses", test_close_wakes_and_refuses);
    ADD("a-hurry-raises-the-parent", test_a_hurry_raises_the_parent);
    ADD("a-hurry-goes-first", test_a_hurry_goes_first);
    ADD("a-hurry-never-slows", test_a_hurry_never_slows);
    ADD("many-threads-get-through", test_many_threads_get_through);
    return g_test_run();
}
