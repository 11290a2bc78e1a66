/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-service.h"

#include "daemon/client-format.h"
#include "daemon/units.h"

/* An option's home must be static. */
static struct {
    char *textfile;
    int limit;
} options;

/* ---- metrics ------------------------------------------------------------------------- */

const GOptionEntry client_service_metrics_entries[] = {
    { "textfile", 'f', 0, G_OPTION_ARG_FILENAME, &options.textfile,
      "Write them to this file, for node_exporter's textfile collector",
      "FILE" },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
};

/* Whoever reads it meanwhile sees the old file or the new one. */
static ClientSessionExit write_textfile(const char *text)
{
    g_autoptr(GError) error = NULL;

    if (!g_file_set_contents_full(options.textfile, text, -1,
                                  G_FILE_SET_CONTENTS_CONSISTENT, 0644,
                                  &error)) {
        client_session_complain("metrics: %s", error->message);
        return CLIENT_SESSION_FAILED;
    }
    return CLIENT_SESSION_OK;
}

static ClientSessionExit show_metrics(ClientSession *session, JsonNode *answer)
{
    const char *text = client_format_get_string(json_node_get_object(answer),
                                                "text");

    if (!text) {
        client_session_complain("metrics: got an answer without a text");
        return CLIENT_SESSION_UNREACHABLE;
    }
    if (options.textfile) {
        return write_textfile(text);
    }
    if (session->json) {
        client_session_print_json(answer);
    } else {
        g_print("%s", text);
    }
    return CLIENT_SESSION_OK;
}

ClientSessionExit client_service_metrics(ClientSession *session, char **args)
{
    JsonObject *arguments = json_object_new();
    g_autoptr(JsonNode) answer = NULL;
    ClientSessionExit code;

    (void)args;
    json_object_set_string_member(arguments, "format", options.textfile
                                  ? "prometheus" : "openmetrics");
    code = client_session_query(session, "query-metrics", arguments,
                                JSON_NODE_OBJECT, &answer);
    if (code == CLIENT_SESSION_OK) {
        code = show_metrics(session, answer);
    }
    g_clear_pointer(&options.textfile, g_free);
    return code;
}

/* ---- history ------------------------------------------------------------------------- */

const GOptionEntry client_service_history_entries[] = {
    { "limit", 'n', 0, G_OPTION_ARG_INT, &options.limit,
      "Show at most this many, the last (default 100)", "N" },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
};

static char *format_time(JsonObject *migration, const char *member)
{
    return client_format_has(migration, member)
           ? units_format_time(client_format_get_number(migration, member))
           : g_strdup("-");
}

static char *escape(JsonObject *migration, const char *member)
{
    return client_format_escape(client_format_get_string(migration, member));
}

static void add_row(GPtrArray *rows, JsonObject *migration)
{
    bool managed = client_format_has(migration, "vm");
    char **row = g_new0(char *, 10);
    unsigned n = 0;

    row[n++] = escape(migration, "ended");
    row[n++] = escape(migration, "id");
    row[n++] = escape(migration, managed ? "vm" : "tunnel");
    row[n++] = escape(migration, "peer");
    row[n++] = escape(migration, "role");
    row[n++] = escape(migration, "state");
    row[n++] = format_time(migration, "total-time-ms");
    row[n++] = format_time(migration, "downtime-ms");
    row[n++] = units_format_size(client_format_get_number(migration,
                                                          "wire-bytes-out"));
    g_ptr_array_add(rows, row);
}

static void print_history(JsonNode *answer)
{
    static const char *const titles[] = {
        "ENDED", "ID", "VM/TUNNEL", "PEER", "ROLE", "STATE", "TIME",
        "DOWNTIME", "OUT", NULL
    };
    g_autoptr(GPtrArray) rows =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    JsonArray *array = json_node_get_array(answer);
    g_autofree char *text = NULL;

    for (unsigned i = 0; i < json_array_get_length(array); i++) {
        JsonNode *node = json_array_get_element(array, i);

        if (JSON_NODE_HOLDS_OBJECT(node)) {
            add_row(rows, json_node_get_object(node));
        }
    }
    if (rows->len > 0) {
        text = client_format_table(titles, rows);
        g_print("%s", text);
    }
}

ClientSessionExit client_service_history(ClientSession *session, char **args)
{
    JsonObject *arguments = json_object_new();
    g_autoptr(JsonNode) answer = NULL;
    ClientSessionExit code;

    if (args[0]) {
        json_object_set_string_member(arguments, "name", args[0]);
    }
    if (options.limit != 0) {
        json_object_set_int_member(arguments, "limit", options.limit);
    }
    options.limit = 0;
    code = client_session_query(session, "query-history", arguments,
                                JSON_NODE_ARRAY, &answer);
    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    if (session->json) {
        client_session_print_json(answer);
    } else {
        print_history(answer);
    }
    return CLIENT_SESSION_OK;
}
