/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/qemu.h"
#include "daemon/qemu-json.h"

G_DEFINE_QUARK(qemu-error-quark, qemu_error)

JsonNode *qemu_call(QmpClient *client, const char *command,
                    JsonObject *arguments, unsigned timeout_ms,
                    GCancellable *cancellable, GError **error)
{
    JsonNode *answer = qmp_client_execute(client, command, arguments,
                                          timeout_ms, cancellable, error);

    if (!answer) {
        g_prefix_error(error, "QEMU: ");    /* the command is in it */
    }
    return answer;
}

JsonObject *qemu_call_object(QmpClient *client, const char *command,
                             unsigned timeout_ms, GCancellable *cancellable,
                             GError **error)
{
    g_autoptr(JsonNode) answer = qemu_call(client, command, NULL, timeout_ms,
                                           cancellable, error);
    JsonObject *object = qemu_json_node_object(answer);

    if (!answer) {
        return NULL;
    }
    if (!object) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER,
                    "QEMU: %s: got an answer of type %s, expected an object",
                    command, json_node_type_name(answer));
        return NULL;
    }
    return json_object_ref(object);
}

/* A command whose answer says nothing. */
static bool call_plain(QmpClient *client, const char *command,
                       JsonObject *arguments, unsigned timeout_ms,
                       GCancellable *cancellable, GError **error)
{
    g_autoptr(JsonNode) answer = qemu_call(client, command, arguments,
                                           timeout_ms, cancellable, error);

    return answer != NULL;
}

static JsonObject *uri_arguments(const char *uri)
{
    JsonObject *arguments = json_object_new();

    json_object_set_string_member(arguments, "uri", uri);
    return arguments;
}

bool qemu_migrate_incoming(QmpClient *client, const char *uri,
                           unsigned timeout_ms, GCancellable *cancellable,
                           GError **error)
{
    return call_plain(client, "migrate-incoming", uri_arguments(uri),
                      timeout_ms, cancellable, error);
}

bool qemu_migrate(QmpClient *client, const char *uri, unsigned timeout_ms,
                  GCancellable *cancellable, GError **error)
{
    return call_plain(client, "migrate", uri_arguments(uri), timeout_ms,
                      cancellable, error);
}

bool qemu_migrate_resume(QmpClient *client, const char *uri,
                         unsigned timeout_ms, GCancellable *cancellable,
                         GError **error)
{
    JsonObject *arguments = uri_arguments(uri);

    json_object_set_boolean_member(arguments, "resume", TRUE);
    return call_plain(client, "migrate", arguments, timeout_ms, cancellable,
                      error);
}

bool qemu_start_postcopy(QmpClient *client, unsigned timeout_ms,
                         GCancellable *cancellable, GError **error)
{
    return call_plain(client, "migrate-start-postcopy", NULL, timeout_ms,
                      cancellable, error);
}

bool qemu_migrate_recover(QmpClient *client, const char *uri,
                          unsigned timeout_ms, GCancellable *cancellable,
                          GError **error)
{
    g_autoptr(JsonNode) answer = qmp_client_execute_oob(
        client, "migrate-recover", uri_arguments(uri), timeout_ms, cancellable,
        error);

    if (!answer) {
        g_prefix_error(error, "QEMU: ");
    }
    return answer != NULL;
}

bool qemu_migrate_cancel(QmpClient *client, unsigned timeout_ms,
                         GCancellable *cancellable, GError **error)
{
    return call_plain(client, "migrate_cancel", NULL, timeout_ms, cancellable,
                      error);
}

bool qemu_stop(QmpClient *client, unsigned timeout_ms,
               GCancellable *cancellable, GError **error)
{
    return call_plain(client, "stop", NULL, timeout_ms, cancellable, error);
}

bool qemu_cont(QmpClient *client, unsigned timeout_ms,
               GCancellable *cancellable, GError **error)
{
    return call_plain(client, "cont", NULL, timeout_ms, cancellable, error);
}

bool qemu_query_status(QmpClient *client, bool *ret_running,
                       char **ret_status, unsigned timeout_ms,
                       GCancellable *cancellable, GError **error)
{
    g_autoptr(JsonObject) answer = qemu_call_object(
        client, "query-status", timeout_ms, cancellable, error);
    const char *status = qemu_json_find_string(answer, "status");

    if (!answer) {
        return false;
    }
    if (!status) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER,
                    "QEMU: query-status: got no status, expected a string");
        return false;
    }
    *ret_running = qemu_json_get_bool(answer, "running");
    *ret_status = g_strdup(status);
    return true;
}

