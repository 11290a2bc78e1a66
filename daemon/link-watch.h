/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-watch.h - whether another connection would serve a lane better
 *
 * At the source's side, in a thread of its own, which alone waits for what it tries:
 *
 *  - A lane that hears nothing and whose TCP sends again is under suspicion.  If a
 *    connection can be had on its path meanwhile, the path is well and the lane is made
 *    anew: TCP itself may not try again for a long time, or never get through.
 *  - A lane that had to leave its path goes back when that is good again; one that does
 *    not stay there tries more and more seldom.
 *
 * What it tries is a TCP connection that says nothing and is closed.
 */
#ifndef DAEMON_LINK_WATCH_H
#define DAEMON_LINK_WATCH_H

#include <stdbool.h>
#include "daemon/config.h"

typedef struct {
    bool up;
    unsigned path;          /* of the peer's; see link-path.h */
    unsigned stuck_ms;      /* for which TCP has sent in vain; 0: it has not */
    unsigned patience_ms;   /* TCP tries again within that; 0: nobody knows when */
} LinkWatchLane;

#define LINK_WATCH_MAIN (-1)

typedef struct {
    const ConfigPeer *peer;     /* lent */
    /* Bulk lanes are 0 and so on; false: there is none of that number.  All of these
     * are called in the watch's thread, and must not wait. */
    bool (*get_lane)(int lane, LinkWatchLane *ret, void *data);
    /* @home: on its own path; else wherever its turn leads it. */
    void (*remake_lane)(int lane, bool home, void *data);
    /* Whether a lane may pause for a moment now. */
    bool (*may_move)(void *data);
    void *data;
} LinkWatchSetup;

typedef struct LinkWatch LinkWatch;

LinkWatch *link_watch_new(const LinkWatchSetup *setup);
/* Nothing is called any more soon after it.  Any thread, again and again. */
void link_watch_shutdown(LinkWatch *self);
void link_watch_free(LinkWatch *self);

#endif
