/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/main-ram.c - the records of a RAM section
 *
 * Theory of operation.  Flags and address share a word; no flag is above 0x200,
 * and no target page is below 1 KiB, so the low ten bits are the flags whatever
 * the page size is.
 *
 * A block in the list may carry two more numbers: its page size (only with
 * postcopy, only if it differs from the host's, which the stream does not say)
 * and its guest address (with x-ignore-shared).  Whether the optional one is
 * there can be told without knowing the host: a page size or an address has a
 * first byte of 0, where the next block has the length of its name, never 0;
 * and behind the last block, both have no flag bits, where the next record's
 * word has at least one.
 */
#include <inttypes.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/main-ram.h"

/* QEMU's RAM_SAVE_FLAG_*. */
enum {
    FLAG_ZERO          = 0x02,
    FLAG_MEM_SIZE      = 0x04,
    FLAG_PAGE          = 0x08,
    FLAG_EOS           = 0x10,
    FLAG_CONTINUE      = 0x20,
    FLAG_XBZRLE        = 0x40,
    FLAG_COMPRESS_PAGE = 0x100,
    FLAG_MULTIFD_FLUSH = 0x200,
    FLAGS_MASK         = 0x3ff,
};

enum {
    ASSUMED_PAGE_SIZE = 4096,   /* where the stream does not say */
    XBZRLE_ENCODING = 1,
    COMPRESSED_MAX = 128 * 1024,    /* above deflate's bound for any page */
};

static void expect(MainRam *self, MainParser *parser, MainRamState state,
                   size_t size)
{
    self->state = state;
    main_parser_expect(parser, size);
}

void main_ram_init(MainRam *self)
{
    *self = (MainRam) { .table = ramblock_table_new() };
}

void main_ram_clear(MainRam *self)
{
    g_clear_pointer(&self->table, ramblock_table_free);
}

void main_ram_begin(MainRam *self, MainParser *parser, bool is_start)
{
    self->in_start = is_start;
    self->first_record = true;
    expect(self, parser, MAIN_RAM_WORD, 8);
}

static void emit_marker(MainRam *self, MainParser *parser)
{
    main_parser_emit(parser, MAIN_EVENT_MARKER,
                     main_parser_unit_offset(parser));
    parser->event.number = ++self->markers;
}

/* ---- the block list ---- */

/* Another block follows, or the table is complete. */
static void next_block(MainRam *self, MainParser *parser)
{
    if (self->bytes_left > 0) {
        expect(self, parser, MAIN_RAM_LIST_NAME_LENGTH, 1);
        return;
    }
    self->has_table = true;
    main_parser_emit(parser, MAIN_EVENT_RAMBLOCKS, parser->pos);
    expect(self, parser, MAIN_RAM_WORD, 8);
}

static bool begin_list(MainRam *self, MainParser *parser)
{
    if (self->mapped_ram) {
        return main_parser_stop(parser, "the RAM of a mapped-ram stream is not "
                                "followed");
    }
    self->bytes_left = self->addr;
    next_block(self, parser);
    return true;
}

/* All of a block has been read; @parser's unit stays as it is. */
static bool add_block(MainRam *self, MainParser *parser)
{
    unsigned n_fixed = self->ignore_shared ? 1 : 0;
    uint64_t page_size = self->n_extra > n_fixed ? self->extra[0] : 0;
    g_autoptr(GError) error = NULL;

    if (self->n_extra > n_fixed &&
        (page_size <= FLAGS_MASK || (page_size & (page_size - 1)) != 0)) {
        return main_parser_fail(parser, "got ramblock page size %" PRIu64
                                ", allowed a power of two from %d", page_size,
                                FLAGS_MASK + 1);
    }
    if (!ramblock_table_add(self->table, self->name, self->name_len,
                            self->used_length, page_size, NULL, &error)) {
        return main_parser_fail(parser, "%s", error->message);
    }
    return true;
}

/* The present unit ended the block, and nothing more can belong to it. */
static bool end_block(MainRam *self, MainParser *parser)
{
    if (!add_block(self, parser)) {
        return false;
    }
    next_block(self, parser);
    return true;
}

/* After used_length and after each further number. */
static bool next_extra(MainRam *self, MainParser *parser)
{
    unsigned n_fixed = self->ignore_shared ? 1 : 0;

    if (self->n_extra < n_fixed) {
        expect(self, parser, MAIN_RAM_LIST_EXTRA, 8);
        return true;
    }
    self->extra_open = self->postcopy_advised && self->n_extra == n_fixed;
    if (!self->extra_open) {
        return end_block(self, parser);
    }
    if (self->bytes_left > 0) {
        expect(self, parser, MAIN_RAM_LIST_NAME_LENGTH, 1);
    } else {
        expect(self, parser, MAIN_RAM_WORD, 8);
    }
    return true;
}

static bool step_extra(MainRam *self, MainParser *parser)
{
    g_assert(self->n_extra < G_N_ELEMENTS(self->extra));
    self->extra[self->n_extra++] = bytes_get_be64(parser->unit);
    return next_extra(self, parser);
}

static bool step_list_name_length(MainRam *self, MainParser *parser)
{
    uint8_t length = parser->unit[0];

    if (self->extra_open && length == 0) {
        self->state = MAIN_RAM_LIST_EXTRA;
        main_parser_expect_more(parser, 8);
        return true;
    }
    if (self->extra_open) {
        self->extra_open = false;
        if (!add_block(self, parser)) {
            return false;
        }
    }
    if (length == 0) {
        return main_parser_fail(parser, "got an empty ramblock name, allowed 1 "
                                "to %d bytes", RAMBLOCK_NAME_MAX);
    }
    expect(self, parser, MAIN_RAM_LIST_NAME, length);
    return true;
}

static bool step_list_used_length(MainRam *self, MainParser *parser)
{
    self->used_length = bytes_get_be64(parser->unit);
    if (self->used_length > self->bytes_left) {
        return main_parser_fail(parser, "got used_length %" PRIu64 ", allowed "
                                "at most %" PRIu64 ", what is left of the "
                                "total in MEM_SIZE", self->used_length,
                                self->bytes_left);
    }
    self->bytes_left -= self->used_length;
    self->n_extra = 0;
    return next_extra(self, parser);
}

/* ---- page records ---- */

static uint64_t get_page_size(const MainRam *self)
{
    return self->page_size ? self->page_size : self->page_size_told;
}

static bool expect_page_body(MainRam *self, MainParser *parser)
{
    uint32_t kind = self->flags & ~(uint32_t)FLAG_CONTINUE;

    switch (kind) {
    case FLAG_ZERO:
        expect(self, parser, MAIN_RAM_PAGE_FILL, 1);
        return true;
    case FLAG_XBZRLE:
        expect(self, parser, MAIN_RAM_PAGE_XBZRLE, 3);
        return true;
    case FLAG_COMPRESS_PAGE:
        expect(self, parser, MAIN_RAM_PAGE_COMPRESSED, 4);
        return true;
    default:
        break;
    }
    if (get_page_size(self) == 0) {
        parser->guessing = true;
    }
    main_parser_skip(parser, get_page_size(self) ? get_page_size(self)
                                                 : ASSUMED_PAGE_SIZE);
    expect(self, parser, MAIN_RAM_WORD, 8);
    return true;
}

/*
 * The block of a page record is known: does the page lie in it?  Without a page
 * size every address is a multiple of the smallest, the flags' bits being off.
 */
static bool check_page(MainRam *self, MainParser *parser)
{
    uint64_t size = get_page_size(self) ? get_page_size(self)
                                        : FLAGS_MASK + 1;

    if (self->addr % size != 0) {
        return main_parser_fail(parser, "got a page at 0x%" PRIx64 ", allowed "
                                "only multiples of 0x%" PRIx64, self->addr,
                                size);
    }
    if (self->block->used_length < size ||
        self->addr > self->block->used_length - size) {
        g_autofree char *shown = ramblock_name_escape(
            self->block->name, strlen(self->block->name));

        return main_parser_fail(parser, "got a page at 0x%" PRIx64 " of "
                                "ramblock '%s', allowed within used_length "
                                "0x%" PRIx64, self->addr, shown,
                                self->block->used_length);
    }
    if (self->page_hook) {
        self->page_hook(self->block, self->addr, self->flags & FLAG_ZERO,
                        self->page_hook_data);
    }
    return expect_page_body(self, parser);
}

static bool step_page_name(MainRam *self, MainParser *parser)
{
    const char *name = (const char *)parser->unit;

    self->block = ramblock_table_find(self->table, name, parser->have);
    if (!self->block) {
        g_autofree char *shown = ramblock_name_escape(name, parser->have);

        return main_parser_fail(parser, "got a page of ramblock '%s', allowed "
                                "one of the %u in the list", shown,
                                ramblock_table_get_count(self->table));
    }
    return check_page(self, parser);
}

static bool step_page_name_length(MainRam *self, MainParser *parser)
{
    if (parser->unit[0] == 0) {
        return main_parser_fail(parser, "got an empty ramblock name, allowed 1 "
                                "to %d bytes", RAMBLOCK_NAME_MAX);
    }
    expect(self, parser, MAIN_RAM_PAGE_NAME, parser->unit[0]);
    return true;
}

static bool begin_page(MainRam *self, MainParser *parser)
{
    if (self->flags & FLAG_ZERO) {
        self->counts.zero_records++;
    } else {
        self->counts.page_records++;
        if (!self->page_data_told) {
            self->page_data_told = true;
            main_parser_emit(parser, MAIN_EVENT_PAGE_DATA,
                             main_parser_unit_offset(parser));
        }
    }
    if (!(self->flags & FLAG_CONTINUE)) {
        expect(self, parser, MAIN_RAM_PAGE_NAME_LENGTH, 1);
        return true;
    }
    if (!self->block) {
        return main_parser_fail(parser, "got a page record with CONTINUE, "
                                "allowed only after one that names a ramblock");
    }
    return check_page(self, parser);
}

static bool step_fill(MainRam *self, MainParser *parser)
{
    if (parser->unit[0] != 0) {
        return main_parser_fail(parser, "got a ZERO record with fill byte "
                                "0x%02x, allowed 0", parser->unit[0]);
    }
    expect(self, parser, MAIN_RAM_WORD, 8);
    return true;
}

static bool step_xbzrle(MainRam *self, MainParser *parser)
{
    uint16_t length = bytes_get_be16(parser->unit + 1);

    if (parser->unit[0] != XBZRLE_ENCODING ||
        (self->page_size && length > self->page_size)) {
        return main_parser_fail(parser, "got an XBZRLE record of encoding %u "
                                "and %u bytes, allowed encoding %d and at most "
                                "a page", parser->unit[0], length,
                                XBZRLE_ENCODING);
    }
    main_parser_skip(parser, length);
    expect(self, parser, MAIN_RAM_WORD, 8);
    return true;
}

static bool step_compressed(MainRam *self, MainParser *parser)
{
    uint32_t length = bytes_get_be32(parser->unit);

    if (length > COMPRESSED_MAX) {
        return main_parser_fail(parser, "got a COMPRESS_PAGE record of %" PRIu32
                                " bytes, allowed at most %d", length,
                                COMPRESSED_MAX);
    }
    main_parser_skip(parser, length);
    expect(self, parser, MAIN_RAM_WORD, 8);
    return true;
}

/* ---- records ---- */

static bool step_eos(MainRam *self, MainParser *parser, bool *ret_done)
{
    self->counts.eos++;
    if (self->in_start && self->mode == MAIN_SYNC_UNKNOWN) {
        self->mode = MAIN_SYNC_PER_SECTION;
    }
    if (self->mode == MAIN_SYNC_PER_SECTION && !self->in_postcopy) {
        emit_marker(self, parser);
    }
    *ret_done = true;
    return true;
}

static bool step_flush(MainRam *self, MainParser *parser)
{
    self->counts.flushes++;
    if (self->mode == MAIN_SYNC_UNKNOWN) {
        self->mode = MAIN_SYNC_PER_ROUND;
    }
    emit_marker(self, parser);
    expect(self, parser, MAIN_RAM_WORD, 8);
    return true;
}

static bool dispatch_record(MainRam *self, MainParser *parser, bool *ret_done)
{
    switch (self->flags) {
    case FLAG_MEM_SIZE:
        return begin_list(self, parser);
    case FLAG_EOS:
        return step_eos(self, parser, ret_done);
    case FLAG_MULTIFD_FLUSH:
        return step_flush(self, parser);
    case FLAG_ZERO:
    case FLAG_ZERO | FLAG_CONTINUE:
    case FLAG_PAGE:
    case FLAG_PAGE | FLAG_CONTINUE:
    case FLAG_XBZRLE:
    case FLAG_XBZRLE | FLAG_CONTINUE:
    case FLAG_COMPRESS_PAGE:
    case FLAG_COMPRESS_PAGE | FLAG_CONTINUE:
        return begin_page(self, parser);
    default:
        return main_parser_fail(parser, "got RAM record flags 0x%" PRIx32
                                ", allowed one of ZERO, MEM_SIZE, PAGE, EOS, "
                                "XBZRLE, COMPRESS_PAGE, MULTIFD_FLUSH",
                                self->flags);
    }
}

/* The first word behind the block list: a number of the last block, or not? */
static bool close_list(MainRam *self, MainParser *parser)
{
    self->extra_open = false;
    if (!add_block(self, parser)) {
        return false;
    }
    self->has_table = true;
    main_parser_emit(parser, MAIN_EVENT_RAMBLOCKS,
                     main_parser_unit_offset(parser));
    main_parser_unget(parser);
    return true;
}

static bool step_word(MainRam *self, MainParser *parser, bool *ret_done)
{
    uint64_t word = bytes_get_be64(parser->unit);
    bool first = self->first_record;

    if (self->extra_open) {
        return (word & FLAGS_MASK) == 0 ? step_extra(self, parser)
                                        : close_list(self, parser);
    }
    self->flags = word & FLAGS_MASK;
    self->addr = word & ~(uint64_t)FLAGS_MASK;
    self->first_record = false;
    if ((self->flags == FLAG_MEM_SIZE) != (self->in_start && first)) {
        return main_parser_fail(parser, "got RAM record flags 0x%" PRIx32
                                ", allowed MEM_SIZE as the first record of "
                                "START and there alone", self->flags);
    }
    if ((self->flags == FLAG_EOS || self->flags == FLAG_MULTIFD_FLUSH) &&
        self->addr != 0) {
        return main_parser_fail(parser, "got RAM record word 0x%" PRIx64
                                ", allowed no address with flags 0x%" PRIx32,
                                word, self->flags);
    }
    return dispatch_record(self, parser, ret_done);
}

bool main_ram_step(MainRam *self, MainParser *parser, bool *ret_done)
{
    *ret_done = false;
    switch (self->state) {
    case MAIN_RAM_WORD:
        return step_word(self, parser, ret_done);
    case MAIN_RAM_LIST_NAME_LENGTH:
        return step_list_name_length(self, parser);
    case MAIN_RAM_LIST_NAME:
        self->name_len = parser->have;
        memcpy(self->name, parser->unit, parser->have);
        expect(self, parser, MAIN_RAM_LIST_USED_LENGTH, 8);
        return true;
    case MAIN_RAM_LIST_USED_LENGTH:
        return step_list_used_length(self, parser);
    case MAIN_RAM_LIST_EXTRA:
        return step_extra(self, parser);
    case MAIN_RAM_PAGE_NAME_LENGTH:
        return step_page_name_length(self, parser);
    case MAIN_RAM_PAGE_NAME:
        return step_page_name(self, parser);
    case MAIN_RAM_PAGE_FILL:
        return step_fill(self, parser);
    case MAIN_RAM_PAGE_XBZRLE:
        return step_xbzrle(self, parser);
    case MAIN_RAM_PAGE_COMPRESSED:
        return step_compressed(self, parser);
    }
    g_assert_not_reached();
}
