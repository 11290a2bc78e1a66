/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "wire/bytes.h"
#include "wire/preempt-start.h"

enum { PAGE = 0x08, ZERO = 0x02, EOS = 0x10, CONTINUE = 0x20 };

/* Judged from a buffer of exactly that size, so that an overread shows. */
static PreemptStart judge(const uint8_t *buf, size_t len,
                          const RamblockTable *table)
{
    g_autofree uint8_t *copy = g_memdup2(buf, len);

    return preempt_start_judge(copy, len, table);
}

static size_t record(uint8_t *buf, uint64_t word, const char *name)
{
    bytes_put_be64(buf, word);
    buf[8] = strlen(name);
    memcpy(buf + 9, name, strlen(name));
    return 9 + strlen(name);
}

static RamblockTable *one_block(void)
{
    RamblockTable *table = ramblock_table_new();

    g_assert_true(ramblock_table_add(table, (const uint8_t *)"pc.ram", 6,
                                     0x10000, 0, NULL, NULL));
    return table;
}

/* Cut anywhere it says that it needs more, and never decides wrongly. */
static void test_takes_a_page_of_a_known_block(void)
{
    g_autoptr(RamblockTable) table = one_block();
    uint8_t buf[PREEMPT_START_MAX];
    size_t len = record(buf, 0xf000 | PAGE, "pc.ram");

    for (size_t n = 0; n < len; n++) {
        g_assert_cmpint(judge(buf, n, table), ==, PREEMPT_START_MORE);
    }
    g_assert_cmpint(judge(buf, len, table), ==, PREEMPT_START_YES);
    g_assert_cmpint(judge(buf, len, NULL), ==, PREEMPT_START_YES);
    len = record(buf, ZERO, "pc.ram");
    g_assert_cmpint(judge(buf, len, table), ==, PREEMPT_START_YES);
}

static void test_takes_an_end_alone(void)
{
    uint8_t buf[8];

    bytes_put_be64(buf, EOS);
    g_assert_cmpint(judge(buf, sizeof(buf), NULL), ==, PREEMPT_START_YES);
    bytes_put_be64(buf, 0x1000 | EOS);
    g_assert_cmpint(judge(buf, sizeof(buf), NULL), ==, PREEMPT_START_NO);
}

/* What strangers say must not reach a destination as pages of the guest. */
static void test_refuses_what_no_source_says_first(void)
{
    static const uint64_t words[] = {
        0, PAGE | CONTINUE, PAGE | ZERO, 0x04, 0x40, 0x80, 0x200, UINT64_MAX,
        0x474554202f204854,         /* "GET / HT" */
    };
    g_autoptr(RamblockTable) table = one_block();
    uint8_t buf[PREEMPT_START_MAX];

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        size_t len = record(buf, words[i], "pc.ram");

        g_assert_cmpint(judge(buf, len, NULL), ==, PREEMPT_START_NO);
        g_assert_cmpint(judge(buf, 8, NULL), ==, PREEMPT_START_NO);
    }
    g_assert_cmpint(judge(buf, record(buf, PAGE, "pc.rom"), table), ==,
                    PREEMPT_START_NO);
    g_assert_cmpint(judge(buf, record(buf, 0x10000 | PAGE, "pc.ram"), table),
                    ==, PREEMPT_START_NO);
    g_assert_cmpint(judge(buf, record(buf, PAGE, ""), NULL), ==,
                    PREEMPT_START_NO);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/wire/preempt-start/" path, func)
    ADD("takes-a-page-of-a-known-block", test_takes_a_page_of_a_known_block);
    ADD("takes-an-end-alone", test_takes_an_end_alone);
    ADD("refuses-what-no-source-says-first",
        test_refuses_what_no_source_says_first);
    return g_test_run();
}
