/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/preempt-start.h - is this how a preempt channel of postcopy begins?
 *
 * It carries RAM records and nothing else, no magic, no header (QEMU
 * migration/ram.c, ram_save_host_page_urgent): the first one names its block.  From
 * 7.2 it may also have EOS alone.  Whatever else a connection says is a stranger's.
 *
 * A pure function over bytes.
 */
#ifndef WIRE_PREEMPT_START_H
#define WIRE_PREEMPT_START_H

#include "wire/ramblock.h"

enum { PREEMPT_START_MAX = 8 + 1 + RAMBLOCK_NAME_MAX };

typedef enum {
    PREEMPT_START_MORE,         /* not enough bytes to tell */
    PREEMPT_START_YES,
    PREEMPT_START_NO,
} PreemptStart;

/* @table NULL: the blocks are not known, any name will do. */
PreemptStart preempt_start_judge(const uint8_t *buf, size_t len,
                                 const RamblockTable *table);

#endif
