/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/config-check.h"

#include <net/if.h>

#include "daemon/config-value.h"
#include "daemon/metrics-http.h"
#include "daemon/units.h"

enum { ALGORITHM_MAX = 15 };        /* the kernel's TCP_CA_NAME_MAX - 1 */

static bool refuse(GError **error, const char *group, const char *name,
                   const char *format, ...) G_GNUC_PRINTF(4, 5);

/* @name NULL: a group that has none. */
static bool refuse(GError **error, const char *group, const char *name,
                   const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list ap;

    va_start(ap, format);
    message = g_strdup_vprintf(format, ap);
    va_end(ap);
    return config_value_fail(error, "[%s%s%s]%s", group, name ? " " : "",
                             name ? name : "", message);
}

/* NULL: it is not asked for. */
static bool check_metrics_http(const Address *address, GError **error)
{
    if (address && !metrics_http_is_built_in()) {
        return refuse(error, "daemon", NULL, " metrics-http: got '%s', expected "
                      "nothing: this multiferryd was built without HTTP "
                      "(libmicrohttpd)", address->text);
    }
    if (address && address->kind == ADDRESS_VSOCK) {
        return refuse(error, "daemon", NULL, " metrics-http: got '%s', expected a "
                      "TCP address or a unix socket", address->text);
    }
    return true;
}

static bool check_daemon(const Config *config, GError **error)
{
    if (config->migration_memory > config->memory) {
        g_autofree char *one = units_encode_size(config->migration_memory);
        g_autofree char *all = units_encode_size(config->memory);

        return refuse(error, "daemon", NULL, " migration-memory: got '%s', "
                      "expected at most memory, which is %s", one, all);
    }
    return check_metrics_http(config->metrics_http, error);
}

static bool check_tls(const Config *config, GError **error)
{
    const TlsConfig *tls = &config->tls;

    if (!config->has_tls && (tls->kind != TLS_X509 || tls->priority ||
                             tls->psk_username)) {
        return refuse(error, "tls", NULL, ": got no directory, expected the "
                      "one with the certificates or keys");
    }
    if (tls->psk_username && tls->kind != TLS_PSK) {
        return refuse(error, "tls", NULL, " psk-username: got '%s' without "
                      "psk=yes", tls->psk_username);
    }
    if (config->listen_link && !config->has_tls) {
        return refuse(error, "listen", NULL, " link: got '%s' without "
                      "[tls] directory, expected both: there is no link "
                      "without TLS", config->listen_link->text);
    }
    if (config->listen_link && config->peers->len == 0) {
        return refuse(error, "listen", NULL, " link: got '%s' without any "
                      "[peer], expected at least one: nobody else is let in",
                      config->listen_link->text);
    }
    return true;
}

/* Who the peer is must be said in a way that [tls] can tell. */
static bool check_peer_identity(const Config *config, const ConfigPeer *peer,
                                GError **error)
{
    bool named = peer->certificate_name || peer->fingerprint;

    if (config->tls.kind == TLS_PSK) {
        if (named || !peer->psk_identity) {
            return refuse(error, "peer", peer->name, ": got %s, expected "
                          "psk-identity, because [tls] has psk=yes",
                          named ? "certificate-name or fingerprint" :
                                  "nothing that says who it is");
        }
    } else if (peer->psk_identity || !named) {
        return refuse(error, "peer", peer->name, ": got %s, expected "
                      "certificate-name or fingerprint (psk-identity needs "
                      "psk=yes in [tls])",
                      peer->psk_identity ? "psk-identity" :
                                           "nothing that says who it is");
    }
    return true;
}

