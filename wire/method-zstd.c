/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/method-zstd.c - one zstd frame per channel, cut at the packets
 *
 * As zlib's (wire/method-zlib.c), with a frame that is flushed after each packet
 * and never ended (QEMU migration/multifd-zstd.c).  Level 20 may use a window
 * of 128 MiB; the decoder takes that much memory only when the frame says so, and
 * the caller asks zstd_decoder_memory() first.
 */
#include <assert.h>
#include <zstd.h>

#include "wire/error.h"
#include "wire/method-table.h"

enum { WINDOW_LOG_MAX = 27 };

struct MethodState {
    ZSTD_DCtx *decoder;
    ZSTD_CCtx *encoder;     /* one of the two */
};

static MethodState *zstd_decoder_new(void)
{
    MethodState *self = g_new0(MethodState, 1);
    size_t ret;

    self->decoder = ZSTD_createDCtx();
    g_assert(self->decoder);    /* fails only without memory */
    ret = ZSTD_DCtx_setParameter(self->decoder, ZSTD_d_windowLogMax,
                                 WINDOW_LOG_MAX);
    g_assert(!ZSTD_isError(ret));
    return self;
}

static MethodState *zstd_encoder_new(int level)
{
    MethodState *self = g_new0(MethodState, 1);
    size_t ret;

    self->encoder = ZSTD_createCCtx();
    g_assert(self->encoder);
    ret = ZSTD_CCtx_setParameter(self->encoder, ZSTD_c_compressionLevel,
                                 CLAMP(level, 0, METHOD_LEVEL_MAX));
    g_assert(!ZSTD_isError(ret));
    return self;
}

/* ZSTD_sizeof_CCtx() of libzstd 1.5 for a stream of unknown size, rounded up. */
static uint64_t zstd_encoder_memory(int level)
{
    static const uint8_t mib[] = { 5, 2, 3, 5, 6, 7, 7, 10, 10, 19 };

    static_assert(G_N_ELEMENTS(mib) == METHOD_LEVEL_MAX + 1, "a level is missing");
    return (uint64_t)mib[CLAMP(level, 0, METHOD_LEVEL_MAX)] << 20;
}

static void zstd_state_free(MethodState *self)
{
    if (!self) {
        return;
    }
    ZSTD_freeDCtx(self->decoder);
    ZSTD_freeCCtx(self->encoder);
    g_free(self);
}

/* Does zstd hold output of the bytes it took? */
static bool holds_output(ZSTD_DCtx *decoder)
{
    uint8_t spare;
    ZSTD_inBuffer in = { NULL, 0, 0 };
    ZSTD_outBuffer out = { &spare, 1, 0 };

    ZSTD_decompressStream(decoder, &out, &in);
    return out.pos > 0;
}

static bool fail(GError **error, const char *what)
{
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "multifd packet, method zstd: got %s", what);
    return false;
}

/* The frame's header, RFC 8878 3.1.1.1: magic, descriptor, window descriptor. */
enum {
    FRAME_MAGIC_LE = 0xfd2fb528,
    FRAME_HEADER_MIN = 6,
    SINGLE_SEGMENT = 1u << 5,   /* then there is no window descriptor */
    BLOCKS = 512 * 1024,        /* a decoder's buffers beside its window */
};

static bool zstd_decoder_memory(const uint8_t *src, size_t src_len,
                                uint64_t *ret_bytes, GError **error)
{
    uint32_t magic;
    uint64_t base;

    if (src_len < FRAME_HEADER_MIN) {
        return fail(error, "a first payload without a whole frame header");
    }
    memcpy(&magic, src, sizeof(magic));
    if (GUINT32_FROM_LE(magic) != FRAME_MAGIC_LE) {
        return fail(error, "a first payload that begins no zstd frame");
    }
    if (src[4] & SINGLE_SEGMENT) {
        return fail(error, "a frame of one segment, allowed one that streams");
    }
    base = UINT64_C(1) << (10 + (src[5] >> 3));
    *ret_bytes = base + base / 8 * (src[5] & 7) + BLOCKS;
    return true;
}

static bool zstd_decode(MethodState *self, const uint8_t *src, size_t src_len,
                        uint8_t *dst, size_t dst_len, GError **error)
{
    ZSTD_inBuffer in = { src, src_len, 0 };
    ZSTD_outBuffer out = { dst, dst_len, 0 };
    g_autofree char *what = NULL;
    bool moved = true;

    while (moved && (in.pos < in.size || out.pos < out.size)) {
        size_t in_before = in.pos, out_before = out.pos;
        size_t ret = ZSTD_decompressStream(self->decoder, &out, &in);

        if (ZSTD_isError(ret)) {
            what = g_strdup_printf("a payload that does not decode (%s), "
                                   "allowed part of a zstd frame",
                                   ZSTD_getErrorName(ret));
            return fail(error, what);
        }
        if (ret == 0) {
            return fail(error, "the end of the zstd frame, allowed none");
        }
        moved = in.pos > in_before || out.pos > out_before;
    }
    if (out.pos < out.size) {
        what = g_strdup_printf("%zu bytes of pages, allowed exactly %zu",
                               out.pos, out.size);
        return fail(error, what);
    }
    if (in.pos < in.size || holds_output(self->decoder)) {
        what = g_strdup_printf("more than %zu bytes of pages, allowed exactly "
                               "that", out.size);
        return fail(error, what);
    }
    return true;
}

static bool zstd_encode(MethodState *self, const uint8_t *src, size_t src_len,
                        uint8_t *dst, size_t dst_max, size_t *ret_len,
                        GError **error)
{
    ZSTD_inBuffer in = { src, src_len, 0 };
    ZSTD_outBuffer out = { dst, dst_max, 0 };
    size_t ret = ZSTD_compressStream2(self->encoder, &out, &in, ZSTD_e_flush);

    if (ZSTD_isError(ret) || ret > 0 || in.pos < in.size) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
                    "method zstd: %zu bytes of pages do not fit in %zu",
                    src_len, dst_max);
        return false;
    }
    *ret_len = out.pos;
    return true;
}

const Method method_zstd = {
    .id = METHOD_ZSTD,
    .name = "zstd",
    .payload_size = method_bounded_payload_size,
    .decoder_new = zstd_decoder_new,
    .encoder_new = zstd_encoder_new,
    .state_free = zstd_state_free,
    .decode = zstd_decode,
    .encode = zstd_encode,
    .encoder_memory = zstd_encoder_memory,
    .decoder_memory = zstd_decoder_memory,
};
