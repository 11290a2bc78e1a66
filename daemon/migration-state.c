/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-state.c - what a migration is now, and telling it
 *
 * Its state goes to the journal and to the control socket's clients; what else is
 * known of it is kept under its lock, for whoever looks.
 */
#include "daemon/migration-private.h"

#include "daemon/registry.h"

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

bool migration_has_peer(const Migration *self, const ConfigPeer *peer)
{
    return self->peer && strcmp(self->peer->name, peer->name) == 0;
}

LogContext migration_log_context(const Migration *self)
{
    return (LogContext) {
        .migration = self->id,
        .vm = self->name,
        .uuid = g_atomic_int_get(&self->uuid_known) ? self->uuid : NULL,
        .peer = self->peer ? self->peer->name : NULL,
        .state = state_names[g_atomic_int_get(&self->state)],
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
        g_atomic_int_set(&self->state, state);
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

void migration_announce_begin(Migration *self)
{
    log_state(self, LOG_EVENT_MIGRATION_STATE);
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
    g_atomic_int_set(&self->uuid_known, true);
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
    if (migration_has_peer(self, peer) && migration_state_is_final(self->state)) {
        text = g_strdup_printf("%s%s%s", state_names[self->state],
                               self->error ? ": " : "",
                               self->error ? self->error->message : "");
    }
    g_mutex_unlock(&self->lock);
    return text;
}

/* ---- the end -------------------------------------------------------------------- */

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

void migration_announce_end(Migration *self, MigrationState state,
                            const GError *error)
{
    log_end(self, state, error);
    emit_state(self, state, error);
}
