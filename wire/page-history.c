/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/page-history.c - slots, and which page is worth one
 *
 * What pays is a page that is sent again and again.  While there are free slots
 * every page gets one; then a page that was sent before gets the slot of one that was
 * not wanted for longer than it took this one to come again.  A guest's memory is
 * sent round by round, so where more pages are written again and again than there
 * are slots, those that have one keep it: taking turns, as the least recently used
 * would, each would lose its slot just before it is wanted.
 */
#include "wire/page-history.h"

#include <string.h>

#include "wire/error.h"

enum {
    DELTA_PERCENT = 30,     /* of a page's words may have changed; measured */
    CLOCK_STEPS = 16,       /* looked at for a victim; then do without */
    /* When a page was sent last is kept in a byte: so many steps in a round over all
     * the guest's memory, and so many rounds until it is taken for another. */
    ROUND_TICKS = 64,
    TICKS = 255,
    /* Of these bytes.  In guests of more pages some share theirs, which makes the
     * choice a worse one, and nothing else. */
    STAMPS_MAX = 16 * 1024 * 1024,
    /* A copy of another page is sent as what differs from that so often; then it is
     * another page, and wants a slot of its own. */
    COPY_USES = 8,
    /* With few, pages with like sums push each other out of the table of sums. */
    SUMS_PER_SLOT = 8,
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

/* What is stored into a slot that the frame names twice would depend on their order. */
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
        if (compare_slots(&named[i - 1], &named[i]) == 0 &&
            (named[i - 1] | named[i]) & PAGE_REF_STORE) {
            g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                        "got history slot %u twice in a frame that stores into "
                        "it, allowed once", named[i] & PAGE_REF_SLOT);
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
    bool owned;             /* by that page; else it is in no table of pages */
    uint64_t stored_by;     /* the last frame that stores into it */
    uint64_t read_by;       /* and the last that is xored with it only, plus one */
    uint64_t wanted;        /* when it was named last, in pages */
    uint32_t sum;           /* of the page that is in it, or on its way */
} Slot;

/* A page without a slot that was sent as a copy of what is in one. */
typedef struct {
    uint64_t key;
    uint32_t slot;          /* plus 1; 0: none */
    uint32_t uses;
    uint64_t stored_by;     /* Slot.stored_by: still the same */
} Copy;

struct PageHistory {
    PageSlots *slots;
    Slot *book;
    uint32_t n_used;        /* slots below have been given out */
    uint32_t hand;          /* of the clock */
    GHashTable *by_key;     /* Slot.key -> Slot */
    uint32_t *by_sum;       /* by get_place(): the first slot with it, plus 1 */
    Copy *copies;           /* by the key's hash: the last copy with it */
    uint32_t mask;          /* below a power of two: of copies, as many or more than
                               slots */
    uint64_t now;           /* pages that were planned */
    uint64_t tick_pages;
    uint64_t *first;        /* of each block: its first page, counted through all */
    uint8_t *stamps;        /* by page: the tick in which it was sent; 0: never */
    uint64_t n_stamps;
    PageHistoryCounts counts;
};

/* Of each page of the guest: when it was sent last. */
static void make_stamps(PageHistory *self, const RamblockTable *blocks)
{
    unsigned n_blocks = ramblock_table_get_count(blocks);
    uint64_t pages = 0;

    self->first = g_new0(uint64_t, n_blocks);
    for (unsigned i = 0; i < n_blocks; i++) {
        self->first[i] = pages;
        pages += ramblock_table_get(blocks, i)->used_length /
                 self->slots->page_size;
    }
    self->n_stamps = CLAMP(pages, 1, STAMPS_MAX);
    self->stamps = g_new0(uint8_t, self->n_stamps);
    self->tick_pages = pages / ROUND_TICKS + 1;
}

PageHistory *page_history_new(uint32_t n_slots, uint32_t page_size,
                              const RamblockTable *blocks)
{
    PageHistory *self = g_new0(PageHistory, 1);

    self->slots = page_slots_new(n_slots, page_size);
    self->book = g_new0(Slot, n_slots);
    self->by_key = g_hash_table_new(g_int64_hash, g_int64_equal);
    self->mask = 1;
    while (self->mask < n_slots) {
        self->mask = self->mask << 1 | 1;
    }
    self->by_sum = g_new0(uint32_t, ((gsize)self->mask + 1) * SUMS_PER_SLOT);
    self->copies = g_new0(Copy, (gsize)self->mask + 1);
    make_stamps(self, blocks);
    return self;
}

void page_history_free(PageHistory *self)
{
    if (!self) {
        return;
    }
    g_free(self->first);
    g_free(self->stamps);
    g_hash_table_unref(self->by_key);
    g_free(self->by_sum);
    g_free(self->copies);
    g_free(self->book);
    page_slots_free(self->slots);
    g_free(self);
}

/*
 * How many pages ago it was sent, at most; 0: never.  From now on it was just sent.
 */
static uint64_t renew_stamp(PageHistory *self, unsigned block, uint64_t page)
{
    uint8_t *stamp = &self->stamps[(self->first[block] + page) % self->n_stamps];
    unsigned now = 1 + self->now / self->tick_pages % TICKS;
    unsigned ticks = (now + TICKS - *stamp) % TICKS + 1;
    bool never = *stamp == 0;

    *stamp = now;
    return never ? 0 : ticks * self->tick_pages;
}

/* What is in it is not known to be there, or still needed. */
static bool may_read(const Slot *slot, uint64_t acked)
{
    return slot->stored_by < acked;
}

static bool may_store(const Slot *slot, uint64_t acked)
{
    return may_read(slot, acked) && slot->read_by <= acked;
}

