/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/exchange.h - where inbound and outbound of one migration meet
 *
 * Everything that must agree between channels is decided here, under one lock:
 * epochs, the memory bound, the main stream with its held back markers, the
 * return path, the number of channels, the first error.  docs/architecture.md
 * has the argument.  The exchange does no I/O and starts no thread.
 *
 * All functions may be called from any thread.  Those that wait say so, and end
 * at once when the migration fails; then they return false, -1 or
 * EXCHANGE_FAILED, and exchange_get_error() has the reason.  They set no error
 * of their own, so that one cause gives one message.
 */
#ifndef DAEMON_EXCHANGE_H
#define DAEMON_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "daemon/cpu-meter.h"
#include "daemon/packet.h"
#include "daemon/recorder.h"
#include "daemon/traffic.h"
#include "wire/main-stream.h"
#include "wire/preempt-start.h"

typedef struct Exchange Exchange;

typedef enum {
    EXCHANGE_UNDECIDED,     /* not known yet whether there are multifd channels */
    EXCHANGE_MULTIFD,
    EXCHANGE_MAIN_ONLY,
} ExchangeMode;

/* What the observer is told, outside the lock, in the thread that did it. */
typedef enum {
    EXCHANGE_EVENT_FAILED,          /* exchange_get_error() says why; once */
    EXCHANGE_EVENT_DECIDED,         /* the mode; with MULTIFD: N is settled */
    EXCHANGE_EVENT_RAMBLOCKS,       /* the block list is complete: transfer begins */
    EXCHANGE_EVENT_NO_RETURN_PATH,  /* the stream asks for none */
    EXCHANGE_EVENT_SWITCHOVER,      /* the source has stopped the guest */
    EXCHANGE_EVENT_SHUT,            /* the destination's verdict was delivered to
                                       the ingress' side */
    EXCHANGE_EVENT_MAIN_ENDED,      /* source closed its main channel */
    EXCHANGE_EVENT_RETURN_ENDED,    /* destination closed its main channel */
    EXCHANGE_EVENT_POSTCOPY,        /* the stream starts the guest at the
                                       destination; once more when the source has
                                       sent all that belongs to that */
    EXCHANGE_EVENT_REJECTED,        /* a packet was refused; FAILED follows */
    EXCHANGE_EVENT_PREEMPT,         /* the source has a preempt channel */
} ExchangeEvent;

typedef void (*ExchangeObserver)(Exchange *exchange, ExchangeEvent event,
                                 void *data);

typedef struct {
    uint64_t memory;            /* bytes of packets held at most */
    uint64_t share;             /* bytes for packets and what is charged, in all */
    size_t main_ring;           /* bytes of main channel held at most */
    unsigned channels_in;       /* N when it is known beforehand; 0: learn it */
    uint64_t page_size;         /* the target's, if the stream does not say it; 0: 4096 */
    bool link_fed;              /* the peer decides the mode, exchange_decide() */
    Traffic *traffic;           /* is told what goes by; lent; NULL: nobody */
    Recorder *recorder;         /* likewise */
    CpuMeter *cpu;              /* for the threads around it; likewise */
    ExchangeObserver observer;
    void *observer_data;
} ExchangeSetup;

Exchange *exchange_new(const ExchangeSetup *setup);
/* Nobody else uses it any more. */
void exchange_free(Exchange *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Exchange, exchange_free)

/* Where a thread that works for it counts its time; may be NULL. */
CpuMeter *exchange_get_cpu(const Exchange *self);

/* ---- failing ---------------------------------------------------------- */

/*
 * Takes @error.  The first one is kept; all present and later waits end.  Once
 * SHUT 0 has been seen the destination owns the guest: then nothing but failing
 * to tell the source matters, and exchange_fail() does nothing.
 */
void exchange_fail(Exchange *self, GError *error);
/* SHUT 0 could not be delivered: counts in any case. */
void exchange_fail_delivery(Exchange *self, GError *error);
/* All is over, well or not: ends every wait without an error. */
void exchange_close(Exchange *self);
/* A packet was refused: as exchange_fail(), and remembered for PACKET_REJECTED. */
void exchange_reject(Exchange *self, unsigned channel, uint64_t packet,
                     GError *error);
/* A copy, or NULL. */
GError *exchange_get_error(Exchange *self);
bool exchange_get_rejected(Exchange *self, unsigned *ret_channel,
                           uint64_t *ret_packet);

/* ---- multifd, inbound from a QEMU -------------------------------------- */

