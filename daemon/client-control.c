/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-control.h"

#include <string.h>
#include "daemon/client-format.h"
#include "daemon/units.h"

/* Execute, and say @done in words or the answer in JSON. */
static ClientSessionExit execute(ClientSession *session, const char *command,
                                 JsonObject *arguments, const char *done)
{
    g_autoptr(JsonNode) node = NULL;
    ClientSessionExit code = client_session_execute(session, command,
                                                    arguments, &node);

    if (code == CLIENT_SESSION_OK && session->json) {
        client_session_print_json(node);
    } else if (code == CLIENT_SESSION_OK) {
        g_print("%s\n", done);
    }
    return code;
}

ClientSessionExit client_control_cancel(ClientSession *session, char **args)
{
    JsonObject *arguments = json_object_new();
    g_autofree char *done = g_strdup_printf("%s: cancelling", args[0]);

    json_object_set_string_member(arguments, "id", args[0]);
    return execute(session, "migrate-cancel", arguments, done);
}

ClientSessionExit client_control_start_postcopy(ClientSession *session,
                                                char **args)
{
    JsonObject *arguments = json_object_new();
    g_autofree char *done = g_strdup_printf("%s: will switch to postcopy",
                                            args[0]);

    json_object_set_string_member(arguments, "id", args[0]);
    return execute(session, "migrate-start-postcopy", arguments, done);
}

/* Whether the daemon lists a peer of this name; else it is a migration. */
static ClientSessionExit find_peer(ClientSession *session, const char *name,
                                   bool *ret_found)
{
    g_autoptr(JsonNode) peers = NULL;
    ClientSessionExit code = client_session_query(session, "query-peers", NULL,
                                                  JSON_NODE_ARRAY, &peers);
    JsonArray *array;

    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    *ret_found = false;
    array = json_node_get_array(peers);
    for (unsigned i = 0; i < json_array_get_length(array); i++) {
        JsonNode *node = json_array_get_element(array, i);

        if (JSON_NODE_HOLDS_OBJECT(node) &&
            g_strcmp0(client_format_get_string(json_node_get_object(node),
                                               "name"), name) == 0) {
            *ret_found = true;
        }
    }
    return CLIENT_SESSION_OK;
}

ClientSessionExit client_control_limit(ClientSession *session, char **args)
{
    const char *what = args[1] ? args[0] : "daemon";
    const char *rate = args[1] ? args[1] : args[0];
    g_autoptr(GError) error = NULL;
    g_autofree char *done = NULL, *limit = NULL;
    JsonObject *arguments;
    uint64_t bytes_per_s;
    bool is_peer = false;

    if (!units_parse_rate(rate, &bytes_per_s, &error)) {
        client_session_complain("limit: %s", error->message);
        return CLIENT_SESSION_USAGE;
    }
    if (strcmp(what, "daemon") != 0) {
        ClientSessionExit code = find_peer(session, what, &is_peer);

        if (code != CLIENT_SESSION_OK) {
            return code;
        }
    }
    arguments = json_object_new();
    json_object_set_string_member(arguments, "rate", rate);
    if (strcmp(what, "daemon") != 0) {
        json_object_set_string_member(arguments,
                                      is_peer ? "peer" : "migration", what);
    }
    limit = client_format_limit(bytes_per_s);
    done = bytes_per_s == 0 ? g_strdup_printf("%s: no limit", what) :
                              g_strdup_printf("%s: limit is %s", what, limit);
    return execute(session, "set-rate-limit", arguments, done);
}

static gboolean quit_now;

const GOptionEntry client_control_quit_entries[] = {
    { "now", 0, 0, G_OPTION_ARG_NONE, &quit_now,
      "Cancel the migrations that run", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
};

ClientSessionExit client_control_quit(ClientSession *session, char **args)
{
    JsonObject *arguments = NULL;

    (void)args;
    if (quit_now) {
        arguments = json_object_new();
        json_object_set_boolean_member(arguments, "now", TRUE);
    }
    return execute(session, "quit", arguments, "multiferryd is ending");
}
