/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration.c - a migration's life: thread, messages, states, teardown
 */
#include "daemon/migration-private.h"

#include "daemon/ingress-link.h"
#include "daemon/ingress-qemu.h"
#include "daemon/registry.h"

enum { LINK_FLUSH_MS = 150 };

G_DEFINE_QUARK(migration-error-quark, migration_error)

static const char *const state_names[] = {
    [MIGRATION_SETUP] = "setup",
    [MIGRATION_ACTIVE] = "active",
    [MIGRATION_SWITCHOVER] = "switchover",
    [MIGRATION_POSTCOPY] = "postcopy",
    [MIGRATION_HANDOVER] = "handover",
    [MIGRATION_CANCELLING] = "cancelling",
    [MIGRATION_COMPLETED] = "completed",
    [MIGRATION_FAILED] = "failed",
    [MIGRATION_CANCELLED] = "cancelled",
};
G_STATIC_ASSERT(G_N_ELEMENTS(state_names) == MIGRATION_CANCELLED + 1);

const char *migration_state_to_string(MigrationState state)
{
    return state_names[state];
}

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

/* ---- states ------------------------------------------------------------------ */

LogContext migration_log_context(const Migration *self)
{
    return (LogContext) {
        .migration = self->id,
        .vm = self->name,
        .uuid = self->uuid[0] ? self->uuid : NULL,
        .peer = self->peer ? self->peer->name : NULL,
        .state = state_names[self->state],
    };
}

static void emit_state(Migration *self, MigrationState state,
                       const GError *error)
{
    JsonObject *data = json_object_new();

    json_object_set_string_member(data, "id", self->id);
    json_object_set_string_member(data, self->kind == MIGRATION_MANAGED
                                  ? "vm" : "tunnel", self->name);
    json_object_set_string_member(data, "state", state_names[state]);
    if (error) {
        json_object_set_string_member(data, "error", error->message);
    }
    registry_emit(self->daemon->registry, "MIGRATION", data);
}

static bool change_state(Migration *self, MigrationState state)
{
    bool changed;

    g_mutex_lock(&self->lock);
    changed = self->state != state && !migration_state_is_final(self->state) &&
              !(self->state == MIGRATION_CANCELLING &&
                !migration_state_is_final(state));
    if (changed) {
        self->state = state;
    }
    g_mutex_unlock(&self->lock);
    return changed;
}

static void log_state(Migration *self, LogEvent event)
{
    LogContext context = migration_log_context(self);

    context.event = event;
    log_info(&context, "migration %s (%s): %s", self->id, self->name,
             context.state);
}

/* While the guest stands still its last pages go before those of others.  Ends
 * with the leaf's limiter too, which every way out closes. */
static void set_pace(Migration *self, MigrationState state)
{
    if (state == MIGRATION_SWITCHOVER && self->role != MIGRATION_DESTINATION) {
        limiter_begin_hurry(self->limiter,
                            self->peer ? self->peer->switchover_rate : 0);
    } else {
        limiter_end_hurry(self->limiter);
    }
}

void migration_set_state(Migration *self, MigrationState state)
{
    if (change_state(self, state)) {
        set_pace(self, state);
        log_state(self, LOG_EVENT_MIGRATION_STATE);
        emit_state(self, state, NULL);
    }
}

void migration_add_warning(Migration *self, const char *format, ...)
{
    LogContext context = migration_log_context(self);
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    context.event = LOG_EVENT_MIGRATION_WARNING;
    log_warning(&context, "migration %s (%s): %s", self->id, self->name, text);

    g_mutex_lock(&self->lock);
    if (self->warning) {
        char *both = g_strconcat(self->warning, "; ", text, NULL);

        g_free(self->warning);
        self->warning = both;
    } else {
        self->warning = g_steal_pointer(&text);
    }
    g_mutex_unlock(&self->lock);
}

void migration_set_name(Migration *self, MigrationKind kind, const char *name)
{
    char *plain = ramblock_name_escape(name, MIN(strlen(name), 64));

    registry_set_name(self->daemon->registry, self, kind, plain);
    g_free(plain);
}

void migration_set_uuid(Migration *self, const char *uuid)
{
    g_mutex_lock(&self->lock);
    g_strlcpy(self->uuid, uuid, sizeof(self->uuid));
    g_mutex_unlock(&self->lock);
}

void migration_set_qemu_status(Migration *self, QemuMigrateStatus *status)
{
    QemuMigrateStatus *old;

    g_mutex_lock(&self->lock);
    old = self->qemu;
    self->qemu = status;
    g_mutex_unlock(&self->lock);
    qemu_migrate_status_free(old);
}

