/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server on the default main context, spoken to over socket pairs by the
 * same thread; and by our own client from another one.
 */
#include "qmp/client.h"
#include "qmp/error.h"
#include "qmp/server.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NEGOTIATE "{\"execute\":\"qmp_capabilities\"}"
#define TIMEOUT_US (10 * G_USEC_PER_SEC)

static const QmpServerInfo info = {
    .name = "multiferry", .major = 1, .minor = 2, .micro = 3,
    .package = "test", .max_sessions = 2, .max_message_bytes = 1024,
    .max_queue_bytes = 64 * 1024,
};

/* --- commands and events to test with --- */

static const QmpArg echo_args[] = {
    { "text", QMP_TYPE_STRING, false },
    { "count", QMP_TYPE_INT, true },
    { "flag", QMP_TYPE_BOOL, true },
    { "ratio", QMP_TYPE_NUMBER, true },
    { "names", QMP_TYPE_STRINGS, true },
    { "extra", QMP_TYPE_ANY, true },
};

static JsonNode *do_echo(QmpServerSession *session, JsonObject *args,
                         gpointer user_data, GError **error)
{
    QmpPeer peer;

    (void)error;
    g_assert_true(qmp_server_session_get_peer(session, &peer));
    g_assert_cmpuint(peer.uid, ==, getuid());
    g_assert_cmpstr(user_data, ==, "echo data");
    return json_node_copy(json_object_get_member(args, "text"));
}

static JsonNode *do_fail(QmpServerSession *session, JsonObject *args,
                         gpointer user_data, GError **error)
{
    (void)session;
    (void)user_data;
    if (json_object_has_member(args, "text")) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_DEVICE_NOT_FOUND, "no '%s'",
                    json_object_get_string_member(args, "text"));
    } else {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "went wrong");
    }
    return NULL;
}

static const QmpArg fail_args[] = { { "text", QMP_TYPE_STRING, true } };

static const QmpCommand echo_command = {
    .name = "echo", .handler = do_echo, .args = echo_args,
    .n_args = G_N_ELEMENTS(echo_args), .doc = "say it back",
};
static const QmpCommand fail_command = {
    .name = "fail", .handler = do_fail, .args = fail_args, .n_args = 1,
};
static const QmpEvent state_event = {
    .name = "STATE", .args = fail_args, .n_args = 1,
};
static const QmpEvent progress_event = {
    .name = "PROGRESS", .flags = QMP_EVENT_DROPPABLE,
};

static QmpServer *new_server(void)
{
    QmpServer *server = qmp_server_new(&info);

    qmp_server_add_command(server, &echo_command, (gpointer)"echo data");
    qmp_server_add_command(server, &fail_command, NULL);
    qmp_server_add_event(server, &state_event);
    qmp_server_add_event(server, &progress_event);
    return server;
}

/* --- a client of few means --- */

static int connect_to(QmpServer *server)
{
    int fds[2];
    g_autoptr(GSocket) socket = NULL;
    g_autoptr(GSocketConnection) connection = NULL;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK |
                               SOCK_CLOEXEC, 0, fds), ==, 0);
    socket = g_socket_new_from_fd(fds[0], NULL);
    connection = g_socket_connection_factory_create_connection(socket);
    qmp_server_add_connection(server, connection);
    return fds[1];
}

static void pump(void)
{
    while (g_main_context_iteration(NULL, FALSE)) {
    }
}

static void put(int fd, const char *text)
{
    g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==,
                    strlen(text));
}

