/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-query.h"

#include <inttypes.h>
#include "daemon/client-format.h"
#include "daemon/client-summary.h"
#include "daemon/units.h"

static GPtrArray *new_rows(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
}

/* Takes the strings. */
static void add_row(GPtrArray *rows, char *const *cells, unsigned n)
{
    char **row = g_new0(char *, n + 1);

    for (unsigned i = 0; i < n; i++) {
        row[i] = cells[i];
    }
    g_ptr_array_add(rows, row);
}

/* Members that are no objects are passed over. */
static JsonObject *get_element(JsonNode *array, unsigned i)
{
    JsonNode *node = json_array_get_element(json_node_get_array(array), i);

    return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static unsigned get_length(JsonNode *array)
{
    return json_array_get_length(json_node_get_array(array));
}

static char *escape_member(JsonObject *object, const char *member)
{
    return client_format_escape(client_format_get_string(object, member));
}

static char *format_share(JsonObject *migration)
{
    JsonObject *qemu = client_format_get_object(migration, "qemu");
    double total = (double)client_format_get_number(qemu, "ram-total");
    double remaining = (double)client_format_get_number(qemu,
                                                        "ram-remaining");

    return total <= 0 ? g_strdup("-") :
           g_strdup_printf("%d %%", (int)(CLAMP(1 - remaining / total, 0, 1) *
                                          100));
}

static void add_migration(GPtrArray *rows, JsonObject *migration)
{
    bool ended = client_format_has(migration, "total-time-ms");
    char *cells[] = {
        escape_member(migration, "id"),
        client_format_escape(client_summary_get_subject(migration)),
        escape_member(migration, "peer"),
        escape_member(migration, "role"),
        escape_member(migration, "state"),
        format_share(migration),
        units_format_size(client_format_get_number(migration, "bytes-in")),
        units_format_size(client_format_get_number(migration,
                                                   "wire-bytes-out")),
        units_format_rate(client_format_get_number(migration, "rate")),
        units_format_time(client_format_get_number(
            migration, ended ? "total-time-ms" : "elapsed-ms")),
    };

    add_row(rows, cells, G_N_ELEMENTS(cells));
}

static void print_migrations(JsonNode *array)
{
    static const char *const titles[] = {
        "ID", "VM/TUNNEL", "PEER", "ROLE", "STATE", "RAM", "IN", "OUT",
        "RATE", "TIME", NULL
    };
    g_autoptr(GPtrArray) rows = new_rows();
    g_autofree char *text = NULL;

    for (unsigned i = 0; i < get_length(array); i++) {
        JsonObject *migration = get_element(array, i);

        if (migration) {
            add_migration(rows, migration);
        }
    }
    if (rows->len > 0) {
        text = client_format_table(titles, rows);
        g_print("%s", text);
    }
}

static ClientSessionExit print_daemon(ClientSession *session)
{
    g_autoptr(JsonNode) node = NULL;
    g_autofree char *name = NULL, *version = NULL, *uptime = NULL;
    JsonObject *status;
    uint64_t n;
    ClientSessionExit code = client_session_query(session, "query-status",
                                                  NULL, JSON_NODE_OBJECT,
                                                  &node);

    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    status = json_node_get_object(node);
    name = escape_member(status, "name");
    version = escape_member(status, "version");
    uptime = units_format_time(client_format_get_number(status, "uptime-ms"));
    n = client_format_get_number(status, "migrations");
    g_print("%s: multiferryd %s, up %s, %" PRIu64 " migration%s running\n",
            name, version, uptime, n, n == 1 ? "" : "s");
    return CLIENT_SESSION_OK;
}

static void print_summaries(JsonNode *array)
{
    for (unsigned i = 0; i < get_length(array); i++) {
        JsonObject *migration = get_element(array, i);

        if (migration) {
            g_autofree char *text = client_summary_to_string(migration);

            g_print("%s", text);
        }
    }
}

ClientSessionExit client_query_status(ClientSession *session, char **args)
{
    g_autoptr(JsonNode) migrations = NULL;
    JsonObject *arguments = NULL;
    ClientSessionExit code;

    if (!args[0] && !session->json) {
        code = print_daemon(session);
        if (code != CLIENT_SESSION_OK) {
            return code;
        }
    }
    if (args[0]) {
        arguments = json_object_new();
        json_object_set_string_member(arguments, "id", args[0]);
    }
    code = client_session_query(session, "query-migrations", arguments,
                                JSON_NODE_ARRAY, &migrations);
    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    if (args[0] && get_length(migrations) == 0) {
        client_session_complain("got '%s', expected a migration that "
                                "'multiferry status' lists", args[0]);
        return CLIENT_SESSION_REFUSED;
    }
    if (session->json) {
        client_session_print_json(migrations);
    } else if (args[0]) {
        print_summaries(migrations);
    } else {
        print_migrations(migrations);
    }
    return CLIENT_SESSION_OK;
}

/* Reachable is only said of peers that were tried. */
static char *format_reachable(JsonObject *peer)
{
    const char *error = client_format_get_string(peer, "last-error");
    bool known = client_format_has(peer, "reachable");
    JsonNode *node = known ? json_object_get_member(peer, "reachable") : NULL;

    if (error) {
        return client_format_escape(error);
    }
    if (!known || !JSON_NODE_HOLDS_VALUE(node)) {
        return g_strdup("-");
    }
    return g_strdup(json_node_get_boolean(node) ? "reachable" :
                                                  "unreachable");
}

static void add_peer(GPtrArray *rows, JsonObject *peer)
{
    char *cells[] = {
        escape_member(peer, "name"),
        escape_member(peer, "address"),
        escape_member(peer, "certificate-name"),
        client_format_has(peer, "lanes-max") ? g_strdup("auto")
            : g_strdup_printf("%" PRIu64,
                              client_format_get_number(peer, "lanes")),
        client_format_limit(client_format_get_number(peer, "rate")),
        g_strdup_printf("%" PRIu64,
                        client_format_get_number(peer, "migrations")),
        format_reachable(peer),
    };

    add_row(rows, cells, G_N_ELEMENTS(cells));
}

/* A line of its own for each, where there are several or one says how it leaves. */
static void add_paths(GPtrArray *rows, JsonObject *peer)
{
    JsonArray *paths = client_format_get_array(peer, "paths");
    unsigned n = client_format_get_length(paths);

    for (unsigned i = 0; i < n; i++) {
        JsonObject *path = client_format_object_at(paths, i);

        if (n > 1 || client_format_has(path, "bind")) {
            g_autofree char *address = escape_member(path, "address");
            g_autofree char *bind = escape_member(path, "bind");
            bool bound = client_format_has(path, "bind");
            char *cells[] = {
                g_strdup_printf("  path %u", i + 1),
                g_strconcat(bound ? bind : "", bound ? "@" : "", address, NULL),
                g_strdup(""),
                g_strdup_printf("%" PRIu64,
                                client_format_get_number(path, "lanes")),
                g_strdup(""),
                g_strdup(""),
                format_reachable(path),
            };

            add_row(rows, cells, G_N_ELEMENTS(cells));
        }
    }
}

ClientSessionExit client_query_peers(ClientSession *session, char **args)
{
    static const char *const titles[] = {
        "NAME", "ADDRESS", "CERTIFICATE", "LANES", "LIMIT", "MIGRATIONS",
        "STATE", NULL
    };
    g_autoptr(JsonNode) peers = NULL;
    g_autoptr(GPtrArray) rows = new_rows();
    g_autofree char *text = NULL;
    ClientSessionExit code = client_session_query(session, "query-peers", NULL,
                                                  JSON_NODE_ARRAY, &peers);

    (void)args;
    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    if (session->json) {
        client_session_print_json(peers);
        return CLIENT_SESSION_OK;
    }
    for (unsigned i = 0; i < get_length(peers); i++) {
        JsonObject *peer = get_element(peers, i);

        if (peer) {
            add_peer(rows, peer);
            add_paths(rows, peer);
        }
    }
    text = client_format_table(titles, rows);
    g_print("%s", text);
    return CLIENT_SESSION_OK;
}

ClientSessionExit client_query_version(ClientSession *session)
{
    const char *command = session->json ? "query-version" : "query-status";
    g_autoptr(JsonNode) node = NULL;
    g_autofree char *version = NULL;
    ClientSessionExit code = client_session_query(session, command, NULL,
                                                  JSON_NODE_OBJECT, &node);

    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    if (session->json) {
        client_session_print_json(node);
        return CLIENT_SESSION_OK;
    }
    version = escape_member(json_node_get_object(node), "version");
    g_print("multiferryd %s\n", version);
    return CLIENT_SESSION_OK;
}
