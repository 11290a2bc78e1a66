/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/channel-reader.c - from bytes of a multifd channel to checked packets
 *
 * Theory of operation.  As QEMU's own receiver (migration/multifd.c,
 * multifd_recv_thread) we read 12 bytes, which tell a page packet from a
 * device-state packet, then the rest of the header, then the payload.  Unlike
 * it, nothing is taken on trust: every field is checked, against the RAM block
 * list too, before the payload is read, and room for it is reserved first, so
 * that what a source can make us hold is bounded.
 *
 * Old sources (before 9.0) may set SYNC on a packet with pages: the pages belong
 * to the epoch that the SYNC ends.  So pages first, then the SYNC.  A packet
 * without pages and without SYNC follows such a one, and says nothing.
 */
#include "daemon/channel-reader.h"

#include "daemon/worker.h"
#include "wire/error.h"
#include "wire/method.h"

enum { LOOK_MS = 100 };

typedef struct {
    ChannelReaderSetup setup;
    MultifdGeometry geometry;
    const RamblockTable *ramblocks;     /* NULL until the first data packet */
    const Method *method;               /* of the decoder */
    MethodState *decoder;
    bool decoder_paid;
    uint64_t n_packets;                 /* read so far, for messages */
    uint64_t n_syncs;
    uint8_t buf[MULTIFD_HEADER_MAX];
    MultifdHeader header;
} Reader;

typedef enum { READ_MORE, READ_ENDED, READ_FAILED } ReadResult;

/* ---- what goes wrong --------------------------------------------------------- */

static ReadResult fail_stream(Reader *self, GError *error)
{
    g_prefix_error(&error, "channel %u packet %" G_GUINT64_FORMAT ": from the "
                   "source QEMU: ", self->setup.id, self->n_packets);
    exchange_fail(self->setup.exchange, error);
    return READ_FAILED;
}

static ReadResult reject(Reader *self, GError *error)
{
    g_prefix_error(&error, "channel %u packet %" G_GUINT64_FORMAT ": ",
                   self->setup.id, self->n_packets);
    exchange_reject(self->setup.exchange, self->setup.id, self->n_packets,
                    error);
    return READ_FAILED;
}

/* The destination has no RAM block list before SYNC 1; no QEMU sends this. */
static bool check_after_first_sync(Reader *self, GError **error)
{
    if (self->n_syncs > 0) {
        return true;
    }
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "got a packet with data before the first SYNC, allowed only "
                "after it");
    return false;
}

/* ---- pages ----------------------------------------------------------------- */

static bool check_pages(Reader *self, GError **error)
{
    return check_after_first_sync(self, error) &&
           multifd_header_check_pages(&self->header, &self->geometry,
                                      self->ramblocks, error);
}

static bool select_method(Reader *self, const Method *method, GError **error)
{
    if (self->method && self->method != method) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got compression %s after %s on the same channel",
                    method->name, self->method->name);
        return false;
    }
    if (!self->method && method->decoder_new) {
        self->decoder = method->decoder_new();
    }
    self->method = method;
    return true;
}

static bool get_payload_size(Reader *self, const Method *method,
                             uint32_t *ret_size, GError **error)
{
    *ret_size = 0;
    return self->header.normal_pages == 0 ||
           method->payload_size(self->header.normal_pages,
                                self->geometry.page_size,
                                self->header.payload_size, ret_size, error);
}

static void fill_header(const Reader *self, const Method *method,
                        Packet *packet)
{
    unsigned pages = self->header.normal_pages + self->header.zero_pages;

    memcpy(&packet->header, &self->header,
           offsetof(MultifdHeader, offset) + pages * sizeof(uint64_t));
    packet->header.flags = 0;
    packet->method = method->opaque ? method->id : METHOD_NONE;
    packet->in_method = method->id;
    packet->in_channel = self->setup.id;
    packet->in_packet = self->n_packets;
}

