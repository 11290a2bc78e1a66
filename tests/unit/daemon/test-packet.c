/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/packet.h"

/* What is reserved before a packet exists must be what it then holds. */
static void test_footprint_is_known_beforehand(void)
{
    static const uint32_t lengths[] = {
        0, 1, 4096, MULTIFD_PACKET_SIZE / 2, MULTIFD_PACKET_SIZE - 1,
        MULTIFD_PACKET_SIZE, MULTIFD_PACKET_SIZE + 1, DEVICE_PAYLOAD_MAX,
    };
    g_autoptr(PacketPool) pool = packet_pool_new();

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        g_autoptr(Packet) packet = packet_new(pool, PACKET_PAGES, lengths[i]);

        g_assert_cmpuint(packet_get_footprint(packet), ==,
                         packet_footprint(lengths[i]));
        g_assert_cmpuint(packet_footprint(lengths[i]), >=,
                         sizeof(Packet) + lengths[i]);
        g_assert_cmpuint(packet->payload_len, ==, lengths[i]);
        g_assert_true((packet->payload == NULL) == (lengths[i] == 0));
        if (lengths[i] > 0) {
            memset(packet->payload, 0xff, lengths[i]);
        }
    }
}

/* Short packets must not each hold a full buffer. */
static void test_short_packet_holds_little(void)
{
    g_assert_cmpuint(packet_footprint(4096), ==, sizeof(Packet) + 4096);
}

/* Mapping half a megabyte anew for each packet is what the pool is there for. */
static void test_big_buffers_come_again(void)
{
    g_autoptr(PacketPool) pool = packet_pool_new();
    Packet *first = packet_new(pool, PACKET_PAGES, MULTIFD_PACKET_SIZE);
    const uint8_t *buffer = first->payload;
    g_autoptr(Packet) second = NULL;

    packet_free(first);
    second = packet_new(pool, PACKET_PAGES, MULTIFD_PACKET_SIZE - 4096);
    g_assert_true(second->payload == buffer);
}

/* A packet may be the last that knows the pool. */
static void test_packet_outlives_pool(void)
{
    PacketPool *pool = packet_pool_new();
    Packet *packets[20];

    for (unsigned i = 0; i < G_N_ELEMENTS(packets); i++) {
        packets[i] = packet_new(pool, PACKET_PAGES, MULTIFD_PACKET_SIZE);
    }
    packet_pool_unref(pool);
    for (unsigned i = 0; i < G_N_ELEMENTS(packets); i++) {
        packet_free(packets[i]);
    }
    packet_free(NULL);
    packet_pool_unref(NULL);
}

static void count_done(const Packet *packet, void *data)
{
    unsigned *n = data;

    g_assert_cmpuint(packet->sequence, ==, 42);
    g_assert_nonnull(packet->payload);
    (*n)++;
}

/* By this a link's receipt is given: once, and while the packet is still whole. */
static void test_done_is_called_once(void)
{
    g_autoptr(PacketPool) pool = packet_pool_new();
    Packet *packet = packet_new(pool, PACKET_DEVICE_STATE, 10);
    unsigned n = 0;

    g_assert_cmpint(packet->kind, ==, PACKET_DEVICE_STATE);
    packet->sequence = 42;
    packet->done = count_done;
    packet->done_data = &n;
    packet_free(packet);
    g_assert_cmpuint(n, ==, 1);
}

static void *use_pool(void *data)
{
    for (unsigned i = 0; i < 500; i++) {
        g_autoptr(Packet) one = packet_new(data, PACKET_PAGES,
                                           MULTIFD_PACKET_SIZE);
        g_autoptr(Packet) two = packet_new(data, PACKET_PAGES,
                                           MULTIFD_PACKET_SIZE - 1);

        g_assert_true(one->payload != two->payload);
        one->payload[0] = two->payload[0] = i;
        g_assert_cmpuint(one->payload[0], ==, i % 256);
    }
    return NULL;
}

static void test_pool_is_shared(void)
{
    g_autoptr(PacketPool) pool = packet_pool_new();
    GThread *threads[4];

    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
        threads[i] = g_thread_new("pool", use_pool, pool);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_thread_join(threads[i]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/packet/" path, func)
    ADD("footprint-is-known-beforehand", test_footprint_is_known_beforehand);
    ADD("short-packet-holds-little", test_short_packet_holds_little);
    ADD("big-buffers-come-again", test_big_buffers_come_again);
    ADD("packet-outlives-pool", test_packet_outlives_pool);
    ADD("done-is-called-once", test_done_is_called_once);
    ADD("pool-is-shared", test_pool_is_shared);
    return g_test_run();
}
