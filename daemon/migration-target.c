/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-target.c - the body at the destination's site
 *
 * Follows the flow, and does meanwhile what the source's daemon asks for on the
 * main lane, one request after the other (migration-target-requests.c).
 */
#include "daemon/migration-target.h"

#include "daemon/link-lane.h"
#include "daemon/migration-link.h"
#include "daemon/migration-outage.h"
#include "daemon/migration-target-private.h"
#include "daemon/registry.h"
#include "daemon/uuid.h"
#include "qmp/message.h"

enum {
    TICK_MS = 200,
    FINISH_MS = 120 * 1000,     /* for the source's side to say `finish`; a peer
                                   that is gone is noticed by its heartbeats */
};

/* ---- events ------------------------------------------------------------------------------ */

/* What is missing or of another type says nothing, and may not mean no or 0. */
static bool check_channels(JsonObject *data, GError **error)
{
    const char *text = qmp_message_get_string(data, "uuid");
    const char *bad = NULL, *allowed = NULL;
    uint8_t uuid[UUID_SIZE];
    bool multifd;
    int64_t count;

    if (!qmp_message_get_bool(data, "multifd", &multifd)) {
        bad = "multifd";
        allowed = "true or false";
    } else if (!qmp_message_get_uint(data, "count", MULTIFD_CHANNELS_MAX,
                                     &count)) {
        bad = "count";
        allowed = "0 to 255";
    } else if (!text || !uuid_from_string(text, uuid)) {
        bad = "uuid";
        allowed = "36 characters as in RFC 4122";
    }
    if (bad) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                    "channels: got no usable '%s', expected %s", bad, allowed);
    }
    return !bad;
}

/* N, and that there is multifd at all: the main stream comes ahead of it. */
static bool handle_channels(MigrationTarget *self, JsonObject *data,
                            GError **error)
{
    uint8_t uuid[UUID_SIZE] = { 0 };
    const char *text = qmp_message_get_string(data, "uuid");
    bool multifd = false;
    int64_t count = 0, page_size;

    qmp_message_get_bool(data, "multifd", &multifd);
    qmp_message_get_uint(data, "count", MULTIFD_CHANNELS_MAX, &count);
    if (text) {
        uuid_from_string(text, uuid);
    }
    if (qmp_message_get_uint(data, "page-size", G_MAXINT64, &page_size) &&
        !exchange_set_page_size(self->migration->exchange, page_size, error)) {
        return false;
    }
    return exchange_decide(self->migration->exchange, multifd, count, uuid,
                           error);
}

static bool handle_event(MigrationTarget *self, const char *name,
                         JsonObject *message, GError **error)
{
    JsonObject *data = qmp_message_get_object(message, "data");

    if (strcmp(name, "abort") == 0 && !self->migration->exchange) {
        g_propagate_error(error, migration_link_abort_error(self->migration,
                                                            message));
        return false;
    }
    /* The source has a preempt channel: the destination needs it too. */
    if (strcmp(name, "preempt") == 0 && self->migration->exchange) {
        exchange_preempt_expect(self->migration->exchange);
    }
    if (strcmp(name, "channels") == 0 && data && self->migration->exchange) {
        return check_channels(data, error) &&
               handle_channels(self, data, error);
    }
    return true;
}

static bool handle_control(MigrationTarget *self, JsonObject *message,
                           GError **error)
{
    const char *execute = qmp_message_get_string(message, "execute");
    const char *event = qmp_message_get_string(message, "event");

    if (execute) {
        migration_target_answer(self, execute, message);
    }
    return !event || handle_event(self, event, message, error);
}

/* ---- the body ------------------------------------------------------------------------------ */

static GError *link_error(Migration *self)
{
    GError *error = link_main_get_error(self->link);

    return error ? error
                 : g_error_new(MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                               "link to %s: the peer closed it",
                               self->peer->name);
}

/* What one message means before there is an exchange: all errors are final. */
static bool handle_early(MigrationTarget *self, const Message *message,
                         GError **error)
{
    if (message->kind == MESSAGE_CANCEL) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED,
                    "cancelled by request");
        return false;
    }
    if (message->kind == MESSAGE_LINK_ENDED) {
        g_propagate_error(error, link_error(self->migration));
        return false;
    }
    return message->kind != MESSAGE_CONTROL ||
           handle_control(self, message->object, error);
}

static bool wait_prepared(MigrationTarget *self, GError **error)
{
    Migration *migration = self->migration;
    int64_t deadline_us = g_get_monotonic_time() +
                          migration->config->timeouts.handshake_ms * 1000LL;

    while (!migration->exchange) {
        g_autoptr(Message) message = migration_wait(migration, TICK_MS);

        if (!handle_early(self, message, error)) {
            return false;
        }
        if (self->prepared && !migration->exchange) {
            g_propagate_prefixed_error(error,
                                       g_steal_pointer(&self->refusal),
                                       "refused peer %s: ",
                                       migration->peer->name);
            return false;
        }
        if (!self->prepared && g_get_monotonic_time() > deadline_us) {
            g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                        "link to %s: got no prepare within %u ms",
                        migration->peer->name,
                        migration->config->timeouts.handshake_ms);
            return false;
        }
    }
    return true;
}

