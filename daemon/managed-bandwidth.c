/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/managed-bandwidth.h"

#include "daemon/egress-link.h"
#include "daemon/log.h"

static const char NAME[] = "avail-switchover-bandwidth";
static const double CHANGED = 1.1;      /* times, or less by as much: is told anew */
static const int64_t LOOK_US = 200 * 1000;      /* at least, between two looks */
static const uint64_t BUSY_MIN = 512 * 1024;    /* a frame is under way */
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

/* The best rate of late is not what the last pages will have, on a line that loses
 * some; and what goes while the source has nothing more says nothing. */
void managed_bandwidth_look(ManagedBandwidth *self, uint64_t handed_on,
                            uint64_t in_flight, int64_t now_us)
{
    bool busy = in_flight >= BUSY_MIN;
    int64_t passed_us = now_us - self->looked_us;

    if (self->looked_us != 0 && passed_us < LOOK_US) {
        return;
    }
    if (self->looked_us != 0 && self->busy && busy) {
        uint64_t rate = (handed_on - self->handed_on) * 1e6 / passed_us;

        self->average = self->average > 0 ? self->average / 2 + rate / 2 : rate;
    }
    self->handed_on = handed_on;
    self->looked_us = now_us;
    self->busy = busy;
}

static uint64_t estimate(ManagedBandwidth *self, Migration *migration)
{
    managed_bandwidth_look(self, egress_link_get_handed_on(migration->egress),
                           egress_link_get_in_flight(migration->egress),
                           g_get_monotonic_time());
    return self->average == 0 ? 0 : managed_bandwidth_estimate(
        self->average, get_wire_rate(migration),
        migration_get_rate_limit(migration),
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
                    ? 0 : estimate(self, migration);

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
