/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/paused-qemus.h - what is kept of QEMUs that are postcopy-paused
 *
 * Their migration has ended, and another one may recover it.  Thread-safe.
 */
#ifndef DAEMON_PAUSED_QEMUS_H
#define DAEMON_PAUSED_QEMUS_H

#include "daemon/migration.h"
#include "daemon/qemu.h"

typedef struct PausedQemus PausedQemus;

/* Each may be NULL. */
typedef struct {
    QmpClient *client;      /* of a destination: a new session could not be
                               negotiated while its main loop stands still */
    QemuSetup *setup;       /* what is to be put back when it has ended */
} PausedQemu;

PausedQemus *paused_qemus_new(void);
void paused_qemus_free(PausedQemus *self);

/* Takes what is in @kept, by the VM's name. */
void paused_qemus_keep(PausedQemus *self, const char *vm, MigrationRole role,
                       PausedQemu kept);
/* The caller's. */
PausedQemu paused_qemus_take(PausedQemus *self, const char *vm,
                             MigrationRole role);
/* Now and then: forget those that have ended their session.  There is nothing to
 * recover. */
void paused_qemus_drop_gone(PausedQemus *self);

#endif
