/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packed frames from a peer that may say anything, one after the other into the
 * same slots.  Invariants: unpacked and taken, or an error set; nothing is written
 * behind the pages; what was unpacked, stored, is what a delta of nothing gives back.
 *
 * The first byte: how many slots there are, less one.  Then frames: the number of pages, the
 * length (two bytes), so many bytes.
 */
#include <string.h>

#include "wire/link-pack.h"
#include "wire/page-history.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    PAGE = 1024,            /* the smallest */
    PAGES_MAX = 8,
};

static bool is_zero(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Every slot that was stored into must now give its page back. */
static void check_stored(const PageSlots *slots, const uint32_t *refs, unsigned n,
                         const uint8_t *pages)
{
    for (unsigned i = 0; i < n; i++) {
        g_autofree uint8_t *page = g_memdup2(pages + i * PAGE, PAGE);
        uint32_t ref = PAGE_REF_DELTA | (refs[i] & PAGE_REF_SLOT);

        if (refs[i] & PAGE_REF_STORE) {
            g_assert_true(page_slots_check(slots, &ref, 1, NULL));
            page_slots_xor(slots, &ref, 1, page);
            g_assert_true(is_zero(page, PAGE));
        }
    }
}

static void take_frame(LinkUnpacker *unpacker, PageSlots *slots, unsigned n,
                       const uint8_t *data, size_t len)
{
    /* Each of its exact size, so that the sanitizers see one byte too many. */
    g_autofree uint8_t *src = g_memdup2(data, len);
    g_autofree uint32_t *refs = g_new0(uint32_t, n);
    g_autofree uint8_t *pages = g_malloc0(n * PAGE);
    g_autoptr(GError) error = NULL;

    if (!link_unpacker_unpack(unpacker, src, len, n, PAGE, refs, pages, &error) ||
        !page_slots_check(slots, refs, n, &error)) {
        g_assert_nonnull(error);
        return;
    }
    g_assert_no_error(error);
    page_slots_xor(slots, refs, n, pages);
    page_slots_store(slots, refs, n, pages);
    check_stored(slots, refs, n, pages);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static LinkUnpacker *unpacker;
    g_autoptr(PageSlots) slots = NULL;
    size_t at = 1;

    if (size == 0) {
        return 0;
    }
    if (!unpacker) {
        unpacker = link_unpacker_new();
    }
    slots = page_slots_new(1 + data[0] % 16, PAGE);
    while (size - at >= 3) {
        unsigned n = 1 + data[at] % PAGES_MAX;
        size_t len = data[at + 1] << 8 | data[at + 2];

        at += 3;
        len = MIN(len, size - at);
        take_frame(unpacker, slots, n, data + at, len);
        at += len;
    }
    return 0;
}
