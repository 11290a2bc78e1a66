/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-session.h"

#include <string.h>
#include "daemon/client-format.h"
#include "qmp/error.h"

#define CONNECT_TIMEOUT_MS 5000u
/* The daemon may ask two QEMUs and a peer before it answers. */
#define EXECUTE_TIMEOUT_MS 60000u

void client_session_complain(const char *format, ...)
{
    g_autofree char *text = NULL, *escaped = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    escaped = client_format_escape(text);
    g_printerr("multiferry: %s\n", escaped);
}

void client_session_clear(ClientSession *self)
{
    g_clear_pointer(&self->qmp, qmp_client_free);
}

ClientSessionExit client_session_connect(ClientSession *self)
{
    g_autoptr(GError) error = NULL;

    if (self->qmp) {
        return CLIENT_SESSION_OK;
    }
    self->qmp = qmp_client_connect(self->address, CONNECT_TIMEOUT_MS, NULL,
                                   &error);
    if (!self->qmp) {
        client_session_complain("cannot reach multiferryd at %s: %s",
                                self->address, error->message);
        return CLIENT_SESSION_UNREACHABLE;
    }
    return CLIENT_SESSION_OK;
}

static const char *skip_command(const char *text, const char *command)
{
    size_t len = strlen(command);

    return strncmp(text, command, len) == 0 &&
           strncmp(text + len, ": ", 2) == 0 ? text + len + 2 : text;
}

/*
 * What went wrong, lent by @error: without the class, which tells people
 * nothing, and without @command, which the QMP client has put before it and
 * the daemon may have put behind it.
 */
static const char *get_reason(const GError *error, const char *command)
{
    const char *text = skip_command(error->message, command);

    if (g_error_matches(error, QMP_ERROR, QMP_ERROR_COMMAND)) {
        const char *class_end = strstr(text, ": ");

        text = skip_command(class_end ? class_end + 2 : text, command);
    }
    return text;
}

ClientSessionExit client_session_execute(ClientSession *self,
                                         const char *command,
                                         JsonObject *arguments, JsonNode **ret)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = NULL;
    ClientSessionExit code = client_session_connect(self);

    if (code != CLIENT_SESSION_OK) {
        g_clear_pointer(&arguments, json_object_unref);
        return code;
    }
    node = qmp_client_execute(self->qmp, command, arguments,
                              EXECUTE_TIMEOUT_MS, NULL, &error);
    if (!node) {
        client_session_complain("%s: %s", command,
                                get_reason(error, command));
        return g_error_matches(error, QMP_ERROR, QMP_ERROR_COMMAND) ?
               CLIENT_SESSION_REFUSED : CLIENT_SESSION_UNREACHABLE;
    }
    if (ret) {
        *ret = g_steal_pointer(&node);
    }
    return CLIENT_SESSION_OK;
}

ClientSessionExit client_session_query(ClientSession *self,
                                       const char *command,
                                       JsonObject *arguments,
                                       JsonNodeType wanted, JsonNode **ret)
{
    g_autoptr(JsonNode) node = NULL;
    ClientSessionExit code = client_session_execute(self, command, arguments,
                                                    &node);

    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    if (JSON_NODE_TYPE(node) != wanted) {
        client_session_complain("%s: got an answer that is %s, expected %s; "
                                "is it multiferryd at %s?", command,
                                json_node_type_name(node),
                                wanted == JSON_NODE_ARRAY ? "an array" :
                                                            "an object",
                                self->address);
        return CLIENT_SESSION_UNREACHABLE;
    }
    *ret = g_steal_pointer(&node);
    return CLIENT_SESSION_OK;
}

void client_session_print_json(JsonNode *node)
{
    g_autofree char *text = client_format_json(node, true);

    g_print("%s\n", text);
}
