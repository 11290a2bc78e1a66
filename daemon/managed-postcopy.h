/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/managed-postcopy.h - when a managed migration switches to postcopy, and
 * when the guest may run at the destination
 *
 * The second question is the one that matters: a source QEMU that has begun the
 * switch may still go back to its guest.  It never does once it has sent the PING
 * behind the package and says postcopy-active (QEMU migration/migration.c,
 * postcopy_start; 7.2 says postcopy-active long before that, so neither of the two
 * is enough).
 *
 * Of the migration's thread alone; @migration, @client and @vm are lent.
 */
#ifndef DAEMON_MANAGED_POSTCOPY_H
#define DAEMON_MANAGED_POSTCOPY_H

#include "daemon/migration-private.h"

typedef struct {
    bool allowed;               /* the capability is on, at both ends */
    bool automatic;             /* after the first pass, without being asked */
    bool multifd;
    bool wanted;                /* migrate-start-postcopy was asked for */
    bool given;                 /* to the source QEMU */
    bool committed;             /* the source never runs the guest again */
    bool refused;               /* QEMU did not want it; said once */
} ManagedPostcopy;

/*
 * Look at what the source QEMU says, and give it migrate-start-postcopy when it
 * is time.  True, once: it is committed, let the guest run at the destination.
 */
bool managed_postcopy_step(ManagedPostcopy *self, Migration *migration,
                           QmpClient *client, const QemuMigrateStatus *status,
                           unsigned timeout_ms);

#endif
