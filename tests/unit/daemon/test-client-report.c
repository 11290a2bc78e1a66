/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The HTML page: what came from guests and peers must not become part of its
 * markup, and a daemon of another version must not break it.
 */
#include "daemon/client-report.h"

#include <locale.h>
#include <string.h>

static JsonObject *parse(const char *text)
{
    g_autoptr(JsonNode) node = json_from_string(text, NULL);

    g_assert_nonnull(node);
    return json_node_dup_object(node);
}

static void test_escapes(void)
{
    g_autoptr(JsonObject) migration = parse(
        "{\"id\":\"1\",\"vm\":\"<script>x\",\"state\":\"failed\","
        "\"error\":\"a & <b> \xc3\xa9 \\u001b[31m\",\"role\":\"source\"}");
    g_autoptr(JsonObject) traffic = parse(
        "{\"ramblocks\":[{\"name\":\"\\\"/><img src=x>\",\"used-length\":4096,"
        "\"normal-pages\":1,\"part-bytes\":4096,\"heat\":[[1]]}],"
        "\"slice-ms\":100,\"main\":{\"sections\":[{\"name\":\"<i>\","
        "\"instance\":0,\"bytes\":1}]}}");
    g_autofree char *html = client_report_to_html(migration, traffic);

    g_assert_null(strstr(html, "<script"));
    g_assert_null(strstr(html, "<img"));
    g_assert_null(strstr(html, "<i>"));
    g_assert_null(strstr(html, "<b>"));
    g_assert_null(strchr(html, '\033'));
    g_assert_nonnull(strstr(html, "&lt;script&gt;x"));
    g_assert_nonnull(strstr(html, "&#233;"));
    for (const char *p = html; *p; p++) {
        g_assert_cmpint((unsigned char)*p, <, 0x80);
    }
}

/* Members that are missing, or are something else than they should be. */
static void test_strange_answers(void)
{
    static const char *const answers[] = {
        "{}",
        "{\"ramblocks\":[{}],\"epochs\":[{}],\"history\":[[]],\"moments\":{},"
        "\"main\":{}}",
        "{\"ramblocks\":[{\"heat\":[[]],\"normal-pages\":1}],"
        "\"history-columns\":[],\"history\":[]}",
        "{\"ramblocks\":3,\"epochs\":\"x\",\"history\":{},\"moments\":[],"
        "\"main\":1,\"slice-ms\":\"x\",\"now-ms\":[]}",
        "{\"ramblocks\":[3],\"epochs\":[\"x\"],\"history\":[1],"
        "\"history-ms\":1,\"history-columns\":[\"wire-out\"],"
        "\"moments\":{\"stopped\":\"x\",\"resumed\":[]}}",
        "{\"history-ms\":1,\"history-columns\":[1,{},\"wire-out\"],"
        "\"history\":[[\"x\",{},[]],[1,2,3]]}",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(answers); i++) {
        g_autoptr(JsonObject) migration = parse(
            "{\"channels-in\":[3],\"channels-out\":[{}]}");
        g_autoptr(JsonObject) traffic = parse(answers[i]);
        g_autofree char *html = client_report_to_html(migration, traffic);

        g_assert_true(g_str_has_suffix(html, "</html>\n"));
    }
}

/* Of many epochs the last are shown, and that there are more. */
static void test_last_epochs(void)
{
    g_autoptr(GString) text = g_string_new("{\"epochs\":[");
    g_autoptr(JsonObject) migration = parse("{}"), traffic = NULL;
    g_autofree char *html = NULL;

    for (unsigned i = 0; i < 140; i++) {
        g_string_append_printf(text, "%s{\"epoch\":%u,\"packets\":1,"
                               "\"normal-pages\":%u}", i ? "," : "", 5000 + i,
                               i % 2);
    }
    g_string_append(text, "]}");
    traffic = parse(text->str);
    html = client_report_to_html(migration, traffic);
    g_assert_nonnull(strstr(html, "The last 64 of 70."));
    g_assert_null(strstr(html, "<td>5011</td>"));
    g_assert_nonnull(strstr(html, "<td>5013</td>"));
    g_assert_null(strstr(html, "<td>5014</td>"));
    g_assert_nonnull(strstr(html, "<td>5139</td>"));
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "C.UTF-8");
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/client-report/escapes", test_escapes);
    g_test_add_func("/daemon/client-report/strange-answers",
                    test_strange_answers);
    g_test_add_func("/daemon/client-report/last-epochs", test_last_epochs);
    return g_test_run();
}
