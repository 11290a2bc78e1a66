/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest of a few pages is sent round after round through both ends of a link
 * that delivers frames in any order, and the far copy must be the same.
 */
#include <string.h>

#include "wire/crc32c.h"
#include "wire/error.h"
#include "wire/link-pack.h"
#include "wire/page-history.h"

enum {
    PAGE = 1024,
    PAGES = 200,            /* of the guest */
    FRAME_PAGES = 16,       /* at most */
    UNDER_WAY = 12,         /* frames not delivered yet, at most */
};

/* One frame between the two ends. */
typedef struct {
    uint64_t number;
    unsigned n;
    unsigned pages[FRAME_PAGES];
    size_t len;
    uint8_t data[1 + FRAME_PAGES * (LINK_PACK_REF_SIZE + PAGE)];
    uint8_t expected[FRAME_PAGES][PAGE];
} Frame;

typedef struct {
    GRand *rand;
    RamblockTable *blocks;
    PageHistory *history;
    PageSlots *slots;
    LinkPacker *packer;
    LinkUnpacker *unpacker;
    GPtrArray *under_way;       /* of Frame */
    GHashTable *delivered;      /* numbers from acked on */
    uint64_t next, acked;
    uint8_t guest[PAGES][PAGE];
} Link;

static RamblockTable *make_blocks(void)
{
    RamblockTable *blocks = ramblock_table_new();

    g_assert_true(ramblock_table_add(blocks, (const uint8_t *)"rom", 3, PAGE, 0,
                                     NULL, NULL));
    g_assert_true(ramblock_table_add(blocks, (const uint8_t *)"ram", 3,
                                     PAGES * PAGE, 0, NULL, NULL));
    return blocks;
}

static void begin(Link *self, uint32_t n_slots, uint32_t seed)
{
    memset(self, 0, sizeof(*self));
    self->rand = g_rand_new_with_seed(seed);
    self->blocks = make_blocks();
    self->history = page_history_new(n_slots, PAGE, self->blocks);
    self->slots = page_slots_new(n_slots, PAGE);
    self->packer = link_packer_new();
    self->unpacker = link_unpacker_new();
    self->under_way = g_ptr_array_new_with_free_func(g_free);
    self->delivered = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                            NULL);
}

static void end(Link *self)
{
    g_rand_free(self->rand);
    page_history_free(self->history);
    page_slots_free(self->slots);
    ramblock_table_free(self->blocks);
    link_packer_free(self->packer);
    link_unpacker_free(self->unpacker);
    g_ptr_array_unref(self->under_way);
    g_hash_table_unref(self->delivered);
}

static void write_some(Link *self, unsigned page)
{
    unsigned writes = g_rand_int_range(self->rand, 0, 4) > 0 ? 8 : 4 * PAGE;

    for (unsigned i = 0; i < writes; i++) {
        self->guest[page][g_rand_int_range(self->rand, 0, PAGE)] =
            g_rand_int(self->rand);
    }
}

/* The guest writes a few bytes here and there, or all of a page, or copies one. */
static void dirty(Link *self, unsigned page)
{
    if (g_rand_int_range(self->rand, 0, 5) == 0) {
        memmove(self->guest[page],
                self->guest[g_rand_int_range(self->rand, 0, PAGES)], PAGE);
        return;
    }
    write_some(self, page);
}

static void send_frame(Link *self, unsigned n)
{
    Frame *frame = g_new0(Frame, 1);
    uint64_t offsets[FRAME_PAGES];
    uint32_t refs[FRAME_PAGES], sums[FRAME_PAGES];
    uint8_t raw[FRAME_PAGES * PAGE];

    frame->number = self->next++;
    frame->n = n;
    for (unsigned i = 0; i < n; i++) {
        unsigned page = g_rand_int_range(self->rand, 0, PAGES);

        dirty(self, page);
        frame->pages[i] = page;
        offsets[i] = (uint64_t)page * PAGE;
        memcpy(raw + i * PAGE, self->guest[page], PAGE);
        memcpy(frame->expected[i], self->guest[page], PAGE);
    }
    crc32c_each_page(raw, PAGE, n, sums);
    page_history_plan(self->history, 1, offsets, sums, n, frame->number,
                      self->acked, refs);
    page_history_apply(self->history, refs, n, raw,
                       link_packer_get_pages(self->packer, n, PAGE));
    frame->len = link_packer_pack(self->packer, refs, n, PAGE,
                                  g_rand_int_range(self->rand, -1, 3),
                                  frame->data);
    g_assert_cmpuint(frame->len, <=, link_pack_bound(n, PAGE));
    g_ptr_array_add(self->under_way, frame);
}