/* The next line, running the server meanwhile; NULL at end of file. */
static char *get_line(int fd)
{
    GString *line = g_string_new(NULL);
    int64_t deadline = g_get_monotonic_time() + TIMEOUT_US;

    for (;;) {
        char byte;
        ssize_t len = recv(fd, &byte, 1, 0);

        if (len == 1 && byte == '\n') {
            g_assert_true(g_str_has_suffix(line->str, "\r"));
            g_string_truncate(line, line->len - 1);
            return g_string_free(line, FALSE);
        }
        if (len == 1) {
            g_string_append_c(line, byte);
        } else if (len == 0 || errno == ECONNRESET) {
            g_assert_cmpstr(line->str, ==, "");
            g_string_free(line, TRUE);
            return NULL;
        } else {
            g_assert_cmpint(errno, ==, EAGAIN);
            g_assert_cmpint(g_get_monotonic_time(), <, deadline);
            g_main_context_iteration(NULL, FALSE);
        }
    }
}

static void assert_line(int fd, const char *expected)
{
    g_autofree char *line = get_line(fd);

    g_assert_cmpstr(line, ==, expected);
}

static void assert_answer(int fd, const char *request, const char *expected)
{
    put(fd, request);
    assert_line(fd, expected);
}

static void assert_error(int fd, const char *request, const char *klass,
                         const char *desc)
{
    g_autofree char *expected =
        g_strdup_printf("{\"error\": {\"class\": \"%s\", \"desc\": \"%s\"}}",
                        klass, desc);

    assert_answer(fd, request, expected);
}

/* Connected, greeted, and not negotiated. */
static int connect_greeted(QmpServer *server)
{
    int fd = connect_to(server);
    g_autofree char *greeting = get_line(fd);

    g_assert_true(g_str_has_prefix(greeting, "{\"QMP\": "));
    return fd;
}

static int connect_negotiated(QmpServer *server)
{
    int fd = connect_greeted(server);

    assert_answer(fd, NEGOTIATE, "{\"return\": {}}");
    return fd;
}

/* --- tests --- */

static void test_greets_as_qemu(void)
{
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_to(server);

    assert_line(fd, "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 1, "
                "\"minor\": 2, \"micro\": 3}, \"multiferry\": {\"major\": 1, "
                "\"minor\": 2, \"micro\": 3}, \"package\": \"test\"}, "
                "\"capabilities\": []}}");
    close(fd);
    pump();
    g_assert_cmpuint(qmp_server_get_n_sessions(server), ==, 0);
}

static void test_negotiates_first_and_once(void)
{
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_greeted(server);

    assert_error(fd, "{\"execute\":\"query-version\"}", "CommandNotFound",
                 "Expecting capabilities negotiation with "
                 "'qmp_capabilities'");
    assert_error(fd, "{\"execute\":\"qmp_capabilities\",\"arguments\":"
                 "{\"enable\":[\"oob\"]}}", "GenericError",
                 "Parameter 'enable' does not accept value 'oob', none is "
                 "offered");
    assert_answer(fd, "{\"execute\":\"qmp_capabilities\",\"arguments\":"
                  "{\"enable\":[]}}", "{\"return\": {}}");
    assert_error(fd, NEGOTIATE, "CommandNotFound",
                 "Capabilities negotiation is already complete, command "
                 "ignored");
    close(fd);
}

static void test_echoes_any_id(void)
{
    static const char *const ids[] = {
        "1", "\"x\"", "null", "[1, {\"a\": true}]", "1e+55", "2.5", "{}",
    };
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_negotiated(server);

    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
        g_autofree char *request =
            g_strdup_printf("{\"execute\":\"echo\",\"arguments\":{\"text\":"
                            "\"t\"},\"id\":%s}", ids[i]);
        g_autofree char *answer =
            g_strdup_printf("{\"id\": %s, \"return\": \"t\"}", ids[i]);

        assert_answer(fd, request, answer);
    }
    assert_answer(fd, "{\"execute\":\"nope\",\"id\":7}", "{\"id\": 7, "
                  "\"error\": {\"class\": \"CommandNotFound\", \"desc\": "
                  "\"The command nope has not been found\"}}");
    close(fd);
}