static void disown(PageHistory *self, Slot *slot)
{
    if (slot->owned) {
        g_hash_table_remove(self->by_key, &slot->key);
        slot->owned = false;
    }
}

/* Somebody's slot that can go: one whose page did not come again in @period pages.
 * NULL: there is none near the hand. */
static Slot *find_victim(PageHistory *self, uint64_t period, uint64_t acked)
{
    for (unsigned i = 0; i < CLOCK_STEPS; i++) {
        Slot *slot = &self->book[self->hand];

        self->hand = (self->hand + 1) % self->slots->n_slots;
        if (may_store(slot, acked) && self->now - slot->wanted > period) {
            disown(self, slot);
            return slot;
        }
    }
    return NULL;
}

static Slot *find_room(PageHistory *self, uint64_t period, uint64_t acked)
{
    if (self->n_used < self->slots->n_slots) {
        return &self->book[self->n_used++];
    }
    return period > 0 ? find_victim(self, period, acked) : NULL;
}

static uint32_t *get_place(PageHistory *self, uint32_t sum)
{
    return &self->by_sum[sum % (((uint64_t)self->mask + 1) * SUMS_PER_SLOT)];
}

/* The first that got a page of that sum, if it still holds it. */
static Slot *find_same(PageHistory *self, uint32_t sum)
{
    uint32_t entry = *get_place(self, sum);
    Slot *slot = entry > 0 ? &self->book[entry - 1] : NULL;

    return slot && slot->sum == sum ? slot : NULL;
}

static uint32_t read_slot(PageHistory *self, Slot *slot, uint64_t frame)
{
    slot->read_by = MAX(slot->read_by, frame + 1);
    slot->wanted = self->now;
    return (uint32_t)(slot - self->book) | PAGE_REF_DELTA;
}

static uint32_t store_slot(PageHistory *self, Slot *slot, uint32_t sum,
                           uint64_t frame)
{
    uint32_t number = slot - self->book;

    /* The first one stays: it is known to be there before any other. */
    if (!find_same(self, sum)) {
        *get_place(self, sum) = number + 1;
    }
    slot->stored_by = frame;
    slot->wanted = self->now;
    slot->sum = sum;
    self->counts.stored++;
    return number | PAGE_REF_STORE;
}

static Copy *get_copy(PageHistory *self, uint64_t key)
{
    /* Fibonacci hashing: neighbours are far apart. */
    return &self->copies[key * UINT64_C(0x9e3779b97f4a7c15) >> 32 & self->mask];
}

static void note_copy(PageHistory *self, uint64_t key, const Slot *of)
{
    *get_copy(self, key) = (Copy) {
        .key = key,
        .slot = of - self->book + 1,
        .stored_by = of->stored_by,
    };
}

/* Another page has the same bytes.  They are nobody's then: the one that had them
 * first may change, too, and would take them from all the others. */
static void share(PageHistory *self, uint64_t key, const Slot *own, Slot *same)
{
    if (same->owned) {
        note_copy(self, same->key, same);
        disown(self, same);
    }
    if (!own) {
        note_copy(self, key, same);
    }
}

/* What the page without a slot was a copy of. */
static Slot *find_original(PageHistory *self, uint64_t key, uint64_t acked)
{
    Copy *copy = get_copy(self, key);
    Slot *slot = copy->slot > 0 ? &self->book[copy->slot - 1] : NULL;

    if (!slot || copy->key != key || copy->stored_by != slot->stored_by ||
        !may_read(slot, acked) || copy->uses == COPY_USES) {
        return NULL;
    }
    copy->uses++;
    return slot;
}

/* No slot has its bytes. */
static uint32_t plan_new(PageHistory *self, uint64_t key, uint32_t sum,
                         uint64_t period, uint64_t frame, uint64_t acked)
{
    Slot *slot = find_original(self, key, acked);

    if (slot) {
        self->counts.known++;
        return read_slot(self, slot, frame);
    }
    self->counts.missed += period > 0;
    slot = find_room(self, period, acked);
    if (!slot) {
        return 0;
    }
    slot->key = key;
    slot->owned = true;
    g_hash_table_insert(self->by_key, &slot->key, slot);
    return store_slot(self, slot, sum, frame);
}

static uint32_t plan_page(PageHistory *self, unsigned block, uint64_t page,
                          uint32_t sum, uint64_t frame, uint64_t acked)
{
    uint64_t key = (uint64_t)block << 48 | page;
    Slot *own = g_hash_table_lookup(self->by_key, &key);
    Slot *same = find_same(self, sum);
    uint64_t period = renew_stamp(self, block, page);

    if (own) {
        own->wanted = self->now;
    }
    if (same && same != own) {
        share(self, key, own, same);
    }
    if (same && may_read(same, acked)) {
        self->counts.same++;
        return read_slot(self, same, frame);
    }
    /* It is not known to be there yet, but need not be there twice. */
    if (own ? !may_store(own, acked) : same != NULL) {
        self->counts.busy++;
        return 0;
    }
    if (own) {
        self->counts.known++;
        return store_slot(self, own, sum, frame) | PAGE_REF_DELTA;
    }
    return plan_new(self, key, sum, period, frame, acked);
}

void page_history_plan(PageHistory *self, unsigned block,
                       const uint64_t *offsets, const uint32_t *sums,
                       unsigned n, uint64_t frame, uint64_t acked,
                       uint32_t *refs)
{
    for (unsigned i = 0; i < n; i++) {
        refs[i] = plan_page(self, block, offsets[i] / self->slots->page_size,
                            sums[i], frame, acked);
        self->now++;
    }
}

/* Into @out; false: it is not worth it. */
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
            refs[i] = refs[i] & PAGE_REF_STORE ? refs[i] & ~PAGE_REF_DELTA : 0;
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