/*
 * A channel said its init packet.  Waits for nothing.  On an error the caller
 * closes the connection.  Before N is settled it fails the migration too, as
 * QEMU's own destination would: it may have been one of the source's channels.
 * Afterwards another UUID or a taken id is a stranger's, and harms nobody; but a
 * channel of our guest that comes too late fails the migration, for its pages
 * would be missing without anybody noticing.  *ret_syncs_to_drop: SYNCs of this channel
 * that already count as seen (1 for a late comer, else 0).
 */
bool exchange_join(Exchange *self, const MultifdInit *init, unsigned *ret_in,
                   unsigned *ret_syncs_to_drop, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* A connection said what no channel says: the same rule.  Keeps @error. */
void exchange_refuse_connection(Exchange *self, const GError *error);
/*
 * Waits until the stream shows that every channel must have connected by now,
 * and N or the mode is not settled yet; false: nothing to settle any more.  The
 * caller gives connections under way a moment, then calls exchange_settle().
 */
bool exchange_wait_settle_needed(Exchange *self);
/* It is over, and before all connections of the source were known: more of them
 * may be under way. */
bool exchange_ended_early(Exchange *self);
/* The channels that have joined are all; none: a main-only stream. */
void exchange_settle(Exchange *self);

/* Wait for what the main channel tells. */
bool exchange_wait_geometry(Exchange *self, MultifdGeometry *ret);
/* The same for a while: false also when the time is over, *ret_over tells. */
bool exchange_wait_geometry_for(Exchange *self, unsigned timeout_ms,
                                MultifdGeometry *ret, bool *ret_over);
const RamblockTable *exchange_wait_ramblocks(Exchange *self);

/*
 * Before the payload is read: waits for the epoch to be open for @in, and until
 * @footprint bytes (packet_footprint()) fit the share.  Then push what was
 * reserved; it does not wait and takes @packet.
 */
bool exchange_reserve(Exchange *self, unsigned in, uint64_t footprint);
bool exchange_push(Exchange *self, unsigned in, Packet *packet);
/* Hold no more than that of what comes in, and never more than memory, from now on:
 * for an egress that knows what it can carry. */
void exchange_set_queue(Exchange *self, uint64_t bytes);
/* Of what was reserved, @footprint bytes are not needed any more. */
void exchange_release(Exchange *self, uint64_t footprint);
/*
 * Memory for as long as the migration lasts (a decoder's window, an encoder's
 * buffer): counts against the share.  False: @what does not fit, which fails the
 * migration.
 */
bool exchange_charge(Exchange *self, uint64_t bytes, const char *what);
bool exchange_sync(Exchange *self, unsigned in);
/* End of the channel at a packet's border. */
void exchange_leave(Exchange *self, unsigned in);

/* ---- multifd, inbound from a link -------------------------------------- */

/* What the peer's `channels` event says of the page size, before it decides: the
 * source's side may know it from elsewhere than the stream. */
bool exchange_set_page_size(Exchange *self, uint64_t page_size,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What the peer's `channels` event says, once. */
bool exchange_decide(Exchange *self, bool multifd, unsigned channels_in,
                     const uint8_t uuid[MULTIFD_UUID_SIZE], GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Takes @packet; never waits: the window bounds what can come. */
bool exchange_push_epoch(Exchange *self, uint64_t epoch, Packet *packet);
void exchange_close_epoch(Exchange *self, uint64_t epoch);

/* ---- multifd, outbound -------------------------------------------------- */

/* Waits until the mode is decided; with MULTIFD, until N is settled. */
ExchangeMode exchange_wait_decided(Exchange *self, unsigned *ret_channels_in,
                                   uint8_t ret_uuid[MULTIFD_UUID_SIZE]);
/* Once, before the first take: channels 0 to @n - 1.  @confirm: a SYNC opens the
 * marker gate only with exchange_confirm_syncs(). */
void exchange_add_outs(Exchange *self, unsigned n, bool confirm);

typedef enum { EXCHANGE_FAILED, EXCHANGE_PACKET, EXCHANGE_SYNC } ExchangeTake;

/*
 * Waits for the next thing for channel @out.  PACKET: *ret_packet is lent until
 * exchange_done(); SYNC: write one, then call exchange_synced().  *ret_epoch is
 * the epoch that the packet belongs to or that the SYNC ends.
 */
ExchangeTake exchange_take(Exchange *self, unsigned out, Packet **ret_packet,
                           uint64_t *ret_epoch);
/* The packet was written on @out (or given up): frees it. */
void exchange_done(Exchange *self, unsigned out, Packet *packet);
void exchange_synced(Exchange *self, unsigned out);
/* @n more SYNCs of @out are known to have arrived. */
void exchange_confirm_syncs(Exchange *self, unsigned out, unsigned n);

/* ---- main channel and return path ---------------------------------------- */

/* Waits for room.  False also when the stream contradicts itself. */
bool exchange_main_push(Exchange *self, const uint8_t *buf, size_t len);
void exchange_main_end(Exchange *self);
/* Waits for bytes; 0: the stream has ended.  @gated: stop before markers whose
 * SYNC is not yet out. */
gssize exchange_main_pull(Exchange *self, uint8_t *buf, size_t max, bool gated);
/* SHUT 0 while anything of the guest is still in our hands fails the migration
 * and is not passed on: the destination has not got what it says it has. */
bool exchange_return_push(Exchange *self, const uint8_t *buf, size_t len);
void exchange_return_end(Exchange *self);
/* Delivers SHUT 0 even when the migration has failed. */
gssize exchange_return_pull(Exchange *self, uint8_t *buf, size_t max);

/*
 * What was pulled so far has been written to the next hop.  Calls the delivery
 * hook, by which a link acknowledges.
 */
void exchange_main_delivered(Exchange *self);
void exchange_return_delivered(Exchange *self);
typedef void (*ExchangeDelivery)(uint64_t main_offset, uint64_t return_offset,
                                 void *data);
/* Set before anything is pushed; called in the delivering thread. */
void exchange_set_delivery_hook(Exchange *self, ExchangeDelivery hook,
                                void *data);

/* ---- postcopy's preempt channel -------------------------------------------- */

/*
 * A byte stream of its own from the source to the destination, neither parsed nor
 * gated, for the pages that the destination asked for: it goes before all else.
 * It says nothing until a page is asked for, but the destination must have it
 * before: so the source's side says that there is one as soon as there may be.
 */

enum { EXCHANGE_PREEMPT_RING = 64 * 1024 };     /* bytes of it held at most */

/* The stream allows for postcopy, and no multifd channel is still to come: a
 * connection that says nothing may be the preempt channel. */
bool exchange_preempt_is_possible(Exchange *self);
/* How a connection begins: is that a preempt channel of this guest? */
PreemptStart exchange_preempt_judge(Exchange *self, const uint8_t *buf,
                                    size_t len);
/* There is one, or may be one.  Tells the observer once. */
void exchange_preempt_expect(Exchange *self);
/* Waits for that. */
bool exchange_preempt_wait_expected(Exchange *self);
/* As those of the main channel. */
bool exchange_preempt_push(Exchange *self, const uint8_t *buf, size_t len);
void exchange_preempt_end(Exchange *self);
gssize exchange_preempt_pull(Exchange *self, uint8_t *buf, size_t max);
/* Calls the delivery hook, which may ask for the offset. */
void exchange_preempt_delivered(Exchange *self);
uint64_t exchange_preempt_get_delivered(Exchange *self);

/* ---- what everybody may ask ---------------------------------------------- */

typedef struct {
    uint64_t packets;
    uint64_t bytes;         /* payload */
    uint64_t syncs;
} ExchangeChannel;

typedef struct {
    ExchangeMode mode;
    unsigned channels_in, channels_out;
    ExchangeChannel in[MULTIFD_CHANNELS_MAX];
    ExchangeChannel out[MULTIFD_CHANNELS_MAX];
    uint64_t packets, normal_pages, zero_pages, device_packets;  /* inbound */
    uint64_t main_in, main_out, return_in, return_out;           /* bytes */
    uint64_t main_delivered, return_delivered, preempt_delivered;
    uint64_t preempt_in, preempt_out;
    uint64_t epochs;            /* closed */
    uint64_t held, held_peak;   /* bytes of packets */
    uint64_t charged;           /* bytes beside them */
    uint64_t markers;
    bool return_path;
    bool main_ended, return_ended;
    bool shut, shut_delivered;  /* seen; written towards the source */
    uint32_t shut_value;
    bool main_drained;          /* ended, and all of it pulled */
    bool begun;                 /* the stream has come so far that its channels
                                   are known, or about to be */
    bool all_sent;              /* no packet held, every SYNC written */
    bool opaque;                /* main stream not followed any further */
    bool postcopy;              /* POSTCOPY_RUN has come */
    bool postcopy_sent;         /* and the PING behind it: its source never runs
                                   the guest again */
    bool postcopy_given;        /* POSTCOPY_RUN was written to the next hop */
    bool resumed;               /* the stream resumes a paused postcopy */
    bool preempt;               /* there is a preempt channel, or may be */
    uint8_t uuid[MULTIFD_UUID_SIZE];
    char machine[64];
    uint64_t activity;          /* changes whenever anything moves */
} ExchangeSnapshot;

/* Pages travel on the main channel: no multifd, or postcopy has begun. */
bool exchange_has_pages_on_main(Exchange *self);

void exchange_get_snapshot(Exchange *self, ExchangeSnapshot *ret);

#endif
