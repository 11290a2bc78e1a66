/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/control.h"

#include <stdio.h>
#include <unistd.h>

#include "daemon/control-link-test.h"
#include "daemon/control-migration.h"
#include "daemon/control-peers.h"
#include "daemon/control-recording.h"
#include "daemon/control-service.h"
#include "daemon/registry.h"
#include "daemon/service.h"
#include "daemon/tunnel.h"
#include "qmp/message.h"
#include "qmp/server.h"

struct Control {
    ControlSetup setup;
    QmpServer *server;
    int64_t start_us;
    unsigned tick;              /* GSource id */
    unsigned shown;             /* migrations, in the service's status */
};

/* ---- queries -------------------------------------------------------------------------- */

static JsonObject *tunnel_to_json(const Tunnel *tunnel)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "name", tunnel_get_name(tunnel));
    json_object_set_string_member(object, "address",
                                  tunnel_get_address(tunnel)->text);
    return object;
}

static void add_listeners(Control *self, JsonObject *ret)
{
    JsonArray *tunnels = json_array_new();
    JsonObject *link;

    if (self->setup.link_address) {
        link = json_object_new();
        json_object_set_string_member(link, "address",
                                      self->setup.link_address);
        json_object_set_object_member(ret, "link", link);
    }
    if (self->setup.metrics_address) {
        json_object_set_string_member(ret, "metrics-http",
                                      self->setup.metrics_address);
    }
    for (unsigned i = 0; i < self->setup.tunnels->len; i++) {
        json_array_add_object_element(tunnels, tunnel_to_json(
            g_ptr_array_index(self->setup.tunnels, i)));
    }
    json_object_set_array_member(ret, "tunnels", tunnels);
}

static JsonNode *do_query_status(QmpServerSession *session, JsonObject *args,
                                 gpointer data, GError **error)
{
    Control *self = data;
    Daemon *daemon = self->setup.daemon;
    g_autoptr(Config) config = daemon_ref_config(daemon);
    JsonObject *ret = json_object_new();

    (void)session;
    (void)args;
    (void)error;
    json_object_set_string_member(ret, "name", config->name);
    json_object_set_boolean_member(ret, "running", TRUE);
    json_object_set_string_member(ret, "version", MULTIFERRY_VERSION);
    json_object_set_string_member(ret, "control",
                                  config->control->text);
    json_object_set_boolean_member(ret, "draining",
                                   drain_is_active(self->setup.drain));
    json_object_set_int_member(ret, "migrations",
                               registry_count_running(daemon->registry));
    json_object_set_int_member(ret, "uptime-ms",
                               (g_get_monotonic_time() - self->start_us) / 1000);
    json_object_set_int_member(ret, "rate-limit",
                               limiter_get_rate(daemon->limiter));
    add_listeners(self, ret);
    json_object_set_array_member(ret, "certificates",
                                 control_service_certificates(daemon));
    return qmp_message_take_object(ret);
}

static JsonNode *do_query_peers(QmpServerSession *session, JsonObject *args,
                                gpointer data, GError **error)
{
    Control *self = data;
    g_autoptr(Config) config = daemon_ref_config(self->setup.daemon);
    GPtrArray *peers = config->peers;
    JsonArray *ret = json_array_new();

    (void)session;
    (void)args;
    (void)error;
    for (unsigned i = 0; i < peers->len; i++) {
        json_array_add_object_element(ret, control_peers_to_json(
            self->setup.daemon, g_ptr_array_index(peers, i)));
    }
    return qmp_message_take_array(ret);
}

static JsonNode *do_quit(QmpServerSession *session, JsonObject *args,
                         gpointer data, GError **error)
{
    Control *self = data;
    bool now = false;

    (void)session;
    (void)error;
    if (qmp_message_get_bool(args, "now", &now) && now) {
        drain_end_now(self->setup.drain);
    } else {
        drain_begin(self->setup.drain);
    }
    return NULL;
}

/* ---- tables --------------------------------------------------------------------------- */

static const QmpArg quit_args[] = { { "now", QMP_TYPE_BOOL, true } };

static const QmpCommand commands[] = {
    { "query-peers", do_query_peers, NULL, 0, 0, "the configured peers" },
    { "query-status", do_query_status, NULL, 0, 0, "the daemon itself" },
    { "quit", do_quit, quit_args, G_N_ELEMENTS(quit_args), 0,
      "take no new migration, and end when none runs any more" },
};

/* ---- life ------------------------------------------------------------------------------- */

static void broadcast(const char *event, JsonObject *data, void *sink_data)
{
    Control *self = sink_data;

    qmp_server_broadcast(self->server, event, data);
}

static gboolean tick(void *data)
{
    Control *self = data;

    unsigned running = registry_count_running(self->setup.daemon->registry);

    registry_tick(self->setup.daemon->registry);
    if (running != self->shown && !drain_is_active(self->setup.drain)) {
        self->shown = running;
        service_status("%u migrations running", running);
    }
    return G_SOURCE_CONTINUE;
}

static QmpServer *make_server(Control *self)
{
    unsigned major = 0, minor = 0, micro = 0;
    QmpServerInfo info = { .name = "multiferry", .package = "" };
    QmpServer *server;

    sscanf(MULTIFERRY_VERSION, "%u.%u.%u", &major, &minor, &micro);
    info.major = major;
    info.minor = minor;
    info.micro = micro;
    server = qmp_server_new(&info);
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        qmp_server_add_command(server, &commands[i], self);
    }
    qmp_server_set_access_check(server, access_check, self->setup.access);
    control_migration_add(server, self->setup.daemon);
    control_service_add(server, self->setup.daemon);
    control_link_test_add(server, self->setup.daemon);
    control_recording_add(server, self->setup.daemon);
    return server;
}

Control *control_new(const ControlSetup *setup, int fd, GError **error)
{
    Control *self = g_new0(Control, 1);

    self->setup = *setup;
    self->start_us = g_get_monotonic_time();
    self->server = make_server(self);
    if (!qmp_server_listen_fd(self->server, fd, error)) {
        close(fd);
        control_free(self);
        return NULL;
    }
    registry_set_sink(setup->daemon->registry, broadcast, self);
    self->tick = g_timeout_add_seconds(1, tick, self);
    return self;
}

void control_free(Control *self)
{
    if (!self) {
        return;
    }
    if (self->tick) {
        g_source_remove(self->tick);
    }
    registry_set_sink(self->setup.daemon->registry, NULL, NULL);
    qmp_server_free(self->server);
    g_free(self);
}
