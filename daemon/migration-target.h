/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-target.h - the destination side of a migration over a link
 */
#ifndef DAEMON_MIGRATION_TARGET_H
#define DAEMON_MIGRATION_TARGET_H

#include "daemon/link-lane.h"
#include "daemon/migration.h"

/*
 * A peer's lane with its hello, from the link server: a main lane makes a
 * migration, a bulk lane joins one.  Answers the hello, takes *stream.
 */
bool migration_target_take_lane(Daemon *daemon, Stream **stream,
                                const LinkHello *hello, const ConfigPeer *peer,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
