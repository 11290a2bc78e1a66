/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-format.h"

#include <string.h>
#include "daemon/units.h"

#define COLUMN_GAP 2

static JsonNode *get_value(JsonObject *object, const char *member,
                           GType wanted)
{
    JsonNode *node = object ? json_object_get_member(object, member) : NULL;

    return node && JSON_NODE_HOLDS_VALUE(node) &&
           json_node_get_value_type(node) == wanted ? node : NULL;
}

const char *client_format_get_string(JsonObject *object, const char *member)
{
    JsonNode *node = get_value(object, member, G_TYPE_STRING);

    return node ? json_node_get_string(node) : NULL;
}

JsonObject *client_format_get_object(JsonObject *object, const char *member)
{
    JsonNode *node = object ? json_object_get_member(object, member) : NULL;

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) :
                                                  NULL;
}

JsonArray *client_format_get_array(JsonObject *object, const char *member)
{
    JsonNode *node = object ? json_object_get_member(object, member) : NULL;

    return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) :
                                                 NULL;
}

uint64_t client_format_get_number(JsonObject *object, const char *member)
{
    JsonNode *node = get_value(object, member, G_TYPE_INT64);
    gint64 value;

    if (!node) {
        node = get_value(object, member, G_TYPE_DOUBLE);
        if (!node || !(json_node_get_double(node) >= 0 &&
                       json_node_get_double(node) < 9e18)) {
            return 0;
        }
        return (uint64_t)json_node_get_double(node);
    }
    value = json_node_get_int(node);
    return value > 0 ? (uint64_t)value : 0;
}

bool client_format_has(JsonObject *object, const char *member)
{
    return object && json_object_has_member(object, member) &&
           !json_object_get_null_member(object, member);
}

bool client_format_get_flag(JsonObject *object, const char *member)
{
    JsonNode *node = get_value(object, member, G_TYPE_BOOLEAN);

    return node && json_node_get_boolean(node);
}

double client_format_get_double(JsonObject *object, const char *member)
{
    JsonNode *node = get_value(object, member, G_TYPE_DOUBLE);

    return node ? json_node_get_double(node)
                : (double)client_format_get_number(object, member);
}

unsigned client_format_get_length(JsonArray *array)
{
    return array ? json_array_get_length(array) : 0;
}

static JsonNode *get_element(JsonArray *array, unsigned i)
{
    return i < client_format_get_length(array)
           ? json_array_get_element(array, i) : NULL;
}

JsonObject *client_format_object_at(JsonArray *array, unsigned i)
{
    JsonNode *node = get_element(array, i);

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) :
                                                  NULL;
}

JsonArray *client_format_array_at(JsonArray *array, unsigned i)
{
    JsonNode *node = get_element(array, i);

    return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) :
                                                 NULL;
}

const char *client_format_string_at(JsonArray *array, unsigned i)
{
    JsonNode *node = get_element(array, i);

    return node && JSON_NODE_HOLDS_VALUE(node) &&
           json_node_get_value_type(node) == G_TYPE_STRING ?
           json_node_get_string(node) : NULL;
}

uint64_t client_format_number_at(JsonArray *array, unsigned i)
{
    JsonNode *node = get_element(array, i);
    gint64 value;

    if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
        json_node_get_value_type(node) != G_TYPE_INT64) {
        return 0;
    }
    value = json_node_get_int(node);
    return value > 0 ? (uint64_t)value : 0;
}

char *client_format_escape(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text ? text : "-", -1);
    GString *line = g_string_sized_new(strlen(valid));

    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        /* With the C1 controls and what turns the direction of writing. */
        if (g_unichar_iscntrl(c) || g_unichar_type(c) == G_UNICODE_FORMAT) {
            g_string_append_printf(line, "\\x%02x", c);
        } else {
            g_string_append_unichar(line, c);
        }
    }
    return g_string_free(line, FALSE);
}

char *client_format_limit(uint64_t bytes_per_s)
{
    return bytes_per_s == 0 ? g_strdup("unlimited") :
                              units_format_rate(bytes_per_s);
}

char *client_format_json(JsonNode *node, bool pretty)
{
    return json_to_string(node, pretty);
}

static void append_row(GString *text, const char *const *cells,
                       const glong *widths, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        g_string_append(text, cells[i]);
        if (i + 1 < n) {
            glong pad = widths[i] - g_utf8_strlen(cells[i], -1) + COLUMN_GAP;

            g_string_append_printf(text, "%*s", (int)pad, "");
        }
    }
    g_string_append_c(text, '\n');
}

char *client_format_table(const char *const *titles, const GPtrArray *rows)
{
    unsigned n = g_strv_length((char **)titles);
    g_autofree glong *widths = g_new0(glong, n);
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < n; i++) {
        widths[i] = g_utf8_strlen(titles[i], -1);
        for (unsigned j = 0; j < rows->len; j++) {
            char **cells = g_ptr_array_index(rows, j);

            widths[i] = MAX(widths[i], g_utf8_strlen(cells[i], -1));
        }
    }
    append_row(text, titles, widths, n);
    for (unsigned j = 0; j < rows->len; j++) {
        append_row(text, g_ptr_array_index(rows, j), widths, n);
    }
    return g_string_free(text, FALSE);
}
