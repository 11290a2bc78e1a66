/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/link-frame.h - the frames that two daemons exchange
 *
 * Pure functions over bytes.  The format and every limit are written down in
 * docs/link-protocol.md.  Decoders trust no field and leave their result alone
 * on failure; all failures are WIRE_ERROR_PROTOCOL.
 *
 * Not here: the JSON of HELLO and CONTROL, the checksum itself
 * (wire/crc32c.h), a device-state header (wire/multifd.h), and whether a page
 * lies in its RAM block (multifd_header_check_pages()).
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
    LINK_STREAM_MAX = 64 * 1024,        /* of one MAIN, RETURN, PREEMPT or TEST frame */
    LINK_ACK_SIZE = 40,
    LINK_EPOCH_END_SIZE = 8,
    LINK_PAGES_FIXED_SIZE = 24,
    LINK_PAGES_HEADER_MAX =
        LINK_PAGES_FIXED_SIZE + RAMBLOCK_NAME_MAX + 8 * MULTIFD_PAGES_MAX,
    LINK_PAGES_MAX = MULTIFD_PAYLOAD_MAX + 8 * 1024,
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
    LINK_PREEMPT,
    LINK_TEST,
    LINK_TYPE_LAST = LINK_TEST,
} LinkFrameType;

enum {
    LINK_FLAG_END = 1u << 0,    /* MAIN, RETURN, PREEMPT, TEST: the stream ends here */
    /* PAGES: the compression that the source QEMU used (METHOD_ZLIB, METHOD_ZSTD),
     * which a destination expects that is set as the source is. */
    LINK_FLAG_ZLIB = 1u << 1,
    LINK_FLAG_ZSTD = 1u << 2,
    LINK_FLAG_RESENT = 1u << 3, /* PAGES, DEVICE, EPOCH_END: may have come before */
    LINK_FLAG_PACKED = 1u << 4, /* PAGES: the payload is one of wire/link-pack.h */
};

typedef struct {
    uint8_t type;
    uint8_t flags;
    uint32_t length;    /* bytes that follow the header */
    uint64_t sequence;
    uint64_t epoch;
    uint32_t checksum;
    uint32_t unpacked;  /* PACKED: what length would be with the pages as they are */
} LinkFrame;

/* Asserts that link_frame_decode() would take it back. */
void link_frame_encode(const LinkFrame *self, uint8_t buf[LINK_HEADER_SIZE]);
/*
 * Checks type, flags, reserved fields, the type's limits on length, that fields
 * which the type does not use are 0, and that a stream's offset does not wrap.
 */
bool link_frame_decode(const uint8_t buf[LINK_HEADER_SIZE], LinkFrame *ret,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What the frame counts against the window: what it takes the receiver to hold. */
uint64_t link_frame_cost(const LinkFrame *self);
/* As in docs/link-protocol.md; "unknown" for what is no type. */
const char *link_frame_type_name(uint8_t type);

typedef struct {
    uint64_t bulk;          /* frames below are handed on */
    uint64_t main_offset;   /* bytes below are handed on */
    union {
        uint64_t return_offset;     /* from the source's side */
        uint64_t ahead;     /* from the destination's, which is not told of RETURN:
                               what frames above bulk that are handed on cost */
    };
    uint64_t preempt_offset;
    uint64_t control;       /* CONTROL frames below were received */
} LinkAck;

void link_ack_encode(const LinkAck *self, uint8_t buf[LINK_ACK_SIZE]);
/* Any bytes are an ACK; the caller knows what it has sent and may be told of. */
void link_ack_decode(const uint8_t buf[LINK_ACK_SIZE], LinkAck *ret);

/* The number of PAGES and DEVICE frames in the epoch; any is possible. */
void link_epoch_end_encode(uint64_t frames, uint8_t buf[LINK_EPOCH_END_SIZE]);
uint64_t link_epoch_end_decode(const uint8_t buf[LINK_EPOCH_END_SIZE]);

/* The part of a PAGES frame before its payload. */
typedef struct {
    uint32_t page_size;
    uint32_t normal_pages;
    uint32_t zero_pages;
    uint8_t method;             /* a MethodId: none, or an opaque one */
    uint8_t name_len;           /* 1 to RAMBLOCK_NAME_MAX */
    uint16_t in_channel;
    uint64_t in_packet;
    uint32_t payload_size;      /* decoded: what is left of the frame */
} LinkPages;

/* Bytes of the PAGES header for this many pages and name. */
size_t link_pages_header_size(size_t name_len, uint32_t normal_pages,
                              uint32_t zero_pages);
/*
 * @buf has room for link_pages_header_size().  Counts, name and offsets are
 * those of @header, which has a page and a name; the rest is @self's.  Returns
 * the bytes written.
 */
size_t link_pages_encode(const LinkPages *self, const MultifdHeader *header,
                         uint8_t *buf);
/*
 * The first LINK_PAGES_FIXED_SIZE bytes of a frame of @length bytes (PACKED: of
 * @unpacked bytes, and then the payload has at most link_pack_bound()): counts
 * within what a packet of this page size can have, at least one page, a name, a
 * method that a link carries, and a length that leaves exactly the payload that
 * these pages have.  *@ret_rest: bytes of name and offsets that follow.
 */
bool link_pages_decode_fixed(const uint8_t buf[LINK_PAGES_FIXED_SIZE],
                             uint32_t length, LinkPages *ret, size_t *ret_rest,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * Name and offsets, @len = the *ret_rest of before, into @header, and with them
 * all its other fields: counts, flags = method, payload_size, packet_num =
 * in_packet, pages_alloc.  Offsets are not checked here.
 */
bool link_pages_decode_rest(const LinkPages *self, const uint8_t *buf,
                            size_t len, MultifdHeader *header, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/*
 * Which frame numbers have come, within LINK_FRAMES_MAX above the lowest that is
 * still missing or not handed on.
 */
typedef struct {
    uint64_t base;          /* every number below is handed on */
    /* Bit n % LINK_FRAMES_MAX is number n, for n from base on; others are 0. */
    uint64_t received[LINK_FRAMES_MAX / 64];
    uint64_t handed_on[LINK_FRAMES_MAX / 64];
} LinkWindow;

void link_window_init(LinkWindow *self);
/* A number came: refused when seen before or too far ahead. */
bool link_window_receive(LinkWindow *self, uint64_t sequence, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* It came before, as far as this can be known: a copy of it is to be dropped. */
bool link_window_has(const LinkWindow *self, uint64_t sequence);
/* What was received did not come whole: as if it had not been received.  Asserts
 * that it was, and was not handed on. */
void link_window_forget(LinkWindow *self, uint64_t sequence);
/*
 * It was handed on; true if base moved.  Asserts that it was received and not
 * handed on before.
 */
bool link_window_hand_on(LinkWindow *self, uint64_t sequence);

#endif
