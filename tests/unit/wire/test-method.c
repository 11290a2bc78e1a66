/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/method.h"
#include "wire/multifd.h"

enum { PAGE = 4096 };

static const char *const packed[] = { "zlib", "zstd" };

/* Pages that pack neither to nothing nor not at all. */
static void fill(uint8_t *pages, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1103515245 + 12345;
        pages[i] = i % 16 < 8 ? 0 : seed >> 16;
    }
}

static void test_flags_name_one_method(void)
{
    static const struct { uint32_t flags; const char *name; } rows[] = {
        { 0, "none" }, { 1, "none" }, { 0x02, "zlib" }, { 0x03, "zlib" },
        { 0x04, "zstd" }, { 0x08, "qpl" }, { 0x10, "uadk" },
        { 0x20, "qatzip" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        const Method *method = method_from_flags(rows[i].flags, NULL);

        g_assert_cmpstr(method->name, ==, rows[i].name);
        g_assert_true(method_find(rows[i].name) == method);
        g_assert_cmphex(method->id, ==, rows[i].flags & 0x3e);
        g_assert_true(method->opaque == (rows[i].flags >= 0x08));
    }
    g_assert_null(method_find("lz4"));
    g_assert_null(method_find(""));
}

static void test_flags_of_two_methods_are_refused(void)
{
    static const uint32_t flags[] = { 0x06, 0x07, 0x0a, 0x3e };

    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(method_from_flags(flags[i], &error));
        g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
        g_assert_nonnull(strstr(error->message, "at most one compression"));
    }
}

static void assert_size(const char *name, uint32_t pages, uint32_t size, bool ok)
{
    const Method *method = method_find(name);
    g_autoptr(GError) error = NULL;
    uint32_t got = 77;

    g_assert_true(method->payload_size(pages, PAGE, size, &got, &error) == ok);
    if (ok) {
        g_assert_cmpuint(got, ==, size);
    } else {
        g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
        g_assert_nonnull(strstr(error->message, "got next_packet_size"));
        g_assert_cmpuint(got, ==, 77);
    }
}

static void test_payload_sizes_are_bounded(void)
{
    static const char *const bounded[] = { "zlib", "zstd", "qatzip" };
    static const char *const framed[] = { "qpl", "uadk" };

    assert_size("none", 128, 128 * PAGE, true);
    assert_size("none", 128, 128 * PAGE + 1, false);
    assert_size("none", 128, 128 * PAGE - 1, false);
    assert_size("none", 1, 0, false);
    assert_size("none", 1, UINT32_MAX, false);
    for (size_t i = 0; i < G_N_ELEMENTS(bounded); i++) {
        assert_size(bounded[i], 1, 0, false);
        assert_size(bounded[i], 1, 1, true);
        assert_size(bounded[i], 1, MULTIFD_PAYLOAD_MAX, true);
        assert_size(bounded[i], 1, MULTIFD_PAYLOAD_MAX + 1, false);
        assert_size(bounded[i], 1, UINT32_MAX, false);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(framed); i++) {
        assert_size(framed[i], 2, 0, false);
        assert_size(framed[i], 2, 8, false);
        assert_size(framed[i], 2, 9, true);
        assert_size(framed[i], 2, 8 + 2 * PAGE, true);
        assert_size(framed[i], 2, 8 + 2 * PAGE + 1, false);
        assert_size(framed[i], 2, UINT32_MAX, false);
    }
}

/* Packets in order through one state each way. */
static void test_stream_round_trip(gconstpointer data)
{
    const Method *method = method_find(data);
    MethodState *encoder = method->encoder_new(1);
    MethodState *decoder = method->decoder_new();

    for (unsigned i = 1; i <= 128; i += 9) {
        size_t len = i * PAGE, packed_len;
        g_autofree uint8_t *raw = g_malloc(len);
        g_autofree uint8_t *back = g_malloc(len);
        g_autofree uint8_t *buf = g_malloc(MULTIFD_PAYLOAD_MAX);
        g_autofree uint8_t *exact = NULL;
        g_autoptr(GError) error = NULL;

        fill(raw, len, i);
        g_assert_true(method->encode(encoder, raw, len, buf,
                                     MULTIFD_PAYLOAD_MAX, &packed_len,
                                     &error));
        exact = g_memdup2(buf, packed_len);
        method->decode(decoder, exact, packed_len, back, len, &error);
        g_assert_no_error(error);
        g_assert_cmpmem(raw, len, back, len);
    }
    method->state_free(encoder);
    method->state_free(decoder);
}

