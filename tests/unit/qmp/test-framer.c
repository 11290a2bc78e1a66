/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp/error.h"
#include "qmp/framer.h"

#include <string.h>

/* Feed exactly @len bytes from the heap, so that ASan sees an overread. */
static void feed(QmpFramer *framer, const char *text, size_t len)
{
    g_autofree char *copy = g_memdup2(text, len);

    qmp_framer_feed(framer, copy, len);
}

static void feed_text(QmpFramer *framer, const char *text)
{
    feed(framer, text, strlen(text));
}

static void assert_next_is(QmpFramer *framer, const char *command)
{
    g_autoptr(JsonObject) object = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(qmp_framer_next(framer, &object, &error));
    g_assert_no_error(error);
    g_assert_nonnull(object);
    g_assert_cmpstr(json_object_get_string_member(object, "execute"), ==,
                    command);
}

static void assert_needs_more(QmpFramer *framer)
{
    g_autoptr(JsonObject) object = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(qmp_framer_next(framer, &object, &error));
    g_assert_no_error(error);
    g_assert_null(object);
}

static void assert_fails(QmpFramer *framer, int code, const char *text)
{
    g_autoptr(JsonObject) object = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_false(qmp_framer_next(framer, &object, &error));
    g_assert_error(error, QMP_ERROR, code);
    g_assert_null(object);
    if (!strstr(error->message, text)) {
        g_error("'%s' does not say '%s'", error->message, text);
    }
}

static void test_splits_two_values_in_one_read(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(1024);

    feed_text(framer, "{\"execute\":\"a\"}{\"execute\":\"b\"}\r\n");
    assert_next_is(framer, "a");
    g_assert_cmpuint(qmp_framer_get_last_bytes(framer), ==, 15);
    assert_next_is(framer, "b");
    assert_needs_more(framer);
    g_assert_false(qmp_framer_is_inside_message(framer));
}

static void test_joins_a_value_from_single_bytes(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(1024);
    const char *text = "{\"execute\":\"a\",\"x\":[{}]}";

    for (size_t i = 0; text[i + 1]; i++) {
        feed(framer, text + i, 1);
        assert_needs_more(framer);
        g_assert_true(qmp_framer_is_inside_message(framer));
    }
    feed_text(framer, "}");
    assert_next_is(framer, "a");
}

static void test_ignores_brackets_inside_strings(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(1024);

    feed_text(framer, "{\"execute\":\"}]\\\"{\\\\\"}{\"execute\":\"b\"}");
    assert_next_is(framer, "}]\"{\\");
    assert_next_is(framer, "b");
}

static void test_garbage_names_offset_and_byte(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(1024);

    feed_text(framer, "{\"execute\":\"a\"}\n  hello\n{\"execute\":\"b\"}");
    assert_next_is(framer, "a");
    assert_fails(framer, QMP_ERROR_PROTOCOL,
                 "byte 18: got 'h', expected a JSON object");
    assert_next_is(framer, "b");        /* one error for the whole word */
    assert_needs_more(framer);
}

static void test_goes_on_after_garbage_without_line_end(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(1024);

    feed_text(framer, "42 {\"execute\":\"a\"}");
    assert_fails(framer, QMP_ERROR_PROTOCOL, "byte 0: got '4'");
    assert_next_is(framer, "a");
}

static void test_goes_on_after_syntax_error(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(1024);

    feed_text(framer, "{\"execute\":}{\"execute\" 5}");
    assert_fails(framer, QMP_ERROR_PROTOCOL, "byte 0: JSON parse error");
    assert_fails(framer, QMP_ERROR_PROTOCOL, "byte 12: JSON parse error");
    feed_text(framer, "{'execute': {{{\n{\"execute\":\"a\"}");
    assert_fails(framer, QMP_ERROR_PROTOCOL, "got ''', expected JSON");
    assert_next_is(framer, "a");
    feed_text(framer, "{\"exec\nute\":5}{\"execute\":\"lost\"}\n"
                      "{\"execute\":\"b\"}");
    assert_fails(framer, QMP_ERROR_PROTOCOL, "got 0x0a");
    assert_fails(framer, QMP_ERROR_PROTOCOL, "got 'u'");
    assert_next_is(framer, "lost");
    assert_next_is(framer, "b");
}

static void test_refuses_an_array(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(1024);

    feed_text(framer, "[{\"execute\":\"a\"}]{\"execute\":\"b\"}");
    assert_fails(framer, QMP_ERROR_PROTOCOL, "got an array");
    assert_next_is(framer, "b");
}

static void test_reset_byte_starts_afresh(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(1024);

    feed_text(framer, "\xff{\"execute\":\"a\"}\xff\xff{\"exec");
    assert_next_is(framer, "a");
    assert_needs_more(framer);
    feed_text(framer, "\xff{\"execute\":\"b\"}");
    assert_fails(framer, QMP_ERROR_PROTOCOL, "drops the 6 bytes");
    assert_next_is(framer, "b");
}

/* A peer must not choose how much we hold, and there is no way on. */
static void test_oversize_is_final(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(15);

    feed_text(framer, "  {\"execute\":\"a\"}");
    assert_next_is(framer, "a");        /* exactly the limit */
    feed_text(framer, "{\"execute\":\"ab\"}{\"execute\":\"a\"}");
    assert_fails(framer, QMP_ERROR_TOO_LARGE, "allowed at most 15");
    assert_fails(framer, QMP_ERROR_TOO_LARGE, "allowed at most 15");
    feed_text(framer, "\n{\"execute\":\"a\"}");
    assert_fails(framer, QMP_ERROR_TOO_LARGE, "byte 17");
}

