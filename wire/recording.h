/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/recording.h - the packets of a recording, as pcapng (RFC draft
 * ietf-opsawg-pcapng) with the link type USER0, 147
 *
 * Pure functions over bytes.  A recording is a section header, one interface, and
 * an Enhanced Packet Block for each piece of traffic: a RecordingHeader, then
 * bytes of QEMU's own wire.  docs/wireshark/multiferry.lua shows it.  We write
 * big-endian blocks and read either order, for other programs may have written
 * the file anew.
 */
#ifndef WIRE_RECORDING_H
#define WIRE_RECORDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

enum {
    RECORDING_HEADER_SIZE = 32,
    RECORDING_LINK_TYPE = 147,
    RECORDING_BLOCK_MAX = 32 * 1024 * 1024,
    RECORDING_PIECE_MAX = 128 * 1024,   /* bytes; Wireshark takes 256 KiB */
};

typedef enum {
    RECORDING_MAIN = 1,     /* bytes of the main channel */
    RECORDING_RETURN,       /* of the return path */
    RECORDING_PAGES,        /* a page packet's or a SYNC's header */
    RECORDING_DEVICE,       /* a device-state packet's header */
    RECORDING_PAYLOAD,      /* a part of the payload of the PAGES before it */
    RECORDING_KIND_LAST = RECORDING_PAYLOAD,
} RecordingKind;

typedef struct {
    RecordingKind kind;
    uint16_t channel;       /* PAGES, DEVICE, PAYLOAD */
    uint64_t epoch;         /* likewise */
    uint64_t position;      /* MAIN, RETURN: of the first byte in the stream;
                               else number on the channel */
    uint32_t page_size;     /* of the target; 0: not known yet */
    uint32_t payload_len;   /* PAGES, DEVICE: bytes that followed the header */
} RecordingHeader;

/* What a file begins with. */
void recording_append_file_header(GByteArray *file);
/* One piece, at most RECORDING_PIECE_MAX bytes, @time_us since 1970. */
void recording_append(GByteArray *file, const RecordingHeader *header,
                      int64_t time_us, const uint8_t *bytes, size_t len);

/* Length of the block at the front of @buf; 0: more bytes are needed to tell, or
 * it is none.  Of what we write ourselves. */
size_t recording_get_block_size(const uint8_t *buf, size_t len);

typedef struct {
    const uint8_t *buf;
    size_t len, pos;
    bool little_endian;     /* as the present section is */
} RecordingReader;

typedef struct {
    RecordingHeader header;
    int64_t time_us;        /* since 1970 */
    const uint8_t *bytes;   /* lent by the reader's buffer */
    size_t len;
} RecordingPiece;

/* False with WIRE_ERROR_PROTOCOL: it is no pcapng file. */
bool recording_reader_init(RecordingReader *self, const uint8_t *buf, size_t len,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The next piece; *@ret_end: there is none.  Blocks of other types are passed
 * over.  WIRE_ERROR_PROTOCOL: the file is damaged; _TRUNCATED: or ends early. */
bool recording_reader_next(RecordingReader *self, RecordingPiece *ret,
                           bool *ret_end, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
