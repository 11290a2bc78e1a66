/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/crc32c.c - CRC-32C by instruction where there is one, else by table
 *
 * Theory of operation.  The instruction takes 8 bytes and answers after about
 * three cycles, but a new one can begin every cycle: one page at a time leaves
 * two thirds of the unit idle.  Pages are independent of each other, so three
 * are computed side by side.
 */
#include <stdbool.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/crc32c.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

enum { SLICES = 8, PAGES_AT_ONCE = 3 };

/* All of these work on the inverted sum, as the algorithm defines it. */
typedef uint32_t (*Update)(uint32_t sum, const uint8_t *p, size_t len);
typedef void (*UpdatePages)(uint32_t sums[PAGES_AT_ONCE], const uint8_t *pages,
                            size_t page_size);

static uint32_t table[SLICES][256];

static void table_init(void)
{
    const uint32_t polynomial = 0x82f63b78;     /* reflected */

    for (uint32_t i = 0; i < 256; i++) {
        uint32_t sum = i;

        for (int bit = 0; bit < 8; bit++) {
            sum = (sum >> 1) ^ (sum & 1 ? polynomial : 0);
        }
        table[0][i] = sum;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int slice = 1; slice < SLICES; slice++) {
            uint32_t before = table[slice - 1][i];

            table[slice][i] = (before >> 8) ^ table[0][before & 0xff];
        }
    }
}

static uint32_t update_by_table(uint32_t sum, const uint8_t *p, size_t len)
{
    for (; len >= SLICES; p += SLICES, len -= SLICES) {
        uint64_t word;

        memcpy(&word, p, sizeof(word));
        word = GUINT64_FROM_LE(word) ^ sum;
        sum = 0;
        for (int i = 0; i < SLICES; i++) {
            sum ^= table[SLICES - 1 - i][(word >> (8 * i)) & 0xff];
        }
    }
    for (; len > 0; p++, len--) {
        sum = (sum >> 8) ^ table[0][(sum ^ *p) & 0xff];
    }
    return sum;
}

static void update_pages_by_table(uint32_t sums[PAGES_AT_ONCE],
                                  const uint8_t *pages, size_t page_size)
{
    for (int i = 0; i < PAGES_AT_ONCE; i++) {
        sums[i] = update_by_table(sums[i], pages + i * page_size, page_size);
    }
}

#if defined(__x86_64__)
#define HAVE_INSTRUCTION 1
#define CRC_TARGET __attribute__((target("sse4.2")))
#define CRC_WORD(sum, word) ((uint32_t)__builtin_ia32_crc32di((sum), (word)))
#define CRC_BYTE(sum, byte) __builtin_ia32_crc32qi((sum), (byte))

static bool have_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__) && defined(__linux__) && !defined(__AARCH64EB__)
#define HAVE_INSTRUCTION 1
#ifdef __clang__
#define CRC_TARGET __attribute__((target("crc")))
#else
#define CRC_TARGET __attribute__((target("+crc")))
#endif
#define CRC_WORD(sum, word) __builtin_aarch64_crc32cx((sum), (word))
#define CRC_BYTE(sum, byte) __builtin_aarch64_crc32cb((sum), (byte))
#ifdef __clang__
#undef CRC_WORD
#undef CRC_BYTE
#define CRC_WORD(sum, word) __builtin_arm_crc32cd((sum), (word))
#define CRC_BYTE(sum, byte) __builtin_arm_crc32cb((sum), (byte))
#endif

static bool have_instruction(void)
{
    return getauxval(AT_HWCAP) & HWCAP_CRC32;
}
#endif

#ifdef HAVE_INSTRUCTION
static inline uint64_t get_word(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    return word;
}

CRC_TARGET
static uint32_t update_by_instruction(uint32_t sum, const uint8_t *p,
                                      size_t len)
{
    for (; len >= 8; p += 8, len -= 8) {
        sum = CRC_WORD(sum, get_word(p));
    }
    for (; len > 0; p++, len--) {
        sum = CRC_BYTE(sum, *p);
    }
    return sum;
}

CRC_TARGET
static void update_pages_by_instruction(uint32_t sums[PAGES_AT_ONCE],
                                        const uint8_t *pages, size_t page_size)
{
    const uint8_t *a = pages, *b = a + page_size, *c = b + page_size;
    size_t whole = page_size & ~(size_t)7;
    uint32_t sa = sums[0], sb = sums[1], sc = sums[2];

    for (size_t i = 0; i < whole; i += 8) {
        sa = CRC_WORD(sa, get_word(a + i));
        sb = CRC_WORD(sb, get_word(b + i));
        sc = CRC_WORD(sc, get_word(c + i));
    }
    sums[0] = update_by_instruction(sa, a + whole, page_size - whole);
    sums[1] = update_by_instruction(sb, b + whole, page_size - whole);
    sums[2] = update_by_instruction(sc, c + whole, page_size - whole);
}
#endif

static Update update = update_by_table;
static UpdatePages update_pages = update_pages_by_table;

static void choose_once(void)
{
    static gsize chosen;

    if (g_once_init_enter(&chosen)) {
        table_init();
#ifdef HAVE_INSTRUCTION
        if (have_instruction()) {
            update = update_by_instruction;
            update_pages = update_pages_by_instruction;
        }
#endif
        g_once_init_leave(&chosen, 1);
    }
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    choose_once();
    return ~update(~crc, data, len);
}

/* As many of @n_pages as are computed at once, inverted into @sums; returns how many. */
static size_t sum_some_pages(const uint8_t *pages, size_t page_size,
                             size_t n_pages, uint32_t sums[PAGES_AT_ONCE])
{
    memset(sums, 0xff, PAGES_AT_ONCE * sizeof(*sums));
    if (n_pages >= PAGES_AT_ONCE) {
        update_pages(sums, pages, page_size);
        return PAGES_AT_ONCE;
    }
    sums[0] = update(sums[0], pages, page_size);
    return 1;
}

void crc32c_each_page(const uint8_t *pages, size_t page_size, size_t n_pages,
                      uint32_t *ret_sums)
{
    uint32_t sums[PAGES_AT_ONCE];

    choose_once();
    for (size_t i = 0; i < n_pages;) {
        size_t n = sum_some_pages(pages + i * page_size, page_size, n_pages - i,
                                  sums);

        for (size_t j = 0; j < n; j++) {
            ret_sums[i++] = ~sums[j];
        }
    }
}

uint32_t crc32c_pages(const uint8_t *pages, size_t page_size, size_t n_pages)
{
    uint32_t sums[PAGES_AT_ONCE], crc = 0;
    uint8_t word[4];

    choose_once();
    for (size_t i = 0; i < n_pages;) {
        size_t n = sum_some_pages(pages + i * page_size, page_size, n_pages - i,
                                  sums);

        for (size_t j = 0; j < n; j++) {
            bytes_put_be32(word, ~sums[j]);
            crc = crc32c(crc, word, sizeof(word));
        }
        i += n;
    }
    return crc;
}
