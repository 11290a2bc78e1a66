/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client against a scripted server in a thread, and against a real QEMU
 * where there is one.
 */
#include "qmp/client.h"
#include "qmp/error.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TIMEOUT_MS 10000u
#define GREETING \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 1, " \
    "\"major\": 10}, \"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n"

/* --- the scripted server: one client, one line in, the script answers --- */

typedef struct Fake Fake;
typedef bool (*Script)(Fake *fake, const char *line, int64_t id);

struct Fake {
    char       *dir;
    char       *path;
    int         listener;
    int         fd;
    const char *greeting;
    Script      script;     /* false: hang up */
    GThread    *thread;
    int64_t     first_id;   /* the script's own */
    int         got_one;    /* atomic: the script has seen a command */
};

static void say(Fake *fake, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void say(Fake *fake, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    /* a client that has gone is the test's business */
    (void)!send(fake->fd, text, strlen(text), MSG_NOSIGNAL);
}

static int64_t id_of(const char *line)
{
    const char *id = strstr(line, "\"id\": ");

    return id ? g_ascii_strtoll(id + 6, NULL, 10) : -1;
}

static gpointer fake_thread(gpointer data)
{
    Fake *fake = data;
    char line[65536];
    FILE *in;

    fake->fd = accept(fake->listener, NULL, NULL);
    g_assert_cmpint(fake->fd, >=, 0);
    in = fdopen(fake->fd, "r");
    say(fake, "%s", fake->greeting);
    while (fgets(line, sizeof(line), in)) {
        if (strstr(line, "qmp_capabilities")) {
            say(fake, "{\"return\": {}, \"id\": %" G_GINT64_FORMAT "}\r\n",
                id_of(line));
        } else if (!fake->script || !fake->script(fake, line, id_of(line))) {
            break;
        }
    }
    fclose(in);
    return NULL;
}

static Fake *fake_new(const char *greeting, Script script)
{
    Fake *fake = g_new0(Fake, 1);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };

    fake->dir = g_dir_make_tmp("qmp-client-XXXXXX", NULL);
    fake->path = g_build_filename(fake->dir, "qmp", NULL);
    fake->greeting = greeting;
    fake->script = script;
    fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(addr.sun_path, fake->path, sizeof(addr.sun_path));
    g_assert_cmpint(bind(fake->listener, (struct sockaddr *)&addr,
                         sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(fake->listener, 1), ==, 0);
    fake->thread = g_thread_new("fake-qmp", fake_thread, fake);
    return fake;
}

/* The client must have gone, or this would wait. */
static void fake_free(Fake *fake)
{
    g_thread_join(fake->thread);
    close(fake->listener);
    g_unlink(fake->path);
    g_rmdir(fake->dir);
    g_free(fake->path);
    g_free(fake->dir);
    g_free(fake);
}

static QmpClient *connect_ok(const char *address)
{
    g_autoptr(GError) error = NULL;
    QmpClient *client = qmp_client_connect(address, TIMEOUT_MS, NULL, &error);

    g_assert_no_error(error);
    g_assert_nonnull(client);
    return client;
}

/* --- what the handler saw --- */

typedef struct Seen {
    GMutex   lock;
    GCond    changed;
    GString *names;         /* "A B " and "- " for the disconnect */
    int64_t  timestamp_us;
    int      n_destroyed;
} Seen;

static void seen_init(Seen *seen)
{
    memset(seen, 0, sizeof(*seen));
    g_mutex_init(&seen->lock);
    g_cond_init(&seen->changed);
    seen->names = g_string_new(NULL);
}

static void seen_clear(Seen *seen)
{
    g_mutex_clear(&seen->lock);
    g_cond_clear(&seen->changed);
    g_string_free(seen->names, TRUE);
}

static void on_event(const char *name, JsonObject *data, int64_t timestamp_us,
                     gpointer user_data)
{
    Seen *seen = user_data;

    g_mutex_lock(&seen->lock);
    g_string_append_printf(seen->names, "%s%s ", name ? name : "-",
                           data ? "+" : "");
    if (name) {
        seen->timestamp_us = timestamp_us;
    }
    g_cond_broadcast(&seen->changed);
    g_mutex_unlock(&seen->lock);
}

static void on_destroy(gpointer user_data)
{
    ((Seen *)user_data)->n_destroyed++;
}

static void seen_wait(Seen *seen, const char *names)
{
    int64_t deadline = g_get_monotonic_time() + TIMEOUT_MS * 1000;

    g_mutex_lock(&seen->lock);
    while (!g_str_equal(seen->names->str, names)) {
        if (!g_cond_wait_until(&seen->changed, &seen->lock, deadline)) {
            g_error("got events '%s', expected '%s'", seen->names->str, names);
        }
    }
    g_mutex_unlock(&seen->lock);
}

/* --- tests --- */

static bool script_echo(Fake *fake, const char *line, int64_t id)
{
    g_assert_nonnull(strstr(line, "\"value\": 7"));
    say(fake, "{\"return\": {\"x\": 5}, \"id\": %" G_GINT64_FORMAT "}\r\n", id);
    return true;
}

static void test_executes_and_returns(void)
{
    Fake *fake = fake_new(GREETING, script_echo);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) result = NULL;
    JsonObject *arguments = json_object_new();
    QmpClient *client = connect_ok(fake->path);
    unsigned major, minor, micro;
    QmpPeer peer;

    qmp_client_get_version(client, &major, &minor, &micro);
    g_assert_cmpuint(major * 10000 + minor * 100 + micro, ==, 100102);
    g_assert_true(qmp_client_has_oob(client));
    g_assert_true(qmp_client_get_peer_credentials(client, &peer));
    g_assert_cmpuint(peer.uid, ==, getuid());
    g_assert_cmpint(peer.pid, ==, getpid());

    json_object_set_int_member(arguments, "value", 7);
    result = qmp_client_execute(client, "echo", arguments, TIMEOUT_MS, NULL,
                                &error);
    g_assert_no_error(error);
    g_assert_cmpint(json_object_get_int_member(json_node_get_object(result),
                                               "x"), ==, 5);
    g_assert_null(qmp_client_get_error(client));
    qmp_client_free(client);
    fake_free(fake);
}

