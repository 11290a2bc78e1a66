/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tls-private.h - what tls.c, tls-credentials.c and tls-verify.c share
 */
#ifndef DAEMON_TLS_PRIVATE_H
#define DAEMON_TLS_PRIVATE_H

#include "daemon/tls.h"

struct TlsCredentials {
    gatomicrefcount refs;       /* all else is constant after loading */

    TlsKind kind;
    bool verify_peer;
    bool client_may_lack_certificate;
    uint64_t rekey_bytes;
    char *directory;
    gnutls_priority_t priority;         /* any version QEMU may want */
    gnutls_priority_t priority_tls13;

    /* NULL where the directory has nothing for that end. */
    gnutls_certificate_credentials_t x509_server;
    gnutls_certificate_credentials_t x509_client;
    gnutls_certificate_credentials_t x509_trust;    /* a client without one */
    gnutls_psk_server_credentials_t psk_server;
    gnutls_psk_client_credentials_t psk_client;
    gnutls_anon_server_credentials_t anon_server;
    gnutls_anon_client_credentials_t anon_client;

    char *psk_username;
    GHashTable *psk_keys;       /* identity -> GBytes */
};

/* A session's user pointer. */
typedef struct {
    TlsCredentials *credentials;
    bool server;
    char *alpn;
    char *certificate_name;
    char *fingerprint;
    GError *refusal;            /* why we refused the peer, once we did */
} TlsSession;

/* Chain, validity, revocation, name, fingerprint of the peer's certificate. */
bool tls_verify_certificate(gnutls_session_t session, bool server,
                            const char *certificate_name,
                            const char *fingerprint, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* The peer's own certificate, or NULL; gnutls_x509_crt_deinit() it. */
gnutls_x509_crt_t tls_verify_get_certificate(gnutls_session_t session);

#endif
