/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation: as with a migration, the daemon does the work.  We ask what
 * it has found twice a second, until that is all.  ^C cancels and shows what was
 * found up to then; a second ^C leaves.
 */
#include "daemon/client-link-test.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <glib-unix.h>
#include "daemon/client-format.h"
#include "daemon/units.h"

#define POLL_INTERVAL_MS 300u

/* An option's home must be static. */
static struct {
    gboolean reverse, ignore_limit;
    int lanes;
    char *time, *rate;
} options;

const GOptionEntry client_link_test_entries[] = {
    { "reverse", 'R', 0, G_OPTION_ARG_NONE, &options.reverse,
      "Let the peer send, and receive", NULL },
    { "lanes", 0, 0, G_OPTION_ARG_INT, &options.lanes,
      "Try up to W lanes, 1 to 64", "W" },
    { "time", 0, 0, G_OPTION_ARG_STRING, &options.time,
      "Send so long with each number of lanes (default 3s)", "TIME" },
    { "rate", 0, 0, G_OPTION_ARG_STRING, &options.rate,
      "Send no faster than this", "RATE" },
    { "ignore-limit", 0, 0, G_OPTION_ARG_NONE, &options.ignore_limit,
      "Do not keep to the daemon's and the peer's rate limit", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
};

typedef struct {
    ClientSession *session;
    GMainLoop *loop;
    char *id;
    JsonNode *last;             /* the last answer about it; may be NULL */
    char *shown;                /* the last line of progress */
    bool quiet, terminal;
    unsigned interrupts;
    ClientSessionExit code;
} Follow;

/* ---- what was found --------------------------------------------------------- */

static char *format_ms(JsonObject *rtt, const char *member)
{
    if (!client_format_has(rtt, member)) {
        return g_strdup("-");
    }
    return g_strdup_printf("%.1f ms", client_format_get_double(rtt, member));
}

static void append_idle(GString *text, JsonObject *test)
{
    JsonObject *idle = client_format_get_object(test, "idle");
    g_autofree char *median = NULL, *min = NULL, *max = NULL, *jitter = NULL;

    if (!idle || !client_format_has(idle, "median-ms")) {
        return;
    }
    median = format_ms(idle, "median-ms");
    min = format_ms(idle, "min-ms");
    max = format_ms(idle, "max-ms");
    jitter = format_ms(idle, "jitter-ms");
    g_string_append_printf(text, "round trip, idle: %s (%s to %s, jitter %s)\n",
                           median, min, max, jitter);
}

static char *format_loss(JsonObject *step)
{
    uint64_t segments = client_format_get_number(step, "segments");
    uint64_t again = client_format_get_number(step, "retransmits");

    return segments == 0 ? g_strdup("-") :
           g_strdup_printf("%.2f %%", 100.0 * again / segments);
}

static void add_step(GPtrArray *rows, JsonObject *step)
{
    JsonObject *rtt = client_format_get_object(step, "rtt");
    g_autoptr(JsonObject) none = json_object_new();
    char **row = g_new0(char *, 7);

    rtt = rtt ? rtt : none;
    row[0] = g_strdup_printf("%" PRIu64, client_format_get_number(step, "lanes"));
    row[1] = units_format_rate(client_format_get_number(step, "rate"));
    row[2] = format_loss(step);
    row[3] = format_ms(rtt, "median-ms");
    row[4] = format_ms(rtt, "max-ms");
    row[5] = format_ms(rtt, "jitter-ms");
    g_ptr_array_add(rows, row);
}

static void append_steps(GString *text, JsonObject *test)
{
    static const char *const titles[] = {
        "LANES", "GOODPUT", "SENT AGAIN", "ROUND TRIP", "LONGEST", "JITTER", NULL
    };
    JsonArray *steps = client_format_get_array(test, "steps");
    g_autoptr(GPtrArray) rows =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    g_autofree char *table = NULL;

    for (unsigned i = 0; i < client_format_get_length(steps); i++) {
        JsonObject *step = client_format_object_at(steps, i);

        if (step) {
            add_step(rows, step);
        }
    }
    if (rows->len > 0) {
        table = client_format_table(titles, rows);
        g_string_append(text, table);
    }
}

static void append_path(GString *text, JsonObject *path)
{
    g_autofree char *address = client_format_escape(
        client_format_get_string(path, "address"));
    g_autofree char *local = client_format_escape(
        client_format_get_string(path, "local"));
    uint64_t lanes = client_format_get_number(path, "lanes");

    g_string_append_printf(text, "path: %s to %s, %" PRIu64 " lane%s", local,
                           address, lanes, lanes == 1 ? "" : "s");
    if (client_format_has(path, "mtu")) {
        g_string_append_printf(text, ", MTU %" PRIu64 ", segments of %" PRIu64
                               " bytes",
                               client_format_get_number(path, "mtu"),
                               client_format_get_number(path, "mss"));
    }
    g_string_append_c(text, '\n');
}

static void append_paths(GString *text, JsonObject *test)
{
    JsonArray *paths = client_format_get_array(test, "paths");

    for (unsigned i = 0; i < client_format_get_length(paths); i++) {
        JsonObject *path = client_format_object_at(paths, i);

        if (path) {
            append_path(text, path);
        }
    }
}

/* What a core does in a second, in bits like the goodput. */
static void append_tls(GString *text, JsonObject *test)
{
    JsonObject *tls = client_format_get_object(test, "tls");
    g_autofree char *cipher = NULL, *here = NULL, *there = NULL;
    g_autofree char *algorithm = client_format_escape(
        client_format_get_string(test, "congestion-control"));

    if (tls) {
        cipher = client_format_escape(client_format_get_string(tls, "cipher"));
        here = units_format_rate(client_format_get_number(tls, "rate-here"));
        there = units_format_rate(client_format_get_number(tls, "rate-there"));
        g_string_append_printf(text, "TLS: %s, one core does %s here, %s there\n",
                               cipher, here, there);
    }
    if (client_format_has(test, "congestion-control")) {
        g_string_append_printf(text, "congestion control: %s\n", algorithm);
    }
}

static void append_list(GString *text, JsonObject *test, const char *member,
                        const char *title)
{
    JsonArray *list = client_format_get_array(test, member);

    for (unsigned i = 0; i < client_format_get_length(list); i++) {
        g_autofree char *line = client_format_escape(
            client_format_string_at(list, i));

        g_string_append_printf(text, "%s: %s\n", title, line);
    }
}

char *client_link_test_to_string(JsonObject *test)
{
    GString *text = g_string_new(NULL);
    g_autofree char *peer = client_format_escape(
        client_format_get_string(test, "peer"));
    g_autofree char *state = client_format_escape(
        client_format_get_string(test, "state"));
    g_autofree char *error = client_format_escape(
        client_format_get_string(test, "error"));
    bool reverse = client_format_get_flag(test, "reverse");

    g_string_append_printf(text, "link test %s %s: %s%s%s\n",
                           reverse ? "from" : "to", peer, state,
                           client_format_has(test, "error") ? ": " : "",
                           client_format_has(test, "error") ? error : "");
    append_list(text, test, "warnings", "warning");
    append_idle(text, test);
    append_steps(text, test);
    append_paths(text, test);
    append_tls(text, test);
    append_list(text, test, "advice", "advice");
    return g_string_free(text, FALSE);
}

/* ---- following it ----------------------------------------------------------- */

static void finish(Follow *self, ClientSessionExit code)
{
    self->code = code;
    g_main_loop_quit(self->loop);
}

static JsonObject *get_test(JsonNode *answer)
{
    return client_format_object_at(json_node_get_array(answer), 0);
}

static void erase(Follow *self)
{
    if (self->terminal && self->shown) {
        g_printerr("\r\033[K");
    }
}

static char *describe_progress(JsonObject *test)
{
    const char *state = client_format_get_string(test, "state");
    uint64_t lanes = client_format_get_number(test, "lanes-now");

    if (lanes > 0) {
        return g_strdup_printf("testing: %" PRIu64 " lane%s", lanes,
                               lanes == 1 ? "" : "s");
    }
    return g_strdup_printf("testing: %s", g_strcmp0(state, "idle") == 0
                           ? "round trips of the idle link" : "connecting");
}

static void draw(Follow *self, JsonObject *test)
{
    g_autofree char *line = describe_progress(test);

    if (self->quiet || g_strcmp0(line, self->shown) == 0) {
        return;
    }
    erase(self);
    g_printerr("%s%s", line, self->terminal ? "" : "\n");
    g_free(self->shown);
    self->shown = g_steal_pointer(&line);
}

/* Whether @state is a last one, and what the shell is told then. */
static bool is_last_state(const char *state, ClientSessionExit *ret_code)
{
    static const struct {
        const char *name;
        ClientSessionExit code;
    } last[] = {
        { "completed", CLIENT_SESSION_OK },
        { "failed", CLIENT_SESSION_FAILED },
        { "cancelled", CLIENT_SESSION_CANCELLED },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(last); i++) {
        if (g_strcmp0(state, last[i].name) == 0) {
            *ret_code = last[i].code;
            return true;
        }
    }
    return false;
}

static gboolean poll_test(gpointer user_data)
{
    Follow *self = user_data;
    JsonObject *arguments, *test;
    g_autoptr(JsonNode) answer = NULL;
    ClientSessionExit code;

    if (!g_main_loop_is_running(self->loop)) {
        return G_SOURCE_CONTINUE;
    }
    arguments = json_object_new();
    json_object_set_string_member(arguments, "id", self->id);
    code = client_session_query(self->session, "query-link-tests", arguments,
                                JSON_NODE_ARRAY, &answer);
    test = code == CLIENT_SESSION_OK ? get_test(answer) : NULL;
    if (!test) {
        finish(self, code == CLIENT_SESSION_OK ? CLIENT_SESSION_UNREACHABLE
                                               : code);
        return G_SOURCE_CONTINUE;
    }
    g_clear_pointer(&self->last, json_node_unref);
    self->last = g_steal_pointer(&answer);
    if (is_last_state(client_format_get_string(test, "state"), &code)) {
        finish(self, code);
    } else {
        draw(self, test);
    }
    return G_SOURCE_CONTINUE;
}

static gboolean on_interrupt(gpointer user_data)
{
    Follow *self = user_data;
    JsonObject *arguments;

    erase(self);
    if (self->interrupts++ > 0) {
        client_session_complain("leaving the link test to the daemon");
        finish(self, CLIENT_SESSION_CANCELLED);
        return G_SOURCE_CONTINUE;
    }
    arguments = json_object_new();
    json_object_set_string_member(arguments, "id", self->id);
    /* What else there may be wrong, the next question says. */
    if (client_session_execute(self->session, "link-test-cancel", arguments,
                               NULL) == CLIENT_SESSION_UNREACHABLE) {
        finish(self, CLIENT_SESSION_UNREACHABLE);
    }
    return G_SOURCE_CONTINUE;
}

static void print_result(Follow *self)
{
    JsonObject *test = self->last ? get_test(self->last) : NULL;
    g_autofree char *text = NULL;

    if (!test) {
        return;
    }
    if (self->session->json) {
        client_session_print_json(json_array_get_element(
            json_node_get_array(self->last), 0));
        return;
    }
    text = client_link_test_to_string(test);
    g_print("%s", text);
}

static ClientSessionExit follow(ClientSession *session, const char *id)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    const char *kind = g_getenv("TERM");
    Follow self = {
        .session = session, .loop = loop, .id = g_strdup(id),
        .quiet = session->json,
        .terminal = isatty(STDERR_FILENO) && kind && strcmp(kind, "dumb") != 0,
    };
    guint timer = g_timeout_add(POLL_INTERVAL_MS, poll_test, &self);
    guint interrupt = g_unix_signal_add(SIGINT, on_interrupt, &self);

    g_main_loop_run(loop);
    g_source_remove(timer);
    g_source_remove(interrupt);
    erase(&self);
    print_result(&self);
    g_clear_pointer(&self.last, json_node_unref);
    g_free(self.shown);
    g_free(self.id);
    return self.code;
}

