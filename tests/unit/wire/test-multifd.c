/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/multifd.h"

/* Where QEMU puts the fields, written down a second time. */
enum {
    AT_MAGIC = 0, AT_VERSION = 4, AT_FLAGS = 8, AT_ALLOC = 12, AT_NORMAL = 16,
    AT_SIZE = 20, AT_NUM = 24, AT_ZERO = 32, AT_NAME = 64, AT_OFFSET = 320,
    HEADER_4K = 1344,
};

static MultifdGeometry geometry;

static void setup(void)
{
    g_assert_true(multifd_geometry_init(&geometry, 4096, NULL));
}

/* Two normal pages and a zero page of "pc.ram", in a buffer of exact size. */
static uint8_t *sample(void)
{
    uint8_t *buf = g_malloc0(HEADER_4K);

    setup();
    bytes_put_be32(buf + AT_MAGIC, MULTIFD_MAGIC);
    bytes_put_be32(buf + AT_VERSION, 1);
    bytes_put_be32(buf + AT_ALLOC, 128);
    bytes_put_be32(buf + AT_NORMAL, 2);
    bytes_put_be32(buf + AT_SIZE, 8192);
    bytes_put_be64(buf + AT_NUM, 42);
    bytes_put_be32(buf + AT_ZERO, 1);
    strcpy((char *)buf + AT_NAME, "pc.ram");
    bytes_put_be64(buf + AT_OFFSET, 0x3000);
    bytes_put_be64(buf + AT_OFFSET + 8, 0x1000);
    bytes_put_be64(buf + AT_OFFSET + 16, 0x2000);
    return buf;
}

/* @buf is refused with @fragment in the message and leaves the result alone. */
static void assert_rejected(const uint8_t *buf, const char *fragment)
{
    MultifdHeader h, before;
    g_autoptr(GError) error = NULL;

    memset(&h, 0x5a, sizeof(h));
    before = h;
    g_assert_false(multifd_header_decode(buf, &geometry, &h, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, fragment));
    g_assert_cmpmem(&h, sizeof(h), &before, sizeof(before));
}

static void assert_field_rejected(unsigned at, uint32_t value,
                                  const char *fragment)
{
    g_autofree uint8_t *buf = sample();

    bytes_put_be32(buf + at, value);
    assert_rejected(buf, fragment);
}

static void assert_field_taken(unsigned at, uint32_t value)
{
    g_autofree uint8_t *buf = sample();
    g_autoptr(GError) error = NULL;
    MultifdHeader h;

    bytes_put_be32(buf + at, value);
    g_assert_true(multifd_header_decode(buf, &geometry, &h, &error));
    g_assert_no_error(error);
}

