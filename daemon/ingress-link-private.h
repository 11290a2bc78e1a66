/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon/ingress-link-private.h - shared by the link ingress's own files only */
#ifndef DAEMON_INGRESS_LINK_PRIVATE_H
#define DAEMON_INGRESS_LINK_PRIVATE_H

#include "daemon/ingress-link.h"
#include "daemon/ingress-link-receipts.h"
#include "daemon/link-restorer.h"
#include "wire/link-frame.h"

typedef struct {
    Ingress base;
    Exchange *exchange;
    PacketPool *pool;
    IngressLinkReceipts *receipts;
    bool packed;
    uint64_t history;

    GMutex lock;                /* guards all below; a leaf */
    bool closed;
    unsigned n_lanes;           /* that have come, once or more often */
    LinkRestoration *restoration;   /* NULL until packed pages come */
    struct {
        Stream *stream;         /* owned; NULL: has not come */
        GThread *thread;
        unsigned generation;
        bool replacing;         /* the one before has not ended yet */
    } slots[LINK_LANES_MAX];
} IngressLink;

typedef struct {
    IngressLink *ingress;
    Stream *stream;             /* lent */
    unsigned number;
    Stream *old_stream;         /* of the generation before; owned.  NULL: none */
    GThread *old_thread;
    MultifdGeometry geometry;
    const RamblockTable *ramblocks;     /* NULL until the first PAGES */
    LinkFrame frame;            /* in hand */
    LinkPages pages;            /* of it */
    LinkRestorer *restorer;     /* NULL until packed pages come */
    uint8_t *packed;            /* room for them */
    uint8_t buf[LINK_PAGES_HEADER_MAX];
} IngressLinkLane;

/* What all lanes restore from; made when it is first asked for. */
LinkRestoration *ingress_link_get_restoration(IngressLink *self,
                                              uint32_t page_size);

/* Read frames until the lane or the migration ends (ingress-link-lane.c). */
void ingress_link_lane_run(IngressLinkLane *self);

#endif
