/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The client against a daemon that answers what a test tells it to.  What the
 * client would print is caught; what it asked for is noted.
 */
#include "daemon/client-command.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "daemon/client-events.h"
#include "daemon/client-format.h"
#include "daemon/client-progress.h"
#include "daemon/client-summary.h"
#include "qmp/framer.h"

#define GREETING "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 0, " \
                 "\"minor\": 1, \"micro\": 0}, \"package\": \"\"}, " \
                 "\"capabilities\": []}}\r\n"
#define MAX_REPLIES 4

/* For --socket; NULL: left away. */
static const char *socket_option;

/* --- a daemon --- */

typedef struct {
    const char *command;
    /* One for each time it comes; the last one again and again.  "!text" is
     * an error, "^C" a signal to the client and then the next one, "EOF" the
     * daemon's death. */
    const char *replies[MAX_REPLIES];
} Answer;

typedef struct {
    const Answer *answers;
    const char *push;           /* sent after the handshake; then it closes */
    char *directory, *path, *address;
    int listener;
    GThread *thread;
    GString *requests;          /* "command {arguments}\n"; after the join */
    unsigned counts[16];
} Daemon;

static void send_text(int fd, const char *text)
{
    size_t len = strlen(text);

    g_assert_cmpint((int)send(fd, text, len, MSG_NOSIGNAL), ==, (int)len);
}

static const char *choose_reply(Daemon *self, const char *command)
{
    for (unsigned i = 0; self->answers && self->answers[i].command; i++) {
        const char *const *replies = self->answers[i].replies;
        unsigned n = 0;

        if (strcmp(self->answers[i].command, command) != 0) {
            continue;
        }
        while (n + 1 < MAX_REPLIES && n < self->counts[i] && replies[n + 1]) {
            n++;
        }
        self->counts[i]++;
        if (strcmp(replies[n], "^C") == 0) {
            kill(getpid(), SIGINT);
            return choose_reply(self, command);
        }
        return replies[n];
    }
    return "!The command is not known";
}

/* False: to be closed. */
static bool answer(Daemon *self, int fd, JsonObject *request)
{
    const char *command = json_object_get_string_member(request, "execute");
    JsonNode *arguments = json_object_get_member(request, "arguments");
    g_autofree char *id = json_to_string(json_object_get_member(request, "id"),
                                         FALSE);
    g_autofree char *text = arguments ? json_to_string(arguments, FALSE) :
                                        g_strdup("");
    g_autofree char *line = NULL;
    const char *reply;

    if (strcmp(command, "qmp_capabilities") == 0) {
        line = g_strdup_printf("{\"return\": {}, \"id\": %s}\r\n", id);
        send_text(fd, line);
        return true;
    }
    g_string_append_printf(self->requests, "%s %s\n", command, text);
    reply = choose_reply(self, command);
    if (strcmp(reply, "EOF") == 0) {
        return false;
    }
    line = reply[0] == '!' ?
        g_strdup_printf("{\"error\": {\"class\": \"GenericError\", \"desc\": "
                        "\"%s\"}, \"id\": %s}\r\n", reply + 1, id) :
        g_strdup_printf("{\"return\": %s, \"id\": %s}\r\n", reply, id);
    send_text(fd, line);
    return true;
}

/* False: the client has gone, or has been told all there was to tell. */
static bool serve_once(Daemon *self, int fd, QmpFramer *framer)
{
    char buf[4096];
    ssize_t len = recv(fd, buf, sizeof(buf), 0);

    if (len <= 0) {
        return false;
    }
    qmp_framer_feed(framer, buf, (size_t)len);
    for (;;) {
        JsonObject *request = NULL;
        bool good = qmp_framer_next(framer, &request, NULL);

        g_assert_true(good);
        if (!request) {
            return true;
        }
        good = answer(self, fd, request);
        json_object_unref(request);
        if (good && self->push) {
            send_text(fd, self->push);
            good = false;
        }
        if (!good) {
            return false;
        }
    }
}

