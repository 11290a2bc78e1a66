/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/registry.h"

#include "daemon/migration-private.h"

enum {
    FINISHED_KEPT = 100,
    MEMORY_MIN = 8 * 1024 * 1024,   /* with less a migration cannot run well */
    STOP_MS = 10 * 1000,
    PATIENT_MS = 2 * 1000,          /* of that, for those that are about to end */
};

struct Registry {
    GMainContext *context;      /* of the sink */
    PausedQemus *paused;        /* has its own lock, a leaf */

    GMutex lock;                /* guards all below; a migration's lock may be
                                   taken under it */
    GCond changed;
    Config *config;             /* a reference */
    RegistrySink sink;
    void *sink_data;
    bool stopping;
    uint64_t memory_used;
    GPtrArray *running;         /* owns references */
    GPtrArray *finished;        /* likewise, oldest first */
    Totals *ended;              /* of all that have ended */
    Totals *shown;              /* what the last caller was given */
};

Registry *registry_new(Config *config)
{
    Registry *self = g_new0(Registry, 1);

    self->config = config_ref(config);
    self->context = g_main_context_ref_thread_default();
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    self->running =
        g_ptr_array_new_with_free_func((GDestroyNotify)migration_unref);
    self->paused = paused_qemus_new();
    self->ended = totals_new();
    self->shown = totals_new();
    self->finished =
        g_ptr_array_new_with_free_func((GDestroyNotify)migration_unref);
    return self;
}

void registry_free(Registry *self)
{
    if (!self) {
        return;
    }
    g_ptr_array_unref(self->finished);
    g_ptr_array_unref(self->running);
    paused_qemus_free(self->paused);
    totals_free(self->ended);
    totals_free(self->shown);
    config_unref(self->config);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
    g_main_context_unref(self->context);
    g_free(self);
}

PausedQemus *registry_get_paused(Registry *self)
{
    return self->paused;
}

/* ---- events ---------------------------------------------------------------------- */

typedef struct {
    Registry *registry;
    char *event;
    JsonObject *data;
} Emission;

static gboolean emit_on_main_loop(void *data)
{
    g_autofree Emission *emission = data;
    RegistrySink sink;
    void *sink_data;

    g_mutex_lock(&emission->registry->lock);
    sink = emission->registry->sink;
    sink_data = emission->registry->sink_data;
    g_mutex_unlock(&emission->registry->lock);
    if (sink) {
        sink(emission->event, emission->data, sink_data);
    } else {
        json_object_unref(emission->data);
    }
    g_free(emission->event);
    return G_SOURCE_REMOVE;
}

void registry_set_sink(Registry *self, RegistrySink sink, void *data)
{
    g_mutex_lock(&self->lock);
    self->sink = sink;
    self->sink_data = data;
    g_mutex_unlock(&self->lock);
}

void registry_emit(Registry *self, const char *event, JsonObject *data)
{
    Emission *emission = g_new(Emission, 1);
    GSource *source;

    *emission = (Emission) { self, g_strdup(event), data };
    /* Not g_main_context_invoke(): while nobody runs the loop, at the end, that
     * would call the sink in this thread. */
    source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, emit_on_main_loop, emission, NULL);
    g_source_attach(source, self->context);
    g_source_unref(source);
}

/* ---- entering and leaving ----------------------------------------------------------- */

static bool check_twins(const Registry *self, const Migration *migration,
                        MigrationKind kind, const char *name, GError **error)
{
    for (unsigned i = 0; i < self->running->len; i++) {
        const Migration *other = g_ptr_array_index(self->running, i);

        if (other != migration && other->role == migration->role &&
            (strcmp(other->id, migration->id) == 0 ||
             (other->kind == kind && strcmp(other->name, name) == 0))) {
            g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                        "'%s' has a migration already: %s", other->name,
                        other->id);
            return false;
        }
    }
    return true;
}

static bool check_add(const Registry *self, const Migration *migration,
                      GError **error)
{
    if (self->stopping) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "the daemon is stopping; it takes no new migration");
        return false;
    }
    if (self->running->len >= self->config->max_migrations) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "got one more migration, allowed are %u at once "
                    "(max-migrations)", self->config->max_migrations);
        return false;
    }
    return check_twins(self, migration, migration->kind, migration->name,
                       error);
}

