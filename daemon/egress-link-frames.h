/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-link-frames.h - the bulk frames of a link that are not acknowledged
 *
 * Gives them their numbers, within the peer's window, keeps their packets until the
 * peer has handed them on, and hands them to lanes: first those that must be sent
 * again, then new ones.  Sending again needs neither window nor a new number, so it
 * never waits for what is new.
 *
 * Thread-safe.
 */
#ifndef DAEMON_EGRESS_LINK_FRAMES_H
#define DAEMON_EGRESS_LINK_FRAMES_H

#include "daemon/exchange.h"
#include "wire/link-frame.h"

typedef struct EgressLinkFrames EgressLinkFrames;

/* A lane has it from take() to written() or lost(), and nobody else writes it then. */
typedef struct {
    Packet *packet;             /* NULL: an EPOCH_END, or sent once from body */
    LinkFrame frame;            /* flags, checksum, and with body the lengths, are
                                   the lane's to fill in */
    uint8_t *body;              /* packed pages, with their header: all that follows
                                   the frame's; the lane's to make; NULL: none */
    uint64_t epoch_frames;      /* for EPOCH_END */
    bool prepared;              /* flags and checksum are filled in */

    /* Private. */
    uint64_t cost;              /* of window */
    int64_t numbered_us;        /* monotonic */
    unsigned refs;              /* the table's, and of the lane that has it */
    unsigned lane;              /* that has it, or had it last */
    bool taken;                 /* a lane has it */
    bool queued;                /* to be sent again */
    bool begun;                 /* some of it may have been sent */
    bool written;               /* all of it, once: exchange_done() was called */
} EgressLinkFrame;

/* @exchange is lent.  @window: the most, bytes; how much of it is used is found by
 * measurement. */
EgressLinkFrames *egress_link_frames_new(Exchange *exchange, uint64_t window);
/* Nobody else uses it any more. */
void egress_link_frames_free(EgressLinkFrames *self);
/* Every wait ends, now and later. */
void egress_link_frames_stop(EgressLinkFrames *self);

/*
 * The next one: @packet, taken from the exchange (NULL: the end of @epoch).  Waits
 * for window, and for lanes to take what was added before.  Takes @packet, and calls
 * exchange_done() once it is written.  False: stopped.
 */
bool egress_link_frames_add(EgressLinkFrames *self, Packet *packet,
                            uint64_t epoch);

/* Of the lanes that take frames only the first @n get any, by their numbers; without
 * a call all do. */
void egress_link_frames_set_lanes(EgressLinkFrames *self, unsigned n);
/* One for @lane, waiting at most @wait_ms; NULL: there is none now, or stopped. */
EgressLinkFrame *egress_link_frames_take(EgressLinkFrames *self, unsigned lane,
                                         unsigned wait_ms);
/* It was written as a whole. */
void egress_link_frames_written(EgressLinkFrames *self, EgressLinkFrame *frame);
/* @lane is dead.  All that it had and that is not acknowledged is to be sent again;
 * @frame (may be NULL): the one that it still has. */
void egress_link_frames_lost(EgressLinkFrames *self, unsigned lane,
                             EgressLinkFrame *frame);
/* Nothing that @lane has sent waits for the peer. */
bool egress_link_frames_is_idle(EgressLinkFrames *self, unsigned lane);
/* The peer has handed on all below @number, and @ahead bytes (as they count against
 * the window) of the rest. */
bool egress_link_frames_ack(EgressLinkFrames *self, uint64_t number,
                            uint64_t ahead, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* All frames below it are handed on. */
uint64_t egress_link_frames_get_acked(EgressLinkFrames *self);
/* Bytes per second that the peer acknowledged, at best of late; 0: not known. */
uint64_t egress_link_frames_get_rate(EgressLinkFrames *self);
/* Bytes that the peer has ever handed on. */
uint64_t egress_link_frames_get_handed_on(EgressLinkFrames *self);
/* How many bytes it lets be under way now. */
uint64_t egress_link_frames_get_window(EgressLinkFrames *self);
/* Bytes that are not handed on yet; bytes that were given out again. */
uint64_t egress_link_frames_get_in_flight(EgressLinkFrames *self);
uint64_t egress_link_frames_get_resent(EgressLinkFrames *self);

#endif