/* Once: its first payload says how much memory the channel's stream takes. */
static bool pay_for_decoder(Reader *self, const Method *method,
                            const uint8_t *packed, uint32_t size)
{
    g_autofree char *what = NULL;
    uint64_t bytes = METHOD_DECODER_SMALL;
    GError *error = NULL;

    if (self->decoder_paid) {
        return true;
    }
    if (method->decoder_memory &&
        !method->decoder_memory(packed, size, &bytes, &error)) {
        reject(self, error);
        return false;
    }
    self->decoder_paid = true;
    what = g_strdup_printf("channel %u: decoding %s", self->setup.id,
                           method->name);
    return exchange_charge(self->setup.exchange, bytes, what);
}

static bool decode(Reader *self, const Method *method, const uint8_t *packed,
                   uint32_t size, Packet *packet, GError **error)
{
    bool ok;

    worker_begin_computing();
    ok = method->decode(self->decoder, packed, size, packet->payload,
                        packet->payload_len, error);
    worker_end_computing();
    return ok;
}

/* The payload, decoded into @packet if its method is not opaque. */
static ReadResult read_payload(Reader *self, const Method *method,
                               uint32_t size, Packet *packet)
{
    GError *error = NULL;
    g_autofree uint8_t *packed = NULL;
    uint8_t *into = packet->payload;

    if (method->decode && size > 0) {
        into = packed = g_malloc(size);
    }
    if (size > 0 && !stream_read_full(self->setup.stream, into, size, NULL,
                                      &error)) {
        return fail_stream(self, error);
    }
    if (packed && !pay_for_decoder(self, method, packed, size)) {
        return READ_FAILED;
    }
    if (packed && !decode(self, method, packed, size, packet, &error)) {
        return reject(self, error);
    }
    if (method->check && size > 0 &&
        !method->check(packet->payload, size, packet->header.normal_pages,
                       self->geometry.page_size, &error)) {
        return reject(self, error);
    }
    return READ_MORE;
}

static ReadResult handle_pages(Reader *self)
{
    g_autoptr(Packet) packet = NULL;
    GError *error = NULL;
    const Method *method;
    uint32_t size, raw_size, packed_size;

    if (!self->ramblocks) {
        self->ramblocks = exchange_wait_ramblocks(self->setup.exchange);
        if (!self->ramblocks) {
            return READ_FAILED;
        }
    }
    method = method_from_flags(self->header.flags, &error);
    if (!method || !check_pages(self, &error) ||
        !select_method(self, method, &error) ||
        !get_payload_size(self, method, &size, &error)) {
        return reject(self, error);
    }
    raw_size = method->decode
               ? self->header.normal_pages * self->geometry.page_size : size;
    /* A packed payload is held beside its pages until it is decoded. */
    packed_size = method->decode ? size : 0;
    if (!exchange_reserve(self->setup.exchange, self->setup.in,
                          packet_footprint(raw_size) + packed_size)) {
        return READ_FAILED;
    }
    packet = packet_new(self->setup.pool, PACKET_PAGES, raw_size);
    fill_header(self, method, packet);
    if (read_payload(self, method, size, packet) != READ_MORE) {
        return READ_FAILED;
    }
    exchange_release(self->setup.exchange, packed_size);
    if (!exchange_push(self->setup.exchange, self->setup.in,
                       g_steal_pointer(&packet))) {
        return READ_FAILED;
    }
    return READ_MORE;
}

static ReadResult handle_sync(Reader *self)
{
    self->n_syncs++;
    if (self->n_syncs <= self->setup.syncs_to_drop) {
        return READ_MORE;
    }
    return exchange_sync(self->setup.exchange, self->setup.in)
           ? READ_MORE : READ_FAILED;
}

/* The one cure for a page size that is not the source's. */
static ReadResult reject_page_size(Reader *self, const char *got)
{
    return reject(self, g_error_new(
        WIRE_ERROR, WIRE_ERROR_PROTOCOL,
        "got %s, expected those of a target with pages of %u bytes; where a "
        "stream does not say its page size, [tunnel] page-size must", got,
        self->geometry.page_size));
}

static bool check_page_size(Reader *self)
{
    uint32_t page_size = multifd_header_guess_page_size(self->buf,
                                                        &self->geometry);
    g_autofree char *got = NULL;

    if (page_size == 0) {
        return true;
    }
    got = g_strdup_printf("packets of a target with pages of %u bytes",
                          page_size);
    reject_page_size(self, got);
    return false;
}