static gpointer serve(gpointer data)
{
    Daemon *self = data;
    g_autoptr(QmpFramer) framer = qmp_framer_new(QMP_FRAMER_SERVER_MAX_BYTES);
    int fd = accept(self->listener, NULL, NULL);

    if (fd >= 0) {
        send_text(fd, GREETING);
        while (serve_once(self, fd, framer)) {
        }
        close(fd);
    }
    return NULL;
}

static void daemon_begin(Daemon *self, const Answer *answers)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    self->answers = answers;
    self->directory = g_dir_make_tmp("test-client-XXXXXX", NULL);
    self->path = g_build_filename(self->directory, "s", NULL);
    self->address = g_strconcat("unix:", self->path, NULL);
    self->requests = g_string_new(NULL);
    self->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    g_strlcpy(address.sun_path, self->path, sizeof(address.sun_path));
    g_assert_cmpint(bind(self->listener, (struct sockaddr *)&address,
                         sizeof(address)), ==, 0);
    g_assert_cmpint(listen(self->listener, 1), ==, 0);
    socket_option = self->address;
    self->thread = g_thread_new("daemon", serve, self);
}

static void daemon_end(Daemon *self)
{
    /* Wakes an accept() that nobody came to. */
    shutdown(self->listener, SHUT_RDWR);
    g_thread_join(self->thread);
    close(self->listener);
    g_unlink(self->path);
    g_rmdir(self->directory);
    socket_option = NULL;
    g_free(self->directory);
    g_free(self->path);
    g_free(self->address);
    g_string_free(self->requests, TRUE);
}

/* --- what the client prints --- */

static GString *out, *err;

static void catch_out(const char *text)
{
    g_string_append(out, text);
}

static void catch_err(const char *text)
{
    g_string_append(err, text);
}

static int run(const char *line)
{
    g_autofree char *with_socket = socket_option ?
        g_strconcat(line, " --socket ", socket_option, NULL) : g_strdup(line);
    g_auto(GStrv) argv = g_strsplit(with_socket, " ", -1);
    GPrintFunc old_out, old_err;
    int code;

    g_string_truncate(out, 0);
    g_string_truncate(err, 0);
    old_out = g_set_print_handler(catch_out);
    old_err = g_set_printerr_handler(catch_err);
    code = client_command_main((int)g_strv_length(argv), argv);
    g_set_print_handler(old_out);
    g_set_printerr_handler(old_err);
    return code;
}

#define assert_contains(text, part) G_STMT_START { \
    if (!strstr(text, part)) { \
        g_error("expected '%s' in '%s'", part, text); \
    } } G_STMT_END

/* --- text --- */

static JsonNode *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    JsonNode *node = json_from_string(text, &error);

    g_assert_no_error(error);
    return node;
}

#define ACTIVE "{\"id\": \"m1\", \"kind\": \"managed\", \"vm\": \"web1\", " \
    "\"peer\": \"dc2\", \"role\": \"source\", \"state\": \"active\", " \
    "\"bytes-in\": 2147483648, \"wire-bytes-out\": 1073741824, " \
    "\"rate\": 64000000, \"rate-limit\": 0, \"epochs\": 7, " \
    "\"elapsed-ms\": 12000, \"qemu\": {\"status\": \"active\", " \
    "\"ram-total\": 4294967296, \"ram-remaining\": 1073741824, " \
    "\"dirty-pages-rate\": 100, \"page-size\": 4096, " \
    "\"dirty-sync-count\": 2}}"
#define ENDED(state, more) "{\"id\": \"m1\", \"vm\": \"web1\", " \
    "\"peer\": \"dc2\", \"role\": \"source\", \"state\": \"" state "\", " \
    "\"bytes-in\": 4294967296, \"bytes-out\": 4294967296, " \
    "\"wire-bytes-out\": 4300000000, \"main-bytes\": 65536, " \
    "\"packets\": 8400, \"normal-pages\": 1000000, \"zero-pages\": 48576, " \
    "\"epochs\": 12, \"rate\": 0, \"rate-limit\": 62500000, " \
    "\"ingress\": {\"kind\": \"qemu\", \"channels\": 2}, " \
    "\"egress\": {\"kind\": \"link\", \"channels\": 2, \"lanes\": 1}, " \
    "\"channels-in\": [{\"channel\": 0, \"packets\": 4200}, " \
    "{\"channel\": 1, \"packets\": 4200}], " more \
    "\"total-time-ms\": 61500}"

