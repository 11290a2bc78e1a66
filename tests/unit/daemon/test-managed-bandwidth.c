/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a source QEMU is told of the rate that its last pages will go at. */
#include "daemon/managed-bandwidth.h"

static void test_without_a_limit(void)
{
    /* What is measured, however well it was packed. */
    g_assert_cmpuint(managed_bandwidth_estimate(5000, 5000, 0, 0, 1), ==, 5000);
    g_assert_cmpuint(managed_bandwidth_estimate(5000, 100, 0, 0, 50), ==, 5000);
}

/* A rate that was measured before the limit came down is not possible any more. */
static void test_never_above_the_limit(void)
{
    g_assert_cmpuint(managed_bandwidth_estimate(5000, 900, 1000, 1000, 1), ==,
                     1000);
    g_assert_cmpuint(managed_bandwidth_estimate(5000, 900, 1000, 1000, 3), ==,
                     3000);
    g_assert_cmpuint(managed_bandwidth_estimate(700, 700, 1000, 1000, 1), ==,
                     700);
}

/* What is let through in switchover only helps where the limit is what holds. */
static void test_a_limit_that_is_raised(void)
{
    g_assert_cmpuint(managed_bandwidth_estimate(1000, 1000, 1000, 4000, 1), ==,
                     4000);
    g_assert_cmpuint(managed_bandwidth_estimate(500, 500, 1000, 4000, 1), ==,
                     500);
    /* Lifted: nothing is known of what the line carries beyond. */
    g_assert_cmpuint(managed_bandwidth_estimate(1000, 1000, 1000, 0, 1), ==,
                     1000);
}

enum { BUSY = 1024 * 1024, SECOND = 1000 * 1000 };

/* Bursts count for what they are in the long run, and pauses of the source not. */
static void test_average_while_busy(void)
{
    ManagedBandwidth self = { .told = 0 };
    int64_t now_us = 5;

    managed_bandwidth_look(&self, 0, BUSY, now_us);
    g_assert_cmpuint(self.average, ==, 0);
    managed_bandwidth_look(&self, 99, BUSY, now_us + 1000);     /* too soon */
    g_assert_cmpuint(self.average, ==, 0);
    managed_bandwidth_look(&self, 4000, BUSY, now_us += SECOND);
    g_assert_cmpuint(self.average, ==, 4000);
    managed_bandwidth_look(&self, 4000 + 2000, BUSY, now_us += SECOND);
    g_assert_cmpuint(self.average, ==, 3000);
    /* It runs dry, rests, and begins again. */
    managed_bandwidth_look(&self, 6010, 0, now_us += SECOND);
    managed_bandwidth_look(&self, 6010, 0, now_us += 10 * SECOND);
    managed_bandwidth_look(&self, 6020, BUSY, now_us += SECOND);
    g_assert_cmpuint(self.average, ==, 3000);
    managed_bandwidth_look(&self, 7020, BUSY, now_us += SECOND);
    g_assert_cmpuint(self.average, ==, 2000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add_func("/daemon/managed-bandwidth/" path, test)
    ADD("average-while-busy", test_average_while_busy);
    ADD("without-a-limit", test_without_a_limit);
    ADD("never-above-the-limit", test_never_above_the_limit);
    ADD("a-limit-that-is-raised", test_a_limit_that_is_raised);
    return g_test_run();
}