void migration_set_convergence(Migration *self,
                               const MigrationConvergence *convergence)
{
    g_mutex_lock(&self->lock);
    self->judges_convergence = true;
    self->convergence = *convergence;
    g_mutex_unlock(&self->lock);
}

bool migration_is_cancelled(Migration *self)
{
    bool cancelled;

    g_mutex_lock(&self->lock);
    cancelled = self->cancel_asked && !self->taken_over;
    g_mutex_unlock(&self->lock);
    return cancelled;
}

static uint64_t lower_rate(uint64_t a, uint64_t b)
{
    return a == 0 ? b : b == 0 ? a : MIN(a, b);
}

static uint64_t lowest_rate(const Migration *self, uint64_t peer_rate)
{
    uint64_t rate = lower_rate(limiter_get_rate(self->limiter), peer_rate);

    return lower_rate(rate, limiter_get_rate(self->daemon->limiter));
}

uint64_t migration_get_rate_limit(const Migration *self)
{
    return lowest_rate(self, limiter_get_rate(
        daemon_get_limiter(self->daemon, self->peer)));
}

uint64_t migration_get_switchover_rate_limit(const Migration *self)
{
    uint64_t raised = self->peer ? self->peer->switchover_rate : 0;
    uint64_t rate = limiter_get_rate(daemon_get_limiter(self->daemon,
                                                        self->peer));

    if (rate != 0 && raised != 0) {
        rate = raised == LIMITER_UNLIMITED ? 0 : MAX(rate, raised);
    }
    return lowest_rate(self, rate);
}

void migration_set_takes_postcopy(Migration *self, bool takes)
{
    g_mutex_lock(&self->lock);
    self->takes_postcopy = takes;
    g_mutex_unlock(&self->lock);
}

void migration_set_downtime(Migration *self, int64_t downtime_ms)
{
    g_mutex_lock(&self->lock);
    self->downtime_ms = downtime_ms;
    g_mutex_unlock(&self->lock);
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
    exchange = exchange_new(&setup);
    g_mutex_lock(&self->lock);
    self->exchange = exchange;
    g_mutex_unlock(&self->lock);
}

void migration_set_ingress(Migration *self, Ingress *ingress)
{
    g_mutex_lock(&self->lock);
    self->ingress = ingress;
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
    }
    ingress_shutdown(self->ingress);
    egress_shutdown(self->egress);

    g_mutex_lock(&self->lock);
    exchange = g_steal_pointer(&self->exchange);
    ingress = g_steal_pointer(&self->ingress);
    egress = g_steal_pointer(&self->egress);
    link = g_steal_pointer(&self->link);
    self->final = final;
    g_mutex_unlock(&self->lock);

    egress_free(egress);
    ingress_free(ingress);
    link_main_free(link);
    exchange_free(exchange);
    traffic_finish(self->traffic);
    recorder_finish(self->recorder);
}

/* ---- connections from outside --------------------------------------------------- */

