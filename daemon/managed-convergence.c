/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/managed-convergence.h"

#include "daemon/egress-link.h"
#include "daemon/registry.h"
#include "daemon/units.h"

void managed_convergence_init(ManagedConvergence *self,
                              ConvergencePolicy policy, unsigned patience_ms)
{
    *self = (ManagedConvergence) {
        .policy = policy,
        .judge.patience_us = patience_ms * INT64_C(1000),
    };
}

char *managed_convergence_explain(const ManagedConvergence *self)
{
    g_autofree char *written = units_format_rate(self->dirty_rate);
    g_autofree char *left = units_format_rate(self->judge.rate);
    g_autofree char *patience = units_encode_time(
        (unsigned)(self->judge.patience_us / 1000));

    return g_strdup_printf("the guest writes %s and %s leave, for %s and more: "
                           "the migration will not end ([vm] convergence=%s)",
                           written, left, patience,
                           convergence_policy_to_string(self->policy));
}

static void log_verdict(const ManagedConvergence *self, Migration *migration)
{
    LogContext context = migration_log_context(migration);
    g_autofree char *text = managed_convergence_explain(self);

    context.event = LOG_EVENT_MIGRATION_CONVERGENCE;
    if (convergence_is_hopeless(&self->judge)) {
        log_warning(&context, "migration %s (%s): %s", migration->id,
                    migration->name, text);
    } else {
        log_info(&context, "migration %s (%s): its pages leave faster than the "
                 "guest writes, again", migration->id, migration->name);
    }
}

static void emit_verdict(const ManagedConvergence *self, Migration *migration)
{
    JsonObject *data = json_object_new();

    json_object_set_string_member(data, "id", migration->id);
    json_object_set_string_member(data, "vm", migration->name);
    json_object_set_boolean_member(data, "converging",
                                   !convergence_is_hopeless(&self->judge));
    json_object_set_int_member(data, "dirty-rate", self->dirty_rate);
    json_object_set_int_member(data, "rate", self->judge.rate);
    registry_emit(migration->daemon->registry, "MIGRATION_CONVERGENCE", data);
}

static bool is_link_down(const Migration *migration)
{
    LinkMainOutage outage;

    link_main_get_outage(migration->link, &outage);
    return outage.down ||
           (migration->egress && egress_link_get_down_ms(migration->egress) > 0);
}

/* Kept for the views. */
static void show(const ManagedConvergence *self, Migration *migration)
{
    MigrationConvergence now = {
        .policy = self->policy,
        .hopeless = convergence_is_hopeless(&self->judge),
        .dirty_rate = self->dirty_rate,
        .rate = self->judge.rate,
    };

    migration_set_convergence(migration, &now);
}

bool managed_convergence_step(ManagedConvergence *self, Migration *migration,
                              const QemuMigrateStatus *status)
{
    ConvergenceSample sample = {
        .now_us = g_get_monotonic_time(),
        .passes = status->dirty_sync_count,
        .dirty_rate = status->dirty_pages_rate * status->page_size,
        .sent = (status->normal + status->duplicate) * status->page_size,
    };
    bool changed;

    if (is_link_down(migration)) {
        convergence_pause(&self->judge);
        return false;
    }
    self->dirty_rate = sample.dirty_rate;
    changed = convergence_add(&self->judge, &sample);
    show(self, migration);
    if (!changed) {
        return false;
    }
    log_verdict(self, migration);
    emit_verdict(self, migration);
    return convergence_is_hopeless(&self->judge);
}
