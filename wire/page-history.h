/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/page-history.h - pages that both ends of a link have, to send changes only
 *
 * Both ends hold the same number of slots with a page each.  The sender alone
 * decides what is in them and says so page by page, in a ref: "xor this with slot
 * s", "put it into slot s", or both.  Xored is a page with what was sent of it
 * before, or with any slot that holds the same bytes or, when it was sent last,
 * did.  Frames travel
 * on several lanes and arrive in any order, so from the frame that stores into a slot
 * until that frame is acknowledged the slot is left alone, and nothing is stored into
 * it while a frame is under way that is xored with it: so it is certain what the far
 * end's slot holds whenever it is needed.  docs/reduction.md has the numbers.
 *
 * Pure: no clock, no lock.  What may run at the same time is said below.
 */
#ifndef WIRE_PAGE_HISTORY_H
#define WIRE_PAGE_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>
#include "wire/ramblock.h"

enum {
    PAGE_REF_DELTA = 1u << 31,      /* the bytes are xored with the slot's page */
    PAGE_REF_STORE = 1u << 30,      /* the page goes into the slot */
    PAGE_REF_SLOT = PAGE_REF_STORE - 1,
    PAGE_HISTORY_SLOTS_MAX = PAGE_REF_SLOT,
};

/* ---- the slots, the same at both ends -------------------------------------- */

typedef struct PageSlots PageSlots;

/* Memory is taken as slots are filled. */
PageSlots *page_slots_new(uint32_t n_slots, uint32_t page_size);
void page_slots_free(PageSlots *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageSlots, page_slots_free)

/*
 * The receiver's checks: slots that exist, no unknown bits, deltas only against
 * slots that were stored, and a slot that is stored into named once.
 */
bool page_slots_check(const PageSlots *self, const uint32_t *refs, unsigned n,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* @pages: n of them, one behind the other; those with DELTA are xored in place.
 * Frames may do this at the same time, if none stores into a slot of another. */
void page_slots_xor(const PageSlots *self, const uint32_t *refs, unsigned n,
                    uint8_t *pages);
/* Likewise; @pages as they are to be. */
void page_slots_store(PageSlots *self, const uint32_t *refs, unsigned n,
                      const uint8_t *pages);

/* ---- the sender's book ------------------------------------------------------ */

typedef struct PageHistory PageHistory;

/* @blocks: complete; must outlive it. */
PageHistory *page_history_new(uint32_t n_slots, uint32_t page_size,
                              const RamblockTable *blocks);
void page_history_free(PageHistory *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageHistory, page_history_free)

/*
 * Refs for @n pages of @block at @offsets (within it, aligned) that frame number
 * @frame will carry; frames below @acked are known to be handed on.  @sums: of each
 * page a CRC-32C, by which duplicates are looked for.  One caller at a time.  What is
 * planned must be sent.
 */
void page_history_plan(PageHistory *self, unsigned block,
                       const uint64_t *offsets, const uint32_t *sums,
                       unsigned n, uint64_t frame, uint64_t acked,
                       uint32_t *refs);
/*
 * Then, without that lock: @out is @pages, xored where the refs say so, and the
 * slots are updated.  Where so much of a page changed that it packs better as it
 * is, or a duplicate is none after all, DELTA is taken out of its ref.
 */
void page_history_apply(PageHistory *self, uint32_t *refs, unsigned n,
                        const uint8_t *pages, uint8_t *out);

typedef struct {
    uint64_t known;         /* pages that had a slot, and could be a delta */
    uint64_t same;          /* pages that were in a slot already, theirs or not */
    uint64_t stored;        /* pages put into slots, those known included */
    uint64_t missed;        /* sent before, but not in a slot any more */
    uint64_t busy;          /* in a slot that a frame under way names */
    uint32_t used;          /* slots that hold a page */
} PageHistoryCounts;
void page_history_get_counts(const PageHistory *self, PageHistoryCounts *ret);

#endif