/* What does not pack still fits a receiver's buffer, at every level. */
static void test_random_pages_fit(gconstpointer data)
{
    const Method *method = method_find(data);
    size_t len = MULTIFD_PACKET_SIZE, packed_len;
    g_autofree uint8_t *raw = g_malloc(len);
    g_autofree uint8_t *buf = g_malloc(MULTIFD_PAYLOAD_MAX);
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    for (size_t i = 0; i < len; i += 4) {
        bytes_put_be32(raw + i, g_rand_int(rand));
    }
    for (int level = 0; level <= 9; level += 3) {
        MethodState *encoder = method->encoder_new(level);

        g_assert_true(method->encode(encoder, raw, len, buf,
                                     MULTIFD_PAYLOAD_MAX, &packed_len, NULL));
        g_assert_cmpuint(packed_len, >, 0);
        method->state_free(encoder);
    }
}

static void test_encode_refuses_too_small_a_buffer(gconstpointer data)
{
    const Method *method = method_find(data);
    MethodState *encoder = method->encoder_new(1);
    g_autofree uint8_t *raw = g_malloc(PAGE);
    uint8_t buf[16];
    size_t len = 77;
    g_autoptr(GError) error = NULL;

    fill(raw, PAGE, 1);
    g_assert_false(method->encode(encoder, raw, PAGE, buf, sizeof(buf), &len,
                                  &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "do not fit in 16"));
    g_assert_cmpuint(len, ==, 77);
    method->state_free(encoder);
}

/* Decode @len bytes of @src as @dst_len of pages with a new decoder. */
static void assert_refused(const Method *method, const uint8_t *src, size_t len,
                           size_t dst_len, const char *fragment)
{
    MethodState *decoder = method->decoder_new();
    g_autofree uint8_t *exact = g_memdup2(src, len);
    g_autofree uint8_t *dst = g_malloc(dst_len);
    g_autoptr(GError) error = NULL;

    g_assert_false(method->decode(decoder, exact, len, dst, dst_len, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, fragment));
    method->state_free(decoder);
}

static size_t pack(const Method *method, const uint8_t *raw, size_t len,
                   uint8_t *buf)
{
    MethodState *encoder = method->encoder_new(1);
    size_t packed_len;

    g_assert_true(method->encode(encoder, raw, len, buf, MULTIFD_PAYLOAD_MAX,
                                 &packed_len, NULL));
    method->state_free(encoder);
    return packed_len;
}

/* What is charged to a migration before an encoder is made must be enough. */
static void test_zstd_encoder_takes_no_more_than_it_says(void)
{
    size_t len = MULTIFD_PACKET_SIZE;
    g_autofree uint8_t *raw = g_malloc(len);
    g_autofree uint8_t *buf = g_malloc(MULTIFD_PAYLOAD_MAX);

    fill(raw, len, 1);
    for (int level = METHOD_LEVEL_MIN; level <= METHOD_LEVEL_MAX; level++) {
        ZSTD_CCtx *encoder = ZSTD_createCCtx();
        ZSTD_inBuffer in = { raw, len, 0 };
        ZSTD_outBuffer out = { buf, MULTIFD_PAYLOAD_MAX, 0 };

        ZSTD_CCtx_setParameter(encoder, ZSTD_c_compressionLevel, level);
        ZSTD_compressStream2(encoder, &out, &in, ZSTD_e_flush);
        g_assert_cmpuint(ZSTD_sizeof_CCtx(encoder), <=,
                         method_find("zstd")->encoder_memory(level));
        ZSTD_freeCCtx(encoder);
    }
}

/* One byte more than the pages would appear in the channel's next packet. */
static void test_output_size_is_exact(gconstpointer data)
{
    const Method *method = method_find(data);
    g_autofree uint8_t *raw = g_malloc0(4 * PAGE);
    g_autofree uint8_t *buf = g_malloc(MULTIFD_PAYLOAD_MAX);
    size_t len = pack(method, raw, 4 * PAGE, buf);

    assert_refused(method, buf, len, 4 * PAGE - 1, "got more than 16383");
    assert_refused(method, buf, len, PAGE, "got more than 4096");
    assert_refused(method, buf, len, 4 * PAGE + 1,
                   "got 16384 bytes of pages, allowed exactly 16385");
    assert_refused(method, buf, len, 128 * PAGE, "got 16384 bytes of pages");
}

/*
 * zlib can have used up its input and still hold the rest of a match, which
 * would come out first in the channel's next packet.
 */