static void test_progress_line(void)
{
    g_autoptr(JsonNode) node = parse(ACTIVE);
    JsonObject *migration = json_node_get_object(node);
    g_autofree char *wide = client_progress_to_string(migration, 120);
    g_autofree char *usual = client_progress_to_string(migration, 79);
    g_autofree char *narrow = client_progress_to_string(migration, 25);

    g_assert_cmpstr(wide, ==, "[#######################.......]  75 %  "
                    "512.0 Mbit/s  1.0 GiB left  ETA 16.8 s  round 2  "
                    "sent 1.0 GiB  epoch 7");
    g_assert_cmpstr(usual, ==, "[#################.....]  75 %  512.0 Mbit/s  "
                    "1.0 GiB left  ETA 16.8 s  round 2");
    g_assert_cmpstr(narrow, ==, " 75 %  512.0 Mbit/s");
}

static void test_progress_fits_any_width(void)
{
    g_autoptr(JsonNode) node = parse(ACTIVE);

    for (unsigned width = 10; width < 150; width++) {
        g_autofree char *line =
            client_progress_to_string(json_node_get_object(node), width);

        g_assert_cmpuint(strlen(line), <=, width);
        g_assert_cmpuint(strlen(line), >, 0);
    }
}

/* What would go on for ever says so, while something can still be done. */
static void test_progress_will_not_end(void)
{
    g_autoptr(JsonNode) node = parse(
        "{\"state\": \"active\", \"rate\": 10000000, \"convergence\": "
        "{\"converging\": false, \"dirty-rate\": 40000000, "
        "\"rate\": 10000000}}");
    g_autoptr(JsonNode) good = parse(
        "{\"state\": \"active\", \"rate\": 10000000, \"convergence\": "
        "{\"converging\": true, \"dirty-rate\": 1, \"rate\": 10000000}}");
    g_autofree char *line =
        client_progress_to_string(json_node_get_object(node), 80);
    g_autofree char *other =
        client_progress_to_string(json_node_get_object(good), 20);

    g_assert_cmpstr(line, ==, "guest writes 320.0 Mbit/s, 80.0 Mbit/s leave: "
                    "will not end  80.0 Mbit/s");
    g_assert_cmpstr(other, ==, "80.0 Mbit/s");
}

/* A link that is down is what an operator must see first. */
static void test_progress_link_down(void)
{
    g_autoptr(JsonNode) node = parse(
        "{\"state\": \"active\", \"rate\": 0, \"link\": {\"state\": \"down\", "
        "\"down-ms\": 3000, \"budget-ms\": 120000}}");
    g_autoptr(JsonNode) stuck = parse(
        "{\"state\": \"active\", \"rate\": 0, \"link\": {\"state\": \"down\", "
        "\"down-ms\": 3000}}");
    g_autofree char *line =
        client_progress_to_string(json_node_get_object(node), 60);
    g_autofree char *other =
        client_progress_to_string(json_node_get_object(stuck), 20);

    g_assert_cmpstr(line, ==, "link down for 3.0 s (gives up in 1 min 57 s)  "
                    "0 bit/s");
    g_assert_cmpstr(other, ==, "link down for 3.0 s");
}

