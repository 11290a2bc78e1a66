/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/managed-follow.c - what a managed migration does while it runs
 *
 * Step 5: QEMU's events, a look at query-migrate now and then, and what an operator
 * asks for meanwhile.  What any migration does is migration_follow()'s.
 */
#include "daemon/managed-driver.h"

#include "daemon/migration-link.h"
#include "qmp/message.h"

enum {
    TICK_MS = 100,
    POLL_US = 500 * 1000,       /* query-migrate while it runs */
    CANCEL_US = 5 * 1000 * 1000,
};

/* Stopped for the switchover, or paused by an operator or of itself, as by a disk
 * error: the run state tells (RunState in qapi/run-state.json). */
static bool is_switchover(const char *status)
{
    return strcmp(status, "finish-migrate") == 0 ||
           strcmp(status, "postmigrate") == 0;
}

static void note_stop(ManagedDriver *self, int64_t when_us)
{
    g_autofree char *status = NULL;
    bool running;

    if (qemu_query_status(self->client, &running, &status,
                          managed_qmp_ms(self), NULL, NULL) &&
        !is_switchover(status)) {
        self->was_running = running;
        return;
    }
    self->stopped_us = when_us;
    traffic_touch_at(self->migration->traffic, TRAFFIC_STOPPED, when_us);
    migration_set_state(self->migration, MIGRATION_SWITCHOVER);
}

static void note_qmp_event(ManagedDriver *self, const char *name,
                           int64_t when_us)
{
    if (g_strcmp0(name, "STOP") == 0) {
        note_stop(self, when_us);
    } else if (g_strcmp0(name, "MIGRATION") == 0) {
        self->next_poll_us = 0;
    } else if (g_strcmp0(name, "RESUME") == 0) {
        self->stopped_us = 0;
        self->was_running = true;
    } else if (!name) {
        exchange_fail(self->migration->exchange, g_error_new(
            MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
            "vm %s: the source QEMU closed its QMP connection",
            self->vm->name));
    }
}

/* A guest that an operator pauses meanwhile arrives paused, and stays so. */
static void note_run_state(ManagedDriver *self, const char *migrate_status)
{
    g_autofree char *status = NULL;
    bool running;

    if (strcmp(migrate_status, "active") == 0 && self->stopped_us == 0 &&
        qemu_query_status(self->client, &running, &status,
                          managed_qmp_ms(self), NULL, NULL) &&
        (running || strcmp(status, "paused") == 0)) {
        self->was_running = running;
    }
}

static void fail_by_status(ManagedDriver *self, const QemuMigrateStatus *status)
{
    exchange_fail(self->migration->exchange, g_error_new(
        MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
        "vm %s: the source QEMU says %s%s%s", self->vm->name, status->status,
        status->error_desc ? ": " : "",
        status->error_desc ? status->error_desc : ""));
}

const QemuMigrateStatus *managed_follow_poll(ManagedDriver *self)
{
    QemuMigrateStatus *status = qemu_query_migrate(
        self->client, managed_qmp_ms(self), NULL, NULL);

    self->next_poll_us = g_get_monotonic_time() + POLL_US;
    if (status) {
        migration_set_qemu_status(self->migration, status);
    }
    return status;
}

void managed_follow_measure_downtime(ManagedDriver *self)
{
    int64_t now_us = g_get_monotonic_time();
    int64_t half_rtt_us = link_main_get_rtt_us(self->migration->link) / 2;

    if (self->stopped_us > 0) {
        migration_set_downtime(self->migration,
                               (now_us - half_rtt_us - self->stopped_us) / 1000);
    }
}

/*
 * The source never runs the guest again: let it run at the destination.  Its other
 * half follows.  Who recovers says whether it ran.
 */
static void let_run(ManagedDriver *self)
{
    JsonObject *arguments = json_object_new();
    bool start = self->recovering ? self->recover_start : self->was_running;
    g_autoptr(JsonObject) answer = NULL;
    GError *error = NULL;

    json_object_set_boolean_member(arguments, "start", start);
    json_object_set_boolean_member(arguments, "postcopy", TRUE);
    answer = migration_link_ask(self->migration, "resume", arguments, &error);
    if (!answer) {
        exchange_fail(self->migration->exchange, error);
    } else if (start && !self->recovering &&
               g_strcmp0(qmp_message_get_string(answer, "status"),
                         "inmigrate") != 0) {
        managed_follow_measure_downtime(self);
    }
}

