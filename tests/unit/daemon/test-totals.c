/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/totals.h"

#include <string.h>

static JsonObject *make(const char *state, int64_t bytes, int64_t downtime_ms)
{
    JsonObject *migration = json_object_new();

    json_object_set_string_member(migration, "peer", "dc2");
    json_object_set_string_member(migration, "role", "source");
    json_object_set_string_member(migration, "state", state);
    json_object_set_int_member(migration, "bytes-in", bytes);
    json_object_set_int_member(migration, "total-time-ms", 15000);
    if (downtime_ms >= 0) {
        json_object_set_int_member(migration, "downtime-ms", downtime_ms);
    }
    return migration;
}

static void add(Totals *totals, const char *state, int64_t bytes,
                int64_t downtime_ms)
{
    g_autoptr(JsonObject) migration = make(state, bytes, downtime_ms);

    totals_add(totals, migration);
}

static const TotalsRow *get_row(const Totals *totals)
{
    g_assert_cmpuint(totals->rows->len, ==, 1);
    return g_ptr_array_index(totals->rows, 0);
}

/* One that runs has moved bytes, but has not ended. */
static void test_counts_ends_and_bytes(void)
{
    g_autoptr(Totals) totals = totals_new();
    const TotalsRow *row;

    add(totals, "completed", 100, 250);
    add(totals, "failed", 10, -1);
    add(totals, "active", 1, -1);
    row = get_row(totals);
    g_assert_cmpuint(row->counters[TOTALS_BYTES_IN], ==, 111);
    g_assert_cmpuint(row->counters[TOTALS_COMPLETED], ==, 1);
    g_assert_cmpuint(row->counters[TOTALS_FAILED], ==, 1);
    g_assert_cmpuint(row->counters[TOTALS_CANCELLED], ==, 0);
}

/* The end of a bucket belongs to it, and each holds all before it. */
static void test_buckets_are_cumulative(void)
{
    g_autoptr(Totals) totals = totals_new();
    const TotalsHistogram *downtime;

    add(totals, "completed", 0, 100);
    add(totals, "completed", 0, 101);
    add(totals, "completed", 0, 1000000);
    add(totals, "completed", 0, -1);        /* not seen */
    downtime = &get_row(totals)->downtime;
    g_assert_cmpuint(downtime->n, ==, 3);
    g_assert_cmpuint(downtime->sum_ms, ==, 1000201);
    g_assert_cmpuint(downtime->at_most[0], ==, 0);
    g_assert_cmpuint(downtime->at_most[1], ==, 1);      /* 100 ms */
    g_assert_cmpuint(downtime->at_most[2], ==, 2);
    g_assert_cmpuint(downtime->at_most[TOTALS_DOWNTIME_BUCKETS - 1], ==, 2);
    g_assert_cmpuint(get_row(totals)->duration.n, ==, 4);
}

/* A peer's numbers, or a bug of ours, must not make a counter fall. */
static void test_takes_no_negative_numbers(void)
{
    g_autoptr(Totals) totals = totals_new();

    add(totals, "completed", -5, -1);
    g_assert_cmpuint(get_row(totals)->counters[TOTALS_BYTES_IN], ==, 0);
}

/* What a migration says last may be less than what it showed while it ran. */
static void test_never_falls(void)
{
    g_autoptr(Totals) before = totals_new(), now = totals_new();
    g_autoptr(Totals) fresh = totals_new();

    add(before, "active", 100, -1);
    add(now, "completed", 90, -1);
    totals_keep_growing(now, before);
    g_assert_cmpuint(get_row(now)->counters[TOTALS_BYTES_IN], ==, 100);
    g_assert_cmpuint(get_row(now)->counters[TOTALS_COMPLETED], ==, 1);
    totals_keep_growing(fresh, before);
    g_assert_cmpuint(get_row(fresh)->counters[TOTALS_BYTES_IN], ==, 100);
}

static void test_a_copy_is_its_own(void)
{
    g_autoptr(Totals) totals = totals_new(), copy = NULL;
    const uint64_t *count;

    add(totals, "failed", 1, -1);
    totals_add_reason(totals, "tls");
    copy = totals_copy(totals);
    add(totals, "failed", 1, -1);
    totals_add_reason(totals, "tls");
    g_assert_cmpuint(get_row(copy)->counters[TOTALS_FAILED], ==, 1);
    count = g_hash_table_lookup(copy->reasons, "tls");
    g_assert_cmpuint(*count, ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/totals/counts-ends-and-bytes",
                    test_counts_ends_and_bytes);
    g_test_add_func("/daemon/totals/buckets-are-cumulative",
                    test_buckets_are_cumulative);
    g_test_add_func("/daemon/totals/takes-no-negative-numbers",
                    test_takes_no_negative_numbers);
    g_test_add_func("/daemon/totals/never-falls", test_never_falls);
    g_test_add_func("/daemon/totals/a-copy-is-its-own", test_a_copy_is_its_own);
    return g_test_run();
}
