/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/multifd.h"

/* QEMU's MultiFDInit_t.  What is not named is reserved. */
enum {
    INIT_MAGIC   = 0,
    INIT_VERSION = INIT_MAGIC + 4,
    INIT_UUID    = INIT_VERSION + 4,
    INIT_ID      = INIT_UUID + MULTIFD_UUID_SIZE,
    INIT_END     = INIT_ID + 1 + 7 + 32,
};
static_assert(INIT_ID == 24, "multifd init: id moved");
static_assert((int)INIT_END == MULTIFD_INIT_SIZE, "multifd init: size changed");

/* QEMU's MultiFDPacket_t; zero_pages is reserved before 9.0. */
enum {
    OFF_MAGIC        = 0,
    OFF_VERSION      = OFF_MAGIC + 4,
    OFF_FLAGS        = OFF_VERSION + 4,
    OFF_PAGES_ALLOC  = OFF_FLAGS + 4,
    OFF_NORMAL_PAGES = OFF_PAGES_ALLOC + 4,
    OFF_PAYLOAD_SIZE = OFF_NORMAL_PAGES + 4,
    OFF_PACKET_NUM   = OFF_PAYLOAD_SIZE + 4,
    OFF_ZERO_PAGES   = OFF_PACKET_NUM + 8,
    OFF_RAMBLOCK     = OFF_ZERO_PAGES + 4 + 4 + 24,
    OFF_OFFSET       = OFF_RAMBLOCK + RAMBLOCK_NAME_MAX + 1,
};
static_assert((int)OFF_PAGES_ALLOC == MULTIFD_PREFIX_SIZE,
              "multifd prefix changed");
static_assert(OFF_PACKET_NUM == 24, "multifd header: packet_num moved");
static_assert(OFF_RAMBLOCK == 64, "multifd header: ramblock moved");
static_assert(OFF_OFFSET + 8 * MULTIFD_PAGES_MAX == MULTIFD_HEADER_MAX,
              "multifd header: size changed");

/* QEMU's MultiFDPacketDeviceState_t. */
enum {
    DEV_IDSTR        = MULTIFD_PREFIX_SIZE,
    DEV_INSTANCE_ID  = DEV_IDSTR + RAMBLOCK_NAME_MAX + 1,
    DEV_PAYLOAD_SIZE = DEV_INSTANCE_ID + 4,
    DEV_END          = DEV_PAYLOAD_SIZE + 4,
};
static_assert((int)DEV_END == MULTIFD_DEVICE_HEADER_SIZE,
              "multifd device header: size changed");

enum { PAGE_SIZE_MIN = 1024, PAGE_SIZE_MAX = 65536 };

bool multifd_geometry_init(MultifdGeometry *self, uint64_t page_size,
                           GError **error)
{
    if (page_size < PAGE_SIZE_MIN || page_size > PAGE_SIZE_MAX ||
        (page_size & (page_size - 1)) != 0) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "target page size: got %" PRIu64 ", allowed a power of two "
                    "from %d to %d", page_size, PAGE_SIZE_MIN, PAGE_SIZE_MAX);
        return false;
    }
    self->page_size = page_size;
    self->page_count = MULTIFD_PACKET_SIZE / page_size;
    self->header_size = OFF_OFFSET + 8 * self->page_count;
    return true;
}

/* @what: "init" or "packet". */
static bool check_magic(const uint8_t *buf, const char *what, GError **error)
{
    uint32_t magic = bytes_get_be32(buf + OFF_MAGIC);
    uint32_t version = bytes_get_be32(buf + OFF_VERSION);

    if (magic != MULTIFD_MAGIC) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd %s: got magic 0x%08x, allowed 0x%08x", what,
                    magic, MULTIFD_MAGIC);
        return false;
    }
    if (version != MULTIFD_VERSION) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd %s: got version %u, allowed %u", what, version,
                    MULTIFD_VERSION);
        return false;
    }
    return true;
}

static void put_magic(uint8_t *buf)
{
    bytes_put_be32(buf + OFF_MAGIC, MULTIFD_MAGIC);
    bytes_put_be32(buf + OFF_VERSION, MULTIFD_VERSION);
}

void multifd_init_encode(const MultifdInit *self,
                         uint8_t buf[MULTIFD_INIT_SIZE])
{
    memset(buf, 0, MULTIFD_INIT_SIZE);
    put_magic(buf);
    memcpy(buf + INIT_UUID, self->uuid, MULTIFD_UUID_SIZE);
    buf[INIT_ID] = self->id;
}

