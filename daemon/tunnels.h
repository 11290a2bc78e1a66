/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tunnels.h - the listening tunnels of the daemon, as its configuration says
 *
 * Main thread.
 */
#ifndef DAEMON_TUNNELS_H
#define DAEMON_TUNNELS_H

#include "daemon/tunnel.h"

typedef struct Tunnels Tunnels;

/* None yet. */
Tunnels *tunnels_new(Daemon *daemon);
/* No migration may be running any more. */
void tunnels_free(Tunnels *self);

/*
 * Make ready what @config has and we have not: sockets, credentials.  All that can
 * be refused is refused here, and nothing changes for anybody.  Then one of the two
 * below.
 */
bool tunnels_prepare(Tunnels *self, Config *config, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void tunnels_apply(Tunnels *self);
void tunnels_abandon(Tunnels *self);

/* Of (Tunnel *), those that take migrations; lent, and always the same array. */
const GPtrArray *tunnels_list(const Tunnels *self);

#endif
