/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/daemon.h"

Limiter *daemon_get_limiter(const Daemon *self, const ConfigPeer *peer)
{
    Limiter *limiter = peer ? g_hash_table_lookup(self->peer_limiters,
                                                  peer->name) : NULL;

    return limiter ? limiter : self->limiter;
}

TlsCredentials *daemon_get_link_credentials(const Daemon *self, GError **error)
{
    return credentials_get(self->credentials, &self->config->tls, error);
}

TlsCredentials *daemon_get_tunnel_credentials(const Daemon *self,
                                              const ConfigTunnel *tunnel,
                                              bool listen, GError **error)
{
    TlsConfig config = self->config->tls;

    if (tunnel->tls_directory) {
        config.directory = tunnel->tls_directory;
    }
    config.kind = tunnel->tls_psk ? TLS_PSK : TLS_X509;
    config.verify_peer = !listen || tunnel->listen_tls_verify_client;
    config.client_may_lack_certificate = !listen;
    config.rekey_bytes = 0;
    return credentials_get(self->credentials, &config, error);
}
