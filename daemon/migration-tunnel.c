/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-tunnel.c - the passive body: somebody else drives QEMU
 */
#include "daemon/migration-tunnel.h"

#include "daemon/egress-qemu.h"
#include "daemon/ingress-qemu.h"
#include "daemon/migration-link.h"

enum { TICK_MS = 200 };

typedef struct {
    const ConfigTunnel *tunnel;
    Listener *listener;
} TunnelRun;

bool migration_tunnel_connect(Migration *self, const ConfigTunnel *tunnel,
                              Limiter *limiter, GError **error)
{
    g_autoptr(TlsCredentials) credentials = NULL;
    EgressQemuSetup setup = {
        .exchange = self->exchange,
        .address = tunnel->connect,
        .channels = tunnel->channels,
        .tls_hostname = tunnel->tls_hostname,
        .limiter = limiter,
        .connect_ms = self->config->timeouts.connect_ms,
        .handshake_ms = self->config->timeouts.handshake_ms,
    };

    if (tunnel->tls) {
        credentials = daemon_get_tunnel_credentials(self->daemon, tunnel,
                                                    error);
        if (!credentials) {
            return false;
        }
        setup.credentials = credentials;
    }
    migration_set_egress(self, egress_qemu_new(&setup));
    return true;
}

/* The far daemon has a [tunnel] of the same name with `connect`. */
static bool open_link(Migration *self, const ConfigTunnel *tunnel,
                      GError **error)
{
    unsigned lanes = tunnel->lanes ? tunnel->lanes : self->peer->lanes;
    JsonObject *arguments = json_object_new();
    LinkGrant grant;

    json_object_set_string_member(arguments, "kind", "tunnel");
    json_object_set_string_member(arguments, "tunnel", tunnel->name);
    return migration_link_prepare(self, lanes, arguments, &grant, error) &&
           migration_link_open(self, lanes, &grant, error);
}

static Flow handle_message(Migration *self, const Message *message,
                           GError **error)
{
    if (message->kind == MESSAGE_CONTROL) {
        const char *event = json_object_get_string_member_with_default(
            message->object, "event", "");

        if (strcmp(event, "abort") == 0) {
            exchange_fail(self->exchange,
                          migration_link_abort_error(self, message->object));
        }
    }
    return migration_follow(self, message, error);
}

static bool follow(Migration *self, GError **error)
{
    Flow flow = FLOW_RUNNING;

    while (flow == FLOW_RUNNING) {
        g_autoptr(Message) message = migration_wait(self, TICK_MS);

        flow = handle_message(self, message, error);
    }
    return flow == FLOW_TAKEN_OVER;
}

static bool run(Migration *self, void *data, GError **error)
{
    TunnelRun *run = data;
    GError *failure = NULL;
    bool ok;

    self->idle_since_us = g_get_monotonic_time();
    ok = run->tunnel->connect
         ? migration_tunnel_connect(self, run->tunnel, self->limiter, &failure)
         : open_link(self, run->tunnel, &failure);
    ok = ok && follow(self, &failure);
    if (!ok) {
        migration_link_abort(self, failure);
        g_propagate_error(error, failure);
        return false;
    }
    migration_wait_source_closed(self);
    if (self->link && !migration_link_call(self, "finish", NULL, &failure)) {
        /* It has arrived all the same. */
        migration_add_warning(self, "%s", failure->message);
        g_error_free(failure);
    }
    return true;
}

static Migration *make(Daemon *daemon, const ConfigTunnel *tunnel,
                       Listener *listener)
{
    TunnelRun *run_data = g_new(TunnelRun, 1);
    MigrationSetup setup = {
        .daemon = daemon,
        .kind = MIGRATION_TUNNEL,
        .role = tunnel->connect ? MIGRATION_RELAY : MIGRATION_SOURCE,
        .name = tunnel->name,
        .peer = tunnel->connect ? NULL : config_find_peer(daemon->config,
                                                          tunnel->peer),
        .rate = tunnel->rate,
        .weight = tunnel->weight,
        .body = run,
        .data = run_data,
        .destroy = g_free,
    };

    *run_data = (TunnelRun) { tunnel, listener };
    return migration_new(&setup);
}

Migration *migration_tunnel_start(Daemon *daemon, const ConfigTunnel *tunnel,
                                  Listener *listener, GError **error)
{
    g_autoptr(Migration) self = make(daemon, tunnel, listener);
    ExchangeSetup exchange = {
        .memory = MIGRATION_QUEUE_MEMORY,
        .main_ring = MIGRATION_MAIN_RING,
    };

    migration_create_exchange(self, exchange);
    migration_set_ingress(self, ingress_qemu_new(self->exchange, listener));
    if (!migration_start(self, error)) {
        migration_tear_down(self);
        g_free(self->data);
        return NULL;
    }
    return g_steal_pointer(&self);
}