static void test_zlib_may_hold_nothing_back(void)
{
    const Method *method = method_find("zlib");
    g_autofree uint8_t *raw = g_malloc0(PAGE);
    g_autofree uint8_t *buf = g_malloc(MULTIFD_PAYLOAD_MAX);
    size_t len = pack(method, raw, PAGE, buf);
    unsigned n_tried = 0;

    for (size_t cut = 3; cut <= len; cut++) {
        uint8_t out[PAGE];
        z_stream stream = { .next_in = buf, .avail_in = cut, .next_out = out,
                            .avail_out = sizeof(out) };

        g_assert_cmpint(inflateInit(&stream), ==, Z_OK);
        inflate(&stream, Z_SYNC_FLUSH);
        inflateEnd(&stream);
        if (stream.total_out > 1) {
            assert_refused(method, buf, cut, stream.total_out - 1,
                           "got more than");
            n_tried++;
        }
    }
    g_assert_cmpuint(n_tried, >, 0);
}

/* Every cut of a payload is short of its pages or out of step. */
static void test_cut_payload_is_refused(gconstpointer data)
{
    const Method *method = method_find(data);
    g_autofree uint8_t *raw = g_malloc(PAGE);
    g_autofree uint8_t *buf = g_malloc(MULTIFD_PAYLOAD_MAX);
    size_t len;

    fill(raw, PAGE, 3);
    len = pack(method, raw, PAGE, buf);
    /* The last bytes are the flush alone, without which all pages are out. */
    for (size_t cut = 1; cut < len - 8; cut += 7) {
        assert_refused(method, buf, cut, PAGE, "multifd packet, method ");
    }
}

static void test_garbage_is_refused(gconstpointer data)
{
    const Method *method = method_find(data);
    uint8_t garbage[64];

    memset(garbage, 0xff, sizeof(garbage));
    assert_refused(method, garbage, sizeof(garbage), PAGE, "got a payload that");
    memset(garbage, 0, sizeof(garbage));
    assert_refused(method, garbage, sizeof(garbage), PAGE, "got a payload that");
}

/* A payload that would unpack to a gigabyte stops at the size of its pages. */
static void test_bomb_is_refused(gconstpointer data)
{
    const Method *method = method_find(data);
    size_t raw_len = 64 << 20;
    g_autofree uint8_t *raw = g_malloc0(raw_len);
    g_autofree uint8_t *buf = g_malloc(MULTIFD_PAYLOAD_MAX);
    size_t len = pack(method, raw, raw_len, buf);

    assert_refused(method, buf, len, 128 * PAGE, "got more than 524288 bytes");
}

static void test_zlib_refuses_the_end_of_its_stream(void)
{
    g_autofree uint8_t *raw = g_malloc0(PAGE);
    uint8_t buf[256];
    uLongf len = sizeof(buf);

    g_assert_cmpint(compress(buf, &len, raw, PAGE), ==, Z_OK);
    assert_refused(method_find("zlib"), buf, len, PAGE, "inflates with 1");
}

static void test_zstd_refuses_the_end_of_its_frame(void)
{
    g_autofree uint8_t *raw = g_malloc0(PAGE);
    uint8_t buf[256];
    size_t len = ZSTD_compress(buf, sizeof(buf), raw, PAGE, 1);
    static const uint8_t skippable[] = {
        0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0,
    };

    g_assert_false(ZSTD_isError(len));
    assert_refused(method_find("zstd"), buf, len, PAGE, "end of the zstd frame");
    assert_refused(method_find("zstd"), skippable, sizeof(skippable), PAGE,
                   "end of the zstd frame");
}

/* A window above 2^27 is memory that no QEMU would ask for. */
static void test_zstd_bounds_its_window(void)
{
    static const uint8_t frame[] = {
        0x28, 0xb5, 0x2f, 0xfd, 0x00, (28 - 10) << 3, 0x01, 0x00, 0x00,
    };

    assert_refused(method_find("zstd"), frame, sizeof(frame), PAGE,
                   "does not decode");
}

/* ---- framing of qpl and uadk ---- */

static void assert_framed(uint32_t first, uint32_t second, size_t body,
                          const char *fragment)
{
    g_autofree uint8_t *buf = g_malloc0(8 + body);
    g_autoptr(GError) error = NULL;
    bool ok;

    bytes_put_be32(buf, first);
    bytes_put_be32(buf + 4, second);
    ok = method_find("qpl")->check(buf, 8 + body, 2, PAGE, &error);
    g_assert_true(ok == !fragment);
    if (fragment) {
        g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
        g_assert_nonnull(strstr(error->message, fragment));
    }
}

