/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-path.h - the way that a lane takes to its peer, as [peer] has it
 *
 * Path 0 is the peer's address, those after it are its paths.  A lane has a number
 * and a generation, and its paths follow from these: lanes that are made at the same
 * time are spread, and one that is made anew goes another way than before.
 */
#ifndef DAEMON_LINK_PATH_H
#define DAEMON_LINK_PATH_H

#include "daemon/config.h"

/* How many there are. */
unsigned link_path_get_count(const ConfigPeer *peer);
/* Which one a lane takes; more than the count for @turn is as the rest. */
unsigned link_path_choose(const ConfigPeer *peer, unsigned lane, unsigned turn);
/* Lent. */
const Address *link_path_get_address(const ConfigPeer *peer, unsigned path);
/* The local address or interface that it leaves from; NULL: any.  Lent. */
const char *link_path_get_bind(const ConfigPeer *peer, unsigned path);
/* What tells it from the peer's other paths; g_free(). */
char *link_path_to_string(const ConfigPeer *peer, unsigned path);

/* A TCP connection to @peer; as address_connect_by(). */
int link_path_connect(const ConfigPeer *peer, unsigned path, unsigned timeout_ms,
                      GCancellable *cancellable, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* Whether that is a socket for Multipath TCP. */
bool link_path_wants_mptcp(const GPtrArray *peers);
/* The listening socket for lanes of @peers; as address_listen(). */
int link_path_listen(const Address *address, const GPtrArray *peers, int backlog,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What of it holds for a connection that the peer made. */
bool link_path_mark(const ConfigPeer *peer, int fd, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
