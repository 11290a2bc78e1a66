/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon/exchange-private.h - shared by the exchange's own files only */
#ifndef DAEMON_EXCHANGE_PRIVATE_H
#define DAEMON_EXCHANGE_PRIVATE_H

#include "daemon/byte-ring.h"
#include "daemon/exchange.h"
#include "wire/preempt-stream.h"
#include "wire/epoch.h"
#include "wire/return-path.h"

struct Exchange {
    uint64_t memory, share;     /* constant */
    unsigned channels_expected; /* constant; 0: learnt from the stream */
    bool link_fed;              /* constant */
    ExchangeObserver observer;  /* constant */
    void *observer_data;
    ExchangeDelivery delivery;  /* constant once something is pushed */
    void *delivery_data;

    Traffic *traffic;           /* constant; may be NULL */
    Recorder *recorder;         /* likewise */
    CpuMeter *cpu;              /* likewise */

    GMutex lock;                /* guards all below; only the locks of
                                   traffic and recorder are taken under it */
    GCond state;                /* mode, settled, geometry, ramblocks */
    GCond barrier_moved;        /* an epoch closed: inbound may go on */
    GCond sent;                 /* a SYNC was written, or nothing is held any more */
    GCond work;                 /* something to take for an outbound channel */
    GCond main_data, main_space, return_data, return_space;
    GCond preempt_data, preempt_space;

    uint64_t queue;             /* of memory, what is used now */
    GQueue waiters;             /* for memory; exchange-memory.c's */
    GError *error;              /* sticky */
    bool closed;                /* sticky */
    bool rejected;
    unsigned rejected_channel;
    uint64_t rejected_packet;

    ExchangeMode mode;
    bool settled;               /* n of inbound channels is final (but see join) */
    bool all_connected;         /* the stream shows that all channels must be here */
    bool uuid_known;
    uint8_t uuid[MULTIFD_UUID_SIZE];

    EpochBarrier barrier;
    uint8_t id_of_in[MULTIFD_CHANNELS_MAX];
    bool left[MULTIFD_CHANNELS_MAX];
    bool confirm;               /* markers wait for confirmed[] */
    uint64_t confirmed[MULTIFD_CHANNELS_MAX];   /* SYNCs, by outbound channel */
    GHashTable *queues;         /* epoch -> GQueue of Packet */

    MainStream *main;
    uint64_t page_size;         /* for a stream that does not say it */
    MultifdGeometry geometry;
    bool configured;            /* geometry is valid */
    uint64_t opaque_offset;     /* of the main stream, where it is opaque */
    uint64_t ramblocks_offset;  /* behind the block list */
    uint64_t pages_offset;      /* of the first page record; 0: none yet */
    bool ramblocks;
    PreemptStream preempt_stream;   /* looked at for the traffic record alone */
    bool advised;               /* postcopy of RAM may come */
    bool postcopy;
    bool postcopy_sent;
    bool resumed;
    uint64_t postcopy_run;      /* offset behind POSTCOPY_RUN */
    ByteRing main_ring, return_ring, preempt_ring;
    bool preempt_expected, preempt_ended;
    GArray *markers;            /* uint64_t offsets; from next_marker on unpulled */
    unsigned next_marker;       /* index into markers */
    uint64_t markers_seen;      /* markers that were pushed */
    uint64_t markers_passed;    /* markers that were pulled */
    ReturnPath return_path;

    ExchangeSnapshot stats;     /* the counters; the rest is filled on demand */
};

/* With the lock held. */
bool exchange_is_over(const Exchange *self);    /* failed or closed */
bool exchange_is_taken_over(const Exchange *self);  /* SHUT 0 was seen */
/* Sets the first error and wakes everyone; false if there was one before. */
bool exchange_fail_locked(Exchange *self, GError *error);
void exchange_decide_locked(Exchange *self, ExchangeMode mode);
/* What the peer says of the channels it says before that. */
bool exchange_check_undecided_locked(const Exchange *self, GError **error);
/* Closes the open epoch if it can be; wakes whom that concerns. */
void exchange_try_close_locked(Exchange *self);

/* The stream shows that every channel must have connected by now. */
bool exchange_is_settle_due(const Exchange *self);
/* Bytes of packets; what is not held any more goes to those who wait. */
void exchange_hold_locked(Exchange *self, uint64_t footprint);
void exchange_unhold_locked(Exchange *self, uint64_t footprint);
void exchange_wake_waiters_locked(Exchange *self);

/* No packet is held, and every SYNC that may be written is. */
bool exchange_is_all_sent(const Exchange *self);
/* SYNCs by which the markers up to that number may go. */
uint64_t exchange_get_open_markers(const Exchange *self);

/* Without the lock. */
void exchange_call_delivery_hook(Exchange *self, uint64_t main_offset,
                                 uint64_t return_offset);
void exchange_notify(Exchange *self, ExchangeEvent event);

#endif
