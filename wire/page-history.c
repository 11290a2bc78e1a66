/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/page-history.c - slots, and which page is worth one
 *
 * What pays is a page that is sent again and again.  While there are free slots
 * every page gets one; then only those that were sent before, at the expense of
 * one that was not wanted lately (a clock with a small count per slot).
 */
#include "wire/page-history.h"

#include <string.h>

#include "wire/error.h"

enum {
    DELTA_PERCENT = 30,     /* of a page's words may have changed; measured */
    HEAT_MAX = 3,
    CLOCK_STEPS = 16,       /* looked at for a victim; then do without */
};

/* ---- slots ------------------------------------------------------------------- */

struct PageSlots {
    uint32_t n_slots;
    uint32_t page_size;
    uint8_t *pages;
    uint64_t *stored;       /* bit per slot; read and written atomically */
};

PageSlots *page_slots_new(uint32_t n_slots, uint32_t page_size)
{
    PageSlots *self = g_new0(PageSlots, 1);

    g_assert(n_slots > 0 && n_slots <= PAGE_HISTORY_SLOTS_MAX);
    self->n_slots = n_slots;
    self->page_size = page_size;
    self->pages = g_malloc0((gsize)n_slots * page_size);
    self->stored = g_new0(uint64_t, (n_slots + 63) / 64);
    return self;
}

void page_slots_free(PageSlots *self)
{
    if (self) {
        g_free(self->pages);
        g_free(self->stored);
        g_free(self);
    }
}

static uint8_t *get_slot(const PageSlots *self, uint32_t ref)
{
    return self->pages + (size_t)(ref & PAGE_REF_SLOT) * self->page_size;
}

static bool is_stored(const PageSlots *self, uint32_t slot)
{
    uint64_t word = __atomic_load_n(&self->stored[slot / 64], __ATOMIC_ACQUIRE);

    return word >> slot % 64 & 1;
}

static bool refuse(unsigned page, uint32_t ref, const char *why, GError **error)
{
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "page %u: got history ref 0x%08x, %s", page, ref, why);
    return false;
}

static bool check_ref(const PageSlots *self, unsigned page, uint32_t ref,
                      GError **error)
{
    uint32_t slot = ref & PAGE_REF_SLOT;

    if (!(ref & (PAGE_REF_DELTA | PAGE_REF_STORE))) {
        return ref == 0 || refuse(page, ref, "which neither stores nor is a "
                                  "delta, and is not 0", error);
    }
    if (slot >= self->n_slots) {
        return refuse(page, ref, "allowed are the slots of the history that "
                      "was agreed on", error);
    }
    if (ref & PAGE_REF_DELTA && !is_stored(self, slot)) {
        return refuse(page, ref, "a delta against a slot that holds nothing",
                      error);
    }
    return true;
}

static int compare_slots(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a & PAGE_REF_SLOT;
    uint32_t y = *(const uint32_t *)b & PAGE_REF_SLOT;

    return (x > y) - (x < y);
}

/* Two pages of a frame with one slot would depend on their order. */
static bool check_twins(const uint32_t *refs, unsigned n, GError **error)
{
    g_autofree uint32_t *named = g_new(uint32_t, n);
    unsigned n_named = 0;

    for (unsigned i = 0; i < n; i++) {
        if (refs[i] != 0) {
            named[n_named++] = refs[i];
        }
    }
    qsort(named, n_named, sizeof(*named), compare_slots);
    for (unsigned i = 1; i < n_named; i++) {
        if (compare_slots(&named[i - 1], &named[i]) == 0) {
            g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                        "got history slot %u twice in one frame",
                        named[i] & PAGE_REF_SLOT);
            return false;
        }
    }
    return true;
}

bool page_slots_check(const PageSlots *self, const uint32_t *refs, unsigned n,
                      GError **error)
{
    for (unsigned i = 0; i < n; i++) {
        if (!check_ref(self, i, refs[i], error)) {
            return false;
        }
    }
    return check_twins(refs, n, error);
}

/* Returns how many words differ.  Compilers make vector code of it. */
static size_t xor_page(uint8_t *dst, const uint8_t *a, const uint8_t *b,
                       size_t len)
{
    size_t changed = 0;

    for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
        uint64_t x, y;

        memcpy(&x, a + i, sizeof(x));
        memcpy(&y, b + i, sizeof(y));
        x ^= y;
        memcpy(dst + i, &x, sizeof(x));
        changed += x != 0;
    }
    return changed;
}

void page_slots_xor(const PageSlots *self, const uint32_t *refs, unsigned n,
                    uint8_t *pages)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t *page = pages + (size_t)i * self->page_size;

        if (refs[i] & PAGE_REF_DELTA) {
            xor_page(page, page, get_slot(self, refs[i]), self->page_size);
        }
    }
}

void page_slots_store(PageSlots *self, const uint32_t *refs, unsigned n,
                      const uint8_t *pages)
{
    for (unsigned i = 0; i < n; i++) {
        uint32_t slot = refs[i] & PAGE_REF_SLOT;

        if (refs[i] & PAGE_REF_STORE) {
            memcpy(get_slot(self, refs[i]), pages + (size_t)i * self->page_size,
                   self->page_size);
            __atomic_or_fetch(&self->stored[slot / 64],
                              UINT64_C(1) << slot % 64, __ATOMIC_RELEASE);
        }
    }
}

/* ---- the sender's book ---------------------------------------------------------- */

