/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tests/bench/reduce.c - what there is to be saved in a guest's memory
 *
 * reduce FIRST SECOND: two dumps of one guest's RAM, some seconds apart (QMP
 * pmemsave).  The first is what goes in the first pass; the pages that differ
 * between the two are what goes in a later one.  Prints what is left of each by
 * several methods, and how fast; docs/reduction.md says what was chosen, and why.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

enum {
    PAGE = 4096,
    PACKET = 128,               /* pages, as QEMU's */
};

typedef struct {
    uint8_t *bytes;
    size_t n;                   /* pages */
} Pages;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static Pages load(const char *path)
{
    FILE *file = fopen(path, "rb");
    Pages pages = { NULL, 0 };
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
    Pages unique = { malloc(pages.n * PAGE), 0 };

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

static Pages without_zeroes(Pages pages)
{
    Pages some = { malloc(pages.n * PAGE), 0 };

    for (size_t i = 0; i < pages.n; i++) {
        if (!is_zero(pages.bytes + i * PAGE)) {
            memcpy(some.bytes + some.n++ * PAGE, pages.bytes + i * PAGE, PAGE);
        }
    }
    return some;
}

/* ---- the two passes ------------------------------------------------------------ */

#define MEASURE(name, pages, expression) do { \
        double begin_ = seconds(), left_ = (expression); \
        print(name, pages, left_, seconds() - begin_); \
    } while (0)

static void first_pass(Pages all)
{
    Pages some = without_zeroes(all), unique = without_duplicates(some);

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
    free(some.bytes);
    free(unique.bytes);
}

static void later_pass(Pages first, Pages second)
{
    Pages now = { malloc(second.n * PAGE), 0 };
    uint8_t *before = malloc(second.n * PAGE), *delta;

    for (size_t i = 0; i < second.n; i++) {
        if (memcmp(first.bytes + i * PAGE, second.bytes + i * PAGE, PAGE) != 0) {
            memcpy(before + now.n * PAGE, first.bytes + i * PAGE, PAGE);
            memcpy(now.bytes + now.n++ * PAGE, second.bytes + i * PAGE, PAGE);
        }
    }
    printf("later pass, of %zu pages that changed:\n", now.n);
    if (now.n > 0) {
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

            snprintf(name, sizeof(name), "xor up to %u %% changed, zstd 1",
                     percent);
            delta = xor_some(now.bytes, before, now.n, percent);
            MEASURE(name, now.n, by_packet(delta, now.n, 1));
            free(delta);
        }
    }
    free(before);
    free(now.bytes);
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
    first_pass(first);
    later_pass(first, second);
    free(first.bytes);
    free(second.bytes);
    return 0;
}