/* A tunnel has no QEMU to ask; and a newer daemon may say anything. */
static void test_progress_without_figures(void)
{
    g_autoptr(JsonNode) node = parse("{\"state\": \"setup\", \"qemu\": 3, "
                                     "\"rate\": \"x\", \"epochs\": -1}");
    JsonObject *migration = json_node_get_object(node);
    g_autofree char *line = client_progress_to_string(migration, 80);
    g_autofree char *on_lanes = NULL;
    uint64_t ms;

    json_object_set_object_member(migration, "link", json_object_new());
    json_object_set_int_member(json_object_get_object_member(migration, "link"),
                               "lanes-used", 8);
    on_lanes = client_progress_to_string(migration, 80);
    g_assert_cmpstr(line, ==, "setup  0 bit/s  sent 0 B  epoch 0");
    g_assert_cmpstr(on_lanes, ==,
                    "setup  0 bit/s  sent 0 B  on 8 lanes  epoch 0");
    g_assert_false(client_progress_estimate(migration, &ms));
}

/* What QEMU says before its first look at the memory. */
static void test_progress_before_ram_is_known(void)
{
    g_autoptr(JsonNode) node = parse("{\"state\": \"setup\", \"qemu\": "
                                     "{\"ram-total\": 0, "
                                     "\"ram-remaining\": 0}}");
    g_autofree char *line =
        client_progress_to_string(json_node_get_object(node), 80);

    g_assert_cmpstr(line, ==, "setup  0 bit/s  sent 0 B  epoch 0");
}

/* A guest that dirties faster than we send never ends: no time is a lie. */
static void test_no_estimate_without_convergence(void)
{
    g_autoptr(JsonNode) node = parse("{\"rate\": 1000, \"qemu\": "
        "{\"ram-remaining\": 100000, \"dirty-pages-rate\": 1, "
        "\"page-size\": 4096}}");
    uint64_t ms = 7;

    g_assert_false(client_progress_estimate(json_node_get_object(node), &ms));
    g_assert_cmpuint(ms, ==, 7);
}

static void test_summary(void)
{
    g_autoptr(JsonNode) node = parse(ENDED("completed",
        "\"downtime-ms\": 45, \"qemu-downtime-ms\": 41, "
        "\"warning\": \"no return path\\u001b[2J\", "));
    g_autofree char *text =
        client_summary_to_string(json_node_get_object(node));

    g_assert_cmpstr(text, ==,
        "migration m1: web1 to dc2: completed\n"
        "  warning       no return path\\x1b[2J\n"
        "  total time    1 min 01 s\n"
        "  downtime      45 ms (QEMU says 41 ms)\n"
        "  bytes in      4.0 GiB (64.0 KiB on the main channel)\n"
        "  bytes out     4.0 GiB (4.0 GiB on the wire)\n"
        "  average rate  559.3 Mbit/s (limit 500.0 Mbit/s)\n"
        "  epochs        12\n"
        "  packets       8400 (1000000 normal and 48576 zero pages)\n"
        "  ingress       qemu, 2 channels\n"
        "  egress        link, 2 channels, 1 lane\n"
        "  channels in   2 with 4200 4200 packets\n");
}

static void test_summary_without_limit(void)
{
    g_autoptr(JsonNode) node = parse(ACTIVE);
    g_autofree char *text =
        client_summary_to_string(json_node_get_object(node));

    assert_contains(text, "  rate          512.0 Mbit/s (no limit)\n");
}

static void test_table_aligns(void)
{
    static const char *const titles[] = { "A", "LONG", NULL };
    char *row1[] = { (char *)"\xc3\xa4\xc3\xb6", (char *)"1", NULL };
    char *row2[] = { (char *)"xyz", (char *)"2", NULL };
    g_autoptr(GPtrArray) rows = g_ptr_array_new();
    g_autofree char *text = NULL;

    g_ptr_array_add(rows, row1);
    g_ptr_array_add(rows, row2);
    text = client_format_table(titles, rows);
    g_assert_cmpstr(text, ==, "A    LONG\n\xc3\xa4\xc3\xb6   1\nxyz  2\n");
}

/* --- usage --- */

