/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire/link-pack.h"

#include <string.h>
#include <zstd.h>

#include "wire/bytes.h"
#include "wire/error.h"

size_t link_pack_bound(unsigned n, uint32_t page_size)
{
    /* What does not shrink is stored. */
    return 1 + link_pack_raw_size(n, page_size);
}

/* A buffer that keeps what it once had. */
typedef struct {
    uint8_t *bytes;
    size_t size;
} Scratch;

static uint8_t *scratch_get(Scratch *self, size_t size)
{
    if (self->size < size) {
        g_free(self->bytes);
        self->bytes = g_malloc(size);
        self->size = size;
    }
    return self->bytes;
}

/* ---- packing ------------------------------------------------------------------- */

struct LinkPacker {
    ZSTD_CCtx *context;
    Scratch raw;            /* refs, then pages */
};

LinkPacker *link_packer_new(void)
{
    LinkPacker *self = g_new0(LinkPacker, 1);

    self->context = ZSTD_createCCtx();
    g_assert(self->context);
    return self;
}

void link_packer_free(LinkPacker *self)
{
    if (self) {
        ZSTD_freeCCtx(self->context);
        g_free(self->raw.bytes);
        g_free(self);
    }
}

uint8_t *link_packer_get_pages(LinkPacker *self, unsigned n, uint32_t page_size)
{
    return scratch_get(&self->raw, link_pack_raw_size(n, page_size)) +
           (size_t)n * LINK_PACK_REF_SIZE;
}

/* 0: it did not shrink. */
static size_t compress(LinkPacker *self, size_t len, int level, uint8_t *out)
{
    size_t result = ZSTD_compressCCtx(self->context, out, len - 1,
                                      self->raw.bytes, len, level);

    return ZSTD_isError(result) ? 0 : result;
}

size_t link_packer_pack(LinkPacker *self, const uint32_t *refs, unsigned n,
                        uint32_t page_size, int level, uint8_t *out)
{
    size_t len = link_pack_raw_size(n, page_size);
    size_t packed;

    g_assert(n > 0 && len <= self->raw.size);
    for (unsigned i = 0; i < n; i++) {
        bytes_put_be32(self->raw.bytes + (size_t)i * LINK_PACK_REF_SIZE,
                       refs ? refs[i] : 0);
    }
    packed = level != 0 ? compress(self, len, level, out + 1) : 0;
    if (packed == 0) {
        memcpy(out + 1, self->raw.bytes, len);
    }
    out[0] = packed ? LINK_PACK_ZSTD : LINK_PACK_STORED;
    return 1 + (packed ? packed : len);
}

/* ---- unpacking ----------------------------------------------------------------- */

struct LinkUnpacker {
    ZSTD_DCtx *context;
    Scratch raw;
};

LinkUnpacker *link_unpacker_new(void)
{
    LinkUnpacker *self = g_new0(LinkUnpacker, 1);

    self->context = ZSTD_createDCtx();
    g_assert(self->context);
    return self;
}

void link_unpacker_free(LinkUnpacker *self)
{
    if (self) {
        ZSTD_freeDCtx(self->context);
        g_free(self->raw.bytes);
        g_free(self);
    }
}

static bool fail(GError **error, const char *what, size_t got, size_t allowed)
{
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "packed pages: got %zu bytes %s, expected %zu", got, what,
                allowed);
    return false;
}

/* Into self->raw, in one call: so zstd needs no window of its own. */
static bool decompress(LinkUnpacker *self, const uint8_t *src, size_t len,
                       size_t expected, GError **error)
{
    size_t result = ZSTD_decompressDCtx(self->context, self->raw.bytes,
                                        expected, src, len);

    if (ZSTD_isError(result)) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "packed pages: %zu bytes are no zstd frame of %zu: %s", len,
                    expected, ZSTD_getErrorName(result));
        return false;
    }
    return result == expected || fail(error, "after unpacking", result,
                                      expected);
}

static bool unpack_raw(LinkUnpacker *self, const uint8_t *src, size_t len,
                       size_t expected, GError **error)
{
    if (len < 2) {
        return fail(error, "in all", len, 2);
    }
    scratch_get(&self->raw, expected);
    if (src[0] == LINK_PACK_ZSTD) {
        return decompress(self, src + 1, len - 1, expected, error);
    }
    if (src[0] != LINK_PACK_STORED) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "packed pages: got method %u, allowed 0 (stored) and 1 "
                    "(zstd)", src[0]);
        return false;
    }
    if (len - 1 != expected) {
        return fail(error, "stored", len - 1, expected);
    }
    memcpy(self->raw.bytes, src + 1, expected);
    return true;
}

bool link_unpacker_unpack(LinkUnpacker *self, const uint8_t *src, size_t len,
                          unsigned n, uint32_t page_size, uint32_t *refs,
                          uint8_t *pages, GError **error)
{
    g_assert(n > 0);
    if (!unpack_raw(self, src, len, link_pack_raw_size(n, page_size), error)) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        refs[i] = bytes_get_be32(self->raw.bytes +
                                 (size_t)i * LINK_PACK_REF_SIZE);
    }
    memcpy(pages, self->raw.bytes + (size_t)n * LINK_PACK_REF_SIZE,
           (size_t)n * page_size);
    return true;
}
