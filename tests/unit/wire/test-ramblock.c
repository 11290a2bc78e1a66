/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "wire/error.h"
#include "wire/ramblock.h"

static bool add(RamblockTable *table, const char *name, size_t len,
                GError **error)
{
    unsigned index;

    return ramblock_table_add(table, (const uint8_t *)name, len, 4096, 0,
                              &index, error);
}

static void test_finds_what_was_added(void)
{
    g_autoptr(RamblockTable) table = ramblock_table_new();
    g_autofree char *name = g_memdup2("pc.ramX", 7);    /* not terminated */
    const Ramblock *block;
    unsigned index = 7;

    g_assert_true(ramblock_table_add(table, (const uint8_t *)name, 6,
                                     16 << 20, 2 << 20, &index, NULL));
    g_assert_cmpuint(index, ==, 0);
    block = ramblock_table_find(table, name, 6);
    g_assert_true(block == ramblock_table_get(table, 0));
    g_assert_cmpstr(block->name, ==, "pc.ram");
    g_assert_cmpuint(block->used_length, ==, 16 << 20);
    g_assert_cmpuint(block->page_size, ==, 2 << 20);
    g_assert_null(ramblock_table_find(table, name, 7));
    g_assert_null(ramblock_table_find(table, name, 5));
    g_assert_null(ramblock_table_find(table, name, 0));
}

/* QEMU's name field has 256 bytes with the NUL. */
static void test_takes_names_up_to_255_bytes(void)
{
    g_autoptr(RamblockTable) table = ramblock_table_new();
    g_autoptr(GError) error = NULL;
    char name[256];

    memset(name, 'n', sizeof(name));
    g_assert_true(add(table, name, 255, &error));
    g_assert_false(add(table, name, 256, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "got a name of 256 bytes"));
    g_clear_error(&error);
    g_assert_false(add(table, name, 0, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_cmpuint(ramblock_table_get_count(table), ==, 1);
}

static void test_rejects_a_block_twice(void)
{
    g_autoptr(RamblockTable) table = ramblock_table_new();
    g_autoptr(GError) error = NULL;

    g_assert_true(add(table, "a'b", 3, &error));
    g_assert_false(add(table, "a'b", 3, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "got block 'a\\x27b' twice"));
    g_assert_cmpuint(ramblock_table_get_count(table), ==, 1);
}

/* A packet names its block up to a NUL; such a block could not be named. */
static void test_rejects_a_nul_in_a_name(void)
{
    g_autoptr(RamblockTable) table = ramblock_table_new();
    g_autoptr(GError) error = NULL;

    g_assert_true(add(table, "a", 1, &error));
    g_assert_false(add(table, "a\0b", 3, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "'a\\x00b'"));
    g_assert_null(ramblock_table_find(table, "a\0b", 3));
}

/* The list is the source's: it must not grow without end. */
static void test_bounds_the_number_of_blocks(void)
{
    g_autoptr(RamblockTable) table = ramblock_table_new();
    g_autoptr(GError) error = NULL;
    char name[16];

    for (int i = 0; i < RAMBLOCK_COUNT_MAX; i++) {
        g_snprintf(name, sizeof(name), "b%d", i);
        g_assert_true(add(table, name, strlen(name), &error));
    }
    g_assert_false(add(table, "one more", 8, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "at most 4096"));
    g_assert_cmpuint(ramblock_table_get_count(table), ==, RAMBLOCK_COUNT_MAX);
}

static void test_escapes_what_cannot_be_printed(void)
{
    g_autofree char *text = ramblock_name_escape("a\n\\'\x1b\xff/@:.", 10);

    g_assert_cmpstr(text, ==, "a\\x0a\\x5c\\x27\\x1b\\xff/@:.");
}

static void test_free_takes_nothing(void)
{
    ramblock_table_free(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/ramblock/finds-what-was-added",
                    test_finds_what_was_added);
    g_test_add_func("/wire/ramblock/takes-names-up-to-255-bytes",
                    test_takes_names_up_to_255_bytes);
    g_test_add_func("/wire/ramblock/rejects-a-block-twice",
                    test_rejects_a_block_twice);
    g_test_add_func("/wire/ramblock/rejects-a-nul-in-a-name",
                    test_rejects_a_nul_in_a_name);
    g_test_add_func("/wire/ramblock/bounds-the-number-of-blocks",
                    test_bounds_the_number_of_blocks);
    g_test_add_func("/wire/ramblock/escapes-what-cannot-be-printed",
                    test_escapes_what_cannot_be_printed);
    g_test_add_func("/wire/ramblock/free-takes-nothing",
                    test_free_takes_nothing);
    return g_test_run();
}
