/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/managed-bandwidth.h"

#include "daemon/egress-link.h"
#include "daemon/log.h"

static const char NAME[] = "avail-switchover-bandwidth";
static const double CHANGED = 1.1;      /* times, or less by as much: is told anew */
static const double AT_LIMIT = 0.85;    /* of a limit: it is what holds the rate down */

uint64_t managed_bandwidth_estimate(uint64_t measured, uint64_t wire,
                                    uint64_t limit, uint64_t switchover_limit,
                                    double packing)
{
    double rate = measured;

    /* A line that is not full may carry what the limit will let through then. */
    if (limit > 0 && switchover_limit > limit && wire >= limit * AT_LIMIT) {
        rate *= (double)switchover_limit / limit;
    }
    if (switchover_limit > 0) {
        rate = MIN(rate, switchover_limit * packing);
    }
    return MIN(rate, (double)G_MAXINT64 / 2);
}

/* Pages for each byte on the wire, so far. */
static double get_packing(Migration *migration)
{
    LinkReductionCounts counts;

    return egress_link_get_reduction(migration->egress, &counts) &&
           counts.packed > 0
           ? MAX((double)counts.raw / counts.packed, 1) : 1;
}

static uint64_t get_wire_rate(Migration *migration)
{
    uint64_t rate;

    g_mutex_lock(&migration->lock);
    rate = migration->rate;
    g_mutex_unlock(&migration->lock);
    return rate;
}

static uint64_t estimate(Migration *migration)
{
    uint64_t measured = egress_link_get_rate(migration->egress);

    return measured == 0 ? 0 : managed_bandwidth_estimate(
        measured, get_wire_rate(migration), migration_get_rate_limit(migration),
        migration_get_switchover_rate_limit(migration), get_packing(migration));
}

static bool is_worth_telling(const ManagedBandwidth *self, uint64_t rate)
{
    return rate > 0 && (rate > self->told * CHANGED ||
                        rate * CHANGED < self->told);
}

void managed_bandwidth_step(ManagedBandwidth *self, Migration *migration,
                            QmpClient *client, const QemuInfo *info,
                            QemuSetup *setup, unsigned timeout_ms)
{
    g_autoptr(GError) error = NULL;
    uint64_t rate = self->over || !setup || !migration->egress
                    ? 0 : estimate(migration);

    if (!is_worth_telling(self, rate)) {
        return;
    }
    if (!qemu_setup_change(setup, client, info, NAME, rate, timeout_ms, &error)) {
        if (error) {
            log_debug(NULL, "%s: %s", NAME, error->message);
        }
        self->over = true;
        return;
    }
    log_debug(NULL, "%s: %" G_GUINT64_FORMAT " bytes/s", NAME, rate);
    self->told = rate;
}