/* Endless white space or garbage is no message, and is not kept. */
static void test_space_is_not_counted(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(16);

    for (int i = 0; i < 100; i++) {
        feed_text(framer, " \n  \r\n\t");
        assert_needs_more(framer);
    }
    feed_text(framer, "{\"execute\":\"a\"}");
    assert_next_is(framer, "a");
}

static void test_limits_nesting(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(4096);
    g_autoptr(GString) text = g_string_new("{\"execute\":\"a\",\"x\":");

    for (unsigned i = 1; i < QMP_FRAMER_MAX_DEPTH; i++) {
        g_string_append_c(text, '[');
    }
    for (unsigned i = 1; i < QMP_FRAMER_MAX_DEPTH; i++) {
        g_string_append_c(text, ']');
    }
    feed_text(framer, text->str);
    feed_text(framer, "}");
    assert_next_is(framer, "a");

    g_string_insert(text, 19, "[");
    feed_text(framer, text->str);
    feed_text(framer, "]}\n{\"execute\":\"b\"}");
    assert_fails(framer, QMP_ERROR_PROTOCOL, "got nesting depth 65, allowed");
    assert_next_is(framer, "b");
}

static void test_limits_values(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(QMP_FRAMER_CLIENT_MAX_BYTES);
    g_autoptr(GString) text = g_string_new("{\"x\":[0");

    for (unsigned i = 0; i < QMP_FRAMER_MAX_VALUES; i++) {
        g_string_append(text, ",0");
    }
    feed_text(framer, text->str);
    assert_fails(framer, QMP_ERROR_PROTOCOL, "values, allowed at most");
}

/* json-glib 1.6 asserts on the first and cuts the string at the second. */
static void test_refuses_escapes_that_harm_the_parser(void)
{
    static const char *const bad[] = {
        "{\"a\":\"\\ud800\\u0041\"}\n", "{\"a\":\"\\ud800\"}\n",
        "{\"a\":\"\\ud800\\n\"}\n",     "{\"a\":\"\\ud800x\"}\n",
        "{\"a\":\"\\udc00\"}\n",        "{\"a\":\"\\ud800\\ud800\"}\n",
        "{\"a\":\"b\\u0000c\"}\n",      "{\"a\":\"\\u12g4\"}\n",
        "{\"a\":\"\\x41\"}\n",
    };
    g_autoptr(QmpFramer) framer = qmp_framer_new(1024);

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        feed_text(framer, bad[i]);
        assert_fails(framer, QMP_ERROR_PROTOCOL, "expected");
        assert_needs_more(framer);
    }
    feed_text(framer, "{\"execute\":\"\\ud83d\\ude00\\u00e9\"}");
    assert_next_is(framer, "\xf0\x9f\x98\x80\xc3\xa9");
}

static void test_refuses_what_is_not_json(void)
{
    static const char *const bad[] = {
        "{\"a\":0x10}\n", "{/* } */}\n", "{\"a\":\"\x80\"}\n",
        "{\"a\":1e999}\n", "{\"a\":[1e999]}\n", "{\"a\":\"\x01\"}\n",
        "{]\n", "{\"a\"}\n", "{\"a\":nan}\n",
    };
    g_autoptr(QmpFramer) framer = qmp_framer_new(1024);

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        feed_text(framer, bad[i]);
        assert_fails(framer, QMP_ERROR_PROTOCOL, "QMP input byte");
        assert_needs_more(framer);
    }
}

static void test_refuses_a_zero_byte(void)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(1024);

    static const char text[] = "\0\n{\0}\n{\"\0\"}\n{\"execute\":\"a\"}";

    feed(framer, text, sizeof(text) - 1);
    assert_fails(framer, QMP_ERROR_PROTOCOL, "byte 0: got 0x00");
    assert_fails(framer, QMP_ERROR_PROTOCOL, "byte 3: got 0x00");
    assert_fails(framer, QMP_ERROR_PROTOCOL, "byte 8: got 0x00");
    assert_next_is(framer, "a");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/qmp/framer/" name, func)
    ADD("splits-two-values-in-one-read", test_splits_two_values_in_one_read);
    ADD("joins-a-value-from-single-bytes",
        test_joins_a_value_from_single_bytes);
    ADD("ignores-brackets-inside-strings",
        test_ignores_brackets_inside_strings);
    ADD("garbage-names-offset-and-byte", test_garbage_names_offset_and_byte);
    ADD("goes-on-after-garbage-without-line-end",
        test_goes_on_after_garbage_without_line_end);
    ADD("goes-on-after-syntax-error", test_goes_on_after_syntax_error);
    ADD("refuses-an-array", test_refuses_an_array);
    ADD("reset-byte-starts-afresh", test_reset_byte_starts_afresh);
    ADD("oversize-is-final", test_oversize_is_final);
    ADD("space-is-not-counted", test_space_is_not_counted);
    ADD("limits-nesting", test_limits_nesting);
    ADD("limits-values", test_limits_values);
    ADD("refuses-escapes-that-harm-the-parser",
        test_refuses_escapes_that_harm_the_parser);
    ADD("refuses-what-is-not-json", test_refuses_what_is_not_json);
    ADD("refuses-a-zero-byte", test_refuses_a_zero_byte);
#undef ADD
    return g_test_run();
}