/* A resumed migration is paused until QEMU has found its feet again. */
static bool is_ended(const ManagedDriver *self, const char *status)
{
    return strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0 ||
           (!self->recovering && strcmp(status, "postcopy-paused") == 0);
}

/* Asked of QEMU, which knows whether it is too late; what it does then shows. */
static void cancel_source(ManagedDriver *self)
{
    g_autoptr(GError) error = NULL;

    migration_set_state(self->migration, MIGRATION_CANCELLING);
    self->cancelled_us = g_get_monotonic_time();
    if (!qemu_migrate_cancel(self->client, managed_qmp_ms(self), NULL, &error)) {
        exchange_fail(self->migration->exchange, g_error_copy(error));
    }
}

/* While it could still be otherwise. */
static void judge_convergence(ManagedDriver *self,
                              const QemuMigrateStatus *status)
{
    if (strcmp(status->status, "active") != 0 || self->stopped_us > 0 ||
        self->cancelled_us > 0 || self->postcopy.given ||
        !managed_convergence_step(&self->convergence, self->migration,
                                  status)) {
        return;
    }
    if (self->convergence.policy == CONVERGENCE_CANCEL) {
        self->cancel_reason = managed_convergence_explain(&self->convergence);
        cancel_source(self);
    } else if (self->convergence.policy == CONVERGENCE_POSTCOPY) {
        self->postcopy.wanted = true;
    }
}

/* Until the guest is stopped, and QEMU has decided. */
static void tell_bandwidth(ManagedDriver *self, const char *migrate_status)
{
    if (strcmp(migrate_status, "active") == 0 && self->stopped_us == 0) {
        managed_bandwidth_step(&self->bandwidth, self->migration, self->client,
                               self->info, self->setup, managed_qmp_ms(self));
    }
}

static void poll_source(ManagedDriver *self)
{
    const QemuMigrateStatus *status = managed_follow_poll(self);

    if (!status) {
        return;
    }
    note_run_state(self, status->status);
    tell_bandwidth(self, status->status);
    judge_convergence(self, status);
    if (is_ended(self, status->status)) {
        fail_by_status(self, status);
    } else if (managed_postcopy_step(&self->postcopy, self->migration,
                                     self->client, status,
                                     managed_qmp_ms(self))) {
        let_run(self);
    }
}

static Flow handle_message(ManagedDriver *self, const Message *message,
                           GError **error)
{
    switch (message->kind) {
    case MESSAGE_CANCEL:
        cancel_source(self);
        return migration_judge_flow(self->migration, error);
    case MESSAGE_START_POSTCOPY:
        self->postcopy.wanted = true;
        self->next_poll_us = 0;
        break;
    case MESSAGE_EXCHANGE:
        /* The guest stands still until its half may run. */
        if (message->event == EXCHANGE_EVENT_POSTCOPY) {
            self->next_poll_us = 0;
        }
        break;
    case MESSAGE_QMP:
        note_qmp_event(self, message->name, message->received_us);
        break;
    default:
        break;
    }
    return migration_follow(self->migration, message, error);
}

static void check_cancel(ManagedDriver *self)
{
    if (self->cancelled_us > 0 &&
        g_get_monotonic_time() - self->cancelled_us > CANCEL_US) {
        exchange_fail(self->migration->exchange, g_error_new(
            MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED,
            "vm %s: the source QEMU did not end its migration",
            self->vm->name));
    }
}

bool managed_follow(ManagedDriver *self, GError **error)
{
    Flow flow = FLOW_RUNNING;

    migration_begin_flow(self->migration);
    while (flow == FLOW_RUNNING) {
        g_autoptr(Message) message = migration_wait(self->migration, TICK_MS);

        flow = handle_message(self, message, error);
        if (flow == FLOW_RUNNING &&
            g_get_monotonic_time() >= self->next_poll_us) {
            poll_source(self);
            check_cancel(self);
        }
    }
    return flow == FLOW_TAKEN_OVER;
}
