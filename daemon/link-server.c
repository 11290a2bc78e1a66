/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-server.c - whose lane a connection is
 *
 * TLS lets in whom our CA signed; the [peer] is chosen afterwards by what the
 * certificate or the PSK identity says.  Who is none is told so, after its hello:
 * an answer to a peer that is still writing could be lost in a reset.
 */
#include "daemon/link-server.h"

#include "daemon/acceptor.h"
#include "daemon/link-path.h"
#include "wire/error.h"

enum { PENDING_MAX = 64 };

struct LinkServer {
    LinkServerSetup setup;          /* constant */
    Acceptor *acceptor;
};

static bool start_tls(LinkServer *self, Stream *stream, GError **error)
{
    static const TlsPeerRules any_signed = {
        .alpn = LINK_ALPN, .tls13_only = true,
    };
    g_autoptr(TlsCredentials) credentials =
        self->setup.get_credentials(self->setup.data);
    g_autoptr(Config) config = self->setup.get_config(NULL, self->setup.data);
    unsigned handshake_ms = config->timeouts.handshake_ms;

    stream_set_timeouts(stream, handshake_ms, handshake_ms);
    return stream_start_tls(stream, credentials, true, &any_signed,
                            handshake_ms, error);
}

/* Without a name, fingerprint or identity a peer is nobody, not everybody. */
static bool is_peer(gnutls_session_t session, const ConfigPeer *peer)
{
    const char *identity = tls_session_get_psk_identity(session);

    if (identity) {
        return g_strcmp0(identity, peer->psk_identity) == 0;
    }
    return (peer->certificate_name || peer->fingerprint) &&
           tls_session_peer_matches(session, peer->certificate_name,
                                    peer->fingerprint);
}

static const ConfigPeer *find_peer(const Config *config, Stream *stream,
                                   GError **error)
{
    gnutls_session_t session = stream_get_tls(stream);
    const GPtrArray *peers = config->peers;
    g_autofree char *shown = NULL, *fingerprint = NULL;

    for (unsigned i = 0; i < peers->len; i++) {
        if (is_peer(session, g_ptr_array_index(peers, i))) {
            return g_ptr_array_index(peers, i);
        }
    }
    shown = tls_session_describe_peer(session);
    fingerprint = tls_session_get_fingerprint(session);
    g_set_error(error, TLS_ERROR, TLS_ERROR_PEER,
                "link: got %s%s%s, which is none of the configured peers",
                shown, fingerprint ? ", " : "",
                fingerprint ? fingerprint : "");
    return NULL;
}

static bool hand_over(LinkServer *self, Stream **stream, const LinkHello *hello,
                      Config *config, const ConfigPeer *peer, GError **error)
{
    link_lane_tune(*stream, config->timeouts.link_dead_ms);
    if (!link_path_mark(peer, stream_get_fd(*stream), error)) {
        return false;
    }
    if (self->setup.handler(stream, hello, config, peer, self->setup.data,
                            error)) {
        return true;
    }
    g_prefix_error(error, "link from peer %s ('%s'), %s lane %u of %s %s: ",
                   peer->name, hello->daemon, link_lane_role_to_string(hello->role),
                   hello->lane, link_lane_role_is_test(hello->role) ? "test"
                   : "migration", hello->migration);
    return false;
}

/* A lane of a migration that runs is judged by what that began with. */
static bool take(LinkServer *self, AcceptorIntake *intake, Stream **stream,
                 GError **error)
{
    g_autoptr(Config) config = NULL;
    const ConfigPeer *peer;
    LinkHello hello;

    if (!link_lane_read_hello(*stream, &hello, error)) {
        return false;
    }
    config = self->setup.get_config(&hello, self->setup.data);
    peer = find_peer(config, *stream, error);
    return peer && acceptor_identified(intake, error) &&
           hand_over(self, stream, &hello, config, peer, error);
}

static bool handle(AcceptorIntake *intake, Stream **stream, void *data,
                   GError **error)
{
    LinkServer *self = data;
    g_autoptr(GError) cause = NULL;
    bool ok;

    if (!start_tls(self, *stream, error)) {
        return false;
    }
    ok = take(self, intake, stream, &cause);
    if (!ok && *stream) {
        link_lane_refuse(*stream, cause);
    }
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&cause));
    }
    return ok;
}

LinkServer *link_server_new(int fd, const LinkServerSetup *setup)
{
    LinkServer *self = g_new0(LinkServer, 1);
    g_autoptr(Config) config = setup->get_config(NULL, setup->data);
    AcceptorSetup acceptor = {
        .name = "link",
        .pending_max = PENDING_MAX,
        .identify_ms = config->timeouts.handshake_ms,
        .handler = handle,
        .data = self,
    };

    self->setup = *setup;
    self->acceptor = acceptor_new(fd, &acceptor);
    return self;
}

void link_server_set_handshake(LinkServer *self, unsigned handshake_ms)
{
    acceptor_set_identify(self->acceptor, handshake_ms);
}

void link_server_free(LinkServer *self)
{
    if (self) {
        acceptor_free(self->acceptor);
        g_free(self);
    }
}