static bool script_error(Fake *fake, const char *line, int64_t id)
{
    if (strstr(line, "no-id")) {
        say(fake, "{\"error\": {\"class\": \"GenericError\", "
            "\"desc\": \"too long\"}}\r\n");
    } else {
        say(fake, "{\"id\": %" G_GINT64_FORMAT ", \"error\": {\"class\": "
            "\"CommandNotFound\", \"desc\": \"no such\"}}\r\n", id);
    }
    return true;
}

static void test_keeps_the_class_of_an_error(void)
{
    Fake *fake = fake_new(GREETING, script_error);
    QmpClient *client = connect_ok(fake->path);
    g_autoptr(GError) error = NULL;

    g_assert_null(qmp_client_execute(client, "nope", NULL, TIMEOUT_MS, NULL,
                                     &error));
    g_assert_error(error, QMP_ERROR, QMP_ERROR_COMMAND);
    g_assert_cmpstr(error->message, ==, "nope: CommandNotFound: no such");
    g_assert_cmpint(qmp_error_get_class(error), ==,
                    QMP_CLASS_COMMAND_NOT_FOUND);
    g_clear_error(&error);

    g_assert_null(qmp_client_execute(client, "no-id", NULL, TIMEOUT_MS, NULL,
                                     &error));
    g_assert_error(error, QMP_ERROR, QMP_ERROR_COMMAND);
    g_assert_cmpint(qmp_error_get_class(error), ==, QMP_CLASS_GENERIC);
    qmp_client_free(client);
    fake_free(fake);
}

