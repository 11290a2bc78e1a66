/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/main.c - options, start and end of multiferryd
 *
 * Exit status: 0 ended as asked, 1 could not start, 2 wrong usage or
 * configuration.
 */
#include <glib-unix.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "daemon/control.h"
#include "daemon/last-words.h"
#include "daemon/link-path.h"
#include "daemon/link-server.h"
#include "daemon/link-tests.h"
#include "daemon/log.h"
#include "daemon/metrics-http.h"
#include "daemon/migration-contact.h"
#include "daemon/registry.h"
#include "daemon/reload.h"
#include "daemon/service.h"
#include "daemon/tunnels.h"
#include "daemon/worker.h"

enum {
    EXIT_STARTUP = 1,
    EXIT_USAGE = 2,
    BACKLOG = 128,
    CONTROL_MODE = 0660,
    LAST_EVENTS_US = 200 * 1000,
};

typedef struct {
    char *config_file;
    char **overrides;
    char **tunnels;
    char *control;
    gboolean check, debug, version;
} Options;

/* All that runs, in the order it was made. */
typedef struct {
    const Options *options;
    Config *config;                 /* with which it was started */
    Daemon daemon;
    RateClock *rate_clock;
    GMainLoop *loop;
    Access access;
    Drain *drain;
    Expiry *expiry;
    char *link_address;
    LinkServer *link_server;
    Tunnels *tunnels;
    char *metrics_address;
    MetricsHttp *metrics_http;
    bool own_metrics_socket;        /* not systemd's */
    Control *control;
    bool own_control_socket;        /* likewise */
} Service;

/* ---- options ---------------------------------------------------------------------- */

static bool parse_options(int *argc, char ***argv, Options *ret, GError **error)
{
    const GOptionEntry entries[] = {
        { "config", 'c', 0, G_OPTION_ARG_FILENAME, &ret->config_file,
          "Read this configuration", "FILE" },
        { "set", 's', 0, G_OPTION_ARG_STRING_ARRAY, &ret->overrides,
          "Set one key, over the file's; may be repeated",
          "'GROUP.KEY=VALUE'" },
        { "tunnel", 't', 0, G_OPTION_ARG_STRING_ARRAY, &ret->tunnels,
          "Add a tunnel; may be repeated", "listen=ADDRESS,connect=ADDRESS,…" },
        { "control", 0, 0, G_OPTION_ARG_STRING, &ret->control,
          "Listen for control connections here", "ADDRESS" },
        { "check", 0, 0, G_OPTION_ARG_NONE, &ret->check,
          "Print the configuration as understood, and end", NULL },
        { "debug", 'd', 0, G_OPTION_ARG_NONE, &ret->debug,
          "Log what is only of use to developers, too", NULL },
        { "version", 0, 0, G_OPTION_ARG_NONE, &ret->version,
          "Print the version, and end", NULL },
        { 0 },
    };
    g_autoptr(GOptionContext) context =
        g_option_context_new("- carry QEMU live migrations across a WAN");

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, error)) {
        return false;
    }
    if (*argc > 1) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "got argument '%s', expected options only", (*argv)[1]);
        return false;
    }
    return true;
}

static void clear_options(Options *self)
{
    g_free(self->config_file);
    g_strfreev(self->overrides);
    g_strfreev(self->tunnels);
    g_free(self->control);
}

static Config *load_config(const Options *options, GError **error)
{
    g_autoptr(GPtrArray) overrides = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; options->overrides && options->overrides[i]; i++) {
        g_ptr_array_add(overrides, g_strdup(options->overrides[i]));
    }
    if (options->control) {
        g_ptr_array_add(overrides, g_strdup_printf("daemon.control=%s",
                                                   options->control));
    }
    g_ptr_array_add(overrides, NULL);
    return config_load(options->config_file,
                       (const char *const *)overrides->pdata,
                       (const char *const *)options->tunnels, error);
}

/* ---- what is shared ------------------------------------------------------------------ */

static void make_daemon(Service *self)
{
    Daemon *daemon = &self->daemon;

    daemon_init(daemon, self->config);
    worker_set_limits(self->config->nice, self->config->threads);
    daemon->credentials = credentials_new();
    daemon->registry = registry_new(self->config);
    daemon->peer_status = peer_status_new();
    daemon->last_words = last_words_new(daemon);
    link_instance_make(daemon->instance);
    daemon->link_tests = link_tests_new(daemon);
}

/* A wrong file is found at the start, not with the first migration. */
static bool load_credentials(Service *self, GError **error)
{
    g_autoptr(TlsCredentials) credentials = NULL;

    if (!self->config->has_tls) {
        return true;
    }
    credentials = daemon_get_link_credentials(&self->daemon, self->config, error);
    return credentials != NULL;
}

/* ---- sockets --------------------------------------------------------------------------- */

static TlsCredentials *get_link_credentials(void *data)
{
    g_autoptr(Config) config = daemon_ref_config(data);
    g_autoptr(GError) error = NULL;
    TlsCredentials *credentials = daemon_get_link_credentials(data, config, &error);

    g_assert(credentials);      /* loaded at the start, kept by reloads */
    return credentials;
}

