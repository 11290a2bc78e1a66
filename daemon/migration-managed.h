/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-managed.h - the driver: both QEMUs over QMP, from beginning to
 * end (docs/architecture.md, "Managed migrations")
 */
#ifndef DAEMON_MIGRATION_MANAGED_H
#define DAEMON_MIGRATION_MANAGED_H

#include "daemon/migration.h"

typedef struct {
    Config *config;                 /* which the next two are of */
    const ConfigVm *vm;
    const ConfigPeer *peer;
    const char *as;                 /* the VM's name there; NULL: the same */
    unsigned channels;              /* N; 0: the VM's default */
    unsigned lanes;                 /* W; 0: the peer's */
    unsigned destination_channels;  /* K; 0: the far VM's default */
    uint64_t rate;                  /* bytes/s; 0: no limit of its own */
    unsigned weight;                /* 0: the VM's */
    Handover handover;
    unsigned downtime_limit_ms;     /* 0: QEMU's own */
    bool postcopy;                  /* the switch may be asked for */
    bool postcopy_auto;             /* ... and comes after the first pass */
    ConvergencePolicy convergence;
    bool recover;                   /* both QEMUs are postcopy-paused: go on */
    bool start;                     /* with recover: let the guest run there */
} ManagedSetup;

/* Started; all that can fail later is told by state and events.  NULL: refused. */
Migration *migration_managed_start(Daemon *daemon, const ManagedSetup *setup,
                                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
