/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/leg-payload.h"

#include <string.h>

#include "daemon/worker.h"
#include "wire/error.h"

struct LegPayload {
    LegPayloadRules rules;      /* constant */
    MultifdGeometry geometry;   /* constant */
    Exchange *exchange;
    const Method *method;       /* NULL until the first packet */
    MethodState *encoder;
    uint8_t *packed;            /* an encoder's output; else NULL */
    uint8_t *raw;               /* its input, where that is not the packet's own */
};

/* What a zero page is written from; as much as one packet can name. */
static uint8_t zeroes[MULTIFD_PACKET_SIZE];

LegPayload *leg_payload_new(const LegPayloadRules *rules,
                            const MultifdGeometry *geometry,
                            Exchange *exchange)
{
    LegPayload *self = g_new0(LegPayload, 1);

    self->rules = *rules;
    self->rules.level = MAX(rules->level, METHOD_LEVEL_MIN);
    self->geometry = *geometry;
    self->exchange = exchange;
    return self;
}

void leg_payload_free(LegPayload *self)
{
    if (!self) {
        return;
    }
    if (self->encoder) {
        self->method->state_free(self->encoder);
    }
    g_free(self->packed);
    g_free(self->raw);
    g_free(self);
}

/* ---- which method ------------------------------------------------------------- */

static bool start_encoder(LegPayload *self, const Method *method,
                          GError **error)
{
    uint64_t bytes = method->encoder_memory(self->rules.level) +
                     MULTIFD_PAYLOAD_MAX +
                     (self->rules.write_zero_pages ? MULTIFD_PACKET_SIZE : 0);
    g_autofree char *what = g_strdup_printf("packing an outbound channel with "
                                            "%s level %d", method->name,
                                            self->rules.level);

    if (!exchange_charge(self->exchange, bytes, what)) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
                    "no memory to pack it");
        return false;
    }
    self->encoder = method->encoder_new(self->rules.level);
    self->packed = g_malloc(MULTIFD_PAYLOAD_MAX);
    if (self->rules.write_zero_pages) {
        self->raw = g_malloc(MULTIFD_PACKET_SIZE);
    }
    return true;
}

/* An accelerator's payload goes on as it came, or not at all. */
static bool check_opaque(const Packet *packet, const Method *leg,
                         GError **error)
{
    const Method *method;

    if (packet->method == METHOD_NONE || packet->method == leg->id) {
        return true;
    }
    method = method_from_flags(packet->method, error);
    if (method) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
                    "got pages that the source QEMU packed with %s, expected "
                    "none, zlib or zstd: %s cannot be unpacked here to be "
                    "packed with %s ([tunnel] compression)", method->name,
                    method->name, leg->name);
    }
    return false;
}

/* A destination takes one method for all of a channel. */
static bool choose_method(LegPayload *self, const Packet *packet,
                          GError **error)
{
    const Method *method = self->rules.method;

    if (!method) {
        method = method_from_flags(packet->in_method, error);
    }
    if (!method || !check_opaque(packet, method, error)) {
        return false;
    }
    if (!self->method) {
        self->method = method;
        return !method->encode || start_encoder(self, method, error);
    }
    if (method != self->method) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got compression %s after %s", method->name,
                    self->method->name);
        return false;
    }
    return true;
}

bool leg_payload_check_device(const LegPayload *self, const Packet *packet,
                              GError **error)
{
    const Method *method = self->rules.method ? self->rules.method
                                              : self->method;
    g_autofree char *shown = NULL;

    if (!method || method->id == METHOD_NONE) {
        return true;
    }
    shown = ramblock_name_escape(packet->device.idstr,
                                 strlen(packet->device.idstr));
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
                "got a device-state packet of '%s', expected none on a leg with "
                "compression %s: a destination takes device state on multifd "
                "channels only where its multifd-compression is none; let both "
                "QEMUs have none, or switch off x-migration-multifd-transfer of "
                "the device", shown, method->name);
    return false;
}

/* ---- zero pages ------------------------------------------------------------------- */

/* Those named in @packet become pages of zeroes behind its own. */
static bool take_zero_pages(const LegPayload *self, const Packet *packet,
                            MultifdHeader *header, size_t *ret_zero_len,
                            GError **error)
{
    *ret_zero_len = 0;
    if (!self->rules.write_zero_pages || header->zero_pages == 0) {
        return true;
    }
    if (packet->method != METHOD_NONE) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
                    "got %u zero pages in a packet with %s, expected none, "
                    "zlib or zstd where zero pages are to be written ([tunnel] "
                    "zero-pages=write)", header->zero_pages,
                    self->method->name);
        return false;
    }
    *ret_zero_len = (size_t)header->zero_pages * self->geometry.page_size;
    header->normal_pages += header->zero_pages;
    header->zero_pages = 0;
    return true;
}

/* ---- the payload ------------------------------------------------------------------ */

/* The pages in one piece, as an encoder wants them. */
static const uint8_t *join_pages(LegPayload *self, const Packet *packet,
                                 size_t zero_len)
{
    if (zero_len == 0) {
        return packet->payload;
    }
    if (packet->payload_len == 0) {
        return zeroes;
    }
    memcpy(self->raw, packet->payload, packet->payload_len);
    memset(self->raw + packet->payload_len, 0, zero_len);
    return self->raw;
}

static bool encode(LegPayload *self, const Packet *packet, size_t zero_len,
                   struct iovec *ret_piece, GError **error)
{
    size_t len;
    bool ok;

    worker_begin_computing();
    ok = self->method->encode(self->encoder, join_pages(self, packet, zero_len),
                              packet->payload_len + zero_len, self->packed,
                              MULTIFD_PAYLOAD_MAX, &len, error);
    worker_end_computing();
    if (!ok) {
        return false;
    }
    *ret_piece = (struct iovec) { self->packed, len };
    return true;
}

static unsigned add_piece(struct iovec *pieces, unsigned n, const void *bytes,
                          size_t len)
{
    if (len > 0) {
        pieces[n++] = (struct iovec) { (void *)bytes, len };
    }
    return n;
}

bool leg_payload_pack(LegPayload *self, const Packet *packet,
                      MultifdHeader *ret_header,
                      struct iovec ret_pieces[LEG_PAYLOAD_PIECES],
                      unsigned *ret_n, GError **error)
{
    unsigned pages = packet->header.normal_pages + packet->header.zero_pages;
    size_t zero_len;
    unsigned n = 0;

    g_assert(pages <= self->geometry.page_count);
    memcpy(ret_header, &packet->header,
           offsetof(MultifdHeader, offset) + pages * sizeof(uint64_t));
    if (!choose_method(self, packet, error) ||
        !take_zero_pages(self, packet, ret_header, &zero_len, error)) {
        return false;
    }
    if (self->method->encode && packet->payload_len + zero_len > 0) {
        if (!encode(self, packet, zero_len, &ret_pieces[n++], error)) {
            return false;
        }
    } else {
        n = add_piece(ret_pieces, n, packet->payload, packet->payload_len);
        n = add_piece(ret_pieces, n, zeroes, zero_len);
    }
    ret_header->flags = self->method->id;
    ret_header->pages_alloc = self->geometry.page_count;
    ret_header->payload_size = 0;
    for (unsigned i = 0; i < n; i++) {
        ret_header->payload_size += ret_pieces[i].iov_len;
    }
    *ret_n = n;
    return true;
}
