/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/link-frame.h"
#include "wire/method.h"

/* Every malformed input lies in a buffer of exactly its size. */
static uint8_t *copy_exactly(const uint8_t *buf, size_t len)
{
    return g_memdup2(buf, len);
}

/* ---- the header ----------------------------------------------------------- */

/* Limits of docs/link-protocol.md section 2, written out a second time. */
typedef struct {
    uint8_t type;
    const char *name;
    uint32_t length_min;
    uint32_t length_max;
    bool stream, has_sequence, has_epoch, has_checksum;
} Limits;

static const Limits limits[] = {
    { 1, "HELLO", 2, 4096, false, false, false, false },
    { 2, "CONTROL", 2, 65536, false, true, false, false },
    { 3, "PING", 0, 0, false, true, false, false },
    { 4, "PONG", 0, 0, false, true, false, false },
    { 5, "MAIN", 0, 65536, true, true, false, false },
    { 6, "RETURN", 0, 65536, true, true, false, false },
    { 7, "ACK", 40, 40, false, false, false, false },
    { 8, "PAGES", 33, 1048576 + 8192, false, true, true, true },
    { 9, "DEVICE", 277, 276 + 16777216, false, true, true, true },
    { 10, "EPOCH_END", 8, 8, false, true, true, false },
    { 11, "PREEMPT", 0, 65536, true, true, false, false },
    { 12, "TEST", 0, 65536, true, true, false, false },
};

/* The smallest frame of its type that says all that it may. */
static LinkFrame sample_frame(const Limits *l)
{
    return (LinkFrame) {
        .type = l->type,
        .flags = l->stream ? LINK_FLAG_END : 0,
        .length = l->length_min,
        .sequence = l->has_sequence ? UINT64_C(0x0102030405060708) : 0,
        .epoch = l->has_epoch ? UINT64_C(0x1112131415161718) : 0,
        .checksum = l->has_checksum ? 0x21222324 : 0,
    };
}

