/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/return-path.c - a look at the destination's answers
 *
 * Theory of operation.  A message is type, length, body.  RECV_BITMAP is
 * followed outside this framing by a 64-bit size, as many bytes, and a 64-bit
 * mark.  What QEMU would refuse makes us stop watching: the source will end the
 * migration itself, and what we would read after it could be wrong.
 */
#include "wire/bytes.h"
#include "wire/return-path.h"

/* QEMU's MIG_RP_MSG_*, migration/migration.h. */
enum {
    MSG_SHUT = 1,
    MSG_PONG,
    MSG_REQ_PAGES_ID,
    MSG_REQ_PAGES,
    MSG_RECV_BITMAP,
    MSG_RESUME_ACK,
    MSG_SWITCHOVER_ACK,
    N_MSGS,
};

enum { HEAD_SIZE = 4, BODY_MAX = 512, BITMAP_SIZE_MAX = 1 << 30 };

static const uint64_t bitmap_mark = UINT64_C(0x0123456789abcdef);

enum { BITMAP_NONE, BITMAP_SIZE, BITMAP_MARK };     /* bitmap_state */

/* Length allowed; with a name of 1 to 255 bytes at the end, the length before. */
static const struct {
    uint16_t length;
    bool has_name;
} messages[N_MSGS] = {
    [MSG_SHUT] = { 4, false },
    [MSG_PONG] = { 4, false },
    [MSG_REQ_PAGES_ID] = { 13, true },
    [MSG_REQ_PAGES] = { 12, false },
    [MSG_RECV_BITMAP] = { 1, true },
    [MSG_RESUME_ACK] = { 4, false },
    [MSG_SWITCHOVER_ACK] = { 0, false },
};

void return_path_init(ReturnPath *self)
{
    *self = (ReturnPath) { 0 };
}

static bool head_allowed(const ReturnPath *self)
{
    uint16_t type = bytes_get_be16(self->buf);
    uint16_t length = bytes_get_be16(self->buf + 2);

    if (type == 0 || type >= N_MSGS || length > BODY_MAX) {
        return false;
    }
    return messages[type].has_name ? length > messages[type].length
                                   : length == messages[type].length;
}

/* A whole message is in the buffer. */
static void take_message(ReturnPath *self)
{
    uint16_t type = bytes_get_be16(self->buf);
    uint16_t length = bytes_get_be16(self->buf + 2);
    uint16_t fixed = messages[type].length;

    if (messages[type].has_name &&
        self->buf[HEAD_SIZE + fixed - 1] != length - fixed) {
        self->opaque = true;
        return;
    }
    self->messages++;
    if (type == MSG_SHUT) {
        self->shut_seen = true;
        self->shut_value = bytes_get_be32(self->buf + HEAD_SIZE);
    } else if (type == MSG_RECV_BITMAP) {
        self->bitmap_state = BITMAP_SIZE;
    }
}

/* Eight bytes of a bitmap's frame are in the buffer. */
static void take_bitmap_word(ReturnPath *self)
{
    uint64_t word = bytes_get_be64(self->buf);

    if (self->bitmap_state == BITMAP_SIZE && word <= BITMAP_SIZE_MAX) {
        self->skip = word;
        self->bitmap_state = BITMAP_MARK;
    } else if (self->bitmap_state == BITMAP_MARK && word == bitmap_mark) {
        self->bitmap_state = BITMAP_NONE;
    } else {
        self->opaque = true;
    }
}

/* Bytes that the present item has, as far as is known. */
static size_t item_size(const ReturnPath *self)
{
    if (self->bitmap_state != BITMAP_NONE) {
        return 8;
    }
    if (self->have < HEAD_SIZE) {
        return HEAD_SIZE;
    }
    return HEAD_SIZE + bytes_get_be16(self->buf + 2);
}

static void look(ReturnPath *self)
{
    if (self->bitmap_state == BITMAP_NONE && self->have == HEAD_SIZE &&
        !head_allowed(self)) {
        self->opaque = true;
    } else if (self->have == item_size(self)) {
        if (self->bitmap_state != BITMAP_NONE) {
            take_bitmap_word(self);
        } else {
            take_message(self);
        }
        self->have = 0;
    }
}

void return_path_feed(ReturnPath *self, const uint8_t *buf, size_t len)
{
    while (len > 0 && !self->opaque) {
        size_t n;

        if (self->skip > 0) {
            n = MIN(self->skip, len);
            self->skip -= n;
        } else {
            n = MIN(item_size(self) - self->have, len);
            g_assert(self->have + n <= sizeof(self->buf));
            memcpy(self->buf + self->have, buf, n);
            self->have += n;
            look(self);
        }
        buf += n;
        len -= n;
    }
}

bool return_path_has_shut(const ReturnPath *self, uint32_t *ret_value)
{
    if (self->shut_seen) {
        *ret_value = self->shut_value;
    }
    return self->shut_seen;
}
