/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/packet.h - one decoded packet on its way through the exchange
 *
 * A packet has one owner at a time; passing it on is a g_steal_pointer().  Big
 * payload buffers come from a pool that a migration shares, because mapping half
 * a megabyte anew for each packet costs more than copying it.
 */
#ifndef DAEMON_PACKET_H
#define DAEMON_PACKET_H

#include <stdbool.h>
#include <stdint.h>
#include "wire/method.h"
#include "wire/multifd.h"

typedef struct PacketPool PacketPool;

/* Thread-safe; packets hold a reference. */
PacketPool *packet_pool_new(void);
PacketPool *packet_pool_ref(PacketPool *self);
void packet_pool_unref(PacketPool *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PacketPool, packet_pool_unref)

/* Most that a device-state packet may carry, bytes; VFIO sends 1 MiB at a time. */
enum { DEVICE_PAYLOAD_MAX = 16 * 1024 * 1024 };

typedef enum { PACKET_PAGES, PACKET_DEVICE_STATE } PacketKind;

typedef struct Packet Packet;
/* Called once, from packet_free(), in whatever thread that is. */
typedef void (*PacketDone)(const Packet *packet, void *data);

struct Packet {
    PacketKind kind;
    MultifdHeader header;           /* PACKET_PAGES */
    MultifdDeviceHeader device;     /* PACKET_DEVICE_STATE */
    MethodId method;                /* of the payload as it is here: NONE is raw pages */
    MethodId in_method;             /* as the source QEMU packed it */
    uint8_t *payload;               /* NULL when payload_len is 0 */
    uint32_t payload_len;           /* bytes */

    /* Where it came in, for messages and counters. */
    uint16_t in_channel;
    uint64_t in_packet;

    /* On a link: its frame number, and who wants to know that it was handed on. */
    uint64_t sequence;
    PacketDone done;
    void *done_data;

    /* Private. */
    gatomicrefcount refs;
    PacketPool *pool;
    uint32_t capacity;
};

/* A packet with room for @payload_len bytes; the header is cleared but for the
 * offsets.  @payload_len has been checked against a limit by the caller. */
Packet *packet_new(PacketPool *pool, PacketKind kind, uint32_t payload_len);
/* One more who must call packet_free(): only the last call frees it.  Nobody changes
 * it any more then. */
Packet *packet_ref(Packet *self);
void packet_free(Packet *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Packet, packet_free)

/* Bytes of memory that a packet with such a payload will hold; that it holds. */
uint64_t packet_footprint(uint32_t payload_len);
uint64_t packet_get_footprint(const Packet *self);

#endif
