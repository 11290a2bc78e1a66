/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps on the main channel: what is between their sections must still
 * be followed, or an abort could leave a destination at a marker for ever.
 */
#include <string.h>

#include "wire/error.h"
#include "wire/main-stream.h"

enum { RAM = 2, BITMAP = 3, MAX_EVENTS = 16 };

static void put(GByteArray *s, uint64_t value, unsigned size)
{
    while (size-- > 0) {
        uint8_t byte = (uint8_t)(value >> (8 * size));

        g_byte_array_append(s, &byte, 1);
    }
}

static void put_name(GByteArray *s, const char *name)
{
    put(s, strlen(name), 1);
    g_byte_array_append(s, (const uint8_t *)name, strlen(name));
}

static void put_start(GByteArray *s, const char *name, unsigned id,
                      unsigned version)
{
    put(s, 0x01, 1);
    put(s, id, 4);
    put_name(s, name);
    put(s, 0, 4);
    put(s, version, 4);
}

static void put_section(GByteArray *s, unsigned type, unsigned id)
{
    put(s, type, 1);
    put(s, id, 4);
}

static void put_footer(GByteArray *s, unsigned id)
{
    put_section(s, 0x7e, id);
}

/* Up to the end of RAM START, with marker 1 in it. */
static GByteArray *new_stream(void)
{
    GByteArray *s = g_byte_array_new();

    put(s, 0x5145564d, 4);
    put(s, 3, 4);
    put_start(s, "ram", RAM, 4);
    put(s, 0x10000 | 0x04, 8);
    put_name(s, "m");
    put(s, 0x10000, 8);
    put(s, 0x200, 8);
    put(s, 0x10, 8);
    put_footer(s, RAM);
    return s;
}

/* What save_setup() writes for one bitmap. */
static void put_bitmap_start(GByteArray *s)
{
    put_start(s, "dirty-bitmap", BITMAP, 1);
    put(s, 0x10 | 0x08 | 0x04, 1);
    put_name(s, "disk0");
    put_name(s, "backup");
    put(s, 65536, 4);
    put(s, 0x03, 1);
    put(s, 0x01, 1);
    put_footer(s, BITMAP);
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
    put_footer(s, BITMAP);
}

typedef struct {
    MainStream *stream;
    MainEvent events[MAX_EVENTS];
    unsigned n_events;
    char *error;
} Outcome;

static void feed(Outcome *o, const uint8_t *buf, size_t len, size_t piece)
{
    size_t pos = 0;

    while (pos < len && !o->error) {
        g_autofree uint8_t *exact = g_memdup2(buf + pos, MIN(piece, len - pos));
        g_autoptr(GError) error = NULL;
        MainEvent event = { 0 };
        bool has_event;
        size_t used;

        if (!main_stream_feed(o->stream, exact, MIN(piece, len - pos), &used,
                              &event, &has_event, &error)) {
            o->error = g_strdup(error->message);
            return;
        }
        pos += used;
        if (has_event) {
            g_assert_cmpuint(o->n_events, <, MAX_EVENTS);
            o->events[o->n_events++] = event;
        }
    }
}

static void outcome_clear(Outcome *o)
{
    main_stream_free(o->stream);
    g_free(o->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Outcome, outcome_clear)

/* In one piece and byte by byte: the same must come of it.  Takes @s. */
static void outcome_init(Outcome *o, GByteArray *s)
{
    g_auto(Outcome) single = { .stream = main_stream_new() };

    *o = (Outcome) { .stream = main_stream_new() };
    feed(o, s->data, s->len, s->len);
    feed(&single, s->data, s->len, 1);
    g_assert_cmpstr(single.error, ==, o->error);
    g_assert_cmpmem(single.events, sizeof(single.events), o->events,
                    sizeof(o->events));
    g_byte_array_unref(s);
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
    put_footer(s, RAM);
    end = s->len;
    put_section(s, 0x03, RAM);
    third = s->len;
    put(s, 0x200, 8);
    put(s, 0x10, 8);
    put_footer(s, RAM);
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

static void assert_fails(GByteArray *s, const char *fragment)
{
    g_auto(Outcome) o;

    outcome_init(&o, s);
    g_assert_nonnull(o.error);
    g_assert_nonnull(strstr(o.error, fragment));
}

static void assert_opaque(GByteArray *s, const char *fragment)
{
    g_auto(Outcome) o;

    outcome_init(&o, s);
    g_assert_cmpstr(o.error, ==, NULL);
    g_assert_true(main_stream_is_opaque(o.stream));
    g_assert_nonnull(strstr(main_stream_get_opaque_reason(o.stream), fragment));
}

static void test_contradictions_are_refused(void)
{
    GByteArray *s = new_stream();

    put_bitmap_start(s);
    put_bitmap_start(s);
    assert_fails(s, "got START of section 'dirty-bitmap' twice, allowed once");

    s = new_stream();
    put_start(s, "dirty-bitmap", RAM, 1);
    assert_fails(s, "got section id 2 twice, allowed once");

    s = new_stream();
    put_start(s, "dirty-bitmap", BITMAP, 1);
    put(s, 0x01, 1);
    put_footer(s, RAM);
    assert_fails(s, "got footer of section 2, allowed 3");

    s = new_stream();
    put_section(s, 0x02, BITMAP);       /* before its START */
    assert_fails(s, "got section id 3, allowed 2 ('ram')");
}

/* What a later QEMU may send is no contradiction. */
static void test_what_is_not_known_is_opaque(void)
{
    GByteArray *s = new_stream();

    put_start(s, "dirty-bitmap", BITMAP, 1);
    put(s, 0x80, 1);
    assert_opaque(s, "flags 0x80 of a dirty bitmap are not known");

    s = new_stream();
    put_start(s, "dirty-bitmap", BITMAP, 2);
    assert_opaque(s, "section 'dirty-bitmap' instance 0 version 2");

    s = new_stream();
    put_start(s, "dirty-bitmap", BITMAP, 1);
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

        put_start(s, "dirty-bitmap", BITMAP, 1);
        put_bits(s, 0, sizes[i]);
        for (uint64_t j = 0; j < sizes[i]; j++) {
            put(s, 0x7e, 1);
        }
        put(s, 0x01, 1);
        put_footer(s, BITMAP);
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
