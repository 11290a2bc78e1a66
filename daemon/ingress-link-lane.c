/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/ingress-link-lane.c - reads the frames of one bulk lane
 *
 * Nothing is taken on trust: a frame's number, window and epoch are checked by its
 * header (ingress-link-receipts.c), then sizes, then the checksum over what was
 * read, then block and offsets against the RAM block list that came over the main
 * lane.  A reader waits for nothing but its peer and, once, for what the main
 * lane tells; that never waits for a bulk lane.
 */
#include "daemon/ingress-link-private.h"

#include <assert.h>

#include "daemon/link-lane.h"
#include "daemon/log.h"
#include "wire/crc32c.h"
#include "wire/error.h"
#include "wire/link-pack.h"

static_assert((int)LINK_PAGES_HEADER_MAX >= (int)MULTIFD_DEVICE_HEADER_SIZE,
              "a lane's header buffer must hold a device-state header");

/* ---- what goes wrong --------------------------------------------------------- */

/* Always false.  What breaks the connection only ends this lane. */
static bool fail(IngressLinkLane *self, GError *error)
{
    ingress_link_receipts_abandon(self->ingress->receipts, &self->frame,
                                  self->stream);
    if (error->domain == STREAM_ERROR) {
        log_debug(NULL, "link to %s, bulk lane %u: %s",
                  stream_get_peer(self->stream), self->number, error->message);
        g_error_free(error);
        return false;
    }
    g_prefix_error(&error, "link to %s, bulk lane %u: ",
                   stream_get_peer(self->stream), self->number);
    exchange_fail(self->ingress->exchange, error);
    return false;
}

static bool reject(IngressLinkLane *self, GError *error)
{
    ingress_link_receipts_abandon(self->ingress->receipts, &self->frame,
                                  self->stream);
    g_prefix_error(&error, "link to %s, bulk lane %u: frame %" G_GUINT64_FORMAT
                   " (channel %u packet %" G_GUINT64_FORMAT "): ",
                   stream_get_peer(self->stream), self->number,
                   self->frame.sequence, self->pages.in_channel,
                   self->pages.in_packet);
    exchange_reject(self->ingress->exchange, self->pages.in_channel,
                    self->pages.in_packet, error);
    return false;
}

/* Always false: the migration is over. */
static bool give_up(IngressLinkLane *self)
{
    ingress_link_receipts_abandon(self->ingress->receipts, &self->frame,
                                  self->stream);
    return false;
}

static bool check_sum(const IngressLinkLane *self, uint32_t sum, GError **error)
{
    if (sum != self->frame.checksum) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got data with checksum 0x%08x, the frame says 0x%08x",
                    sum, self->frame.checksum);
        return false;
    }
    return true;
}

static bool read_bytes(IngressLinkLane *self, void *buf, size_t len,
                       GError **error)
{
    return len == 0 || stream_read_full(self->stream, buf, len, NULL, error);
}

/* ---- pages --------------------------------------------------------------------- */

static bool is_packed(const IngressLinkLane *self)
{
    return self->frame.flags & LINK_FLAG_PACKED;
}

static bool check_packed(const IngressLinkLane *self, size_t rest,
                         GError **error)
{
    size_t most = link_pack_bound(self->pages.normal_pages,
                                  self->pages.page_size);
    size_t header = LINK_PAGES_FIXED_SIZE + rest;

    if (!self->ingress->packed || self->pages.method != METHOD_NONE ||
        self->pages.normal_pages == 0) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got packed pages, allowed only of raw ones, and if agreed "
                    "on in prepare");
        return false;
    }
    if (self->frame.length < header + 2 ||
        self->frame.length - header > most) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got %u bytes of packed frame, allowed %zu to %zu",
                    self->frame.length, header + 2, header + most);
        return false;
    }
    return true;
}

static bool read_pages_header(IngressLinkLane *self, size_t *ret_rest,
                              GError **error)
{
    uint32_t length = is_packed(self) ? self->frame.unpacked
                                      : self->frame.length;

    return read_bytes(self, self->buf, LINK_PAGES_FIXED_SIZE, error) &&
           link_pages_decode_fixed(self->buf, length, &self->pages, ret_rest,
                                   error) &&
           (!is_packed(self) || check_packed(self, *ret_rest, error)) &&
           read_bytes(self, self->buf, *ret_rest, error);
}

