/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/target-qemu.h - the destination QEMU of a managed migration
 *
 * All calls come from the migration's thread.
 */
#ifndef DAEMON_TARGET_QEMU_H
#define DAEMON_TARGET_QEMU_H

#include "daemon/migration-private.h"

typedef struct TargetQemu TargetQemu;

/*
 * What `prepare` of a managed migration asks for: find the VM, claim it, inspect
 * and compare, set capabilities and parameters.  *ret_channels: K.  Of a recovery:
 * find and claim only, for a QEMU that is postcopy-paused may not answer.
 */
TargetQemu *target_qemu_prepare(Migration *migration, JsonObject *args,
                                unsigned *ret_channels, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* What the QEMU is and how it was set, for the peer: into the answer to prepare. */
void target_qemu_describe(TargetQemu *self, JsonObject *answer);
/* Keep it from starting by itself (safe), let it listen, make the egress. */
bool target_qemu_open(TargetQemu *self, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Start the guest if @start, or see that it runs (fast).  The answer to `resume`: in
 * @postcopy it may say that the guest is still to be loaded, and will run then. */
JsonObject *target_qemu_resume(TargetQemu *self, bool start, bool postcopy,
                               GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void target_qemu_put_back(TargetQemu *self);
/* The source side went silent, or gave up for @reason (NULL: silent), after the
 * destination took over: true if the guest
 * is known to run here, else an error that says how to go on. */
bool target_qemu_check_unfinished(TargetQemu *self, const char *reason,
                                  GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* It failed, everything is torn down: put back what can be.  @begun: the
 * destination was sent something; @postcopy: to run the guest, too. */
void target_qemu_give_up(TargetQemu *self, bool begun, bool postcopy);
void target_qemu_free(TargetQemu *self);

#endif