static void acknowledge(Link *self)
{
    while (g_hash_table_remove(self->delivered, &self->acked)) {
        self->acked++;
    }
}

/* Any of those under way. */
static void deliver(Link *self)
{
    guint index = g_rand_int_range(self->rand, 0, self->under_way->len);
    g_autofree Frame *frame = g_ptr_array_steal_index(self->under_way, index);
    g_autoptr(GError) error = NULL;
    uint32_t refs[FRAME_PAGES];
    uint8_t pages[FRAME_PAGES * PAGE];

    g_assert_true(link_unpacker_unpack(self->unpacker, frame->data, frame->len,
                                       frame->n, PAGE, refs, pages, &error));
    g_assert_true(page_slots_check(self->slots, refs, frame->n, &error));
    page_slots_xor(self->slots, refs, frame->n, pages);
    g_assert_cmpmem(pages, frame->n * PAGE, frame->expected, frame->n * PAGE);
    page_slots_store(self->slots, refs, frame->n, pages);
    g_hash_table_add(self->delivered, g_memdup2(&frame->number, 8));
    /* Not at once: the news takes its time. */
    if (g_rand_boolean(self->rand)) {
        acknowledge(self);
    }
}

static void run(uint32_t n_slots, uint32_t seed, PageHistoryCounts *ret)
{
    Link self;

    begin(&self, n_slots, seed);
    for (unsigned step = 0; step < 3000; step++) {
        if (self.under_way->len < UNDER_WAY && g_rand_boolean(self.rand)) {
            send_frame(&self, g_rand_int_range(self.rand, 1, FRAME_PAGES + 1));
        } else if (self.under_way->len > 0) {
            deliver(&self);
        }
    }
    while (self.under_way->len > 0) {
        deliver(&self);
    }
    page_history_get_counts(self.history, ret);
    end(&self);
}

static void test_any_order_and_any_size(void)
{
    static const uint32_t sizes[] = { 1, 2, 17, 100, PAGES, 4 * PAGES };
    PageHistoryCounts counts;

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        for (uint32_t seed = 1; seed <= 5; seed++) {
            run(sizes[i], seed, &counts);
            g_assert_cmpuint(counts.used, <=, sizes[i]);
            if (sizes[i] < 20) {
                g_assert_cmpuint(counts.missed, >, 0);
            } else {
                g_assert_cmpuint(counts.known, >, 0);
                g_assert_cmpuint(counts.same, >, 0);
                g_assert_cmpuint(counts.busy, >, 0);
            }
        }
    }
}

/* ---- which page has a slot -------------------------------------------------------- */

/* One page, that is like no other, in a frame of its own. */
static uint32_t plan(PageHistory *history, unsigned page, uint32_t sum,
                     uint64_t frame, uint64_t acked)
{
    uint64_t offset = (uint64_t)page * PAGE;
    uint32_t ref;

    page_history_plan(history, 1, &offset, &sum, 1, frame, acked, &ref);
    return ref;
}

/* So many pages, each changed; returns how many of them had a slot. */
static unsigned plan_round(PageHistory *history, unsigned n, uint64_t *frame)
{
    unsigned known = 0;

    for (unsigned page = 0; page < n; page++) {
        ++*frame;
        known += plan(history, page, *frame, *frame, *frame) >> 31;
    }
    return known;
}