/* The share asked for; when memory runs low, an eighth of what is left. */
static bool grant_memory(Registry *self, uint64_t *ret_memory, GError **error)
{
    uint64_t left = self->config->memory - MIN(self->config->memory,
                                               self->memory_used);
    uint64_t grant = MIN(self->config->migration_memory,
                         MAX(left / 8, (uint64_t)MEMORY_MIN));

    if (left < grant) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "memory: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                    " bytes are in use, a migration needs %d more",
                    self->memory_used, self->config->memory, MEMORY_MIN);
        return false;
    }
    self->memory_used += grant;
    *ret_memory = grant;
    return true;
}

bool registry_add(Registry *self, Migration *migration, uint64_t *ret_memory,
                  GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_add(self, migration, error) &&
         grant_memory(self, ret_memory, error);
    if (ok) {
        g_ptr_array_add(self->running, migration_ref(migration));
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

static void set_name_locked(Migration *migration, MigrationKind kind,
                            const char *name)
{
    g_mutex_lock(&migration->lock);
    migration->kind = kind;
    g_free(migration->name);
    migration->name = g_strdup(name);
    g_mutex_unlock(&migration->lock);
}

void registry_set_name(Registry *self, Migration *migration,
                       MigrationKind kind, const char *name)
{
    g_mutex_lock(&self->lock);
    set_name_locked(migration, kind, name);
    g_mutex_unlock(&self->lock);
}

bool registry_claim(Registry *self, Migration *migration, MigrationKind kind,
                    const char *name, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_twins(self, migration, kind, name, error);
    if (ok) {
        set_name_locked(migration, kind, name);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

/* "tls-error-quark" is "tls". */
static const char *name_of_domain(GQuark domain)
{
    g_auto(GStrv) words = g_strsplit(g_quark_to_string(domain), "-", -1);
    GString *name = g_string_new(NULL);
    g_autofree char *text = NULL;

    for (unsigned i = 0; words[i]; i++) {
        if (strcmp(words[i], "error") != 0 && strcmp(words[i], "quark") != 0) {
            g_string_append_printf(name, "%s%s", name->len ? "-" : "",
                                   words[i]);
        }
    }
    text = g_string_free(name, FALSE);
    return g_intern_string(text);
}

/* With the lock held. */
static void count_end(Registry *self, Migration *migration)
{
    JsonObject *json;

    if (!migration_state_is_final(migration_get_state(migration))) {
        return;     /* it has never begun */
    }
    json = migration_to_json(migration);
    totals_add(self->ended, json);
    json_object_unref(json);
    if (migration->state == MIGRATION_FAILED) {
        totals_add_reason(self->ended, name_of_domain(migration->error->domain));
    }
}

void registry_end(Registry *self, Migration *migration, uint64_t memory)
{
    unsigned index;

    g_mutex_lock(&self->lock);
    self->memory_used -= memory;
    if (g_ptr_array_find(self->running, migration, &index)) {
        count_end(self, migration);
        g_ptr_array_add(self->finished,
                        g_ptr_array_steal_index(self->running, index));
    }
    if (self->finished->len > FINISHED_KEPT) {
        g_ptr_array_remove_index(self->finished, 0);
    }
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
}

/* ---- limits ---------------------------------------------------------------------- */

void registry_set_config(Registry *self, Config *config)
{
    Config *old;

    g_mutex_lock(&self->lock);
    old = self->config;
    self->config = config_ref(config);
    g_mutex_unlock(&self->lock);
    config_unref(old);
}

/* ---- looking ---------------------------------------------------------------------- */

/* The newest; of a daemon that is its own peer, the source side, which paces. */
static Migration *find_in(GPtrArray *list, const char *id, bool names)
{
    Migration *found = NULL;

    for (unsigned i = list->len; i > 0; i--) {
        Migration *migration = g_ptr_array_index(list, i - 1);

        if ((strcmp(migration->id, id) == 0 ||
             (names && strcmp(migration->name, id) == 0)) &&
            (!found || found->role == MIGRATION_DESTINATION)) {
            found = migration;
        }
    }
    return found ? migration_ref(found) : NULL;
}

Migration *registry_find(Registry *self, const char *id_or_name)
{
    Migration *found;

    g_mutex_lock(&self->lock);
    found = find_in(self->running, id_or_name, true);
    if (!found) {
        found = find_in(self->finished, id_or_name, false);
    }
    g_mutex_unlock(&self->lock);
    return found;
}

Migration *registry_find_destination(Registry *self, const char *id)
{
    Migration *found = NULL;

    g_mutex_lock(&self->lock);
    for (unsigned i = 0; i < self->running->len && !found; i++) {
        Migration *migration = g_ptr_array_index(self->running, i);

        if (migration->role == MIGRATION_DESTINATION &&
            strcmp(migration->id, id) == 0) {
            found = migration_ref(migration);
        }
    }
    g_mutex_unlock(&self->lock);
    return found;
}

static void add_references(GPtrArray *to, const GPtrArray *from)
{
    for (unsigned i = 0; i < from->len; i++) {
        g_ptr_array_add(to, migration_ref(g_ptr_array_index(from, i)));
    }
}

static GPtrArray *list(Registry *self, bool finished)
{
    GPtrArray *all =
        g_ptr_array_new_with_free_func((GDestroyNotify)migration_unref);

    g_mutex_lock(&self->lock);
    if (finished) {
        add_references(all, self->finished);
    }
    add_references(all, self->running);
    g_mutex_unlock(&self->lock);
    return all;
}

GPtrArray *registry_list(Registry *self)
{
    return list(self, true);
}

Totals *registry_get_totals(Registry *self)
{
    Totals *totals;

    g_mutex_lock(&self->lock);
    totals = totals_copy(self->ended);
    for (unsigned i = 0; i < self->running->len; i++) {
        JsonObject *json =
            migration_to_json(g_ptr_array_index(self->running, i));

        /* One that has just ended is not to be counted as that twice. */
        json_object_set_string_member(json, "state", "");
        totals_add(totals, json);
        json_object_unref(json);
    }
    totals_keep_growing(totals, self->shown);
    totals_free(self->shown);
    self->shown = totals_copy(totals);
    g_mutex_unlock(&self->lock);
    return totals;
}

uint64_t registry_get_memory(Registry *self)
{
    uint64_t memory;

    g_mutex_lock(&self->lock);
    memory = self->memory_used;
    g_mutex_unlock(&self->lock);
    return memory;
}

unsigned registry_count_running(Registry *self)
{
    unsigned n;

    g_mutex_lock(&self->lock);
    n = self->running->len;
    g_mutex_unlock(&self->lock);
    return n;
}

unsigned registry_count_of_peer(Registry *self, const ConfigPeer *peer)
{
    unsigned n = 0;

    g_mutex_lock(&self->lock);
    for (unsigned i = 0; i < self->running->len; i++) {
        const Migration *migration = g_ptr_array_index(self->running, i);

        n += migration_has_peer(migration, peer);
    }
    g_mutex_unlock(&self->lock);
    return n;
}

/* ---- time and end ------------------------------------------------------------------ */

static void expire_recordings(Registry *self)
{
    g_autoptr(GPtrArray) all = list(self, true);

    for (unsigned i = 0; i < all->len; i++) {
        recorder_expire(migration_get_recorder(g_ptr_array_index(all, i)));
    }
}

void registry_tick(Registry *self)
{
    g_autoptr(GPtrArray) running = list(self, false);

    expire_recordings(self);
    paused_qemus_drop_gone(self->paused);

    for (unsigned i = 0; i < running->len; i++) {
        Migration *migration = g_ptr_array_index(running, i);

        migration_sample_rate(migration);
        registry_emit(self, "MIGRATION_PROGRESS", migration_to_json(migration));
    }
}

void registry_refuse(Registry *self)
{
    g_mutex_lock(&self->lock);
    self->stopping = true;
    g_mutex_unlock(&self->lock);
}

/* Until none is running, or so long. */
static void wait_for_none(Registry *self, unsigned timeout_ms)
{
    int64_t deadline_us = g_get_monotonic_time() + timeout_ms * 1000LL;

    g_mutex_lock(&self->lock);
    while (self->running->len > 0 &&
           g_cond_wait_until(&self->changed, &self->lock, deadline_us)) {
    }
    g_mutex_unlock(&self->lock);
}

void registry_stop(Registry *self)
{
    g_autoptr(GPtrArray) running = NULL;

    registry_refuse(self);
    running = list(self, false);
    for (unsigned i = 0; i < running->len; i++) {
        g_autoptr(GError) late = NULL;

        if (!migration_cancel(g_ptr_array_index(running, i), &late)) {
            continue;   /* it is about to complete */
        }
    }
    wait_for_none(self, PATIENT_MS);
    for (unsigned i = 0; i < running->len; i++) {
        migration_hurry(g_ptr_array_index(running, i));
    }
    wait_for_none(self, STOP_MS - PATIENT_MS);
}

void registry_join(Registry *self)
{
    g_autoptr(GPtrArray) all = list(self, true);

    for (unsigned i = 0; i < all->len; i++) {
        migration_join(g_ptr_array_index(all, i));
    }
    g_mutex_lock(&self->lock);
    g_ptr_array_set_size(self->finished, 0);
    g_mutex_unlock(&self->lock);
}