/* ---- query-migrate --------------------------------------------------------- */

/* The first address listened at, as a URI; NULL without. */
static char *parse_socket_address(JsonObject *answer)
{
    JsonArray *list = qemu_json_find_array(answer, "socket-address");
    JsonObject *first;
    const char *path, *host, *port;

    if (!list || json_array_get_length(list) == 0) {
        return NULL;
    }
    first = qemu_json_node_object(json_array_get_element(list, 0));
    path = qemu_json_find_string(first, "path");
    host = qemu_json_find_string(first, "host");
    port = qemu_json_find_string(first, "port");
    if (path) {
        return g_strdup_printf("unix:%s", path);
    }
    if (host && port) {
        return g_strdup_printf(strchr(host, ':') ? "tcp:[%s]:%s" : "tcp:%s:%s",
                               host, port);
    }
    return g_strdup("another kind of address");
}

/* NULL without any. */
static char *join_strings(JsonArray *list)
{
    GString *joined = g_string_new(NULL);

    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        JsonNode *node = json_array_get_element(list, i);

        if (JSON_NODE_HOLDS_VALUE(node) &&
            json_node_get_value_type(node) == G_TYPE_STRING) {
            g_string_append_printf(joined, "%s%s", joined->len ? "; " : "",
                                   json_node_get_string(node));
        }
    }
    return g_string_free(joined, joined->len == 0);
}

static void parse_ram(QemuMigrateStatus *self, JsonObject *ram)
{
    self->ram_total = qemu_json_get_size(ram, "total");
    self->ram_remaining = qemu_json_get_size(ram, "remaining");
    self->ram_transferred = qemu_json_get_size(ram, "transferred");
    self->duplicate = qemu_json_get_size(ram, "duplicate");
    self->normal = qemu_json_get_size(ram, "normal");
    self->dirty_pages_rate = qemu_json_get_size(ram, "dirty-pages-rate");
    self->dirty_sync_count = qemu_json_get_size(ram, "dirty-sync-count");
    self->page_size = qemu_json_get_size(ram, "page-size");
    self->mbps = qemu_json_get_double(ram, "mbps");
}

QemuMigrateStatus *qemu_query_migrate(QmpClient *client, unsigned timeout_ms,
                                      GCancellable *cancellable,
                                      GError **error)
{
    g_autoptr(JsonObject) answer = qemu_call_object(
        client, "query-migrate", timeout_ms, cancellable, error);
    const char *status = qemu_json_find_string(answer, "status");
    QemuMigrateStatus *self;

    if (!answer) {
        return NULL;
    }
    self = g_new0(QemuMigrateStatus, 1);
    self->status = g_strdup(status ? status : "none");
    self->error_desc = g_strdup(qemu_json_find_string(answer, "error-desc"));
    self->socket_address = parse_socket_address(answer);
    self->blocked_reasons =
        join_strings(qemu_json_find_array(answer, "blocked-reasons"));
    self->cpu_throttle = (unsigned)MIN(
        qemu_json_get_size(answer, "cpu-throttle-percentage"), 100);
    self->expected_downtime_ms =
        qemu_json_get_size(answer, "expected-downtime");
    self->downtime_ms = qemu_json_get_size(answer, "downtime");
    self->total_time_ms = qemu_json_get_size(answer, "total-time");
    self->setup_time_ms = qemu_json_get_size(answer, "setup-time");
    parse_ram(self, qemu_json_find_object(answer, "ram"));
    return self;
}

void qemu_migrate_status_free(QemuMigrateStatus *self)
{
    if (!self) {
        return;
    }
    g_free(self->status);
    g_free(self->error_desc);
    g_free(self->socket_address);
    g_free(self->blocked_reasons);
    g_free(self);
}

bool qemu_migrate_status_is_active(const char *status)
{
    /* An unknown one is under way: newer QEMUs have more of these. */
    static const char *const over[] = {
        "none", "completed", "failed", "cancelled", NULL,
    };

    return !g_strv_contains(over, status);
}