static void test_checks_arguments(void)
{
#define ECHO(args) "{\"execute\":\"echo\",\"arguments\":" args "}"
    static const struct {
        const char *request, *desc;
    } cases[] = {
        { ECHO("{}"), "Parameter 'text' is missing, expected: string" },
        { ECHO("{\"text\":5}"), "Invalid parameter type for 'text', got an "
          "integer, expected: string" },
        { ECHO("{\"text\":\"\",\"count\":1.5}"), "Invalid parameter type for "
          "'count', got a fractional number, expected: integer" },
        { ECHO("{\"text\":\"\",\"count\":\"1\"}"), "Invalid parameter type "
          "for 'count', got a string, expected: integer" },
        { ECHO("{\"text\":\"\",\"flag\":null}"), "Invalid parameter type for "
          "'flag', got null, expected: boolean" },
        { ECHO("{\"text\":\"\",\"names\":[\"a\",1]}"), "Invalid parameter "
          "type for 'names', got an array, expected: array of strings" },
        { ECHO("{\"text\":\"\",\"ratio\":{}}"), "Invalid parameter type for "
          "'ratio', got an object, expected: number" },
        { "{\"execute\":\"fail\",\"arguments\":{\"txt\":1}}",
          "Parameter 'txt' is unexpected, allowed: 'text'" },
        { ECHO("[]"), "QMP input member 'arguments' must be an object, got "
          "an array" },
        { "{\"execute\":5}", "QMP input member 'execute' must be a string, "
          "got an integer" },
        { "{}", "QMP input lacks member 'execute'" },
        { "{\"execute\":\"echo\",\"control\":{}}",
          "QMP input member 'control' is unexpected" },
        { "{\"exec-oob\":\"echo\"}",
          "QMP input member 'exec-oob' is unexpected" },
    };
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_negotiated(server);

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_error(fd, cases[i].request, "GenericError", cases[i].desc);
    }
    assert_answer(fd, ECHO("{\"text\":\"a\\u0007\\n\",\"count\":-1,\"flag\":"
                           "true,\"ratio\":2,\"names\":[\"x\"],\"extra\":{}}"),
                  "{\"return\": \"a\\u0007\\n\"}");
    close(fd);
}

static void test_answers_handler_errors(void)
{
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_negotiated(server);

    assert_error(fd, "{\"execute\":\"fail\"}", "GenericError", "went wrong");
    assert_error(fd, "{\"execute\":\"fail\",\"arguments\":{\"text\":\"x\"}}",
                 "DeviceNotFound", "no 'x'");
    close(fd);
}

/* As QEMU does: a typing error does not cost the session. */
static void test_goes_on_after_garbage(void)
{
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_negotiated(server);

    assert_error(fd, "hello\n", "GenericError", "QMP input byte 30: got 'h', "
                 "expected a JSON object");
    assert_answer(fd, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\"}}",
                  "{\"return\": \"a\"}");
    close(fd);
}

static void test_ends_a_session_with_an_oversized_message(void)
{
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_negotiated(server);
    g_autofree char *big = g_strnfill(2000, ' ');
    g_autofree char *line = NULL;

    put(fd, "{");
    put(fd, big);
    line = get_line(fd);
    g_assert_nonnull(strstr(line, "allowed at most 1024"));
    assert_line(fd, NULL);
    g_assert_cmpuint(qmp_server_get_n_sessions(server), ==, 0);
    close(fd);
}

static void test_describes_itself(void)
{
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_negotiated(server);
    g_autofree char *commands = NULL, *schema = NULL;

    put(fd, "{\"execute\":\"query-commands\"}");
    commands = get_line(fd);
    g_assert_nonnull(strstr(commands, "{\"name\": \"echo\", \"doc\": "
                            "\"say it back\"}"));
    put(fd, "{\"execute\":\"query-qmp-schema\"}");
    schema = get_line(fd);
    g_assert_nonnull(strstr(schema, "{\"name\": \"echo-arg\", \"meta-type\": "
                            "\"object\", \"members\": [{\"name\": \"text\", "
                            "\"type\": \"str\"}, {\"name\": \"count\", "
                            "\"type\": \"int\", \"default\": null}"));
    g_assert_nonnull(strstr(schema, "{\"name\": \"echo\", \"meta-type\": "
                            "\"command\", \"arg-type\": \"echo-arg\", "
                            "\"ret-type\": \"any\"}"));
    g_assert_nonnull(strstr(schema, "{\"name\": \"PROGRESS\", \"meta-type\": "
                            "\"event\", \"arg-type\": \"empty\"}"));
    close(fd);
}