/* Longer names the kernel would cut off. */
static bool check_peer_route(const ConfigPeer *peer, GError **error)
{
    const char *algorithm = peer->congestion_control;

    if (algorithm && strlen(algorithm) > ALGORITHM_MAX) {
        return refuse(error, "peer", peer->name, " congestion-control: got "
                      "'%s', expected at most %d bytes", algorithm,
                      ALGORITHM_MAX);
    }
    if (peer->bind && !g_hostname_is_ip_address(peer->bind) &&
        strlen(peer->bind) >= IFNAMSIZ) {
        return refuse(error, "peer", peer->name, " bind: got '%s', expected an "
                      "IP address or an interface of at most %d bytes",
                      peer->bind, IFNAMSIZ - 1);
    }
    if (peer->paths && !peer->address) {
        return refuse(error, "peer", peer->name, " paths: got it without "
                      "address, expected both: paths are the other ways");
    }
    if (peer->paths && peer->address->kind != ADDRESS_TCP) {
        return refuse(error, "peer", peer->name, " paths: got it beside address "
                      "'%s', expected a TCP address", peer->address->text);
    }
    return true;
}

static bool check_peer(const Config *config, const ConfigPeer *peer,
                       GError **error)
{
    if (!config->has_tls) {
        return refuse(error, "peer", peer->name, ": got a peer without "
                      "[tls] directory, expected both: there is no link "
                      "without TLS");
    }
    if (!peer->address && !config->listen_link) {
        return refuse(error, "peer", peer->name, ": got no address, expected "
                      "one, or [listen] link for the peer to connect to");
    }
    return check_peer_route(peer, error) &&
           check_peer_identity(config, peer, error);
}

/* One side in, one side out, and not the same peer on both. */
static bool check_tunnel_ends(const Config *config, const ConfigTunnel *tunnel,
                              GError **error)
{
    if (tunnel->listen && tunnel->connect && tunnel->peer) {
        return refuse(error, "tunnel", tunnel->name, ": got listen, connect "
                      "and peer, expected two of them: what is listened for "
                      "goes either to connect or to peer");
    }
    if (!tunnel->listen && !tunnel->peer) {
        return refuse(error, "tunnel", tunnel->name, ": got neither listen "
                      "nor peer, expected one of them as the side that the "
                      "migration comes from");
    }
    if (!tunnel->connect && !(tunnel->listen && tunnel->peer)) {
        return refuse(error, "tunnel", tunnel->name, ": got only %s, expected "
                      "connect%s as the side that the migration goes to",
                      tunnel->listen ? "listen" : "peer",
                      tunnel->listen ? " or peer" : "");
    }
    if (tunnel->listen && tunnel->connect &&
        strcmp(tunnel->listen->text, tunnel->connect->text) == 0) {
        return refuse(error, "tunnel", tunnel->name, ": got listen and connect "
                      "'%s', expected two addresses: it would carry to itself",
                      tunnel->listen->text);
    }
    if (tunnel->peer && !config_find_peer(config, tunnel->peer)) {
        return refuse(error, "tunnel", tunnel->name, " peer: got '%s', "
                      "expected the name of a [peer]", tunnel->peer);
    }
    return true;
}

