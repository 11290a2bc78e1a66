/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire/recording.h"

#include <string.h>
#include "wire/bytes.h"
#include "wire/error.h"

/* Of pcapng. */
enum {
    BLOCK_SECTION = 0x0a0d0d0a,
    BLOCK_INTERFACE = 1,
    BLOCK_PACKET = 6,
    BYTE_ORDER_MAGIC = 0x1a2b3c4d,
    BLOCK_OVERHEAD = 12,        /* type, length, length again */
    PACKET_FIXED = 20,          /* of BLOCK_PACKET, before the data */
};

/* The header of a piece. */
enum {
    RECORDING_MAGIC = 0x4d465243,   /* "MFRC" */
    RECORDING_VERSION = 1,
    OFF_MAGIC = 0,
    OFF_VERSION = 4,
    OFF_KIND = 5,
    OFF_CHANNEL = 6,
    OFF_EPOCH = 8,
    OFF_POSITION = 16,
    OFF_PAGE_SIZE = 24,
    OFF_PAYLOAD_LEN = 28,
};
G_STATIC_ASSERT((int)OFF_PAYLOAD_LEN + 4 == RECORDING_HEADER_SIZE);

/* ---- writing ------------------------------------------------------------------------ */

static void append_be32(GByteArray *file, uint32_t value)
{
    uint8_t buf[4];

    bytes_put_be32(buf, value);
    g_byte_array_append(file, buf, sizeof(buf));
}

void recording_append_file_header(GByteArray *file)
{
    append_be32(file, BLOCK_SECTION);
    append_be32(file, 28);
    append_be32(file, BYTE_ORDER_MAGIC);
    append_be32(file, 1u << 16);            /* version 1.0 */
    append_be32(file, UINT32_MAX);          /* the section's length is not known */
    append_be32(file, UINT32_MAX);
    append_be32(file, 28);

    append_be32(file, BLOCK_INTERFACE);
    append_be32(file, 20);
    append_be32(file, (uint32_t)RECORDING_LINK_TYPE << 16);
    append_be32(file, 0);                   /* no limit on captured bytes */
    append_be32(file, 20);
}

static void encode_header(const RecordingHeader *header,
                          uint8_t buf[RECORDING_HEADER_SIZE])
{
    bytes_put_be32(buf + OFF_MAGIC, RECORDING_MAGIC);
    buf[OFF_VERSION] = RECORDING_VERSION;
    buf[OFF_KIND] = header->kind;
    bytes_put_be16(buf + OFF_CHANNEL, header->channel);
    bytes_put_be64(buf + OFF_EPOCH, header->epoch);
    bytes_put_be64(buf + OFF_POSITION, header->position);
    bytes_put_be32(buf + OFF_PAGE_SIZE, header->page_size);
    bytes_put_be32(buf + OFF_PAYLOAD_LEN, header->payload_len);
}

void recording_append(GByteArray *file, const RecordingHeader *header,
                      int64_t time_us, const uint8_t *bytes, size_t len)
{
    static const uint8_t padding[4];
    uint32_t captured = RECORDING_HEADER_SIZE + len;
    uint32_t n_padding = -captured & 3;
    uint32_t size = BLOCK_OVERHEAD + PACKET_FIXED + captured + n_padding;
    uint8_t buf[RECORDING_HEADER_SIZE];

    g_assert(len <= RECORDING_PIECE_MAX);
    encode_header(header, buf);
    append_be32(file, BLOCK_PACKET);
    append_be32(file, size);
    append_be32(file, 0);                   /* the interface */
    append_be32(file, (uint64_t)time_us >> 32);
    append_be32(file, (uint32_t)time_us);
    append_be32(file, captured);
    append_be32(file, captured + header->payload_len);
    g_byte_array_append(file, buf, sizeof(buf));
    g_byte_array_append(file, bytes, len);
    g_byte_array_append(file, padding, n_padding);
    append_be32(file, size);
}

size_t recording_get_block_size(const uint8_t *buf, size_t len)
{
    return len < 8 ? 0 : bytes_get_be32(buf + 4);
}

/* ---- reading ------------------------------------------------------------------------ */

static uint32_t get32(const RecordingReader *self, const uint8_t *p)
{
    uint32_t value = bytes_get_be32(p);

    return self->little_endian ? GUINT32_SWAP_LE_BE(value) : value;
}

static bool fail(const RecordingReader *self, WireError code, const char *what,
                 GError **error)
{
    g_set_error(error, WIRE_ERROR, code, "recording offset %zu: %s", self->pos,
                what);
    return false;
}

