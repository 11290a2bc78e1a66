/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/method-zlib.c - one zlib stream per channel, cut at the packets
 *
 * Theory of operation.  QEMU (migration/multifd-zlib.c) deflates each packet's
 * pages into the channel's one stream and ends with a sync flush, so a payload
 * decodes only after all before it, and the stream never ends.  A payload must
 * be used up and give exactly its pages; one byte more, even one that zlib
 * still holds, would slip into the next packet.
 */
#include <zlib.h>

#include "wire/error.h"
#include "wire/method-table.h"

struct MethodState {
    z_stream stream;
    bool encodes;
};

static MethodState *zlib_decoder_new(void)
{
    MethodState *self = g_new0(MethodState, 1);
    int ret = inflateInit(&self->stream);

    g_assert(ret == Z_OK);      /* fails only without memory */
    return self;
}

static MethodState *zlib_encoder_new(int level)
{
    MethodState *self = g_new0(MethodState, 1);
    int ret = deflateInit(&self->stream, CLAMP(level, 0, 9));

    g_assert(ret == Z_OK);
    self->encodes = true;
    return self;
}

/* zconf.h: 2^(windowBits + 2) + 2^(memLevel + 9), and a little. */
static uint64_t zlib_encoder_memory(int level)
{
    (void)level;
    return (1 << 17) + (1 << 17) + 32 * 1024;
}

static void zlib_state_free(MethodState *self)
{
    if (!self) {
        return;
    }
    if (self->encodes) {
        deflateEnd(&self->stream);
    } else {
        inflateEnd(&self->stream);
    }
    g_free(self);
}

/* Does zlib hold output of the bytes it took? */
static bool holds_output(z_stream *stream)
{
    uint8_t spare;

    stream->next_out = &spare;
    stream->avail_out = 1;
    inflate(stream, Z_SYNC_FLUSH);
    return stream->avail_out == 0;
}

static bool zlib_decode(MethodState *self, const uint8_t *src, size_t src_len,
                        uint8_t *dst, size_t dst_len, GError **error)
{
    z_stream *stream = &self->stream;
    int ret;

    g_assert(src_len <= G_MAXUINT32 && dst_len <= G_MAXUINT32);
    stream->next_in = (Bytef *)src;
    stream->avail_in = src_len;
    stream->next_out = dst;
    stream->avail_out = dst_len;
    ret = inflate(stream, Z_SYNC_FLUSH);
    if (ret != Z_OK) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet, method zlib: got a payload that inflates "
                    "with %d (%s), allowed Z_OK", ret,
                    stream->msg ? stream->msg : "no message");
        return false;
    }
    if (stream->avail_out > 0) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet, method zlib: got %zu bytes of pages, "
                    "allowed exactly %zu", dst_len - stream->avail_out,
                    dst_len);
        return false;
    }
    if (stream->avail_in > 0 || holds_output(stream)) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet, method zlib: got more than %zu bytes of "
                    "pages, allowed exactly that", dst_len);
        return false;
    }
    return true;
}

static bool zlib_encode(MethodState *self, const uint8_t *src, size_t src_len,
                        uint8_t *dst, size_t dst_max, size_t *ret_len,
                        GError **error)
{
    z_stream *stream = &self->stream;
    int ret;

    g_assert(src_len <= G_MAXUINT32 && dst_max <= G_MAXUINT32);
    stream->next_in = (Bytef *)src;
    stream->avail_in = src_len;
    stream->next_out = dst;
    stream->avail_out = dst_max;
    ret = deflate(stream, Z_SYNC_FLUSH);
    /* A full buffer may mean that not all of it is out. */
    if (ret != Z_OK || stream->avail_in > 0 || stream->avail_out == 0) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
                    "method zlib: %zu bytes of pages do not fit in %zu",
                    src_len, dst_max);
        return false;
    }
    *ret_len = dst_max - stream->avail_out;
    return true;
}

const Method method_zlib = {
    .id = METHOD_ZLIB,
    .name = "zlib",
    .payload_size = method_bounded_payload_size,
    .decoder_new = zlib_decoder_new,
    .encoder_new = zlib_encoder_new,
    .state_free = zlib_state_free,
    .decode = zlib_decode,
    .encode = zlib_encode,
    .encoder_memory = zlib_encoder_memory,
};
