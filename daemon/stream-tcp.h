/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/stream-tcp.h - what the kernel knows of a stream's TCP connection
 */
#ifndef DAEMON_STREAM_TCP_H
#define DAEMON_STREAM_TCP_H

#include "daemon/stream.h"

typedef struct {
    uint32_t rtt_us;            /* smoothed; 0: not measured */
    uint64_t retransmits;       /* segments that were sent again */
    uint32_t least_rtt_us;      /* of the last minutes; this and all below: 0 with
                                   a kernel that does not say */
    uint64_t acked;             /* bytes that the far end has received */
    uint32_t unsent;            /* bytes that TCP may not send yet */
    uint32_t mss;               /* bytes of a segment that we send */
    uint32_t mtu;               /* of the path, as far as it is known */
    uint64_t segments;          /* with data that were sent, again ones included */
    uint64_t busy_us;           /* there was something to send, ... */
    uint64_t rwnd_limited_us;   /* ... and the receiver's window held it back */
    uint64_t sndbuf_limited_us; /* ... or our own buffer */
    unsigned stuck_ms;          /* without a word from the peer, while it sends the same
                                   again and again; 0: it does not */
    unsigned rto_max_ms;        /* between two such; 0: as the kernel likes */
} StreamTcp;

/* False: it is no TCP connection.  Any thread. */
bool stream_tcp_get(const Stream *stream, StreamTcp *ret);

enum { STREAM_TCP_ALGORITHM_SIZE = 16 };
/* The congestion control; "" when it is no TCP connection. */
void stream_tcp_get_algorithm(const Stream *stream,
                              char ret[STREAM_TCP_ALGORITHM_SIZE]);

#endif
