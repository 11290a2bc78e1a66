/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tests/bench/reduce.c - what there is to be saved in a guest's memory
 *
 * reduce FIRST SECOND: two dumps of one guest's RAM, some seconds apart (QMP
 * pmemsave; tests/bench/ideal makes them).  The first is what goes in the first pass;
 * the pages that differ between the two are what goes in a later one.  Prints what is
 * left of each by several methods, and how fast; then what is left of it by our own
 * modules, with histories of several sizes, beside the best of the others.
 * docs/reduction.md says what was chosen, and why.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>
#include "wire/crc32c.h"
#include "wire/link-pack.h"
#include "wire/page-history.h"

enum {
    PAGE = 4096,
    PACKET = 128,               /* pages, as QEMU's */
    UNDER_WAY = 16,             /* our frames that are not acknowledged yet */
};

typedef struct {
    uint8_t *bytes;
    size_t n;                   /* pages */
    uint64_t *offsets;          /* of each in the guest, if known */
} Pages;

G_GNUC_NORETURN static void die(const char *what)
{
    perror(what);
    exit(2);
}

static Pages load(const char *path)
{
    FILE *file = fopen(path, "rb");
    Pages pages = { NULL, 0, NULL };
    long size;

    if (!file || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0) {
        die(path);
    }
    rewind(file);
    pages.n = size / PAGE;
    pages.bytes = malloc(pages.n * PAGE);
    if (!pages.bytes || fread(pages.bytes, PAGE, pages.n, file) != pages.n) {
        die(path);
    }
    fclose(file);
    return pages;
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static void print(const char *name, size_t pages, double bytes, double cpu_s)
{
    double all = (double)pages * PAGE;

    printf("  %-34s %10.1f MB %6.1f %%", name, bytes / 1e6, bytes / all * 100);
    if (cpu_s > 0) {
        printf(" %8.0f MB/s", all / 1e6 / cpu_s);
    }
    putchar('\n');
}

/* ---- methods: what is left of @n pages -------------------------------------- */

static double by_packet(const uint8_t *bytes, size_t n, int level)
{
    static uint8_t out[PACKET * PAGE * 2];
    ZSTD_CCtx *context = ZSTD_createCCtx();
    double left = 0;

    for (size_t i = 0; i < n; i += PACKET) {
        size_t pages = n - i < PACKET ? n - i : PACKET;

        left += ZSTD_compressCCtx(context, out, sizeof(out), bytes + i * PAGE,
                                  pages * PAGE, level);
    }
    ZSTD_freeCCtx(context);
    return left;
}

/* A stream with a window over all of it, as far as zstd can. */
static double one_stream(const uint8_t *bytes, size_t n, int level)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    size_t max = ZSTD_compressBound(n * PAGE), left;
    uint8_t *out = malloc(max);

    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 27);
    ZSTD_CCtx_setParameter(context, ZSTD_c_enableLongDistanceMatching, 1);
    left = ZSTD_compress2(context, out, max, bytes, n * PAGE);
    free(out);
    ZSTD_freeCCtx(context);
    return left;
}

/* Each page with its old version as prefix. */
static double by_prefix(const uint8_t *now, const uint8_t *before, size_t n,
                        int level)
{
    static uint8_t out[PAGE * 2];
    ZSTD_CCtx *context = ZSTD_createCCtx();
    double left = 0;

    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
    for (size_t i = 0; i < n; i++) {
        ZSTD_CCtx_refPrefix(context, before + i * PAGE, PAGE);
        left += ZSTD_compress2(context, out, sizeof(out), now + i * PAGE, PAGE);
    }
    ZSTD_freeCCtx(context);
    return left;
}

static uint8_t *xor_all(const uint8_t *now, const uint8_t *before, size_t n)
{
    uint8_t *out = malloc(n * PAGE);

    for (size_t i = 0; i < n * PAGE; i++) {
        out[i] = now[i] ^ before[i];
    }
    return out;
}

/* Xored only where no more than @percent of the 8 byte words changed. */
static uint8_t *xor_some(const uint8_t *now, const uint8_t *before, size_t n,
                         unsigned percent)
{
    uint8_t *out = xor_all(now, before, n);

    for (size_t i = 0; i < n; i++) {
        unsigned changed = 0;

        for (size_t j = 0; j < PAGE; j += 8) {
            uint64_t word;

            memcpy(&word, out + i * PAGE + j, sizeof(word));
            changed += word != 0;
        }
        if (changed * 100 > PAGE / 8 * percent) {
            memcpy(out + i * PAGE, now + i * PAGE, PAGE);
        }
    }
    return out;
}

/* ---- duplicates --------------------------------------------------------------- */

