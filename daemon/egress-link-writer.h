/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-link-writer.h - a bulk lane at the sending end, and its thread
 *
 * Takes frames and writes them.  When its connection breaks, what it had goes back to
 * be sent by others, and it connects anew.
 */
#ifndef DAEMON_EGRESS_LINK_WRITER_H
#define DAEMON_EGRESS_LINK_WRITER_H

#include "daemon/egress-link-frames.h"
#include "daemon/egress-link.h"
#include "daemon/link-reducer.h"
#include "daemon/stream-tcp.h"

typedef struct EgressLinkWriter EgressLinkWriter;

typedef struct {
    Exchange *exchange;         /* lent, as all pointers but stream */
    EgressLinkFrames *frames;
    Limiter *limiter;           /* NULL: none */
    unsigned number;            /* of the lane */
    EgressLinkConnect connect;  /* NULL: what breaks the lane fails the exchange */
    void *connect_data;
    Stream *stream;             /* taken; hellos are done.  NULL: its thread connects
                                   it */
    unsigned generation;        /* of the stream, or that to begin with */
} EgressLinkWriterSetup;

EgressLinkWriter *egress_link_writer_new(const EgressLinkWriterSetup *setup);
/* Start its thread; pages are of @page_size bytes.  @reduction (lent; NULL: none):
 * how they are packed. */
void egress_link_writer_start(EgressLinkWriter *self, uint32_t page_size,
                              LinkReduction *reduction);
/* End it soon; before it, the frames were stopped.  Any thread. */
void egress_link_writer_shutdown(EgressLinkWriter *self);
/* Joins the thread. */
void egress_link_writer_free(EgressLinkWriter *self);

/* Connect anew: on the way that is next, and others send what it has under way; or,
 * with @n_paths above 0, back on its own one of them, with nothing under way.  Soon, and
 * only if it can be had.  Any thread. */
void egress_link_writer_remake(EgressLinkWriter *self, unsigned n_paths);
void egress_link_writer_get(EgressLinkWriter *self, EgressLinkLane *ret);
uint64_t egress_link_writer_get_wire_bytes(EgressLinkWriter *self);
/* False: it is not up, or no TCP connection. */
bool egress_link_writer_get_tcp(EgressLinkWriter *self, StreamTcp *ret);

#endif
