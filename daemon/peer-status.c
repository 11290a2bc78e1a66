/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/peer-status.h"

typedef struct {
    gint64 contact_us;          /* monotonic; 0: never */
    char *error;                /* of the last try, or a lane that broke since;
                                   NULL: neither */
    unsigned lanes;             /* of a path: that are up */
} Entry;

struct PeerStatus {
    GMutex lock;                /* guards the table; a leaf */
    GHashTable *entries;        /* name -> Entry; of a path, PEER, '\n', PATH */
};

typedef struct {
    PeerStatus *status;
    char *key;
} Lane;

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

static char *make_key(const char *peer, const char *path)
{
    return g_strconcat(peer, "\n", path, NULL);
}

/* With the lock held. */
static Entry *get_entry(PeerStatus *self, const char *key)
{
    Entry *entry = g_hash_table_lookup(self->entries, key);

    if (!entry) {
        entry = g_new0(Entry, 1);
        g_hash_table_insert(self->entries, g_strdup(key), entry);
    }
    return entry;
}

static void note(PeerStatus *self, const char *key, const GError *error,
                 unsigned lanes)
{
    Entry *entry;

    g_mutex_lock(&self->lock);
    entry = get_entry(self, key);
    if (!error) {
        entry->contact_us = g_get_monotonic_time();
    }
    g_free(entry->error);
    entry->error = error ? g_strdup(error->message) : NULL;
    entry->lanes += lanes;
    g_mutex_unlock(&self->lock);
}

void peer_status_note_reached(PeerStatus *self, const char *peer)
{
    note(self, peer, NULL, 0);
}

void peer_status_note_failed(PeerStatus *self, const char *peer,
                             const GError *error)
{
    note(self, peer, error, 0);
}

void peer_status_note_path_failed(PeerStatus *self, const char *peer,
                                  const char *path, const GError *error)
{
    g_autofree char *key = make_key(peer, path);

    note(self, key, error, 0);
}

static void end_lane(const GError *broken, void *data)
{
    Lane *lane = data;
    Entry *entry;

    g_mutex_lock(&lane->status->lock);
    entry = get_entry(lane->status, lane->key);
    entry->lanes--;
    if (broken) {
        g_free(entry->error);
        entry->error = g_strdup(broken->message);
    }
    g_mutex_unlock(&lane->status->lock);
    g_free(lane->key);
    g_free(lane);
}

void peer_status_note_lane(PeerStatus *self, const char *peer, const char *path,
                           Stream *stream)
{
    Lane *lane = g_new(Lane, 1);

    *lane = (Lane) { self, make_key(peer, path) };
    note(self, lane->key, NULL, 1);
    stream_set_end_handler(stream, end_lane, lane);
}

/* With the lock held. */
static void entry_to_json(const Entry *entry, JsonObject *object)
{
    json_object_set_boolean_member(object, "reachable",
                                   entry->lanes > 0 || !entry->error);
    if (entry->contact_us > 0) {
        json_object_set_int_member(object, "last-contact-ms",
            (g_get_monotonic_time() - entry->contact_us) / 1000);
    }
    if (entry->error) {
        json_object_set_string_member(object, "last-error", entry->error);
    }
}

void peer_status_add_to_json(PeerStatus *self, const char *peer,
                             JsonObject *object)
{
    const Entry *entry;

    g_mutex_lock(&self->lock);
    entry = g_hash_table_lookup(self->entries, peer);
    if (entry) {
        entry_to_json(entry, object);
    }
    g_mutex_unlock(&self->lock);
}

void peer_status_add_path_to_json(PeerStatus *self, const char *peer,
                                  const char *path, JsonObject *object)
{
    g_autofree char *key = make_key(peer, path);
    const Entry *entry;

    g_mutex_lock(&self->lock);
    entry = g_hash_table_lookup(self->entries, key);
    json_object_set_int_member(object, "lanes", entry ? entry->lanes : 0);
    if (entry) {
        entry_to_json(entry, object);
    }
    g_mutex_unlock(&self->lock);
}
