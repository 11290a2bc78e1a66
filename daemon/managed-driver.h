/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/managed-driver.h - the driver of a managed migration, for its own files
 *
 * migration-managed.c begins it, managed-follow.c goes with what runs, managed-end.c
 * has the ways out.  All of it is of the migration's thread alone.
 */
#ifndef DAEMON_MANAGED_DRIVER_H
#define DAEMON_MANAGED_DRIVER_H

#include "daemon/listener.h"
#include "daemon/managed-bandwidth.h"
#include "daemon/managed-convergence.h"
#include "daemon/managed-postcopy.h"
#include "daemon/migration-link.h"

typedef struct {
    Migration *migration;
    const ConfigVm *vm;
    char *as;
    unsigned channels, lanes, destination_channels;
    unsigned downtime_limit_ms;
    Handover handover;
    ManagedPostcopy postcopy;
    ManagedConvergence convergence;
    ManagedBandwidth bandwidth;
    bool recovering, recover_start;

    QmpClient *client;
    QemuInfo *info;
    LinkGrant grant;            /* the peer's answer to prepare */
    QemuSetup *setup;           /* what to put back; NULL: nothing */
    Listener *listener;
    char *socket_path;
    bool migrate_given;
    int64_t cancelled_us;       /* migrate_cancel was given; 0: not */
    char *cancel_reason;        /* our own; NULL: by request */
    bool preempt;               /* postcopy's, at both ends */
    bool legacy_zero_pages;     /* the destination is older than 9.0 */
    bool was_running;           /* the guest, when it was stopped for good */
    int64_t stopped_us;         /* monotonic; 0: not yet */
    int64_t next_poll_us;
} ManagedDriver;

static inline unsigned managed_qmp_ms(const ManagedDriver *self)
{
    return self->migration->config->timeouts.qmp_ms;
}

/* ---- what runs (managed-follow.c) -------------------------------------------- */

/* Until the destination has taken over: true; or it has failed. */
bool managed_follow(ManagedDriver *self, GError **error);
/* The last that QEMU says, also kept for the views; NULL when it does not answer. */
const QemuMigrateStatus *managed_follow_poll(ManagedDriver *self);
/* It runs at the destination from now on. */
void managed_follow_measure_downtime(ManagedDriver *self);

/* ---- the ways out (managed-end.c) --------------------------------------------- */

/* The source has settled: let the guest run at the destination, unless it does. */
bool managed_end_hand_over(ManagedDriver *self, GError **error);
/* After it: nothing more is needed at either end. */
void managed_end_finish(ManagedDriver *self);
/* It failed: tell the peer, end everything, and say in @error where the guest is. */
void managed_end_give_up(ManagedDriver *self, GError **error);

#endif
