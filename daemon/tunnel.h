/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tunnel.h - a listening [tunnel]: one migration after another
 */
#ifndef DAEMON_TUNNEL_H
#define DAEMON_TUNNEL_H

#include "daemon/daemon.h"

typedef struct Tunnel Tunnel;

/* Listens at tunnel->listen, which is set. */
Tunnel *tunnel_new(Daemon *daemon, const ConfigTunnel *tunnel, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* No migration of it may be running any more. */
void tunnel_free(Tunnel *self);

/* Where it listens, port 0 resolved; lent. */
const Address *tunnel_get_address(const Tunnel *self);
const char *tunnel_get_name(const Tunnel *self);

#endif
