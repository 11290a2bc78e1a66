/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/control-peers.h - a peer as query-peers shows it
 */
#ifndef DAEMON_CONTROL_PEERS_H
#define DAEMON_CONTROL_PEERS_H

#include <json-glib/json-glib.h>
#include "daemon/daemon.h"

/* Main thread. */
JsonObject *control_peers_to_json(Daemon *daemon, const ConfigPeer *peer);

#endif
