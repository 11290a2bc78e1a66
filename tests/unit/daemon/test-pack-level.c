/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>

#include "daemon/pack-level.h"

enum { RAW = 512 * 1024 };

/* So many frames, each packed to @percent of it; times in ms. */
static void frames(PackLevel *self, unsigned n, unsigned percent, int pack_ms,
                   int write_ms, int idle_ms)
{
    for (unsigned i = 0; i < n; i++) {
        pack_level_note_idle(self, idle_ms * 1000);
        pack_level_note_pages(self, RAW);
        if (!pack_level_is_off(self)) {
            pack_level_note_pack(self, RAW, RAW * percent / 100, pack_ms * 1000,
                                 pack_ms * 1000);
        }
        pack_level_note_write(self, write_ms * 1000);
    }
}

static PackLevel make(void)
{
    PackLevel self;

    pack_level_init(&self, 6, false);
    g_assert_cmpint(pack_level_get(&self), ==, 1);
    return self;
}

static void test_harder_while_the_wire_is_slow(void)
{
    PackLevel self = make();

    frames(&self, 1, 50, 10, 250, 0);
    g_assert_cmpint(pack_level_get(&self), ==, 3);
    frames(&self, 100, 50, 10, 250, 0);
    g_assert_cmpint(pack_level_get(&self), ==, 6);
    pack_level_init(&self, 3, false);
    frames(&self, 100, 50, 10, 250, 0);
    g_assert_cmpint(pack_level_get(&self), ==, 3);
}

static void test_fixed(void)
{
    PackLevel self;

    pack_level_init(&self, 3, true);
    frames(&self, 100, 50, 250, 0, 0);
    g_assert_cmpint(pack_level_get(&self), ==, 3);
    frames(&self, 100, 50, 0, 250, 0);
    g_assert_cmpint(pack_level_get(&self), ==, 3);
}

/* The source is what there is to wait for: neither more nor less. */
static void test_stays_while_the_source_is_slow(void)
{
    PackLevel self = make();

    frames(&self, 100, 50, 10, 1, 250);
    g_assert_cmpint(pack_level_get(&self), ==, 1);
}

/* Most of the time, and worth it: it saves nine tenths of the wire's. */
static void test_stays_where_it_pays(void)
{
    PackLevel self = make();

    frames(&self, 100, 10, 70, 30, 0);
    g_assert_cmpint(pack_level_get(&self), ==, 1);
}

/* Most of the time, and not worth it: each step is faster, and is kept. */
static void test_less_where_it_does_not_pay(void)
{
    PackLevel self = make();

    frames(&self, 2, 60, 120, 10, 0);
    g_assert_cmpint(pack_level_get(&self), ==, -1);
    frames(&self, 4, 60, 60, 10, 0);
    g_assert_cmpint(pack_level_get(&self), ==, -1);
    frames(&self, 3, 60, 60, 10, 0);
    g_assert_cmpint(pack_level_get(&self), ==, -5);
    frames(&self, 7, 70, 20, 10, 0);
    frames(&self, 7, 70, 20, 10, 0);
    g_assert_true(pack_level_is_off(&self));
}

/* What does not shrink is not packed less well, but not at all. */
static void test_off_where_nothing_shrinks(void)
{
    PackLevel self = make();

    frames(&self, 2, 99, 120, 10, 0);
    g_assert_true(pack_level_is_off(&self));
    frames(&self, 4, 99, 0, 60, 0);
    g_assert_true(pack_level_is_off(&self));
}

/* It looked as if the wire had room, but with more to carry it has none. */
static void test_less_that_is_no_gain_is_undone(void)
{
    PackLevel self = make();

    frames(&self, 2, 60, 120, 10, 0);
    g_assert_cmpint(pack_level_get(&self), ==, -1);
    frames(&self, 2, 70, 80, 50, 0);
    g_assert_cmpint(pack_level_get(&self), ==, 1);
    /* And not tried again at once, but later it is. */
    frames(&self, 14, 60, 120, 10, 0);
    g_assert_cmpint(pack_level_get(&self), ==, 1);
    frames(&self, 2, 60, 120, 10, 0);
    g_assert_cmpint(pack_level_get(&self), ==, -1);
}

/* Others wait for the processor, and nobody for the wire. */
static void test_less_where_processors_are_short(void)
{
    PackLevel self = make();

    frames(&self, 100, 10, 10, 250, 0);
    for (unsigned i = 0; i < 4; i++) {
        static const int expected[] = { 6, 3, 1, 1 };

        g_assert_cmpint(pack_level_get(&self), ==, expected[i]);
        pack_level_note_idle(&self, 150 * 1000);
        pack_level_note_pack(&self, RAW, RAW / 10, 100 * 1000, 50 * 1000);
        pack_level_note_write(&self, 10 * 1000);
    }
    /* They are not short. */
    frames(&self, 100, 10, 10, 250, 0);
    pack_level_note_idle(&self, 150 * 1000);
    pack_level_note_pack(&self, RAW, RAW / 10, 100 * 1000, 90 * 1000);
    pack_level_note_write(&self, 10 * 1000);
    g_assert_cmpint(pack_level_get(&self), ==, 6);
    /* For the wire somebody waits. */
    pack_level_note_pack(&self, RAW, RAW / 10, 100 * 1000, 50 * 1000);
    pack_level_note_write(&self, 110 * 1000);
    g_assert_cmpint(pack_level_get(&self), ==, 6);
}

/* What was too much is not tried again at once, but later it is. */
static void test_looks_again(void)
{
    PackLevel self = make();

    frames(&self, 1, 99, 250, 1, 0);
    frames(&self, 3, 99, 0, 70, 0);
    g_assert_true(pack_level_is_off(&self));
    frames(&self, 7, 50, 10, 250, 0);
    g_assert_cmpint(pack_level_get(&self), ==, -1);
    frames(&self, 3, 50, 10, 250, 0);
    g_assert_cmpint(pack_level_get(&self), ==, 6);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/daemon/pack-level/" name, function)
    ADD("harder-while-the-wire-is-slow", test_harder_while_the_wire_is_slow);
    ADD("fixed", test_fixed);
    ADD("stays-while-the-source-is-slow", test_stays_while_the_source_is_slow);
    ADD("stays-where-it-pays", test_stays_where_it_pays);
    ADD("less-where-it-does-not-pay", test_less_where_it_does_not_pay);
    ADD("off-where-nothing-shrinks", test_off_where_nothing_shrinks);
    ADD("less-that-is-no-gain-is-undone", test_less_that_is_no_gain_is_undone);
    ADD("less-where-processors-are-short",
        test_less_where_processors_are_short);
    ADD("looks-again", test_looks_again);
    return g_test_run();
}
