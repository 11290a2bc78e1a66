/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation: the daemon does the work and would go on without us.
 * After `migrate` has given an id we ask for that migration's figures twice a
 * second, and at once when an event speaks of it, until its state is a last
 * one.  ^C cancels and goes on following; a second ^C leaves.
 */
#include "daemon/client-migrate.h"

#include <limits.h>
#include <signal.h>
#include <string.h>
#include <glib-unix.h>
#include "daemon/client-events.h"
#include "daemon/client-format.h"
#include "daemon/client-progress.h"
#include "daemon/client-summary.h"
#include "daemon/convergence.h"
#include "daemon/units.h"

#define POLL_INTERVAL_MS 500u
#define MAX_CHANNELS 255
#define MAX_LANES 64
#define MAX_WEIGHT 1000
#define NOT_GIVEN INT_MIN

/* Where the options are put; an option's home must be static. */
static struct {
    char *to, *as, *rate, *handover, *downtime_limit, *convergence;
    int channels, lanes, destination_channels, weight;
    gboolean detach, postcopy, postcopy_auto;
} options = {
    .channels = NOT_GIVEN, .lanes = NOT_GIVEN,
    .destination_channels = NOT_GIVEN, .weight = NOT_GIVEN,
};

const GOptionEntry client_migrate_entries[] = {
    { "to", 't', 0, G_OPTION_ARG_STRING, &options.to,
      "The peer, or the peer's site (required)", "PEER" },
    { "as", 0, 0, G_OPTION_ARG_STRING, &options.as,
      "What the peer calls the VM (default: the same)", "NAME" },
    { "channels", 0, 0, G_OPTION_ARG_INT, &options.channels,
      "Multifd channels of the source QEMU, 1 to 255", "N" },
    { "lanes", 0, 0, G_OPTION_ARG_INT, &options.lanes,
      "TCP connections over the WAN, 1 to 64", "W" },
    { "destination-channels", 0, 0, G_OPTION_ARG_INT,
      &options.destination_channels,
      "Multifd channels of the destination QEMU, 1 to 255", "K" },
    { "rate", 0, 0, G_OPTION_ARG_STRING, &options.rate,
      "The most that this migration puts on the WAN, such as 500Mbit",
      "RATE" },
    { "weight", 0, 0, G_OPTION_ARG_INT, &options.weight,
      "Share of the peer's rate against its other migrations, 1 to 1000",
      "N" },
    { "handover", 0, 0, G_OPTION_ARG_STRING, &options.handover,
      "Start the guest when the source is known to have stopped for good, or "
      "one round trip earlier", "safe|fast" },
    { "downtime-limit", 0, 0, G_OPTION_ARG_STRING, &options.downtime_limit,
      "QEMU's downtime-limit, such as 300ms", "TIME" },
    { "postcopy", 0, 0, G_OPTION_ARG_NONE, &options.postcopy,
      "Allow for postcopy: 'multiferry start-postcopy' switches to it", NULL },
    { "postcopy-auto", 0, 0, G_OPTION_ARG_NONE, &options.postcopy_auto,
      "Switch to postcopy after the first pass", NULL },
    { "convergence", 0, 0, G_OPTION_ARG_STRING, &options.convergence,
      "What to do when the guest writes faster than its pages leave",
      "continue|cancel|throttle|postcopy" },
    { "detach", 'd', 0, G_OPTION_ARG_NONE, &options.detach,
      "Print the id and leave the migration to the daemon", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
};

typedef struct {
    ClientSession *session;
    GMainLoop *loop;
    ClientProgress progress;
    char *id;
    JsonNode *last;             /* the last answer about it; may be NULL */
    unsigned interrupts;
    ClientSessionExit code;
} Follow;

static void clear_options(void)
{
    g_free(options.to);
    g_free(options.as);
    g_free(options.rate);
    g_free(options.handover);
    g_free(options.downtime_limit);
    g_free(options.convergence);
    memset(&options, 0, sizeof(options));
    options.channels = options.lanes = NOT_GIVEN;
    options.destination_channels = options.weight = NOT_GIVEN;
}

/* --- what is asked for --- */

static bool add_count(JsonObject *arguments, const char *name, int value,
                      int max)
{
    if (value == NOT_GIVEN) {
        return true;
    }
    if (value < 1 || value > max) {
        client_session_complain("migrate: --%s: got %d, expected a number "
                                "from 1 to %d", name, value, max);
        return false;
    }
    json_object_set_int_member(arguments, name, value);
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
        client_session_complain("migrate: --rate: %s", error->message);
        return false;
    }
    json_object_set_string_member(arguments, "rate", options.rate);
    return true;
}

static bool add_handover(JsonObject *arguments)
{
    if (!options.handover) {
        return true;
    }
    if (strcmp(options.handover, "safe") != 0 &&
        strcmp(options.handover, "fast") != 0) {
        client_session_complain("migrate: --handover: got '%s', expected "
                                "safe or fast", options.handover);
        return false;
    }
    json_object_set_string_member(arguments, "handover", options.handover);
    return true;
}

