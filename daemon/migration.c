/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration.c - a migration's life: messages, parts, thread, teardown
 */
#include "daemon/migration-private.h"

#include <malloc.h>

#include "daemon/migration-lanes.h"
#include "daemon/migration-link.h"
#include "daemon/registry.h"
#include "daemon/uuid.h"
#include "daemon/worker.h"

enum { LINK_FLUSH_MS = 150 };

G_DEFINE_QUARK(migration-error-quark, migration_error)

/* ---- messages ---------------------------------------------------------------- */

void message_free(Message *self)
{
    if (!self) {
        return;
    }
    g_free(self->name);
    if (self->object) {
        json_object_unref(self->object);
    }
    g_free(self);
}

void migration_post(Migration *self, Message *message)
{
    g_async_queue_push(self->messages, message);
}

Message *migration_wait(Migration *self, unsigned timeout_ms)
{
    Message *message = g_async_queue_timeout_pop(self->messages,
                                                 timeout_ms * 1000ULL);

    if (message && message->kind == MESSAGE_CONTROL) {
        g_atomic_int_dec_and_test(&self->control_waiting);
    }
    return message ? message : g_new0(Message, 1);
}

static void post_exchange_event(Exchange *exchange, ExchangeEvent event,
                                void *data)
{
    Message *message = g_new0(Message, 1);

    (void)exchange;
    message->kind = MESSAGE_EXCHANGE;
    message->event = event;
    migration_post(data, message);
}

/* ---- parts ------------------------------------------------------------------------ */

void migration_create_exchange(Migration *self, ExchangeSetup setup)
{
    Exchange *exchange;

    setup.share = self->memory;
    /* A quarter at least stays for decoders and the like. */
    setup.memory = MIN(setup.memory, self->memory / 4 * 3);
    setup.observer = post_exchange_event;
    setup.observer_data = self;
    setup.traffic = self->traffic;
    setup.recorder = self->recorder;
    setup.cpu = self->cpu;
    exchange = exchange_new(&setup);
    g_mutex_lock(&self->lock);
    self->exchange = exchange;
    g_mutex_unlock(&self->lock);
}

void migration_set_ingress(Migration *self, Ingress *ingress)
{
    g_mutex_lock(&self->lock);
    self->ingress = ingress;
    g_cond_broadcast(&self->prepared);
    g_mutex_unlock(&self->lock);
}

void migration_set_egress(Migration *self, Egress *egress)
{
    g_mutex_lock(&self->lock);
    self->egress = egress;
    g_mutex_unlock(&self->lock);
}

void migration_set_link(Migration *self, LinkMain *link)
{
    g_mutex_lock(&self->lock);
    self->link = link;
    g_mutex_unlock(&self->lock);
}

/*
 * Everybody is told that it is over, then everybody is waited for.  The link
 * goes last of the connections: its reader still acknowledges to the egress.
 */
void migration_tear_down(Migration *self)
{
    JsonObject *final;
    Exchange *exchange;
    Ingress *ingress;
    Egress *egress;
    LinkMain *link;

    if (self->final) {
        return;
    }
    migration_sample_traffic(self);
    final = migration_to_json(self);
    if (self->exchange) {
        exchange_close(self->exchange);
    }
    limiter_close(self->limiter);
    /* The source may run on at once; the destination is ended with care. */
    if (self->link) {
        link_main_flush(self->link, LINK_FLUSH_MS);
        link_main_shutdown(self->link);
        migration_link_leave_word(self);
    }
    ingress_shutdown(self->ingress);
    egress_shutdown(self->egress);

    g_mutex_lock(&self->lock);
    exchange = g_steal_pointer(&self->exchange);
    ingress = g_steal_pointer(&self->ingress);
    egress = g_steal_pointer(&self->egress);
    link = g_steal_pointer(&self->link);
    self->final = final;
    g_cond_broadcast(&self->prepared);
    g_mutex_unlock(&self->lock);

    migration_lanes_free(g_steal_pointer(&self->lanes));
    egress_free(egress);
    ingress_free(ingress);
    link_main_free(link);
    exchange_free(exchange);
    traffic_finish(self->traffic);
    recorder_finish(self->recorder);
}

/* ---- the thread ------------------------------------------------------------------ */

static MigrationState judge_end(bool ok, const GError *error)
{
    if (ok) {
        return MIGRATION_COMPLETED;
    }
    return g_error_matches(error, MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED)
           ? MIGRATION_CANCELLED : MIGRATION_FAILED;
}

/*
 * What a migration had is free by now, and malloc() keeps it: half a megabyte here
 * and there, in the arena of every thread that had some.  After many migrations that
 * would be many times what any of them held.
 */