static void test_sends_events_to_the_negotiated(void)
{
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_negotiated(server);
    int early = connect_greeted(server);
    g_autofree char *event = NULL;
    JsonObject *data = json_object_new();
    char byte;

    json_object_set_string_member(data, "text", "x");
    qmp_server_broadcast(server, "STATE", data);
    event = get_line(fd);
    g_assert_true(g_str_has_prefix(event, "{\"timestamp\": {\"seconds\": "));
    g_assert_true(g_str_has_suffix(event, "\"event\": \"STATE\", \"data\": "
                                   "{\"text\": \"x\"}}"));
    pump();
    g_assert_cmpint(recv(early, &byte, 1, 0), ==, -1);
    close(early);
    close(fd);
}

static void test_limits_sessions(void)
{
    g_autoptr(QmpServer) server = new_server();
    int a = connect_negotiated(server), b = connect_negotiated(server);
    int c = connect_to(server);
    g_autofree char *line = get_line(c);

    g_assert_nonnull(strstr(line, "allowed at most 2"));
    assert_line(c, NULL);
    g_assert_cmpuint(qmp_server_get_n_sessions(server), ==, 2);
    close(a);
    pump();
    close(c);
    c = connect_negotiated(server);     /* the place is free again */
    close(b);
    close(c);
}

static bool refuse_all(const QmpPeer *peer, gpointer user_data, GError **error)
{
    (void)user_data;
    g_assert_cmpuint(peer->uid, ==, getuid());
    g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC, "uid is not welcome");
    return false;
}

static void test_refuses_by_user(void)
{
    g_autoptr(QmpServer) server = new_server();
    int fd;

    qmp_server_set_access_check(server, refuse_all, NULL);
    fd = connect_to(server);
    assert_line(fd, "{\"error\": {\"class\": \"GenericError\", \"desc\": "
                "\"uid is not welcome\"}}");
    assert_line(fd, NULL);
    close(fd);
}

/* Progress may be lost, a state change may not: then the session is. */
static void test_bounds_memory_for_a_client_that_does_not_read(void)
{
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_negotiated(server);

    for (int i = 0; i < 20000; i++) {
        qmp_server_broadcast(server, "PROGRESS", NULL);
    }
    g_assert_cmpuint(qmp_server_get_n_sessions(server), ==, 1);
    for (int i = 0; i < 20000; i++) {
        qmp_server_broadcast(server, "STATE", NULL);
    }
    g_assert_cmpuint(qmp_server_get_n_sessions(server), ==, 0);
    close(fd);
}

/* A flood of commands is slowed by the socket, and loses nothing. */
static void test_answers_every_command_of_a_slow_reader(void)
{
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_negotiated(server);
    const char *request = "{\"execute\":\"query-qmp-schema\",\"id\":1}";
    int n_sent = 0;

    while (send(fd, request, strlen(request), MSG_NOSIGNAL) ==
           (ssize_t)strlen(request)) {
        n_sent++;
        pump();
    }
    g_assert_cmpint(n_sent, >, 100);
    g_assert_cmpuint(qmp_server_get_n_sessions(server), ==, 1);
    for (int i = 0; i < n_sent; i++) {
        g_autofree char *line = get_line(fd);

        g_assert_true(g_str_has_prefix(line, "{\"id\": 1, \"return\": ["));
    }
    close(fd);
}

