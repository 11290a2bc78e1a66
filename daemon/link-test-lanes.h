/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test-lanes.h - the streams of a link test, at either end
 *
 * Held from when they are there until the test is over, so that anybody may end it at
 * any time by shutting them.  Thread-safe.
 */
#ifndef DAEMON_LINK_TEST_LANES_H
#define DAEMON_LINK_TEST_LANES_H

#include <gio/gio.h>
#include "daemon/stream.h"
#include "wire/link-frame.h"

/* No more bytes than these may come in all in one test; nor may it take longer. */
#define LINK_TEST_BYTES_MAX (UINT64_C(1) << 40)
enum {
    LINK_TEST_TOTAL_MAX_MS = 300 * 1000,
    LINK_TEST_TIME_MIN_MS = 300,        /* of one load */
    LINK_TEST_TIME_MAX_MS = 30 * 1000,
    LINK_TEST_SILENCE_MS = 20 * 1000,   /* of a lane that should say something */
};

typedef struct {
    GCancellable *cancellable;      /* constant; cancelled when shut */

    GMutex lock;                    /* guards all below; a leaf */
    GCond changed;
    Stream *main;
    Stream *bulk[LINK_LANES_MAX];
    GError *reason;                 /* why they are shut; NULL: they are not */
} LinkTestLanes;

void link_test_lanes_init(LinkTestLanes *self);
/* Nobody uses the streams any more: let go of them. */
void link_test_lanes_close(LinkTestLanes *self);
void link_test_lanes_clear(LinkTestLanes *self);

/* Takes *@stream (sets it to NULL).  An error when there is one already, or they
 * are shut. */
bool link_test_lanes_put_main(LinkTestLanes *self, Stream **stream,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool link_test_lanes_put(LinkTestLanes *self, unsigned lane, Stream **stream,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool link_test_lanes_has(LinkTestLanes *self, unsigned lane);
/* Lent: lanes 0 to @n - 1.  Waits so long for them: a lane's hello is answered
 * before it is put, and who got the answer may say at once what it is for. */
bool link_test_lanes_get(LinkTestLanes *self, unsigned n, unsigned timeout_ms,
                         Stream **ret, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* End everything; the first @reason (copied) counts. */
void link_test_lanes_shut(LinkTestLanes *self, const GError *reason);
/* A copy of that reason; NULL: they are not shut. */
GError *link_test_lanes_get_reason(LinkTestLanes *self);

#endif