static void test_usage_errors(void)
{
    static const struct { const char *line, *message; } cases[] = {
        { "multiferry", "got no command" },
        { "multiferry migarte", "got command 'migarte', expected one" },
        { "multiferry migrate", "migrate: got 0 arguments, expected 'migrate "
          "VM --to PEER'" },
        { "multiferry migrate web1", "got no --to, expected the peer" },
        { "multiferry migrate web1 --to dc2 --lanes 65",
          "--lanes: got 65, expected a number from 1 to 64" },
        { "multiferry migrate web1 --to dc2 --lanes 0",
          "--lanes: got 0, expected a number from 1 to 64" },
        { "multiferry migrate web1 --to dc2 --channels=0",
          "--channels: got 0, expected a number from 1 to 255" },
        { "multiferry migrate web1 --to dc2 --destination-channels 0",
          "--destination-channels: got 0, expected a number from 1 to 255" },
        { "multiferry migrate web1 --to dc2 --channels -1",
          "--channels: got -1, expected a number from 1 to 255" },
        { "multiferry migrate web1 --to dc2 --rate 500",
          "--rate: got '500', expected a number with a unit" },
        { "multiferry migrate web1 --to dc2 --handover quick",
          "--handover: got 'quick', expected safe or fast" },
        { "multiferry migrate web1 --to dc2 --downtime-limit 5",
          "--downtime-limit: got '5', expected a number with a unit" },
        { "multiferry migrate --sideways", "--sideways" },
        { "multiferry --upwards", "--upwards" },
        { "multiferry limit 10", "limit: got '10', expected" },
        { "multiferry limit a b 10mbit", "got 3 arguments" },
        { "multiferry help nothing", "got command 'nothing'" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_cmpint(run(cases[i].line), ==, CLIENT_SESSION_USAGE);
        assert_contains(err->str, cases[i].message);
        g_assert_cmpstr(out->str, ==, "");
    }
}

static void test_help(void)
{
    g_assert_cmpint(run("multiferry help"), ==, 0);
    assert_contains(out->str, "migrate VM --to PEER");
    assert_contains(out->str, "--socket=ADDRESS");
    g_assert_cmpint(run("multiferry help migrate"), ==, 0);
    assert_contains(out->str, "--destination-channels=K");
    g_assert_cmpint(run("multiferry migrate --help"), ==, 0);
    assert_contains(out->str, "--destination-channels=K");
    g_assert_cmpint(run("multiferry --version"), ==, 0);
    assert_contains(out->str, "multiferry ");
}

static void test_unreachable(void)
{
    g_assert_cmpint(run("multiferry --socket unix:/nonexistent/s peers"), ==,
                    CLIENT_SESSION_UNREACHABLE);
    assert_contains(err->str, "cannot reach multiferryd at "
                    "unix:/nonexistent/s: ");
    g_assert_cmpint(run("multiferry peers --socket nonsense"), ==,
                    CLIENT_SESSION_UNREACHABLE);
    g_assert_cmpint(run("multiferry peers"), ==, CLIENT_SESSION_UNREACHABLE);
    assert_contains(err->str, "at unix:/nonexistent/environment: ");
}

/* --- migrate --- */

static void test_migrates(void)
{
    static const Answer answers[] = {
        { "migrate", { "{\"id\": \"m1\"}" } },
        { "query-migrations", { "[" ACTIVE "]",
          "[" ENDED("completed", "\"downtime-ms\": 45, ") "]" } },
        { NULL, { NULL } },
    };
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry migrate web1 --to dc2 --as web2 "
                        "--channels 4 --lanes 8 --destination-channels 2 "
                        "--rate 500Mbit --handover fast "
                        "--downtime-limit 0.3s"), ==, CLIENT_SESSION_OK);
    assert_contains(d.requests->str, "migrate {\"vm\":\"web1\",\"peer\":"
                    "\"dc2\",\"as\":\"web2\",\"channels\":4,\"lanes\":8,"
                    "\"destination-channels\":2,\"rate\":\"500Mbit\","
                    "\"handover\":\"fast\",\"downtime-limit\":300}\n");
    assert_contains(d.requests->str, "query-migrations {\"id\":\"m1\"}\n");
    daemon_end(&d);
    assert_contains(err->str, "75 %");
    g_assert_true(g_str_has_prefix(out->str, "migration m1: web1 to dc2: "
                                   "completed\n"));
    assert_contains(out->str, "downtime      45 ms\n");
}