static bool add_convergence(JsonObject *arguments)
{
    ConvergencePolicy unused;

    if (!options.convergence) {
        return true;
    }
    if (!convergence_policy_parse(options.convergence, &unused)) {
        client_session_complain("migrate: --convergence: got '%s', expected "
                                CONVERGENCE_POLICIES, options.convergence);
        return false;
    }
    json_object_set_string_member(arguments, "convergence",
                                  options.convergence);
    return true;
}

static bool add_downtime_limit(JsonObject *arguments)
{
    g_autoptr(GError) error = NULL;
    unsigned ms;

    if (!options.downtime_limit) {
        return true;
    }
    if (!units_parse_time(options.downtime_limit, &ms, &error)) {
        client_session_complain("migrate: --downtime-limit: %s",
                                error->message);
        return false;
    }
    json_object_set_int_member(arguments, "downtime-limit", ms);
    return true;
}

/* NULL: said what is wrong. */
static JsonObject *build_arguments(const char *vm)
{
    g_autoptr(JsonObject) arguments = json_object_new();

    if (!options.to) {
        client_session_complain("migrate: got no --to, expected the peer to "
                                "move '%s' to", vm);
        return NULL;
    }
    json_object_set_string_member(arguments, "vm", vm);
    json_object_set_string_member(arguments, "peer", options.to);
    if (options.as) {
        json_object_set_string_member(arguments, "as", options.as);
    }
    if (options.postcopy) {
        json_object_set_boolean_member(arguments, "postcopy", TRUE);
    }
    if (options.postcopy_auto) {
        json_object_set_boolean_member(arguments, "postcopy-auto", TRUE);
    }
    if (!add_count(arguments, "channels", options.channels, MAX_CHANNELS) ||
        !add_count(arguments, "lanes", options.lanes, MAX_LANES) ||
        !add_count(arguments, "destination-channels",
                   options.destination_channels, MAX_CHANNELS) ||
        !add_count(arguments, "weight", options.weight, MAX_WEIGHT) ||
        !add_rate(arguments) || !add_handover(arguments) ||
        !add_downtime_limit(arguments) || !add_convergence(arguments)) {
        return NULL;
    }
    return g_steal_pointer(&arguments);
}

/* --- following it --- */

static void finish(Follow *self, ClientSessionExit code)
{
    self->code = code;
    g_main_loop_quit(self->loop);
}

static JsonObject *get_migration(JsonNode *answer)
{
    JsonArray *array = json_node_get_array(answer);
    JsonNode *node = json_array_get_length(array) > 0 ?
                     json_array_get_element(array, 0) : NULL;

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) :
                                                  NULL;
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

static void poll_migration(Follow *self)
{
    JsonObject *arguments = json_object_new(), *migration;
    g_autoptr(JsonNode) answer = NULL;
    ClientSessionExit code;

    json_object_set_string_member(arguments, "id", self->id);
    code = client_session_query(self->session, "query-migrations", arguments,
                                JSON_NODE_ARRAY, &answer);
    if (code != CLIENT_SESSION_OK) {
        client_progress_erase(&self->progress);
        client_session_complain("migration %s goes on or ends without us: "
                                "'multiferry status %s'", self->id, self->id);
        finish(self, code);
        return;
    }
    migration = get_migration(answer);
    if (!migration) {
        client_session_complain("migration %s: multiferryd knows it no more",
                                self->id);
        finish(self, CLIENT_SESSION_FAILED);
        return;
    }
    g_clear_pointer(&self->last, json_node_unref);
    self->last = g_steal_pointer(&answer);
    if (is_last_state(client_format_get_string(migration, "state"), &code)) {
        finish(self, code);
    } else {
        client_progress_draw(&self->progress, migration);
    }
}

static gboolean on_timer(gpointer user_data)
{
    Follow *self = user_data;

    if (g_main_loop_is_running(self->loop)) {
        poll_migration(self);
    }
    return G_SOURCE_CONTINUE;
}

static void on_event(const char *name, JsonObject *data, int64_t timestamp_us,
                     gpointer user_data)
{
    Follow *self = user_data;

    (void)timestamp_us;
    if (!g_main_loop_is_running(self->loop)) {
        return;
    }
    /* Without a connection the question fails and says so. */
    if (!name || (strcmp(name, "MIGRATION") == 0 &&
                  g_strcmp0(client_format_get_string(data, "id"),
                            self->id) == 0)) {
        poll_migration(self);
    }
}

