/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-server.h - accepts lanes from peers and finds out whose they are
 *
 * Nothing before a finished mutual TLS handshake of a configured peer costs more
 * than a thread and a hello's worth of memory, of which there are at most 64 at
 * once; when there are, accepting pauses.
 */
#ifndef DAEMON_LINK_SERVER_H
#define DAEMON_LINK_SERVER_H

#include "daemon/config.h"
#include "daemon/link-lane.h"

/*
 * An authenticated lane with its hello.  In an intake thread.  Takes *stream (set
 * to NULL) and returns true, after answering the hello with link_lane_accept();
 * or fails, and the refusal is sent and logged by the caller.
 */
typedef bool (*LinkServerHandler)(Stream **stream, const LinkHello *hello,
                                  const ConfigPeer *peer, void *data,
                                  GError **error);

typedef struct {
    const Config *config;   /* lent */
    TlsCredentials *(*get_credentials)(void *data);     /* returns a reference */
    LinkServerHandler handler;
    void *data;
} LinkServerSetup;

typedef struct LinkServer LinkServer;

/* Takes the listening socket. */
LinkServer *link_server_new(int fd, const LinkServerSetup *setup);
void link_server_free(LinkServer *self);

#endif
