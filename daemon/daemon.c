/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/daemon.h"

/* ---- the configuration ---------------------------------------------------------- */

static void set_pace(Limiter *limiter, const ConfigPeer *before,
                     const ConfigPeer *peer)
{
    if (before->rate != peer->rate) {
        limiter_set_rate(limiter, peer->rate);
    }
    if (before->weight != peer->weight) {
        limiter_set_weight(limiter, peer->weight);
    }
}

/* With the lock held.  One that comes back finds what it had. */
static void set_peer(Daemon *self, const ConfigPeer *before,
                     const ConfigPeer *peer)
{
    Limiter *limiter = g_hash_table_lookup(self->peer_limiters, peer->name);

    if (!limiter) {
        g_hash_table_insert(self->peer_limiters, g_strdup(peer->name),
                            limiter_new(self->limiter, peer->rate,
                                        peer->weight));
    } else if (before) {
        set_pace(limiter, before, peer);
    } else {
        limiter_set_rate(limiter, peer->rate);
        limiter_set_weight(limiter, peer->weight);
    }
}

void daemon_set_config(Daemon *self, Config *config)
{
    g_autoptr(Config) old = self->config;

    g_mutex_lock(&self->lock);
    self->config = config_ref(config);
    if (old && old->rate != config->rate) {
        limiter_set_rate(self->limiter, config->rate);
    }
    for (unsigned i = 0; i < config->peers->len; i++) {
        const ConfigPeer *peer = g_ptr_array_index(config->peers, i);

        set_peer(self, old ? config_find_peer(old, peer->name) : NULL, peer);
    }
    g_mutex_unlock(&self->lock);
}

Config *daemon_ref_config(Daemon *self)
{
    Config *config;

    g_mutex_lock(&self->lock);
    config = config_ref(self->config);
    g_mutex_unlock(&self->lock);
    return config;
}

void daemon_init(Daemon *self, Config *config)
{
    *self = (Daemon) {
        .start_us = g_get_real_time(),
        .limiter = limiter_new(NULL, config->rate, 1),
        .peer_limiters = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                               (GDestroyNotify)limiter_unref),
    };
    g_mutex_init(&self->lock);
    daemon_set_config(self, config);
}

void daemon_clear(Daemon *self)
{
    g_hash_table_unref(self->peer_limiters);
    limiter_unref(self->limiter);
    config_unref(self->config);
    g_mutex_clear(&self->lock);
}

/* ---- limiters, credentials ------------------------------------------------------ */

Limiter *daemon_get_limiter(Daemon *self, const ConfigPeer *peer)
{
    Limiter *limiter = NULL;

    if (peer) {
        g_mutex_lock(&self->lock);
        limiter = g_hash_table_lookup(self->peer_limiters, peer->name);
        g_mutex_unlock(&self->lock);
    }
    return limiter ? limiter : self->limiter;
}

TlsCredentials *daemon_get_link_credentials(const Daemon *self,
                                            const Config *config,
                                            GError **error)
{
    return credentials_get(self->credentials, &config->tls, error);
}

/* Lent by @config. */
static TlsConfig get_tunnel_tls(const Config *config, const ConfigTunnel *tunnel,
                                bool listen)
{
    TlsConfig tls = config->tls;

    if (tunnel->tls_directory) {
        tls.directory = tunnel->tls_directory;
    }
    tls.kind = tunnel->tls_psk ? TLS_PSK : TLS_X509;
    tls.verify_peer = !listen || tunnel->listen_tls_verify_client;
    tls.client_may_lack_certificate = !listen;
    tls.rekey_bytes = 0;
    return tls;
}

TlsCredentials *daemon_get_tunnel_credentials(const Daemon *self,
                                              const Config *config,
                                              const ConfigTunnel *tunnel,
                                              bool listen, GError **error)
{
    TlsConfig tls = get_tunnel_tls(config, tunnel, listen);

    return credentials_get(self->credentials, &tls, error);
}

static void add_tunnel_tls(GArray *wanted, const Config *config,
                           const ConfigTunnel *tunnel)
{
    TlsConfig tls;

    if (tunnel->tls) {
        tls = get_tunnel_tls(config, tunnel, false);
        g_array_append_val(wanted, tls);
    }
    if (tunnel->listen_tls) {
        tls = get_tunnel_tls(config, tunnel, true);
        g_array_append_val(wanted, tls);
    }
}

void daemon_want_credentials(Daemon *self, const Config *config)
{
    g_autoptr(GArray) wanted = g_array_new(FALSE, FALSE, sizeof(TlsConfig));

    if (config->has_tls) {
        g_array_append_val(wanted, config->tls);
    }
    for (unsigned i = 0; i < config->tunnels->len; i++) {
        add_tunnel_tls(wanted, config, g_ptr_array_index(config->tunnels, i));
    }
    credentials_set_wanted(self->credentials, (const TlsConfig *)wanted->data,
                           wanted->len);
}
