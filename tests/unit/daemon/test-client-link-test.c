/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the client makes of query-link-tests, whatever a daemon says there. */
#include "daemon/client-link-test.h"

#include <string.h>

static char *show(const char *json)
{
    g_autoptr(JsonNode) node = json_from_string(json, NULL);

    g_assert_nonnull(node);
    return client_link_test_to_string(json_node_get_object(node));
}

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        g_error("expected '%s' in '%s'", part, text);
    }
}

static void test_all(void)
{
    g_autofree char *text = show(
        "{\"peer\":\"dc2\",\"state\":\"completed\",\"reverse\":true,"
        "\"idle\":{\"count\":20,\"min-ms\":40.1,\"median-ms\":40.5,"
        "\"max-ms\":41,\"jitter-ms\":0.25},\"steps\":[{\"lanes\":4,"
        "\"rate\":25000000,\"segments\":1000,\"retransmits\":5,\"rtt\":{"
        "\"median-ms\":60.0,\"max-ms\":99.5,\"jitter-ms\":3.0}}],"
        "\"paths\":[{\"address\":\"tcp:a:1\",\"local\":\"b\",\"lanes\":1,"
        "\"mtu\":1500,\"mss\":1448}],\"tls\":{\"cipher\":\"TLS1.3 X\","
        "\"rate-here\":1000000000,\"rate-there\":500000000},"
        "\"congestion-control\":\"bbr\",\"warnings\":[\"mind\"],"
        "\"advice\":[\"lanes: 4\",\"rate: 1\"]}");

    assert_contains(text, "link test from dc2: completed\nwarning: mind\n");
    assert_contains(text, "round trip, idle: 40.5 ms (40.1 ms to 41.0 ms, "
                    "jitter 0.2 ms)\n");
    assert_contains(text, "200.0 Mbit/s");
    assert_contains(text, "0.50 %");
    assert_contains(text, "60.0 ms");
    assert_contains(text, "path: b to tcp:a:1, 1 lane, MTU 1500, segments of "
                    "1448 bytes\n");
    assert_contains(text, "TLS: TLS1.3 X, one core does 8.0 Gbit/s here, 4.0 "
                    "Gbit/s there\ncongestion control: bbr\n");
    assert_contains(text, "advice: lanes: 4\nadvice: rate: 1\n");
}

/* It never came to measure anything: no empty tables, and the reason. */
static void test_failed(void)
{
    g_autofree char *text = show(
        "{\"peer\":\"dc2\",\"state\":\"failed\",\"error\":\"no\",\"idle\":{"
        "\"count\":0},\"steps\":[],\"paths\":[],\"warnings\":[]}");

    g_assert_cmpstr(text, ==, "link test to dc2: failed: no\n");
}

/* Another daemon's words, or another type than expected: nothing breaks, and no
 * terminal obeys. */
static void test_odd(void)
{
    g_autofree char *none = show("{}");
    g_autofree char *types = show(
        "{\"peer\":1,\"state\":[],\"idle\":[],\"steps\":[1,{\"lanes\":\"x\"}],"
        "\"paths\":[null,{}],\"tls\":7,\"advice\":[2,\"a\\u001b[31m\"]}");

    assert_contains(none, "link test to -: -\n");
    assert_contains(types, "LANES");
    assert_contains(types, "path: - to -, 0 lanes\n");
    g_assert_null(strchr(types, '\033'));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/client-link-test/all", test_all);
    g_test_add_func("/daemon/client-link-test/failed", test_failed);
    g_test_add_func("/daemon/client-link-test/odd", test_odd);
    return g_test_run();
}