static bool check_said(const IngressLinkLane *self, GError **error)
{
    if (self->pages.page_size != self->geometry.page_size) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got pages of %u bytes, expected %u as the main channel "
                    "says", self->pages.page_size, self->geometry.page_size);
        return false;
    }
    if (self->pages.in_channel >= MULTIFD_CHANNELS_MAX) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got inbound channel %u, allowed 0 to %u",
                    self->pages.in_channel, MULTIFD_CHANNELS_MAX - 1);
        return false;
    }
    return true;
}

/* The framing inside an opaque payload, where receivers rely on it. */
static bool check_opaque(const Packet *packet, uint32_t page_size,
                         GError **error)
{
    const Method *method = method_from_flags(packet->method, error);
    uint32_t normal_pages = packet->header.normal_pages;
    uint32_t size;

    if (!method) {
        return false;
    }
    if (normal_pages == 0 || !method->opaque) {
        return true;
    }
    return method->payload_size(normal_pages, page_size, packet->payload_len,
                                &size, error) &&
           (!method->check ||
            method->check(packet->payload, packet->payload_len, normal_pages,
                          page_size, error));
}

static bool check_pages(IngressLinkLane *self, const Packet *packet,
                        GError **error)
{
    uint32_t sum = packet->method == METHOD_NONE
        ? crc32c_pages(packet->payload, self->geometry.page_size,
                       packet->header.normal_pages)
        : crc32c(0, packet->payload, packet->payload_len);

    return check_sum(self, sum, error) &&
           multifd_header_check_pages(&packet->header, &self->geometry,
                                      self->ramblocks, error) &&
           check_opaque(packet, self->geometry.page_size, error);
}

static Packet *new_page_packet(IngressLinkLane *self, size_t rest,
                               GError **error)
{
    g_autoptr(Packet) packet = packet_new(self->ingress->pool, PACKET_PAGES,
                                          self->pages.payload_size);

    if (!link_pages_decode_rest(&self->pages, self->buf, rest, &packet->header,
                                error)) {
        return NULL;
    }
    packet->header.flags = 0;
    packet->method = self->pages.method;
    packet->in_method = packet->method == METHOD_NONE
                        ? (MethodId)(self->frame.flags &
                                     (LINK_FLAG_ZLIB | LINK_FLAG_ZSTD))
                        : packet->method;
    packet->in_channel = self->pages.in_channel;
    packet->in_packet = self->pages.in_packet;
    return g_steal_pointer(&packet);
}

static LinkRestorer *get_restorer(IngressLinkLane *self)
{
    uint32_t page_size = self->geometry.page_size;

    if (!self->restorer) {
        self->restorer = link_restorer_new(
            ingress_link_get_restoration(self->ingress, page_size), page_size);
        self->packed = g_malloc(link_pack_bound(self->geometry.page_count,
                                                page_size));
    }
    return self->restorer;
}

/* The rest of the frame; *ret_broken: it came, and is wrong. */
static bool read_payload(IngressLinkLane *self, size_t rest, Packet *packet,
                         bool *ret_broken, GError **error)
{
    size_t len = self->frame.length - LINK_PAGES_FIXED_SIZE - rest;
    LinkRestorer *restorer;

    if (!is_packed(self)) {
        return read_bytes(self, packet->payload, packet->payload_len, error);
    }
    restorer = get_restorer(self);
    if (!read_bytes(self, self->packed, len, error)) {
        return false;
    }
    *ret_broken = !link_restorer_unpack(restorer, self->packed, len, packet,
                                        error);
    return !*ret_broken;
}

static bool handle_pages(IngressLinkLane *self)
{
    g_autoptr(Packet) packet = NULL;
    GError *error = NULL;
    bool broken = false;
    size_t rest;

    if (!read_pages_header(self, &rest, &error)) {
        return fail(self, error);
    }
    if (!self->ramblocks) {
        self->ramblocks = exchange_wait_ramblocks(self->ingress->exchange);
        if (!self->ramblocks) {
            return give_up(self);
        }
    }
    if (!check_said(self, &error) ||
        !(packet = new_page_packet(self, rest, &error))) {
        return reject(self, error);
    }
    if (!read_payload(self, rest, packet, &broken, &error)) {
        return broken ? reject(self, error) : fail(self, error);
    }
    if (!check_pages(self, packet, &error)) {
        return reject(self, error);
    }
    /* Before it is released: nobody else stores the same frame. */
    if (is_packed(self)) {
        link_restorer_store(self->restorer, packet);
    }
    return ingress_link_receipts_push(self->ingress->receipts, &self->frame,
                                      g_steal_pointer(&packet));
}

/* ---- device state, end of epoch ---------------------------------------------------- */

