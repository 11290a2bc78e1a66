/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/link-frame.h - the frames that two daemons exchange
 *
 * Pure functions over bytes.  The format and every limit are written down in
 * docs/link-protocol.md.  Decoders trust no field and leave their result alone
 * on failure; all failures are WIRE_ERROR_PROTOCOL.
 */
#ifndef WIRE_LINK_FRAME_H
#define WIRE_LINK_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>
#include "wire/multifd.h"

#define LINK_ALPN "multiferry/1"

enum {
    LINK_VERSION = 1,
    LINK_HEADER_SIZE = 32,
    LINK_HELLO_MAX = 4096,
    LINK_CONTROL_MAX = 64 * 1024,
    LINK_STREAM_MAX = 64 * 1024,        /* of one MAIN or RETURN frame */
    LINK_ACK_SIZE = 24,
    LINK_PAGES_FIXED_SIZE = 24,
    LINK_PAGES_HEADER_MAX =
        LINK_PAGES_FIXED_SIZE + RAMBLOCK_NAME_MAX + 8 * MULTIFD_PAGES_MAX,
    LINK_DEVICE_PAYLOAD_MAX = 16 * 1024 * 1024,
    LINK_LANES_MAX = 64,
    LINK_FRAMES_MAX = 65536,            /* unacknowledged bulk frames */
    LINK_FRAME_OVERHEAD = 8192,         /* what a frame counts beside its length */
};

typedef enum {
    LINK_HELLO = 1,
    LINK_CONTROL,
    LINK_PING,
    LINK_PONG,
    LINK_MAIN,
    LINK_RETURN,
    LINK_ACK,
    LINK_PAGES,
    LINK_DEVICE,
    LINK_EPOCH_END,
} LinkFrameType;

enum {
    LINK_FLAG_END = 1u << 0,    /* MAIN, RETURN: the stream ends here */
};

typedef struct {
    uint8_t type;
    uint8_t flags;
    uint32_t length;    /* bytes that follow the header */
    uint64_t sequence;
    uint64_t epoch;
    uint32_t checksum;
} LinkFrame;

void link_frame_encode(const LinkFrame *self, uint8_t buf[LINK_HEADER_SIZE]);
/* Checks type, flags, reserved fields and the type's limit on length. */
bool link_frame_decode(const uint8_t buf[LINK_HEADER_SIZE], LinkFrame *ret,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What the frame counts against the window. */
uint64_t link_frame_cost(const LinkFrame *self);
const char *link_frame_type_name(uint8_t type);

typedef struct {
    uint64_t bulk;          /* frames below are handed on */
    uint64_t main_offset;   /* bytes below are handed on */
    uint64_t return_offset;
} LinkAck;

void link_ack_encode(const LinkAck *self, uint8_t buf[LINK_ACK_SIZE]);
void link_ack_decode(const uint8_t buf[LINK_ACK_SIZE], LinkAck *ret);

/* The part of a PAGES frame before its payload. */
typedef struct {
    uint32_t page_size;
    uint32_t normal_pages;
    uint32_t zero_pages;
    uint8_t method;             /* a MethodId */
    uint16_t in_channel;
    uint64_t in_packet;
} LinkPages;

/* Bytes of the PAGES header for this many pages and name. */
size_t link_pages_header_size(size_t name_len, uint32_t normal_pages,
                              uint32_t zero_pages);
/* @buf has room for link_pages_header_size(); takes counts, name and offsets
 * from @header.  Returns the bytes written. */
size_t link_pages_encode(const LinkPages *self, const MultifdHeader *header,
                         uint8_t *buf);
/*
 * The first LINK_PAGES_FIXED_SIZE bytes: counts within what a packet of this
 * page size can have, at least one page.  *@ret_rest: bytes of name and offsets
 * that follow.
 */
bool link_pages_decode_fixed(const uint8_t buf[LINK_PAGES_FIXED_SIZE],
                             LinkPages *ret, size_t *ret_rest,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Name and offsets into @header (counts, flags = method, pages_alloc too). */
bool link_pages_decode_rest(const LinkPages *self, const uint8_t *buf,
                            size_t len, MultifdHeader *header, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/*
 * Which frame numbers have come, within LINK_FRAMES_MAX above the lowest that is
 * still missing or not handed on.
 */
typedef struct {
    uint64_t base;          /* every number below is handed on */
    uint64_t received[LINK_FRAMES_MAX / 64];
    uint64_t handed_on[LINK_FRAMES_MAX / 64];
} LinkWindow;

void link_window_init(LinkWindow *self);
/* A number came: refused when seen before or too far ahead. */
bool link_window_receive(LinkWindow *self, uint64_t sequence, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* It was handed on; true if base moved. */
bool link_window_hand_on(LinkWindow *self, uint64_t sequence);

#endif
