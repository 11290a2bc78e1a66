/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/channel-writer.c - from packets to the bytes of a multifd channel
 *
 * What leaves looks like a source QEMU 9.2 or later: headers zero-filled, SYNC
 * always a packet of its own, packet numbers one series over all channels.  Every
 * receiver from 4.0 on accepts that.
 */
#include "daemon/channel-writer.h"

#include "daemon/paced-write.h"
#include "wire/error.h"
#include "wire/method.h"

typedef struct {
    const ChannelWriterSetup *setup;
    const Method *method;       /* NULL until the first packet */
    MethodState *encoder;
    uint8_t *packed;            /* an encoder's output; else NULL */
    uint8_t buf[MULTIFD_HEADER_MAX];
} Writer;

static uint64_t next_packet_num(const Writer *self)
{
    return __atomic_fetch_add(self->setup->packet_num, 1, __ATOMIC_RELAXED);
}

static bool write_out(Writer *self, size_t header_size, const void *payload,
                      size_t payload_len, GError **error)
{
    struct iovec iov[2] = {
        { self->buf, header_size },
        { (void *)payload, payload_len },
    };

    return paced_write(self->setup->stream, self->setup->limiter, iov,
                       payload_len > 0 ? 2 : 1, error);
}

/* A destination takes one method for all of a channel. */
static bool choose_method(Writer *self, const Packet *packet, GError **error)
{
    const Method *method = self->setup->method;

    if (!method) {
        method = method_from_flags(packet->in_method, error);
    }
    if (!method || method == self->method) {
        return method != NULL;
    }
    if (self->method) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got compression %s after %s", method->name,
                    self->method->name);
        return false;
    }
    self->method = method;
    if (method->encode &&
        !exchange_charge(self->setup->exchange, METHOD_ENCODER_MEMORY,
                         "packing an outbound channel")) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
                    "no memory to pack it");
        return false;
    }
    if (method->encode) {
        self->encoder = method->encoder_new(self->setup->level);
        self->packed = g_malloc(MULTIFD_PAYLOAD_MAX);
    }
    return true;
}

/* The payload as this leg wants it; @packet's own bytes when nothing is to do. */
static bool encode_payload(Writer *self, const Packet *packet,
                           const uint8_t **ret_payload, size_t *ret_len,
                           GError **error)
{
    *ret_payload = packet->payload;
    *ret_len = packet->payload_len;
    if (!self->method->encode || packet->method != METHOD_NONE ||
        packet->payload_len == 0) {
        return true;
    }
    *ret_payload = self->packed;
    return self->method->encode(self->encoder, packet->payload,
                                packet->payload_len, self->packed,
                                MULTIFD_PAYLOAD_MAX, ret_len, error);
}

static bool write_pages(Writer *self, const Packet *packet, GError **error)
{
    MultifdHeader header;
    const uint8_t *payload;
    size_t len;
    unsigned pages = packet->header.normal_pages + packet->header.zero_pages;

    if (!choose_method(self, packet, error) ||
        !encode_payload(self, packet, &payload, &len, error)) {
        return false;
    }
    memcpy(&header, &packet->header,
           offsetof(MultifdHeader, offset) + pages * sizeof(uint64_t));
    header.flags = packet->method != METHOD_NONE ? packet->method
                                                 : self->method->id;
    header.pages_alloc = self->setup->geometry.page_count;
    header.payload_size = len;
    header.packet_num = next_packet_num(self);
    multifd_header_encode(&header, &self->setup->geometry, self->buf);
    return write_out(self, self->setup->geometry.header_size, payload, len,
                     error);
}

static bool write_packet(Writer *self, const Packet *packet, GError **error)
{
    if (packet->kind == PACKET_PAGES) {
        return write_pages(self, packet, error);
    }
    multifd_device_header_encode(&packet->device, self->buf);
    return write_out(self, MULTIFD_DEVICE_HEADER_SIZE, packet->payload,
                     packet->payload_len, error);
}

static bool write_sync(Writer *self, GError **error)
{
    multifd_sync_encode(next_packet_num(self), &self->setup->geometry,
                        self->buf);
    return write_out(self, self->setup->geometry.header_size, NULL, 0, error);
}

static void note_synced(const Writer *self)
{
    if (self->setup->confirm) {
        sync_confirm_written(self->setup->confirm, self->setup->out);
    }
    exchange_synced(self->setup->exchange, self->setup->out);
}

static bool write_all(Writer *self, GError **error)
{
    Exchange *exchange = self->setup->exchange;
    unsigned out = self->setup->out;
    Packet *packet;
    uint64_t epoch;
    bool ok;

    for (;;) {
        switch (exchange_take(exchange, out, &packet, &epoch)) {
        case EXCHANGE_PACKET:
            ok = write_packet(self, packet, error);
            exchange_done(exchange, out, packet);
            break;
        case EXCHANGE_SYNC:
            ok = write_sync(self, error);
            if (ok) {
                note_synced(self);
            }
            break;
        default:
            return true;
        }
        if (!ok) {
            return false;
        }
    }
}

bool channel_writer_run(const ChannelWriterSetup *setup, GError **error)
{
    g_autofree Writer *self = g_new(Writer, 1);
    bool ok;

    *self = (Writer) { .setup = setup };
    ok = write_all(self, error);
    if (self->encoder) {
        self->method->state_free(self->encoder);
    }
    g_free(self->packed);
    return ok;
}