static void test_geometry_of_each_page_size(void)
{
    static const struct { uint32_t page, count, header; } rows[] = {
        { 1024, 512, 4416 }, { 4096, 128, 1344 }, { 8192, 64, 832 },
        { 16384, 32, 576 }, { 65536, 8, 384 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        MultifdGeometry g;

        g_assert_true(multifd_geometry_init(&g, rows[i].page, NULL));
        g_assert_cmpuint(g.page_size, ==, rows[i].page);
        g_assert_cmpuint(g.page_count, ==, rows[i].count);
        g_assert_cmpuint(g.header_size, ==, rows[i].header);
    }
}

static void test_geometry_rejects_odd_page_sizes(void)
{
    static const uint64_t sizes[] = {
        0, 1, 512, 1023, 1025, 4095, 6144, 65537, 131072,
        UINT64_C(4096) << 32, (UINT64_C(1) << 32) + 4096, UINT64_MAX,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        MultifdGeometry g = { .page_size = 9 };
        g_autoptr(GError) error = NULL;

        g_assert_false(multifd_geometry_init(&g, sizes[i], &error));
        g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
        g_assert_nonnull(strstr(error->message, "power of two"));
        g_assert_cmpuint(g.page_size, ==, 9);
    }
}

static void test_init_round_trip(void)
{
    MultifdInit in = { .id = 255 }, out;
    g_autofree uint8_t *buf = g_malloc(MULTIFD_INIT_SIZE);

    for (int i = 0; i < MULTIFD_UUID_SIZE; i++) {
        in.uuid[i] = i + 1;
    }
    memset(buf, 0xff, MULTIFD_INIT_SIZE);
    multifd_init_encode(&in, buf);
    g_assert_cmphex(bytes_get_be32(buf), ==, 0x11223344);
    g_assert_cmpuint(bytes_get_be32(buf + 4), ==, 1);
    g_assert_cmpuint(buf[8], ==, 1);
    g_assert_cmpuint(buf[24], ==, 255);
    for (int i = 25; i < MULTIFD_INIT_SIZE; i++) {
        g_assert_cmpuint(buf[i], ==, 0);
    }
    g_assert_true(multifd_init_decode(buf, &out, NULL));
    g_assert_cmpmem(&in, sizeof(in), &out, sizeof(out));
}

static void test_init_rejects_magic_and_version(void)
{
    static const struct {
        unsigned at;
        uint32_t value;
        const char *fragment;
    } rows[] = {
        { 0, 0, "got magic 0x00000000" },
        { 0, UINT32_MAX, "got magic 0xffffffff" },
        { 0, 0x5145564d, "got magic 0x5145564d, allowed 0x11223344" },
        { 4, 0, "got version 0" },
        { 4, 2, "got version 2, allowed 1" },
        { 4, UINT32_MAX, "got version 4294967295" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree uint8_t *buf = g_malloc(MULTIFD_INIT_SIZE);
        MultifdInit init = { .id = 3 };
        g_autoptr(GError) error = NULL;

        multifd_init_encode(&init, buf);
        bytes_put_be32(buf + rows[i].at, rows[i].value);
        init.id = 77;
        g_assert_false(multifd_init_decode(buf, &init, &error));
        g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
        g_assert_nonnull(strstr(error->message, rows[i].fragment));
        g_assert_cmpuint(init.id, ==, 77);
    }
}

/* Reserved bytes are not looked at, as QEMU does not. */
static void test_init_ignores_reserved_bytes(void)
{
    g_autofree uint8_t *buf = g_malloc(MULTIFD_INIT_SIZE);
    MultifdInit init = { .id = 3 }, out;

    multifd_init_encode(&init, buf);
    memset(buf + 25, 0xff, MULTIFD_INIT_SIZE - 25);
    g_assert_true(multifd_init_decode(buf, &out, NULL));
    g_assert_cmpmem(&init, sizeof(init), &out, sizeof(out));
}

static void test_header_decodes_each_field(void)
{
    g_autofree uint8_t *buf = sample();
    g_autoptr(GError) error = NULL;
    MultifdHeader h;

    g_assert_true(multifd_header_decode(buf, &geometry, &h, &error));
    g_assert_cmpuint(h.flags, ==, 0);
    g_assert_cmpuint(h.pages_alloc, ==, 128);
    g_assert_cmpuint(h.normal_pages, ==, 2);
    g_assert_cmpuint(h.zero_pages, ==, 1);
    g_assert_cmpuint(h.payload_size, ==, 8192);
    g_assert_cmpuint(h.packet_num, ==, 42);
    g_assert_cmpstr(h.ramblock, ==, "pc.ram");
    g_assert_cmphex(h.offset[0], ==, 0x3000);
    g_assert_cmphex(h.offset[1], ==, 0x1000);
    g_assert_cmphex(h.offset[2], ==, 0x2000);
    g_assert_cmphex(h.offset[3], ==, 0);
}

static void test_header_encodes_the_same_bytes(void)
{
    g_autofree uint8_t *buf = sample();
    g_autofree uint8_t *again = g_malloc(HEADER_4K);
    MultifdHeader h;

    g_assert_true(multifd_header_decode(buf, &geometry, &h, NULL));
    memset(again, 0xff, HEADER_4K);
    multifd_header_encode(&h, &geometry, again);
    g_assert_cmpmem(buf, HEADER_4K, again, HEADER_4K);
}

static void test_header_rejects_magic_and_version(void)
{
    assert_field_rejected(AT_MAGIC, 0, "got magic 0x00000000");
    assert_field_rejected(AT_MAGIC, 0x11223345, "allowed 0x11223344");
    assert_field_rejected(AT_MAGIC, UINT32_MAX, "got magic 0xffffffff");
    assert_field_rejected(AT_VERSION, 0, "got version 0, allowed 1");
    assert_field_rejected(AT_VERSION, 2, "got version 2, allowed 1");
    assert_field_rejected(AT_VERSION, UINT32_MAX, "got version 4294967295");
}

static void test_header_rejects_unknown_flags(void)
{
    assert_field_taken(AT_FLAGS, 0);
    assert_field_taken(AT_FLAGS, 0x3f);         /* methods are method.c's */
    assert_field_rejected(AT_FLAGS, 0x40, "no device state");
    assert_field_rejected(AT_FLAGS, 0x80, "got flags 0x80, allowed only");
    assert_field_rejected(AT_FLAGS, 1u << 31, "got flags 0x80000000");
    assert_field_rejected(AT_FLAGS, UINT32_MAX, "got flags 0xffffffff");
}

static void test_header_bounds_page_counts(void)
{
    assert_field_taken(AT_ALLOC, 3);
    assert_field_taken(AT_ALLOC, 128);
    assert_field_rejected(AT_ALLOC, 129, "got pages_alloc 129, allowed at "
                          "most 128");
    assert_field_rejected(AT_ALLOC, UINT32_MAX, "pages_alloc 4294967295");
    assert_field_rejected(AT_ALLOC, 0, "got normal_pages 2, allowed at most 0");
    assert_field_rejected(AT_ALLOC, 2, "got zero_pages 1, allowed at most 0");

    assert_field_taken(AT_NORMAL, 1);
    assert_field_taken(AT_NORMAL, 127);
    assert_field_rejected(AT_NORMAL, 128, "got zero_pages 1");
    assert_field_rejected(AT_NORMAL, 129, "packet 42: got normal_pages 129, "
                          "allowed at most 128");
    assert_field_rejected(AT_NORMAL, UINT32_MAX, "normal_pages 4294967295");

    assert_field_taken(AT_ZERO, 0);
    assert_field_taken(AT_ZERO, 126);
    assert_field_rejected(AT_ZERO, 127, "got zero_pages 127, allowed at most "
                          "126");
}

/* The page counts come from the peer: a sum that wraps must not pass. */
static void test_header_rejects_wrapping_page_counts(void)
{
    assert_field_rejected(AT_ZERO, UINT32_MAX, "got zero_pages 4294967295");
    assert_field_rejected(AT_ZERO, UINT32_MAX - 1, "got zero_pages 4294967294");
}

static void test_header_rejects_a_name_without_end(void)
{
    g_autofree uint8_t *buf = sample();
    MultifdHeader h;

    memset(buf + AT_NAME, 'n', 255);
    g_assert_true(multifd_header_decode(buf, &geometry, &h, NULL));
    g_assert_cmpuint(strlen(h.ramblock), ==, 255);
    buf[AT_NAME + 255] = 'n';
    assert_rejected(buf, "without its NUL");
}

/* QEMU 7.2 leaves an earlier packet's size, name and offsets in a SYNC. */
static void test_sync_drops_stale_fields(void)
{
    g_autofree uint8_t *buf = sample();
    MultifdHeader h, empty = { 0 };

    bytes_put_be32(buf + AT_FLAGS, MULTIFD_FLAG_SYNC | 0x02);
    bytes_put_be32(buf + AT_NORMAL, 0);
    bytes_put_be32(buf + AT_ZERO, 0);
    memset(buf + AT_NAME, 0xff, HEADER_4K - AT_NAME);
    g_assert_true(multifd_header_decode(buf, &geometry, &h, NULL));
    empty.flags = MULTIFD_FLAG_SYNC;
    empty.pages_alloc = 128;
    empty.packet_num = 42;
    g_assert_cmpmem(&h, sizeof(h), &empty, sizeof(empty));
}

/* A receiver with a method asserts that this size is 0. */
static void test_zero_pages_alone_have_no_payload(void)
{
    static const uint32_t sizes[] = { 1, 8192, UINT32_MAX };
    g_autofree uint8_t *buf = sample();
    MultifdHeader h;

    bytes_put_be32(buf + AT_NORMAL, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        bytes_put_be32(buf + AT_SIZE, sizes[i]);
        assert_rejected(buf, "allowed 0 with zero pages alone");
    }
    bytes_put_be32(buf + AT_SIZE, 0);
    g_assert_true(multifd_header_decode(buf, &geometry, &h, NULL));
    g_assert_cmpuint(h.payload_size, ==, 0);
    g_assert_cmphex(h.offset[0], ==, 0x3000);
    g_assert_cmphex(h.offset[1], ==, 0);
}

/* QEMU 7.2 may put data and SYNC into one packet. */
static void test_sync_with_data_keeps_both(void)
{
    g_autofree uint8_t *buf = sample();
    MultifdHeader h;

    bytes_put_be32(buf + AT_FLAGS, 0x3);
    g_assert_true(multifd_header_decode(buf, &geometry, &h, NULL));
    g_assert_cmpuint(h.flags, ==, 0x3);
    g_assert_cmpuint(h.normal_pages, ==, 2);
}

static void test_sync_is_clean(void)
{
    g_autofree uint8_t *buf = g_malloc(HEADER_4K);
    MultifdHeader h;

    setup();
    memset(buf, 0xff, HEADER_4K);
    multifd_sync_encode(7, &geometry, buf);
    g_assert_true(multifd_header_decode(buf, &geometry, &h, NULL));
    g_assert_cmpuint(h.flags, ==, MULTIFD_FLAG_SYNC);
    g_assert_cmpuint(h.packet_num, ==, 7);
    g_assert_cmpuint(h.pages_alloc, ==, 0);
    for (int i = AT_ZERO; i < HEADER_4K; i++) {
        g_assert_cmpuint(buf[i], ==, 0);
    }
}

static void test_full_packet_of_smallest_pages(void)
{
    MultifdGeometry g;
    MultifdHeader h = { .pages_alloc = 512, .normal_pages = 500,
                        .zero_pages = 12, .payload_size = 512000 }, again;
    g_autofree uint8_t *buf = NULL;

    g_assert_true(multifd_geometry_init(&g, 1024, NULL));
    buf = g_malloc(g.header_size);
    strcpy(h.ramblock, "mach-virt.ram");
    for (int i = 0; i < 512; i++) {
        h.offset[i] = (uint64_t)i << 10;
    }
    multifd_header_encode(&h, &g, buf);
    g_assert_true(multifd_header_decode(buf, &g, &again, NULL));
    g_assert_cmpmem(&h, sizeof(h), &again, sizeof(again));
}

/* ---- pages against the table ---- */

static void assert_pages(uint64_t used_length, const char *name,
                         uint64_t offset, const char *fragment)
{
    g_autoptr(RamblockTable) table = ramblock_table_new();
    g_autoptr(GError) error = NULL;
    MultifdHeader h = { .packet_num = 9, .normal_pages = 1 };
    bool ok;

    setup();
    g_assert_true(ramblock_table_add(table, (const uint8_t *)"pc.ram", 6,
                                     used_length, 0, NULL, NULL));
    g_strlcpy(h.ramblock, name, sizeof(h.ramblock));
    h.offset[0] = offset;
    ok = multifd_header_check_pages(&h, &geometry, table, &error);
    g_assert_true(ok == !fragment);
    if (fragment) {
        g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
        g_assert_nonnull(strstr(error->message, fragment));
        g_assert_true(g_str_has_prefix(error->message, "multifd packet 9: "));
    }
}

static void test_pages_within_used_length(void)
{
    assert_pages(0x4000, "pc.ram", 0, NULL);
    assert_pages(0x4000, "pc.ram", 0x3000, NULL);
    assert_pages(0x4000, "pc.ram", 0x4000, "used_length 0x4000");
    assert_pages(0x4000, "pc.ram", UINT64_MAX - 0xfff, "used_length 0x4000");
    assert_pages(0x4fff, "pc.ram", 0x4000, "used_length 0x4fff");
    assert_pages(0xfff, "pc.ram", 0, "used_length 0xfff");
    assert_pages(0, "pc.ram", 0, "used_length 0x0");
    assert_pages(UINT64_MAX, "pc.ram", UINT64_MAX - 0xfff, "whole pages");
}

static void test_pages_aligned(void)
{
    assert_pages(0x4000, "pc.ram", 1, "multiples of 0x1000");
    assert_pages(0x4000, "pc.ram", 0x800, "got offset[0] 0x800");
    assert_pages(0x4000, "pc.ram", UINT64_MAX, "multiples of 0x1000");
}

static void test_pages_of_a_known_block(void)
{
    assert_pages(0x4000, "pc.ra", 0, "got ramblock 'pc.ra'");
    assert_pages(0x4000, "pc.ram2", 0, "one of the 1 announced");
    assert_pages(0x4000, "", 0, "got ramblock ''");
    assert_pages(0x4000, "\x1b[2J", 0, "'\\x1b[2J'");
}

static void test_pages_are_named_once(void)
{
    g_autoptr(RamblockTable) table = ramblock_table_new();
    MultifdHeader h = { .normal_pages = 64, .zero_pages = 64 };

    setup();
    g_assert_true(ramblock_table_add(table, (const uint8_t *)"m", 1,
                                     UINT64_C(1) << 40, 0, NULL, NULL));
    strcpy(h.ramblock, "m");
    /* All of them fall on one slot of the set: the worst that can be sent. */
    for (int i = 0; i < 128; i++) {
        h.offset[i] = (uint64_t)i << 22;
    }
    g_assert_true(multifd_header_check_pages(&h, &geometry, table, NULL));
    for (int i = 1; i < 128; i++) {
        g_autoptr(GError) error = NULL;

        h.offset[i] = 0;
        g_assert_false(multifd_header_check_pages(&h, &geometry, table,
                                                  &error));
        g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
        g_assert_nonnull(strstr(error->message, "got offset 0x0 of ramblock "
                                "'m' twice"));
        h.offset[i] = (uint64_t)i << 22;
    }
}

static void test_no_pages_need_no_block(void)
{
    g_autoptr(RamblockTable) table = ramblock_table_new();
    MultifdHeader h = { .flags = MULTIFD_FLAG_SYNC };

    setup();
    g_assert_true(multifd_header_check_pages(&h, &geometry, table, NULL));
}

/* ---- device state ---- */

static uint8_t *device_sample(void)
{
    MultifdDeviceHeader h = { .idstr = "0000:00:02.0/vfio",
                              .instance_id = 5, .payload_size = 1 << 20 };
    uint8_t *buf = g_malloc(MULTIFD_DEVICE_HEADER_SIZE);

    memset(buf, 0xff, MULTIFD_DEVICE_HEADER_SIZE);
    multifd_device_header_encode(&h, buf);
    return buf;
}

static void test_device_round_trip(void)
{
    g_autofree uint8_t *buf = device_sample();
    MultifdDeviceHeader h;
    uint32_t flags;

    g_assert_true(multifd_prefix_decode(buf, &flags, NULL));
    g_assert_cmphex(flags, ==, 0x40);
    g_assert_true(multifd_device_header_decode(buf, 1 << 20, &h, NULL));
    g_assert_cmpstr(h.idstr, ==, "0000:00:02.0/vfio");
    g_assert_cmpuint(h.instance_id, ==, 5);
    g_assert_cmpuint(bytes_get_be32(buf + 268), ==, 5);
    g_assert_cmpuint(bytes_get_be32(buf + 272), ==, 1 << 20);
}

static void assert_device_rejected(unsigned at, uint32_t value,
                                   const char *fragment)
{
    g_autofree uint8_t *buf = device_sample();
    MultifdDeviceHeader h = { .instance_id = 77 };
    g_autoptr(GError) error = NULL;

    bytes_put_be32(buf + at, value);
    g_assert_false(multifd_device_header_decode(buf, 1 << 20, &h, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, fragment));
    g_assert_cmpuint(h.instance_id, ==, 77);
}

static void test_device_rejects_bad_fields(void)
{
    assert_device_rejected(AT_MAGIC, 0, "got magic");
    assert_device_rejected(AT_VERSION, 3, "got version 3");
    assert_device_rejected(AT_FLAGS, 0, "got flags 0x0, allowed 0x40");
    assert_device_rejected(AT_FLAGS, 0x41, "got flags 0x41, allowed 0x40");
    assert_device_rejected(AT_FLAGS, 0x42, "got flags 0x42");
    assert_device_rejected(AT_FLAGS, UINT32_MAX, "got flags 0xffffffff");
    assert_device_rejected(12, 0, "empty");
    assert_device_rejected(272, 0, "got next_packet_size 0, allowed 1 to");
    assert_device_rejected(272, (1 << 20) + 1, "next_packet_size 1048577");
    assert_device_rejected(272, UINT32_MAX, "instance 5: got "
                           "next_packet_size 4294967295");
}

static void test_device_rejects_an_idstr_without_end(void)
{
    g_autofree uint8_t *buf = device_sample();
    MultifdDeviceHeader h;
    g_autoptr(GError) error = NULL;

    memset(buf + 12, 'd', 256);
    g_assert_false(multifd_device_header_decode(buf, 1 << 20, &h, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "not terminated"));
}

#define ADD(path, func) g_test_add_func("/wire/multifd/" path, func)

/*
 * A SYNC as a source with pages of @page_size writes it, and then another, read
 * with the length that headers have for pages of @assumed.
 */
static uint32_t guess(uint64_t page_size, uint64_t assumed, bool says_alloc)
{
    MultifdGeometry source, here;
    g_autofree uint8_t *wire = g_malloc0(3 * MULTIFD_HEADER_MAX);
    g_autofree uint8_t *exact = NULL;

    g_assert_true(multifd_geometry_init(&source, page_size, NULL));
    g_assert_true(multifd_geometry_init(&here, assumed, NULL));
    multifd_sync_encode(1, &source, wire);
    multifd_sync_encode(2, &source, wire + source.header_size);
    if (says_alloc) {
        bytes_put_be32(wire + AT_ALLOC, source.page_count);
    }
    exact = g_memdup2(wire, here.header_size);
    return multifd_header_guess_page_size(exact, &here);
}

/* What an operator must set can be read off the first packet, mostly. */
static void test_page_size_shows(void)
{
    for (uint64_t size = 1024; size <= 65536; size *= 2) {
        for (uint64_t assumed = 1024; assumed <= 65536; assumed *= 2) {
            g_assert_cmpuint(guess(size, assumed, true), ==,
                             size == assumed ? 0 : size);
            /* Of smaller pages, so a longer header, there is nothing to see. */
            g_assert_cmpuint(guess(size, assumed, false), ==,
                             size > assumed ? size : 0);
        }
    }
}

/* What no page size makes 512 KiB of is for the decoder to refuse. */
static void test_page_size_is_not_guessed_from_nonsense(void)
{
    static const uint32_t allocs[] = { 1, 7, 100, 127, 129, 1024, UINT32_MAX };
    g_autofree uint8_t *buf = sample();

    for (size_t i = 0; i < G_N_ELEMENTS(allocs); i++) {
        bytes_put_be32(buf + AT_ALLOC, allocs[i]);
        g_assert_cmpuint(multifd_header_guess_page_size(buf, &geometry), ==, 0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("geometry/of-each-page-size", test_geometry_of_each_page_size);
    ADD("geometry/rejects-odd-page-sizes",
        test_geometry_rejects_odd_page_sizes);
    ADD("init/round-trip", test_init_round_trip);
    ADD("init/rejects-magic-and-version", test_init_rejects_magic_and_version);
    ADD("init/ignores-reserved-bytes", test_init_ignores_reserved_bytes);
    ADD("header/decodes-each-field", test_header_decodes_each_field);
    ADD("header/encodes-the-same-bytes", test_header_encodes_the_same_bytes);
    ADD("header/rejects-magic-and-version",
        test_header_rejects_magic_and_version);
    ADD("header/rejects-unknown-flags", test_header_rejects_unknown_flags);
    ADD("header/bounds-page-counts", test_header_bounds_page_counts);
    ADD("header/rejects-wrapping-page-counts",
        test_header_rejects_wrapping_page_counts);
    ADD("header/rejects-a-name-without-end",
        test_header_rejects_a_name_without_end);
    ADD("header/full-packet-of-smallest-pages",
        test_full_packet_of_smallest_pages);
    ADD("header/zero-pages-alone-have-no-payload",
        test_zero_pages_alone_have_no_payload);
    ADD("page-size/shows-where-it-is-not-ours", test_page_size_shows);
    ADD("page-size/is-not-guessed-from-nonsense",
        test_page_size_is_not_guessed_from_nonsense);
    ADD("sync/drops-stale-fields", test_sync_drops_stale_fields);
    ADD("sync/with-data-keeps-both", test_sync_with_data_keeps_both);
    ADD("sync/is-clean", test_sync_is_clean);
    ADD("pages/within-used-length", test_pages_within_used_length);
    ADD("pages/aligned", test_pages_aligned);
    ADD("pages/of-a-known-block", test_pages_of_a_known_block);
    ADD("pages/are-named-once", test_pages_are_named_once);
    ADD("pages/none-need-no-block", test_no_pages_need_no_block);
    ADD("device/round-trip", test_device_round_trip);
    ADD("device/rejects-bad-fields", test_device_rejects_bad_fields);
    ADD("device/rejects-an-idstr-without-end",
        test_device_rejects_an_idstr_without_end);
    return g_test_run();
}
