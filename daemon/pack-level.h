/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/pack-level.h - how hard a lane packs, by where its time goes
 *
 * Stronger while the lane mostly waits for the wire.  Weaker, down to not at all, where
 * packing seems to take longer than it would take to write what it saves, and where
 * trying it shows that more pages go in the same time; and where others lack the
 * processors while nobody waits for the wire.  Pure: times are given.
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
    uint64_t carried;       /* of pages, packed or not */
} PackTimes;

typedef struct {
    /* all private */
    bool fixed;
    int rung, top;          /* of the ladder */
    int tried_from;         /* less than that is being tried; 0: nothing is */
    double rate_before;     /* pages then, in bytes per microsecond */
    int floor, ceiling;     /* less than the one and as much as the other was no good */
    int64_t hold_us;        /* lately: for so long yet */
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
/* Pages of so many bytes are to be sent, whether they will be packed or not. */
void pack_level_note_pages(PackLevel *self, size_t bytes);
/* The lane waited for a frame. */
void pack_level_note_idle(PackLevel *self, int64_t idle_us);
/* It wrote one; the level may change now. */
void pack_level_note_write(PackLevel *self, int64_t write_us);

#endif