/* The first command is answered only after the second: a late reply. */
static bool script_late(Fake *fake, const char *line, int64_t id)
{
    if (strstr(line, "slow")) {
        fake->first_id = id;
        g_atomic_int_set(&fake->got_one, 1);
        return true;
    }
    say(fake, "{\"return\": \"late\", \"id\": %" G_GINT64_FORMAT "}"
        "{\"return\": \"odd\", \"id\": \"x\"}"
        "{\"return\": \"good\", \"id\": %" G_GINT64_FORMAT "}",
        fake->first_id, id);
    return true;
}

static void test_ignores_a_late_reply(void)
{
    Fake *fake = fake_new(GREETING, script_late);
    QmpClient *client = connect_ok(fake->path);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) result = NULL;

    g_assert_null(qmp_client_execute(client, "slow", NULL, 20, NULL, &error));
    g_assert_error(error, QMP_ERROR, QMP_ERROR_TIMEOUT);
    g_clear_error(&error);
    result = qmp_client_execute(client, "quick", NULL, TIMEOUT_MS, NULL,
                                &error);
    g_assert_no_error(error);
    g_assert_cmpstr(json_node_get_string(result), ==, "good");
    qmp_client_free(client);
    fake_free(fake);
}

/* Reads nothing more until the client has closed. */
static bool script_stall(Fake *fake, const char *line, int64_t id)
{
    struct pollfd closed = { .fd = fake->fd, .events = POLLRDHUP };

    (void)line;
    (void)id;
    g_assert_cmpint(poll(&closed, 1, TIMEOUT_MS), ==, 1);
    return false;
}

/* What a QEMU that hangs makes us hold is bounded, and free() never waits. */
static void test_bounds_memory_for_a_server_that_does_not_read(void)
{
    Fake *fake = fake_new(GREETING, script_stall);
    QmpClient *client = connect_ok(fake->path);
    g_autofree char *big = g_strnfill(1024 * 1024, 'x');
    g_autoptr(GError) error = NULL;

    for (int i = 0; i < 16 && !error; i++) {
        JsonObject *arguments = json_object_new();

        json_object_set_string_member(arguments, "big", big);
        g_assert_null(qmp_client_execute(client, "x", arguments, 10, NULL,
                                         &error));
        if (g_error_matches(error, QMP_ERROR, QMP_ERROR_TIMEOUT)) {
            g_clear_error(&error);
        }
    }
    g_assert_error(error, QMP_ERROR, QMP_ERROR_TOO_LARGE);
    qmp_client_free(client);
    fake_free(fake);
}

typedef struct Call {
    QmpClient    *client;
    GCancellable *cancellable;
    const char   *command;
    GError       *error;
    JsonNode     *result;
} Call;

static gpointer call_thread(gpointer data)
{
    Call *call = data;

    call->result = qmp_client_execute(call->client, call->command, NULL, 0,
                                      call->cancellable, &call->error);
    return NULL;
}

static void test_matches_replies_of_two_threads(void)
{
    Fake *fake = fake_new(GREETING, script_late);
    QmpClient *client = connect_ok(fake->path);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) result = NULL;
    Call call = { .client = client, .command = "slow" };
    GThread *thread = g_thread_new("call", call_thread, &call);

    /* whichever goes first, "quick" is answered only after "slow" came */
    while (!g_atomic_int_get(&fake->got_one)) {
        g_usleep(1000);
    }
    result = qmp_client_execute(client, "quick", NULL, TIMEOUT_MS, NULL,
                                &error);
    g_assert_no_error(error);
    g_thread_join(thread);
    g_assert_no_error(call.error);
    g_assert_cmpstr(json_node_get_string(call.result), ==, "late");
    g_assert_cmpstr(json_node_get_string(result), ==, "good");
    json_node_unref(call.result);
    qmp_client_free(client);
    fake_free(fake);
}

static bool script_silent(Fake *fake, const char *line, int64_t id)
{
    (void)line;
    (void)id;
    g_atomic_int_set(&fake->got_one, 1);
    return true;
}

static bool script_hang_up(Fake *fake, const char *line, int64_t id)
{
    (void)fake;
    (void)line;
    (void)id;
    return false;
}

