/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test-server.h - a link test that a peer asked for
 *
 * Does what the peer asks, within bounds that no peer can move: lanes, time, bytes.
 * What is received is dropped; what is sent obeys this daemon's limits for that peer.
 */
#ifndef DAEMON_LINK_TEST_SERVER_H
#define DAEMON_LINK_TEST_SERVER_H

#include "daemon/daemon.h"
#include "daemon/link-lane.h"

typedef struct LinkTestServer LinkTestServer;

/* @peer is of @config.  Until it is started it counts as running. */
LinkTestServer *link_test_server_new(Daemon *daemon, const char *id,
                                     Config *config, const ConfigPeer *peer);
/* Its thread, which takes *@stream, the main lane, hellos done. */
bool link_test_server_start(LinkTestServer *self, Stream **stream,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Joins the thread: shut it before, unless it is over. */
void link_test_server_free(LinkTestServer *self);

/* Any thread. */
const char *link_test_server_get_id(const LinkTestServer *self);
const char *link_test_server_get_peer(const LinkTestServer *self);
bool link_test_server_is_over(LinkTestServer *self);
bool link_test_server_has_lane(LinkTestServer *self, unsigned lane);
/* A bulk lane, hellos done. */
bool link_test_server_put_lane(LinkTestServer *self, unsigned lane,
                               Stream **stream, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void link_test_server_shut(LinkTestServer *self, const GError *reason);
/* End it if its time is over. */
void link_test_server_check_time(LinkTestServer *self);
/* Nothing has been started, and nothing will be. */
void link_test_server_give_up(LinkTestServer *self);

#endif