static bool read_device(IngressLinkLane *self, Packet **ret, GError **error)
{
    uint32_t payload_len = self->frame.length - MULTIFD_DEVICE_HEADER_SIZE;
    g_autoptr(Packet) packet = NULL;
    MultifdDeviceHeader device;

    if (!read_bytes(self, self->buf, MULTIFD_DEVICE_HEADER_SIZE, error) ||
        !multifd_device_header_decode(self->buf, DEVICE_PAYLOAD_MAX, &device,
                                      error)) {
        return false;
    }
    if (device.payload_size != payload_len) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a device-state packet of %u bytes in a frame for %u",
                    device.payload_size, payload_len);
        return false;
    }
    packet = packet_new(self->ingress->pool, PACKET_DEVICE_STATE, payload_len);
    packet->device = device;
    packet->in_channel = MULTIFD_CHANNELS_MAX;      /* a DEVICE does not say */
    packet->in_packet = self->frame.sequence;
    if (!read_bytes(self, packet->payload, payload_len, error) ||
        !check_sum(self, crc32c(0, packet->payload, payload_len), error)) {
        return false;
    }
    *ret = g_steal_pointer(&packet);
    return true;
}

static bool handle_device(IngressLinkLane *self)
{
    Packet *packet;
    GError *error = NULL;

    if (!read_device(self, &packet, &error)) {
        g_prefix_error(&error, "frame %" G_GUINT64_FORMAT ": ",
                       self->frame.sequence);
        return fail(self, error);
    }
    return ingress_link_receipts_push(self->ingress->receipts, &self->frame,
                                      packet);
}

static bool handle_epoch_end(IngressLinkLane *self)
{
    GError *error = NULL;

    if (!read_bytes(self, self->buf, LINK_EPOCH_END_SIZE, &error) ||
        !ingress_link_receipts_epoch_end(self->ingress->receipts, &self->frame,
                                         link_epoch_end_decode(self->buf),
                                         &error)) {
        return fail(self, error);
    }
    return true;
}

/* ---- a lane ------------------------------------------------------------------------ */

static bool read_header(IngressLinkLane *self, bool *ret_copy, GError **error)
{
    bool eof;

    if (!link_lane_read(self->stream, &self->frame, &eof, error)) {
        return false;
    }
    if (eof) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_EOF, "the peer ended it");
        return false;
    }
    if (self->frame.type != LINK_PAGES && self->frame.type != LINK_DEVICE &&
        self->frame.type != LINK_EPOCH_END) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a %s frame, which a bulk lane does not carry",
                    link_frame_type_name(self->frame.type));
        return false;
    }
    return ingress_link_receipts_admit(self->ingress->receipts, &self->frame,
                                       self->stream, ret_copy, error);
}

static bool drop_copy(IngressLinkLane *self)
{
    GError *error = NULL;

    for (uint32_t left = self->frame.length; left > 0;) {
        uint32_t part = MIN(left, sizeof(self->buf));

        if (!read_bytes(self, self->buf, part, &error)) {
            return fail(self, error);
        }
        left -= part;
    }
    return true;
}

/* Once, with the first header in hand: what the main lane tells must have come. */
static bool wait_multifd(IngressLinkLane *self)
{
    uint8_t uuid[MULTIFD_UUID_SIZE];
    unsigned channels;
    ExchangeMode mode = exchange_wait_decided(self->ingress->exchange,
                                              &channels, uuid);

    if (mode == EXCHANGE_MAIN_ONLY) {
        return fail(self, g_error_new(WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                                      "got a bulk frame, allowed none in a "
                                      "migration without multifd"));
    }
    return (mode == EXCHANGE_MULTIFD &&
            exchange_wait_geometry(self->ingress->exchange, &self->geometry)) ||
           give_up(self);
}

static bool handle_frame(IngressLinkLane *self)
{
    GError *error = NULL;
    bool copy = false;

    if (!read_header(self, &copy, &error)) {
        return fail(self, error);
    }
    if (copy) {
        return drop_copy(self);
    }
    if (self->geometry.page_size == 0 && !wait_multifd(self)) {
        return false;
    }
    switch (self->frame.type) {
    case LINK_PAGES:
        return handle_pages(self);
    case LINK_DEVICE:
        return handle_device(self);
    default:
        return handle_epoch_end(self);
    }
}

void ingress_link_lane_run(IngressLinkLane *self)
{
    while (handle_frame(self)) {
    }
    link_restorer_free(self->restorer);
    g_free(self->packed);
}