static void test_cancelling_ends_a_wait(void)
{
    Fake *fake = fake_new(GREETING, script_silent);
    QmpClient *client = connect_ok(fake->path);
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    Call call = { .client = client, .command = "x",
                  .cancellable = cancellable };
    GThread *thread = g_thread_new("call", call_thread, &call);

    while (!g_atomic_int_get(&fake->got_one)) {
        g_usleep(1000);
    }
    g_cancellable_cancel(cancellable);
    g_thread_join(thread);
    g_assert_error(call.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    g_clear_error(&call.error);

    /* and one that is cancelled already never starts to wait */
    call_thread(&call);
    g_assert_error(call.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    g_clear_error(&call.error);
    qmp_client_free(client);
    fake_free(fake);
}

static void test_disconnect_fails_waits_and_is_told_once(void)
{
    Fake *fake = fake_new(GREETING, script_hang_up);
    QmpClient *client = connect_ok(fake->path);
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) why = NULL;
    Seen seen;

    seen_init(&seen);
    qmp_client_set_event_handler(client, on_event, &seen, on_destroy);
    g_assert_null(qmp_client_execute(client, "x", NULL, 0, NULL, &error));
    g_assert_error(error, QMP_ERROR, QMP_ERROR_DISCONNECTED);
    g_clear_error(&error);
    seen_wait(&seen, "- ");
    g_assert_null(qmp_client_execute(client, "y", NULL, 0, NULL, &error));
    g_assert_error(error, QMP_ERROR, QMP_ERROR_DISCONNECTED);
    why = qmp_client_get_error(client);
    g_assert_error(why, QMP_ERROR, QMP_ERROR_DISCONNECTED);
    qmp_client_free(client);
    seen_wait(&seen, "- ");
    g_assert_cmpint(seen.n_destroyed, ==, 1);
    seen_clear(&seen);
    fake_free(fake);
}

static bool script_events(Fake *fake, const char *line, int64_t id)
{
    (void)line;
    say(fake, "{\"timestamp\": {\"seconds\": 12, \"microseconds\": 34}, "
        "\"event\": \"STOP\"}\r\n{\"event\": \"B\", \"data\": {\"x\": 1}, "
        "\"timestamp\": {\"seconds\": -1, \"microseconds\": 99999999}}"
        "{\"return\": {}, \"id\": %" G_GINT64_FORMAT "}\r\n", id);
    return !strstr(line, "last");
}

/* Between connecting and setting a handler nothing may be lost. */
static void test_keeps_events_until_there_is_a_handler(void)
{
    Fake *fake = fake_new(GREETING, script_events);
    QmpClient *client = connect_ok(fake->path);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) result = NULL;
    Seen seen;

    seen_init(&seen);
    result = qmp_client_execute(client, "last", NULL, TIMEOUT_MS, NULL, &error);
    g_assert_no_error(error);
    fake_free(fake);
    qmp_client_set_event_handler(client, on_event, &seen, NULL);
    seen_wait(&seen, "STOP B+ - ");
    g_assert_cmpint(seen.timestamp_us, ==, 0);  /* B's was nonsense */
    qmp_client_free(client);
    seen_clear(&seen);
}

static void test_freeing_does_not_tell_of_a_disconnect(void)
{
    Fake *fake = fake_new(GREETING, script_silent);
    QmpClient *client = connect_ok(fake->path);
    Seen seen;

    seen_init(&seen);
    qmp_client_set_event_handler(client, on_event, &seen, on_destroy);
    qmp_client_free(client);
    g_assert_cmpstr(seen.names->str, ==, "");
    g_assert_cmpint(seen.n_destroyed, ==, 1);
    seen_clear(&seen);
    fake_free(fake);
}

static void assert_connect_fails(const char *address, unsigned timeout_ms,
                                 GQuark domain, int code)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(qmp_client_connect(address, timeout_ms, NULL, &error));
    g_assert_error(error, domain, code);
}

