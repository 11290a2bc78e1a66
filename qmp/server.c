/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * qmp/server-session.c turns bytes into messages and back; here a message is
 * checked, its command found, its arguments checked against the table, and
 * its handler called.  Errors are worded as QEMU's (monitor/qmp.c and
 * qapi/qmp-dispatch.c) where a client could have come to know those.
 */
#include "qmp/server.h"

#include "qmp/error.h"
#include "qmp/framer.h"
#include "qmp/message.h"

#include <string.h>

/* After a failed accept (no descriptors left), to not spin on it. */
#define ACCEPT_PAUSE_MS 500

typedef struct Command {
    const QmpCommand *table;
    gpointer          user_data;
} Command;

typedef struct Listener {
    QmpServer *server;
    GSocket   *socket;
    GSource   *source;          /* accepting, or the pause; never NULL */
} Listener;

struct QmpServer {
    GThread     *thread;
    char        *name;
    char        *package;
    unsigned     version[3];
    unsigned     max_sessions;
    size_t       max_message_bytes;
    size_t       max_queue_bytes;

    GHashTable  *commands;      /* name -> Command */
    GPtrArray   *command_list;  /* of QmpCommand, as added */
    GPtrArray   *event_list;    /* of QmpEvent, as added */
    GPtrArray   *listeners;     /* of Listener */
    GPtrArray   *sessions;      /* of QmpServerSession, with a reference */
    unsigned     n_dispatching; /* handlers on the stack */

    QmpServerAccessCheck check;
    gpointer     check_data;
};

/* --- answering --- */

static void send_object(QmpServerSession *session, JsonObject *message)
{
    g_autoptr(GBytes) bytes = qmp_message_encode(message);

    qmp_server_session_send(session, bytes, false);
}

/* Say the request's id back, of whatever type; none when there was none. */
static JsonObject *new_reply(JsonObject *request)
{
    JsonObject *reply = json_object_new();
    JsonNode *id = request ? json_object_get_member(request, "id") : NULL;

    if (id) {
        json_object_set_member(reply, "id", json_node_copy(id));
    }
    return reply;
}

static JsonObject *new_error(const char *klass, const char *desc)
{
    JsonObject *error = json_object_new();

    json_object_set_string_member(error, "class", klass);
    json_object_set_string_member(error, "desc", desc);
    return error;
}

static void send_error(QmpServerSession *session, JsonObject *request,
                       const GError *error)
{
    const char *klass = qmp_class_to_string(qmp_error_get_class(error));
    g_autoptr(JsonObject) reply = new_reply(request);

    json_object_set_object_member(reply, "error",
                                  new_error(klass, error->message));
    send_object(session, reply);
}

static void send_return(QmpServerSession *session, JsonObject *request,
                        JsonNode *result)
{
    g_autoptr(JsonObject) reply = new_reply(request);

    if (result) {
        json_object_set_member(reply, "return", result);
    } else {
        json_object_set_object_member(reply, "return", json_object_new());
    }
    send_object(session, reply);
}

/* --- requests --- */

/* The members that a request may have; "exec-oob" is answered as unknown. */
static bool check_members(JsonObject *request, GError **error)
{
    JsonObjectIter iter;
    const char *name;

    json_object_iter_init_ordered(&iter, request);
    while (json_object_iter_next_ordered(&iter, &name, NULL)) {
        if (!g_str_equal(name, "execute") && !g_str_equal(name, "arguments") &&
            !g_str_equal(name, "id")) {
            g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                        "QMP input member '%s' is unexpected", name);
            return false;
        }
    }
    return true;
}

static const char *get_command_name(JsonObject *request, GError **error)
{
    JsonNode *node = json_object_get_member(request, "execute");

    if (!node) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "QMP input lacks member 'execute'");
        return NULL;
    }
    if (json_node_get_value_type(node) != G_TYPE_STRING) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "QMP input member 'execute' must be a string, got %s",
                    qmp_schema_describe(node));
        return NULL;
    }
    return json_node_get_string(node);
}