static void test_migrate_fails(void)
{
    static const Answer answers[] = {
        { "migrate", { "{\"id\": \"m1\"}" } },
        { "query-migrations", { "[" ENDED("failed", "\"error\": \"channel 3: "
          "broken\", ") "]" } },
        { NULL, { NULL } },
    };
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry migrate web1 --to dc2"), ==,
                    CLIENT_SESSION_FAILED);
    daemon_end(&d);
    assert_contains(out->str, "error         channel 3: broken\n");
}

static void test_migrate_is_refused(void)
{
    static const Answer answers[] = {
        { "migrate", { "!vm 'web9': no such VM" } }, { NULL, { NULL } },
    };
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry migrate web9 --to dc2"), ==,
                    CLIENT_SESSION_REFUSED);
    daemon_end(&d);
    g_assert_cmpstr(err->str, ==, "multiferry: migrate: vm 'web9': no such VM"
                    "\n");
    g_assert_cmpstr(out->str, ==, "");
}

/* The daemon may name the command too; it is said once, without a class. */
static void test_refusal_does_not_stutter(void)
{
    static const Answer answers[] = {
        { "migrate", { "!migrate: peer 'dc9': no such peer" } },
        { NULL, { NULL } },
    };
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry migrate web1 --to dc9"), ==,
                    CLIENT_SESSION_REFUSED);
    daemon_end(&d);
    g_assert_cmpstr(err->str, ==, "multiferry: migrate: peer 'dc9': no such "
                    "peer\n");
}

static void test_migrate_json(void)
{
    static const Answer answers[] = {
        { "migrate", { "{\"id\": \"m1\"}" } },
        { "query-migrations", { "[" ACTIVE "]",
          "[" ENDED("completed", "") "]" } },
        { NULL, { NULL } },
    };
    g_autoptr(JsonNode) node = NULL;
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry --json migrate web1 --to dc2"), ==, 0);
    daemon_end(&d);
    node = parse(out->str);
    g_assert_cmpstr(json_object_get_string_member(json_node_get_object(node),
                                                  "state"), ==, "completed");
    g_assert_cmpstr(err->str, ==, "");
}

static void test_migrate_detaches(void)
{
    static const Answer answers[] = {
        { "migrate", { "{\"id\": \"m1\"}" } }, { NULL, { NULL } },
    };
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry migrate web1 --to dc2 --detach"), ==, 0);
    daemon_end(&d);
    g_assert_cmpstr(out->str, ==, "m1\n");
}

static void test_interrupt_cancels(void)
{
    static const Answer answers[] = {
        { "migrate", { "{\"id\": \"m1\"}" } },
        { "query-migrations", { "^C", "[" ACTIVE "]", "[" ACTIVE "]",
          "[" ENDED("cancelled", "") "]" } },
        { "migrate-cancel", { "{}" } },
        { NULL, { NULL } },
    };
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry migrate web1 --to dc2"), ==,
                    CLIENT_SESSION_CANCELLED);
    assert_contains(d.requests->str, "migrate-cancel {\"id\":\"m1\"}\n");
    daemon_end(&d);
    assert_contains(err->str, "cancelling migration m1; ^C again");
    assert_contains(out->str, "migration m1: web1 to dc2: cancelled\n");
}

static void test_second_interrupt_leaves(void)
{
    static const Answer answers[] = {
        { "migrate", { "{\"id\": \"m1\"}" } },
        { "query-migrations", { "^C", "[" ACTIVE "]", "^C",
          "[" ACTIVE "]" } },
        { "migrate-cancel", { "!it is completing" } },
        { NULL, { NULL } },
    };
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry migrate web1 --to dc2"), ==,
                    CLIENT_SESSION_CANCELLED);
    daemon_end(&d);
    assert_contains(err->str, "it is completing");
    assert_contains(err->str, "leaving migration m1 to the daemon");
}

