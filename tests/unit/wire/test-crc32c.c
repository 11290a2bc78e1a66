/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "wire/bytes.h"
#include "wire/crc32c.h"

/* The definition, bit by bit. */
static uint32_t slow(const uint8_t *p, size_t len)
{
    uint32_t sum = ~0u;

    for (size_t i = 0; i < len; i++) {
        sum ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            sum = (sum >> 1) ^ (sum & 1 ? 0x82f63b78 : 0);
        }
    }
    return ~sum;
}

static void fill(uint8_t *p, size_t len)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(g_test_rand_int());

    for (size_t i = 0; i < len; i++) {
        p[i] = g_rand_int(rand);
    }
}

/* RFC 3720 B.4, and the usual check value. */
static void test_known_values(void)
{
    uint8_t buf[32] = { 0 };

    g_assert_cmphex(crc32c(0, buf, 32), ==, 0x8a9136aa);
    memset(buf, 0xff, 32);
    g_assert_cmphex(crc32c(0, buf, 32), ==, 0x62a8ab43);
    for (int i = 0; i < 32; i++) {
        buf[i] = i;
    }
    g_assert_cmphex(crc32c(0, buf, 32), ==, 0x46dd794e);
    g_assert_cmphex(crc32c(0, "123456789", 9), ==, 0xe3069283);
    g_assert_cmphex(crc32c(0, NULL, 0), ==, 0);
}

static void test_any_length_and_alignment(void)
{
    for (size_t len = 0; len < 80; len++) {
        for (size_t at = 0; at < 8; at++) {
            g_autofree uint8_t *buf = g_malloc(at + len + 1);

            fill(buf, at + len);
            g_assert_cmphex(crc32c(0, buf + at, len), ==, slow(buf + at, len));
        }
    }
}

static void test_goes_on_where_it_stopped(void)
{
    uint8_t buf[100];

    fill(buf, sizeof(buf));
    for (size_t cut = 0; cut <= sizeof(buf); cut++) {
        uint32_t crc = crc32c(0, buf, cut);

        g_assert_cmphex(crc32c(crc, buf + cut, sizeof(buf) - cut), ==,
                        slow(buf, sizeof(buf)));
    }
}

/* However many pages are computed side by side, the definition holds. */
static void test_pages_are_summed_one_by_one(void)
{
    static const size_t sizes[] = { 1, 7, 12, 1024, 4096 };

    for (size_t s = 0; s < G_N_ELEMENTS(sizes); s++) {
        for (size_t n = 0; n < 9; n++) {
            size_t size = sizes[s];
            g_autofree uint8_t *pages = g_malloc(size * n + 1);
            g_autofree uint8_t *sums = g_malloc(4 * n + 1);
            uint32_t each[9];

            fill(pages, size * n);
            crc32c_each_page(pages, size, n, each);
            for (size_t i = 0; i < n; i++) {
                g_assert_cmphex(each[i], ==, slow(pages + i * size, size));
                bytes_put_be32(sums + 4 * i, slow(pages + i * size, size));
            }
            g_assert_cmphex(crc32c_pages(pages, size, n), ==,
                            slow(sums, 4 * n));
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/crc32c/known-values", test_known_values);
    g_test_add_func("/wire/crc32c/any-length-and-alignment",
                    test_any_length_and_alignment);
    g_test_add_func("/wire/crc32c/goes-on-where-it-stopped",
                    test_goes_on_where_it_stopped);
    g_test_add_func("/wire/crc32c/pages-are-summed-one-by-one",
                    test_pages_are_summed_one_by_one);
    return g_test_run();
}
