/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp/error.h"
#include "qmp/message.h"

#include <string.h>

static void assert_encodes(JsonObject *object, const char *expected)
{
    g_autoptr(GBytes) bytes = qmp_message_encode(object);

    g_assert_cmpmem(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes),
                    expected, strlen(expected));
}

static void test_writes_every_type_as_one_line(void)
{
    g_autoptr(JsonObject) object = json_object_new();
    JsonArray *array = json_array_new();

    assert_encodes(object, "{}\r\n");
    json_object_set_int_member(object, "i", G_MININT64);
    json_object_set_double_member(object, "d", 2);
    json_object_set_double_member(object, "e", 1e55);
    json_object_set_boolean_member(object, "b", TRUE);
    json_object_set_null_member(object, "n");
    json_array_add_string_element(array, "\"\\\n\x01/");
    json_array_add_object_element(array, json_object_new());
    json_object_set_array_member(object, "a", array);
    assert_encodes(object, "{\"i\": -9223372036854775808, \"d\": 2.0, "
                   "\"e\": 1e+55, \"b\": true, \"n\": null, "
                   "\"a\": [\"\\\"\\\\\\n\\u0001/\", {}]}\r\n");
}

/* A path in an error message may be any bytes; a client parses UTF-8. */
static void test_makes_strings_utf8(void)
{
    g_autoptr(JsonObject) object = json_object_new();

    json_object_set_string_member(object, "s", "a\xff");
    assert_encodes(object, "{\"s\": \"a\xef\xbf\xbd\"}\r\n");
}

static void test_survives_members_of_another_type(void)
{
    g_autoptr(JsonObject) object = json_object_new();
    int64_t number = 7;
    bool flag = true;

    json_object_set_null_member(object, "null");
    json_object_set_string_member(object, "text", "x");
    json_object_set_int_member(object, "number", -1);
    g_assert_null(qmp_message_get_object(object, "text"));
    g_assert_null(qmp_message_get_array(object, "null"));
    g_assert_null(qmp_message_get_string(object, "number"));
    g_assert_null(qmp_message_get_string(object, "absent"));
    g_assert_false(qmp_message_get_int(object, "text", &number));
    g_assert_false(qmp_message_get_uint(object, "number", 10, &number));
    g_assert_false(qmp_message_get_bool(object, "null", &flag));
    g_assert_cmpint(number, ==, 7);
    g_assert_true(flag);
    g_assert_true(qmp_message_get_int(object, "number", &number));
    g_assert_cmpint(number, ==, -1);
}

/* Callers prefix errors on their way up and still act on the class. */
static void test_class_outlives_prefixes_and_copies(void)
{
    g_autoptr(GError) error = qmp_error_new_command("DeviceNotFound", "gone");
    g_autoptr(GError) copy = NULL;
    g_autoptr(GError) unknown = qmp_error_new_command("Newer", "x");

    g_prefix_error(&error, "vm 'a': ");
    copy = g_error_copy(error);
    g_assert_cmpstr(copy->message, ==, "vm 'a': DeviceNotFound: gone");
    g_assert_cmpint(qmp_error_get_class(copy), ==, QMP_CLASS_DEVICE_NOT_FOUND);
    g_assert_cmpint(qmp_error_get_class(unknown), ==, QMP_CLASS_GENERIC);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qmp/message/writes-every-type-as-one-line",
                    test_writes_every_type_as_one_line);
    g_test_add_func("/qmp/message/makes-strings-utf8", test_makes_strings_utf8);
    g_test_add_func("/qmp/message/survives-members-of-another-type",
                    test_survives_members_of_another_type);
    g_test_add_func("/qmp/error/class-outlives-prefixes-and-copies",
                    test_class_outlives_prefixes_and_copies);
    return g_test_run();
}
