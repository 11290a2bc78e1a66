/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/qemu-json.h"

/* NULL unless there is a plain value that can be seen as @type. */
static JsonNode *find_value(JsonObject *object, const char *member, GType type)
{
    JsonNode *node = object ? json_object_get_member(object, member) : NULL;

    if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
        json_node_get_value_type(node) != type) {
        return NULL;
    }
    return node;
}

const char *qemu_json_find_string(JsonObject *object, const char *member)
{
    JsonNode *node = find_value(object, member, G_TYPE_STRING);

    return node ? json_node_get_string(node) : NULL;
}

JsonObject *qemu_json_find_object(JsonObject *object, const char *member)
{
    return qemu_json_node_object(
        object ? json_object_get_member(object, member) : NULL);
}

JsonArray *qemu_json_find_array(JsonObject *object, const char *member)
{
    JsonNode *node = object ? json_object_get_member(object, member) : NULL;

    return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node)
                                               : NULL;
}

int64_t qemu_json_get_int(JsonObject *object, const char *member)
{
    JsonNode *node = find_value(object, member, G_TYPE_INT64);

    return node ? json_node_get_int(node) : 0;
}

uint64_t qemu_json_get_size(JsonObject *object, const char *member)
{
    return MAX(qemu_json_get_int(object, member), 0);
}

double qemu_json_get_double(JsonObject *object, const char *member)
{
    JsonNode *node = find_value(object, member, G_TYPE_DOUBLE);

    return node ? json_node_get_double(node)
                : (double)qemu_json_get_int(object, member);
}

bool qemu_json_get_bool(JsonObject *object, const char *member)
{
    JsonNode *node = find_value(object, member, G_TYPE_BOOLEAN);

    return node && json_node_get_boolean(node);
}

JsonObject *qemu_json_node_object(JsonNode *node)
{
    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node)
                                                : NULL;
}
