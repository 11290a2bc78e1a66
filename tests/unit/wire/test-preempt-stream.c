/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire/preempt-stream.h"

#include <string.h>
#include "wire/bytes.h"

#define PAGE 4096u

enum { ZERO = 0x02, MEM_SIZE = 0x04, PAGE_DATA = 0x08, EOS = 0x10, CONTINUE = 0x20 };

static RamblockTable *make_table(void)
{
    RamblockTable *table = ramblock_table_new();
    g_autoptr(GError) error = NULL;

    g_assert_true(ramblock_table_add(table, (const uint8_t *)"pc.ram", 6,
                                     16 * PAGE, 0, NULL, &error));
    g_assert_true(ramblock_table_add(table, (const uint8_t *)"rom", 3, PAGE, 0,
                                     NULL, &error));
    return table;
}

/* @name NULL: with CONTINUE, or none at all. */
static void add_record(GByteArray *to, uint64_t word, const char *name,
                       unsigned body)
{
    uint8_t buf[PAGE], length = name ? strlen(name) : 0;

    bytes_put_be64(buf, word);
    g_byte_array_append(to, buf, 8);
    if (name) {
        g_byte_array_append(to, &length, 1);
        g_byte_array_append(to, (const uint8_t *)name, length);
    }
    /* A body that looks like another record. */
    memset(buf, 0, sizeof(buf));
    bytes_put_be64(buf, MEM_SIZE);
    g_byte_array_append(to, buf, body);
}

static void note(const Ramblock *block, uint64_t offset, bool zero, void *data)
{
    g_string_append_printf(data, "%s %u%s\n", block->name,
                           (unsigned)(offset / PAGE), zero ? " zero" : "");
}

/* In pieces of @piece bytes, each a buffer of exactly its size. */
static void assert_pages(const GByteArray *stream, unsigned piece, bool followed,
                         const char *expected)
{
    g_autoptr(RamblockTable) table = make_table();
    g_autoptr(GString) got = g_string_new(NULL);
    PreemptStream self = { 0 };

    for (unsigned at = 0; at < stream->len; at += piece) {
        unsigned n = MIN(piece, stream->len - at);
        g_autofree uint8_t *copy = g_memdup2(stream->data + at, n);

        preempt_stream_feed(&self, copy, n, table, PAGE, note, got);
    }
    g_assert_cmpstr(got->str, ==, expected);
    g_assert_true(preempt_stream_is_followed(&self) == followed);
}

static void test_pages(void)
{
    static const unsigned pieces[] = { 1, 3, 8, 4095, 4097, 1 << 20 };
    g_autoptr(GByteArray) stream = g_byte_array_new();

    add_record(stream, 3 * PAGE | PAGE_DATA, "pc.ram", PAGE);
    add_record(stream, 4 * PAGE | PAGE_DATA | CONTINUE, NULL, PAGE);
    add_record(stream, 5 * PAGE | ZERO | CONTINUE, NULL, 1);
    add_record(stream, 0 | PAGE_DATA, "rom", PAGE);
    add_record(stream, 15 * PAGE | ZERO, "pc.ram", 1);
    add_record(stream, EOS, NULL, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(pieces); i++) {
        assert_pages(stream, pieces[i], true,
                     "pc.ram 3\npc.ram 4\npc.ram 5 zero\nrom 0\npc.ram 15 zero\n");
    }
}

/* Each is no error, and nothing behind it is counted. */
static void test_lost(void)
{
    static const struct { uint64_t word; const char *name; } cases[] = {
        { PAGE_DATA | CONTINUE, NULL },     /* of which block? */
        { PAGE_DATA, "" }, { PAGE_DATA, "vga" }, { 16 * PAGE | PAGE_DATA, "pc.ram" },
        { PAGE | ZERO, "rom" }, { 1024 | PAGE_DATA, "pc.ram" },
        { MEM_SIZE, NULL }, { 0x200, NULL }, { ZERO | PAGE_DATA, "pc.ram" },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GByteArray) stream = g_byte_array_new();

        add_record(stream, cases[i].word, cases[i].name, 0);
        add_record(stream, PAGE_DATA, "pc.ram", PAGE);
        assert_pages(stream, 1, false, "");
        assert_pages(stream, 1 << 20, false, "");
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/preempt-stream/pages", test_pages);
    g_test_add_func("/wire/preempt-stream/lost", test_lost);
    return g_test_run();
}