static int compare_pages(const void *a, const void *b)
{
    return memcmp(*(uint8_t *const *)a, *(uint8_t *const *)b, PAGE);
}

static Pages without_duplicates(Pages pages)
{
    uint8_t **sorted = malloc(pages.n * sizeof(*sorted));
    Pages unique = { malloc(pages.n * PAGE), 0, NULL };

    for (size_t i = 0; i < pages.n; i++) {
        sorted[i] = pages.bytes + i * PAGE;
    }
    qsort(sorted, pages.n, sizeof(*sorted), compare_pages);
    for (size_t i = 0; i < pages.n; i++) {
        if (i == 0 || compare_pages(&sorted[i - 1], &sorted[i]) != 0) {
            memcpy(unique.bytes + unique.n++ * PAGE, sorted[i], PAGE);
        }
    }
    free(sorted);
    return unique;
}

static Pages new_pages(size_t most)
{
    return (Pages) { malloc(most * PAGE), 0, malloc(most * sizeof(uint64_t)) };
}

static void free_pages(Pages pages)
{
    free(pages.bytes);
    free(pages.offsets);
}

static void add_page(Pages *pages, Pages from, size_t i)
{
    memcpy(pages->bytes + pages->n * PAGE, from.bytes + i * PAGE, PAGE);
    pages->offsets[pages->n++] = i * PAGE;
}

static Pages without_zeroes(Pages pages)
{
    Pages some = new_pages(pages.n);

    for (size_t i = 0; i < pages.n; i++) {
        if (!is_zero(pages.bytes + i * PAGE)) {
            add_page(&some, pages, i);
        }
    }
    return some;
}

/* What has changed since @first. */
static Pages without_unchanged(Pages first, Pages second)
{
    Pages some = new_pages(second.n);

    for (size_t i = 0; i < second.n; i++) {
        if (memcmp(first.bytes + i * PAGE, second.bytes + i * PAGE, PAGE) != 0) {
            add_page(&some, second, i);
        }
    }
    return some;
}

/* ---- our own ------------------------------------------------------------------- */

typedef struct {
    RamblockTable *blocks;
    PageHistory *history;
    LinkPacker *packer;
    uint64_t frame;
} Ours;

static double pack_frame(Ours *self, Pages pages, size_t i, int level)
{
    static uint8_t out[1 + PACKET * (LINK_PACK_REF_SIZE + PAGE)];
    size_t n = pages.n - i < PACKET ? pages.n - i : PACKET;
    uint64_t acked = self->frame > UNDER_WAY ? self->frame - UNDER_WAY : 0;
    const uint8_t *bytes = pages.bytes + i * PAGE;
    uint32_t sums[PACKET], refs[PACKET];

    crc32c_each_page(bytes, PAGE, n, sums);
    page_history_plan(self->history, 0, pages.offsets + i, sums, n,
                      self->frame++, acked, refs);
    page_history_apply(self->history, refs, n, bytes,
                       link_packer_get_pages(self->packer, n, PAGE));
    return link_packer_pack(self->packer, refs, n, PAGE, level, out);
}

static double pack_pass(Ours *self, Pages pages, int level)
{
    double left = 0;

    for (size_t i = 0; i < pages.n; i += PACKET) {
        left += pack_frame(self, pages, i, level);
    }
    self->frame += UNDER_WAY;
    return left;
}

/* ---- the two passes ------------------------------------------------------------ */

/* The least of what others than we leave of a pass. */
static double note_best(double *best, double left)
{
    *best = *best == 0 || left < *best ? left : *best;
    return left;
}

#define MEASURE(name, pages, expression) do { \
        double begin_ = seconds(), left_ = note_best(&best, (expression)); \
        print(name, pages, left_, seconds() - begin_); \
    } while (0)

static double first_pass(Pages all, Pages some)
{
    Pages unique = without_duplicates(some);
    double best = 0;

    printf("first pass, of all %zu pages:\n", all.n);
    print("without zero pages", all.n, (double)some.n * PAGE, 0);
    print("without duplicates either", all.n, (double)unique.n * PAGE, 0);
    MEASURE("zstd -5 by packet", all.n, by_packet(some.bytes, some.n, -5));
    MEASURE("zstd 1 by packet", all.n, by_packet(some.bytes, some.n, 1));
    MEASURE("zstd 3 by packet", all.n, by_packet(some.bytes, some.n, 3));
    MEASURE("zstd 3 without duplicates", all.n,
            by_packet(unique.bytes, unique.n, 3));
    MEASURE("zstd 3, one stream, 128 MiB window", all.n,
            one_stream(some.bytes, some.n, 3));
    free(unique.bytes);
    return best;
}

