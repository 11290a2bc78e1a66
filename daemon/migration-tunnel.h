/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-tunnel.h - carrying what a source QEMU sends to a tunnel
 */
#ifndef DAEMON_MIGRATION_TUNNEL_H
#define DAEMON_MIGRATION_TUNNEL_H

#include "daemon/listener.h"
#include "daemon/migration.h"

/*
 * A migration of @config's @tunnel whose source connects to @listener (lent; lives longer):
 * made, ready for migration_take_arrival(), and started.  NULL: refused.
 */
Migration *migration_tunnel_start(Daemon *daemon, Config *config,
                                  const ConfigTunnel *tunnel,
                                  Listener *listener, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* The egress of a tunnel with `connect`, for both ends of a link. */
bool migration_tunnel_connect(Migration *self, const ConfigTunnel *tunnel,
                              Limiter *limiter, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
