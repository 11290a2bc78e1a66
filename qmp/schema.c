/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp/schema.h"

#include "qmp/error.h"

#include <assert.h>

/* QEMU's word for each type in errors, and its name in the introspection. */
static const struct {
    const char *expected;
    const char *name;
} types[] = {
    [QMP_TYPE_STRING]  = { "string", "str" },
    [QMP_TYPE_INT]     = { "integer", "int" },
    [QMP_TYPE_BOOL]    = { "boolean", "bool" },
    [QMP_TYPE_NUMBER]  = { "number", "number" },
    [QMP_TYPE_STRINGS] = { "array of strings", "[str]" },
    [QMP_TYPE_ANY]     = { "value", "any" },
};
static_assert(G_N_ELEMENTS(types) == QMP_TYPE_ANY + 1, "a type has no name");

/* The built-in types: their name, and what JSON calls them. */
static const struct {
    const char *name;
    const char *json_type;
} builtins[] = {
    { "str", "string" },
    { "int", "int" },
    { "bool", "boolean" },
    { "number", "number" },
    { "any", "value" },
};

const char *qmp_schema_describe(JsonNode *node)
{
    switch (json_node_get_node_type(node)) {
    case JSON_NODE_OBJECT:
        return "an object";
    case JSON_NODE_ARRAY:
        return "an array";
    case JSON_NODE_NULL:
        return "null";
    case JSON_NODE_VALUE:
        break;
    }
    switch (json_node_get_value_type(node)) {
    case G_TYPE_STRING:
        return "a string";
    case G_TYPE_BOOLEAN:
        return "a boolean";
    case G_TYPE_INT64:
        return "an integer";
    default:
        return "a fractional number";
    }
}

static bool is_strings(JsonNode *node)
{
    JsonArray *array;

    if (!JSON_NODE_HOLDS_ARRAY(node)) {
        return false;
    }
    array = json_node_get_array(node);
    for (guint i = 0; i < json_array_get_length(array); i++) {
        if (json_node_get_value_type(json_array_get_element(array, i)) !=
            G_TYPE_STRING) {
            return false;
        }
    }
    return true;
}

static bool has_type(JsonNode *node, QmpType type)
{
    GType value = json_node_get_value_type(node);

    switch (type) {
    case QMP_TYPE_STRING:
        return value == G_TYPE_STRING;
    case QMP_TYPE_INT:
        return value == G_TYPE_INT64;
    case QMP_TYPE_BOOL:
        return value == G_TYPE_BOOLEAN;
    case QMP_TYPE_NUMBER:
        return value == G_TYPE_INT64 || value == G_TYPE_DOUBLE;
    case QMP_TYPE_STRINGS:
        return is_strings(node);
    case QMP_TYPE_ANY:
        return true;
    }
    g_assert_not_reached();
}

static const QmpArg *find_arg(const QmpArg *args, size_t n_args,
                              const char *name)
{
    for (size_t i = 0; i < n_args; i++) {
        if (g_str_equal(args[i].name, name)) {
            return &args[i];
        }
    }
    return NULL;
}

/* The table's names, for somebody who mistyped one. */
static char *list_names(const QmpArg *args, size_t n_args)
{
    GString *names = g_string_new(n_args ? "" : "none");

    for (size_t i = 0; i < n_args; i++) {
        g_string_append_printf(names, "%s'%s'", i ? ", " : "", args[i].name);
    }
    return g_string_free(names, FALSE);
}

bool qmp_schema_check(const QmpArg *args, size_t n_args, JsonObject *object,
                      GError **error)
{
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;

    json_object_iter_init_ordered(&iter, object);
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        const QmpArg *arg = find_arg(args, n_args, name);

        if (!arg) {
            g_autofree char *names = list_names(args, n_args);

            g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                        "Parameter '%s' is unexpected, allowed: %s", name,
                        names);
            return false;
        }
        if (!has_type(node, arg->type)) {
            g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                        "Invalid parameter type for '%s', got %s, expected: "
                        "%s", name, qmp_schema_describe(node),
                        types[arg->type].expected);
            return false;
        }
    }
    for (size_t i = 0; i < n_args; i++) {
        if (!args[i].optional && !json_object_has_member(object,
                                                         args[i].name)) {
            g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                        "Parameter '%s' is missing, expected: %s",
                        args[i].name, types[args[i].type].expected);
            return false;
        }
    }
    return true;
}

/* --- introspection --- */

static JsonObject *add_info(JsonArray *schema, const char *name,
                            const char *meta_type)
{
    JsonObject *info = json_object_new();

    json_object_set_string_member(info, "name", name);
    json_object_set_string_member(info, "meta-type", meta_type);
    json_array_add_object_element(schema, info);
    return info;
}

static void add_builtins(JsonArray *schema)
{
    for (size_t i = 0; i < G_N_ELEMENTS(builtins); i++) {
        json_object_set_string_member(add_info(schema, builtins[i].name,
                                               "builtin"),
                                      "json-type", builtins[i].json_type);
    }
    json_object_set_string_member(add_info(schema, "[str]", "array"),
                                  "element-type", "str");
}

/* An object type for @args, named after what they belong to. */
static void add_object_type(JsonArray *schema, const char *name,
                            const QmpArg *args, size_t n_args)
{
    JsonArray *members = json_array_new();

    for (size_t i = 0; i < n_args; i++) {
        JsonObject *member = json_object_new();

        json_object_set_string_member(member, "name", args[i].name);
        json_object_set_string_member(member, "type",
                                      types[args[i].type].name);
        if (args[i].optional) {
            json_object_set_null_member(member, "default");
        }
        json_array_add_object_element(members, member);
    }
    json_object_set_array_member(add_info(schema, name, "object"), "members",
                                 members);
}

/* Give the type of @args in @schema; all that have none share "empty". */
static char *type_for(JsonArray *schema, const char *name, const QmpArg *args,
                      size_t n_args)
{
    char *type;

    if (n_args == 0) {
        return g_strdup("empty");
    }
    type = g_strdup_printf("%s-arg", name);
    add_object_type(schema, type, args, n_args);
    return type;
}

JsonNode *qmp_schema_introspect(GPtrArray *commands, GPtrArray *events)
{
    JsonArray *schema = json_array_new();
    JsonNode *result;

    for (guint i = 0; i < commands->len; i++) {
        const QmpCommand *command = g_ptr_array_index(commands, i);
        g_autofree char *type = type_for(schema, command->name, command->args,
                                         command->n_args);
        JsonObject *info = add_info(schema, command->name, "command");

        json_object_set_string_member(info, "arg-type", type);
        json_object_set_string_member(info, "ret-type", "any");
    }
    for (guint i = 0; i < events->len; i++) {
        const QmpEvent *event = g_ptr_array_index(events, i);
        g_autofree char *type = type_for(schema, event->name, event->args,
                                         event->n_args);

        json_object_set_string_member(add_info(schema, event->name, "event"),
                                      "arg-type", type);
    }
    add_object_type(schema, "empty", NULL, 0);
    add_builtins(schema);
    result = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(result, schema);
    return result;
}