static void assert_frame_refused(const uint8_t *buf, const char *message)
{
    g_autofree uint8_t *exact = copy_exactly(buf, LINK_HEADER_SIZE);
    LinkFrame frame = { .type = 99, .length = 4711 };
    g_autoptr(GError) error = NULL;

    g_assert_false(link_frame_decode(exact, &frame, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_cmpstr(error->message, ==, message);
    g_assert_cmpuint(frame.type, ==, 99);           /* left alone */
    g_assert_cmpuint(frame.length, ==, 4711);
}

static void assert_frame_taken(const uint8_t *buf)
{
    g_autofree uint8_t *exact = copy_exactly(buf, LINK_HEADER_SIZE);
    uint8_t again[LINK_HEADER_SIZE];
    LinkFrame frame;
    g_autoptr(GError) error = NULL;

    g_assert_true(link_frame_decode(exact, &frame, &error));
    g_assert_no_error(error);
    link_frame_encode(&frame, again);
    g_assert_cmpmem(buf, LINK_HEADER_SIZE, again, LINK_HEADER_SIZE);
}

/* The table in the document is the format: each field at its offset. */
static void test_frame_layout(void)
{
    const uint8_t expected[LINK_HEADER_SIZE] = {
        8, 0, 0, 0, 0, 0, 0, 33,
        1, 2, 3, 4, 5, 6, 7, 8,
        0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
        0x21, 0x22, 0x23, 0x24, 0, 0, 0, 0,
    };
    LinkFrame frame = sample_frame(&limits[7]);
    uint8_t buf[LINK_HEADER_SIZE];

    link_frame_encode(&frame, buf);
    g_assert_cmpmem(buf, sizeof(buf), expected, sizeof(expected));
}

static void test_frame_round_trip(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        LinkFrame frame = sample_frame(&limits[i]);
        LinkFrame back = { 0 };
        uint8_t buf[LINK_HEADER_SIZE];
        g_autoptr(GError) error = NULL;

        link_frame_encode(&frame, buf);
        g_assert_true(link_frame_decode(buf, &back, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(back.type, ==, frame.type);
        g_assert_cmpuint(back.flags, ==, frame.flags);
        g_assert_cmpuint(back.length, ==, frame.length);
        g_assert_cmpuint(back.sequence, ==, frame.sequence);
        g_assert_cmpuint(back.epoch, ==, frame.epoch);
        g_assert_cmpuint(back.checksum, ==, frame.checksum);
        g_assert_cmpstr(link_frame_type_name(frame.type), ==, limits[i].name);
    }
}

static void test_frame_rejects_unknown_types(void)
{
    uint8_t buf[LINK_HEADER_SIZE] = { 0 };

    assert_frame_refused(buf, "link frame: got type 0, allowed 1 to 12");
    buf[0] = 13;
    assert_frame_refused(buf, "link frame: got type 13, allowed 1 to 12");
    buf[0] = 255;
    assert_frame_refused(buf, "link frame: got type 255, allowed 1 to 12");
    g_assert_cmpstr(link_frame_type_name(0), ==, "unknown");
    g_assert_cmpstr(link_frame_type_name(13), ==, "unknown");
    g_assert_cmpstr(link_frame_type_name(255), ==, "unknown");
}

static void test_frame_length_limits(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        const Limits *l = &limits[i];
        LinkFrame frame = sample_frame(l);
        uint8_t buf[LINK_HEADER_SIZE];
        const uint32_t over[] = { l->length_max + 1, UINT32_MAX };

        frame.length = l->length_max;
        link_frame_encode(&frame, buf);
        assert_frame_taken(buf);
        frame.length = l->length_min;
        link_frame_encode(&frame, buf);
        assert_frame_taken(buf);

        for (size_t k = 0; k < G_N_ELEMENTS(over); k++) {
            g_autofree char *message = g_strdup_printf(
                "link %s frame: got length %u, allowed %u to %u", l->name,
                over[k], l->length_min, l->length_max);

            bytes_put_be32(buf + 4, over[k]);
            assert_frame_refused(buf, message);
        }
        if (l->length_min > 0) {
            g_autofree char *message = g_strdup_printf(
                "link %s frame: got length %u, allowed %u to %u", l->name,
                l->length_min - 1, l->length_min, l->length_max);

            bytes_put_be32(buf + 4, l->length_min - 1);
            assert_frame_refused(buf, message);
        }
    }
}

/* What a type does not use is refused, so that it can get a meaning later. */
static void test_frame_rejects_unused_fields(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        const Limits *l = &limits[i];
        const struct {
            const char *field;
            size_t last_byte;
            bool used;
        } fields[] = {
            { "reserved bytes 2-3", 3, false },
            { "sequence", 15, l->has_sequence },
            { "epoch", 23, l->has_epoch },
            { "checksum", 27, l->has_checksum },
            { "unpacked length", 31, false },
        };
        LinkFrame frame = sample_frame(l);

        frame.sequence = frame.epoch = frame.checksum = 0;
        for (size_t k = 0; k < G_N_ELEMENTS(fields); k++) {
            g_autofree char *message = g_strdup_printf(
                "link %s frame: got %s 0x1, allowed only 0", l->name,
                fields[k].field);
            uint8_t buf[LINK_HEADER_SIZE];

            link_frame_encode(&frame, buf);
            buf[fields[k].last_byte] = 1;
            if (fields[k].used) {
                assert_frame_taken(buf);
            } else {
                assert_frame_refused(buf, message);
            }
        }
    }
}

static void test_frame_rejects_reserved_high_bytes(void)
{
    LinkFrame frame = sample_frame(&limits[2]);
    uint8_t buf[LINK_HEADER_SIZE];

    link_frame_encode(&frame, buf);
    buf[2] = 0x80;
    assert_frame_refused(buf, "link PING frame: got reserved bytes 2-3 0x8000, "
                         "allowed only 0");
    buf[2] = 0;
    buf[28] = 0x80;
    assert_frame_refused(buf, "link PING frame: got unpacked length "
                         "0x80000000, allowed only 0");
}

static void test_frame_rejects_flags(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        LinkFrame frame = sample_frame(&limits[i]);
        uint8_t buf[LINK_HEADER_SIZE];
        unsigned allowed = limits[i].stream ? LINK_FLAG_END
                           : frame.type == LINK_PAGES
                           ? LINK_FLAG_ZLIB | LINK_FLAG_ZSTD |
                             LINK_FLAG_RESENT | LINK_FLAG_PACKED
                           : limits[i].has_epoch ? LINK_FLAG_RESENT : 0;

        link_frame_encode(&frame, buf);
        for (unsigned bit = 0; bit < 8; bit++) {
            g_autofree char *message = g_strdup_printf(
                "link %s frame: got flags 0x%02x, allowed those in 0x%02x%s",
                limits[i].name, 1u << bit, allowed,
                frame.type == LINK_PAGES ? ", one packing only" : "");

            buf[1] = 1u << bit;
            /* Packed goes with the length that it had before. */
            buf[28 + 2] = buf[1] == LINK_FLAG_PACKED &&
                          frame.type == LINK_PAGES ? 1 : 0;
            if (allowed & (1u << bit)) {
                assert_frame_taken(buf);
            } else {
                assert_frame_refused(buf, message);
            }
        }
    }
}

