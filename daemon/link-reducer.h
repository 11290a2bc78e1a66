/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-reducer.h - packs what a lane sends, as hard as it pays
 *
 * All lanes of a migration share a history of pages (wire/page-history.h); each
 * lane's thread packs its own frames (wire/link-pack.h) and finds its own level:
 * stronger while it mostly waits for the wire; weaker, down to not at all, where more
 * pages go so (daemon/pack-level.h).
 */
#ifndef DAEMON_LINK_REDUCER_H
#define DAEMON_LINK_REDUCER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "daemon/packet.h"
#include "wire/page-history.h"

/* ---- what the lanes of one migration share ------------------------------------- */

typedef struct LinkReduction LinkReduction;

typedef struct {
    uint32_t page_size;
    const RamblockTable *blocks;    /* complete; lent */
    uint32_t n_slots;               /* what both ends agreed on; 0: no history */
    bool fixed;                     /* always at that level, for measuring */
    int level;                      /* of zstd; if not fixed, the highest */
} LinkReductionSetup;

LinkReduction *link_reduction_new(const LinkReductionSetup *setup);
/* After the lanes' own. */
void link_reduction_free(LinkReduction *self);

typedef struct {
    uint64_t raw, packed;       /* bytes of payload before and after */
    uint64_t cpu_us;            /* of all lanes together */
    PageHistoryCounts history;
} LinkReductionCounts;
/* Any thread. */
void link_reduction_get_counts(LinkReduction *self, LinkReductionCounts *ret);

/* ---- one lane ------------------------------------------------------------------- */

typedef struct LinkReducer LinkReducer;

LinkReducer *link_reducer_new(LinkReduction *shared);
void link_reducer_free(LinkReducer *self);

/*
 * The payload of @packet for frame @number, when frames below @acked are handed on,
 * behind @room bytes that are left free; *ret_len with these; g_free() it.  It must
 * then be sent, for both ends' history follows.  NULL: send it as it is (it is none
 * of raw pages, or packing does not pay now).
 */
uint8_t *link_reducer_pack(LinkReducer *self, const Packet *packet,
                           uint64_t number, uint64_t acked, size_t room,
                           size_t *ret_len);

/* How long the lane waited for a frame, and how long it took to write it. */
void link_reducer_note_idle(LinkReducer *self, int64_t idle_us);
void link_reducer_note_write(LinkReducer *self, int64_t write_us);
/* The level now; 0: not compressed. */
int link_reducer_get_level(const LinkReducer *self);

#endif