/* The arguments, an empty object when there are none; owned by the caller. */
static JsonObject *get_arguments(JsonObject *request, GError **error)
{
    JsonNode *node = json_object_get_member(request, "arguments");

    if (!node) {
        return json_object_new();
    }
    if (!JSON_NODE_HOLDS_OBJECT(node)) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "QMP input member 'arguments' must be an object, got %s",
                    qmp_schema_describe(node));
        return NULL;
    }
    return json_object_ref(json_node_get_object(node));
}

/* Before the negotiation there is one command, and afterwards not that one. */
static bool check_mode(const QmpServerSession *session, const QmpCommand *table,
                       GError **error)
{
    bool negotiates = table && (table->flags & QMP_COMMAND_NEGOTIATES);

    if (qmp_server_session_is_negotiated(session) != negotiates) {
        return true;
    }
    g_set_error(error, QMP_CLASS, QMP_CLASS_COMMAND_NOT_FOUND, "%s",
                negotiates ? "Capabilities negotiation is already complete, "
                             "command ignored"
                           : "Expecting capabilities negotiation with "
                             "'qmp_capabilities'");
    return false;
}

static const Command *find_command(QmpServer *self,
                                   const QmpServerSession *session,
                                   const char *name, GError **error)
{
    const Command *command = g_hash_table_lookup(self->commands, name);

    if (!check_mode(session, command ? command->table : NULL, error)) {
        return NULL;
    }
    if (!command) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_COMMAND_NOT_FOUND,
                    "The command %s has not been found", name);
    }
    return command;
}

static JsonNode *execute(QmpServer *self, QmpServerSession *session,
                         JsonObject *request, GError **error)
{
    g_autoptr(JsonObject) args = NULL;
    const Command *command;
    const char *name;
    JsonNode *result;

    if (!check_members(request, error) ||
        !(name = get_command_name(request, error)) ||
        !(args = get_arguments(request, error)) ||
        !(command = find_command(self, session, name, error)) ||
        !qmp_schema_check(command->table->args, command->table->n_args, args,
                          error)) {
        return NULL;
    }
    self->n_dispatching++;
    result = command->table->handler(session, args, command->user_data, error);
    self->n_dispatching--;
    return result;
}

static void on_message(QmpServerSession *session, JsonObject *message,
                       gpointer user_data)
{
    g_autoptr(GError) error = NULL;
    JsonNode *result = execute(user_data, session, message, &error);

    g_assert(!result || !error);
    if (error) {
        send_error(session, message, error);
    } else {
        send_return(session, message, result);
    }
}

static void on_bad_input(QmpServerSession *session, const GError *error,
                         gpointer user_data)
{
    (void)user_data;
    send_error(session, NULL, error);
}

/* --- built-in commands --- */

static JsonObject *new_version_triple(const QmpServer *self)
{
    JsonObject *version = json_object_new();

    json_object_set_int_member(version, "major", self->version[0]);
    json_object_set_int_member(version, "minor", self->version[1]);
    json_object_set_int_member(version, "micro", self->version[2]);
    return version;
}

/*
 * "qemu" is there because clients read it (qmp-shell prints its three numbers
 * without asking); what we are is told by the other key.
 */
static JsonObject *new_version(const QmpServer *self)
{
    JsonObject *version = json_object_new();

    json_object_set_object_member(version, "qemu", new_version_triple(self));
    json_object_set_object_member(version, self->name,
                                  new_version_triple(self));
    json_object_set_string_member(version, "package", self->package);
    return version;
}