/* A packet was packed in one way: both flags would name no method at all. */
static void test_frame_rejects_two_flags(void)
{
    LinkFrame frame = sample_frame(&limits[7]);
    uint8_t buf[LINK_HEADER_SIZE];

    link_frame_encode(&frame, buf);
    buf[1] = LINK_FLAG_ZLIB | LINK_FLAG_ZSTD;
    assert_frame_refused(buf, "link PAGES frame: got flags 0x06, allowed "
                         "those in 0x1e, one packing only");
    buf[1] = 0xff;
    assert_frame_refused(buf, "link PAGES frame: got flags 0xff, allowed "
                         "those in 0x1e, one packing only");
    buf[1] = LINK_FLAG_ZSTD | LINK_FLAG_RESENT;
    assert_frame_taken(buf);
}

/* An empty frame that ends nothing would be work without progress. */
static void test_frame_rejects_empty_stream_frames(void)
{
    LinkFrame frame = { .type = LINK_MAIN, .length = 1 };
    uint8_t buf[LINK_HEADER_SIZE];

    link_frame_encode(&frame, buf);
    assert_frame_taken(buf);
    buf[7] = 0;
    assert_frame_refused(buf, "link MAIN frame: got length 0 without the end "
                         "flag, allowed 1 to 65536");
    buf[0] = LINK_RETURN;
    assert_frame_refused(buf, "link RETURN frame: got length 0 without the end "
                         "flag, allowed 1 to 65536");
    buf[0] = LINK_TEST;
    assert_frame_refused(buf, "link TEST frame: got length 0 without the end "
                         "flag, allowed 1 to 65536");
}

/* Offset and length both come from the peer: a sum that wraps must not pass. */
static void test_frame_rejects_wrapping_offsets(void)
{
    LinkFrame frame = { .type = LINK_RETURN, .length = 16,
                        .sequence = UINT64_MAX - 16 };
    uint8_t buf[LINK_HEADER_SIZE];

    link_frame_encode(&frame, buf);
    assert_frame_taken(buf);
    buf[7] = 17;
    assert_frame_refused(buf, "link RETURN frame: got offset "
                         "18446744073709551599 and length 17, allowed a sum "
                         "that fits 64 bits");
}

static void test_frame_cost(void)
{
    LinkFrame frame = { .type = LINK_EPOCH_END, .length = 8 };

    g_assert_cmpuint(link_frame_cost(&frame), ==, 8200);
    frame.length = UINT32_MAX;      /* does not wrap */
    g_assert_cmpuint(link_frame_cost(&frame), ==,
                     UINT64_C(0xffffffff) + 8192);
}

/* What it unpacks to is a claim on the receiver's memory, and counts as such. */
static void test_frame_unpacked(void)
{
    LinkFrame frame = { .type = LINK_PAGES, .flags = LINK_FLAG_PACKED,
                        .length = 100, .unpacked = 100000 };
    LinkFrame back = { 0 };
    uint8_t buf[LINK_HEADER_SIZE];

    link_frame_encode(&frame, buf);
    g_assert_true(link_frame_decode(buf, &back, NULL));
    g_assert_cmpuint(back.unpacked, ==, 100000);
    g_assert_cmpuint(link_frame_cost(&back), ==, 100000 + LINK_FRAME_OVERHEAD);
    memset(buf + 28, 0, 4);
    assert_frame_refused(buf, "link PAGES frame: got unpacked length 0, allowed "
                         "33 to 1056768");
    memset(buf + 28, 0xff, 4);
    assert_frame_refused(buf, "link PAGES frame: got unpacked length 4294967295, "
                         "allowed 33 to 1056768");
    memset(buf + 28, 0, 4);
    buf[29] = 0x10;                             /* 1 MiB + 8 KiB, and one more */
    buf[30] = 0x20;
    assert_frame_taken(buf);
    buf[31] = 1;
    assert_frame_refused(buf, "link PAGES frame: got unpacked length 1056769, "
                         "allowed 33 to 1056768");
    buf[1] = 0;
    assert_frame_refused(buf, "link PAGES frame: got unpacked length 0x102001, "
                         "allowed only 0");
}

/* ---- ACK and EPOCH_END ----------------------------------------------------- */

