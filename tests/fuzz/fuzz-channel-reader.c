/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: what a multifd channel sends becomes packets that hold the bounds
 * that egress relies on, or ends the migration with an error; what is held of it
 * stays within the share, whatever sizes and windows it claims; and nothing waits.
 *
 * Input: the bytes behind the init packet, up to the channel's end.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/channel-reader.h"
#include "tests/unit/daemon/link-fixture.h"
#include "wire/error.h"

enum { SHARE = 32 * 1024 * 1024, SENT_MAX = 64 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Exchange *make_exchange(unsigned *ret_in)
{
    ExchangeSetup setup = { .memory = SHARE / 2, .share = SHARE,
                            .main_ring = 65536, .channels_in = 1 };
    g_autoptr(GByteArray) main = link_fixture_main_start();
    Exchange *self = exchange_new(&setup);
    MultifdInit init = { .id = 0 };
    unsigned drop;

    g_assert_true(exchange_join(self, &init, ret_in, &drop, NULL));
    exchange_add_outs(self, 1, false);
    g_assert_true(exchange_main_push(self, main->data, main->len));
    return self;
}

static void read_all(Exchange *exchange, unsigned in, const uint8_t *data,
                     size_t size)
{
    PacketPool *pool = packet_pool_new();
    ChannelReaderSetup setup = { .exchange = exchange, .pool = pool, .in = in };
    ssize_t n;
    int fds[2];

    g_assert_true(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    n = size > 0 ? write(fds[0], data, size) : 0;
    g_assert_true(n == (ssize_t)size);
    close(fds[0]);
    setup.stream = stream_new(fds[1], "source");
    channel_reader_run(&setup);
    stream_free(setup.stream);
    packet_pool_unref(pool);
}

static void check_packet(const Packet *packet)
{
    const MultifdHeader *h = &packet->header;

    g_assert_true(packet->payload_len <= DEVICE_PAYLOAD_MAX);
    if (packet->kind == PACKET_DEVICE_STATE) {
        g_assert_true(packet->payload_len == packet->device.payload_size);
        return;
    }
    g_assert_true((uint64_t)h->normal_pages + h->zero_pages <= 128);
    for (uint32_t i = 0; i < h->normal_pages + h->zero_pages; i++) {
        g_assert_true(h->offset[i] % LINK_FIXTURE_PAGE == 0);
        g_assert_true(h->offset[i] / LINK_FIXTURE_PAGE <
                      LINK_FIXTURE_BLOCK_PAGES);
    }
    if (packet->method == METHOD_NONE) {
        g_assert_true(packet->payload_len ==
                      h->normal_pages * LINK_FIXTURE_PAGE);
    }
}

/* All that came, in the order of its epochs. */
static void take_all(Exchange *exchange)
{
    ExchangeSnapshot now;
    uint64_t left;

    exchange_get_snapshot(exchange, &now);
    for (left = now.packets + now.in[0].syncs; left > 0; left--) {
        Packet *packet;
        uint64_t epoch;

        switch (exchange_take(exchange, 0, &packet, &epoch)) {
        case EXCHANGE_PACKET:
            check_packet(packet);
            exchange_done(exchange, 0, packet);
            break;
        case EXCHANGE_SYNC:
            exchange_synced(exchange, 0);
            break;
        default:
            return;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(Exchange) exchange = NULL;
    g_autoptr(GError) error = NULL;
    ExchangeSnapshot now;
    unsigned in;

    if (size > SENT_MAX) {
        return 0;
    }
    exchange = make_exchange(&in);
    read_all(exchange, in, data, size);
    error = exchange_get_error(exchange);
    g_assert_true(!error || error->domain == WIRE_ERROR ||
                  error->domain == STREAM_ERROR);
    exchange_get_snapshot(exchange, &now);
    g_assert_true(now.held_peak + now.charged <= SHARE);
    if (!error) {
        take_all(exchange);
    }
    exchange_close(exchange);
    return 0;
}
