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
 * An authenticated lane with its hello, and the peer of this configuration that it is.  In an intake thread.  Takes *stream (set
 * to NULL) and returns true, after answering the hello with link_lane_accept();
 * or fails, and the refusal is sent and logged by the caller.
 */
typedef bool (*LinkServerHandler)(Stream **stream, const LinkHello *hello,
                                  Config *config, const ConfigPeer *peer,
                                  void *data, GError **error);

typedef struct {
    /* A reference to the configuration by which a connection is judged that has
     * said @hello; NULL: it has said nothing yet. */
    Config *(*get_config)(const LinkHello *hello, void *data);
    TlsCredentials *(*get_credentials)(void *data);     /* returns a reference */
    LinkServerHandler handler;
    void *data;
} LinkServerSetup;

typedef struct LinkServer LinkServer;

/* Takes the listening socket. */
LinkServer *link_server_new(int fd, const LinkServerSetup *setup);
/* For those who connect from now on. */
void link_server_set_handshake(LinkServer *self, unsigned handshake_ms);
void link_server_free(LinkServer *self);

#endif
