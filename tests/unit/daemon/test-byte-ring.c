/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/byte-ring.h"

#include <glib.h>

/* The main channel's bytes go through here: none may be lost or turned. */
static void test_keeps_bytes_in_order(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(g_test_rand_int());
    uint8_t next_in = 0, next_out = 0;
    uint64_t in = 0, out = 0;
    ByteRing ring;

    byte_ring_init(&ring, 13);
    for (unsigned round = 0; round < 2000; round++) {
        uint8_t buf[20];
        size_t len = g_rand_int_range(rand, 0, 21);
        size_t n;

        for (size_t i = 0; i < len; i++) {
            buf[i] = next_in + i;
        }
        n = byte_ring_write(&ring, buf, len);
        g_assert_cmpuint(n, ==, MIN(len, 13 - (in - out)));
        next_in += n;
        in += n;

        len = g_rand_int_range(rand, 0, 21);
        n = byte_ring_read(&ring, buf, len);
        g_assert_cmpuint(n, ==, MIN(len, in - out));
        for (size_t i = 0; i < n; i++) {
            g_assert_cmpuint(buf[i], ==, next_out++);
        }
        out += n;
        g_assert_cmpuint(ring.in, ==, in);
        g_assert_cmpuint(ring.out, ==, out);
        g_assert_cmpuint(byte_ring_get_held(&ring), ==, in - out);
        g_assert_cmpuint(byte_ring_get_space(&ring), ==, 13 - (in - out));
    }
    byte_ring_clear(&ring);
}

static void test_full_takes_nothing(void)
{
    uint8_t buf[8] = "1234567";
    ByteRing ring;

    byte_ring_init(&ring, 4);
    g_assert_cmpuint(byte_ring_read(&ring, buf, 8), ==, 0);
    g_assert_cmpuint(byte_ring_write(&ring, buf, 8), ==, 4);
    g_assert_cmpuint(byte_ring_write(&ring, buf, 8), ==, 0);
    g_assert_cmpuint(byte_ring_read(&ring, buf + 4, 3), ==, 3);
    g_assert_cmpmem(buf + 4, 3, "123", 3);
    byte_ring_clear(&ring);
    byte_ring_clear(&ring);     /* twice is harmless */
}

/* What is peeked at stays, across the ring's end too; what is dropped goes. */
static void test_peeks_and_drops(void)
{
    uint8_t buf[8] = { 0 };
    ByteRing ring;

    byte_ring_init(&ring, 4);
    byte_ring_write(&ring, (const uint8_t *)"abc", 3);
    byte_ring_drop(&ring, 2);
    g_assert_cmpuint(byte_ring_write(&ring, (const uint8_t *)"defg", 4), ==, 3);
    byte_ring_peek(&ring, 3, buf, 3);
    g_assert_cmpmem(buf, 3, "def", 3);
    byte_ring_peek(&ring, 2, buf, 4);
    g_assert_cmpmem(buf, 4, "cdef", 4);
    g_assert_cmpuint(byte_ring_get_held(&ring), ==, 4);
    byte_ring_drop(&ring, 5);
    g_assert_cmpuint(byte_ring_read(&ring, buf, 8), ==, 1);
    g_assert_cmpmem(buf, 1, "f", 1);
    byte_ring_clear(&ring);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/byte-ring/keeps-bytes-in-order",
                    test_keeps_bytes_in_order);
    g_test_add_func("/daemon/byte-ring/full-takes-nothing",
                    test_full_takes_nothing);
    g_test_add_func("/daemon/byte-ring/peeks-and-drops", test_peeks_and_drops);
    return g_test_run();
}
