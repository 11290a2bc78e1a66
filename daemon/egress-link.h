/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-link.h - sends a migration's packets to a peer over W bulk lanes
 *
 * A dispatcher takes the next packet from the exchange (as outbound channel 0),
 * waits for window and gives it the next frame number; lanes write, in parallel.
 * So numbers and window follow the order of epochs, and a frame that the peer
 * needs can never wait for window behind frames of a later epoch.
 *
 * A lane that breaks is connected anew; the others send meanwhile what it had.
 * Where more lanes carry more, there will be more.
 */
#ifndef DAEMON_EGRESS_LINK_H
#define DAEMON_EGRESS_LINK_H

#include "daemon/config.h"
#include "daemon/egress.h"
#include "daemon/exchange.h"
#include "daemon/limiter.h"
#include "daemon/link-main.h"
#include "daemon/link-reducer.h"

/* How pages are packed on the link. */
typedef struct {
    bool packed;                /* at all */
    bool fixed;                 /* at that level, always */
    int level;                  /* of zstd; if not fixed, the highest */
    uint64_t history;           /* bytes of pages that both ends keep; 0: none */
} LinkPacking;

/* Connect lane @lane anew and say its generation.  In the lane's thread; short, or
 * until @cancellable is cancelled. */
typedef Stream *(*EgressLinkConnect)(unsigned lane, unsigned generation,
                                     GCancellable *cancellable, void *data,
                                     GError **error);

typedef struct {
    Exchange *exchange;     /* lent */
    LinkMain *main;         /* lent; its ack handler is taken */
    GPtrArray *lanes;       /* of Stream, hellos done; taken.  NULL among them: is
                               connected later */
    unsigned generation;    /* of these */
    unsigned lanes_max;     /* more are added while it pays; 0: none */
    /* Bytes, granted by the peer, and no more than we can keep. */
    uint64_t window;
    Limiter *limiter;       /* NULL: none; a reference is taken */
    EgressLinkConnect connect;  /* NULL: what breaks a lane fails the exchange */
    void *connect_data;
    LinkPacking packing;        /* as both ends agreed */
    const ConfigPeer *peer;     /* lent; NULL: lanes stay as they are until they break */
} EgressLinkSetup;

/*
 * Starts the lanes.  Once the exchange has decided, before the first frame, it
 * sends the `channels` event (multifd, count, uuid, page-size).
 */
Egress *egress_link_new(const EgressLinkSetup *setup);

enum { EGRESS_LINK_ADDRESS_SIZE = 80 };

typedef struct {
    uint64_t frames, bytes;     /* written for the first time; bytes of payload */
    uint64_t resent;            /* frames that were written again */
    bool up;
    unsigned down_ms;           /* for how long it is not */
    unsigned resumes;           /* times that it was connected anew */
    char address[EGRESS_LINK_ADDRESS_SIZE];     /* the far end's; "": not up */
    uint32_t rtt_us;            /* as TCP measures it; 0: unknown */
    uint64_t retransmits;       /* segments that TCP sent again */
    unsigned path;              /* of the peer's; see link-path.h */
    unsigned stuck_ms, rto_max_ms;      /* see StreamTcp */
} EgressLinkLane;
/* At most @max entries; returns how many lanes there are. */
unsigned egress_link_get_lanes(Egress *egress, EgressLinkLane *ret, unsigned max);
/* Of these, how many are sent on; the rest stand by. */
unsigned egress_link_get_lanes_wanted(Egress *egress);
/* Bytes, as pages are unpacked, that the peer has ever handed on. */
uint64_t egress_link_get_handed_on(Egress *egress);
/* Bytes that may be under way now, of those that the peer granted. */
uint64_t egress_link_get_window(Egress *egress);
/* Bytes not yet handed on. */
uint64_t egress_link_get_in_flight(Egress *egress);
/* Bytes of frames that were given to lanes again. */
uint64_t egress_link_get_resent_bytes(Egress *egress);
/* False: pages are not packed, or none was sent yet. */
bool egress_link_get_reduction(Egress *egress, LinkReductionCounts *ret);
/* For how long no lane has been up; 0: one is. */
unsigned egress_link_get_down_ms(Egress *egress);

#endif
