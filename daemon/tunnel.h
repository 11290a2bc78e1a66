/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tunnel.h - a listening [tunnel]: one migration after another
 *
 * daemon/tunnels.h has all of them, and what a reload does to them.  Main thread.
 */
#ifndef DAEMON_TUNNEL_H
#define DAEMON_TUNNEL_H

#include "daemon/daemon.h"

typedef struct Tunnel Tunnel;

/* What tunnel->listen, which is set, and tunnel->connect need is there. */
bool tunnel_check(Daemon *daemon, const Config *config,
                  const ConfigTunnel *tunnel, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/*
 * Bound to tunnel->listen, or takes @fd, which is; -1: none.  @tunnel is of
 * @config, and has been checked.  Nobody is let in before tunnel_start().
 */
Tunnel *tunnel_new(Daemon *daemon, Config *config, const ConfigTunnel *tunnel,
                   int fd, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void tunnel_start(Tunnel *self);
/* No migration of it may be running any more. */
void tunnel_free(Tunnel *self);

/* It has the address at which @tunnel is to listen. */
bool tunnel_listens_for(const Tunnel *self, const ConfigTunnel *tunnel);
/* It need not listen anew to be @tunnel of @config. */
bool tunnel_can_become(const Tunnel *self, const Config *config,
                       const ConfigTunnel *tunnel);
/* From its next migration on it is. */
void tunnel_become(Tunnel *self, Config *config, const ConfigTunnel *tunnel);
/* Let in nobody any more but the connections of the migration that runs. */
void tunnel_retire(Tunnel *self);
/* No migration of it runs.  Once it is retired that stays so. */
bool tunnel_is_idle(Tunnel *self);
/* The listening socket, for another one at the same address; only tunnel_free()
 * may follow. */
int tunnel_take_socket(Tunnel *self);

/* Where it listens, port 0 resolved; lent. */
const Address *tunnel_get_address(const Tunnel *self);
const char *tunnel_get_name(const Tunnel *self);

#endif
