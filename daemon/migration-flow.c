/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-flow.c - what the state of the exchange means
 *
 * Judged anew from a snapshot whenever something happened, so the order in which
 * news of several threads come in does not matter.
 */
#include "daemon/migration-private.h"

#include "daemon/migration-outage.h"
#include "daemon/registry.h"
#include "daemon/uuid.h"

enum { SOURCE_CLOSE_MS = 30 * 1000 };

static Flow fail_flow(GError **error, const char *text)
{
    g_set_error_literal(error, MIGRATION_ERROR, MIGRATION_ERROR_FAILED, text);
    return FLOW_FAILED;
}

/* Without a return path: has all of it been written, not only taken?  Over a link
 * the far daemon judges that, and says so to `finish`. */
static bool is_all_delivered(const Migration *self, const ExchangeSnapshot *now)
{
    return now->main_drained && now->all_sent &&
           ((self->link && self->role == MIGRATION_SOURCE) ||
            now->main_delivered == now->main_in);
}

static Flow judge_snapshot(const Migration *self, const ExchangeSnapshot *now,
                           GError **error)
{
    if (now->shut && now->shut_value != 0 && now->shut_delivered) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                    "destination QEMU reported failure (SHUT %u)",
                    now->shut_value);
        return FLOW_FAILED;
    }
    if (now->shut) {
        return now->shut_delivered ? FLOW_TAKEN_OVER : FLOW_RUNNING;
    }
    if (now->return_ended) {
        return !now->return_path && is_all_delivered(self, now)
               ? FLOW_TAKEN_OVER
               : fail_flow(error, "destination QEMU closed its main channel "
                           "before it took over the guest");
    }
    if (now->main_ended && !now->begun) {
        return fail_flow(error, "source QEMU closed its main channel before "
                         "the migration began");
    }
    if (now->main_ended && now->return_path) {
        return fail_flow(error, "source QEMU closed its main channel before "
                         "the destination took over the guest");
    }
    return FLOW_RUNNING;
}

/*
 * Once, and whenever the failure is first seen: another message may have been
 * judged before the one that says so.
 */
static void note_rejected(Migration *self, const GError *error)
{
    JsonObject *data;
    unsigned channel;
    uint64_t packet;

    if (self->rejected_channel ||
        !exchange_get_rejected(self->exchange, &channel, &packet)) {
        return;
    }
    data = json_object_new();
    self->rejected_channel = g_strdup_printf("%u", channel);
    json_object_set_string_member(data, "id", self->id);
    json_object_set_int_member(data, "channel", channel);
    json_object_set_int_member(data, "packet", packet);
    json_object_set_string_member(data, "message", error->message);
    registry_emit(self->daemon->registry, "PACKET_REJECTED", data);
}

Flow migration_judge_flow(Migration *self, GError **error)
{
    ExchangeSnapshot now;
    GError *failure = exchange_get_error(self->exchange);
    Flow flow;

    exchange_get_snapshot(self->exchange, &now);
    if (failure) {
        note_rejected(self, failure);
        if (now.shut && now.shut_value == 0) {
            g_prefix_error(&failure, "the destination QEMU has taken over the "
                           "guest, but the source could not be told; make sure "
                           "that it does not run there before it is continued "
                           "at the destination: ");
        }
        g_propagate_error(error, failure);
        return FLOW_FAILED;
    }
    flow = judge_snapshot(self, &now, error);
    if (flow == FLOW_TAKEN_OVER) {
        g_mutex_lock(&self->lock);
        self->taken_over = true;
        g_mutex_unlock(&self->lock);
    }
    return flow;
}

/* ---- single messages -------------------------------------------------------------- */

static void note_begin(Migration *self)
{
    ExchangeSnapshot now;
    g_autofree char *uuid = NULL;

    exchange_get_snapshot(self->exchange, &now);
    uuid = uuid_to_string(now.uuid);
    if (!uuid_is_zero(now.uuid)) {
        migration_set_uuid(self, uuid);
    }
    migration_set_state(self, MIGRATION_ACTIVE);
}

/* Said once, when the stream asks for nothing to come back. */
static void judge_no_return_path(Migration *self)
{
    const ConfigTunnel *tunnel = self->kind == MIGRATION_TUNNEL
                                 ? config_find_tunnel(self->config, self->name)
                                 : NULL;

    if (tunnel && tunnel->require_return_path) {
        exchange_fail(self->exchange, g_error_new(
            MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
            "got a stream without a return path, allowed is one with it only "
            "([tunnel %s] require-return-path); switch on capability "
            "return-path", self->name));
        return;
    }
    migration_add_warning(self, "the stream has no return path: its source "
                          "takes for delivered what only we hold, and the "
                          "guest is lost if we die then; switch on capability "
                          "return-path");
}

