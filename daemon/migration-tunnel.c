/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-tunnel.c - the passive body: somebody else drives QEMU
 */
#include "daemon/migration-tunnel.h"

#include "daemon/egress-qemu.h"
#include "daemon/ingress-qemu.h"
#include "daemon/migration-link.h"

enum { TICK_MS = 200 };

/* As a QEMU does; whether it is let in is for the other end to say. */
static void warn_of_missing_certificate(Migration *self,
                                        const ConfigTunnel *tunnel,
                                        const TlsCredentials *credentials)
{
    const char *directory = tunnel->tls_directory
                            ? tunnel->tls_directory
                            : self->config->tls.directory;

    if (tls_credentials_is_bare_client(credentials)) {
        migration_add_warning(self, "got no client-cert.pem in %s: connecting "
                              "without a certificate, which a destination QEMU "
                              "takes with verify-peer=off alone", directory);
    }
}

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
        .payload = {
            .method = tunnel->compression,
            .level = tunnel->compression_level,
            .write_zero_pages = tunnel->write_zero_pages,
        },
        .connect_ms = self->config->timeouts.connect_ms,
        .handshake_ms = self->config->timeouts.handshake_ms,
    };

    if (tunnel->tls) {
        credentials = daemon_get_tunnel_credentials(self->daemon,
                                                    self->config, tunnel,
                                                    false, error);
        if (!credentials) {
            return false;
        }
        warn_of_missing_certificate(self, tunnel, credentials);
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

static bool follow(Migration *self, GError **error)
{
    Flow flow = FLOW_RUNNING;

    migration_begin_flow(self);
    while (flow == FLOW_RUNNING) {
        g_autoptr(Message) message = migration_wait(self, TICK_MS);

        flow = migration_follow(self, message, error);
    }
    return flow == FLOW_TAKEN_OVER;
}

/* With SHUT 0 it has arrived whatever the peer says; without a return path only
 * the peer knows. */
static bool finish(Migration *self, GError **error)
{
    GError *failure = NULL;
    ExchangeSnapshot now;

    exchange_get_snapshot(self->exchange, &now);
    if (migration_link_call(self, "finish", NULL, now.shut ? self->hurry : NULL,
                            &failure)) {
        return true;
    }
    if (!now.shut) {
        g_propagate_error(error, failure);
        return false;
    }
    migration_add_warning(self, "%s", failure->message);
    g_error_free(failure);
    return true;
}

static bool run(Migration *self, void *data, GError **error)
{
    const ConfigTunnel *tunnel = data;
    GError *failure = NULL;
    bool ok, in_halves;

    ok = tunnel->connect
         ? migration_tunnel_connect(self, tunnel, self->limiter, &failure)
         : open_link(self, tunnel, &failure);
    ok = ok && follow(self, &failure);
    if (!ok) {
        in_halves = migration_explain_postcopy(self, &failure);
        migration_link_abort(self, failure, in_halves);
        g_propagate_error(error, failure);
        return false;
    }
    migration_wait_source_closed(self);
    return !self->link || finish(self, error);
}

static Migration *make(Daemon *daemon, Config *config, const ConfigTunnel *tunnel)
{
    MigrationSetup setup = {
        .daemon = daemon,
        .config = config,
        .kind = MIGRATION_TUNNEL,
        .role = tunnel->connect ? MIGRATION_RELAY : MIGRATION_SOURCE,
        .name = tunnel->name,
        .peer = tunnel->connect ? NULL : config_find_peer(config,
                                                          tunnel->peer),
        .rate = tunnel->rate,
        .weight = tunnel->weight,
        .body = run,
        .data = (void *)tunnel,
    };

    return migration_new(&setup);
}

Migration *migration_tunnel_start(Daemon *daemon, Config *config,
                                  const ConfigTunnel *tunnel,
                                  Listener *listener, GError **error)
{
    g_autoptr(Migration) self = make(daemon, config, tunnel);
    ExchangeSetup exchange = {
        .memory = migration_queue_memory(self),
        .main_ring = MIGRATION_MAIN_RING,
        .page_size = tunnel->page_size,
    };

    /* Its share of memory is known once it has entered. */
    if (!migration_enter(self, error)) {
        return NULL;
    }
    migration_create_exchange(self, exchange);
    migration_set_ingress(self, ingress_qemu_new(self->exchange, listener));
    if (!migration_launch(self, error)) {
        migration_tear_down(self);
        return NULL;
    }
    return g_steal_pointer(&self);
}
