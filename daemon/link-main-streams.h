/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-main-streams.h - the byte streams that a main lane carries
 *
 * What distinguishes them: the frame's type, the way they go, and which functions
 * of the exchange they come from and go to.  All else is the same for all.
 */
#ifndef DAEMON_LINK_MAIN_STREAMS_H
#define DAEMON_LINK_MAIN_STREAMS_H

#include <stdbool.h>
#include <stdint.h>
#include "daemon/link-main.h"
#include "wire/link-frame.h"

enum { LINK_MAIN_STREAMS = 3 };     /* how many there are at most, each way */

typedef struct {
    uint8_t type;               /* a LinkFrameType */
    bool from_source;           /* towards the destination */
    /* Bytes to send; 0: the stream has ended; -1: the migration is over. */
    gssize (*pull)(LinkMain *lane, uint8_t *buf, size_t max);
    /* False: the migration is over. */
    bool (*push)(LinkMain *lane, const uint8_t *buf, size_t len);
    void (*end)(LinkMain *lane);
    /* Of the ACK that its receiver sends. */
    uint64_t *(*ack_field)(LinkAck *ack);
    /* Which of the windows is its; 0: there is no such stream. */
    uint64_t (*get_window)(const LinkMainFlow *flow, bool sending);
} LinkMainStream;

/* Those that one side sends or receives, the most urgent first; returns how many. */
unsigned link_main_streams_find(bool source_side, bool sending,
                                const LinkMainFlow *flow,
                                const LinkMainStream *ret[LINK_MAIN_STREAMS]);

#endif
