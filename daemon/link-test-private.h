/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon/link-test-private.h - what a link test is, for link-test*.c alone */
#ifndef DAEMON_LINK_TEST_PRIVATE_H
#define DAEMON_LINK_TEST_PRIVATE_H

#include "daemon/link-lane.h"
#include "daemon/link-test-lanes.h"
#include "daemon/link-test-result.h"
#include "daemon/link-test-talk.h"
#include "daemon/link-test.h"

typedef enum {
    LINK_TEST_CONNECTING,
    LINK_TEST_IDLE,
    LINK_TEST_LOAD,
    LINK_TEST_COMPLETED,
    LINK_TEST_FAILED,
    LINK_TEST_CANCELLED,
} LinkTestState;

struct LinkTest {
    Daemon *daemon;                 /* these are constant */
    LinkTestRequest request;
    char id[LINK_MIGRATION_ID_LEN + 1];
    char *peer_name;
    unsigned configured_lanes;      /* 0: auto, ... */
    unsigned configured_max;        /* ... up to so many */
    unsigned link_dead_ms, total_ms;
    bool sends;                     /* we do */
    int64_t begin_us, deadline_us;
    GThread *thread;                /* NULL: was not started */
    LinkTestLanes lanes;            /* has its own lock */
    gint cancelled;                 /* atomic; only goes from 0 to 1 */

    LinkTestTalk talk;              /* of the thread alone */

    GMutex lock;                    /* guards all below; a leaf */
    LinkTestState state;
    unsigned lanes_now;             /* in LINK_TEST_LOAD */
    int64_t end_us;                 /* 0: not yet */
    GError *error;
    LinkTestResult result;          /* only the thread changes it */
};

/* @lanes: of LINK_TEST_LOAD.  Takes @error. */
void link_test_set_state(LinkTest *self, LinkTestState state, unsigned lanes,
                         GError *error);

/* How many numbers of lanes are tried. */
unsigned link_test_count_steps(unsigned lanes_max);
/* Connect, and find out; in the thread (link-test-measure.c). */
bool link_test_measure(LinkTest *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