static Flow handle_message(MigrationTarget *self, const Message *message,
                           GError **error)
{
    GError *failure = NULL;

    if (message->kind == MESSAGE_CONTROL &&
        !handle_control(self, message->object, &failure)) {
        exchange_fail(self->migration->exchange, failure);
    }
    self->link_ended |= message->kind == MESSAGE_LINK_ENDED;
    /* The source side says so only once its QEMU has been told: that counts even
     * if the lane ends before its last ACK is seen here. */
    if (self->finished) {
        return FLOW_TAKEN_OVER;
    }
    return migration_follow(self->migration, message, error);
}

/* The source side gives up although the destination has the guest. */
static void note_late_abort(MigrationTarget *self, JsonObject *message)
{
    g_autoptr(GError) reason = NULL;

    if (g_strcmp0(qmp_message_get_string(message, "event"), "abort") == 0 &&
        !self->abort_reason) {
        reason = migration_link_abort_error(self->migration, message);
        self->abort_reason = g_strdup(reason->message);
        self->link_ended = true;
    }
}

/* Time without a link does not count. */
static void check_outage(MigrationTarget *self, int64_t *deadline_us)
{
    LinkMainOutage outage;

    migration_outage_check(self->migration);
    link_main_get_outage(self->migration->link, &outage);
    if (outage.down) {
        *deadline_us = g_get_monotonic_time() + FINISH_MS * 1000LL;
    }
}

/* The destination has the guest; now the source side has something to ask. */
static bool wait_finished(MigrationTarget *self, GError **error)
{
    int64_t deadline_us = g_get_monotonic_time() + FINISH_MS * 1000LL;

    while (!self->finished && !self->link_ended &&
           g_get_monotonic_time() < deadline_us) {
        g_autoptr(Message) message = migration_wait(self->migration, TICK_MS);

        check_outage(self, &deadline_us);
        migration_target_catch_up(self);
        self->link_ended |= message->kind == MESSAGE_LINK_ENDED;
        if (message->kind == MESSAGE_CONTROL) {
            note_late_abort(self, message->object);
            if (!handle_control(self, message->object, error)) {
                return false;
            }
        }
    }
    return self->finished || !self->qemu ||
           target_qemu_check_unfinished(self->qemu, self->abort_reason, error);
}

static bool follow(MigrationTarget *self, GError **error)
{
    Flow flow = FLOW_RUNNING;

    while (flow == FLOW_RUNNING) {
        g_autoptr(Message) message = migration_wait(self->migration, TICK_MS);

        flow = handle_message(self, message, error);
        if (flow != FLOW_FAILED) {
            migration_target_catch_up(self);
        }
    }
    return flow == FLOW_TAKEN_OVER && wait_finished(self, error);
}

static bool run(Migration *migration, void *data, GError **error)
{
    MigrationTarget *self = data;
    GError *failure = NULL;
    ExchangeSnapshot last = { 0 };
    bool in_halves;

    self->migration = migration;
    migration_link_take_main(migration, g_steal_pointer(&self->stream));
    if (!wait_prepared(self, &failure) || !follow(self, &failure)) {
        if (migration->exchange) {
            exchange_get_snapshot(migration->exchange, &last);
        }
        in_halves = migration_explain_postcopy(migration, &failure);
        migration_link_abort(migration, failure, in_halves);
        migration_tear_down(migration);
        if (self->qemu) {
            target_qemu_give_up(self->qemu, last.main_out > 0,
                                last.postcopy);
        }
        g_propagate_error(error, failure);
        return false;
    }
    return true;
}

static void free_target(void *data)
{
    MigrationTarget *self = data;

    stream_free(self->stream);
    target_qemu_free(self->qemu);
    g_clear_error(&self->refusal);
    g_free(self->abort_reason);
    g_free(self);
}

/* ---- its beginning ---------------------------------------------------------------------------- */

bool migration_target_begin(Daemon *daemon, Stream **stream,
                            const LinkHello *hello, Config *config,
                            const ConfigPeer *peer, GError **error)
{
    MigrationTarget *target = g_new0(MigrationTarget, 1);
    MigrationSetup setup = {
        .daemon = daemon,
        .config = config,
        .id = hello->migration,
        .kind = MIGRATION_TUNNEL,
        .role = MIGRATION_DESTINATION,
        .name = hello->migration,
        .peer = peer,
        .body = run,
        .data = target,
        .destroy = free_target,
    };
    g_autoptr(Migration) migration = migration_new(&setup);

    g_strlcpy(migration->far.daemon, hello->daemon, sizeof(migration->far.daemon));
    memcpy(migration->far.instance, hello->instance, sizeof(LinkInstance));
    /* Refuse before the hello is answered, so that the reason gets through. */
    if (!migration_enter(migration, error)) {
        free_target(target);
        return false;
    }
    if (!link_lane_accept(*stream, config->name, daemon->instance,
                          error)) {
        migration_leave(migration);
        free_target(target);
        return false;
    }
    peer_status_note_reached(daemon->peer_status, peer->name);
    target->stream = g_steal_pointer(stream);
    /* Without a thread nobody takes the lane: free it with the target. */
    if (!migration_launch(migration, error)) {
        free_target(target);
        return false;
    }
    return true;
}
