/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-command.h"

#include <string.h>
#include "daemon/client-control.h"
#include "daemon/client-events.h"
#include "daemon/client-inspect.h"
#include "daemon/client-link-test.h"
#include "daemon/client-migrate.h"
#include "daemon/client-query.h"
#include "daemon/client-record.h"
#include "daemon/client-report.h"
#include "daemon/client-service.h"
#include "daemon/client-top.h"

#ifndef MULTIFERRY_VERSION
#define MULTIFERRY_VERSION "unknown"
#endif

#define DEFAULT_SOCKET "unix:/run/multiferry/control.sock"
#define SOCKET_VARIABLE "MULTIFERRY_SOCKET"

static ClientSessionExit run_version(ClientSession *session, char **args);
static ClientSessionExit run_help(ClientSession *session, char **args);

static const ClientCommand commands[] = {
    { "migrate", "VM --to PEER", "Move a VM to a peer's site.",
      client_migrate_entries, 1, 1, client_migrate_run },
    { "status", "[MIGRATION]", "Show migrations, or all about one.",
      NULL, 0, 1, client_query_status },
    { "cancel", "MIGRATION|VM", "Cancel a migration.",
      NULL, 1, 1, client_control_cancel },
    { "start-postcopy", "MIGRATION|VM", "Run the guest at the destination now, "
      "and send the rest of it after.",
      NULL, 1, 1, client_control_start_postcopy },
    { "recover", "VM --to PEER", "Go on with a guest that is in two halves.",
      client_migrate_recover_entries, 1, 1, client_migrate_recover },
    { "limit", "[PEER|MIGRATION|daemon] RATE", "Set a rate limit.",
      NULL, 1, 2, client_control_limit },
    { "peers", "", "Show the peers.", NULL, 0, 0, client_query_peers },
    { "link", "test PEER", "Measure the link to a peer, and say what to turn.",
      client_link_test_entries, 2, 2, client_link_test_run },
    { "top", "", "Show what runs, every second.",
      client_top_entries, 0, 0, client_top_run },
    { "inspect", "MIGRATION|FILE", "Show what is in the traffic, or in a "
      "recording.", client_inspect_entries, 1, 1, client_inspect_run },
    { "record", "MIGRATION", "Record the headers of a migration, as pcapng.",
      client_record_entries, 1, 1, client_record_run },
    { "report", "MIGRATION", "Write an HTML page about a migration.",
      NULL, 1, 1, client_report_run },
    { "history", "[VM|TUNNEL|ID]", "Show migrations that have ended.",
      client_service_history_entries, 0, 1, client_service_history },
    { "metrics", "", "Show the daemon's numbers, for monitoring.",
      client_service_metrics_entries, 0, 0, client_service_metrics },
    { "events", "", "Show events as they come.",
      NULL, 0, 0, client_events_run },
    { "quit", "", "End the daemon when no migration runs any more.",
      client_control_quit_entries, 0, 0, client_control_quit },
    { "version", "", "Show the versions of client and daemon.",
      NULL, 0, 0, run_version },
    { "help", "[COMMAND]", "Show this, or the options of a command.",
      NULL, 0, 1, run_help },
};

