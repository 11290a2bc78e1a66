/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/credentials.h"

#include <string.h>

#include <inttypes.h>

typedef struct {
    TlsConfig config;           /* owns its strings */
    TlsCredentials *loaded;
    bool unwanted;              /* by the configuration as it is now */
} Entry;

struct Credentials {
    GMutex lock;                /* guards the table; held while files are read */
    GHashTable *entries;        /* key text -> Entry */
};

static void free_entry(void *data)
{
    Entry *entry = data;

    g_free(entry->config.directory);
    g_free(entry->config.priority);
    g_free(entry->config.psk_username);
    tls_credentials_unref(entry->loaded);
    g_free(entry);
}

static char *make_key(const TlsConfig *config)
{
    return g_strdup_printf("%d\n%d\n%d\n%" PRIu64 "\n%s\n%s\n%s", config->kind,
                           config->verify_peer,
                           config->client_may_lack_certificate,
                           config->rekey_bytes,
                           config->directory ? config->directory : "",
                           config->priority ? config->priority : "",
                           config->psk_username ? config->psk_username : "");
}

Credentials *credentials_new(void)
{
    Credentials *self = g_new0(Credentials, 1);

    g_mutex_init(&self->lock);
    self->entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                          free_entry);
    return self;
}

void credentials_free(Credentials *self)
{
    if (!self) {
        return;
    }
    g_hash_table_unref(self->entries);
    g_mutex_clear(&self->lock);
    g_free(self);
}

static TlsCredentials *load(Credentials *self, const char *key,
                            const TlsConfig *config, GError **error)
{
    TlsCredentials *loaded = tls_credentials_load(config, error);
    Entry *entry;

    if (!loaded) {
        return NULL;
    }
    entry = g_new0(Entry, 1);
    entry->config = *config;
    entry->config.directory = g_strdup(config->directory);
    entry->config.priority = g_strdup(config->priority);
    entry->config.psk_username = g_strdup(config->psk_username);
    entry->loaded = loaded;
    g_hash_table_insert(self->entries, g_strdup(key), entry);
    return loaded;
}

TlsCredentials *credentials_get(Credentials *self, const TlsConfig *config,
                                GError **error)
{
    g_autofree char *key = make_key(config);
    TlsCredentials *credentials;
    Entry *entry;

    g_mutex_lock(&self->lock);
    entry = g_hash_table_lookup(self->entries, key);
    credentials = entry ? entry->loaded : load(self, key, config, error);
    if (credentials) {
        tls_credentials_ref(credentials);
    }
    g_mutex_unlock(&self->lock);
    return credentials;
}

void credentials_set_wanted(Credentials *self, const TlsConfig *wanted, size_t n)
{
    GHashTableIter iter;
    Entry *entry;

    g_mutex_lock(&self->lock);
    g_hash_table_iter_init(&iter, self->entries);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&entry)) {
        entry->unwanted = true;
    }
    for (size_t i = 0; i < n; i++) {
        g_autofree char *key = make_key(&wanted[i]);

        entry = g_hash_table_lookup(self->entries, key);
        if (entry) {
            entry->unwanted = false;
        }
    }
    g_mutex_unlock(&self->lock);
}

static bool load_all(Credentials *self, GPtrArray *fresh, GError **error)
{
    GHashTableIter iter;
    Entry *entry;

    g_hash_table_iter_init(&iter, self->entries);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&entry)) {
        TlsCredentials *loaded = entry->unwanted
                                 ? tls_credentials_ref(entry->loaded)
                                 : tls_credentials_load(&entry->config, error);

        if (!loaded) {
            return false;
        }
        g_ptr_array_add(fresh, loaded);
        if (!entry->unwanted &&
            !tls_credentials_serve_as(loaded, entry->loaded, error)) {
            return false;
        }
    }
    return true;
}

bool credentials_reload(Credentials *self, GError **error)
{
    g_autoptr(GPtrArray) fresh =
        g_ptr_array_new_with_free_func((GDestroyNotify)tls_credentials_unref);
    GHashTableIter iter;
    Entry *entry;
    unsigned i = 0;
    bool ok;

    g_mutex_lock(&self->lock);
    ok = load_all(self, fresh, error);
    if (ok) {
        g_hash_table_iter_init(&iter, self->entries);
        while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&entry)) {
            tls_credentials_unref(entry->loaded);
            entry->loaded = tls_credentials_ref(g_ptr_array_index(fresh, i));
            i++;
        }
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

/* Files may be in use for several ends, with rules of their own. */
static void add_new(GPtrArray *list, TlsExpiry *expiry)
{
    for (unsigned i = 0; i < list->len; i++) {
        const TlsExpiry *other = g_ptr_array_index(list, i);

        if (strcmp(other->file, expiry->file) == 0) {
            tls_expiry_free(expiry);
            return;
        }
    }
    g_ptr_array_add(list, expiry);
}

GPtrArray *credentials_list_expiry(Credentials *self)
{
    GPtrArray *list =
        g_ptr_array_new_with_free_func((GDestroyNotify)tls_expiry_free);
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    GHashTableIter iter;
    Entry *entry;

    g_mutex_lock(&self->lock);
    g_hash_table_iter_init(&iter, self->entries);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&entry)) {
        if (!entry->unwanted) {
            tls_expiry_list(entry->loaded, all);
        }
    }
    g_mutex_unlock(&self->lock);
    for (unsigned i = 0; i < all->len; i++) {
        add_new(list, g_ptr_array_index(all, i));
    }
    return list;
}
