/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire/preempt-start.h"

#include "wire/bytes.h"

/* QEMU's RAM_SAVE_FLAG_*; see wire/main-ram.c. */
enum {
    FLAG_ZERO  = 0x02,
    FLAG_PAGE  = 0x08,
    FLAG_EOS   = 0x10,
    FLAGS_MASK = 0x3ff,
    WORD_SIZE  = 8,
};

static PreemptStart judge_block(const uint8_t *buf, size_t len, uint64_t addr,
                                const RamblockTable *table)
{
    size_t name_len = len > WORD_SIZE ? buf[WORD_SIZE] : 0;
    const Ramblock *block;

    if (len <= WORD_SIZE) {
        return PREEMPT_START_MORE;
    }
    if (name_len == 0) {
        return PREEMPT_START_NO;
    }
    if (len - WORD_SIZE - 1 < name_len) {
        return PREEMPT_START_MORE;
    }
    if (!table) {
        return PREEMPT_START_YES;
    }
    block = ramblock_table_find(table, (const char *)buf + WORD_SIZE + 1,
                                name_len);
    return block && addr < block->used_length ? PREEMPT_START_YES
                                              : PREEMPT_START_NO;
}

PreemptStart preempt_start_judge(const uint8_t *buf, size_t len,
                                 const RamblockTable *table)
{
    uint64_t word;

    if (len < WORD_SIZE) {
        return PREEMPT_START_MORE;
    }
    word = bytes_get_be64(buf);
    switch (word & FLAGS_MASK) {
    case FLAG_EOS:
        return word == FLAG_EOS ? PREEMPT_START_YES : PREEMPT_START_NO;
    case FLAG_ZERO:
    case FLAG_PAGE:
        return judge_block(buf, len, word & ~(uint64_t)FLAGS_MASK, table);
    default:
        return PREEMPT_START_NO;
    }
}