static void assert_greeting_fails(const char *greeting, int code)
{
    Fake *fake = fake_new(greeting, NULL);

    assert_connect_fails(fake->path, code == QMP_ERROR_TIMEOUT ? 50
                                     : TIMEOUT_MS, QMP_ERROR, code);
    fake_free(fake);
}

static void test_refuses_what_is_no_qmp_server(void)
{
    assert_greeting_fails("SSH-2.0-OpenSSH\r\n", QMP_ERROR_PROTOCOL);
    assert_greeting_fails("{\"return\": {}}\r\n", QMP_ERROR_PROTOCOL);
    assert_greeting_fails("{\"QMP\": 5}\r\n", QMP_ERROR_PROTOCOL);
    assert_greeting_fails("{\"QMP\": {\"capabilities\": 5, \"version\": "
                          "{\"qemu\": {\"major\": \"x\"}}}}\r\n",
                          QMP_ERROR_PROTOCOL);
}

static void test_a_silent_server_is_a_timeout(void)
{
    assert_greeting_fails("", QMP_ERROR_TIMEOUT);
}

/* A backlog that is full gives EAGAIN, which is no event to wait for. */
static void test_a_full_backlog_is_a_timeout(void)
{
    g_autofree char *dir = g_dir_make_tmp("qmp-client-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "qmp", NULL);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    int filler = socket(AF_UNIX, SOCK_STREAM, 0);

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    g_assert_cmpint(bind(listener, (struct sockaddr *)&addr, sizeof(addr)),
                    ==, 0);
    g_assert_cmpint(listen(listener, 0), ==, 0);
    g_assert_cmpint(connect(filler, (struct sockaddr *)&addr, sizeof(addr)),
                    ==, 0);
    assert_connect_fails(path, 60, QMP_ERROR, QMP_ERROR_TIMEOUT);
    close(filler);
    close(listener);
    g_unlink(path);
    g_rmdir(dir);
}

static void test_says_which_addresses_it_takes(void)
{
    assert_connect_fails("qmp.sock", 100, QMP_ERROR, QMP_ERROR_ADDRESS);
    assert_connect_fails("tcp:host", 100, QMP_ERROR, QMP_ERROR_ADDRESS);
    assert_connect_fails("/nonexistent/qmp", 100, G_IO_ERROR,
                         G_IO_ERROR_NOT_FOUND);
    assert_connect_fails("unix:/nonexistent/qmp", 100, G_IO_ERROR,
                         G_IO_ERROR_NOT_FOUND);
}

static void test_a_silent_tcp_server_is_a_timeout(void)
{
    g_autoptr(GSocketListener) listener = g_socket_listener_new();
    guint16 port = g_socket_listener_add_any_inet_port(listener, NULL, NULL);
    g_autofree char *address = g_strdup_printf("tcp:127.0.0.1:%u", port);

    g_assert_cmpuint(port, >, 0);
    assert_connect_fails(address, 50, QMP_ERROR, QMP_ERROR_TIMEOUT);
    g_socket_listener_close(listener);
    assert_connect_fails(address, TIMEOUT_MS, G_IO_ERROR,
                         G_IO_ERROR_CONNECTION_REFUSED);
}

/* --- a real QEMU --- */

static QmpClient *connect_retrying(const char *address)
{
    int64_t deadline = g_get_monotonic_time() + TIMEOUT_MS * 1000;

    for (;;) {
        g_autoptr(GError) error = NULL;
        QmpClient *client = qmp_client_connect(address, TIMEOUT_MS, NULL,
                                               &error);

        if (client || g_get_monotonic_time() > deadline) {
            g_assert_no_error(error);
            return client;
        }
        g_usleep(20 * 1000);
    }
}

static void with_real_qemu(QmpClient *client)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) schema = NULL;
    g_autoptr(JsonNode) yank = NULL;
    g_autoptr(JsonNode) quit = NULL;
    unsigned major, minor, micro;

    qmp_client_get_version(client, &major, &minor, &micro);
    g_assert_cmpuint(major, >=, 4);
    schema = qmp_client_execute(client, "query-qmp-schema", NULL, TIMEOUT_MS,
                                NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(json_array_get_length(json_node_get_array(schema)), >,
                     100);
    g_assert_true(qmp_client_has_oob(client));
    yank = qmp_client_execute_oob(client, "query-yank", NULL, TIMEOUT_MS, NULL,
                                  &error);
    g_assert_no_error(error);
    g_assert_null(qmp_client_execute(client, "multiferry", NULL, TIMEOUT_MS,
                                     NULL, &error));
    g_assert_error(error, QMP_ERROR, QMP_ERROR_COMMAND);
    g_assert_cmpint(qmp_error_get_class(error), ==,
                    QMP_CLASS_COMMAND_NOT_FOUND);
    g_clear_error(&error);
    quit = qmp_client_execute(client, "quit", NULL, TIMEOUT_MS, NULL, &error);
    g_assert_no_error(error);
}