static void handle_exchange_event(Migration *self, ExchangeEvent event)
{
    switch (event) {
    case EXCHANGE_EVENT_RAMBLOCKS:
    case EXCHANGE_EVENT_DECIDED:
        note_begin(self);
        break;
    case EXCHANGE_EVENT_NO_RETURN_PATH:
        judge_no_return_path(self);
        break;
    case EXCHANGE_EVENT_SWITCHOVER:
        migration_set_state(self, MIGRATION_SWITCHOVER);
        break;
    case EXCHANGE_EVENT_PREEMPT:
        if (self->link && self->role == MIGRATION_SOURCE) {
            link_main_send_event(self->link, "preempt", NULL);
        }
        break;
    case EXCHANGE_EVENT_POSTCOPY:
        migration_set_state(self, MIGRATION_POSTCOPY);
        break;
    default:
        break;
    }
}

/* A guest that is still given to us must move; at the end QEMU may take its
 * time to load devices, and nothing moves. */
static void check_idle(Migration *self)
{
    ExchangeSnapshot now;
    int64_t now_us = g_get_monotonic_time();

    exchange_get_snapshot(self->exchange, &now);
    if (now.activity != self->idle_activity || now.main_drained || now.shut) {
        self->idle_activity = now.activity;
        self->idle_since_us = now_us;
        return;
    }
    if (self->config->timeouts.idle_ms > 0 &&
        now_us - self->idle_since_us > self->config->timeouts.idle_ms * 1000LL) {
        exchange_fail(self->exchange, g_error_new(
            MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
            "no byte on any channel for %u ms, allowed are %u (timeout idle)",
            self->config->timeouts.idle_ms, self->config->timeouts.idle_ms));
    }
}

/* Multifd channels alone are no migration. */
static void check_main(Migration *self)
{
    unsigned limit_ms = self->config->timeouts.first_bytes_ms;
    ExchangeSnapshot now;

    if (self->role == MIGRATION_DESTINATION ||
        g_get_monotonic_time() - self->flow_start_us < limit_ms * 1000LL) {
        return;
    }
    exchange_get_snapshot(self->exchange, &now);
    if (now.main_in == 0) {
        exchange_fail(self->exchange, g_error_new(
            MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
            "got no main channel within %u ms (timeout first-bytes)",
            limit_ms));
    }
}

/* Where QEMU is to listen and to connect for a recovery, as far as is known here. */
static void append_recovery(const Migration *self, GString *text)
{
    const ConfigTunnel *tunnel = self->kind == MIGRATION_TUNNEL
                                 ? config_find_tunnel(self->config, self->name)
                                 : NULL;

    if (self->kind == MIGRATION_MANAGED) {
        g_string_append(text, "`multiferry recover` at the source's daemon "
                        "continues it");
        return;
    }
    g_string_append_printf(
        text, "give `migrate-recover` with uri '%s' at the destination, then "
        "`migrate` with resume and uri '%s' at the source",
        tunnel && tunnel->connect ? tunnel->connect->text
                                  : "where the far end of this tunnel connects",
        tunnel && tunnel->listen ? tunnel->listen->text
                                 : "where the near end of this tunnel listens");
}

static void append_halves(const Migration *self, GError *error)
{
    GString *text = g_string_new(error->message);

    g_string_append(text, ". The guest is in two halves, one at each end: if "
                    "QMP `query-migrate` says postcopy-paused at both, ");
    append_recovery(self, text);
    g_string_append(text, "; if the source QEMU runs it, it has stayed there, "
                    "and the destination is to be ended; if the source says "
                    "cancelled, as 7.2 does after a `migrate_cancel` in "
                    "postcopy, nothing recovers it");
    g_free(error->message);
    error->message = g_string_free(text, FALSE);
}

bool migration_explain_postcopy(Migration *self, GError **error)
{
    ExchangeSnapshot now = { 0 };

    /* Once is enough: over a link the peer may have said it. */
    if (g_error_matches(*error, MIGRATION_ERROR, MIGRATION_ERROR_IN_HALVES)) {
        return true;
    }
    if (self->exchange) {
        exchange_get_snapshot(self->exchange, &now);
    }
    if (!now.postcopy || now.shut) {
        return false;
    }
    append_halves(self, *error);
    if ((*error)->domain == MIGRATION_ERROR) {
        (*error)->code = MIGRATION_ERROR_IN_HALVES;
    }
    return true;
}

void migration_begin_flow(Migration *self)
{
    self->flow_start_us = self->idle_since_us = g_get_monotonic_time();
}

Flow migration_follow(Migration *self, const Message *message, GError **error)
{
    if (message->kind == MESSAGE_CANCEL) {
        migration_set_state(self, MIGRATION_CANCELLING);
        exchange_fail(self->exchange,
                      g_error_new(MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED,
                                  "cancelled by request"));
    } else if (message->kind == MESSAGE_EXCHANGE) {
        handle_exchange_event(self, message->event);
    }
    migration_outage_check(self);
    check_idle(self);
    check_main(self);
    return migration_judge_flow(self, error);
}

void migration_wait_source_closed(Migration *self)
{
    int64_t deadline_us = g_get_monotonic_time() + SOURCE_CLOSE_MS * 1000LL;
    ExchangeSnapshot now;

    exchange_get_snapshot(self->exchange, &now);
    while (!now.main_ended && !g_cancellable_is_cancelled(self->hurry) &&
           g_get_monotonic_time() < deadline_us) {
        g_autoptr(Message) message G_GNUC_UNUSED = migration_wait(self, 100);

        exchange_get_snapshot(self->exchange, &now);
    }
}
