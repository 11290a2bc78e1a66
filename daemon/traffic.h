/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/traffic.h - what went by in one migration, counted on the way
 *
 * The exchange tells a record of what it decodes anyway; views read it by
 * traffic_to_json().  A recorded stream is told to one in the same way.  Its size
 * is bounded whatever is sent: rows are of a fixed number, and where they are
 * used up each two become one (docs/architecture.md, "Seeing the traffic").
 *
 * Thread-safe; its lock is a leaf.  Where a function takes a NULL record, it does
 * nothing.
 */
#ifndef DAEMON_TRAFFIC_H
#define DAEMON_TRAFFIC_H

#include <stdbool.h>
#include <json-glib/json-glib.h>
#include "daemon/packet.h"
#include "wire/main-stream.h"

typedef struct Traffic Traffic;

/* When things happened, for the anatomy of the downtime. */
typedef enum {
    TRAFFIC_FIRST_BYTE,         /* of the main channel, from the source */
    TRAFFIC_RAMBLOCKS,          /* the block list is complete */
    TRAFFIC_STOPPED,            /* the source QEMU said STOP (managed only) */
    TRAFFIC_SWITCHOVER,         /* SWITCHOVER_START in the stream, since 10.0 */
    TRAFFIC_RAM_END,            /* the END section of RAM begins */
    TRAFFIC_LAST_PACKET_IN,
    TRAFFIC_LAST_PACKET_OUT,    /* written to the next hop */
    TRAFFIC_DEVICES,            /* device state on the main channel begins */
    TRAFFIC_LAST_MAIN_IN,
    TRAFFIC_LAST_MAIN_OUT,
    TRAFFIC_SHUT,               /* the destination's verdict came */
    TRAFFIC_SHUT_DELIVERED,     /* and was written towards the source */
    TRAFFIC_RESUME,             /* the guest is to be started (managed only) */
    TRAFFIC_RESUMED,            /* it has been */
    TRAFFIC_MOMENTS,
} TrafficMoment;

/* @live: moments are clock time; else what traffic_set_now() says. */
Traffic *traffic_new(bool live);
void traffic_free(Traffic *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Traffic, traffic_free)

/* The clock of a recorded stream, microseconds; never goes back. */
void traffic_set_now(Traffic *self, int64_t now_us);

/* The block list, once it is complete; @table is not kept.  Said again with
 * another page size it counts as long as no page came. */
void traffic_begin(Traffic *self, const RamblockTable *table,
                   uint64_t page_size);
/* The packet came in, in this epoch; its offsets have been checked. */
void traffic_note_packet(Traffic *self, uint64_t epoch, const Packet *packet);
/* The same of a page that came on the main channel. */
void traffic_note_main_page(Traffic *self, uint64_t epoch, const char *block,
                            uint64_t offset, bool zero);
/* The same of one that came on the preempt channel, which says nothing else. */
void traffic_note_preempt_page(Traffic *self, uint64_t epoch, const char *block,
                               uint64_t offset, bool zero);
/* How many of the pages came there. */
uint64_t traffic_get_main_pages(Traffic *self);
uint64_t traffic_get_preempt_pages(Traffic *self);
void traffic_note_epoch_end(Traffic *self, uint64_t closed);
/* Bytes came on the main channel; how far the stream was followed, and what was
 * counted in it. */
void traffic_note_main(Traffic *self, size_t len,
                       const MainStreamCounts *counts);
/* Bytes of the main channel behind what can be followed.  They are kept, up to a
 * bound, until traffic_finish(), and are in no answer. */
void traffic_note_devices(Traffic *self, const uint8_t *buf, size_t len);

/* The first time counts / the last time counts. */
void traffic_mark(Traffic *self, TrafficMoment moment);
void traffic_touch(Traffic *self, TrafficMoment moment);
/* It was then, monotonic time; takes the place of what was said before. */
void traffic_touch_at(Traffic *self, TrafficMoment moment, int64_t when_us);

/* What the migration knows now and then, about once a second. */
typedef struct {
    uint64_t wire_bytes;                /* of the outgoing leg, in all */
    uint64_t rate_limit_bytes_per_s;    /* 0: none */
    uint64_t dirty_bytes_per_s;         /* as the source QEMU says; 0: unknown */
    uint64_t remaining_bytes;           /* likewise */
    uint64_t held_bytes;                /* in the exchange */
    int64_t rtt_us;                     /* of the link; 0: unknown */
} TrafficSample;
void traffic_sample(Traffic *self, const TrafficSample *sample);

/* The migration is over: what is only needed to count is freed. */
void traffic_finish(Traffic *self);

/* As query-traffic has it. */
JsonObject *traffic_to_json(Traffic *self);

#endif