/* We offer no capabilities, so there is none to enable. */
static JsonNode *do_capabilities(QmpServerSession *session, JsonObject *args,
                                 gpointer user_data, GError **error)
{
    JsonNode *enable = json_object_get_member(args, "enable");
    JsonArray *names = enable ? json_node_get_array(enable) : NULL;

    (void)user_data;
    if (names && json_array_get_length(names) > 0) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "Parameter 'enable' does not accept value '%s', none is "
                    "offered", json_array_get_string_element(names, 0));
        return NULL;
    }
    qmp_server_session_set_negotiated(session);
    return NULL;
}

static JsonNode *do_query_version(QmpServerSession *session, JsonObject *args,
                                  gpointer user_data, GError **error)
{
    (void)session;
    (void)args;
    (void)error;
    return qmp_message_take_object(new_version(user_data));
}

static JsonNode *do_query_commands(QmpServerSession *session, JsonObject *args,
                                   gpointer user_data, GError **error)
{
    QmpServer *self = user_data;
    JsonArray *list = json_array_new();

    (void)session;
    (void)args;
    (void)error;
    for (guint i = 0; i < self->command_list->len; i++) {
        const QmpCommand *command = g_ptr_array_index(self->command_list, i);
        JsonObject *info = json_object_new();

        json_object_set_string_member(info, "name", command->name);
        if (command->doc) {
            json_object_set_string_member(info, "doc", command->doc);
        }
        json_array_add_object_element(list, info);
    }
    return qmp_message_take_array(list);
}

static JsonNode *do_query_schema(QmpServerSession *session, JsonObject *args,
                                 gpointer user_data, GError **error)
{
    QmpServer *self = user_data;

    (void)session;
    (void)args;
    (void)error;
    return qmp_schema_introspect(self->command_list, self->event_list);
}

static const QmpArg capabilities_args[] = {
    { "enable", QMP_TYPE_STRINGS, true },
};

static const QmpCommand builtin_commands[] = {
    { .name = "qmp_capabilities", .handler = do_capabilities,
      .args = capabilities_args, .n_args = G_N_ELEMENTS(capabilities_args),
      .flags = QMP_COMMAND_NEGOTIATES,
      .doc = "leave negotiation mode; must come first" },
    { .name = "query-version", .handler = do_query_version,
      .doc = "the version of this daemon" },
    { .name = "query-commands", .handler = do_query_commands,
      .doc = "all commands" },
    { .name = "query-qmp-schema", .handler = do_query_schema,
      .doc = "commands, events and their arguments, as QEMU describes its own"
    },
};

/* --- sessions --- */

static void on_closed(QmpServerSession *session, const GError *why,
                      gpointer user_data)
{
    QmpServer *self = user_data;

    if (why) {
        g_info("control session ended: %s", why->message);
    }
    g_ptr_array_remove_fast(self->sessions, session);
}

static const QmpServerSessionCallbacks session_callbacks = {
    .message = on_message,
    .bad_input = on_bad_input,
    .closed = on_closed,
};

static bool check_access(QmpServer *self, QmpServerSession *session,
                         GError **error)
{
    QmpPeer peer;
    bool known = qmp_server_session_get_peer(session, &peer);

    if (self->check && !self->check(known ? &peer : NULL, self->check_data,
                                    error)) {
        if (error && !*error) {
            g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                        "this user may not connect");
        }
        return false;
    }
    if (self->sessions->len > self->max_sessions) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "got one session more than the %u connected, allowed at "
                    "most %u", self->max_sessions, self->max_sessions);
        return false;
    }
    return true;
}

static void send_greeting(QmpServer *self, QmpServerSession *session)
{
    g_autoptr(JsonObject) message = json_object_new();
    JsonObject *greeting = json_object_new();

    json_object_set_object_member(greeting, "version", new_version(self));
    json_object_set_array_member(greeting, "capabilities", json_array_new());
    json_object_set_object_member(message, "QMP", greeting);
    send_object(session, message);
}

