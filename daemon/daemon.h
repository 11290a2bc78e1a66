/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/daemon.h - what all migrations of one daemon share
 *
 * Made by main(), constant while migrations run; every part that changes has a
 * lock of its own, or is under the one here.
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
typedef struct LinkTests LinkTests;

typedef struct {
    Credentials *credentials;
    Registry *registry;
    PeerStatus *peer_status;
    LastWords *last_words;
    LinkInstance instance;          /* of this life of the daemon */
    LinkTests *link_tests;
    History *history;               /* NULL: none is kept */
    int64_t start_us;               /* real time */
    Limiter *limiter;               /* the root: all WAN legs together */

    GMutex lock;                    /* guards all below; limiters' come under it */
    Config *config;                 /* a reference; see daemon_ref_config() */
    GHashTable *peer_limiters;      /* peer name -> Limiter; only grows */
} Daemon;

/* @config becomes that of the daemon, and the limiters those that it wants. */
void daemon_init(Daemon *self, Config *config);
void daemon_clear(Daemon *self);

/*
 * The configuration as it is now; a reference.  The next call may give another
 * one: take it once for what belongs together, and keep it meanwhile.
 */
Config *daemon_ref_config(Daemon *self);
/* Main thread.  From now on it is @config.  Limiters whose rate or weight is
 * another one than before get it; the others keep what they were set to. */
void daemon_set_config(Daemon *self, Config *config);

/* Limiter of a peer, or the root for NULL; lent.  A peer that is not configured
 * any more keeps its own, for the migrations that it still has. */
Limiter *daemon_get_limiter(Daemon *self, const ConfigPeer *peer);

/* What @config asks for of the credentials, and of nothing else. */
void daemon_want_credentials(Daemon *self, const Config *config);
/* Credentials of the link; a reference. */
TlsCredentials *daemon_get_link_credentials(const Daemon *self,
                                            const Config *config,
                                            GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Credentials of a tunnel's QEMU leg, that of its @listen or of its connect; a
 * reference.  QEMU legs are not rekeyed by us: GnuTLS does so after 2^24 records,
 * and a QEMU before 10.2 has no lock for that on its main channel. */
TlsCredentials *daemon_get_tunnel_credentials(const Daemon *self,
                                              const Config *config,
                                              const ConfigTunnel *tunnel,
                                              bool listen, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