/* A page of a frame under way is not named again: the order is not known. */
static void test_waits_for_the_acknowledgement(void)
{
    g_autoptr(RamblockTable) blocks = make_blocks();
    g_autoptr(PageHistory) history = page_history_new(8, PAGE, blocks);

    g_assert_cmpuint(plan(history, 3, 10, 0, 0), ==, PAGE_REF_STORE);
    g_assert_cmpuint(plan(history, 3, 11, 1, 0), ==, 0);
    g_assert_cmpuint(plan(history, 3, 12, 2, 1), ==,
                     PAGE_REF_STORE | PAGE_REF_DELTA);
    g_assert_cmpuint(plan(history, 3, 13, 3, 2), ==, 0);
}

/* Nothing goes into a slot while a frame is under way that needs what is in it. */
static void test_keeps_what_a_frame_under_way_needs(void)
{
    g_autoptr(RamblockTable) blocks = make_blocks();
    g_autoptr(PageHistory) history = page_history_new(1, PAGE, blocks);

    g_assert_cmpuint(plan(history, 3, 10, 0, 0), ==, PAGE_REF_STORE);
    /* The same page, or another like it: not before it is known to be there. */
    g_assert_cmpuint(plan(history, 3, 10, 1, 0), ==, 0);
    g_assert_cmpuint(plan(history, 3, 10, 2, 1), ==, PAGE_REF_DELTA);
    g_assert_cmpuint(plan(history, 3, 10, 3, 1), ==, PAGE_REF_DELTA);
    g_assert_cmpuint(plan(history, 3, 11, 4, 2), ==, 0);
    g_assert_cmpuint(plan(history, 3, 12, 5, 3), ==, 0);
    g_assert_cmpuint(plan(history, 3, 13, 6, 4), ==,
                     PAGE_REF_STORE | PAGE_REF_DELTA);
    /* What was there once is not any more. */
    g_assert_cmpuint(plan(history, 7, 10, 7, 7), ==, 0);
    g_assert_cmpuint(plan(history, 7, 13, 8, 8), ==, PAGE_REF_DELTA);
}

/* However fast it comes again, the first one is used as soon as it is there. */
static void test_same_page_often(void)
{
    g_autoptr(RamblockTable) blocks = make_blocks();
    g_autoptr(PageHistory) history = page_history_new(8, PAGE, blocks);
    PageHistoryCounts counts;

    g_assert_cmpuint(plan(history, 0, 10, 0, 0), ==, PAGE_REF_STORE);
    for (uint64_t frame = 1; frame < 5; frame++) {
        g_assert_cmpuint(plan(history, frame, 10, frame, 0), ==, 0);
    }
    for (uint64_t frame = 5; frame < 30; frame++) {
        g_assert_cmpuint(plan(history, frame, 10, frame, frame - 4), ==,
                         PAGE_REF_DELTA);
    }
    page_history_get_counts(history, &counts);
    g_assert_cmpuint(counts.used, ==, 1);
    g_assert_cmpuint(counts.same, ==, 25);
}

/* A copy that is written to is what changed since it was one, for a while. */
static void test_copy_that_changes(void)
{
    g_autoptr(RamblockTable) blocks = make_blocks();
    g_autoptr(PageHistory) history = page_history_new(8, PAGE, blocks);
    uint64_t frame = 3;

    g_assert_cmpuint(plan(history, 0, 10, 0, 0), ==, PAGE_REF_STORE);
    g_assert_cmpuint(plan(history, 5, 10, 1, 1), ==, PAGE_REF_DELTA);
    for (; frame < 11; frame++) {
        g_assert_cmpuint(plan(history, 5, 100 + frame, frame, frame), ==,
                         PAGE_REF_DELTA);
    }
    /* Then it is a page of its own. */
    g_assert_cmpuint(plan(history, 5, 112, 12, 12), ==, PAGE_REF_STORE | 1);
    g_assert_cmpuint(plan(history, 5, 113, 13, 13), ==,
                     PAGE_REF_DELTA | PAGE_REF_STORE | 1);
    /* That the first of them changes takes nothing from the others. */
    g_assert_cmpuint(plan(history, 6, 10, 14, 14), ==, PAGE_REF_DELTA);
    g_assert_cmpuint(plan(history, 0, 11, 15, 15), ==, PAGE_REF_DELTA);
    g_assert_cmpuint(plan(history, 6, 116, 16, 16), ==, PAGE_REF_DELTA);
    g_assert_cmpuint(plan(history, 7, 10, 17, 17), ==, PAGE_REF_DELTA);
}