void qmp_server_add_connection(QmpServer *self, GSocketConnection *connection)
{
    QmpServerSession *session =
        qmp_server_session_new(connection, self->max_message_bytes,
                               self->max_queue_bytes, &session_callbacks,
                               self);
    g_autoptr(GError) error = NULL;

    g_assert(g_thread_self() == self->thread);
    g_ptr_array_add(self->sessions, qmp_server_session_ref(session));
    if (check_access(self, session, &error)) {
        send_greeting(self, session);
        qmp_server_session_start(session);
    } else {
        send_error(session, NULL, error);
        qmp_server_session_close(session, error);
    }
    qmp_server_session_unref(session);
}

/* --- listening --- */

static void listener_wait(Listener *listener);

static void listener_set_source(Listener *listener, GSource *source)
{
    if (listener->source) {
        g_source_destroy(listener->source);
        g_source_unref(listener->source);
    }
    listener->source = source;
    g_source_attach(source, g_main_context_get_thread_default());
}

static gboolean on_pause_over(gpointer data)
{
    listener_wait(data);
    return G_SOURCE_REMOVE;
}

static gboolean on_connection(GSocket *socket, GIOCondition condition,
                              gpointer data)
{
    Listener *listener = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocket) accepted = g_socket_accept(socket, NULL, &error);
    g_autoptr(GSocketConnection) connection = NULL;
    GSource *pause;

    (void)condition;
    if (accepted) {
        connection = g_socket_connection_factory_create_connection(accepted);
        qmp_server_add_connection(listener->server, connection);
    } else if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
        g_warning("control socket: accept: %s; trying again in %d ms",
                  error->message, ACCEPT_PAUSE_MS);
        pause = g_timeout_source_new(ACCEPT_PAUSE_MS);
        g_source_set_callback(pause, on_pause_over, listener, NULL);
        listener_set_source(listener, pause);
    }
    return G_SOURCE_CONTINUE;
}

static void listener_wait(Listener *listener)
{
    GSource *source = g_socket_create_source(listener->socket, G_IO_IN, NULL);

    g_source_set_callback(source, G_SOURCE_FUNC(on_connection), listener,
                          NULL);
    listener_set_source(listener, source);
}

static void listener_free(Listener *listener)
{
    g_source_destroy(listener->source);
    g_source_unref(listener->source);
    g_object_unref(listener->socket);
    g_free(listener);
}

bool qmp_server_listen_fd(QmpServer *self, int fd, GError **error)
{
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, error);
    Listener *listener;

    g_assert(g_thread_self() == self->thread);
    if (!socket) {
        g_prefix_error(error, "control socket, descriptor %d: ", fd);
        return false;
    }
    g_socket_set_blocking(socket, FALSE);
    listener = g_new0(Listener, 1);
    listener->server = self;
    listener->socket = g_steal_pointer(&socket);
    listener_wait(listener);
    g_ptr_array_add(self->listeners, listener);
    return true;
}

/* --- events --- */

static const QmpEvent *find_event(const QmpServer *self, const char *name)
{
    for (guint i = 0; i < self->event_list->len; i++) {
        const QmpEvent *event = g_ptr_array_index(self->event_list, i);

        if (g_str_equal(event->name, name)) {
            return event;
        }
    }
    return NULL;
}

static GBytes *encode_event(const char *name, JsonObject *data)
{
    int64_t now_us = g_get_real_time();
    g_autoptr(JsonObject) message = json_object_new();
    JsonObject *stamp = json_object_new();

    json_object_set_int_member(stamp, "seconds", now_us / G_USEC_PER_SEC);
    json_object_set_int_member(stamp, "microseconds", now_us % G_USEC_PER_SEC);
    json_object_set_object_member(message, "timestamp", stamp);
    json_object_set_string_member(message, "event", name);
    if (data) {
        json_object_set_object_member(message, "data", data);
    }
    return qmp_message_encode(message);
}

static gpointer copy_session(gconstpointer session, gpointer unused)
{
    (void)unused;
    return qmp_server_session_ref((QmpServerSession *)session);
}

