/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/address-paths.h"

#include <string.h>

#include "daemon/link-path.h"

static GPtrArray *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *paths = address_paths_parse(text, &error);

    g_assert_no_error(error);
    return paths;
}

static void assert_refused(const char *text, const char *says)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(address_paths_parse(text, &error));
    g_assert_nonnull(strstr(error->message, says));
}

/* With and without BIND, an interface, IPv6 on both sides; and written again the same. */
static void test_reads_what_it_writes(void)
{
    g_autoptr(GPtrArray) paths = parse("b:1, eth1@198.51.100.7:7790,"
                                       "2001:db8::1@[2001:db8::7]:2");
    g_autofree char *text = address_paths_to_string(paths);
    g_autoptr(GPtrArray) again = parse(text);
    g_autofree char *same = address_paths_to_string(again);
    const AddressPath *first = g_ptr_array_index(paths, 0);
    const AddressPath *last = g_ptr_array_index(paths, 2);

    g_assert_cmpuint(paths->len, ==, 3);
    g_assert_null(first->bind);
    g_assert_cmpstr(first->address->host, ==, "b");
    g_assert_cmpstr(last->bind, ==, "2001:db8::1");
    g_assert_cmpstr(last->address->host, ==, "2001:db8::7");
    g_assert_cmpstr(text, ==, "tcp:b:1,eth1@tcp:198.51.100.7:7790,"
                    "2001:db8::1@tcp:[2001:db8::7]:2");
    g_assert_cmpstr(text, ==, same);
}

static void test_refuses_what_is_no_path(void)
{
    g_autoptr(GString) many = g_string_new("a:1");

    assert_refused("", "got '', expected at least one path");
    assert_refused("a:1,,b:1", "got '', expected");
    assert_refused("@a:1", "got '@a:1', expected");
    assert_refused("eth0@", "got 'eth0@', expected");
    assert_refused("a:0", "got 'a:0', expected");
    assert_refused(":1", "got ':1', expected");
    assert_refused("unix:/x", "got 'unix:/x', expected");
    for (unsigned i = 0; i < ADDRESS_PATHS_MAX; i++) {
        g_string_append(many, ",a:1");
    }
    assert_refused(many->str, "got more than 15 paths");
}

/* Lanes made at once are spread; one that is made anew has been on all, in turn. */
static void test_spreads_lanes(void)
{
    g_autoptr(GPtrArray) paths = parse("b:1,c:1");
    ConfigPeer peer = { .paths = paths };
    ConfigPeer single = { .paths = NULL };

    g_assert_cmpuint(link_path_get_count(&peer), ==, 3);
    for (unsigned lane = 0; lane < 6; lane++) {
        g_assert_cmpuint(link_path_choose(&peer, lane, 0), ==, lane % 3);
        g_assert_cmpuint(link_path_choose(&peer, lane, 1), ==, (lane + 1) % 3);
    }
    g_assert_cmpuint(link_path_choose(&peer, 63, G_MAXUINT), <, 3);
    g_assert_cmpuint(link_path_choose(&single, 63, 7), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/daemon/address-paths/" name, function)
    ADD("reads-what-it-writes", test_reads_what_it_writes);
    ADD("refuses-what-is-no-path", test_refuses_what_is_no_path);
    ADD("spreads-lanes", test_spreads_lanes);
    return g_test_run();
}
