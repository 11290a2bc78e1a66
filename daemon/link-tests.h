/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-tests.h - the daemon's link tests: those asked for here, which run or
 * have ended lately, and those that peers asked for
 *
 * One test at a time with a peer, whoever asked for it.
 */
#ifndef DAEMON_LINK_TESTS_H
#define DAEMON_LINK_TESTS_H

#include "daemon/daemon.h"
#include "daemon/link-lane.h"
#include "daemon/link-test.h"

/* Main thread; @daemon is lent. */
LinkTests *link_tests_new(Daemon *daemon);
/* Cancel all, wait for their threads and take no more.  No lane comes any more. */
void link_tests_stop(LinkTests *self);
void link_tests_free(LinkTests *self);

/* Main thread.  Its id, g_free(). */
char *link_tests_start(LinkTests *self, const LinkTestRequest *request,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* By id, or by the peer's name while it runs.  QMP_CLASS_DEVICE_NOT_FOUND. */
bool link_tests_cancel(LinkTests *self, const char *id, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Those asked for here, oldest first; @id: one only, or all (NULL). */
JsonArray *link_tests_to_json(LinkTests *self, const char *id, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* As LinkServerHandler: a lane of a test that a peer asked for. */
bool link_tests_take_lane(LinkTests *self, Stream **stream,
                          const LinkHello *hello, Config *config,
                          const ConfigPeer *peer, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
