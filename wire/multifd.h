/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/multifd.h - what QEMU writes on a multifd channel
 *
 * Pure functions over bytes: nothing here allocates (but error texts), blocks,
 * logs or keeps state.  Decoders trust no field, keep no pointer into their
 * input, and on failure leave their result alone.
 *
 * The layouts are QEMU's MultiFDInit_t, MultiFDPacketHdr_t, MultiFDPacket_t and
 * MultiFDPacketDeviceState_t (migration/multifd.h).  One decoder serves all
 * versions: before 9.0 the zero page count is a reserved field that is sent as
 * 0, and 10.0 added device-state packets, told by a flag in the first 12 bytes.
 */
#ifndef WIRE_MULTIFD_H
#define WIRE_MULTIFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>
#include "wire/ramblock.h"

#define MULTIFD_MAGIC 0x11223344u
#define MULTIFD_VERSION 1u

enum {
    MULTIFD_INIT_SIZE = 64,
    MULTIFD_UUID_SIZE = 16,
    MULTIFD_PREFIX_SIZE = 12,           /* magic, version, flags */
    MULTIFD_DEVICE_HEADER_SIZE = 276,
    MULTIFD_PACKET_SIZE = 512 * 1024,   /* QEMU's MULTIFD_PACKET_SIZE, bytes */
    MULTIFD_PAYLOAD_MAX = 2 * MULTIFD_PACKET_SIZE,  /* a receiver's buffer */
    MULTIFD_PAGES_MAX = MULTIFD_PACKET_SIZE / 1024, /* smallest page: 1 KiB */
    MULTIFD_HEADER_MAX = 320 + 8 * MULTIFD_PAGES_MAX,
    MULTIFD_CHANNELS_MAX = 255,
};

enum {
    MULTIFD_FLAG_SYNC = 1u << 0,
    MULTIFD_FLAG_METHOD_MASK = 0x3eu,   /* payload method, wire/method.h */
    MULTIFD_FLAG_DEVICE_STATE = 1u << 6,
    MULTIFD_FLAGS_KNOWN = 0x7fu,
};

/* What follows from the target's page size, which both ends share. */
typedef struct {
    uint32_t page_size;     /* bytes, a power of two, 1 KiB to 64 KiB */
    uint32_t page_count;    /* pages that a packet can name */
    uint32_t header_size;   /* bytes of every page packet's header */
} MultifdGeometry;

/* Fails with WIRE_ERROR_PROTOCOL for a page size that no target has. */
bool multifd_geometry_init(MultifdGeometry *self, uint64_t page_size,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

typedef struct {
    uint8_t uuid[MULTIFD_UUID_SIZE];    /* all zero: the guest has none */
    uint8_t id;                         /* channel number */
} MultifdInit;

void multifd_init_encode(const MultifdInit *self,
                         uint8_t buf[MULTIFD_INIT_SIZE]);
/* WIRE_ERROR_PROTOCOL: magic or version differ.  The caller checks the id. */
bool multifd_init_decode(const uint8_t buf[MULTIFD_INIT_SIZE],
                         MultifdInit *ret, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* The 12 bytes that tell how a packet goes on. */
bool multifd_prefix_decode(const uint8_t buf[MULTIFD_PREFIX_SIZE],
                           uint32_t *ret_flags, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* A page packet's header, in host order. */
typedef struct {
    uint32_t flags;
    uint32_t pages_alloc;
    uint32_t normal_pages;
    uint32_t zero_pages;
    uint32_t payload_size;  /* next_packet_size; 0 without normal pages */
    uint64_t packet_num;
    char ramblock[RAMBLOCK_NAME_MAX + 1];   /* empty without pages */
    /* bytes into the block: normal pages first, then zero pages */
    uint64_t offset[MULTIFD_PAGES_MAX];
} MultifdHeader;

/*
 * Decode the whole header, geometry->header_size bytes, and check what can be
 * checked without the RAM block table: magic, version, flags, the page counts,
 * a terminated name.  With no pages at all the name, offsets, method and
 * payload_size say nothing (they may be stale) and are returned as 0; so is the
 * payload_size of a packet with zero pages alone, which has no payload either.
 * A device-state flag here is an error: the caller looks at the prefix first.
 */
bool multifd_header_decode(const uint8_t *buf, const MultifdGeometry *geometry,
                           MultifdHeader *ret, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/*
 * What page size the source has, where @buf, geometry->header_size bytes from a
 * header's beginning on, shows that it is not @geometry's: pages_alloc makes
 * 512 KiB with another, or the next packet begins where a shorter header ends.
 * 0: nothing shows.
 */
uint32_t multifd_header_guess_page_size(const uint8_t *buf,
                                        const MultifdGeometry *geometry);

/* Write geometry->header_size bytes; what is unused is zero. */
void multifd_header_encode(const MultifdHeader *self,
                           const MultifdGeometry *geometry, uint8_t *buf);

/* A SYNC as 9.2 and later send it, which every version accepts. */
void multifd_sync_encode(uint64_t packet_num, const MultifdGeometry *geometry,
                         uint8_t *buf);

/*
 * Check the named block and every offset against @table: known block, aligned,
 * offset + page within used_length, no page twice in the packet.
 */
bool multifd_header_check_pages(const MultifdHeader *self,
                                const MultifdGeometry *geometry,
                                const RamblockTable *table, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* QEMU's MultiFDPacketDeviceState_t, since 10.0. */
typedef struct {
    char idstr[RAMBLOCK_NAME_MAX + 1];
    uint32_t instance_id;
    uint32_t payload_size;  /* bytes; above 0, at most the caller's limit */
} MultifdDeviceHeader;

bool multifd_device_header_decode(const uint8_t buf[MULTIFD_DEVICE_HEADER_SIZE],
                                  uint32_t payload_max,
                                  MultifdDeviceHeader *ret, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void multifd_device_header_encode(const MultifdDeviceHeader *self,
                                  uint8_t buf[MULTIFD_DEVICE_HEADER_SIZE]);

#endif
