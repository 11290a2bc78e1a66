/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/flow-window.h - how much to have under way, by measurement
 *
 * What is under way looks sent to the source QEMU, and the guest is stopped while
 * the last of it drains.  So not more than four times what goes in the time that a frame
 * takes to be acknowledged; the best rate and the least delay of late count, because
 * what is in between may be our own queue.  Now and then that is let drain, to see the
 * delay without it.  Pure: time is given.
 */
#ifndef DAEMON_FLOW_WINDOW_H
#define DAEMON_FLOW_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    /* all private */
    uint64_t max;           /* bytes */
    uint64_t window;        /* now */
    int64_t delay_us;       /* least of late; 0: not known */
    int64_t delay_seen_us;  /* and when that was */
    double rate;            /* best of late, bytes per microsecond; 0: not known */
    int64_t rate_seen_us;
    int64_t begin_us;       /* of the present measurement; 0: none */
    uint64_t acked;         /* bytes since then */
    bool full;              /* the window has held us back since the last ACK */
    bool limited;           /* and before each in this measurement */
    bool draining;          /* for the present measurement */
    int64_t drained_us;     /* when that was last so */
    int64_t least_us;       /* delay in the present measurement; 0: none yet */
    int64_t length_us;      /* of it: so long that what is under way can drain */
} FlowWindow;

/* Never above @max, which the peer granted; begins with less. */
void flow_window_init(FlowWindow *self, uint64_t max);
/* @bytes more were handed on, the last of them @delay_us after they were sent; 0: that
 * is not known. */
void flow_window_acked(FlowWindow *self, uint64_t bytes, int64_t delay_us,
                       int64_t now_us);
/* There was more to send than the window let. */
void flow_window_note_full(FlowWindow *self);
/* Bytes per second that went at best of late; 0: not known. */
uint64_t flow_window_get_rate(const FlowWindow *self);
/* Bytes that may be under way. */
uint64_t flow_window_get(const FlowWindow *self);

#endif
