/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/managed-end.c - the ways out of a managed migration
 *
 * Steps 6 to 8: the hand-over, and what it set is put back; or where the guest is,
 * after a failure.
 */
#include "daemon/managed-driver.h"

#include "daemon/migration-link.h"
#include "daemon/registry.h"
#include "qmp/error.h"

enum {
    SETTLE_MS = 15 * 1000,      /* for QEMU to reach a final state */
    RESTORE_MS = 3000,
};

/* ---- 6, 7: hand over ------------------------------------------------------------------------------- */

/* QEMU says completed a moment before it leaves the guest for good. */
static bool wait_postmigrate(ManagedDriver *self, int64_t deadline_us)
{
    g_autofree char *status = NULL;
    bool running, asked;

    do {
        g_autoptr(GError) error = NULL;

        g_clear_pointer(&status, g_free);
        asked = qemu_query_status(self->client, &running, &status,
                                  managed_qmp_ms(self), NULL, &error);
        if (asked && strcmp(status, "postmigrate") == 0) {
            return true;
        }
        if (g_error_matches(error, QMP_ERROR, QMP_ERROR_DISCONNECTED)) {
            return false;
        }
        g_usleep(asked ? 1000 : 10 * 1000);
    } while (g_get_monotonic_time() < deadline_us);
    return false;
}

/* Until the source QEMU has ended its migration, one way or the other. */
static bool wait_source_settled(ManagedDriver *self, GError **error)
{
    int64_t deadline_us = g_get_monotonic_time() + SETTLE_MS * 1000LL;
    const QemuMigrateStatus *status = managed_follow_poll(self);
    bool connected = true;

    while (connected && g_get_monotonic_time() < deadline_us &&
           (!status || qemu_migrate_status_is_active(status->status))) {
        g_autoptr(Message) message = migration_wait(self->migration, 10);

        connected = message->kind != MESSAGE_QMP || message->name;
        status = managed_follow_poll(self);
    }
    if (status && strcmp(status->status, "completed") == 0 &&
        wait_postmigrate(self, deadline_us)) {
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                "the destination has the whole guest, but the source QEMU says "
                "%s. The guest at the destination is left paused: `quit` it "
                "there if QMP `query-status` at the source says running; start "
                "it there with `cont` only if the source says postmigrate or is "
                "gone for good", status ? status->status
                                        : "nothing over QMP any more");
    return false;
}

bool managed_end_hand_over(ManagedDriver *self, GError **error)
{
    JsonObject *arguments = json_object_new();

    migration_set_state(self->migration, MIGRATION_HANDOVER);
    if (!wait_source_settled(self, error)) {
        json_object_unref(arguments);
        return false;
    }
    if (self->postcopy.committed) {
        json_object_unref(arguments);
        return true;        /* it runs there already */
    }
    json_object_set_boolean_member(arguments, "start", self->was_running);
    traffic_mark(self->migration->traffic, TRAFFIC_RESUME);
    if (!migration_link_call(self->migration, "resume", arguments, NULL,
                             error)) {
        g_prefix_error(error, "the guest has left the source (postmigrate) and "
                       "is complete at the destination; ask the QEMU there with "
                       "QMP `query-status` and, if it is paused, start it there "
                       "with `cont`, never at the source: ");
        return false;
    }
    traffic_mark(self->migration->traffic, TRAFFIC_RESUMED);
    if (self->was_running) {
        managed_follow_measure_downtime(self);
    }
    return true;
}

/* ---- 8: put back ------------------------------------------------------------------------------------- */

static void put_back(ManagedDriver *self)
{
    g_autofree char *warning = NULL;

    if (self->setup) {
        warning = qemu_restore(self->client, self->setup, managed_qmp_ms(self),
                               RESTORE_MS, NULL);
        g_clear_pointer(&self->setup, qemu_setup_free);
    }
    if (warning) {
        migration_add_warning(self->migration, "source QEMU: %s", warning);
    }
}

void managed_end_finish(ManagedDriver *self)
{
    g_autoptr(GError) error = NULL;

    if (!migration_link_call(self->migration, "finish", NULL,
                             self->migration->hurry, &error)) {
        migration_add_warning(self->migration, "%s", error->message);
    }
    put_back(self);
}

static bool is_paused(const QemuMigrateStatus *status)
{
    return status && strcmp(status->status, "postcopy-paused") == 0;
}

/* The last that it says, once it has ended its migration or paused; NULL: nothing. */
static const QemuMigrateStatus *wait_ended(ManagedDriver *self)
{
    int64_t deadline_us = g_get_monotonic_time() + SETTLE_MS * 1000LL;
    const QemuMigrateStatus *status = managed_follow_poll(self);

    while (status && qemu_migrate_status_is_active(status->status) &&
           !is_paused(status) && g_get_monotonic_time() < deadline_us) {
        g_usleep(10 * 1000);
        status = managed_follow_poll(self);
    }
    return status;
}

/* A QEMU that is paused goes on with what is set, once it is recovered. */
static void put_back_or_keep(ManagedDriver *self, const QemuMigrateStatus *status)
{
    if (!is_paused(status) && (status || !self->recovering)) {
        put_back(self);
        return;
    }
    paused_qemus_keep(registry_get_paused(self->migration->daemon->registry),
                      self->vm->name, MIGRATION_SOURCE, (PausedQemu) {
                          .setup = g_steal_pointer(&self->setup),
                      });
}

/* Where the guest is, after a failure before the destination took over. */
static void report_source(ManagedDriver *self, GError **error)
{
    g_autofree char *status = NULL;
    char *text;
    bool running;

    if (!self->client ||
        !qemu_query_status(self->client, &running, &status,
                           managed_qmp_ms(self), NULL, NULL)) {
        return;
    }
    text = g_strdup_printf("%s (run state of the source QEMU: %s)",
                           (*error)->message, status);
    g_free((*error)->message);
    (*error)->message = text;
}

void managed_end_give_up(ManagedDriver *self, GError **error)
{
    Migration *migration = self->migration;
    const QemuMigrateStatus *status = NULL;
    bool in_halves;

    if (migration_is_cancelled(migration)) {
        g_clear_error(error);
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED,
                    "cancelled by request");
    } else if (self->cancel_reason && !migration->taken_over) {
        g_clear_error(error);
        g_set_error_literal(error, MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED,
                            self->cancel_reason);
    }
    in_halves = migration_explain_postcopy(migration, error);
    migration_link_abort(migration, *error, in_halves);
    migration_tear_down(migration);
    if (self->client && self->migrate_given) {
        status = wait_ended(self);
    }
    put_back_or_keep(self, status);
    if (!migration->taken_over && !is_paused(status)) {
        report_source(self, error);
    }
}
