/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "wire/bytes.h"
#include "wire/return-path.h"

static void put_message(GByteArray *out, uint16_t type, uint16_t length,
                        const void *body)
{
    uint8_t head[4];

    bytes_put_be16(head, type);
    bytes_put_be16(head + 2, length);
    g_byte_array_append(out, head, 4);
    g_byte_array_append(out, body, length);
}

/* Feed all of @in, whole and byte by byte, which must agree. */
static void feed(const GByteArray *in, ReturnPath *ret)
{
    ReturnPath single;

    return_path_init(ret);
    return_path_init(&single);
    return_path_feed(ret, in->data, in->len);
    for (guint i = 0; i < in->len; i++) {
        return_path_feed(&single, in->data + i, 1);
    }
    g_assert_true(single.opaque == ret->opaque);
    g_assert_true(single.shut_seen == ret->shut_seen);
    g_assert_cmpuint(single.shut_value, ==, ret->shut_value);
    g_assert_cmpuint(single.messages, ==, ret->messages);
}

static void assert_shut(const GByteArray *in, uint64_t messages, uint32_t value)
{
    ReturnPath path;
    uint32_t got = 77;

    feed(in, &path);
    g_assert_false(path.opaque);
    g_assert_cmpuint(path.messages, ==, messages);
    g_assert_true(return_path_has_shut(&path, &got));
    g_assert_cmpuint(got, ==, value);
}

static void test_sees_shut_after_the_others(void)
{
    g_autoptr(GByteArray) in = g_byte_array_new();

    put_message(in, 7, 0, "");
    put_message(in, 2, 4, "\0\0\0\1");
    put_message(in, 3, 13 + 6, "\0\0\0\0\0\0\0\0\0\0\x10\0\6pc.ram");
    put_message(in, 4, 12, "\0\0\0\0\0\0\0\0\0\0\x10\0");
    put_message(in, 6, 4, "\0\0\0\1");
    put_message(in, 1, 4, "\0\0\0\0");
    assert_shut(in, 6, 0);
}

static void test_keeps_the_value_of_shut(void)
{
    g_autoptr(GByteArray) in = g_byte_array_new();

    put_message(in, 1, 4, "\xff\xff\xff\xff");
    assert_shut(in, 1, UINT32_MAX);
}

/* The bitmap lies outside the framing, and may hold what looks like SHUT. */
static void test_passes_over_a_bitmap(void)
{
    g_autoptr(GByteArray) in = g_byte_array_new();
    static const uint8_t mark[] = { 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef };

    put_message(in, 5, 2, "\1m");
    g_byte_array_append(in, (const uint8_t *)"\0\0\0\0\0\0\0\x10", 8);
    g_byte_array_append(in, (const uint8_t *)"\0\1\0\4\0\0\0\0\0\1\0\4\0\0\0\0",
                        16);
    g_byte_array_append(in, mark, 8);
    put_message(in, 1, 4, "\0\0\0\1");
    assert_shut(in, 2, 1);
}

static void assert_opaque(uint16_t type, uint16_t length, const void *body)
{
    g_autoptr(GByteArray) in = g_byte_array_new();
    ReturnPath path;
    uint32_t value = 77;

    put_message(in, type, length, body);
    put_message(in, 1, 4, "\0\0\0\0");
    feed(in, &path);
    g_assert_true(path.opaque);
    g_assert_false(return_path_has_shut(&path, &value));
    g_assert_cmpuint(value, ==, 77);
}

/* SHUT behind what we do not know is no SHUT: it could be anything. */
static void test_stops_at_what_it_does_not_know(void)
{
    uint8_t body[1024] = { 0 };

    assert_opaque(0, 0, body);
    assert_opaque(8, 0, body);
    assert_opaque(0xffff, 4, body);
    assert_opaque(1, 3, body);
    assert_opaque(1, 5, body);
    assert_opaque(2, 0, body);
    assert_opaque(3, 13, body);
    assert_opaque(3, 12, body);
    assert_opaque(3, 513, body);
    assert_opaque(5, 1, body);
    assert_opaque(7, 1, body);
}

static void test_stops_at_a_name_of_another_length(void)
{
    assert_opaque(5, 2, "\2m");
    assert_opaque(5, 3, "\1mm");
    assert_opaque(3, 14, "\0\0\0\0\0\0\0\0\0\0\x10\0\0m");
}

static void test_stops_at_a_bitmap_without_bounds_or_mark(void)
{
    static const uint8_t sizes[][8] = {
        { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
        { 0, 0, 0, 0, 0, 0, 0, 0 },     /* then a mark of zeros */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(GByteArray) in = g_byte_array_new();
        ReturnPath path;

        put_message(in, 5, 2, "\1m");
        g_byte_array_append(in, sizes[i], 8);
        g_byte_array_append(in, (const uint8_t *)"\0\0\0\0\0\0\0\0", 8);
        feed(in, &path);
        g_assert_true(path.opaque);
    }
}

static void test_needs_the_last_byte_of_shut(void)
{
    g_autoptr(GByteArray) in = g_byte_array_new();
    ReturnPath path;
    uint32_t value;

    put_message(in, 1, 4, "\0\0\0\0");
    g_byte_array_set_size(in, 7);
    feed(in, &path);
    g_assert_false(return_path_has_shut(&path, &value));
    g_assert_false(path.opaque);
}

#define ADD(path, func) g_test_add_func("/wire/return-path/" path, func)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("sees-shut-after-the-others", test_sees_shut_after_the_others);
    ADD("keeps-the-value-of-shut", test_keeps_the_value_of_shut);
    ADD("needs-the-last-byte-of-shut", test_needs_the_last_byte_of_shut);
    ADD("passes-over-a-bitmap", test_passes_over_a_bitmap);
    ADD("stops-at-what-it-does-not-know", test_stops_at_what_it_does_not_know);
    ADD("stops-at-a-name-of-another-length",
        test_stops_at_a_name_of_another_length);
    ADD("stops-at-a-bitmap-without-bounds-or-mark",
        test_stops_at_a_bitmap_without_bounds_or_mark);
    return g_test_run();
}
