/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sessions.  Servers of ours never send session tickets: every connection of a
 * migration proves itself anew.
 */
#include "daemon/tls.h"

#include <string.h>

#include "daemon/tls-private.h"

static int on_certificate(gnutls_session_t session)
{
    TlsSession *own = gnutls_session_get_ptr(session);

    g_clear_error(&own->refusal);
    return tls_verify_certificate(session, own->server, own->certificate_name,
                                  own->fingerprint, &own->refusal)
        ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

/* What to register for this end; false where nothing was loaded for it. */
static bool set_credentials(gnutls_session_t session, TlsCredentials *from,
                            bool server)
{
    void *credentials = NULL;
    gnutls_credentials_type_t type = GNUTLS_CRD_CERTIFICATE;

    switch (from->kind) {
    case TLS_X509:
        credentials = server ? from->x509_server
                      : from->x509_client ? from->x509_client
                                          : from->x509_trust;
        break;
    case TLS_PSK:
        type = GNUTLS_CRD_PSK;
        credentials = server ? (void *)from->psk_server
                             : (void *)from->psk_client;
        break;
    case TLS_ANON:
        type = GNUTLS_CRD_ANON;
        credentials = server ? (void *)from->anon_server
                             : (void *)from->anon_client;
        break;
    }
    return credentials && gnutls_credentials_set(session, type,
                                                 credentials) == 0;
}

static void say_unsuitable(const TlsCredentials *credentials, bool server,
                           GError **error)
{
    const char *end = server ? "server" : "client";

    if (credentials->kind == TLS_PSK) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_UNSUITABLE,
                    "%s/keys.psk: got no key for '%s', which a TLS client "
                    "needs", credentials->directory, credentials->psk_username);
    } else {
        g_set_error(error, TLS_ERROR, TLS_ERROR_UNSUITABLE,
                    "%s: got no %s-cert.pem with %s-key.pem, which a TLS %s "
                    "needs", credentials->directory, end, end, end);
    }
}

static bool check_rules(const TlsCredentials *credentials, bool server,
                        const TlsPeerRules *rules, GError **error)
{
    if (credentials->kind == TLS_X509 && server && !credentials->verify_peer &&
        (rules->certificate_name || rules->fingerprint)) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_UNSUITABLE,
                    "TLS: got a name or fingerprint to check, but the "
                    "credentials ask clients for no certificate; set "
                    "verify-peer");
        return false;
    }
    if (rules->tls13_only && credentials->kind == TLS_ANON) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_UNSUITABLE,
                    "TLS: got anonymous credentials, but TLS 1.3 has no "
                    "anonymous handshake; use x509 or psk");
        return false;
    }
    if (rules->fingerprint && credentials->kind != TLS_X509) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_UNSUITABLE,
                    "TLS: got a fingerprint to check, but no certificates; "
                    "use x509");
        return false;
    }
    return true;
}

static void configure(gnutls_session_t session, TlsCredentials *credentials,
                      bool server, const TlsPeerRules *rules)
{
    gnutls_datum_t alpn;

    gnutls_priority_set(session, rules->tls13_only
                        ? credentials->priority_tls13 : credentials->priority);
    gnutls_handshake_set_timeout(session, GNUTLS_INDEFINITE_TIMEOUT);
    if (rules->alpn) {
        alpn.data = (unsigned char *)rules->alpn;
        alpn.size = (unsigned)strlen(rules->alpn);
        gnutls_alpn_set_protocols(session, &alpn, 1, GNUTLS_ALPN_MANDATORY);
    }
    if (credentials->kind != TLS_X509) {
        return;
    }
    if (server) {
        gnutls_certificate_server_set_request(session,
                                              credentials->verify_peer
                                              ? GNUTLS_CERT_REQUIRE
                                              : GNUTLS_CERT_IGNORE);
    }
    if (!server || credentials->verify_peer) {
        gnutls_session_set_verify_function(session, on_certificate);
    }
}