static void test_talks_to_a_real_qemu(void)
{
    g_autofree char *qemu = g_find_program_in_path("qemu-system-x86_64");
    g_autofree char *dir = NULL, *path = NULL, *option = NULL;
    g_autoptr(GSubprocess) process = NULL;
    g_autoptr(GError) error = NULL;
    QmpClient *client;
    Seen seen;

    if (!qemu) {
        g_test_skip("needs qemu-system-x86_64");
        return;
    }
    dir = g_dir_make_tmp("qmp-client-XXXXXX", NULL);
    path = g_build_filename(dir, "qmp", NULL);
    option = g_strdup_printf("unix:%s,server=on,wait=off", path);
    process = g_subprocess_new(G_SUBPROCESS_FLAGS_NONE, &error, qemu,
                               "-machine", "none", "-nodefaults", "-display",
                               "none", "-qmp", option, NULL);
    g_assert_no_error(error);
    seen_init(&seen);
    client = connect_retrying(path);
    qmp_client_set_event_handler(client, on_event, &seen, NULL);
    with_real_qemu(client);
    seen_wait(&seen, "SHUTDOWN+ - ");
    g_assert_cmpint(ABS(seen.timestamp_us - g_get_real_time()), <,
                    60 * G_USEC_PER_SEC);
    qmp_client_free(client);
    g_assert_true(g_subprocess_wait(process, NULL, NULL));
    seen_clear(&seen);
    g_unlink(path);
    g_rmdir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/qmp/client/" name, func)
    ADD("executes-and-returns", test_executes_and_returns);
    ADD("keeps-the-class-of-an-error", test_keeps_the_class_of_an_error);
    ADD("ignores-a-late-reply", test_ignores_a_late_reply);
    ADD("matches-replies-of-two-threads", test_matches_replies_of_two_threads);
    ADD("cancelling-ends-a-wait", test_cancelling_ends_a_wait);
    ADD("disconnect-fails-waits-and-is-told-once",
        test_disconnect_fails_waits_and_is_told_once);
    ADD("keeps-events-until-there-is-a-handler",
        test_keeps_events_until_there_is_a_handler);
    ADD("freeing-does-not-tell-of-a-disconnect",
        test_freeing_does_not_tell_of_a_disconnect);
    ADD("bounds-memory-for-a-server-that-does-not-read",
        test_bounds_memory_for_a_server_that_does_not_read);
    ADD("refuses-what-is-no-qmp-server", test_refuses_what_is_no_qmp_server);
    ADD("a-silent-server-is-a-timeout", test_a_silent_server_is_a_timeout);
    ADD("a-full-backlog-is-a-timeout", test_a_full_backlog_is_a_timeout);
    ADD("says-which-addresses-it-takes", test_says_which_addresses_it_takes);
    ADD("a-silent-tcp-server-is-a-timeout",
        test_a_silent_tcp_server_is_a_timeout);
    ADD("talks-to-a-real-qemu", test_talks_to_a_real_qemu);
#undef ADD
    return g_test_run();
}