static Config *get_link_config(const LinkHello *hello, void *data)
{
    return migration_contact_ref_config(data, hello);
}

static bool take_lane(Stream **stream, const LinkHello *hello, Config *config,
                      const ConfigPeer *peer, void *data, GError **error)
{
    Daemon *daemon = data;

    if (link_lane_role_is_test(hello->role)) {
        return link_tests_take_lane(daemon->link_tests, stream, hello, config,
                                    peer, error);
    }
    return migration_contact_take_lane(daemon, stream, hello, config, peer,
                                       error);
}

static bool start_link(Service *self, GError **error)
{
    LinkServerSetup setup = {
        .get_config = get_link_config,
        .get_credentials = get_link_credentials,
        .handler = take_lane,
        .data = &self->daemon,
    };
    g_autoptr(Address) bound = NULL;
    int fd = service_take_socket("link");

    if (fd < 0 && self->config->listen_link) {
        fd = link_path_listen(self->config->listen_link, self->config->peers,
                              BACKLOG, error);
        if (fd < 0) {
            g_prefix_error(error, "[listen] link: ");
            return false;
        }
    }
    if (fd < 0) {
        return true;
    }
    bound = address_of_listener(fd, error);
    if (!bound || !self->config->has_tls) {
        if (bound) {
            g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                        "[listen] link: needs [tls] directory");
        }
        close(fd);
        return false;
    }
    self->link_address = g_strdup(bound->text);
    self->link_server = link_server_new(fd, &setup);
    log_info(LOG_ABOUT(LOG_EVENT_LISTENING), "listening for peers at %s", self->link_address);
    return true;
}

static bool start_tunnels(Service *self, GError **error)
{
    self->tunnels = tunnels_new(&self->daemon);
    if (!tunnels_prepare(self->tunnels, self->config, error)) {
        return false;
    }
    tunnels_apply(self->tunnels);
    return true;
}

static bool start_metrics(Service *self, GError **error)
{
    const Address *address = self->config->metrics_http;
    g_autoptr(Address) bound = NULL;
    int fd = service_take_socket("metrics");

    if (fd < 0 && address) {
        fd = address_listen(address, BACKLOG, CONTROL_MODE, error);
        self->own_metrics_socket = fd >= 0;
        if (fd < 0) {
            g_prefix_error(error, "[daemon] metrics-http: ");
            return false;
        }
    }
    if (fd < 0) {
        return true;
    }
    bound = address_of_listener(fd, error);
    self->metrics_http = bound ? metrics_http_new(&self->daemon, fd, error) : NULL;
    if (!self->metrics_http) {
        g_prefix_error(error, "[daemon] metrics-http: ");
        return false;
    }
    self->metrics_address = g_strdup(bound->text);
    log_info(LOG_ABOUT(LOG_EVENT_LISTENING), "metrics by HTTP at %s",
             self->metrics_address);
    return true;
}

static bool start_control(Service *self, GError **error)
{
    ControlSetup setup = {
        .daemon = &self->daemon,
        .drain = self->drain,
        .access = &self->access,
        .link_address = self->link_address,
        .metrics_address = self->metrics_address,
        .tunnels = tunnels_list(self->tunnels),
    };
    int fd;

    if (!access_init(&self->access, self->config->control_group, error)) {
        return false;
    }
    if (self->config->control->kind != ADDRESS_UNIX) {
        log_warning(LOG_ABOUT(LOG_EVENT_ACCESS_OPEN), "control socket: everybody "
                    "who can connect to %s may move guests; a unix socket asks "
                    "who it is", self->config->control->text);
    }
    fd = service_take_socket("control");
    if (fd < 0) {
        fd = address_listen(self->config->control, BACKLOG, CONTROL_MODE,
                            error);
        self->own_control_socket = fd >= 0;
    }
    if (fd < 0) {
        g_prefix_error(error, "[daemon] control: ");
        return false;
    }
    self->control = control_new(&setup, fd, error);
    return self->control != NULL;
}

/* ---- signals ----------------------------------------------------------------------------- */

static void check_certificates(Service *self)
{
    expiry_check(self->expiry, g_get_real_time() / G_USEC_PER_SEC);
}

static gboolean handle_stop(void *data)
{
    drain_begin(data);
    return G_SOURCE_CONTINUE;
}

static Config *load_again(void *data, GError **error)
{
    return load_config(data, error);
}

static gboolean handle_reload(void *data)
{
    Service *self = data;
    ReloadSetup setup = {
        .daemon = &self->daemon,
        .tunnels = self->tunnels,
        .rate_clock = self->rate_clock,
        .drain = self->drain,
        .expiry = self->expiry,
        .link_server = self->link_server,
        .file = self->options->config_file,
        .load = load_again,
        .data = (void *)self->options,
    };

    if (drain_is_active(self->drain)) {
        log_info(NULL, "reload: not any more, the daemon is stopping");
        return G_SOURCE_CONTINUE;
    }
    service_reloading();
    reload_run(&setup);
    service_ready();
    return G_SOURCE_CONTINUE;
}

