/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/leg-payload.h - how one outbound channel of a QEMU leg has its pages
 *
 * In the exchange there is one form of a packet: raw pages, or an opaque payload
 * as it came.  What a destination expects (docs/architecture.md, "Dialects:
 * payload") is made of it here.  Does no I/O; one thread at a time.
 */
#ifndef DAEMON_LEG_PAYLOAD_H
#define DAEMON_LEG_PAYLOAD_H

#include <sys/uio.h>
#include "daemon/exchange.h"
#include "wire/method.h"

typedef struct {
    const Method *method;       /* none, zlib or zstd; NULL: as the source packed */
    int level;                  /* of that method, 1 to 9; 0: 1, as QEMU's */
    bool write_zero_pages;      /* the destination (before 9.0) knows none */
} LegPayloadRules;

typedef struct LegPayload LegPayload;

/* @exchange is lent; what an encoder takes is charged to it. */
LegPayload *leg_payload_new(const LegPayloadRules *rules,
                            const MultifdGeometry *geometry,
                            Exchange *exchange);
void leg_payload_free(LegPayload *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LegPayload, leg_payload_free)

enum { LEG_PAYLOAD_PIECES = 2 };

/*
 * The next page packet of the channel: its header but for packet_num, and up to
 * LEG_PAYLOAD_PIECES pieces of payload (*ret_n of them, 0 without).  They stay
 * valid until the next call, or until @packet is freed.  WIRE_ERROR_UNSUPPORTED:
 * this leg cannot have such a packet; nothing of it may be written.
 */
bool leg_payload_pack(LegPayload *self, const Packet *packet,
                      MultifdHeader *ret_header,
                      struct iovec ret_pieces[LEG_PAYLOAD_PIECES],
                      unsigned *ret_n, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* May a device-state packet go out?  Errors as above. */
bool leg_payload_check_device(const LegPayload *self, const Packet *packet,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
