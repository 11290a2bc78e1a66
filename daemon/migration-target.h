/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-target.h - the destination side of a migration over a link
 */
#ifndef DAEMON_MIGRATION_TARGET_H
#define DAEMON_MIGRATION_TARGET_H

#include "daemon/link-lane.h"
#include "daemon/migration.h"

/* A migration for a peer's main lane with its hello.  Answers that, takes *stream. */
bool migration_target_begin(Daemon *daemon, Stream **stream,
                            const LinkHello *hello, Config *config,
                            const ConfigPeer *peer, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