/* A daemon that dies is no failed migration: nobody here knows. */
static void test_migrate_loses_the_daemon(void)
{
    static const Answer answers[] = {
        { "migrate", { "{\"id\": \"m1\"}" } },
        { "query-migrations", { "[" ACTIVE "]", "EOF" } },
        { NULL, { NULL } },
    };
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry migrate web1 --to dc2"), ==,
                    CLIENT_SESSION_UNREACHABLE);
    daemon_end(&d);
    assert_contains(err->str, "migration m1 goes on or ends without us");
}

/* --- the others --- */

static void test_status(void)
{
    static const Answer answers[] = {
        { "query-status", { "{\"name\": \"dc1\", \"version\": \"0.1.0\", "
          "\"uptime-ms\": 7260000, \"migrations\": 1}" } },
        { "query-migrations", { "[" ACTIVE "]" } },
        { NULL, { NULL } },
    };
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry status"), ==, 0);
    daemon_end(&d);
    g_assert_cmpstr(out->str, ==,
        "dc1: multiferryd 0.1.0, up 2 h 01 min, 1 migration running\n"
        "ID  VM/TUNNEL  PEER  ROLE    STATE   RAM   IN       OUT      "
        "RATE          TIME\n"
        "m1  web1       dc2   source  active  75 %  2.0 GiB  1.0 GiB  "
        "512.0 Mbit/s  12.0 s\n");
}

static void test_status_of_unknown_migration(void)
{
    static const Answer answers[] = {
        { "query-migrations", { "[]" } }, { NULL, { NULL } },
    };
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry status m9"), ==, CLIENT_SESSION_REFUSED);
    daemon_end(&d);
    assert_contains(err->str, "got 'm9', expected a migration");
}

static void test_peers(void)
{
    static const Answer answers[] = {
        { "query-peers", { "[{\"name\": \"dc2\", \"address\": \"tcp:x:1\", "
          "\"lanes\": 8, \"rate\": 62500000, \"migrations\": 0, "
          "\"reachable\": true, \"certificate-name\": \"c\"}]" } },
        { NULL, { NULL } },
    };
    Daemon d = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry peers"), ==, 0);
    daemon_end(&d);
    g_assert_cmpstr(out->str, ==,
        "NAME  ADDRESS  CERTIFICATE  LANES  LIMIT         MIGRATIONS  STATE\n"
        "dc2   tcp:x:1  c            8      500.0 Mbit/s  0           "
        "reachable\n");
}

