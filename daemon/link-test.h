/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test.h - a link test that was asked for here
 *
 * Over the peer's own paths, with its own marks and, unless told otherwise, limits:
 * what is measured is what a migration would get.  A thread of its own does it.
 */
#ifndef DAEMON_LINK_TEST_H
#define DAEMON_LINK_TEST_H

#include "daemon/daemon.h"

typedef struct LinkTest LinkTest;

typedef struct {
    Config *config;             /* lent; a test takes a reference */
    const ConfigPeer *peer;     /* of it; has an address */
    bool reverse;               /* the peer sends */
    bool ignore_limit;          /* ours for the peer does not hold */
    unsigned lanes_max;         /* 0: as many as make sense */
    unsigned time_ms;           /* for each number of lanes */
    uint64_t rate;              /* bytes/s; 0: no limit of its own */
} LinkTestRequest;

LinkTest *link_test_new(Daemon *daemon, const LinkTestRequest *request);
bool link_test_start(LinkTest *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Joins the thread: cancel it before, unless it is over. */
void link_test_free(LinkTest *self);

/* Any thread. */
const char *link_test_get_id(const LinkTest *self);
const char *link_test_get_peer(const LinkTest *self);
bool link_test_is_over(LinkTest *self);
void link_test_cancel(LinkTest *self, const char *reason);
/* End it if its time is over. */
void link_test_check_time(LinkTest *self);
JsonObject *link_test_to_json(LinkTest *self);

#endif
