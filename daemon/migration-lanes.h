/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-lanes.h - the bulk lanes that a migration begins with
 *
 * Source side, in the migration's thread.  They connect, all at once and in threads
 * of their own, while the peer prepares: a handshake takes several round trips.
 */
#ifndef DAEMON_MIGRATION_LANES_H
#define DAEMON_MIGRATION_LANES_H

#include "daemon/link-lane.h"
#include "daemon/migration-private.h"

/* Fill in who says it, and of what. */
void migration_lanes_introduce(const Migration *migration, LinkHello *hello);
/* Connect one lane as @hello says, which is filled in like that. */
Stream *migration_lanes_connect(Migration *migration, LinkHello hello,
                                const ConfigTimeouts *timeouts,
                                GCancellable *cancellable,
                                LinkAnswer *ret_answer, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* @lanes: how many, or CONFIG_LANES_AUTO.  The main lane is up. */
MigrationLanes *migration_lanes_begin(Migration *migration, unsigned lanes);
/* How many that is to begin with. */
unsigned migration_lanes_get_first(const Migration *migration, unsigned lanes);

/*
 * Once the peer has prepared: wait for them.  Where a lane did not come there is NULL,
 * and if none did all are tried once more.  *ret_generation: of all of them.
 */
GPtrArray *migration_lanes_finish(MigrationLanes *self, unsigned *ret_generation,
                                  GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Cancels what still connects. */
void migration_lanes_free(MigrationLanes *self);

#endif
