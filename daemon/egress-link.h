/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-link.h - sends a migration's packets to a peer over W bulk lanes
 *
 * One lane at a time is the dispatcher: it takes the next packet from the
 * exchange (as outbound channel 0), waits for window, gives it the next frame
 * number, and only then lets the next lane do so; the writing itself is
 * parallel.  So numbers and window follow the order of epochs, and a frame that
 * the peer needs can never wait for window behind frames of a later epoch.
 */
#ifndef DAEMON_EGRESS_LINK_H
#define DAEMON_EGRESS_LINK_H

#include "daemon/egress.h"
#include "daemon/exchange.h"
#include "daemon/limiter.h"
#include "daemon/link-main.h"

typedef struct {
    Exchange *exchange;     /* lent */
    LinkMain *main;         /* lent; its ack handler is taken */
    GPtrArray *lanes;       /* of Stream, hellos done; taken */
    uint64_t window;        /* bytes, granted by the peer */
    Limiter *limiter;       /* NULL: none; a reference is taken */
} EgressLinkSetup;

/*
 * Starts the lanes.  Once the exchange has decided, before the first frame, it
 * sends the `channels` event (multifd, count, uuid, page-size).  What breaks a
 * lane fails the exchange.
 */
Egress *egress_link_new(const EgressLinkSetup *setup);

typedef struct {
    uint64_t frames, bytes;     /* written; bytes of payload */
} EgressLinkLane;
/* At most @max entries; returns how many lanes there are. */
unsigned egress_link_get_lanes(Egress *egress, EgressLinkLane *ret, unsigned max);
/* Bytes not yet acknowledged. */
uint64_t egress_link_get_in_flight(Egress *egress);

#endif
