/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/paused-qemus.h"

struct PausedQemus {
    GMutex lock;                /* a leaf */
    GHashTable *table;          /* see key_of(); of PausedQemu */
};

static void free_kept(void *data)
{
    PausedQemu *self = data;

    if (self) {
        qmp_client_free(self->client);
        qemu_setup_free(self->setup);
    }
    g_free(self);
}

PausedQemus *paused_qemus_new(void)
{
    PausedQemus *self = g_new0(PausedQemus, 1);

    g_mutex_init(&self->lock);
    self->table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                        free_kept);
    return self;
}

void paused_qemus_free(PausedQemus *self)
{
    g_hash_table_unref(self->table);
    g_mutex_clear(&self->lock);
    g_free(self);
}

static char *key_of(const char *vm, MigrationRole role)
{
    return g_strdup_printf("%d %s", (int)role, vm);
}

/* With the lock held; NULL: there is none. */
static PausedQemu *steal(PausedQemus *self, const char *key)
{
    gpointer name = NULL, kept = NULL;

    g_hash_table_steal_extended(self->table, key, &name, &kept);
    g_free(name);
    return kept;
}

void paused_qemus_keep(PausedQemus *self, const char *vm, MigrationRole role,
                       PausedQemu kept)
{
    char *key = key_of(vm, role);
    PausedQemu *old;

    g_mutex_lock(&self->lock);
    old = steal(self, key);
    g_hash_table_insert(self->table, key, g_memdup2(&kept, sizeof(kept)));
    g_mutex_unlock(&self->lock);
    free_kept(old);
}

PausedQemu paused_qemus_take(PausedQemus *self, const char *vm,
                             MigrationRole role)
{
    g_autofree char *key = key_of(vm, role);
    g_autofree PausedQemu *kept = NULL;

    g_mutex_lock(&self->lock);
    kept = steal(self, key);
    g_mutex_unlock(&self->lock);
    return kept ? *kept : (PausedQemu) { 0 };
}

static bool is_gone(const PausedQemu *kept)
{
    g_autoptr(GError) error = kept->client ? qmp_client_get_error(kept->client)
                                           : NULL;

    return error != NULL;
}

/* Out of the table under the lock, and freed without it. */
static gboolean steal_if_gone(void *key, void *value, void *gone)
{
    if (!is_gone(value)) {
        return FALSE;
    }
    g_free(key);
    g_ptr_array_add(gone, value);
    return TRUE;
}

void paused_qemus_drop_gone(PausedQemus *self)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func(free_kept);

    g_mutex_lock(&self->lock);
    g_hash_table_foreach_steal(self->table, steal_if_gone, gone);
    g_mutex_unlock(&self->lock);
}