typedef struct {
    uint64_t key;           /* the hash table's; which page */
    uint64_t frame;         /* the last one that named it */
    uint8_t heat;
} Slot;

struct PageHistory {
    PageSlots *slots;
    Slot *book;
    uint32_t n_used;        /* slots below have been given out */
    uint32_t hand;          /* of the clock */
    GHashTable *by_key;     /* Slot.key -> Slot */
    uint64_t **seen;        /* per block: bit per page, sent before */
    unsigned n_blocks;
    PageHistoryCounts counts;
};

PageHistory *page_history_new(uint32_t n_slots, uint32_t page_size,
                              const RamblockTable *blocks)
{
    PageHistory *self = g_new0(PageHistory, 1);

    self->slots = page_slots_new(n_slots, page_size);
    self->book = g_new0(Slot, n_slots);
    self->by_key = g_hash_table_new(g_int64_hash, g_int64_equal);
    self->n_blocks = ramblock_table_get_count(blocks);
    self->seen = g_new0(uint64_t *, self->n_blocks);
    for (unsigned i = 0; i < self->n_blocks; i++) {
        uint64_t pages = ramblock_table_get(blocks, i)->used_length / page_size;

        self->seen[i] = g_new0(uint64_t, pages / 64 + 1);
    }
    return self;
}

void page_history_free(PageHistory *self)
{
    if (!self) {
        return;
    }
    for (unsigned i = 0; i < self->n_blocks; i++) {
        g_free(self->seen[i]);
    }
    g_free(self->seen);
    g_hash_table_unref(self->by_key);
    g_free(self->book);
    page_slots_free(self->slots);
    g_free(self);
}

/* Was it sent before?  It is now. */
static bool test_and_set_seen(PageHistory *self, unsigned block, uint64_t page)
{
    uint64_t *word = &self->seen[block][page / 64];
    uint64_t bit = UINT64_C(1) << page % 64;
    bool was = *word & bit;

    *word |= bit;
    return was;
}

static bool is_busy(const Slot *slot, uint64_t acked)
{
    return slot->frame >= acked;
}

/* Somebody's slot that can go; NULL: none is cold enough near the hand. */
static Slot *find_victim(PageHistory *self, uint64_t acked)
{
    for (unsigned i = 0; i < CLOCK_STEPS; i++) {
        Slot *slot = &self->book[self->hand];

        self->hand = (self->hand + 1) % self->slots->n_slots;
        if (is_busy(slot, acked)) {
            continue;
        }
        if (slot->heat == 0) {
            g_hash_table_remove(self->by_key, &slot->key);
            return slot;
        }
        slot->heat--;
    }
    return NULL;
}

static Slot *find_room(PageHistory *self, bool sent_before, uint64_t acked)
{
    if (self->n_used < self->slots->n_slots) {
        return &self->book[self->n_used++];
    }
    return sent_before ? find_victim(self, acked) : NULL;
}

static uint32_t name_slot(PageHistory *self, Slot *slot, uint32_t flags,
                          uint64_t frame)
{
    slot->frame = frame;
    self->counts.stored++;
    return (uint32_t)(slot - self->book) | flags;
}

static uint32_t plan_page(PageHistory *self, unsigned block, uint64_t page,
                          uint64_t frame, uint64_t acked)
{
    uint64_t key = (uint64_t)block << 48 | page;
    Slot *slot = g_hash_table_lookup(self->by_key, &key);
    bool sent_before = test_and_set_seen(self, block, page);

    if (slot && is_busy(slot, acked)) {
        self->counts.busy++;
        return 0;
    }
    if (slot) {
        slot->heat = MIN(slot->heat + 1, HEAT_MAX);
        self->counts.known++;
        return name_slot(self, slot, PAGE_REF_DELTA | PAGE_REF_STORE, frame);
    }
    self->counts.missed += sent_before;
    slot = find_room(self, sent_before, acked);
    if (!slot) {
        return 0;
    }
    slot->key = key;
    slot->heat = sent_before;
    g_hash_table_insert(self->by_key, &slot->key, slot);
    return name_slot(self, slot, PAGE_REF_STORE, frame);
}

void page_history_plan(PageHistory *self, unsigned block,
                       const uint64_t *offsets, unsigned n, uint64_t frame,
                       uint64_t acked, uint32_t *refs)
{
    for (unsigned i = 0; i < n; i++) {
        refs[i] = plan_page(self, block, offsets[i] / self->slots->page_size,
                            frame, acked);
    }
}

static bool make_delta(const PageSlots *slots, uint32_t ref,
                       const uint8_t *page, uint8_t *out)
{
    size_t words = slots->page_size / sizeof(uint64_t);

    return xor_page(out, page, get_slot(slots, ref), slots->page_size) * 100 <=
           words * DELTA_PERCENT;
}

void page_history_apply(PageHistory *self, uint32_t *refs, unsigned n,
                        const uint8_t *pages, uint8_t *out)
{
    size_t page_size = self->slots->page_size;

    for (unsigned i = 0; i < n; i++) {
        const uint8_t *page = pages + i * page_size;

        if (!(refs[i] & PAGE_REF_DELTA) ||
            !make_delta(self->slots, refs[i], page, out + i * page_size)) {
            refs[i] &= ~(uint32_t)PAGE_REF_DELTA;
            memcpy(out + i * page_size, page, page_size);
        }
    }
    page_slots_store(self->slots, refs, n, pages);
}

void page_history_get_counts(const PageHistory *self, PageHistoryCounts *ret)
{
    *ret = self->counts;
    ret->used = self->n_used;
}
