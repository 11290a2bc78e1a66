/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: any bytes are followed, turn the parser opaque or are refused with
 * a WIRE_ERROR; how they are cut changes nothing (events, error, table); and a
 * marker's own bytes are the last looked at when it is told.
 *
 * Input: the main channel.  The last byte chooses how the second reading cuts it.
 */
#include <string.h>

#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/main-stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    MainStream *stream;
    GArray *events;
    GError *error;
} Reading;

static void check_marker(const MainEvent *event, const uint8_t *data,
                         size_t pos, uint64_t *markers)
{
    uint64_t word;

    if (event->kind != MAIN_EVENT_MARKER) {
        return;
    }
    g_assert_cmpuint(event->number, ==, ++*markers);
    g_assert_cmpuint(event->offset + 8, ==, pos);
    word = bytes_get_be64(data + event->offset);
    g_assert_true(word == 0x10 || word == 0x200);
}

static void read_all(Reading *r, const uint8_t *data, size_t size, size_t piece)
{
    uint64_t markers = 0;
    size_t pos = 0;

    r->stream = main_stream_new();
    r->events = g_array_new(FALSE, TRUE, sizeof(MainEvent));
    while (pos < size) {
        size_t n = MIN(piece, size - pos), used;
        MainEvent event = { 0 };
        bool has_event;

        if (!main_stream_feed(r->stream, data + pos, n, &used, &event,
                              &has_event, &r->error)) {
            g_assert_true(r->error && r->error->domain == WIRE_ERROR);
            return;
        }
        g_assert_true(used <= n && (has_event || used == n));
        pos += used;
        if (has_event) {
            check_marker(&event, data, pos, &markers);
            g_array_append_val(r->events, event);
        }
    }
}

static void clear(Reading *r)
{
    main_stream_free(r->stream);
    g_array_unref(r->events);
    g_clear_error(&r->error);
}

static void check_same(const Reading *a, const Reading *b)
{
    const RamblockTable *table = main_stream_get_ramblocks(a->stream);

    g_assert_cmpuint(a->events->len, ==, b->events->len);
    if (a->events->len > 0) {
        g_assert_true(memcmp(a->events->data, b->events->data,
                             a->events->len * sizeof(MainEvent)) == 0);
    }
    g_assert_cmpstr(a->error ? a->error->message : NULL, ==,
                    b->error ? b->error->message : NULL);
    g_assert_cmpstr(main_stream_get_opaque_reason(a->stream), ==,
                    main_stream_get_opaque_reason(b->stream));
    g_assert_cmpuint(ramblock_table_get_count(table), <=, RAMBLOCK_COUNT_MAX);
    g_assert_cmpuint(ramblock_table_get_count(table), ==,
                     ramblock_table_get_count(
                         main_stream_get_ramblocks(b->stream)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Reading whole = { 0 }, pieces = { 0 };

    if (size == 0) {
        return 0;
    }
    read_all(&whole, data, size, size);
    read_all(&pieces, data, size, 1 + data[size - 1] % 16);
    check_same(&whole, &pieces);
    clear(&whole);
    clear(&pieces);
    return 0;
}
