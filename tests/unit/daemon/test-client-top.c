/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of top: rates from two answers, and answers of any daemon.
 */
#include "daemon/client-top.h"

#include <locale.h>
#include <string.h>

static JsonArray *parse(const char *text)
{
    g_autoptr(JsonNode) node = json_from_string(text, NULL);

    g_assert_nonnull(node);
    return json_node_dup_array(node);
}

#define RUNNING(bytes, more) \
    "{\"id\":\"0123456789abcdef\",\"vm\":\"web\\u001b1\",\"role\":\"source\"," \
    "\"state\":\"active\",\"egress\":{\"kind\":\"link\"}," \
    "\"channels-out\":[{\"channel\":0,\"packets\":5,\"syncs\":1,\"bytes\":" \
    bytes more "}]}"

static void test_rates(void)
{
    g_autoptr(JsonArray) before = parse("[" RUNNING("1000", "") "]");
    g_autoptr(JsonArray) now = parse("[{\"id\":\"9\",\"total-time-ms\":5}, "
        RUNNING("2501000", ",\"up\":false,\"rtt-ms\":12.5,\"retransmits\":3")
        "]");
    g_autofree char *first = client_top_to_string(now, NULL, 0);
    g_autofree char *text = client_top_to_string(now, before, 2000000);

    g_assert_nonnull(strstr(text, "01234567 "));
    g_assert_nonnull(strstr(text, "lane  0"));
    g_assert_nonnull(strstr(text, "10.0 Mbit/s"));
    g_assert_nonnull(strstr(text, "12.5 ms"));
    g_assert_nonnull(strstr(text, "down"));
    g_assert_null(strchr(text, '\033'));
    g_assert_null(strstr(first, "10.0 Mbit/s"));
}

/* What has ended does not run; a twin in the other role is another one. */
static void test_what_runs(void)
{
    g_autoptr(JsonArray) ended = parse("[{\"id\":\"1\",\"total-time-ms\":5}]");
    g_autoptr(JsonArray) now = parse("[" RUNNING("5000", "") "]");
    g_autoptr(JsonArray) twin = parse("[{\"id\":\"0123456789abcdef\",\"role\":"
        "\"destination\",\"channels-out\":[{\"bytes\":0}]}]");
    g_autofree char *none = client_top_to_string(ended, NULL, 0);
    g_autofree char *text = client_top_to_string(now, twin, 1000000);

    g_assert_cmpstr(none, ==, "no migration runs\n");
    g_assert_null(strstr(text, "40.0 kbit/s"));
}

static void test_strange_answers(void)
{
    static const char *const answers[] = {
        "[]", "[3,\"x\",[],{}]", "[{\"channels-in\":[1,{}],\"egress\":7}]",
        "[{\"qemu\":[],\"rtt-ms\":\"x\",\"channels-out\":{}}]",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(answers); i++) {
        g_autoptr(JsonArray) now = parse(answers[i]);
        g_autofree char *text = client_top_to_string(now, now, 1);

        g_assert_cmpuint(strlen(text), >, 0);
    }
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "C.UTF-8");
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/client-top/rates", test_rates);
    g_test_add_func("/daemon/client-top/what-runs", test_what_runs);
    g_test_add_func("/daemon/client-top/strange-answers", test_strange_answers);
    return g_test_run();
}
