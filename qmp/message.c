/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp/message.h"

#include <math.h>
#include <string.h>

static void append_string(GString *text, const char *string)
{
    g_autofree char *valid = g_utf8_make_valid(string, -1);

    g_string_append_c(text, '"');
    for (const char *p = valid; *p; p++) {
        unsigned char byte = (unsigned char)*p;

        if (byte == '"' || byte == '\\') {
            g_string_append_c(text, '\\');
            g_string_append_c(text, *p);
        } else if (byte == '\n') {
            g_string_append(text, "\\n");
        } else if (byte < 0x20 || byte == 0x7f) {
            g_string_append_printf(text, "\\u%04x", byte);
        } else {
            g_string_append_c(text, *p);
        }
    }
    g_string_append_c(text, '"');
}

static void append_double(GString *text, double value)
{
    char buf[G_ASCII_DTOSTR_BUF_SIZE];

    if (!isfinite(value)) {
        g_string_append(text, "null");          /* JSON has no such number */
        return;
    }
    g_ascii_dtostr(buf, sizeof(buf), value);
    g_string_append(text, buf);
    if (!strpbrk(buf, ".e")) {
        g_string_append(text, ".0");            /* stays a double when read */
    }
}

static void append_scalar(GString *text, JsonNode *node)
{
    switch (json_node_get_value_type(node)) {
    case G_TYPE_STRING:
        append_string(text, json_node_get_string(node));
        break;
    case G_TYPE_INT64:
        g_string_append_printf(text, "%" G_GINT64_FORMAT,
                               json_node_get_int(node));
        break;
    case G_TYPE_BOOLEAN:
        g_string_append(text, json_node_get_boolean(node) ? "true" : "false");
        break;
    case G_TYPE_DOUBLE:
        append_double(text, json_node_get_double(node));
        break;
    default:
        g_assert_not_reached();
    }
}

static void append_array(GString *text, JsonArray *array)
{
    g_string_append_c(text, '[');
    for (guint i = 0; i < json_array_get_length(array); i++) {
        if (i > 0) {
            g_string_append(text, ", ");
        }
        qmp_message_append_value(text, json_array_get_element(array, i));
    }
    g_string_append_c(text, ']');
}

static void append_object(GString *text, JsonObject *object)
{
    JsonObjectIter iter;
    const char *name, *separator = "";
    JsonNode *value;

    g_string_append_c(text, '{');
    json_object_iter_init_ordered(&iter, object);
    while (json_object_iter_next_ordered(&iter, &name, &value)) {
        g_string_append(text, separator);
        append_string(text, name);
        g_string_append(text, ": ");
        qmp_message_append_value(text, value);
        separator = ", ";
    }
    g_string_append_c(text, '}');
}

void qmp_message_append_value(GString *text, JsonNode *node)
{
    switch (json_node_get_node_type(node)) {
    case JSON_NODE_OBJECT:
        append_object(text, json_node_get_object(node));
        break;
    case JSON_NODE_ARRAY:
        append_array(text, json_node_get_array(node));
        break;
    case JSON_NODE_VALUE:
        append_scalar(text, node);
        break;
    case JSON_NODE_NULL:
        g_string_append(text, "null");
        break;
    }
}

GBytes *qmp_message_encode(JsonObject *object)
{
    GString *text = g_string_new(NULL);

    append_object(text, object);
    g_string_append(text, "\r\n");
    return g_string_free_to_bytes(text);
}

/* --- reading --- */

static JsonNode *get_value(JsonObject *object, const char *name, GType type)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && json_node_get_value_type(node) == type ? node : NULL;
}

JsonObject *qmp_message_get_object(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node)
                                                : NULL;
}

JsonArray *qmp_message_get_array(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node)
                                               : NULL;
}

const char *qmp_message_get_string(JsonObject *object, const char *name)
{
    JsonNode *node = get_value(object, name, G_TYPE_STRING);

    return node ? json_node_get_string(node) : NULL;
}

bool qmp_message_get_int(JsonObject *object, const char *name, int64_t *ret)
{
    JsonNode *node = get_value(object, name, G_TYPE_INT64);

    if (node) {
        *ret = json_node_get_int(node);
    }
    return node != NULL;
}

bool qmp_message_get_bool(JsonObject *object, const char *name, bool *ret)
{
    JsonNode *node = get_value(object, name, G_TYPE_BOOLEAN);

    if (node) {
        *ret = json_node_get_boolean(node);
    }
    return node != NULL;
}

bool qmp_message_get_uint(JsonObject *object, const char *name, int64_t max,
                          int64_t *ret)
{
    int64_t value;

    if (!qmp_message_get_int(object, name, &value) || value < 0 ||
        value > max) {
        return false;
    }
    *ret = value;
    return true;
}

JsonNode *qmp_message_take_object(JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, object);
    return node;
}

JsonNode *qmp_message_take_array(JsonArray *array)
{
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);

    json_node_take_array(node, array);
    return node;
}
