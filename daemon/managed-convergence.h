/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/managed-convergence.h - says that a managed migration will not end
 *
 * Gives daemon/convergence.h what the source QEMU says, and tells the verdict:
 * log, event, query-migrations.  What is done about it is the driver's.
 *
 * Of the migration's thread alone.
 */
#ifndef DAEMON_MANAGED_CONVERGENCE_H
#define DAEMON_MANAGED_CONVERGENCE_H

#include "daemon/migration-private.h"

typedef struct {
    ConvergencePolicy policy;
    Convergence judge;
    uint64_t dirty_rate;        /* bytes/s, of the last step */
} ManagedConvergence;

void managed_convergence_init(ManagedConvergence *self,
                              ConvergencePolicy policy, unsigned patience_ms);

/*
 * Look at what the source QEMU says; while the link is down that means nothing.
 * True: from now on the verdict is that it will not end.
 */
bool managed_convergence_step(ManagedConvergence *self, Migration *migration,
                              const QemuMigrateStatus *status);
/* Both rates, for a message.  g_free(). */
char *managed_convergence_explain(const ManagedConvergence *self);

#endif