static void test_limit_knows_what_is_meant(void)
{
    static const Answer answers[] = {
        { "query-peers", { "[{\"name\": \"dc2\"}]" } },
        { "set-rate-limit", { "{}" } }, { NULL, { NULL } },
    };
    static const struct { const char *line, *request, *said; } cases[] = {
        { "multiferry limit 1Gbit", "set-rate-limit {\"rate\":\"1Gbit\"}\n",
          "daemon: limit is 1.0 Gbit/s\n" },
        { "multiferry limit daemon unlimited",
          "set-rate-limit {\"rate\":\"unlimited\"}\n",
          "daemon: no limit\n" },
        { "multiferry limit dc2 1Gbit",
          "set-rate-limit {\"rate\":\"1Gbit\",\"peer\":\"dc2\"}\n",
          "dc2: limit is 1.0 Gbit/s\n" },
        { "multiferry limit m1 1Gbit",
          "set-rate-limit {\"rate\":\"1Gbit\",\"migration\":\"m1\"}\n",
          "m1: limit is 1.0 Gbit/s\n" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Daemon d = { 0 };

        daemon_begin(&d, answers);
        g_assert_cmpint(run(cases[i].line), ==, 0);
        assert_contains(d.requests->str, cases[i].request);
        daemon_end(&d);
        g_assert_cmpstr(out->str, ==, cases[i].said);
    }
}

static void test_cancel_and_quit(void)
{
    static const Answer answers[] = {
        { "migrate-cancel", { "{}" } }, { "quit", { "{}" } },
        { NULL, { NULL } },
    };
    Daemon d = { 0 }, e = { 0 };

    daemon_begin(&d, answers);
    g_assert_cmpint(run("multiferry cancel web1"), ==, 0);
    assert_contains(d.requests->str, "migrate-cancel {\"id\":\"web1\"}\n");
    daemon_end(&d);
    daemon_begin(&e, answers);
    g_assert_cmpint(run("multiferry --json quit"), ==, 0);
    daemon_end(&e);
    g_assert_cmpstr(out->str, ==, "{}\n");
}

#define EVENT "{\"event\": \"MIGRATION\", \"data\": {\"id\": \"m1\", " \
    "\"vm\": \"web1\", \"state\": \"failed\", \"error\": \"x\\ny\"}, " \
    "\"timestamp\": {\"seconds\": 1000000000, \"microseconds\": 5}}\r\n"

static void test_events(void)
{
    Daemon d = { .push = EVENT }, e = { .push = EVENT };

    daemon_begin(&d, NULL);
    g_assert_cmpint(run("multiferry events"), ==, CLIENT_SESSION_UNREACHABLE);
    daemon_end(&d);
    g_assert_cmpstr(out->str, ==, "2001-09-09 01:46:40 MIGRATION m1 web1: "
                    "failed: x\\x0ay\n");
    assert_contains(err->str, "lost the connection");
    daemon_begin(&e, NULL);
    g_assert_cmpint(run("multiferry events --json"), ==,
                    CLIENT_SESSION_UNREACHABLE);
    daemon_end(&e);
    g_assert_cmpstr(out->str, ==, "{\"event\":\"MIGRATION\",\"data\":{\"id\":"
        "\"m1\",\"vm\":\"web1\",\"state\":\"failed\",\"error\":\"x\\ny\"},"
        "\"timestamp\":{\"seconds\":1000000000,\"microseconds\":5}}\n");
}

static void add(const char *name, GTestFunc function)
{
    g_autofree char *path = g_strconcat("/daemon/client/", name, NULL);

    g_test_add_func(path, function);
}

int main(int argc, char **argv)
{
    int result;

    g_setenv("TZ", "UTC", TRUE);
    g_setenv("TERM", "dumb", TRUE);
    g_setenv("MULTIFERRY_SOCKET", "unix:/nonexistent/environment", TRUE);
    g_test_init(&argc, &argv, NULL);
    out = g_string_new(NULL);
    err = g_string_new(NULL);
    add("progress/line", test_progress_line);
    add("progress/fits-any-width", test_progress_fits_any_width);
    add("progress/will-not-end", test_progress_will_not_end);
    add("progress/link-down", test_progress_link_down);
    add("progress/without-figures", test_progress_without_figures);
    add("progress/before-ram-is-known", test_progress_before_ram_is_known);
    add("progress/no-estimate-without-convergence",
        test_no_estimate_without_convergence);
    add("summary", test_summary);
    add("summary-without-limit", test_summary_without_limit);
    add("table-aligns", test_table_aligns);
    add("usage-errors", test_usage_errors);
    add("help", test_help);
    add("unreachable", test_unreachable);
    add("migrate/completes", test_migrates);
    add("migrate/fails", test_migrate_fails);
    add("migrate/is-refused", test_migrate_is_refused);
    add("migrate/refusal-does-not-stutter", test_refusal_does_not_stutter);
    add("migrate/json", test_migrate_json);
    add("migrate/detaches", test_migrate_detaches);
    add("migrate/interrupt-cancels", test_interrupt_cancels);
    add("migrate/second-interrupt-leaves", test_second_interrupt_leaves);
    add("migrate/loses-the-daemon", test_migrate_loses_the_daemon);
    add("status", test_status);
    add("status-of-unknown-migration", test_status_of_unknown_migration);
    add("peers", test_peers);
    add("limit-knows-what-is-meant", test_limit_knows_what_is_meant);
    add("cancel-and-quit", test_cancel_and_quit);
    add("events", test_events);
    result = g_test_run();
    g_string_free(out, TRUE);
    g_string_free(err, TRUE);
    return result;
}
