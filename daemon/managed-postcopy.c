/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/managed-postcopy.h"

#include <string.h>

/*
 * A pass that is complete: QEMU counts the sync before the first one, 11.1 even
 * twice.  In the middle of the first pass 11.1 with multifd loses writes of the
 * guest when it switches, without us too.
 */
enum { FIRST_PASS_SYNCS = 3 };

static bool is_time(const ManagedPostcopy *self,
                    const QemuMigrateStatus *status)
{
    bool passed = status->dirty_sync_count >= FIRST_PASS_SYNCS;

    return self->allowed && !self->given && !self->refused &&
           strcmp(status->status, "active") == 0 &&
           ((self->automatic && passed) ||
            (self->wanted && (passed || !self->multifd)));
}

static void start(ManagedPostcopy *self, Migration *migration,
                  QmpClient *client, unsigned timeout_ms)
{
    g_autoptr(GError) error = NULL;

    if (qemu_start_postcopy(client, timeout_ms, NULL, &error)) {
        self->given = true;
        return;
    }
    self->refused = true;
    migration_add_warning(migration, "postcopy could not be started: %s",
                          error->message);
}

static bool is_committed(Migration *migration, const QemuMigrateStatus *status)
{
    ExchangeSnapshot now;

    exchange_get_snapshot(migration->exchange, &now);
    return now.postcopy_sent &&
           (strcmp(status->status, "postcopy-active") == 0 ||
            strcmp(status->status, "completed") == 0);
}

bool managed_postcopy_step(ManagedPostcopy *self, Migration *migration,
                           QmpClient *client, const QemuMigrateStatus *status,
                           unsigned timeout_ms)
{
    if (is_time(self, status)) {
        start(self, migration, client, timeout_ms);
    }
    if (self->committed || !is_committed(migration, status)) {
        return false;
    }
    self->committed = true;
    return true;
}