static void test_ack_round_trip(void)
{
    LinkAck ack = {
        .bulk = 1,
        .main_offset = UINT64_MAX,
        .return_offset = UINT64_C(0x0102030405060708),
        .preempt_offset = 2,
        .control = 3,
    };
    LinkAck back = { 0 };
    const uint8_t expected[LINK_ACK_SIZE] = {
        0, 0, 0, 0, 0, 0, 0, 1,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        1, 2, 3, 4, 5, 6, 7, 8,
        0, 0, 0, 0, 0, 0, 0, 2,
        0, 0, 0, 0, 0, 0, 0, 3,
    };
    uint8_t buf[LINK_ACK_SIZE];

    link_ack_encode(&ack, buf);
    g_assert_cmpmem(buf, sizeof(buf), expected, sizeof(expected));
    link_ack_decode(buf, &back);
    g_assert_cmpuint(back.bulk, ==, ack.bulk);
    g_assert_cmpuint(back.main_offset, ==, ack.main_offset);
    g_assert_cmpuint(back.return_offset, ==, ack.return_offset);
    g_assert_cmpuint(back.preempt_offset, ==, ack.preempt_offset);
    g_assert_cmpuint(back.control, ==, ack.control);
}

static void test_epoch_end_round_trip(void)
{
    const uint64_t counts[] = { 0, 1, UINT64_C(0x0102030405060708),
                                UINT64_MAX };
    uint8_t buf[LINK_EPOCH_END_SIZE];

    for (size_t i = 0; i < G_N_ELEMENTS(counts); i++) {
        link_epoch_end_encode(counts[i], buf);
        g_assert_cmpuint(bytes_get_be64(buf), ==, counts[i]);
        g_assert_cmpuint(link_epoch_end_decode(buf), ==, counts[i]);
    }
}

/* ---- PAGES ----------------------------------------------------------------- */

typedef struct {
    LinkPages pages;
    MultifdHeader header;
    uint8_t buf[LINK_PAGES_HEADER_MAX];
    size_t header_len;
    uint32_t length;    /* of the frame, with the payload */
} PagesSample;

/* @s has its counts, page size, method and name; the rest is made here. */
static void sample_encode(PagesSample *s)
{
    MultifdHeader *h = &s->header;

    s->pages.in_channel = 7;
    s->pages.in_packet = 1187;
    for (uint32_t i = 0; i < h->normal_pages + h->zero_pages; i++) {
        h->offset[i] = UINT64_C(0x100000000) + i * UINT64_C(65536);
    }
    memset(s->buf, 0xee, sizeof(s->buf));
    s->header_len = link_pages_encode(&s->pages, h, s->buf);
    g_assert_cmpuint(s->header_len, ==,
                     link_pages_header_size(strlen(h->ramblock),
                                            h->normal_pages, h->zero_pages));
    s->length = s->header_len +
                (s->pages.method == METHOD_NONE ?
                 h->normal_pages * s->pages.page_size :
                 (h->normal_pages ? 1000 : 0));
}

static PagesSample *sample_new(uint32_t page_size, uint32_t normal,
                               uint32_t zero, uint8_t method)
{
    PagesSample *s = g_new0(PagesSample, 1);

    s->pages.page_size = page_size;
    s->pages.method = method;
    s->header.normal_pages = normal;
    s->header.zero_pages = zero;
    strcpy(s->header.ramblock, "pc.ram");
    sample_encode(s);
    return s;
}