bool multifd_init_decode(const uint8_t buf[MULTIFD_INIT_SIZE],
                         MultifdInit *ret, GError **error)
{
    if (!check_magic(buf, "init", error)) {
        return false;
    }
    memcpy(ret->uuid, buf + INIT_UUID, MULTIFD_UUID_SIZE);
    ret->id = buf[INIT_ID];
    return true;
}

bool multifd_prefix_decode(const uint8_t buf[MULTIFD_PREFIX_SIZE],
                           uint32_t *ret_flags, GError **error)
{
    uint32_t flags = bytes_get_be32(buf + OFF_FLAGS);

    if (!check_magic(buf, "packet", error)) {
        return false;
    }
    if (flags & ~MULTIFD_FLAGS_KNOWN) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet: got flags 0x%x, allowed only those in "
                    "0x%x", flags, MULTIFD_FLAGS_KNOWN);
        return false;
    }
    *ret_flags = flags;
    return true;
}

/* The counts hold to each other and to what a packet can name. */
static bool check_counts(const MultifdHeader *h, const MultifdGeometry *geometry,
                         GError **error)
{
    if (h->pages_alloc > geometry->page_count) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet %" PRIu64 ": got pages_alloc %u, allowed "
                    "at most %u", h->packet_num, h->pages_alloc,
                    geometry->page_count);
        return false;
    }
    if (h->normal_pages > h->pages_alloc) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet %" PRIu64 ": got normal_pages %u, allowed "
                    "at most %u (pages_alloc)", h->packet_num, h->normal_pages,
                    h->pages_alloc);
        return false;
    }
    /* Subtract rather than add: the peer picks both, and a sum could wrap. */
    if (h->zero_pages > h->pages_alloc - h->normal_pages) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet %" PRIu64 ": got zero_pages %u, allowed at "
                    "most %u (pages_alloc - normal_pages)", h->packet_num,
                    h->zero_pages, h->pages_alloc - h->normal_pages);
        return false;
    }
    return true;
}

/*
 * What is stale without pages is 0: QEMU 7.2 leaves the size, name and offsets
 * of an earlier packet in a SYNC.  Who knows zero pages (9.0 on) leaves no size
 * with zero pages alone, and its receivers assert that.
 */
static bool decode_payload_size(const uint8_t *buf, MultifdHeader *h,
                                GError **error)
{
    uint32_t size = bytes_get_be32(buf + OFF_PAYLOAD_SIZE);

    if (h->normal_pages == 0 && h->zero_pages > 0 && size > 0) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet %" PRIu64 ": got next_packet_size %u, "
                    "allowed 0 with zero pages alone", h->packet_num, size);
        return false;
    }
    h->payload_size = h->normal_pages ? size : 0;
    return true;
}

/* The fields before the name, into @h. */
static bool decode_numbers(const uint8_t *buf, const MultifdGeometry *geometry,
                           MultifdHeader *h, GError **error)
{
    if (!multifd_prefix_decode(buf, &h->flags, error)) {
        return false;
    }
    h->packet_num = bytes_get_be64(buf + OFF_PACKET_NUM);
    if (h->flags & MULTIFD_FLAG_DEVICE_STATE) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet: got flags 0x%x, allowed no device state "
                    "(0x%x) in a page packet", h->flags,
                    MULTIFD_FLAG_DEVICE_STATE);
        return false;
    }
    h->pages_alloc = bytes_get_be32(buf + OFF_PAGES_ALLOC);
    h->normal_pages = bytes_get_be32(buf + OFF_NORMAL_PAGES);
    h->zero_pages = bytes_get_be32(buf + OFF_ZERO_PAGES);
    if (!check_counts(h, geometry, error) ||
        !decode_payload_size(buf, h, error)) {
        return false;
    }
    if (h->normal_pages == 0 && h->zero_pages == 0) {
        h->flags &= ~MULTIFD_FLAG_METHOD_MASK;
    }
    return true;
}

bool multifd_header_decode(const uint8_t *buf, const MultifdGeometry *geometry,
                           MultifdHeader *ret, GError **error)
{
    MultifdHeader h = { 0 };
    uint32_t n_pages;

    if (!decode_numbers(buf, geometry, &h, error)) {
        return false;
    }
    n_pages = h.normal_pages + h.zero_pages;
    if (n_pages > 0) {
        const uint8_t *name = buf + OFF_RAMBLOCK;
        const uint8_t *end = memchr(name, '\0', sizeof(h.ramblock));

        if (!end) {
            g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                        "multifd packet %" PRIu64 ": got a ramblock name "
                        "without its NUL, allowed at most %d bytes",
                        h.packet_num, RAMBLOCK_NAME_MAX);
            return false;
        }
        memcpy(h.ramblock, name, end - name);
    }
    for (uint32_t i = 0; i < n_pages; i++) {
        h.offset[i] = bytes_get_be64(buf + OFF_OFFSET + 8 * i);
    }
    *ret = h;
    return true;
}

