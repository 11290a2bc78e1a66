/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest for targets other than x86: changes its memory and checks it.
 *
 * One page of C for any target that clang knows: no library, no device, no data
 * section, nothing to link.  tests/e2e/harness/target.py compiles it, takes its
 * .text for the image, and reads what it says in the report page from outside.
 *
 *   LOAD      where the image is
 *   REPORT    a page: magic, beats, bad pages found, sweeps over all pages
 *   TABLE     a generation number for each page
 *   POOL      the pages; PAGES of them, PAGE bytes each
 *   DIRTY     pages changed between two that are checked; 0: none
 */
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

typedef unsigned int u32;

#define WORDS (PAGE / 4)
#define MAGIC 0x4d494752u

enum { R_MAGIC, R_BEATS, R_BAD, R_SWEEPS };

#if defined(__aarch64__)
__asm__(".text\n_start: ldr x1, =" TEXT(LOAD) "\nmov sp, x1\nb checker_main\n"
        ".ltorg\n");
#elif defined(__arm__)
__asm__(".text\n_start: ldr sp, =" TEXT(LOAD) "\nb checker_main\n.ltorg\n");
#elif defined(__s390x__)
__asm__(".text\n_start: llilf %r15, " TEXT(LOAD) "-512\nj checker_main\n");
#else
#error "no entry for this target"
#endif

static u32 mix(u32 x)
{
    x ^= x >> 16; x *= 0x7feb352du;
    x ^= x >> 15; x *= 0x846ca68bu;
    return x ^ x >> 16;
}

/* What word @word of page @page is in its generation; one in four is a page of zeroes. */
static u32 content(u32 page, u32 generation, u32 word)
{
    u32 seed = mix(page * 2654435761u + generation);

    if ((seed & 3) == 0)
        return 0;
    return (seed & 3) == 1 ? seed : mix(seed + word);
}

static void write_page(volatile u32 *table, u32 page, u32 generation)
{
    volatile u32 *p = (volatile u32 *)(POOL + (unsigned long)page * PAGE);

    for (u32 i = 0; i < WORDS; i++)
        p[i] = content(page, generation, i);
    table[page] = generation;
}

static u32 is_bad(const volatile u32 *table, u32 page)
{
    const volatile u32 *p = (volatile u32 *)(POOL + (unsigned long)page * PAGE);

    for (u32 i = 0; i < WORDS; i++)
        if (p[i] != content(page, table[page], i))
            return 1;
    return 0;
}

__attribute__((used, noreturn)) static void checker_main(void)
{
    volatile u32 *report = (volatile u32 *)REPORT;
    volatile u32 *table = (volatile u32 *)TABLE;
    u32 random = 1, at = 0;

    for (u32 i = 0; i < PAGES; i++)
        write_page(table, i, 1);
    report[R_BEATS] = report[R_BAD] = report[R_SWEEPS] = 0;
    report[R_MAGIC] = MAGIC;
    for (;;) {
        for (u32 i = 0; i < DIRTY; i++) {
            random = mix(random + 1);
            write_page(table, random & (PAGES - 1), table[random & (PAGES - 1)] + 1);
        }
        if (is_bad(table, at))
            report[R_BAD] = report[R_BAD] + 1;
        at = (at + 1) & (PAGES - 1);
        if (at == 0)
            report[R_SWEEPS] = report[R_SWEEPS] + 1;
        report[R_BEATS] = report[R_BEATS] + 1;
    }
}