static double later_pass(Pages first, Pages now)
{
    uint8_t *before = malloc(now.n * PAGE), *delta;
    double best = 0;

    for (size_t i = 0; i < now.n; i++) {
        memcpy(before + i * PAGE, first.bytes + now.offsets[i], PAGE);
    }
    printf("later pass, of %zu pages that changed:\n", now.n);
    MEASURE("zstd 1 by packet", now.n, by_packet(now.bytes, now.n, 1));
    MEASURE("zstd 3 by packet", now.n, by_packet(now.bytes, now.n, 3));
    delta = xor_all(now.bytes, before, now.n);
    MEASURE("xor, zstd -5", now.n, by_packet(delta, now.n, -5));
    MEASURE("xor, zstd 1", now.n, by_packet(delta, now.n, 1));
    MEASURE("xor, zstd 3", now.n, by_packet(delta, now.n, 3));
    MEASURE("old page as zstd prefix, 1", now.n,
            by_prefix(now.bytes, before, now.n, 1));
    MEASURE("old page as zstd prefix, 3", now.n,
            by_prefix(now.bytes, before, now.n, 3));
    free(delta);
    for (unsigned percent = 10; percent <= 70; percent += 20) {
        char name[64];

        snprintf(name, sizeof(name), "xor up to %u %% changed, zstd 1", percent);
        delta = xor_some(now.bytes, before, now.n, percent);
        MEASURE(name, now.n, by_packet(delta, now.n, 1));
        free(delta);
    }
    free(before);
    return best;
}

static void beside(const char *pass, double left, double best, double cpu_s,
                   size_t n)
{
    printf("  %s %8.1f MB, %.2f of the best above, %5.0f MB/s;", pass, left / 1e6,
           left / best, (double)n * PAGE / 1e6 / cpu_s);
}

/* Both passes through our modules, with a history of so many slots. */
static void measure_ours(Pages all, Pages first, Pages later, double best_first,
                         double best_later, uint64_t slots, int level)
{
    Ours ours = { .blocks = ramblock_table_new(), .packer = link_packer_new() };
    PageHistoryCounts counts;
    double begin, left;

    if (!ramblock_table_add(ours.blocks, (const uint8_t *)"ram", 3,
                            all.n * PAGE, 0, NULL, NULL)) {
        abort();
    }
    ours.history = page_history_new(slots, PAGE, ours.blocks);
    printf("ours, level %d, history of %6.0f MiB:\n", level,
           (double)slots * PAGE / (1 << 20));
    begin = seconds();
    left = pack_pass(&ours, first, level);
    beside("first", left, best_first, seconds() - begin, all.n);
    page_history_get_counts(ours.history, &counts);
    printf(" %zu pages the same as others\n", (size_t)counts.same);
    if (later.n > 0) {
        begin = seconds();
        left = pack_pass(&ours, later, level);
        beside("later", left, best_later, seconds() - begin, later.n);
        page_history_get_counts(ours.history, &counts);
        printf(" %zu of %zu pages known\n", (size_t)counts.known, later.n);
    }
    page_history_free(ours.history);
    link_packer_free(ours.packer);
    ramblock_table_free(ours.blocks);
}

static void measure(Pages first, Pages second)
{
    static const size_t histories_mib[] = { 16, 64, 256, 0 };
    static const int levels[] = { 1, 3, 6 };
    Pages some = without_zeroes(first), later = without_unchanged(first, second);
    double best_first = first_pass(first, some);
    double best_later = later.n > 0 ? later_pass(first, later) : 0;

    for (size_t i = 0; i < G_N_ELEMENTS(histories_mib); i++) {
        size_t slots = histories_mib[i] * (1 << 20) / PAGE;

        if (slots < first.n) {
            measure_ours(first, some, later, best_first, best_later,
                         slots > 0 ? slots : first.n, 1);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(levels); i++) {
        measure_ours(first, some, later, best_first, best_later,
                     MIN((size_t)(64 << 20) / PAGE, first.n), levels[i]);
    }
    free_pages(some);
    free_pages(later);
}

int main(int argc, char **argv)
{
    Pages first, second;

    if (argc != 3) {
        fprintf(stderr, "usage: reduce FIRST SECOND: two dumps of one RAM\n");
        return 2;
    }
    first = load(argv[1]);
    second = load(argv[2]);
    if (first.n != second.n || first.n == 0) {
        fprintf(stderr, "reduce: got %zu and %zu pages, expected as many in "
                "both\n", first.n, second.n);
        return 2;
    }
    measure(first, second);
    free_pages(first);
    free_pages(second);
    return 0;
}
