/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-link-lanes.h - the bulk lanes of an egress, and how many there are
 *
 * As many as it is given; or, with a higher maximum, more of them while more bring
 * more (lane-count.h).  A lane that was added in vain stands by.
 */
#ifndef DAEMON_EGRESS_LINK_LANES_H
#define DAEMON_EGRESS_LINK_LANES_H

#include "daemon/egress-link-writer.h"

typedef struct EgressLinkLanes EgressLinkLanes;

/*
 * @lane: what all have in common; its number, stream and generation are ignored.
 * @streams (of Stream, taken) are the first ones, which came with @generation; a
 * NULL among them is connected later.
 */
EgressLinkLanes *egress_link_lanes_new(const EgressLinkWriterSetup *lane,
                                       GPtrArray *streams, unsigned generation,
                                       unsigned max);
/* As egress_link_writer_start(), all of them.  Once at most. */
void egress_link_lanes_start(EgressLinkLanes *self, uint32_t page_size,
                             LinkReduction *reduction);
/* End all soon; none is added any more.  Any thread. */
void egress_link_lanes_shutdown(EgressLinkLanes *self);
/* Joins the threads. */
void egress_link_lanes_free(EgressLinkLanes *self);

/* At most @max entries; returns how many lanes there are. */
unsigned egress_link_lanes_get(EgressLinkLanes *self, EgressLinkLane *ret,
                               unsigned max);
/* False: there is no such lane. */
bool egress_link_lanes_get_one(EgressLinkLanes *self, unsigned lane,
                               EgressLinkLane *ret);
/* As egress_link_writer_remake(). */
void egress_link_lanes_remake(EgressLinkLanes *self, unsigned lane,
                              unsigned n_paths);
/* How many are sent on; the rest stand by. */
unsigned egress_link_lanes_get_wanted(EgressLinkLanes *self);
/* How many shall each have a packet in hand; 0: no more than fill the line. */
unsigned egress_link_lanes_get_hungry(EgressLinkLanes *self);
uint64_t egress_link_lanes_get_wire_bytes(EgressLinkLanes *self);
/* For how long none has been up; 0: one is. */
unsigned egress_link_lanes_get_down_ms(EgressLinkLanes *self);

#endif