bool migration_take_arrival(Migration *self, Arrival *arrival, GError **error)
{
    bool ok = false;

    g_mutex_lock(&self->lock);
    if (self->ingress) {
        ok = ingress_qemu_take(self->ingress, arrival, error);
    } else {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s (%s) is over", self->id, self->name);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

bool migration_may_be_preempt(Migration *self)
{
    bool may_be;

    g_mutex_lock(&self->lock);
    may_be = self->exchange && exchange_preempt_is_possible(self->exchange);
    g_mutex_unlock(&self->lock);
    return may_be;
}

void migration_refuse_connection(Migration *self, const GError *error)
{
    g_mutex_lock(&self->lock);
    if (self->exchange) {
        exchange_refuse_connection(self->exchange, error);
    }
    g_mutex_unlock(&self->lock);
}

static bool check_lane_locked(const Migration *self, unsigned lane,
                              const ConfigPeer *peer, GError **error)
{
    if (peer == self->peer && self->ingress &&
        self->role == MIGRATION_DESTINATION) {
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                "lane %u: no migration %s of this peer takes lanes now",
                lane, self->id);
    return false;
}

bool migration_check_lane(Migration *self, unsigned lane,
                          const ConfigPeer *peer, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_lane_locked(self, lane, peer, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

bool migration_take_lane(Migration *self, Stream **stream, unsigned lane,
                         unsigned generation, const ConfigPeer *peer,
                         GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_lane_locked(self, lane, peer, error) &&
         ingress_link_take(self->ingress, *stream, lane, generation, error);
    if (ok) {
        *stream = NULL;
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

static bool check_main_locked(const Migration *self, const ConfigPeer *peer,
                              GError **error)
{
    if (peer == self->peer && self->role == MIGRATION_DESTINATION && self->link) {
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                "no migration %s of this peer is to be resumed", self->id);
    return false;
}

bool migration_check_main(Migration *self, unsigned generation,
                          const ConfigPeer *peer, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_main_locked(self, peer, error) &&
         link_main_check_take(self->link, generation, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

bool migration_take_main(Migration *self, Stream **stream, unsigned generation,
                         const ConfigPeer *peer, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_main_locked(self, peer, error) &&
         link_main_take(self->link, *stream, generation, error);
    if (ok) {
        *stream = NULL;
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

bool migration_is_accepting(Migration *self)
{
    ExchangeSnapshot now = { .main_ended = true };
    g_autoptr(GError) error = NULL;

    g_mutex_lock(&self->lock);
    if (self->exchange) {
        exchange_get_snapshot(self->exchange, &now);
        error = exchange_get_error(self->exchange);
    }
    g_mutex_unlock(&self->lock);
    return !error && !now.main_ended && !now.return_ended;
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

/* ---- the thread ------------------------------------------------------------------ */

static MigrationState judge_end(bool ok, const GError *error)
{
    if (ok) {
        return MIGRATION_COMPLETED;
    }
    return g_error_matches(error, MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED)
           ? MIGRATION_CANCELLED : MIGRATION_FAILED;
}

static LogEvent judge_event(const Migration *self, MigrationState state)
{
    if (state == MIGRATION_FAILED) {
        return self->rejected_channel ? LOG_EVENT_PACKET_REJECTED
                                      : LOG_EVENT_MIGRATION_FAILED;
    }
    return state == MIGRATION_COMPLETED ? LOG_EVENT_MIGRATION_COMPLETED
                                        : LOG_EVENT_MIGRATION_CANCELLED;
}

static void log_end(Migration *self, MigrationState state, const GError *error)
{
    LogContext context = migration_log_context(self);

    context.event = judge_event(self, state);
    context.channel = self->rejected_channel;
    if (error) {
        log_message(state == MIGRATION_FAILED ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO,
                    &context, "migration %s (%s): %s: %s", self->id,
                    self->name, state_names[state], error->message);
    } else {
        log_state(self, context.event);
    }
}

static void *migration_thread(void *data)
{
    Migration *self = data;
    GError *error = NULL;
    MigrationState state;
    bool ok;

    /* What it is for, the far side learns later. */
    if (self->role != MIGRATION_DESTINATION) {
        log_state(self, LOG_EVENT_MIGRATION_STATE);
    }
    ok = self->body(self, self->data, &error);
    state = judge_end(ok, error);

    migration_tear_down(self);
    g_mutex_lock(&self->lock);
    self->end_us = g_get_monotonic_time();
    self->error = error;
    self->state = state;
    g_mutex_unlock(&self->lock);

    if (self->destroy) {
        self->destroy(self->data);
    }
    registry_end(self->daemon->registry, self, self->memory);
    if (self->daemon->history) {
        history_add(self->daemon->history, migration_to_json(self));
    }
    /* Only now: who hears it may begin the next one of this VM. */
    log_end(self, state, error);
    emit_state(self, state, error);
    g_mutex_lock(&self->lock);
    self->thread_ended = true;
    g_cond_broadcast(&self->ended);
    g_mutex_unlock(&self->lock);
    migration_unref(self);
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
    self->thread = g_thread_try_new("migration", migration_thread, self, error);
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

/* ---- from outside ------------------------------------------------------------------ */

/* Nobody can go back then: neither end has the whole guest. */
static bool is_in_postcopy(Migration *self)
{
    ExchangeSnapshot now = { 0 };

    if (self->exchange) {
        exchange_get_snapshot(self->exchange, &now);
    }
    return now.postcopy && !now.shut;
}

bool migration_cancel(Migration *self, GError **error)
{
    Message *message;
    bool late, setting_up;

    g_mutex_lock(&self->lock);
    if (is_in_postcopy(self)) {
        g_mutex_unlock(&self->lock);
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s (%s): got cancel in postcopy, allowed only "
                    "before it: the guest is at both ends; QMP `migrate-pause` "
                    "at the source QEMU interrupts it", self->id, self->name);
        return false;
    }
    late = self->taken_over || migration_state_is_final(self->state);
    setting_up = self->state == MIGRATION_SETUP;
    self->cancel_asked = self->cancel_asked || !late;
    g_mutex_unlock(&self->lock);
    if (late) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s (%s): got cancel in state '%s', allowed "
                    "until the destination has taken over", self->id,
                    self->name, state_names[migration_get_state(self)]);
        return false;
    }
    message = g_new0(Message, 1);
    message->kind = MESSAGE_CANCEL;
    migration_post(self, message);
    if (setting_up) {
        g_cancellable_cancel(self->cancellable);
    }
    return true;
}

bool migration_start_postcopy(Migration *self, GError **error)
{
    Message *message;
    bool takes;

    g_mutex_lock(&self->lock);
    takes = self->takes_postcopy && !is_in_postcopy(self) &&
            !migration_state_is_final(self->state);
    g_mutex_unlock(&self->lock);
    if (!takes) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s (%s): got migrate-start-postcopy in state "
                    "'%s', allowed only in a managed migration that was begun "
                    "with 'postcopy', at its source, until it is in it",
                    self->id, self->name,
                    state_names[migration_get_state(self)]);
        return false;
    }
    message = g_new0(Message, 1);
    message->kind = MESSAGE_START_POSTCOPY;
    migration_post(self, message);
    return true;
}

static bool check_paced_here(Migration *self, const char *what, GError **error)
{
    MigrationState state = migration_get_state(self);

    if (migration_state_is_final(state)) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s is over: %s", self->id, state_names[state]);
        return false;
    }
    if (self->role == MIGRATION_DESTINATION) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s: its %s is set at the source's daemon, "
                    "peer %s", self->id, what, self->peer->name);
        return false;
    }
    return true;
}

bool migration_set_rate(Migration *self, uint64_t rate_bytes_per_s,
                        GError **error)
{
    if (!check_paced_here(self, "rate", error)) {
        return false;
    }
    limiter_set_rate(self->limiter, rate_bytes_per_s);
    return true;
}

bool migration_set_weight(Migration *self, unsigned weight, GError **error)
{
    if (!check_paced_here(self, "weight", error)) {
        return false;
    }
    limiter_set_weight(self->limiter, weight);
    return true;
}

Recorder *migration_get_recorder(Migration *self)
{
    return self->recorder;
}

const char *migration_get_id(const Migration *self)
{
    return self->id;
}

MigrationState migration_get_state(Migration *self)
{
    MigrationState state;

    g_mutex_lock(&self->lock);
    state = self->state;
    g_mutex_unlock(&self->lock);
    return state;
}

char *migration_describe_end(Migration *self, const ConfigPeer *peer)
{
    char *text = NULL;

    g_mutex_lock(&self->lock);
    if (self->peer == peer && migration_state_is_final(self->state)) {
        text = g_strdup_printf("%s%s%s", state_names[self->state],
                               self->error ? ": " : "",
                               self->error ? self->error->message : "");
    }
    g_mutex_unlock(&self->lock);
    return text;
}

/* ---- life ---------------------------------------------------------------------- */

static void set_id(Migration *self, const char *id)
{
    g_autofree char *uuid = NULL;
    char *out = self->id;

    if (id) {
        g_strlcpy(self->id, id, sizeof(self->id));
        return;
    }
    uuid = g_uuid_string_random();
    for (const char *in = uuid; *in; in++) {
        if (*in != '-') {
            *out++ = *in;
        }
    }
    *out = '\0';
}

Migration *migration_new(const MigrationSetup *setup)
{
    Migration *self = g_new0(Migration, 1);

    g_atomic_ref_count_init(&self->refs);
    set_id(self, setup->id);
    self->kind = setup->kind;
    self->role = setup->role;
    self->daemon = setup->daemon;
    self->config = setup->daemon->config;
    self->name = g_strdup(setup->name);
    self->peer = setup->peer;
    self->body = setup->body;
    self->data = setup->data;
    self->destroy = setup->destroy;
    self->limiter = limiter_new(daemon_get_limiter(setup->daemon, setup->peer),
                                setup->rate, setup->weight ? setup->weight : 1);
    self->traffic = traffic_new(true);
    self->recorder = recorder_new();
    self->messages = g_async_queue_new_full((GDestroyNotify)message_free);
    self->cancellable = g_cancellable_new();
    self->start_us = self->last_sample_us = g_get_monotonic_time();
    self->downtime_ms = -1;
    g_mutex_init(&self->lock);
    g_cond_init(&self->ended);
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
    g_clear_error(&self->error);
    g_cond_clear(&self->ended);
    g_mutex_clear(&self->lock);
    g_object_unref(self->cancellable);
    g_async_queue_unref(self->messages);
    limiter_unref(self->limiter);
    g_free(self->rejected_channel);
    recorder_free(self->recorder);
    traffic_free(self->traffic);
    g_free(self->name);
    g_free(self);
}
