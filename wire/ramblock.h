/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/ramblock.h - the RAM blocks of a guest, as the source announced them
 *
 * The table is filled from the MEM_SIZE record of the main channel's RAM START
 * section (QEMU migration/ram.c, ram_save_setup) and is what page offsets in
 * multifd packets are checked against.  Not thread-safe while it is filled;
 * constant and shareable once it is complete.
 */
#ifndef WIRE_RAMBLOCK_H
#define WIRE_RAMBLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

enum {
    RAMBLOCK_NAME_MAX = 255,    /* QEMU's idstr[256], with its NUL */
    RAMBLOCK_COUNT_MAX = 4096,  /* bounds what a source can make us hold */
};

typedef struct {
    char name[RAMBLOCK_NAME_MAX + 1];
    uint64_t used_length;       /* bytes that the source may send pages of */
    uint64_t page_size;         /* bytes; the block's own (hugetlbfs), or 0 */
} Ramblock;

typedef struct RamblockTable RamblockTable;

RamblockTable *ramblock_table_new(void);
void ramblock_table_free(RamblockTable *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RamblockTable, ramblock_table_free)

/*
 * Add a copy of the block.  Fails with WIRE_ERROR_PROTOCOL on an empty, too
 * long or duplicate name, or one block too many.  @ret_index may be NULL.
 */
bool ramblock_table_add(RamblockTable *self, const uint8_t *name,
                        size_t name_len, uint64_t used_length,
                        uint64_t page_size, unsigned *ret_index,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

unsigned ramblock_table_get_count(const RamblockTable *self);
/* @index must be below the count; the block lives as long as the table. */
const Ramblock *ramblock_table_get(const RamblockTable *self, unsigned index);
/* NULL when there is no such block; @name need not end in a NUL. */
const Ramblock *ramblock_table_find(const RamblockTable *self,
                                    const char *name, size_t name_len);

/* Escape a name or other text from the wire for a message; g_free() it. */
char *ramblock_name_escape(const char *name, size_t name_len);

#endif