/* What it was a copy of is gone. */
static void test_copy_of_what_is_gone(void)
{
    g_autoptr(RamblockTable) blocks = make_blocks();
    g_autoptr(PageHistory) history = page_history_new(1, PAGE, blocks);
    uint64_t frame = 2;

    g_assert_cmpuint(plan(history, 0, 10, 0, 0), ==, PAGE_REF_STORE);
    g_assert_cmpuint(plan(history, 5, 10, 1, 1), ==, PAGE_REF_DELTA);
    for (; frame < 60; frame++) {
        g_assert_cmpuint(plan(history, frame + 10, 100 + frame, frame, frame), ==,
                         0);
    }
    g_assert_cmpuint(plan(history, 69, 200, 60, 60), ==, PAGE_REF_STORE);
    g_assert_cmpuint(plan(history, 5, 11, 61, 61), ==, 0);
}

/* What is sent once only does not push out what is sent again and again. */
static void test_keeps_what_is_hot(void)
{
    g_autoptr(RamblockTable) blocks = make_blocks();
    g_autoptr(PageHistory) history = page_history_new(4, PAGE, blocks);
    uint64_t frame = 0;

    for (unsigned round = 0; round < 3; round++) {
        plan_round(history, 4, &frame);
    }
    for (unsigned page = 4; page < PAGES; page++, frame++) {
        g_assert_cmpuint(plan(history, page, frame, frame, frame), ==, 0);
    }
    g_assert_cmpuint(plan_round(history, 4, &frame), ==, 4);
}

/* Four times the slots, round after round: a quarter has one, not none at all. */
static void test_does_not_take_turns(void)
{
    g_autoptr(RamblockTable) blocks = make_blocks();
    g_autoptr(PageHistory) history = page_history_new(PAGES / 4, PAGE, blocks);
    uint64_t frame = 0;

    for (unsigned round = 0; round < 8; round++) {
        g_assert_cmpuint(plan_round(history, PAGES, &frame), ==,
                         round > 0 ? PAGES / 4 : 0);
    }
}

/* The first pages of a guest are not the ones that it writes. */
static void test_learns_what_is_hot(void)
{
    g_autoptr(RamblockTable) blocks = make_blocks();
    g_autoptr(PageHistory) history = page_history_new(40, PAGE, blocks);
    uint64_t frame = 1;
    unsigned known = 0;

    plan_round(history, PAGES, &frame);
    for (unsigned round = 0; round < 4; round++) {
        known = 0;
        for (unsigned page = 160; page < 190; page++, frame++) {
            known += plan(history, page, frame, frame, frame) >> 31;
        }
    }
    g_assert_cmpuint(known, ==, 30);
}

/* As a source may claim: memory does not grow with what it says. */
static void test_block_of_any_size(void)
{
    g_autoptr(RamblockTable) blocks = ramblock_table_new();
    g_autoptr(PageHistory) history = NULL;
    uint64_t offset = UINT64_MAX / 2 / PAGE * PAGE;
    uint32_t ref, sum = 1;

    g_assert_true(ramblock_table_add(blocks, (const uint8_t *)"a", 1, UINT64_MAX,
                                     0, NULL, NULL));
    g_assert_true(ramblock_table_add(blocks, (const uint8_t *)"b", 1, UINT64_MAX,
                                     0, NULL, NULL));
    history = page_history_new(2, PAGE, blocks);
    page_history_plan(history, 1, &offset, &sum, 1, 0, 0, &ref);
    g_assert_cmpuint(ref, ==, PAGE_REF_STORE);
}

/* ---- what is made of it ------------------------------------------------------------- */