static const ClientCommand *find_command(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

/* Where the common options are put; an option's home must be static. */
static struct {
    char *socket;
    gboolean json;
    gboolean version;
    gboolean help;
} common;

static const GOptionEntry common_entries[] = {
    { "socket", 's', 0, G_OPTION_ARG_STRING, &common.socket,
      "The daemon's control socket (default $" SOCKET_VARIABLE " or "
      DEFAULT_SOCKET ")", "ADDRESS" },
    { "json", 'j', 0, G_OPTION_ARG_NONE, &common.json,
      "Print the daemon's own answers", NULL },
    { "version", 'V', 0, G_OPTION_ARG_NONE, &common.version,
      "Print the client's version", NULL },
    { "help", 'h', 0, G_OPTION_ARG_NONE, &common.help, "Show help", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
};

static GOptionContext *new_context(const ClientCommand *command)
{
    g_autofree char *parameters = command ?
        g_strdup_printf("%s %s", command->name, command->arguments) :
        g_strdup("COMMAND [ARGUMENT…]");
    GOptionContext *context = g_option_context_new(parameters);

    /* GLib's own --help would call exit(). */
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_add_main_entries(context, common_entries, NULL);
    if (command && command->entries) {
        g_option_context_add_main_entries(context, command->entries, NULL);
    }
    return context;
}

static char *list_commands(void)
{
    GString *text = g_string_new("Commands:\n");

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_autofree char *usage = g_strdup_printf("%s %s", commands[i].name,
                                                 commands[i].arguments);

        g_string_append_printf(text, "  %-36s %s\n", usage, commands[i].help);
    }
    g_string_append(text, "\nmultiferry(1) says more.");
    return g_string_free(text, FALSE);
}

static void print_help(const ClientCommand *command)
{
    g_autoptr(GOptionContext) context = new_context(command);
    g_autofree char *list = command ? NULL : list_commands();
    g_autofree char *text = NULL;

    if (command) {
        g_option_context_set_summary(context, command->help);
    } else {
        g_option_context_set_summary(context, "Moves running VMs between "
                                     "sites, by way of multiferryd.");
        g_option_context_set_description(context, list);
    }
    text = g_option_context_get_help(context, TRUE, NULL);
    g_print("%s", text);
}

static ClientSessionExit complain_unknown(const char *name)
{
    client_session_complain("got command '%s', expected one that 'multiferry "
                            "help' lists", name);
    return CLIENT_SESSION_USAGE;
}

static ClientSessionExit run_help(ClientSession *session, char **args)
{
    (void)session;
    if (args[0] && !find_command(args[0])) {
        return complain_unknown(args[0]);
    }
    print_help(args[0] ? find_command(args[0]) : NULL);
    return CLIENT_SESSION_OK;
}

static ClientSessionExit run_version(ClientSession *session, char **args)
{
    (void)args;
    if (!session->json) {
        g_print("multiferry %s\n", MULTIFERRY_VERSION);
    }
    return client_query_version(session);
}

/* @strict: stop at the first argument that is no option, the command. */
static bool parse(const ClientCommand *command, bool strict, char ***args)
{
    g_autoptr(GOptionContext) context = new_context(command);
    g_autoptr(GError) error = NULL;

    g_option_context_set_strict_posix(context, strict);
    if (!g_option_context_parse_strv(context, args, &error)) {
        client_session_complain("%s%s%s; see 'multiferry help%s%s'",
                                command ? command->name : "",
                                command ? ": " : "", error->message,
                                command ? " " : "",
                                command ? command->name : "");
        return false;
    }
    return true;
}

static ClientSessionExit run_command(const ClientCommand *command,
                                     char **args)
{
    unsigned n = g_strv_length(args);
    const char *variable = g_getenv(SOCKET_VARIABLE);
    ClientSession session = {
        .address = common.socket ? common.socket :
                   variable && *variable ? variable : DEFAULT_SOCKET,
        .json = common.json,
    };
    ClientSessionExit code;

    if (n < command->min_args || n > command->max_args) {
        client_session_complain("%s: got %u arguments, expected '%s %s'",
                                command->name, n, command->name,
                                command->arguments);
        return CLIENT_SESSION_USAGE;
    }
    code = command->run(&session, args);
    client_session_clear(&session);
    return code;
}

static ClientSessionExit dispatch(char ***args)
{
    const ClientCommand *command = NULL;

    if (!parse(NULL, true, args)) {
        return CLIENT_SESSION_USAGE;
    }
    /* (*args)[0] is the program, [1] the command. */
    if ((*args)[1]) {
        command = find_command((*args)[1]);
        if (!command) {
            return complain_unknown((*args)[1]);
        }
        if (!parse(command, false, args)) {
            return CLIENT_SESSION_USAGE;
        }
    }
    if (common.version) {
        g_print("multiferry %s\n", MULTIFERRY_VERSION);
        return CLIENT_SESSION_OK;
    }
    if (common.help) {
        print_help(command);
        return CLIENT_SESSION_OK;
    }
    if (!command) {
        client_session_complain("got no command, expected one that "
                                "'multiferry help' lists");
        return CLIENT_SESSION_USAGE;
    }
    return run_command(command, *args + 2);
}

int client_command_main(int argc, char **argv)
{
    /* parse_strv() frees what it takes out. */
    char **args = g_new0(char *, (gsize)argc + 1);
    ClientSessionExit code;

    for (int i = 0; i < argc; i++) {
        args[i] = g_strdup(argv[i]);
    }
    code = dispatch(&args);
    g_strfreev(args);
    g_clear_pointer(&common.socket, g_free);
    common.json = common.version = common.help = FALSE;
    return code;
}
