/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/method.h - payload methods: how the normal pages of a packet are packed
 *
 * One table entry per method, as QEMU's MultiFDMethods (migration/multifd.h).
 * A method whose payload depends on the packets before it on its channel (zlib,
 * zstd) keeps that in its state; an opaque method (qpl, uadk, qatzip) has no
 * decode and its payload travels as it came.
 */
#ifndef WIRE_METHOD_H
#define WIRE_METHOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

/* The values are QEMU's MULTIFD_FLAG_* bits; they go on the wire. */
typedef enum {
    METHOD_NONE = 0x00,
    METHOD_ZLIB = 0x02,
    METHOD_ZSTD = 0x04,
    METHOD_QPL = 0x08,
    METHOD_UADK = 0x10,
    METHOD_QATZIP = 0x20,
} MethodId;

enum {
    METHOD_DECODER_SMALL = 64 * 1024,
    /* Of zlib and zstd; what zstd has beyond takes memory for little. */
    METHOD_LEVEL_MIN = 1,
    METHOD_LEVEL_MAX = 9,
};

typedef struct MethodState MethodState;     /* one channel's, one direction's */

typedef struct {
    MethodId id;
    const char *name;       /* as in QEMU's multifd-compression parameter */

    /*
     * Bytes that follow a header with @normal_pages (above 0) pages and says
     * @payload_size.  A size this method cannot have is an error.
     */
    bool (*payload_size)(uint32_t normal_pages, uint32_t page_size,
                         uint32_t payload_size, uint32_t *ret_size,
                         GError **error);

    /*
     * Unpack @src into exactly @dst_len bytes of raw pages / pack the raw
     * pages.  NULL where the payload needs no work (none) or allows none.
     * A state takes payloads in the order of its channel, and is of no use
     * after an error.  encode: WIRE_ERROR_UNSUPPORTED if @dst_max is too little;
     * MULTIFD_PAYLOAD_MAX is enough for any packet.
     */
    MethodState *(*decoder_new)(void);
    MethodState *(*encoder_new)(int level);
    void (*state_free)(MethodState *state);
    bool (*decode)(MethodState *state, const uint8_t *src, size_t src_len,
                   uint8_t *dst, size_t dst_len, GError **error);
    bool (*encode)(MethodState *state, const uint8_t *src, size_t src_len,
                   uint8_t *dst, size_t dst_max, size_t *ret_len,
                   GError **error);
    /*
     * Bytes of memory that a decoder takes for a stream which begins with @src, a
     * channel's first payload: the peer chooses it, so it is to be asked before
     * decode.  NULL: less than METHOD_DECODER_SMALL.
     */
    bool (*decoder_memory)(const uint8_t *src, size_t src_len,
                           uint64_t *ret_bytes, GError **error);
    /* Bytes that an encoder takes at most at @level, its buffers not counted.  Not
     * NULL where encode is not. */
    uint64_t (*encoder_memory)(int level);
    /*
     * Look at a payload that cannot be decoded, where it has a framing that a
     * receiver relies on.  NULL: nothing to look at.
     */
    bool (*check)(const uint8_t *src, size_t src_len, uint32_t normal_pages,
                  uint32_t page_size, GError **error);
    bool opaque;            /* payload forwarded as it is, packet by packet */
} Method;

/*
 * The method named by a packet's flags, never NULL without error.
 * WIRE_ERROR_PROTOCOL: several at once.
 */
const Method *method_from_flags(uint32_t flags, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* By QEMU's name; NULL when there is none. */
const Method *method_find(const char *name);

#endif