/* A sum finds it; the bytes decide. */
static void test_no_trust_in_a_sum(void)
{
    g_autoptr(RamblockTable) blocks = make_blocks();
    g_autoptr(PageHistory) history = page_history_new(2, PAGE, blocks);
    uint8_t pages[2 * PAGE] = { 0 }, out[2 * PAGE];
    uint64_t offsets[] = { 0, PAGE };
    uint32_t refs[2], sums[2] = { 5, 6 };

    memset(pages, 1, PAGE);
    page_history_plan(history, 1, offsets, sums, 2, 0, 0, refs);
    page_history_apply(history, refs, 2, pages, out);
    memset(pages + PAGE, 2, PAGE);
    sums[1] = 5;
    page_history_plan(history, 1, offsets, sums, 2, 1, 1, refs);
    g_assert_cmpuint(refs[0], ==, PAGE_REF_DELTA);
    g_assert_cmpuint(refs[1], ==, PAGE_REF_DELTA);
    page_history_apply(history, refs, 2, pages, out);
    g_assert_cmpuint(refs[0], ==, PAGE_REF_DELTA);
    g_assert_cmpuint(refs[1], ==, 0);
    g_assert_cmpmem(out + PAGE, PAGE, pages + PAGE, PAGE);
    for (unsigned i = 0; i < PAGE; i++) {
        g_assert_cmpuint(out[i], ==, 0);
    }
}

/* A page that became another one packs better as it is. */
static void test_no_delta_of_a_new_page(void)
{
    g_autoptr(RamblockTable) blocks = make_blocks();
    g_autoptr(PageHistory) history = page_history_new(2, PAGE, blocks);
    uint8_t pages[2 * PAGE] = { 0 }, out[2 * PAGE];
    uint64_t offsets[] = { 0, PAGE };
    uint32_t refs[2], sums[2] = { 1, 2 };

    page_history_plan(history, 1, offsets, sums, 2, 0, 0, refs);
    page_history_apply(history, refs, 2, pages, out);
    memset(pages, 1, 200);              /* a fifth of the first, all of the other */
    memset(pages + PAGE, 2, PAGE);
    sums[0] = 3;
    sums[1] = 4;
    page_history_plan(history, 1, offsets, sums, 2, 1, 1, refs);
    page_history_apply(history, refs, 2, pages, out);
    g_assert_cmpuint(refs[0], ==, PAGE_REF_DELTA | PAGE_REF_STORE | 0);
    g_assert_cmpuint(refs[1], ==, PAGE_REF_STORE | 1);
    g_assert_cmpmem(out + PAGE, PAGE, pages + PAGE, PAGE);
}

/* ---- what a peer may not say -------------------------------------------------- */

static void assert_refused(const PageSlots *slots, const uint32_t *refs,
                           unsigned n, const char *text)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(page_slots_check(slots, refs, n, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, text));
}

static void test_refuses_refs(void)
{
    g_autoptr(PageSlots) slots = page_slots_new(8, PAGE);
    uint32_t store = PAGE_REF_STORE | 7, none = 0;
    uint8_t page[PAGE] = { 1 };

    g_assert_true(page_slots_check(slots, &none, 1, NULL));
    g_assert_true(page_slots_check(slots, &store, 1, NULL));
    assert_refused(slots, (uint32_t[]){ 0, 5 }, 2, "page 1: got history ref "
                   "0x00000005, which neither stores");
    assert_refused(slots, (uint32_t[]){ PAGE_REF_STORE | 8 }, 1, "allowed are "
                   "the slots");
    assert_refused(slots, (uint32_t[]){ UINT32_MAX }, 1, "allowed are the slots");
    assert_refused(slots, (uint32_t[]){ PAGE_REF_DELTA | 7 }, 1, "a slot that "
                   "holds nothing");
    page_slots_store(slots, &store, 1, page);
    g_assert_true(page_slots_check(slots, (uint32_t[]){ PAGE_REF_DELTA | 7 }, 1,
                                   NULL));
    g_assert_true(page_slots_check(slots, (uint32_t[]){ PAGE_REF_DELTA | 7,
                                   PAGE_REF_DELTA | 7 }, 2, NULL));
    assert_refused(slots, (uint32_t[]){ PAGE_REF_DELTA | 7, 0, store }, 3,
                   "slot 7 twice in a frame that stores into it");
    assert_refused(slots, (uint32_t[]){ store, PAGE_REF_DELTA | 7,
                   PAGE_REF_DELTA | 7 }, 3, "slot 7 twice");
    assert_refused(slots, (uint32_t[]){ store, store }, 2, "slot 7 twice");
}

