/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-outage.c - how long a migration waits for its link
 *
 * The source's side decides, because it knows where the guest is.  Giving up closes
 * the source QEMU's main channel, and it runs the guest again unless it has read SHUT.
 * That is safe while the destination cannot start the guest: with the safe hand-over
 * until the driver says so, which it does after SHUT; else until the destination may
 * have got the whole stream.  From there until SHUT nobody here can know, and nothing
 * is given up: an operator who has looked at the destination can cancel.
 *
 * The destination's side waits for longer than the source's, so that it does not give
 * up what the other still counts on; but not before anything of the guest has come.
 */
#include "daemon/migration-outage.h"

#include "daemon/egress-link.h"
#include "daemon/registry.h"
#include "daemon/units.h"
#include "qmp/message.h"

enum {
    LONGER_MS = 2000,               /* than the source's side and twice link-dead */
    TOLD_MAX_MS = 24 * 3600 * 1000, /* what a peer may make us wait */
};

void migration_outage_tell(Migration *self, JsonObject *arguments)
{
    json_object_set_int_member(arguments, "outage", self->peer->outage_ms);
    json_object_set_int_member(arguments, "outage-postcopy",
                               self->peer->outage_postcopy_ms);
}

static unsigned learn(JsonObject *arguments, const char *name)
{
    int64_t ms = 0;

    return qmp_message_get_uint(arguments, name, TOLD_MAX_MS, &ms) ? ms : 0;
}

void migration_outage_learn(Migration *self, JsonObject *arguments)
{
    self->told_outage_ms = learn(arguments, "outage");
    self->told_outage_postcopy_ms = learn(arguments, "outage-postcopy");
}

/* ---- how long ---------------------------------------------------------------------- */

static unsigned get_destination_budget(const Migration *self,
                                       const ExchangeSnapshot *now)
{
    unsigned told_ms = now->postcopy ? self->told_outage_postcopy_ms
                                     : self->told_outage_ms;
    unsigned own_ms = now->postcopy ? self->peer->outage_postcopy_ms
                                    : self->peer->outage_ms;
    unsigned ms = told_ms > 0 ? told_ms : own_ms;

    /* Nothing of the guest has come: the source's side had better begin anew, and its
     * QEMU here is free for that. */
    if (now->main_in == 0) {
        return 1;
    }
    return ms + 2 * self->config->timeouts.link_dead_ms + LONGER_MS;
}

/* In postcopy or not, no matter: to say once more that it is over harms nobody. */
unsigned migration_outage_get_far_budget(const Migration *self)
{
    if (!self->peer) {
        return 0;
    }
    return MAX(self->peer->outage_ms, self->peer->outage_postcopy_ms) +
           2 * self->config->timeouts.link_dead_ms + LONGER_MS;
}

/* The whole stream may be at the destination: it is in its last part, which cannot be
 * followed to its end, and no page is here any more. */
static bool may_be_complete(const Migration *self, const ExchangeSnapshot *now)
{
    return (now->opaque || g_atomic_int_get(&self->state) >= MIGRATION_SWITCHOVER) &&
           now->all_sent;
}

static unsigned get_source_budget(const Migration *self,
                                  const ExchangeSnapshot *now)
{
    if (now->shut) {
        return self->peer->outage_ms;
    }
    if (now->postcopy) {
        return self->peer->outage_postcopy_ms;
    }
    if (!self->safe_handover && may_be_complete(self, now)) {
        return LINK_MAIN_FOREVER;
    }
    return g_atomic_int_get(&self->state) == MIGRATION_SWITCHOVER
           ? self->peer->outage_switchover_ms : self->peer->outage_ms;
}

/* Said once: nothing will happen by itself. */
static void warn_stuck(Migration *self, const LinkMainOutage *outage)
{
    if (self->stuck_warned || !outage->down ||
        outage->down_ms < self->peer->outage_switchover_ms) {
        return;
    }
    self->stuck_warned = true;
    migration_add_warning(self, "the link to %s is down, and the destination may "
                          "have the whole guest and run it: nothing is given up. "
                          "Ask the QEMU there with QMP `query-status`: if it runs "
                          "the guest, `quit` the source QEMU; if not, `quit` that "
                          "one and cancel the migration here, so that the guest "
                          "runs on at the source", self->peer->name);
}

/* The main lane is up, and all others are down: that is an outage too. */
static void check_lanes(Migration *self, unsigned budget_ms)
{
    unsigned down_ms;

    if (self->role != MIGRATION_SOURCE || !self->egress) {
        return;
    }
    down_ms = egress_link_get_down_ms(self->egress);
    if (down_ms > 0) {
        self->idle_since_us = g_get_monotonic_time();
    }
    if (down_ms > budget_ms) {
        exchange_fail(self->exchange, g_error_new(
            MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
            "link to %s: no bulk lane for %u ms, allowed are %u (outage budget)",
            self->peer->name, down_ms, budget_ms));
    }
}

void migration_outage_check(Migration *self)
{
    ExchangeSnapshot now;
    LinkMainOutage outage;
    unsigned budget_ms;

    if (!self->link || !self->exchange) {
        return;
    }
    exchange_get_snapshot(self->exchange, &now);
    budget_ms = self->role == MIGRATION_SOURCE
                ? get_source_budget(self, &now)
                : get_destination_budget(self, &now);
    link_main_set_outage_budget(self->link, budget_ms);
    link_main_get_outage(self->link, &outage);
    if (outage.down) {
        self->idle_since_us = g_get_monotonic_time();
    }
    if (budget_ms == LINK_MAIN_FOREVER) {
        warn_stuck(self, &outage);
    }
    check_lanes(self, budget_ms);
}

/* ---- telling ------------------------------------------------------------------------ */

static void emit(Migration *self, const GError *reason, unsigned down_ms)
{
    JsonObject *data = json_object_new();

    json_object_set_string_member(data, "id", self->id);
    json_object_set_string_member(data, "peer", self->peer->name);
    json_object_set_boolean_member(data, "up", reason == NULL);
    if (reason) {
        json_object_set_string_member(data, "reason", reason->message);
    } else {
        json_object_set_int_member(data, "down-ms", down_ms);
    }
    registry_emit(self->daemon->registry, "LINK", data);
}

void migration_outage_note(const GError *reason, unsigned down_ms, void *data)
{
    Migration *self = data;
    LogContext context = migration_log_context(self);

    if (reason) {
        log_warning(&context, "migration %s (%s): the link to %s is down: %s",
                    self->id, self->name, self->peer->name, reason->message);
    } else {
        g_autofree char *time = units_format_time(down_ms);

        log_info(&context, "migration %s (%s): the link to %s is up again, after "
                 "%s", self->id, self->name, self->peer->name, time);
    }
    emit(self, reason, down_ms);
}
