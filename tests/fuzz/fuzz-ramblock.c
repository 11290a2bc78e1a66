/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: a name is added once, and found then and only then by exactly its
 * bytes; whatever is refused changes nothing; an escaped name is printable.
 *
 * Input: names, each behind a byte of its length.
 */
#include <string.h>

#include "wire/error.h"
#include "wire/ramblock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_escape(const uint8_t *name, size_t len)
{
    g_autofree char *text = ramblock_name_escape((const char *)name, len);

    for (const char *p = text; *p; p++) {
        g_assert_true(g_ascii_isprint(*p) && *p != '\'');
    }
    g_assert_cmpuint(strlen(text), >=, len);
    g_assert_cmpuint(strlen(text), <=, 4 * len);
}

static void check_name(RamblockTable *table, const uint8_t *name, size_t len)
{
    unsigned count = ramblock_table_get_count(table), index = count + 1;
    const Ramblock *before = ramblock_table_find(table, (const char *)name, len);
    const Ramblock *after;
    g_autoptr(GError) error = NULL;
    bool ok = ramblock_table_add(table, name, len, len * 4096, 0, &index,
                                 &error);

    after = ramblock_table_find(table, (const char *)name, len);
    if (!ok) {
        g_assert_true(error && error->domain == WIRE_ERROR);
        g_assert_true(after == before);
        g_assert_cmpuint(ramblock_table_get_count(table), ==, count);
        return;
    }
    g_assert_null(before);
    g_assert_cmpuint(index, ==, count);
    g_assert_true(after == ramblock_table_get(table, index));
    g_assert_true(strlen(after->name) == len &&
                  memcmp(after->name, name, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(RamblockTable) table = ramblock_table_new();

    while (size > 0) {
        size_t len = MIN(data[0], size - 1);

        check_name(table, data + 1, len);
        check_escape(data + 1, len);
        data += 1 + len;
        size -= 1 + len;
    }
    return 0;
}
