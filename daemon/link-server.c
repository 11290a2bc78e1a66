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
    unsigned handshake_ms = self->setup.config->timeouts.handshake_ms;

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

static const ConfigPeer *find_peer(LinkServer *self, Stream *stream,
                                   GError **error)
{
    gnutls_session_t session = stream_get_tls(stream);
    const GPtrArray *peers = self->setup.config->peers;
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
                      const ConfigPeer *peer, GError **error)
{
    if (self->setup.handler(stream, hello, peer, self->setup.data, error)) {
        return true;
    }
    g_prefix_error(error, "link from peer %s ('%s'), %s lane %u of migration "
                   "%s: ", peer->name, hello->daemon,
                   hello->role == LINK_ROLE_MAIN ? "main" : "bulk",
                   hello->lane, hello->migration);
    return false;
}

static bool handle(AcceptorIntake *intake, Stream **stream, void *data,
                   GError **error)
{
    LinkServer *self = data;
    const ConfigPeer *peer = NULL;
    g_autoptr(GError) cause = NULL;
    LinkHello hello;
    bool ok;

    if (!start_tls(self, *stream, error)) {
        return false;
    }
    ok = link_lane_read_hello(*stream, &hello, &cause) &&
         (peer = find_peer(self, *stream, &cause)) &&
         acceptor_identified(intake, &cause);
    if (ok) {
        link_lane_tune(*stream, self->setup.config->timeouts.link_dead_ms);
        ok = link_path_mark(peer, stream_get_fd(*stream), &cause) &&
             hand_over(self, stream, &hello, peer, &cause);
    }
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
    AcceptorSetup acceptor = {
        .name = "link",
        .pending_max = PENDING_MAX,
        .identify_ms = setup->config->timeouts.handshake_ms,
        .handler = handle,
        .data = self,
    };

    self->setup = *setup;
    self->acceptor = acceptor_new(fd, &acceptor);
    return self;
}

void link_server_free(LinkServer *self)
{
    if (self) {
        acceptor_free(self->acceptor);
        g_free(self);
    }
}
