/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-path.h - the way that a lane takes to its peer, as [peer] has it
 */
#ifndef DAEMON_LINK_PATH_H
#define DAEMON_LINK_PATH_H

#include "daemon/config.h"

/* A TCP connection to @peer; as address_connect_by(). */
int link_path_connect(const ConfigPeer *peer, unsigned timeout_ms,
                      GCancellable *cancellable, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* The listening socket for lanes of @peers; as address_listen(). */
int link_path_listen(const Address *address, const GPtrArray *peers, int backlog,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What of it holds for a connection that the peer made. */
bool link_path_mark(const ConfigPeer *peer, int fd, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
