/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire/main-bitmap.h"

#include <inttypes.h>

#include "wire/bytes.h"

/* QEMU's DIRTY_BITMAP_MIG_FLAG_*, migration/block-dirty-bitmap.c. */
enum {
    FLAG_EOS = 0x01,
    FLAG_ZEROES = 0x02,
    FLAG_BITMAP_NAME = 0x04,
    FLAG_DEVICE_NAME = 0x08,
    FLAG_START = 0x10,
    FLAG_COMPLETE = 0x20,
    FLAG_BITS = 0x40,
    FLAG_EXTRA = 0x80,      /* more bytes of flags, which nobody sends yet */

    START_SIZE = 4 + 1,     /* granularity, flags of the bitmap */
    RANGE_SIZE = 8 + 4,     /* first sector, number of sectors */
    BITS_MAX = 16 * 1024 * 1024,    /* QEMU sends 1 KiB at a time */
};

static bool expect(MainBitmap *self, MainParser *parser, MainBitmapState state,
                   size_t size)
{
    self->state = state;
    main_parser_expect(parser, size);
    return true;
}

/* Flags and names have been read. */
static bool begin_content(MainBitmap *self, MainParser *parser, bool *ret_done)
{
    if (self->flags & FLAG_START) {
        return expect(self, parser, MAIN_BITMAP_START, START_SIZE);
    }
    if (!(self->flags & FLAG_COMPLETE) && (self->flags & FLAG_BITS)) {
        return expect(self, parser, MAIN_BITMAP_RANGE, RANGE_SIZE);
    }
    *ret_done = self->flags & FLAG_EOS;
    return expect(self, parser, MAIN_BITMAP_FLAGS, 1);
}

static bool end_content(MainBitmap *self, MainParser *parser, bool *ret_done)
{
    *ret_done = self->flags & FLAG_EOS;
    return expect(self, parser, MAIN_BITMAP_FLAGS, 1);
}

static bool next_name(MainBitmap *self, MainParser *parser, bool *ret_done)
{
    if (self->names_left == 0) {
        return begin_content(self, parser, ret_done);
    }
    self->names_left--;
    return expect(self, parser, MAIN_BITMAP_NAME_LENGTH, 1);
}

static bool step_flags(MainBitmap *self, MainParser *parser, bool *ret_done)
{
    self->flags = parser->unit[0];
    if (self->flags & FLAG_EXTRA) {
        return main_parser_stop(parser, "flags 0x%02x of a dirty bitmap are not "
                                "known", self->flags);
    }
    self->names_left = !!(self->flags & FLAG_DEVICE_NAME) +
                       !!(self->flags & FLAG_BITMAP_NAME);
    return next_name(self, parser, ret_done);
}

static bool step_name_length(MainBitmap *self, MainParser *parser,
                             bool *ret_done)
{
    if (parser->unit[0] == 0) {
        return next_name(self, parser, ret_done);
    }
    return expect(self, parser, MAIN_BITMAP_NAME, parser->unit[0]);
}

static bool step_size(MainBitmap *self, MainParser *parser, bool *ret_done)
{
    uint64_t size = bytes_get_be64(parser->unit);

    if (size > BITS_MAX) {
        return main_parser_stop(parser, "got %" PRIu64 " bytes of a dirty bitmap "
                                "in one piece, followed are at most %d", size,
                                BITS_MAX);
    }
    main_parser_skip(parser, size);
    return end_content(self, parser, ret_done);
}

void main_bitmap_begin(MainBitmap *self, MainParser *parser)
{
    *self = (MainBitmap) { 0 };
    expect(self, parser, MAIN_BITMAP_FLAGS, 1);
}

bool main_bitmap_step(MainBitmap *self, MainParser *parser, bool *ret_done)
{
    *ret_done = false;
    switch (self->state) {
    case MAIN_BITMAP_FLAGS:
        return step_flags(self, parser, ret_done);
    case MAIN_BITMAP_NAME_LENGTH:
        return step_name_length(self, parser, ret_done);
    case MAIN_BITMAP_NAME:
        return next_name(self, parser, ret_done);
    case MAIN_BITMAP_START:
        return end_content(self, parser, ret_done);
    case MAIN_BITMAP_RANGE:
        return self->flags & FLAG_ZEROES
               ? end_content(self, parser, ret_done)
               : expect(self, parser, MAIN_BITMAP_SIZE, 8);
    case MAIN_BITMAP_SIZE:
        return step_size(self, parser, ret_done);
    }
    g_assert_not_reached();
}
