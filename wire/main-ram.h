/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/main-ram.h - the records of a RAM section, for main-stream.c alone
 *
 * The body of START, PART and END of section "ram" (QEMU migration/ram.c): a
 * list of records, each begun by a 64-bit word of address and flags, the last
 * one EOS.
 */
#ifndef WIRE_MAIN_RAM_H
#define WIRE_MAIN_RAM_H

#include "wire/main-parser.h"

typedef enum {
    MAIN_RAM_WORD,
    MAIN_RAM_LIST_NAME_LENGTH,
    MAIN_RAM_LIST_NAME,
    MAIN_RAM_LIST_USED_LENGTH,
    MAIN_RAM_LIST_EXTRA,
    MAIN_RAM_PAGE_NAME_LENGTH,
    MAIN_RAM_PAGE_NAME,
    MAIN_RAM_PAGE_FILL,
    MAIN_RAM_PAGE_XBZRLE,
    MAIN_RAM_PAGE_COMPRESSED,
} MainRamState;

typedef struct {
    /* Set by main-stream.c before the START section. */
    uint64_t page_size;         /* as the stream says; 0: it has not */
    uint64_t page_size_told;    /* by others, for when it does not; 0: by nobody */
    bool postcopy_advised;      /* a block may tell its page size */
    bool ignore_shared;         /* every block tells its guest address */
    bool mapped_ram;
    bool in_postcopy;           /* multifd is silent, nothing syncs */
    MainPageHook page_hook;     /* NULL: nobody wants to know */
    void *page_hook_data;

    MainRamState state;
    MainSyncMode mode;
    bool in_start;              /* the present section is START */
    bool first_record;
    uint64_t markers;
    MainStreamCounts counts;
    bool page_data_told;

    /* the block list */
    RamblockTable *table;
    bool has_table;             /* complete */
    uint64_t bytes_left;        /* of MEM_SIZE's total */
    uint8_t name[RAMBLOCK_NAME_MAX];
    uint8_t name_len;
    uint64_t used_length;
    uint64_t extra[2];          /* page size and guest address, as present */
    unsigned n_extra;
    bool extra_open;            /* one more may follow */

    /* the present page record */
    uint32_t flags;
    uint64_t addr;
    const Ramblock *block;      /* of the last page record, for CONTINUE */
} MainRam;

void main_ram_init(MainRam *self);
void main_ram_clear(MainRam *self);
/* The body of a RAM section begins: name the first unit. */
void main_ram_begin(MainRam *self, MainParser *parser, bool is_start);
/* A unit is there.  *@ret_done: EOS was it. */
bool main_ram_step(MainRam *self, MainParser *parser, bool *ret_done);

#endif