static void give_memory_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static void *migration_thread(void *data)
{
    Migration *self = data;
    GError *error = NULL;
    MigrationState state;
    bool ok;

    /* What it is for, the far side learns later. */
    if (self->role != MIGRATION_DESTINATION) {
        migration_announce_begin(self);
    }
    ok = self->body(self, self->data, &error);
    state = judge_end(ok, error);

    migration_tear_down(self);
    g_mutex_lock(&self->lock);
    self->end_us = g_get_monotonic_time();
    self->error = error;
    g_atomic_int_set(&self->state, state);
    g_mutex_unlock(&self->lock);

    if (self->destroy) {
        self->destroy(self->data);
    }
    registry_end(self->daemon->registry, self, self->memory);
    if (self->daemon->history) {
        history_add(self->daemon->history, migration_to_json(self));
    }
    /* Only now: who hears it may begin the next one of this VM. */
    migration_announce_end(self, state, error);
    g_mutex_lock(&self->lock);
    self->thread_ended = true;
    g_cond_broadcast(&self->ended);
    g_mutex_unlock(&self->lock);
    migration_unref(self);
    give_memory_back();
    return NULL;
}

bool migration_enter(Migration *self, GError **error)
{
    return registry_add(self->daemon->registry, self, &self->memory, error);
}

void migration_leave(Migration *self)
{
    registry_end(self->daemon->registry, self, self->memory);
}

bool migration_launch(Migration *self, GError **error)
{
    migration_ref(self);
    g_mutex_lock(&self->lock);
    self->thread = worker_new("migration", migration_thread, self, self->cpu,
                              error);
    g_mutex_unlock(&self->lock);
    if (self->thread) {
        return true;
    }
    migration_unref(self);
    migration_leave(self);
    return false;
}

bool migration_start(Migration *self, GError **error)
{
    if (!migration_enter(self, error)) {
        return false;
    }
    return migration_launch(self, error);
}

void migration_join(Migration *self)
{
    GThread *thread;

    g_mutex_lock(&self->lock);
    thread = g_steal_pointer(&self->thread);
    g_mutex_unlock(&self->lock);
    if (thread) {
        g_thread_join(thread);
    }
}

bool migration_wait_ended(Migration *self, unsigned timeout_ms)
{
    int64_t deadline_us = g_get_monotonic_time() + timeout_ms * 1000LL;
    bool ended;

    g_mutex_lock(&self->lock);
    while (!self->thread_ended &&
           g_cond_wait_until(&self->ended, &self->lock, deadline_us)) {
    }
    ended = self->thread_ended;
    g_mutex_unlock(&self->lock);
    return ended;
}

/* ---- life ---------------------------------------------------------------------- */

Recorder *migration_get_recorder(Migration *self)
{
    return self->recorder;
}

const char *migration_get_id(const Migration *self)
{
    return self->id;
}

static void set_id(Migration *self, const char *id)
{
    if (id) {
        g_strlcpy(self->id, id, sizeof(self->id));
    } else {
        uuid_random_hex(self->id);
    }
}

Migration *migration_new(const MigrationSetup *setup)
{
    Migration *self = g_new0(Migration, 1);

    g_atomic_ref_count_init(&self->refs);
    set_id(self, setup->id);
    self->kind = setup->kind;
    self->role = setup->role;
    self->daemon = setup->daemon;
    self->config = setup->config ? config_ref(setup->config)
                                 : daemon_ref_config(setup->daemon);
    self->name = g_strdup(setup->name);
    self->peer = setup->peer;
    self->body = setup->body;
    self->data = setup->data;
    self->destroy = setup->destroy;
    self->limiter = limiter_new(daemon_get_limiter(setup->daemon, setup->peer),
                                setup->rate, setup->weight ? setup->weight : 1);
    self->traffic = traffic_new(true);
    self->recorder = recorder_new();
    self->cpu = cpu_meter_new();
    self->messages = g_async_queue_new_full((GDestroyNotify)message_free);
    self->cancellable = g_cancellable_new();
    self->hurry = g_cancellable_new();
    self->start_us = self->last_sample_us = g_get_monotonic_time();
    self->downtime_ms = -1;
    g_mutex_init(&self->lock);
    g_cond_init(&self->ended);
    g_cond_init(&self->prepared);
    return self;
}

Migration *migration_ref(Migration *self)
{
    g_atomic_ref_count_inc(&self->refs);
    return self;
}

void migration_unref(Migration *self)
{
    if (!self || !g_atomic_ref_count_dec(&self->refs)) {
        return;
    }
    if (self->thread) {
        g_thread_unref(self->thread);
    }
    if (self->final) {
        json_object_unref(self->final);
    }
    qemu_migrate_status_free(self->qemu);
    g_free(self->warning);
    g_clear_error(&self->said);
    g_clear_error(&self->error);
    g_cond_clear(&self->prepared);
    g_cond_clear(&self->ended);
    g_mutex_clear(&self->lock);
    g_object_unref(self->cancellable);
    g_object_unref(self->hurry);
    g_async_queue_unref(self->messages);
    limiter_unref(self->limiter);
    g_free(self->rejected_channel);
    cpu_meter_unref(self->cpu);
    recorder_free(self->recorder);
    traffic_free(self->traffic);
    g_free(self->name);
    config_unref(self->config);
    g_free(self);
}
