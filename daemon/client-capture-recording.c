/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-capture-recording.c - a recording as the streams that it is of
 *
 * Where packets came over a link, those of the next epoch may have come before a
 * channel's SYNC; by their epochs they are put back.  The main channel is there
 * from its beginning up to the first gap.  Payloads are passed over.
 */
#include "daemon/client-capture-private.h"

#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/multifd.h"
#include "wire/recording.h"

typedef struct {
    unsigned number;            /* in the file */
    bool sync;
    RecordingPiece piece;
} Item;

typedef struct {
    GByteArray *main;
    GArray *items[MULTIFD_CHANNELS_MAX];    /* of Item; NULL: none */
} Streams;

static bool is_sync(const RecordingPiece *piece)
{
    return piece->header.kind == RECORDING_PAGES &&
           piece->len >= MULTIFD_PREFIX_SIZE &&
           (bytes_get_be32(piece->bytes + 8) & MULTIFD_FLAG_SYNC);
}

static int compare_items(const void *a, const void *b)
{
    const Item *x = a, *y = b;

    if (x->piece.header.epoch != y->piece.header.epoch) {
        return x->piece.header.epoch < y->piece.header.epoch ? -1 : 1;
    }
    if (x->sync != y->sync) {
        return x->sync ? 1 : -1;
    }
    return x->number < y->number ? -1 : x->number > y->number;
}

static void add_main(GByteArray *main, const RecordingPiece *piece)
{
    uint64_t position = piece->header.position;

    if (position <= main->len && position + piece->len > main->len) {
        size_t known = main->len - position;

        g_byte_array_append(main, piece->bytes + known, piece->len - known);
    }
}

static bool add_packet(Streams *streams, const RecordingPiece *piece,
                       unsigned number, GError **error)
{
    unsigned channel = piece->header.channel;
    Item item = { number, is_sync(piece), *piece };

    if (channel >= MULTIFD_CHANNELS_MAX) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "recording: got channel %u, allowed 0 to %d", channel,
                    MULTIFD_CHANNELS_MAX - 1);
        return false;
    }
    if (!streams->items[channel]) {
        streams->items[channel] = g_array_new(FALSE, FALSE, sizeof(Item));
    }
    g_array_append_val(streams->items[channel], item);
    return true;
}

static bool collect(Streams *streams, GBytes *bytes, GError **error)
{
    RecordingReader reader;
    RecordingPiece piece;
    gsize len;
    const uint8_t *data = g_bytes_get_data(bytes, &len);
    bool end = false;

    if (!recording_reader_init(&reader, data, len, error)) {
        return false;
    }
    for (unsigned number = 0; !end; number++) {
        if (!recording_reader_next(&reader, &piece, &end, error)) {
            return false;
        }
        if (!end && piece.header.kind == RECORDING_MAIN) {
            add_main(streams->main, &piece);
        } else if (!end && (piece.header.kind == RECORDING_PAGES ||
                            piece.header.kind == RECORDING_DEVICE) &&
                   !add_packet(streams, &piece, number, error)) {
            return false;
        }
    }
    return true;
}

static void add_channel(CaptureFiles *files, unsigned id, GArray *items)
{
    GByteArray *bytes = g_byte_array_new();
    uint64_t first_epoch;

    g_array_sort(items, compare_items);
    first_epoch = g_array_index(items, Item, 0).piece.header.epoch;
    for (unsigned i = 0; i < items->len; i++) {
        const RecordingPiece *piece = &g_array_index(items, Item, i).piece;

        g_byte_array_append(bytes, piece->bytes, piece->len);
    }
    client_capture_add_channel(files, (CaptureChannel) {
        .id = id, .bytes = g_byte_array_free_to_bytes(bytes),
        .headers_only = true, .first_epoch = first_epoch,
    });
}

bool client_capture_load_recording(CaptureFiles *files, GBytes *bytes,
                                   GError **error)
{
    g_autofree Streams *streams = g_new0(Streams, 1);
    bool ok;

    streams->main = g_byte_array_new();
    ok = collect(streams, bytes, error);
    for (unsigned id = 0; id < MULTIFD_CHANNELS_MAX; id++) {
        if (ok && streams->items[id]) {
            add_channel(files, id, streams->items[id]);
        }
        g_clear_pointer(&streams->items[id], g_array_unref);
    }
    files->main = g_byte_array_free_to_bytes(streams->main);
    return ok;
}
