/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon/traffic-private.h - shared by traffic.c and traffic-json.c only */
#ifndef DAEMON_TRAFFIC_PRIVATE_H
#define DAEMON_TRAFFIC_PRIVATE_H

#include "daemon/traffic.h"

enum {
    TRAFFIC_BLOCKS = 32,        /* with a row of their own, the largest */
    TRAFFIC_HEAT_BLOCKS = 4,    /* with a heat map, the largest of these */
    TRAFFIC_PARTS = 256,        /* of a block, at most */
    TRAFFIC_SLICES = 32,        /* of time */
    TRAFFIC_EPOCHS = 128,
    TRAFFIC_CHANNELS = 16,      /* whose packets are told apart in epochs */
    TRAFFIC_HISTORY = 128,
};

typedef struct {
    uint64_t normal, zero;      /* pages, each time that they came */
    uint64_t again;             /* of these, not for the first time */
    uint64_t bytes;             /* payload */
} TrafficPages;

/* Pages that came, by slice of time and part of the block. */
typedef struct {
    uint32_t slices[TRAFFIC_SLICES][TRAFFIC_PARTS];
} TrafficHeat;

typedef struct {
    uint32_t sent, again;       /* pages */
} TrafficPart;

typedef struct {
    char name[RAMBLOCK_NAME_MAX + 1];
    uint64_t used_length;
    uint64_t n_pages;
    unsigned part_shift;        /* page >> part_shift is its part */
    unsigned n_parts;
    TrafficPages pages;
    TrafficPart *parts;         /* n_parts of them */
    uint8_t *seen;              /* a bit for each page; NULL: not kept */
    bool exact;                 /* again is */
    TrafficHeat *heat;          /* NULL: none */
} TrafficBlock;

typedef struct {
    TrafficPages pages;
    uint64_t packets, device_packets;
    uint32_t by_channel[TRAFFIC_CHANNELS];      /* packets of either kind */
    int64_t first_us, last_us;  /* valid with packets */
} TrafficEpoch;

typedef struct {
    uint64_t in_bytes, main_bytes, wire_bytes;
    uint64_t pages, again;
    uint64_t rate_limit, dirty, remaining, held;    /* the last ones said */
    int64_t rtt_us;
} TrafficHistory;

/* Row number is x / unit; the unit doubles when it would be @n or more. */
typedef struct {
    uint64_t unit;
    unsigned used;              /* rows that were touched */
} TrafficScale;

typedef struct {
    bool live;                  /* the clock is real time */
    bool finished;              /* and has stopped */
    int64_t start_us, now_us;
    uint64_t page_size;
    unsigned page_shift;

    TrafficBlock *blocks;       /* NULL before traffic_begin() */
    unsigned n_blocks, n_blocks_total;
    uint64_t total_length;      /* of all blocks */
    TrafficPages others;        /* of blocks without a row */
    TrafficPages all;
    uint64_t on_main;           /* pages of these that came on the main channel */
    uint64_t on_preempt;        /* and on the preempt channel */
    uint64_t packets, device_packets, device_bytes;

    TrafficScale slice_scale, epoch_scale, history_scale;
    TrafficEpoch epochs[TRAFFIC_EPOCHS];
    uint64_t epochs_closed;
    TrafficHistory history[TRAFFIC_HISTORY];
    uint64_t sampled_wire_bytes;
    int64_t sampled_us;

    int64_t moments[TRAFFIC_MOMENTS];   /* -1: not yet */
    uint64_t main_bytes;
    MainStreamCounts main_counts;
    uint64_t device_stream_bytes;
} TrafficCounts;

struct Traffic {
    GMutex lock;                /* a leaf; guards all below */
    TrafficCounts counts;
    unsigned last_block;        /* that pages were of */
    uint64_t seen_bytes;        /* in all blocks' bits */
    GByteArray *devices;        /* NULL: none, too many, or finished */
    bool devices_lost;          /* there were too many */
    JsonArray *sections;        /* made of them by traffic_finish() */
};

/* A deep copy of the counts, but for the bits. */
TrafficCounts *traffic_copy_counts(Traffic *self);
void traffic_counts_free(TrafficCounts *counts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TrafficCounts, traffic_counts_free)

#endif