static void test_page_lengths_add_up(void)
{
    assert_framed(10, 20, 30, NULL);
    assert_framed(PAGE, PAGE, 2 * PAGE, NULL);
    assert_framed(10, 20, 31, "add up to 38, allowed 39");
    assert_framed(10, 20, 29, "add up to 38, allowed 37");
    assert_framed(0, 20, 20, "got length 0 of page 0, allowed 1 to 4096");
    assert_framed(PAGE + 1, 1, PAGE + 2, "got length 4097 of page 0");
    assert_framed(1, UINT32_MAX, 0, "got length 4294967295 of page 1");
}

static void test_page_lengths_are_all_there(void)
{
    g_autofree uint8_t *buf = g_malloc0(7);
    g_autoptr(GError) error = NULL;

    g_assert_false(method_find("uadk")->check(buf, 7, 2, PAGE, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "got 7 bytes, allowed at least 8"));
}

static void test_free_takes_nothing(void)
{
    method_find("zlib")->state_free(NULL);
    method_find("zstd")->state_free(NULL);
}

static void add_packed(const char *what, GTestDataFunc func)
{
    for (size_t i = 0; i < G_N_ELEMENTS(packed); i++) {
        g_autofree char *path = g_strdup_printf("/wire/method/%s/%s",
                                                packed[i], what);

        g_test_add_data_func(path, packed[i], func);
    }
}

#define ADD(path, func) g_test_add_func("/wire/method/" path, func)

/* The peer chooses the window: its cost must be known before it is taken. */
static void test_zstd_tells_what_a_window_costs(void)
{
    const Method *zstd = method_find("zstd");
    uint8_t frame[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00 };
    uint64_t small = 0, large = 0;
    g_autoptr(GError) error = NULL;

    frame[5] = 0x48;                            /* as QEMU at level 1: 512 KiB */
    g_assert_true(zstd->decoder_memory(frame, sizeof(frame), &small, &error));
    g_assert_cmpuint(small, >=, 512 * 1024);
    g_assert_cmpuint(small, <, 2 * 1024 * 1024);
    frame[5] = 17 << 3;                         /* 2^27 */
    g_assert_true(zstd->decoder_memory(frame, sizeof(frame), &large, &error));
    g_assert_cmpuint(large, >=, 128 * 1024 * 1024);

    frame[4] = 0x20;                            /* single segment */
    g_assert_false(zstd->decoder_memory(frame, sizeof(frame), &large, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "a frame of one segment"));
    g_clear_error(&error);
    frame[4] = 0;
    for (size_t len = 0; len < sizeof(frame); len++) {
        g_autofree uint8_t *exact = g_memdup2(frame, len);

        g_assert_false(zstd->decoder_memory(exact, len, &large, &error));
        g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
        g_assert_nonnull(strstr(error->message, "without a whole frame header"));
        g_clear_error(&error);
    }
    frame[0] = 0;
    g_assert_false(zstd->decoder_memory(frame, sizeof(frame), &large, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "begins no zstd frame"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("flags-name-one-method", test_flags_name_one_method);
    ADD("flags-of-two-methods-are-refused",
        test_flags_of_two_methods_are_refused);
    ADD("payload-sizes-are-bounded", test_payload_sizes_are_bounded);
    ADD("free-takes-nothing", test_free_takes_nothing);
    add_packed("round-trip", test_stream_round_trip);
    add_packed("random-pages-fit", test_random_pages_fit);
    add_packed("encode-refuses-too-small-a-buffer",
               test_encode_refuses_too_small_a_buffer);
    add_packed("output-size-is-exact", test_output_size_is_exact);
    add_packed("cut-payload-is-refused", test_cut_payload_is_refused);
    add_packed("garbage-is-refused", test_garbage_is_refused);
    add_packed("bomb-is-refused", test_bomb_is_refused);
    ADD("zlib/may-hold-nothing-back", test_zlib_may_hold_nothing_back);
    ADD("zlib/refuses-the-end-of-its-stream",
        test_zlib_refuses_the_end_of_its_stream);
    ADD("zstd/refuses-the-end-of-its-frame",
        test_zstd_refuses_the_end_of_its_frame);
    ADD("zstd/encoder-takes-no-more-than-it-says",
        test_zstd_encoder_takes_no_more_than_it_says);
    ADD("zstd/bounds-its-window", test_zstd_bounds_its_window);
    ADD("zstd/tells-what-a-window-costs", test_zstd_tells_what_a_window_costs);
    ADD("qpl/page-lengths-add-up", test_page_lengths_add_up);
    ADD("uadk/page-lengths-are-all-there", test_page_lengths_are_all_there);
    return g_test_run();
}