/* Sources before 9.2 say pages_alloc even in a SYNC. */
static uint32_t page_size_of_alloc(const uint8_t *buf)
{
    uint32_t pages_alloc = bytes_get_be32(buf + OFF_PAGES_ALLOC);
    MultifdGeometry geometry;

    return pages_alloc > 0 &&
           multifd_geometry_init(&geometry, MULTIFD_PACKET_SIZE / pages_alloc,
                                 NULL) &&
           geometry.page_count == pages_alloc ? geometry.page_size : 0;
}

uint32_t multifd_header_guess_page_size(const uint8_t *buf,
                                        const MultifdGeometry *geometry)
{
    uint32_t said = page_size_of_alloc(buf);
    MultifdGeometry longer;

    if (said > 0) {
        return said == geometry->page_size ? 0 : said;
    }
    for (uint64_t size = geometry->page_size * 2; size <= PAGE_SIZE_MAX;
         size *= 2) {
        /* No offset has this version in its low half: it would be unaligned. */
        if (multifd_geometry_init(&longer, size, NULL) &&
            bytes_get_be32(buf + longer.header_size) == MULTIFD_MAGIC &&
            bytes_get_be32(buf + longer.header_size + OFF_VERSION) ==
            MULTIFD_VERSION) {
            return size;
        }
    }
    return 0;
}

void multifd_header_encode(const MultifdHeader *self,
                           const MultifdGeometry *geometry, uint8_t *buf)
{
    uint32_t n_pages = self->normal_pages + self->zero_pages;

    g_assert(self->normal_pages <= geometry->page_count);
    g_assert(self->zero_pages <= geometry->page_count - self->normal_pages);

    memset(buf, 0, geometry->header_size);
    put_magic(buf);
    bytes_put_be32(buf + OFF_FLAGS, self->flags);
    bytes_put_be32(buf + OFF_PAGES_ALLOC, self->pages_alloc);
    bytes_put_be32(buf + OFF_NORMAL_PAGES, self->normal_pages);
    bytes_put_be32(buf + OFF_PAYLOAD_SIZE, self->payload_size);
    bytes_put_be64(buf + OFF_PACKET_NUM, self->packet_num);
    bytes_put_be32(buf + OFF_ZERO_PAGES, self->zero_pages);
    memcpy(buf + OFF_RAMBLOCK, self->ramblock,
           strnlen(self->ramblock, RAMBLOCK_NAME_MAX));
    for (uint32_t i = 0; i < n_pages; i++) {
        bytes_put_be64(buf + OFF_OFFSET + 8 * i, self->offset[i]);
    }
}

void multifd_sync_encode(uint64_t packet_num, const MultifdGeometry *geometry,
                         uint8_t *buf)
{
    memset(buf, 0, geometry->header_size);
    put_magic(buf);
    bytes_put_be32(buf + OFF_FLAGS, MULTIFD_FLAG_SYNC);
    bytes_put_be64(buf + OFF_PACKET_NUM, packet_num);
}

/*
 * A small open-addressed set of the packet's pages, twice the most that a
 * packet can name, so that it neither fills up nor needs the heap.
 */
enum { SEEN_SLOTS = 2 * MULTIFD_PAGES_MAX };
static_assert(MULTIFD_PAGES_MAX < UINT16_MAX, "an index + 1 fits a slot");

static bool check_unique(const MultifdHeader *self, uint32_t n_pages,
                         const MultifdGeometry *geometry, const char *block,
                         GError **error)
{
    uint16_t seen[SEEN_SLOTS] = { 0 };      /* index + 1 into offset[] */

    for (uint32_t i = 0; i < n_pages; i++) {
        uint64_t page = self->offset[i] / geometry->page_size;
        uint32_t slot = page % SEEN_SLOTS;

        for (; seen[slot]; slot = (slot + 1) % SEEN_SLOTS) {
            if (self->offset[seen[slot] - 1] == self->offset[i]) {
                g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                            "multifd packet %" PRIu64 ": got offset 0x%" PRIx64
                            " of ramblock '%s' twice, allowed once",
                            self->packet_num, self->offset[i], block);
                return false;
            }
        }
        seen[slot] = i + 1;
    }
    return true;
}