/* A section says its byte order itself. */
static bool read_section(RecordingReader *self, GError **error)
{
    const uint8_t *p = self->buf + self->pos;

    if (self->len - self->pos < BLOCK_OVERHEAD ||
        (bytes_get_be32(p + 8) != BYTE_ORDER_MAGIC &&
         bytes_get_be32(p + 8) != GUINT32_SWAP_LE_BE(BYTE_ORDER_MAGIC))) {
        return fail(self, WIRE_ERROR_PROTOCOL, "got no pcapng byte-order magic",
                    error);
    }
    self->little_endian = bytes_get_be32(p + 8) != BYTE_ORDER_MAGIC;
    return true;
}

bool recording_reader_init(RecordingReader *self, const uint8_t *buf, size_t len,
                           GError **error)
{
    *self = (RecordingReader) { .buf = buf, .len = len };
    if (len < 4 || bytes_get_be32(buf) != BLOCK_SECTION) {
        return fail(self, WIRE_ERROR_PROTOCOL, "got no pcapng section", error);
    }
    return true;
}

static bool decode_header(const RecordingReader *self, const uint8_t *p,
                          size_t len, RecordingHeader *ret, GError **error)
{
    if (len < RECORDING_HEADER_SIZE ||
        bytes_get_be32(p + OFF_MAGIC) != RECORDING_MAGIC ||
        p[OFF_VERSION] != RECORDING_VERSION || p[OFF_KIND] < RECORDING_MAIN ||
        p[OFF_KIND] > RECORDING_KIND_LAST) {
        return fail(self, WIRE_ERROR_PROTOCOL, "got a packet that is not of a "
                    "multiferry recording of version 1", error);
    }
    *ret = (RecordingHeader) {
        .kind = p[OFF_KIND],
        .channel = bytes_get_be16(p + OFF_CHANNEL),
        .epoch = bytes_get_be64(p + OFF_EPOCH),
        .position = bytes_get_be64(p + OFF_POSITION),
        .page_size = bytes_get_be32(p + OFF_PAGE_SIZE),
        .payload_len = bytes_get_be32(p + OFF_PAYLOAD_LEN),
    };
    return true;
}

static bool decode_packet(const RecordingReader *self, size_t size,
                          RecordingPiece *ret, GError **error)
{
    const uint8_t *p = self->buf + self->pos + 8;
    size_t room = size - BLOCK_OVERHEAD;
    RecordingPiece piece = { 0 };
    uint32_t captured;

    if (room < PACKET_FIXED || get32(self, p + 12) > room - PACKET_FIXED) {
        return fail(self, WIRE_ERROR_PROTOCOL, "got a packet that is longer "
                    "than its block", error);
    }
    captured = get32(self, p + 12);
    if (!decode_header(self, p + PACKET_FIXED, captured, &piece.header, error)) {
        return false;
    }
    piece.time_us = (int64_t)((uint64_t)get32(self, p + 4) << 32 |
                              get32(self, p + 8));
    piece.bytes = p + PACKET_FIXED + RECORDING_HEADER_SIZE;
    piece.len = captured - RECORDING_HEADER_SIZE;
    *ret = piece;
    return true;
}

/* The block at the present position, all of it; its length. */
static bool check_block(RecordingReader *self, uint32_t *ret_size, GError **error)
{
    size_t left = self->len - self->pos;
    const uint8_t *p = self->buf + self->pos;
    uint32_t size;

    if (left < BLOCK_OVERHEAD) {
        return fail(self, WIRE_ERROR_TRUNCATED, "ends within a block", error);
    }
    if (bytes_get_be32(p) == BLOCK_SECTION && !read_section(self, error)) {
        return false;
    }
    size = get32(self, p + 4);
    if (size < BLOCK_OVERHEAD || size % 4 != 0 || size > RECORDING_BLOCK_MAX) {
        return fail(self, WIRE_ERROR_PROTOCOL, "got a block of a size that none "
                    "has", error);
    }
    if (size > left) {
        return fail(self, WIRE_ERROR_TRUNCATED, "ends within a block", error);
    }
    *ret_size = size;
    return true;
}

bool recording_reader_next(RecordingReader *self, RecordingPiece *ret,
                           bool *ret_end, GError **error)
{
    *ret_end = false;
    while (self->pos < self->len) {
        uint32_t size = 0;
        bool is_packet;

        if (!check_block(self, &size, error)) {
            return false;
        }
        is_packet = get32(self, self->buf + self->pos) == BLOCK_PACKET;
        if (is_packet && !decode_packet(self, size, ret, error)) {
            return false;
        }
        self->pos += size;
        if (is_packet) {
            return true;
        }
    }
    *ret_end = true;
    return true;
}
