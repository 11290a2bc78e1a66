/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/preempt-stream.c - the records of a preempt channel
 *
 * A record is a word of address and flags, the block's name unless it is that of the
 * record before, and a page or, of a zero page, one byte (QEMU migration/ram.c,
 * ram_save_host_page_urgent).  EOS is a word alone.  Neither XBZRLE nor compression
 * goes there.
 */
#include "wire/preempt-stream.h"

#include <string.h>
#include "wire/bytes.h"

/* QEMU's RAM_SAVE_FLAG_*; see wire/main-ram.c. */
enum {
    FLAG_ZERO     = 0x02,
    FLAG_PAGE     = 0x08,
    FLAG_EOS      = 0x10,
    FLAG_CONTINUE = 0x20,
    FLAGS_MASK    = 0x3ff,
    WORD_SIZE     = 8,
};

static unsigned get_wanted(const PreemptStream *self)
{
    return self->state == PREEMPT_STREAM_WORD ? WORD_SIZE
           : self->state == PREEMPT_STREAM_NAME ? self->name_len : 1;
}

/* The record's block is known. */
static void begin_body(PreemptStream *self, uint64_t page_size,
                       MainPageHook hook, void *data)
{
    uint64_t addr = self->word & ~(uint64_t)FLAGS_MASK;
    bool zero = self->word & FLAG_ZERO;

    if (!self->block || addr % page_size != 0 ||
        self->block->used_length < page_size ||
        addr > self->block->used_length - page_size) {
        self->state = PREEMPT_STREAM_LOST;
        return;
    }
    hook(self->block, addr, zero, data);
    self->skip = zero ? 1 : page_size;
    self->state = PREEMPT_STREAM_BODY;
}

static void end_word(PreemptStream *self, uint64_t page_size,
                     MainPageHook hook, void *data)
{
    self->word = bytes_get_be64(self->buf);
    switch (self->word & FLAGS_MASK) {
    case FLAG_EOS:
        return;
    case FLAG_ZERO:
    case FLAG_PAGE:
        self->state = PREEMPT_STREAM_NAME_LENGTH;
        return;
    case FLAG_ZERO | FLAG_CONTINUE:
    case FLAG_PAGE | FLAG_CONTINUE:
        begin_body(self, page_size, hook, data);
        return;
    default:
        self->state = PREEMPT_STREAM_LOST;
        return;
    }
}

/* All that was wanted is in the buffer. */
static void end_part(PreemptStream *self, const RamblockTable *table,
                     uint64_t page_size, MainPageHook hook, void *data)
{
    switch (self->state) {
    case PREEMPT_STREAM_WORD:
        end_word(self, page_size, hook, data);
        break;
    case PREEMPT_STREAM_NAME_LENGTH:
        self->name_len = self->buf[0];
        self->state = self->name_len ? PREEMPT_STREAM_NAME : PREEMPT_STREAM_LOST;
        break;
    case PREEMPT_STREAM_NAME:
        self->block = ramblock_table_find(table, (const char *)self->buf,
                                          self->name_len);
        begin_body(self, page_size, hook, data);
        break;
    case PREEMPT_STREAM_BODY:
    case PREEMPT_STREAM_LOST:
        break;
    }
}

void preempt_stream_feed(PreemptStream *self, const uint8_t *buf, size_t len,
                         const RamblockTable *table, uint64_t page_size,
                         MainPageHook hook, void *data)
{
    while (len > 0 && self->state != PREEMPT_STREAM_LOST) {
        bool body = self->state == PREEMPT_STREAM_BODY;
        size_t n = MIN(len, body ? self->skip
                                 : get_wanted(self) - self->have);

        if (body) {
            self->skip -= n;
            self->state = self->skip ? PREEMPT_STREAM_BODY : PREEMPT_STREAM_WORD;
        } else {
            memcpy(self->buf + self->have, buf, n);
            self->have += n;
            if (self->have == get_wanted(self)) {
                self->have = 0;
                end_part(self, table, page_size, hook, data);
            }
        }
        buf += n;
        len -= n;
    }
}
