/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/daemon.h - what all migrations of one daemon share
 *
 * Made by main(), constant while migrations run; every part that changes has a
 * lock of its own.
 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include "daemon/config.h"
#include "daemon/credentials.h"
#include "daemon/history.h"
#include "daemon/limiter.h"
#include "daemon/link-instance.h"
#include "daemon/peer-status.h"

typedef struct Registry Registry;
typedef struct LastWords LastWords;

typedef struct {
    const Config *config;
    Credentials *credentials;
    Registry *registry;
    PeerStatus *peer_status;
    LastWords *last_words;
    LinkInstance instance;          /* of this life of the daemon */
    History *history;               /* NULL: none is kept */
    int64_t start_us;               /* real time */
    Limiter *limiter;               /* the root: all WAN legs together */
    GHashTable *peer_limiters;      /* peer name -> Limiter; constant */
} Daemon;

/* Limiter of a peer, or the root for NULL; lent. */
Limiter *daemon_get_limiter(const Daemon *self, const ConfigPeer *peer);

/* Credentials of the link; a reference. */
TlsCredentials *daemon_get_link_credentials(const Daemon *self, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Credentials of a tunnel's QEMU leg, that of its @listen or of its connect; a
 * reference.  QEMU legs are not rekeyed by us: GnuTLS does so after 2^24 records,
 * and a QEMU before 10.2 has no lock for that on its main channel. */
TlsCredentials *daemon_get_tunnel_credentials(const Daemon *self,
                                              const ConfigTunnel *tunnel,
                                              bool listen, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