static ReadResult read_page_packet(Reader *self)
{
    GError *error = NULL;

    if (!stream_read_full(self->setup.stream, self->buf + MULTIFD_PREFIX_SIZE,
                          self->geometry.header_size - MULTIFD_PREFIX_SIZE,
                          NULL, &error)) {
        return fail_stream(self, error);
    }
    if (!check_page_size(self)) {
        return READ_FAILED;
    }
    if (!multifd_header_decode(self->buf, &self->geometry, &self->header,
                               &error)) {
        return reject(self, error);
    }
    if (self->header.normal_pages + self->header.zero_pages > 0 &&
        handle_pages(self) != READ_MORE) {
        return READ_FAILED;
    }
    return self->header.flags & MULTIFD_FLAG_SYNC ? handle_sync(self)
                                                  : READ_MORE;
}

/* ---- device state --------------------------------------------------------- */

static ReadResult read_device_packet(Reader *self)
{
    g_autoptr(Packet) packet = NULL;
    MultifdDeviceHeader device;
    GError *error = NULL;

    if (!stream_read_full(self->setup.stream, self->buf + MULTIFD_PREFIX_SIZE,
                          MULTIFD_DEVICE_HEADER_SIZE - MULTIFD_PREFIX_SIZE,
                          NULL, &error)) {
        return fail_stream(self, error);
    }
    if (!multifd_device_header_decode(self->buf, DEVICE_PAYLOAD_MAX, &device,
                                      &error) ||
        !check_after_first_sync(self, &error)) {
        return reject(self, error);
    }
    if (!exchange_reserve(self->setup.exchange, self->setup.in,
                          packet_footprint(device.payload_size))) {
        return READ_FAILED;
    }
    packet = packet_new(self->setup.pool, PACKET_DEVICE_STATE,
                        device.payload_size);
    packet->device = device;
    packet->in_channel = self->setup.id;
    packet->in_packet = self->n_packets;
    if (!stream_read_full(self->setup.stream, packet->payload,
                          packet->payload_len, NULL, &error)) {
        return fail_stream(self, error);
    }
    return exchange_push(self->setup.exchange, self->setup.in,
                         g_steal_pointer(&packet)) ? READ_MORE : READ_FAILED;
}

/* ---- the channel ------------------------------------------------------------ */

static bool is_zero(const uint8_t *buf, size_t len)
{
    size_t i = 0;

    while (i < len && buf[i] == 0) {
        i++;
    }
    return i == len;
}

static ReadResult read_packet(Reader *self)
{
    GError *error = NULL;
    bool eof = false;
    uint32_t flags;

    if (!stream_read_full(self->setup.stream, self->buf, MULTIFD_PREFIX_SIZE,
                          &eof, &error)) {
        return fail_stream(self, error);
    }
    if (eof) {
        exchange_leave(self->setup.exchange, self->setup.in);
        return READ_ENDED;
    }
    if (self->n_packets == 1 && is_zero(self->buf, MULTIFD_PREFIX_SIZE)) {
        /* A SYNC of 9.2 and later is zeroes behind its first fields. */
        return reject_page_size(self, "a first packet that is longer");
    }
    if (!multifd_prefix_decode(self->buf, &flags, &error)) {
        return reject(self, error);
    }
    return flags & MULTIFD_FLAG_DEVICE_STATE ? read_device_packet(self)
                                             : read_page_packet(self);
}

/*
 * Until the main channel says how long headers are.  Its source may be gone
 * meanwhile: nobody reads the channel yet, so nobody else would notice.
 */
static bool wait_geometry(Reader *self)
{
    bool over = false;

    while (!exchange_wait_geometry_for(self->setup.exchange, LOOK_MS,
                                       &self->geometry, &over)) {
        if (over) {
            return false;
        }
        if (stream_is_hung_up(self->setup.stream)) {
            exchange_leave(self->setup.exchange, self->setup.in);
            return false;
        }
    }
    return true;
}

void channel_reader_run(const ChannelReaderSetup *setup)
{
    g_autofree Reader *self = g_new(Reader, 1);

    *self = (Reader) { .setup = *setup };
    if (wait_geometry(self)) {
        while (read_packet(self) == READ_MORE) {
            self->n_packets++;
        }
    }
    if (self->decoder) {
        self->method->state_free(self->decoder);
    }
}