/* A key that has no effect was meant to have one; with TLS that matters. */
static bool check_tunnel_useless(const ConfigTunnel *tunnel, GError **error)
{
    const struct {
        bool set, useful;
        const char *key, *needed;
    } rules[] = {
        { tunnel->channels > 0, tunnel->connect, "channels", "connect" },
        { tunnel->compression, tunnel->connect, "compression", "connect" },
        { tunnel->compression_level > METHOD_LEVEL_MIN, tunnel->connect &&
          (!tunnel->compression || tunnel->compression->encode),
          "compression-level", "connect and a compression that has levels" },
        { tunnel->write_zero_pages, tunnel->connect, "zero-pages", "connect" },
        { tunnel->page_size > 0, tunnel->listen, "page-size", "listen" },
        { tunnel->lanes > 0, tunnel->peer, "lanes", "peer" },
        { tunnel->tls, tunnel->connect, "tls", "connect" },
        { tunnel->listen_tls, tunnel->listen, "listen-tls", "listen" },
        { tunnel->listen_tls_client, tunnel->listen_tls, "listen-tls-client",
          "listen-tls=yes" },
        { tunnel->listen_tls_client, tunnel->listen_tls_verify_client,
          "listen-tls-client", "listen-tls-verify-client=yes" },
        { !tunnel->listen_tls_verify_client, tunnel->listen_tls,
          "listen-tls-verify-client", "listen-tls=yes" },
        { !tunnel->listen_tls_verify_client, !tunnel->tls_psk,
          "listen-tls-verify-client", "certificates" },
        { tunnel->tls_hostname, tunnel->tls, "tls-hostname", "tls=yes" },
        { tunnel->tls_psk, tunnel->tls || tunnel->listen_tls, "tls-psk",
          "tls=yes or listen-tls=yes" },
        { tunnel->tls_directory, tunnel->tls || tunnel->listen_tls,
          "tls-directory", "tls=yes or listen-tls=yes" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (rules[i].set && !rules[i].useful) {
            return refuse(error, "tunnel", tunnel->name, " %s: got it without "
                          "%s, where it has no effect", rules[i].key,
                          rules[i].needed);
        }
    }
    return true;
}

static bool check_tunnel(const Config *config, const ConfigTunnel *tunnel,
                         GError **error)
{
    if (!check_tunnel_ends(config, tunnel, error) ||
        !check_tunnel_useless(tunnel, error)) {
        return false;
    }
    if ((tunnel->tls || tunnel->listen_tls) && !tunnel->tls_directory &&
        !config->has_tls) {
        return refuse(error, "tunnel", tunnel->name, " %s: got yes without "
                      "credentials, expected tls-directory or [tls] directory",
                      tunnel->tls ? "tls" : "listen-tls");
    }
    return true;
}

/* Two users of one address: the second would fail, much later. */
static bool claim(GHashTable *claimed, const Address *address,
                  const char *group, const char *name, const char *key,
                  GError **error)
{
    char *text;
    const char *other;

    /* Port 0 is a different port each time. */
    if (!address || (address->kind == ADDRESS_TCP && address->port == 0)) {
        return true;
    }
    other = g_hash_table_lookup(claimed, address->text);
    if (other) {
        return refuse(error, group, name, " %s: got '%s', which %s has "
                      "already", key, address->text, other);
    }
    text = g_strdup_printf("[%s%s%s] %s", group, name ? " " : "",
                           name ? name : "", key);
    g_hash_table_insert(claimed, address->text, text);
    return true;
}

static bool check_addresses(const Config *config, GError **error)
{
    /* The keys are borrowed from @config. */
    g_autoptr(GHashTable) claimed = g_hash_table_new_full(g_str_hash,
                                                          g_str_equal, NULL,
                                                          g_free);
    bool good = claim(claimed, config->control, "daemon", NULL, "control",
                      error) &&
                claim(claimed, config->metrics_http, "daemon", NULL,
                      "metrics-http", error) &&
                claim(claimed, config->listen_link, "listen", NULL, "link",
                      error);

    for (unsigned i = 0; good && i < config->tunnels->len; i++) {
        const ConfigTunnel *tunnel = g_ptr_array_index(config->tunnels, i);

        good = claim(claimed, tunnel->listen, "tunnel", tunnel->name,
                     "listen", error);
    }
    for (unsigned i = 0; good && i < config->vms->len; i++) {
        const ConfigVm *vm = g_ptr_array_index(config->vms, i);

        good = claim(claimed, vm->qmp, "vm", vm->name, "qmp", error) &&
               claim(claimed, vm->incoming, "vm", vm->name, "incoming",
                     error);
    }
    return good;
}

bool config_check(const Config *config, GError **error)
{
    if (!check_daemon(config, error) || !check_tls(config, error)) {
        return false;
    }
    for (unsigned i = 0; i < config->peers->len; i++) {
        if (!check_peer(config, g_ptr_array_index(config->peers, i), error)) {
            return false;
        }
    }
    for (unsigned i = 0; i < config->vms->len; i++) {
        const ConfigVm *vm = g_ptr_array_index(config->vms, i);

        if (!vm->qmp) {
            return refuse(error, "vm", vm->name, ": got no qmp, expected the "
                          "QEMU's QMP socket");
        }
    }
    for (unsigned i = 0; i < config->tunnels->len; i++) {
        if (!check_tunnel(config, g_ptr_array_index(config->tunnels, i),
                          error)) {
            return false;
        }
    }
    return check_addresses(config, error);
}
