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
} StreamTcp;

/* False: it is no TCP connection.  Any thread. */
bool stream_tcp_get(const Stream *stream, StreamTcp *ret);

#endif