static void assert_pages_round_trip(PagesSample *s)
{
    g_autofree uint8_t *exact = copy_exactly(s->buf, s->header_len);
    g_autofree MultifdHeader *back = g_new0(MultifdHeader, 1);
    const MultifdHeader *h = &s->header;
    uint32_t pages = h->normal_pages + h->zero_pages;
    g_autoptr(GError) error = NULL;
    LinkPages p;
    size_t rest;

    g_assert_true(link_pages_decode_fixed(exact, s->length, &p, &rest,
                                          &error));
    g_assert_no_error(error);
    g_assert_cmpuint(rest, ==, s->header_len - LINK_PAGES_FIXED_SIZE);
    g_assert_cmpuint(p.page_size, ==, s->pages.page_size);
    g_assert_cmpuint(p.normal_pages, ==, h->normal_pages);
    g_assert_cmpuint(p.zero_pages, ==, h->zero_pages);
    g_assert_cmpuint(p.method, ==, s->pages.method);
    g_assert_cmpuint(p.name_len, ==, strlen(h->ramblock));
    g_assert_cmpuint(p.in_channel, ==, 7);
    g_assert_cmpuint(p.in_packet, ==, 1187);
    g_assert_cmpuint(p.payload_size, ==, s->length - s->header_len);

    g_assert_true(link_pages_decode_rest(&p, exact + LINK_PAGES_FIXED_SIZE,
                                         rest, back, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(back->flags, ==, s->pages.method);
    g_assert_cmpuint(back->pages_alloc, ==,
                     MULTIFD_PACKET_SIZE / s->pages.page_size);
    g_assert_cmpuint(back->normal_pages, ==, h->normal_pages);
    g_assert_cmpuint(back->zero_pages, ==, h->zero_pages);
    g_assert_cmpuint(back->payload_size, ==, p.payload_size);
    g_assert_cmpuint(back->packet_num, ==, 1187);
    g_assert_cmpstr(back->ramblock, ==, h->ramblock);
    g_assert_cmpmem(back->offset, pages * sizeof(uint64_t),
                    h->offset, pages * sizeof(uint64_t));
}

static void assert_fixed_refused(const PagesSample *s, uint32_t length,
                                 const char *message)
{
    g_autofree uint8_t *exact = copy_exactly(s->buf, LINK_PAGES_FIXED_SIZE);
    LinkPages pages = { .page_size = 99 };
    size_t rest = 4711;
    g_autoptr(GError) error = NULL;

    g_assert_false(link_pages_decode_fixed(exact, length, &pages, &rest,
                                           &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_cmpstr(error->message, ==, message);
    g_assert_cmpuint(pages.page_size, ==, 99);      /* left alone */
    g_assert_cmpuint(rest, ==, 4711);
}

#define PREFIX "link PAGES frame of channel 7 packet 1187: "

static void test_pages_layout(void)
{
    const uint8_t expected[] = {
        0, 0, 0x10, 0,  0, 0, 0, 1,  0, 0, 0, 1,
        8, 6, 0, 7,  0, 0, 0, 0, 0, 0, 0x04, 0xa3,
        'p', 'c', '.', 'r', 'a', 'm',
        0, 0, 0, 1, 0, 0, 0, 0,
        0, 0, 0, 1, 0, 1, 0, 0,
    };
    g_autofree PagesSample *s = sample_new(4096, 1, 1, METHOD_QPL);

    g_assert_cmpmem(s->buf, s->header_len, expected, sizeof(expected));
}

static void test_pages_round_trips(void)
{
    const struct {
        uint32_t page_size, normal, zero;
        uint8_t method;
    } cases[] = {
        { 4096, 1, 0, METHOD_NONE }, { 4096, 0, 1, METHOD_NONE },
        { 4096, 128, 0, METHOD_NONE }, { 4096, 0, 128, METHOD_NONE },
        { 4096, 100, 28, METHOD_NONE }, { 1024, 512, 0, METHOD_NONE },
        { 1024, 0, 512, METHOD_NONE }, { 65536, 7, 1, METHOD_NONE },
        { 4096, 3, 1, METHOD_QPL }, { 4096, 3, 1, METHOD_UADK },
        { 4096, 3, 1, METHOD_QATZIP }, { 4096, 0, 1, METHOD_QATZIP },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree PagesSample *s = sample_new(
            cases[i].page_size, cases[i].normal, cases[i].zero,
            cases[i].method);

        assert_pages_round_trip(s);
    }
}

static void test_pages_name_lengths(void)
{
    g_autofree PagesSample *s = sample_new(1024, 512, 0, METHOD_NONE);

    strcpy(s->header.ramblock, "r");
    sample_encode(s);
    assert_pages_round_trip(s);

    memset(s->header.ramblock, 'x', RAMBLOCK_NAME_MAX);
    sample_encode(s);
    g_assert_cmpuint(s->header_len, ==, LINK_PAGES_HEADER_MAX);
    assert_pages_round_trip(s);
}

static void test_pages_rejects_page_sizes(void)
{
    const uint32_t sizes[] = { 0, 512, 4095, 6144, 131072, UINT32_MAX };

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree PagesSample *s = sample_new(4096, 1, 0, METHOD_NONE);
        g_autofree char *message = g_strdup_printf(
            "link PAGES frame: target page size: got %u, allowed a power of "
            "two from 1024 to 65536", sizes[i]);

        bytes_put_be32(s->buf, sizes[i]);
        assert_fixed_refused(s, s->length, message);
    }
}

static void test_pages_rejects_counts(void)
{
    g_autofree PagesSample *s = sample_new(4096, 128, 0, METHOD_NONE);

    bytes_put_be32(s->buf + 4, 129);
    assert_fixed_refused(s, s->length, PREFIX
                         "got normal_pages 129, allowed at most 128");
    bytes_put_be32(s->buf + 4, UINT32_MAX);
    assert_fixed_refused(s, s->length, PREFIX
                         "got normal_pages 4294967295, allowed at most 128");
    bytes_put_be32(s->buf + 4, 0);
    bytes_put_be32(s->buf + 8, 129);
    assert_fixed_refused(s, s->length, PREFIX
                         "got 0 normal + 129 zero pages, allowed at most 128");
    bytes_put_be32(s->buf + 8, 0);
    assert_fixed_refused(s, s->length, PREFIX
                         "got no pages, allowed at least 1");
}

/* The page counts come from the peer: a sum that wraps must not pass. */
static void test_pages_rejects_wrapping_counts(void)
{
    g_autofree PagesSample *s = sample_new(4096, 1, 0, METHOD_NONE);

    bytes_put_be32(s->buf + 8, UINT32_MAX);
    assert_fixed_refused(s, s->length, PREFIX "got 1 normal + 4294967295 zero "
                         "pages, allowed at most 128");
}

static void test_pages_rejects_names(void)
{
    g_autofree PagesSample *s = sample_new(4096, 1, 0, METHOD_NONE);
    g_autofree MultifdHeader *header = g_new0(MultifdHeader, 1);
    g_autofree uint8_t *exact = NULL;
    g_autoptr(GError) error = NULL;
    LinkPages p;
    size_t rest;

    header->packet_num = 42;
    g_assert_true(link_pages_decode_fixed(s->buf, s->length, &p, &rest,
                                          &error));
    exact = copy_exactly(s->buf + LINK_PAGES_FIXED_SIZE, rest);
    exact[2] = '\0';
    g_assert_false(link_pages_decode_rest(&p, exact, rest, header, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_cmpstr(error->message, ==, PREFIX
                    "got a NUL in the RAM block name, allowed none");
    g_assert_cmpuint(header->packet_num, ==, 42);   /* left alone */
    g_assert_cmpstr(header->ramblock, ==, "");

    s->buf[13] = 0;
    assert_fixed_refused(s, s->length, PREFIX
                         "got an empty RAM block name, allowed 1 to 255 bytes");
}

/* zlib and zstd depend on earlier packets, which lanes do not keep in order. */
static void test_pages_rejects_methods(void)
{
    const uint8_t methods[] = { 0x01, METHOD_ZLIB, METHOD_ZSTD, 0x18, 0x40,
                                0xff };

    for (size_t i = 0; i < G_N_ELEMENTS(methods); i++) {
        g_autofree PagesSample *s = sample_new(4096, 1, 0, METHOD_NONE);
        g_autofree char *message = g_strdup_printf(PREFIX
            "got payload method 0x%02x, allowed 0x00, 0x08, 0x10, 0x20",
            methods[i]);

        s->buf[12] = methods[i];
        assert_fixed_refused(s, s->length, message);
    }
}

static void test_pages_rejects_short_frames(void)
{
    g_autofree PagesSample *s = sample_new(4096, 2, 1, METHOD_NONE);

    assert_fixed_refused(s, s->header_len - 1, PREFIX "got length 53, allowed "
                         "at least 54 for 3 pages and a name of 6 bytes");
    assert_fixed_refused(s, 0, PREFIX "got length 0, allowed at least 54 for "
                         "3 pages and a name of 6 bytes");
}

static void test_pages_rejects_raw_payload_sizes(void)
{
    g_autofree PagesSample *s = sample_new(4096, 2, 1, METHOD_NONE);
    g_autofree PagesSample *zero = sample_new(4096, 0, 1, METHOD_NONE);

    assert_fixed_refused(s, s->length - 1, PREFIX "got 8191 bytes of payload, "
                         "allowed 8192 (2 pages of 4096)");
    assert_fixed_refused(s, s->length + 1, PREFIX "got 8193 bytes of payload, "
                         "allowed 8192 (2 pages of 4096)");
    assert_fixed_refused(zero, zero->length + 1, PREFIX "got 1 bytes of "
                         "payload, allowed 0 (0 pages of 4096)");
}

static void test_pages_opaque_payload_sizes(void)
{
    g_autofree PagesSample *s = sample_new(4096, 2, 1, METHOD_UADK);
    g_autofree PagesSample *zero = sample_new(4096, 0, 1, METHOD_UADK);

    s->length = s->header_len + 1;
    assert_pages_round_trip(s);
    s->length = s->header_len + 1048576;
    assert_pages_round_trip(s);

    assert_fixed_refused(s, s->header_len, PREFIX "got 0 bytes of payload for "
                         "2 normal pages, allowed 1 to 1048576");
    assert_fixed_refused(s, s->length + 1, PREFIX "got 1048577 bytes of "
                         "payload for 2 normal pages, allowed 1 to 1048576");
    assert_fixed_refused(zero, zero->length + 1, PREFIX "got 1 bytes of "
                         "payload for 0 normal pages, allowed 0 to 0");
}

/* ---- the window ------------------------------------------------------------ */

static LinkWindow *window_new(uint64_t base)
{
    LinkWindow *w = g_new(LinkWindow, 1);

    link_window_init(w);
    w->base = base;
    return w;
}

static void receive(LinkWindow *w, uint64_t sequence)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(link_window_receive(w, sequence, &error));
    g_assert_no_error(error);
}

static void assert_receive_refused(LinkWindow *w, uint64_t sequence,
                                   const char *message)
{
    g_autofree LinkWindow *before = g_memdup2(w, sizeof(*w));
    g_autoptr(GError) error = NULL;

    g_assert_false(link_window_receive(w, sequence, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_cmpstr(error->message, ==, message);
    g_assert_cmpmem(w, sizeof(*w), before, sizeof(*before));
}

static void test_window_in_order(void)
{
    g_autofree LinkWindow *w = window_new(0);

    /* Twice around, so that every bit is used again. */
    for (uint64_t i = 0; i < 2 * LINK_FRAMES_MAX + 70; i++) {
        receive(w, i);
        g_assert_true(link_window_hand_on(w, i));
        g_assert_cmpuint(w->base, ==, i + 1);
    }
}

static void test_window_out_of_order(void)
{
    g_autofree LinkWindow *w = window_new(0);

    receive(w, 2);
    receive(w, 0);
    receive(w, 1);
    g_assert_false(link_window_hand_on(w, 2));
    g_assert_false(link_window_hand_on(w, 1));
    g_assert_cmpuint(w->base, ==, 0);
    g_assert_true(link_window_hand_on(w, 0));
    g_assert_cmpuint(w->base, ==, 3);
}

/* What was received but not handed on stops the base. */
static void test_window_base_waits_for_hand_on(void)
{
    g_autofree LinkWindow *w = window_new(0);

    for (uint64_t i = 0; i < 4; i++) {
        receive(w, i);
    }
    g_assert_true(link_window_hand_on(w, 0));
    g_assert_false(link_window_hand_on(w, 2));
    g_assert_cmpuint(w->base, ==, 1);
    g_assert_true(link_window_hand_on(w, 1));
    g_assert_cmpuint(w->base, ==, 3);
    g_assert_true(link_window_hand_on(w, 3));
    g_assert_cmpuint(w->base, ==, 4);
}

static void test_window_rejects_duplicates(void)
{
    g_autofree LinkWindow *w = window_new(0);

    receive(w, 0);
    receive(w, 1);
    assert_receive_refused(w, 1, "link frame number: got 1 a second time, "
                           "allowed once");
    g_assert_false(link_window_hand_on(w, 1));      /* handed on, above base */
    assert_receive_refused(w, 1, "link frame number: got 1 a second time, "
                           "allowed once");
    g_assert_true(link_window_hand_on(w, 0));       /* both below base */
    assert_receive_refused(w, 0, "link frame number: got 0 a second time, "
                           "allowed once");
    assert_receive_refused(w, 1, "link frame number: got 1 a second time, "
                           "allowed once");
}

/* A lane that died in the middle of a frame: the frame comes again. */
static void test_window_forgets(void)
{
    g_autofree LinkWindow *w = window_new(0);

    receive(w, 0);
    receive(w, 1);
    g_assert_true(link_window_has(w, 1));
    g_assert_false(link_window_has(w, 2));
    link_window_forget(w, 1);
    g_assert_false(link_window_has(w, 1));
    g_assert_true(link_window_hand_on(w, 0));
    g_assert_true(link_window_has(w, 0));
    g_assert_cmpuint(w->base, ==, 1);
    receive(w, 1);
    g_assert_true(link_window_hand_on(w, 1));
    g_assert_cmpuint(w->base, ==, 2);
    g_assert_false(link_window_has(w, LINK_FRAMES_MAX + 1));
}

static void test_window_rejects_far_numbers(void)
{
    g_autofree LinkWindow *w = window_new(0);

    receive(w, LINK_FRAMES_MAX - 1);
    assert_receive_refused(w, LINK_FRAMES_MAX, "link frame number: got 65536, "
                           "allowed below 65536 (65536 above the "
                           "acknowledged)");
    assert_receive_refused(w, UINT64_MAX, "link frame number: got "
                           "18446744073709551615, allowed below 65536 (65536 "
                           "above the acknowledged)");
    receive(w, 0);
    g_assert_true(link_window_hand_on(w, 0));
    receive(w, LINK_FRAMES_MAX);        /* its bit was 0's */
    assert_receive_refused(w, LINK_FRAMES_MAX + 1, "link frame number: got "
                           "65537, allowed below 65537 (65536 above the "
                           "acknowledged)");
}

/* All that fits, backwards: nothing moves until the last, then everything. */
static void test_window_full_backwards(void)
{
    const uint64_t bases[] = { 0, 1, 63, 64, 65535, 65536,
                               UINT64_C(0x100000000) + 100 };

    for (size_t b = 0; b < G_N_ELEMENTS(bases); b++) {
        g_autofree LinkWindow *w = window_new(bases[b]);

        for (uint64_t i = LINK_FRAMES_MAX; i-- > 0;) {
            receive(w, bases[b] + i);
        }
        for (uint64_t i = LINK_FRAMES_MAX; i-- > 1;) {
            g_assert_false(link_window_hand_on(w, bases[b] + i));
        }
        g_assert_true(link_window_hand_on(w, bases[b]));
        g_assert_cmpuint(w->base, ==, bases[b] + LINK_FRAMES_MAX);
        for (size_t i = 0; i < G_N_ELEMENTS(w->received); i++) {
            g_assert_cmpuint(w->received[i] | w->handed_on[i], ==, 0);
        }
    }
}

static void test_window_word_borders(void)
{
    const uint64_t borders[] = { 64, 128, LINK_FRAMES_MAX, LINK_FRAMES_MAX * 2 };

    for (size_t i = 0; i < G_N_ELEMENTS(borders); i++) {
        uint64_t border = borders[i];
        g_autofree LinkWindow *w = window_new(border - 2);

        receive(w, border);
        receive(w, border - 1);
        g_assert_false(link_window_hand_on(w, border - 1));
        g_assert_false(link_window_hand_on(w, border));
        receive(w, border - 2);
        g_assert_true(link_window_hand_on(w, border - 2));
        g_assert_cmpuint(w->base, ==, border + 1);
        receive(w, border + 1);
        receive(w, border + LINK_FRAMES_MAX);   /* the highest, same word */
        g_assert_true(link_window_hand_on(w, border + 1));
        g_assert_cmpuint(w->base, ==, border + 2);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add_func("/wire/link-frame/" path, test)
    ADD("header/layout", test_frame_layout);
    ADD("header/round-trip", test_frame_round_trip);
    ADD("header/rejects-unknown-types", test_frame_rejects_unknown_types);
    ADD("header/length-limits", test_frame_length_limits);
    ADD("header/rejects-unused-fields", test_frame_rejects_unused_fields);
    ADD("header/rejects-reserved-high-bytes",
        test_frame_rejects_reserved_high_bytes);
    ADD("header/rejects-flags", test_frame_rejects_flags);
    ADD("header/rejects-two-flags", test_frame_rejects_two_flags);
    ADD("header/rejects-empty-stream-frames",
        test_frame_rejects_empty_stream_frames);
    ADD("header/rejects-wrapping-offsets", test_frame_rejects_wrapping_offsets);
    ADD("header/cost", test_frame_cost);
    ADD("header/unpacked", test_frame_unpacked);
    ADD("ack/round-trip", test_ack_round_trip);
    ADD("epoch-end/round-trip", test_epoch_end_round_trip);
    ADD("pages/layout", test_pages_layout);
    ADD("pages/round-trips", test_pages_round_trips);
    ADD("pages/name-lengths", test_pages_name_lengths);
    ADD("pages/rejects-page-sizes", test_pages_rejects_page_sizes);
    ADD("pages/rejects-counts", test_pages_rejects_counts);
    ADD("pages/rejects-wrapping-counts", test_pages_rejects_wrapping_counts);
    ADD("pages/rejects-names", test_pages_rejects_names);
    ADD("pages/rejects-methods", test_pages_rejects_methods);
    ADD("pages/rejects-short-frames", test_pages_rejects_short_frames);
    ADD("pages/rejects-raw-payload-sizes",
        test_pages_rejects_raw_payload_sizes);
    ADD("pages/opaque-payload-sizes", test_pages_opaque_payload_sizes);
    ADD("window/in-order", test_window_in_order);
    ADD("window/out-of-order", test_window_out_of_order);
    ADD("window/base-waits-for-hand-on", test_window_base_waits_for_hand_on);
    ADD("window/rejects-duplicates", test_window_rejects_duplicates);
    ADD("window/forgets", test_window_forgets);
    ADD("window/rejects-far-numbers", test_window_rejects_far_numbers);
    ADD("window/full-backwards", test_window_full_backwards);
    ADD("window/word-borders", test_window_word_borders);
    return g_test_run();
}
