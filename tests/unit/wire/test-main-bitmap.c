/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps on the main channel: what is between their sections must still
 * be followed, or an abort could leave a destination at a marker for ever.
 */
#include "tests/unit/wire/main-stream-fixture.h"

enum { RAM = 2, BITMAP = 3 };

/* Up to the end of RAM START, with marker 1 in it. */
static GByteArray *new_stream(void)
{
    GByteArray *s = g_byte_array_new();

    put(s, 0x5145564d, 4);
    put(s, 3, 4);
    put_section_start(s, "ram", RAM, 4);
    put(s, 0x10000 | 0x04, 8);
    put_name(s, "m");
    put(s, 0x10000, 8);
    put(s, 0x200, 8);
    put(s, 0x10, 8);
    put_section_footer(s, RAM);
    return s;
}

/* What save_setup() writes for one bitmap. */
static void put_bitmap_start(GByteArray *s)
{
    put_section_start(s, "dirty-bitmap", BITMAP, 1);
    put(s, 0x10 | 0x08 | 0x04, 1);
    put_name(s, "disk0");
    put_name(s, "backup");
    put(s, 65536, 4);
    put(s, 0x03, 1);
    put(s, 0x01, 1);
    put_section_footer(s, BITMAP);
}

static void put_bits(GByteArray *s, unsigned flags, uint64_t size)
{
    put(s, 0x40 | flags, 1);
    put(s, 0, 8);
    put(s, 128, 4);
    if (!(flags & 0x02)) {
        put(s, size, 8);
    }
}

/* Pieces with and without their names; bytes that look like anything. */
static void put_bitmap_end(GByteArray *s)
{
    put_section(s, 0x03, BITMAP);
    put(s, 0x40 | 0x08 | 0x04, 1);
    put_name(s, "disk0");
    put_name(s, "backup");
    put(s, 0, 8);
    put(s, 128, 4);
    put(s, 16, 8);
    put(s, UINT64_C(0x7e00000003010200), 8);
    put(s, UINT64_C(0x0101010101010101), 8);
    put_bits(s, 0x02, 0);
    put_bits(s, 0, 8);
    put(s, UINT64_MAX, 8);
    put(s, 0x20, 1);
    put(s, 0x01, 1);
    put_section_footer(s, BITMAP);
}

static void assert_event(const Outcome *o, unsigned k, MainEventKind kind,
                         uint64_t offset)
{
    g_assert_cmpuint(k, <, o->n_events);
    g_assert_cmpint(o->events[k].kind, ==, kind);
    g_assert_cmpuint(o->events[k].offset, ==, offset);
}

static void test_markers_between_are_seen(void)
{
    GByteArray *s = new_stream();
    uint64_t second, third, end, device;
    g_auto(Outcome) o;

    put_bitmap_start(s);
    put_section(s, 0x02, RAM);
    second = s->len;
    put(s, 0x200, 8);
    put(s, 0x10, 8);
    put_section_footer(s, RAM);
    end = s->len;
    put_section(s, 0x03, RAM);
    third = s->len;
    put(s, 0x200, 8);
    put(s, 0x10, 8);
    put_section_footer(s, RAM);
    put_bitmap_end(s);
    device = s->len + 6;
    put(s, 0x04, 1);
    put(s, 4, 4);
    put_name(s, "timer");
    outcome_init(&o, s);
    g_assert_cmpstr(o.error, ==, NULL);
    g_assert_cmpuint(o.n_events, ==, 6);
    g_assert_cmpint(o.events[0].kind, ==, MAIN_EVENT_RAMBLOCKS);
    g_assert_cmpuint(o.events[1].number, ==, 1);
    assert_event(&o, 2, MAIN_EVENT_MARKER, second);
    assert_event(&o, 3, MAIN_EVENT_RAM_END, end);
    assert_event(&o, 4, MAIN_EVENT_MARKER, third);
    assert_event(&o, 5, MAIN_EVENT_OPAQUE, device);
}

static void test_contradictions_are_refused(void)
{
    GByteArray *s = new_stream();

    put_bitmap_start(s);
    put_bitmap_start(s);
    assert_broken(s, "got START of section 'dirty-bitmap' twice, allowed once");

    s = new_stream();
    put_section_start(s, "dirty-bitmap", RAM, 1);
    assert_broken(s, "got section id 2 twice, allowed once");

    s = new_stream();
    put_section_start(s, "dirty-bitmap", BITMAP, 1);
    put(s, 0x01, 1);
    put_section_footer(s, RAM);
    assert_broken(s, "got footer of section 2, allowed 3");

    s = new_stream();
    put_section(s, 0x02, BITMAP);       /* before its START */
    assert_broken(s, "got section id 3, allowed 2 ('ram')");
}

/* What a later QEMU may send is no contradiction. */
static void test_what_is_not_known_is_opaque(void)
{
    GByteArray *s = new_stream();

    put_section_start(s, "dirty-bitmap", BITMAP, 1);
    put(s, 0x80, 1);
    assert_opaque(s, "flags 0x80 of a dirty bitmap are not known");

    s = new_stream();
    put_section_start(s, "dirty-bitmap", BITMAP, 2);
    assert_opaque(s, "section 'dirty-bitmap' instance 0 version 2");

    s = new_stream();
    put_section_start(s, "dirty-bitmap", BITMAP, 1);
    put_bits(s, 0, UINT64_MAX);
    assert_opaque(s, "followed are at most 16777216");
}

/* Zero bytes of bits, and one less than may be followed, end where they say. */
static void test_sizes_end_where_they_say(void)
{
    static const uint64_t sizes[] = { 0, 1, 16384 };

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        GByteArray *s = new_stream();
        uint64_t marker;
        g_auto(Outcome) o;

        put_section_start(s, "dirty-bitmap", BITMAP, 1);
        put_bits(s, 0, sizes[i]);
        for (uint64_t j = 0; j < sizes[i]; j++) {
            put(s, 0x7e, 1);
        }
        put(s, 0x01, 1);
        put_section_footer(s, BITMAP);
        put_section(s, 0x02, RAM);
        marker = s->len;
        put(s, 0x200, 8);
        outcome_init(&o, s);
        g_assert_cmpstr(o.error, ==, NULL);
        assert_event(&o, 2, MAIN_EVENT_MARKER, marker);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/main-stream/bitmap/markers-between-are-seen",
                    test_markers_between_are_seen);
    g_test_add_func("/wire/main-stream/bitmap/contradictions-are-refused",
                    test_contradictions_are_refused);
    g_test_add_func("/wire/main-stream/bitmap/what-is-not-known-is-opaque",
                    test_what_is_not_known_is_opaque);
    g_test_add_func("/wire/main-stream/bitmap/sizes-end-where-they-say",
                    test_sizes_end_where_they_say);
    return g_test_run();
}
