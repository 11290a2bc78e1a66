/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: a payload is unpacked to exactly its pages or refused with a
 * WIRE_ERROR, and nothing is written beyond them; what was unpacked packs and
 * unpacks to the same.
 *
 * Input: a byte of pages and method, then payloads of one channel, each behind
 * two bytes of its length.
 */
#include <string.h>

#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/method.h"
#include "wire/multifd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAGE = 1024 };

static void check_again(const Method *method, const uint8_t *raw, size_t len)
{
    MethodState *encoder = method->encoder_new(1);
    MethodState *decoder = method->decoder_new();
    g_autofree uint8_t *packed = g_malloc(MULTIFD_PAYLOAD_MAX);
    g_autofree uint8_t *back = g_malloc(len);
    size_t packed_len;

    g_assert_true(method->encode(encoder, raw, len, packed, MULTIFD_PAYLOAD_MAX,
                                 &packed_len, NULL));
    g_assert_true(method->decode(decoder, packed, packed_len, back, len, NULL));
    g_assert_true(memcmp(raw, back, len) == 0);
    method->state_free(encoder);
    method->state_free(decoder);
}

static void check_stream(const Method *method, const uint8_t *data, size_t size,
                         size_t dst_len)
{
    MethodState *decoder = method->decoder_new();
    g_autofree uint8_t *dst = g_malloc(dst_len);
    bool ok = true;

    while (ok && size >= 2) {
        size_t len = MIN(bytes_get_be16(data), size - 2);
        g_autofree uint8_t *src = g_memdup2(data + 2, len);
        g_autoptr(GError) error = NULL;

        ok = len > 0 &&
             method->decode(decoder, src, len, dst, dst_len, &error);
        if (ok) {
            check_again(method, dst, dst_len);
        } else if (len > 0) {
            g_assert_true(error && error->domain == WIRE_ERROR);
        }
        data += 2 + len;
        size -= 2 + len;
    }
    method->state_free(decoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "zlib", "zstd", "qpl" };
    uint32_t pages;
    const Method *method;

    if (size == 0) {
        return 0;
    }
    pages = 1 + data[0] / 3 % 16;
    method = method_find(names[data[0] % 3]);
    if (method->check) {
        g_autoptr(GError) error = NULL;

        if (!method->check(data + 1, size - 1, pages, PAGE, &error)) {
            g_assert_true(error && error->domain == WIRE_ERROR);
        }
    } else {
        check_stream(method, data + 1, size - 1, (size_t)pages * PAGE);
    }
    return 0;
}
