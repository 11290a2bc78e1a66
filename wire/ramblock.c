/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "wire/error.h"
#include "wire/ramblock.h"

struct RamblockTable {
    GPtrArray *blocks;      /* of Ramblock, in the order of the stream */
    GHashTable *by_name;    /* Ramblock.name -> Ramblock, owns neither */
};

RamblockTable *ramblock_table_new(void)
{
    RamblockTable *self = g_new0(RamblockTable, 1);

    self->blocks = g_ptr_array_new_with_free_func(g_free);
    self->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    return self;
}

void ramblock_table_free(RamblockTable *self)
{
    if (!self) {
        return;
    }
    g_hash_table_unref(self->by_name);
    g_ptr_array_unref(self->blocks);
    g_free(self);
}

static bool check_new_name(const RamblockTable *self, const uint8_t *name,
                           size_t name_len, GError **error)
{
    g_autofree char *shown = NULL;

    if (name_len == 0 || name_len > RAMBLOCK_NAME_MAX) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "ramblock list: got a name of %zu bytes, allowed 1 to %d",
                    name_len, RAMBLOCK_NAME_MAX);
        return false;
    }
    if (memchr(name, '\0', name_len)) {
        shown = ramblock_name_escape((const char *)name, name_len);
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "ramblock list: got name '%s', allowed no NUL in a name",
                    shown);
        return false;
    }
    if (ramblock_table_find(self, (const char *)name, name_len)) {
        shown = ramblock_name_escape((const char *)name, name_len);
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "ramblock list: got block '%s' twice, allowed once", shown);
        return false;
    }
    return true;
}

bool ramblock_table_add(RamblockTable *self, const uint8_t *name,
                        size_t name_len, uint64_t used_length,
                        uint64_t page_size, unsigned *ret_index,
                        GError **error)
{
    Ramblock *block;

    if (!check_new_name(self, name, name_len, error)) {
        return false;
    }
    if (self->blocks->len >= RAMBLOCK_COUNT_MAX) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "ramblock list: got more than %d blocks, allowed at most "
                    "%d", RAMBLOCK_COUNT_MAX, RAMBLOCK_COUNT_MAX);
        return false;
    }
    block = g_new0(Ramblock, 1);
    memcpy(block->name, name, name_len);
    block->used_length = used_length;
    block->page_size = page_size;
    g_ptr_array_add(self->blocks, block);
    g_hash_table_insert(self->by_name, block->name, block);
    if (ret_index) {
        *ret_index = self->blocks->len - 1;
    }
    return true;
}

unsigned ramblock_table_get_count(const RamblockTable *self)
{
    return self->blocks->len;
}

const Ramblock *ramblock_table_get(const RamblockTable *self, unsigned index)
{
    g_assert(index < self->blocks->len);
    return g_ptr_array_index(self->blocks, index);
}

const Ramblock *ramblock_table_find(const RamblockTable *self,
                                    const char *name, size_t name_len)
{
    char key[RAMBLOCK_NAME_MAX + 1];

    /* A name with a NUL inside is no block's; the hash would stop there. */
    if (name_len == 0 || name_len > RAMBLOCK_NAME_MAX ||
        memchr(name, '\0', name_len)) {
        return NULL;
    }
    memcpy(key, name, name_len);
    key[name_len] = '\0';
    return g_hash_table_lookup(self->by_name, key);
}

char *ramblock_name_escape(const char *name, size_t name_len)
{
    GString *out = g_string_sized_new(name_len + 1);

    for (size_t i = 0; i < name_len; i++) {
        if (g_ascii_isprint(name[i]) && name[i] != '\'' && name[i] != '\\') {
            g_string_append_c(out, name[i]);
        } else {
            g_string_append_printf(out, "\\x%02x", (unsigned char)name[i]);
        }
    }
    return g_string_free(out, FALSE);
}
