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

typedef struct {
    const ChannelWriterSetup *setup;
    LegPayload *payload;
    uint8_t buf[MULTIFD_HEADER_MAX];
} Writer;

static uint64_t next_packet_num(const Writer *self)
{
    return __atomic_fetch_add(self->setup->packet_num, 1, __ATOMIC_RELAXED);
}

static bool write_out(Writer *self, const struct iovec *iov, unsigned n_iov,
                      GError **error)
{
    return paced_write(self->setup->stream, self->setup->limiter, iov, n_iov,
                       error);
}

static bool write_pages(Writer *self, const Packet *packet, GError **error)
{
    struct iovec iov[1 + LEG_PAYLOAD_PIECES];
    MultifdHeader header;
    unsigned n;

    if (!leg_payload_pack(self->payload, packet, &header, iov + 1, &n,
                          error)) {
        return false;
    }
    header.packet_num = next_packet_num(self);
    multifd_header_encode(&header, &self->setup->geometry, self->buf);
    iov[0] = (struct iovec) { self->buf, self->setup->geometry.header_size };
    return write_out(self, iov, 1 + n, error);
}

static bool write_device(Writer *self, const Packet *packet, GError **error)
{
    struct iovec iov[] = {
        { self->buf, MULTIFD_DEVICE_HEADER_SIZE },
        { packet->payload, packet->payload_len },
    };

    if (!leg_payload_check_device(self->payload, packet, error)) {
        return false;
    }
    multifd_device_header_encode(&packet->device, self->buf);
    return write_out(self, iov, G_N_ELEMENTS(iov), error);
}

static bool write_packet(Writer *self, const Packet *packet, GError **error)
{
    return packet->kind == PACKET_PAGES ? write_pages(self, packet, error)
                                        : write_device(self, packet, error);
}

static bool write_sync(Writer *self, GError **error)
{
    struct iovec iov = { self->buf, self->setup->geometry.header_size };

    multifd_sync_encode(next_packet_num(self), &self->setup->geometry,
                        self->buf);
    return write_out(self, &iov, 1, error);
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

    *self = (Writer) {
        .setup = setup,
        .payload = leg_payload_new(setup->rules, &setup->geometry,
                                   setup->exchange),
    };
    ok = write_all(self, error);
    leg_payload_free(self->payload);
    return ok;
}