/* echo '...' | nc -U: the client's end of file is not the end of answers. */
static void test_answers_after_half_close(void)
{
    g_autoptr(QmpServer) server = new_server();
    int fd = connect_greeted(server);

    put(fd, NEGOTIATE "{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\"}}");
    g_assert_cmpint(shutdown(fd, SHUT_WR), ==, 0);
    assert_line(fd, "{\"return\": {}}");
    assert_line(fd, "{\"return\": \"a\"}");
    assert_line(fd, NULL);
    close(fd);
}

typedef struct OwnClient {
    char *path;
    bool  done;
} OwnClient;

static void on_own_event(const char *name, JsonObject *data,
                         int64_t timestamp_us, gpointer user_data)
{
    (void)name;
    (void)data;
    (void)timestamp_us;
    (void)user_data;
}

static gboolean set_done(gpointer data)
{
    ((OwnClient *)data)->done = true;
    return G_SOURCE_REMOVE;
}

static gpointer own_client_thread(gpointer data)
{
    OwnClient *own = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(QmpClient) client = qmp_client_connect(own->path, 10000, NULL,
                                                     &error);
    g_autoptr(JsonNode) result = NULL;
    JsonObject *args = json_object_new();
    unsigned major, minor, micro;

    g_assert_no_error(error);
    qmp_client_set_event_handler(client, on_own_event, NULL, NULL);
    qmp_client_get_version(client, &major, &minor, &micro);
    g_assert_cmpuint(minor, ==, 2);
    g_assert_false(qmp_client_has_oob(client));
    json_object_set_string_member(args, "text", "\xc3\xa4\"\\");
    result = qmp_client_execute(client, "echo", args, 10000, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(json_node_get_string(result), ==, "\xc3\xa4\"\\");
    g_idle_add(set_done, own);
    return NULL;
}

static void test_serves_our_own_client_on_a_listening_socket(void)
{
    g_autofree char *dir = g_dir_make_tmp("qmp-server-XXXXXX", NULL);
    g_autoptr(QmpServer) server = new_server();
    g_autoptr(GError) error = NULL;
    OwnClient own = { .path = g_build_filename(dir, "control", NULL) };
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    GThread *thread;

    g_strlcpy(addr.sun_path, own.path, sizeof(addr.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(fd, 4), ==, 0);
    g_assert_true(qmp_server_listen_fd(server, fd, &error));
    g_assert_no_error(error);
    thread = g_thread_new("own-client", own_client_thread, &own);
    while (!own.done) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_thread_join(thread);
    g_unlink(own.path);
    g_rmdir(dir);
    g_free(own.path);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/qmp/server/" name, func)
    ADD("greets-as-qemu", test_greets_as_qemu);
    ADD("negotiates-first-and-once", test_negotiates_first_and_once);
    ADD("echoes-any-id", test_echoes_any_id);
    ADD("checks-arguments", test_checks_arguments);
    ADD("answers-handler-errors", test_answers_handler_errors);
    ADD("goes-on-after-garbage", test_goes_on_after_garbage);
    ADD("ends-a-session-with-an-oversized-message",
        test_ends_a_session_with_an_oversized_message);
    ADD("describes-itself", test_describes_itself);
    ADD("sends-events-to-the-negotiated", test_sends_events_to_the_negotiated);
    ADD("limits-sessions", test_limits_sessions);
    ADD("refuses-by-user", test_refuses_by_user);
    ADD("bounds-memory-for-a-client-that-does-not-read",
        test_bounds_memory_for_a_client_that_does_not_read);
    ADD("answers-every-command-of-a-slow-reader",
        test_answers_every_command_of_a_slow_reader);
    ADD("answers-after-half-close", test_answers_after_half_close);
    ADD("serves-our-own-client-on-a-listening-socket",
        test_serves_our_own_client_on_a_listening_socket);
#undef ADD
    return g_test_run();
}
