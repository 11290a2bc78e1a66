/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/peer-status.h"

typedef struct {
    gint64 contact_us;          /* monotonic; 0: never */
    char *error;                /* of the last try; NULL: it went well */
} Entry;

struct PeerStatus {
    GMutex lock;                /* guards the table; a leaf */
    GHashTable *entries;        /* name -> Entry */
};

static void free_entry(void *data)
{
    Entry *entry = data;

    g_free(entry->error);
    g_free(entry);
}

PeerStatus *peer_status_new(void)
{
    PeerStatus *self = g_new0(PeerStatus, 1);

    g_mutex_init(&self->lock);
    self->entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                          free_entry);
    return self;
}

void peer_status_free(PeerStatus *self)
{
    if (self) {
        g_hash_table_unref(self->entries);
        g_mutex_clear(&self->lock);
        g_free(self);
    }
}

/* With the lock held. */
static Entry *get_entry(PeerStatus *self, const char *peer)
{
    Entry *entry = g_hash_table_lookup(self->entries, peer);

    if (!entry) {
        entry = g_new0(Entry, 1);
        g_hash_table_insert(self->entries, g_strdup(peer), entry);
    }
    return entry;
}

void peer_status_note_reached(PeerStatus *self, const char *peer)
{
    Entry *entry;

    g_mutex_lock(&self->lock);
    entry = get_entry(self, peer);
    entry->contact_us = g_get_monotonic_time();
    g_clear_pointer(&entry->error, g_free);
    g_mutex_unlock(&self->lock);
}

void peer_status_note_failed(PeerStatus *self, const char *peer,
                             const GError *error)
{
    Entry *entry;

    g_mutex_lock(&self->lock);
    entry = get_entry(self, peer);
    g_free(entry->error);
    entry->error = g_strdup(error->message);
    g_mutex_unlock(&self->lock);
}

void peer_status_add_to_json(PeerStatus *self, const char *peer,
                             JsonObject *object)
{
    const Entry *entry;

    g_mutex_lock(&self->lock);
    entry = g_hash_table_lookup(self->entries, peer);
    if (entry) {
        json_object_set_boolean_member(object, "reachable", !entry->error);
        if (entry->contact_us > 0) {
            json_object_set_int_member(object, "last-contact-ms",
                (g_get_monotonic_time() - entry->contact_us) / 1000);
        }
        if (entry->error) {
            json_object_set_string_member(object, "last-error", entry->error);
        }
    }
    g_mutex_unlock(&self->lock);
}