static size_t pack(uint8_t *out, unsigned n, int level)
{
    g_autoptr(LinkPacker) packer = link_packer_new();

    memset(link_packer_get_pages(packer, n, PAGE), 'a', n * PAGE);
    return link_packer_pack(packer, NULL, n, PAGE, level, out);
}

static void assert_broken(const uint8_t *data, size_t len, unsigned n,
                          const char *text)
{
    g_autoptr(LinkUnpacker) unpacker = link_unpacker_new();
    g_autoptr(GError) error = NULL;
    uint32_t refs[FRAME_PAGES];
    uint8_t pages[FRAME_PAGES * PAGE];

    g_assert_false(link_unpacker_unpack(unpacker, data, len, n, PAGE, refs,
                                        pages, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, text));
}

static void test_refuses_packed_lies(void)
{
    uint8_t data[1 + FRAME_PAGES * (LINK_PACK_REF_SIZE + PAGE)];
    size_t len = pack(data, 4, 1);

    g_assert_cmpuint(len, <, PAGE);
    g_assert_cmpuint(data[0], ==, LINK_PACK_ZSTD);
    /* A bomb: more than the pages that the frame names. */
    assert_broken(data, len, 3, "no zstd frame of");
    assert_broken(data, len, 5, "after unpacking");
    for (size_t cut = 0; cut < len; cut++) {
        assert_broken(data, cut, 4, "packed pages");
    }
    data[0] = 2;
    assert_broken(data, len, 4, "got method 2, allowed 0 (stored) and 1 (zstd)");
    len = pack(data, 2, 0);
    g_assert_cmpuint(data[0], ==, LINK_PACK_STORED);
    g_assert_cmpuint(len, ==, 1 + link_pack_raw_size(2, PAGE));
    assert_broken(data, len - 1, 2, "stored, expected");
    assert_broken(data, len, 1, "stored, expected");
}

static void test_stores_what_does_not_shrink(void)
{
    g_autoptr(LinkPacker) packer = link_packer_new();
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    uint8_t out[1 + FRAME_PAGES * (LINK_PACK_REF_SIZE + PAGE)];
    uint8_t *pages = link_packer_get_pages(packer, 2, PAGE);

    for (unsigned i = 0; i < 2 * PAGE; i++) {
        pages[i] = g_rand_int(rand);
    }
    g_assert_cmpuint(link_packer_pack(packer, NULL, 2, PAGE, 3, out), ==,
                     link_pack_bound(2, PAGE));
    g_assert_cmpuint(out[0], ==, LINK_PACK_STORED);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/wire/page-history/" name, function)
    ADD("any-order-and-any-size", test_any_order_and_any_size);
    ADD("waits-for-the-acknowledgement", test_waits_for_the_acknowledgement);
    ADD("keeps-what-a-frame-under-way-needs",
        test_keeps_what_a_frame_under_way_needs);
    ADD("same-page-often", test_same_page_often);
    ADD("copy-that-changes", test_copy_that_changes);
    ADD("copy-of-what-is-gone", test_copy_of_what_is_gone);
    ADD("keeps-what-is-hot", test_keeps_what_is_hot);
    ADD("does-not-take-turns", test_does_not_take_turns);
    ADD("learns-what-is-hot", test_learns_what_is_hot);
    ADD("block-of-any-size", test_block_of_any_size);
    ADD("no-trust-in-a-sum", test_no_trust_in_a_sum);
    ADD("no-delta-of-a-new-page", test_no_delta_of_a_new_page);
    ADD("refuses-refs", test_refuses_refs);
    ADD("refuses-packed-lies", test_refuses_packed_lies);
    ADD("stores-what-does-not-shrink", test_stores_what_does_not_shrink);
    return g_test_run();
}