static void cancel(Follow *self)
{
    JsonObject *arguments = json_object_new();

    client_session_complain("cancelling migration %s; ^C again leaves it to "
                            "the daemon", self->id);
    json_object_set_string_member(arguments, "id", self->id);
    /* A refusal (it is just completing) has been said; we go on following. */
    if (client_session_execute(self->session, "migrate-cancel", arguments,
                               NULL) == CLIENT_SESSION_UNREACHABLE) {
        finish(self, CLIENT_SESSION_UNREACHABLE);
    }
}

static gboolean on_interrupt(gpointer user_data)
{
    Follow *self = user_data;

    if (!g_main_loop_is_running(self->loop)) {
        return G_SOURCE_CONTINUE;
    }
    client_progress_erase(&self->progress);
    if (self->interrupts++ == 0) {
        cancel(self);
    } else {
        client_session_complain("leaving migration %s to the daemon: "
                                "'multiferry status %s'", self->id, self->id);
        finish(self, CLIENT_SESSION_CANCELLED);
    }
    return G_SOURCE_CONTINUE;
}

static void print_result(Follow *self)
{
    JsonObject *migration = self->last ? get_migration(self->last) : NULL;
    JsonArray *array = self->last ? json_node_get_array(self->last) : NULL;

    if (!migration) {
        return;
    }
    if (self->session->json) {
        client_session_print_json(json_array_get_element(array, 0));
    } else {
        g_autofree char *text = client_summary_to_string(migration);

        g_print("%s", text);
    }
}

static ClientSessionExit follow(ClientSession *session, const char *id)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    Follow self = { .session = session, .loop = loop, .id = g_strdup(id) };
    g_autoptr(ClientEvents) events = NULL;
    guint timer, interrupt;

    client_progress_init(&self.progress, session->json);
    timer = g_timeout_add(POLL_INTERVAL_MS, on_timer, &self);
    interrupt = g_unix_signal_add(SIGINT, on_interrupt, &self);
    events = client_events_new(session, on_event, &self);
    g_main_loop_run(loop);
    g_source_remove(timer);
    g_source_remove(interrupt);
    client_progress_clear(&self.progress);
    print_result(&self);
    g_clear_pointer(&self.last, json_node_unref);
    g_free(self.id);
    return self.code;
}

/* Give the command, which answers with an id, and follow that migration. */
static ClientSessionExit start(ClientSession *session, const char *command,
                               JsonObject *arguments, bool detach)
{
    g_autoptr(JsonNode) answer = NULL;
    ClientSessionExit code;
    const char *id;

    code = client_session_query(session, command, arguments,
                                JSON_NODE_OBJECT, &answer);
    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    id = client_format_get_string(json_node_get_object(answer), "id");
    if (!id) {
        client_session_complain("%s: got an answer without an id", command);
        return CLIENT_SESSION_UNREACHABLE;
    }
    if (!detach) {
        return follow(session, id);
    }
    if (session->json) {
        client_session_print_json(answer);
    } else {
        g_print("%s\n", id);
    }
    return CLIENT_SESSION_OK;
}

ClientSessionExit client_migrate_run(ClientSession *session, char **args)
{
    JsonObject *arguments = build_arguments(args[0]);
    ClientSessionExit code = CLIENT_SESSION_USAGE;

    if (arguments) {
        code = start(session, "migrate", arguments, options.detach);
    }
    clear_options();
    return code;
}

static struct {
    char *to, *as;
    gboolean start, detach;
} recover_options;

const GOptionEntry client_migrate_recover_entries[] = {
    { "to", 't', 0, G_OPTION_ARG_STRING, &recover_options.to,
      "The peer where the other half of the guest is (required)", "PEER" },
    { "as", 0, 0, G_OPTION_ARG_STRING, &recover_options.as,
      "What the peer calls the VM (default: the same)", "NAME" },
    { "start", 0, 0, G_OPTION_ARG_NONE, &recover_options.start,
      "Let the guest run, where it was not running yet", NULL },
    { "detach", 'd', 0, G_OPTION_ARG_NONE, &recover_options.detach,
      "Print the id and leave the migration to the daemon", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
};

static JsonObject *build_recover_arguments(const char *vm)
{
    JsonObject *arguments = json_object_new();

    json_object_set_string_member(arguments, "vm", vm);
    json_object_set_string_member(arguments, "peer", recover_options.to);
    json_object_set_boolean_member(arguments, "start", recover_options.start);
    if (recover_options.as) {
        json_object_set_string_member(arguments, "as", recover_options.as);
    }
    return arguments;
}

ClientSessionExit client_migrate_recover(ClientSession *session, char **args)
{
    ClientSessionExit code = CLIENT_SESSION_USAGE;

    if (recover_options.to) {
        code = start(session, "migrate-recover",
                     build_recover_arguments(args[0]), recover_options.detach);
    } else {
        client_session_complain("recover: got no --to, expected the peer where "
                                "the other half of '%s' is", args[0]);
    }
    g_free(recover_options.to);
    g_free(recover_options.as);
    memset(&recover_options, 0, sizeof(recover_options));
    return code;
}