/* ---- running ------------------------------------------------------------------------------- */

/* Without a place of our own there is none: where systemd says, if it says so. */
static bool start_history(Service *self, GError **error)
{
    const char *directory = self->config->state_directory;

    if (!directory) {
        directory = g_getenv("STATE_DIRECTORY");
    }
    if (!directory || !*directory || self->config->history == 0) {
        return true;
    }
    self->daemon.history = history_new(directory, self->config->history, error);
    if (!self->daemon.history) {
        g_prefix_error(error, "[daemon] state-directory: ");
    }
    return self->daemon.history != NULL;
}

static bool start(Service *self, GError **error)
{
    make_daemon(self);
    self->rate_clock = rate_clock_new(&self->daemon);
    self->drain = drain_new(self->daemon.registry, self->loop,
                            self->config->timeouts.drain_ms);
    if (!load_credentials(self, error)) {
        return false;
    }
    if (g_mkdir_with_parents(self->config->runtime_directory, 0750) < 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "[daemon] runtime-directory: cannot make '%s': %s",
                    self->config->runtime_directory, g_strerror(errno));
        return false;
    }
    return start_history(self, error) && start_link(self, error) &&
           start_tunnels(self, error) && start_metrics(self, error) &&
           start_control(self, error);
}

/* Not for longer than clients that go on talking would like. */
static void send_last_events(void)
{
    int64_t deadline_us = g_get_monotonic_time() + LAST_EVENTS_US;

    while (g_main_context_iteration(NULL, FALSE) &&
           g_get_monotonic_time() < deadline_us) {
    }
}

/* Reverse of start(); whatever of it there is. */
static void stop(Service *self)
{
    metrics_http_free(self->metrics_http);
    if (self->own_metrics_socket &&
        self->config->metrics_http->kind == ADDRESS_UNIX) {
        unlink(self->config->metrics_http->host);
    }
    link_server_free(self->link_server);
    link_tests_stop(self->daemon.link_tests);
    registry_stop(self->daemon.registry);
    if (self->own_control_socket &&
        self->config->control->kind == ADDRESS_UNIX) {
        unlink(self->config->control->host);
    }
    send_last_events();
    control_free(self->control);
    tunnels_free(self->tunnels);
    registry_join(self->daemon.registry);
    last_words_free(self->daemon.last_words);
    drain_free(self->drain);
    send_last_events();     /* to nobody any more: frees them */
    rate_clock_free(self->rate_clock);
    registry_free(self->daemon.registry);
    link_tests_free(self->daemon.link_tests);
    peer_status_free(self->daemon.peer_status);
    expiry_free(self->expiry);
    credentials_free(self->daemon.credentials);
    history_free(self->daemon.history);
    daemon_clear(&self->daemon);
    g_free(self->metrics_address);
    g_free(self->link_address);
}

static int run(const Options *options, Config *config)
{
    Service self = { .options = options, .config = config };
    g_autoptr(GError) error = NULL;
    int status = EXIT_SUCCESS;

    self.loop = g_main_loop_new(NULL, FALSE);
    service_init();
    if (start(&self, &error)) {
        service_close_unused();
        g_unix_signal_add(SIGTERM, handle_stop, self.drain);
        g_unix_signal_add(SIGINT, handle_stop, self.drain);
        g_unix_signal_add(SIGHUP, handle_reload, &self);
        self.expiry = expiry_new(self.daemon.credentials);
        check_certificates(&self);
        service_start_watchdog();
        service_ready();
        log_info(LOG_ABOUT(LOG_EVENT_READY), "multiferryd %s (%s) is ready",
                 MULTIFERRY_VERSION, config->name);
        g_main_loop_run(self.loop);
        service_stop_watchdog();
    } else {
        log_error(LOG_ABOUT(LOG_EVENT_START_FAILED), "%s", error->message);
        status = EXIT_STARTUP;
    }
    stop(&self);
    g_main_loop_unref(self.loop);
    return status;
}

static int start_with(const Options *options)
{
    g_autoptr(Config) config = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    config = load_config(options, &error);
    if (!config) {
        fprintf(stderr, "multiferryd: %s\n", error->message);
        return EXIT_USAGE;
    }
    if (options->check) {
        text = config_to_string(config);
        fputs(text, stdout);
        return EXIT_SUCCESS;
    }
    log_init(options->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    return run(options, config);
}

int main(int argc, char **argv)
{
    Options options = { 0 };
    g_autoptr(GError) error = NULL;
    int status;

    setlocale(LC_ALL, "");
    signal(SIGPIPE, SIG_IGN);
    if (!parse_options(&argc, &argv, &options, &error)) {
        fprintf(stderr, "multiferryd: %s\n", error->message);
        status = EXIT_USAGE;
    } else if (options.version) {
        printf("multiferryd " MULTIFERRY_VERSION "\nbuilt %s metrics by HTTP\n",
               metrics_http_is_built_in() ? "with" : "without");
        status = EXIT_SUCCESS;
    } else {
        status = start_with(&options);
    }
    clear_options(&options);
    return status;
}