gnutls_session_t tls_session_new(TlsCredentials *credentials, bool server,
                                 const TlsPeerRules *rules, GError **error)
{
    unsigned flags = (server ? GNUTLS_SERVER : GNUTLS_CLIENT) |
                     GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS;
    gnutls_session_t session = NULL;
    TlsSession *own;
    int code;

    if (!check_rules(credentials, server, rules, error)) {
        return NULL;
    }
    code = gnutls_init(&session, flags);
    if (code < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_UNSUITABLE, "TLS: %s",
                    gnutls_strerror(code));
        return NULL;
    }
    own = g_new0(TlsSession, 1);
    own->credentials = tls_credentials_ref(credentials);
    own->server = server;
    own->alpn = g_strdup(rules->alpn);
    own->certificate_name = g_strdup(rules->certificate_name);
    own->fingerprint = g_strdup(rules->fingerprint);
    gnutls_session_set_ptr(session, own);
    if (!set_credentials(session, credentials, server)) {
        say_unsuitable(credentials, server, error);
        tls_session_free(session);
        return NULL;
    }
    configure(session, credentials, server, rules);
    return session;
}

void tls_session_free(gnutls_session_t session)
{
    TlsSession *own;

    if (!session) {
        return;
    }
    own = gnutls_session_get_ptr(session);
    gnutls_deinit(session);     /* may still look at the credentials */
    tls_credentials_unref(own->credentials);
    g_clear_error(&own->refusal);
    g_free(own->alpn);
    g_free(own->certificate_name);
    g_free(own->fingerprint);
    g_free(own);
}

GError *tls_session_take_refusal(gnutls_session_t session)
{
    TlsSession *own = gnutls_session_get_ptr(session);

    return g_steal_pointer(&own->refusal);
}

static bool check_alpn(gnutls_session_t session, const char *alpn,
                       GError **error)
{
    gnutls_datum_t got = { 0 };
    g_autofree char *text = NULL;
    g_autofree char *shown = NULL;

    if (!alpn) {
        return true;
    }
    if (gnutls_alpn_get_selected_protocol(session, &got) < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_PEER,
                    "TLS peer: got no application protocol (ALPN), expected "
                    "'%s'", alpn);
        return false;
    }
    text = g_strndup((char *)got.data, got.size);
    shown = g_strescape(text, NULL);
    if (!g_str_equal(text, alpn)) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_PEER,
                    "TLS peer: got application protocol '%s', expected '%s'",
                    shown, alpn);
        return false;
    }
    return true;
}

static bool check_psk_identity(gnutls_session_t session,
                               const TlsPeerRules *rules, GError **error)
{
    const char *identity = tls_session_get_psk_identity(session);

    if (!tls_session_peer_matches(session, rules->certificate_name, NULL)) {
        g_autofree char *shown = g_strescape(identity ? identity : "", NULL);

        g_set_error(error, TLS_ERROR, TLS_ERROR_PEER,
                    "TLS peer: got PSK identity '%s', allowed '%s'", shown,
                    rules->certificate_name);
        return false;
    }
    return true;
}

bool tls_session_check_peer(gnutls_session_t session, bool server,
                            const TlsPeerRules *rules, GError **error)
{
    TlsSession *own = gnutls_session_get_ptr(session);
    TlsKind kind = own->credentials->kind;

    if (rules->tls13_only &&
        gnutls_protocol_get_version(session) != GNUTLS_TLS1_3) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_PEER,
                    "TLS peer: got %s, expected TLS1.3",
                    gnutls_protocol_get_name(
                        gnutls_protocol_get_version(session)));
        return false;
    }
    if (kind == TLS_X509 && (!server || own->credentials->verify_peer) &&
        !tls_verify_certificate(session, server, rules->certificate_name,
                                rules->fingerprint, error)) {
        return false;
    }
    /* A PSK server has no name; that it knows the key is its proof. */
    if (kind == TLS_PSK && server &&
        !check_psk_identity(session, rules, error)) {
        return false;
    }
    return check_alpn(session, rules->alpn, error);
}

uint64_t tls_session_get_rekey_bytes(gnutls_session_t session)
{
    TlsSession *own = gnutls_session_get_ptr(session);

    return own->credentials->rekey_bytes;
}

const char *tls_session_get_psk_identity(gnutls_session_t session)
{
    TlsSession *own = gnutls_session_get_ptr(session);

    return own->credentials->kind == TLS_PSK && own->server
        ? gnutls_psk_server_get_username(session) : NULL;
}
