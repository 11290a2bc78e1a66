/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The limits on threads that carry data. */
#include <sys/resource.h>
#include <unistd.h>
#include "daemon/worker.h"

enum { THREADS = 8, LIMIT = 3, ROUNDS = 300 };

static gint computing, most;        /* atomic */

static void note_begin(void)
{
    gint n = g_atomic_int_add(&computing, 1) + 1, before;

    do {
        before = g_atomic_int_get(&most);
    } while (n > before &&
             !g_atomic_int_compare_and_exchange(&most, before, n));
}

static void *compute(void *data)
{
    (void)data;
    for (unsigned i = 0; i < ROUNDS; i++) {
        worker_begin_computing();
        note_begin();
        g_thread_yield();
        g_atomic_int_add(&computing, -1);
        worker_end_computing();
    }
    return NULL;
}

static gint count_computing(unsigned limit)
{
    GThread *threads[THREADS];

    g_atomic_int_set(&most, 0);
    worker_set_limits(0, limit);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = worker_new("compute", compute, NULL, NULL, NULL);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpint(g_atomic_int_get(&computing), ==, 0);
    return g_atomic_int_get(&most);
}

/* An operator who gives two cores means two; and everybody gets his turn. */
static void test_no_more_compute_than_allowed(void)
{
    g_assert_cmpint(count_computing(1), ==, 1);
    g_assert_cmpint(count_computing(LIMIT), <=, LIMIT);
}

static void *wait_for_a_place(void *data)
{
    gint *through = data;

    worker_begin_computing();
    g_atomic_int_set(through, 1);
    worker_end_computing();
    return NULL;
}

/* A reload may lift the limit: who waits then must not wait for a place that is
 * never given back. */
static void test_a_raised_limit_lets_who_waits_go(void)
{
    gint through = 0;
    GThread *thread;

    worker_set_limits(0, 1);
    worker_begin_computing();
    thread = worker_new("compute", wait_for_a_place, &through, NULL, NULL);
    g_assert_cmpint(g_atomic_int_get(&through), ==, 0);
    worker_set_limits(0, 2);
    g_thread_join(thread);
    worker_end_computing();
}

static void *compute_together(void *data)
{
    (void)data;
    worker_begin_computing();
    g_atomic_int_inc(&computing);
    /* Until all are here: a limit would let this stand still. */
    while (g_atomic_int_get(&computing) < THREADS) {
        g_thread_yield();
    }
    worker_end_computing();
    return NULL;
}

static void test_without_a_limit_all_compute(void)
{
    GThread *threads[THREADS];

    worker_set_limits(0, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = worker_new("compute", compute_together, NULL, NULL, NULL);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        g_thread_join(threads[i]);
    }
    g_atomic_int_set(&computing, 0);
}

static void *get_niceness(void *data)
{
    (void)data;
    return GINT_TO_POINTER(getpriority(PRIO_PROCESS, (id_t)gettid()));
}

static int start_and_get_niceness(unsigned nice)
{
    worker_set_limits(nice, 0);
    return GPOINTER_TO_INT(g_thread_join(
        worker_new("nice", get_niceness, NULL, NULL, NULL)));
}

/* The thread that commands must not be as slow as those that it commands. */
static void test_workers_alone_are_nice(void)
{
    int own = getpriority(PRIO_PROCESS, (id_t)gettid());
    int nicer = MIN(own + 5, 19);

    g_assert_cmpint(start_and_get_niceness(0), ==, own);
    g_assert_cmpint(start_and_get_niceness((unsigned)nicer), ==, nicer);
    g_assert_cmpint(getpriority(PRIO_PROCESS, (id_t)gettid()), ==, own);
}

static void *spend(void *data)
{
    volatile unsigned *n = data;

    for (unsigned i = 0; i < 1000000; i++) {
        *n += i;
    }
    return NULL;
}

static void test_time_counts_in_the_meter(void)
{
    g_autoptr(CpuMeter) meter = cpu_meter_new();
    unsigned n = 0;

    worker_set_limits(0, 0);
    g_thread_join(worker_new("spend", spend, &n, meter, NULL));
    g_assert_cmpuint(cpu_meter_get_us(meter), >, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/worker/" path, func)
    ADD("computing/no-more-than-allowed", test_no_more_compute_than_allowed);
    ADD("computing/without-a-limit-all", test_without_a_limit_all_compute);
    ADD("computing/a-raised-limit", test_a_raised_limit_lets_who_waits_go);
    ADD("nice/workers-alone", test_workers_alone_are_nice);
    ADD("meter/time-counts", test_time_counts_in_the_meter);
    return g_test_run();
}