static bool check_offset(const MultifdHeader *self, uint32_t index,
                         const MultifdGeometry *geometry, const Ramblock *block,
                         const char *shown, GError **error)
{
    uint64_t offset = self->offset[index];

    if (offset % geometry->page_size != 0) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet %" PRIu64 ": got offset[%u] 0x%" PRIx64
                    " of ramblock '%s', allowed only multiples of 0x%x",
                    self->packet_num, index, offset, shown,
                    geometry->page_size);
        return false;
    }
    if (block->used_length < geometry->page_size ||
        offset > block->used_length - geometry->page_size) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet %" PRIu64 ": got offset[%u] 0x%" PRIx64
                    " of ramblock '%s', allowed only whole pages within "
                    "used_length 0x%" PRIx64, self->packet_num, index, offset,
                    shown, block->used_length);
        return false;
    }
    return true;
}

bool multifd_header_check_pages(const MultifdHeader *self,
                                const MultifdGeometry *geometry,
                                const RamblockTable *table, GError **error)
{
    uint32_t n_pages = self->normal_pages + self->zero_pages;
    size_t name_len = strnlen(self->ramblock, sizeof(self->ramblock));
    g_autofree char *shown = NULL;
    const Ramblock *block;

    g_assert(n_pages <= geometry->page_count);
    if (n_pages == 0) {
        return true;
    }
    shown = ramblock_name_escape(self->ramblock, name_len);
    block = ramblock_table_find(table, self->ramblock, name_len);
    if (!block) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet %" PRIu64 ": got ramblock '%s', allowed "
                    "one of the %u announced on the main channel",
                    self->packet_num, shown, ramblock_table_get_count(table));
        return false;
    }
    for (uint32_t i = 0; i < n_pages; i++) {
        if (!check_offset(self, i, geometry, block, shown, error)) {
            return false;
        }
    }
    return check_unique(self, n_pages, geometry, shown, error);
}

bool multifd_device_header_decode(const uint8_t buf[MULTIFD_DEVICE_HEADER_SIZE],
                                  uint32_t payload_max,
                                  MultifdDeviceHeader *ret, GError **error)
{
    MultifdDeviceHeader h = { 0 };
    const uint8_t *end = memchr(buf + DEV_IDSTR, '\0', sizeof(h.idstr));
    uint32_t flags;

    if (!multifd_prefix_decode(buf, &flags, error)) {
        return false;
    }
    if (flags != MULTIFD_FLAG_DEVICE_STATE) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd device state: got flags 0x%x, allowed 0x%x alone",
                    flags, MULTIFD_FLAG_DEVICE_STATE);
        return false;
    }
    if (!end || end == buf + DEV_IDSTR) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd device state: got an idstr that is %s, allowed "
                    "1 to %d bytes and a NUL", end ? "empty" : "not terminated",
                    RAMBLOCK_NAME_MAX);
        return false;
    }
    memcpy(h.idstr, buf + DEV_IDSTR, end - (buf + DEV_IDSTR));
    h.instance_id = bytes_get_be32(buf + DEV_INSTANCE_ID);
    h.payload_size = bytes_get_be32(buf + DEV_PAYLOAD_SIZE);
    if (h.payload_size == 0 || h.payload_size > payload_max) {
        g_autofree char *shown = ramblock_name_escape(h.idstr, strlen(h.idstr));

        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd device state of '%s' instance %u: got "
                    "next_packet_size %u, allowed 1 to %u", shown,
                    h.instance_id, h.payload_size, payload_max);
        return false;
    }
    *ret = h;
    return true;
}

void multifd_device_header_encode(const MultifdDeviceHeader *self,
                                  uint8_t buf[MULTIFD_DEVICE_HEADER_SIZE])
{
    memset(buf, 0, MULTIFD_DEVICE_HEADER_SIZE);
    put_magic(buf);
    bytes_put_be32(buf + OFF_FLAGS, MULTIFD_FLAG_DEVICE_STATE);
    memcpy(buf + DEV_IDSTR, self->idstr,
           strnlen(self->idstr, RAMBLOCK_NAME_MAX));
    bytes_put_be32(buf + DEV_INSTANCE_ID, self->instance_id);
    bytes_put_be32(buf + DEV_PAYLOAD_SIZE, self->payload_size);
}
