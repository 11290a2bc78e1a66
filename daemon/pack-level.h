/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/pack-level.h - how hard a lane packs, by where its time goes
 *
 * Stronger while the lane mostly waits for the wire.  Weaker, down to not at all, where
 * packing takes longer than it would take to write what it saves; and where others lack
 * the processors while nobody waits for the wire.  Pure: times are given.
 */
#ifndef DAEMON_PACK_LEVEL_H
#define DAEMON_PACK_LEVEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a lane's time went. */
typedef struct {
    int64_t pack_us, write_us, idle_us;
    int64_t cpu_us;         /* of pack_us */
    uint64_t raw, packed;   /* bytes that were packed, before and after */
} PackTimes;

typedef struct {
    /* all private */
    bool fixed;
    int rung, top;          /* of the ladder */
    int ceiling;            /* a rung that was too high lately: not again now */
    int64_t hold_us;        /* for so long; not above 0: there is none */
    PackTimes times;        /* since it was judged last */
} PackLevel;

/* @highest: of zstd.  @fixed: always that one. */
void pack_level_init(PackLevel *self, int highest, bool fixed);

/* Of zstd; 0: the pages as they are, if pack_level_is_off() is not so, with refs. */
int pack_level_get(const PackLevel *self);
bool pack_level_is_off(const PackLevel *self);

/* Packing @raw bytes to @packed took so long, of which the thread had a processor for
 * @cpu_us. */
void pack_level_note_pack(PackLevel *self, size_t raw, size_t packed,
                          int64_t pack_us, int64_t cpu_us);
/* The lane waited for a frame. */
void pack_level_note_idle(PackLevel *self, int64_t idle_us);
/* It wrote one; the level may change now. */
void pack_level_note_write(PackLevel *self, int64_t write_us);

#endif