void qmp_server_broadcast(QmpServer *self, const char *name, JsonObject *data)
{
    const QmpEvent *event = find_event(self, name);
    g_autoptr(GBytes) bytes = encode_event(name, data);
    g_autoptr(GPtrArray) sessions = NULL;

    g_assert(g_thread_self() == self->thread);
    g_assert(event);
    /* a copy, as sending may end a session and change the array */
    sessions = g_ptr_array_copy(self->sessions, copy_session, NULL);
    g_ptr_array_set_free_func(sessions,
                              (GDestroyNotify)qmp_server_session_unref);
    for (guint i = 0; i < sessions->len; i++) {
        QmpServerSession *session = g_ptr_array_index(sessions, i);

        if (qmp_server_session_is_negotiated(session)) {
            qmp_server_session_send(session, bytes,
                                    event->flags & QMP_EVENT_DROPPABLE);
        }
    }
}

/* --- the server --- */

void qmp_server_add_command(QmpServer *self, const QmpCommand *command,
                            gpointer user_data)
{
    Command *entry = g_new0(Command, 1);

    g_assert(command->handler);
    entry->table = command;
    entry->user_data = user_data;
    g_ptr_array_add(self->command_list, (gpointer)command);
    if (!g_hash_table_insert(self->commands, (gpointer)command->name, entry)) {
        g_assert_not_reached();
    }
}

void qmp_server_add_event(QmpServer *self, const QmpEvent *event)
{
    g_assert(!find_event(self, event->name));
    g_ptr_array_add(self->event_list, (gpointer)event);
}

void qmp_server_set_access_check(QmpServer *self, QmpServerAccessCheck check,
                                 gpointer user_data)
{
    self->check = check;
    self->check_data = user_data;
}

unsigned qmp_server_get_n_sessions(const QmpServer *self)
{
    return self->sessions->len;
}

QmpServer *qmp_server_new(const QmpServerInfo *info)
{
    QmpServer *self = g_new0(QmpServer, 1);

    self->thread = g_thread_self();
    self->name = g_strdup(info->name);
    self->package = g_strdup(info->package ? info->package : "");
    self->version[0] = info->major;
    self->version[1] = info->minor;
    self->version[2] = info->micro;
    self->max_sessions = info->max_sessions ? info->max_sessions
                                            : QMP_SERVER_DEFAULT_SESSIONS;
    self->max_message_bytes = info->max_message_bytes
                              ? info->max_message_bytes
                              : QMP_FRAMER_SERVER_MAX_BYTES;
    self->max_queue_bytes = info->max_queue_bytes
                            ? info->max_queue_bytes
                            : QMP_SERVER_DEFAULT_QUEUE_BYTES;
    self->commands = g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
                                           g_free);
    self->command_list = g_ptr_array_new();
    self->event_list = g_ptr_array_new();
    self->listeners =
        g_ptr_array_new_with_free_func((GDestroyNotify)listener_free);
    self->sessions = g_ptr_array_new_with_free_func(
        (GDestroyNotify)qmp_server_session_unref);
    for (size_t i = 0; i < G_N_ELEMENTS(builtin_commands); i++) {
        qmp_server_add_command(self, &builtin_commands[i], self);
    }
    return self;
}

void qmp_server_free(QmpServer *self)
{
    if (!self) {
        return;
    }
    g_assert(g_thread_self() == self->thread && self->n_dispatching == 0);
    g_ptr_array_unref(self->listeners);
    while (self->sessions->len > 0) {
        qmp_server_session_close(g_ptr_array_index(self->sessions, 0), NULL);
    }
    g_ptr_array_unref(self->sessions);
    g_ptr_array_unref(self->event_list);
    g_ptr_array_unref(self->command_list);
    g_hash_table_unref(self->commands);
    g_free(self->package);
    g_free(self->name);
    g_free(self);
}