/* ---- asking for it ---------------------------------------------------------- */

static bool add_time(JsonObject *arguments)
{
    g_autoptr(GError) error = NULL;
    unsigned ms;

    if (!options.time) {
        return true;
    }
    if (!units_parse_time(options.time, &ms, &error)) {
        client_session_complain("link test: --time: %s", error->message);
        return false;
    }
    json_object_set_int_member(arguments, "time", ms);
    return true;
}

static bool add_rate(JsonObject *arguments)
{
    g_autoptr(GError) error = NULL;
    uint64_t unused;

    if (!options.rate) {
        return true;
    }
    if (!units_parse_rate(options.rate, &unused, &error)) {
        client_session_complain("link test: --rate: %s", error->message);
        return false;
    }
    json_object_set_string_member(arguments, "rate", options.rate);
    return true;
}

/* NULL: said what is wrong. */
static JsonObject *build_arguments(const char *peer)
{
    g_autoptr(JsonObject) arguments = json_object_new();

    json_object_set_string_member(arguments, "peer", peer);
    if (options.lanes != 0) {
        json_object_set_int_member(arguments, "lanes", options.lanes);
    }
    if (options.reverse) {
        json_object_set_boolean_member(arguments, "reverse", TRUE);
    }
    if (options.ignore_limit) {
        json_object_set_boolean_member(arguments, "ignore-limit", TRUE);
    }
    return add_time(arguments) && add_rate(arguments)
           ? g_steal_pointer(&arguments) : NULL;
}

static ClientSessionExit test(ClientSession *session, JsonObject *arguments)
{
    g_autoptr(JsonNode) answer = NULL;
    ClientSessionExit code = client_session_query(
        session, "link-test", arguments, JSON_NODE_OBJECT, &answer);
    const char *id;

    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    id = client_format_get_string(json_node_get_object(answer), "id");
    if (!id) {
        client_session_complain("link-test: got an answer without an id");
        return CLIENT_SESSION_UNREACHABLE;
    }
    return follow(session, id);
}

ClientSessionExit client_link_test_run(ClientSession *session, char **args)
{
    ClientSessionExit code = CLIENT_SESSION_USAGE;
    JsonObject *arguments;

    if (strcmp(args[0], "test") != 0) {
        client_session_complain("link: got '%s', expected 'link test PEER'",
                                args[0]);
    } else if ((arguments = build_arguments(args[1]))) {
        code = test(session, arguments);
    }
    g_free(options.time);
    g_free(options.rate);
    memset(&options, 0, sizeof(options));
    return code;
}
