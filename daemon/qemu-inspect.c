/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/qemu-inspect.c - learn what a QEMU is, and nothing that changes it
 *
 * A dozen queries, each its own small function that fills its part of the
 * QemuInfo.  The table at the end is the order.
 */
#include <string.h>

#include "daemon/qemu.h"
#include "daemon/qemu-json.h"

typedef struct {
    QmpClient *client;
    unsigned timeout_ms;
    GCancellable *cancellable;
    QemuInfo *info;
} Inspection;

static JsonObject *ask(Inspection *i, const char *command, GError **error)
{
    return qemu_call_object(i->client, command, i->timeout_ms, i->cancellable,
                            error);
}

/* Take a copy of a string that must be there. */
static bool take_string(JsonObject *answer, const char *command,
                        const char *member, char **ret, GError **error)
{
    const char *value = qemu_json_find_string(answer, member);

    if (!value) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER,
                    "QEMU: %s: got no '%s', expected a string", command,
                    member);
        return false;
    }
    *ret = g_strdup(value);
    return true;
}

/* The greeting has it, so nothing is asked. */
static bool inspect_version(Inspection *i, G_GNUC_UNUSED GError **error)
{
    unsigned major, minor, micro;

    qmp_client_get_version(i->client, &major, &minor, &micro);
    i->info->version = g_strdup_printf("%u.%u.%u", major, minor, micro);
    return true;
}

static bool inspect_uuid(Inspection *i, GError **error)
{
    g_autoptr(JsonObject) answer = ask(i, "query-uuid", error);
    g_autofree char *uuid = NULL;

    if (!answer ||
        !take_string(answer, "query-uuid", "UUID", &uuid, error)) {
        return false;
    }
    i->info->uuid = g_ascii_strdown(uuid, -1);
    return true;
}

static bool inspect_name(Inspection *i, GError **error)
{
    g_autoptr(JsonObject) answer = ask(i, "query-name", error);
    const char *name = qemu_json_find_string(answer, "name");

    i->info->name = g_strdup(name ? name : "");
    return answer != NULL;
}

static bool inspect_arch(Inspection *i, GError **error)
{
    g_autoptr(JsonObject) answer = ask(i, "query-target", error);

    return answer && take_string(answer, "query-target", "arch",
                                 &i->info->arch, error);
}

/*
 * The type of the machine object is what an alias such as 'pc' stands for in
 * this QEMU, and what the stream's configuration section has.
 */
static bool inspect_machine(Inspection *i, GError **error)
{
    JsonObject *arguments = json_object_new();
    g_autoptr(JsonNode) answer = NULL;
    const char *type;

    json_object_set_string_member(arguments, "path", "/machine");
    json_object_set_string_member(arguments, "property", "type");
    answer = qemu_call(i->client, "qom-get", arguments, i->timeout_ms,
                       i->cancellable, error);
    if (!answer) {
        return false;
    }
    type = JSON_NODE_HOLDS_VALUE(answer) ? json_node_get_string(answer) : NULL;
    if (!type) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER,
                    "QEMU: qom-get /machine type: got an answer of type %s, "
                    "expected a string", json_node_type_name(answer));
        return false;
    }
    i->info->machine = g_str_has_suffix(type, "-machine")
                           ? g_strndup(type, strlen(type) - strlen("-machine"))
                           : g_strdup(type);
    return true;
}

static bool inspect_memory(Inspection *i, GError **error)
{
    g_autoptr(JsonObject) answer =
        ask(i, "query-memory-size-summary", error);

    if (!answer) {
        return false;
    }
    i->info->ram_bytes = qemu_json_get_size(answer, "base-memory") +
                         qemu_json_get_size(answer, "plugged-memory");
    return true;
}

static bool inspect_vcpus(Inspection *i, GError **error)
{
    g_autoptr(JsonNode) answer = qemu_call(i->client, "query-cpus-fast", NULL,
                                           i->timeout_ms, i->cancellable,
                                           error);

    if (!answer) {
        return false;
    }
    if (JSON_NODE_HOLDS_ARRAY(answer)) {
        i->info->vcpus = json_array_get_length(json_node_get_array(answer));
    }
    return true;
}

static bool inspect_status(Inspection *i, GError **error)
{
    return qemu_query_status(i->client, &i->info->running,
                             &i->info->run_state, i->timeout_ms,
                             i->cancellable, error);
}

static bool inspect_migration(Inspection *i, GError **error)
{
    g_autoptr(QemuMigrateStatus) status = qemu_query_migrate(
        i->client, i->timeout_ms, i->cancellable, error);

    if (!status) {
        return false;
    }
    /* While it listens 7.2 shows the address alone, 10.0 status setup too. */
    i->info->incoming_started = status->socket_address != NULL ||
                                !g_str_equal(status->status, "none");
    i->info->migration = g_steal_pointer(&status->status);
    i->info->blocked_reasons = g_steal_pointer(&status->blocked_reasons);
    return true;
}

static bool inspect_capabilities(Inspection *i, GError **error)
{
    g_autoptr(JsonNode) answer = qemu_call(
        i->client, "query-migrate-capabilities", NULL, i->timeout_ms,
        i->cancellable, error);
    JsonArray *list;

    if (!answer) {
        return false;
    }
    if (!JSON_NODE_HOLDS_ARRAY(answer)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER,
                    "QEMU: query-migrate-capabilities: got an answer of type "
                    "%s, expected a list", json_node_type_name(answer));
        return false;
    }
    list = json_node_get_array(answer);
    for (guint k = 0; k < json_array_get_length(list); k++) {
        JsonObject *one =
            qemu_json_node_object(json_array_get_element(list, k));
        const char *name = qemu_json_find_string(one, "capability");

        if (name) {
            g_hash_table_insert(
                i->info->capabilities, g_strdup(name),
                GINT_TO_POINTER(qemu_json_get_bool(one, "state")));
        }
    }
    return true;
}

static bool inspect_parameters(Inspection *i, GError **error)
{
    JsonObject *answer = ask(i, "query-migrate-parameters", error);

    if (!answer) {
        return false;
    }
    json_object_unref(i->info->parameters);
    i->info->parameters = answer;
    return true;
}

QemuInfo *qemu_inspect(QmpClient *client, unsigned timeout_ms,
                       GCancellable *cancellable, GError **error)
{
    static bool (*const steps[])(Inspection *, GError **) = {
        inspect_version, inspect_status, inspect_migration, inspect_uuid,
        inspect_name, inspect_arch, inspect_machine, inspect_memory,
        inspect_vcpus, inspect_capabilities, inspect_parameters,
    };
    g_autoptr(QemuInfo) info = g_new0(QemuInfo, 1);
    Inspection i = {
        .client = client,
        .timeout_ms = timeout_ms,
        .cancellable = cancellable,
        .info = info,
    };

    info->capabilities = g_hash_table_new_full(g_str_hash, g_str_equal,
                                               g_free, NULL);
    info->parameters = json_object_new();
    for (size_t k = 0; k < G_N_ELEMENTS(steps); k++) {
        if (!steps[k](&i, error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&info);
}
