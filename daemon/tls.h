/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tls.h - credentials and the rules by which a TLS peer is accepted
 *
 * Files have the names that QEMU's tls-creds-x509 and tls-creds-psk use in
 * their directory: ca-cert.pem, ca-crl.pem (optional), server-cert.pem,
 * server-key.pem, client-cert.pem, client-key.pem; keys.psk.
 *
 * Loaded credentials are immutable and shared by reference, so a reload never
 * touches a session that is alive.  All functions are thread-safe.
 */
#ifndef DAEMON_TLS_H
#define DAEMON_TLS_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include <gnutls/gnutls.h>

#define TLS_ERROR (tls_error_quark())

typedef enum {
    TLS_ERROR_FILE,         /* our own files or settings */
    TLS_ERROR_UNSUITABLE,   /* loaded, but not for this end or these rules */
    TLS_ERROR_PEER,         /* the peer's proof failed a rule */
} TlsError;

GQuark tls_error_quark(void);

typedef enum { TLS_X509, TLS_PSK, TLS_ANON } TlsKind;

typedef struct {
    TlsKind kind;
    char *directory;        /* NULL for TLS_ANON */
    char *priority;         /* GnuTLS priority string; NULL: the default */
    char *psk_username;     /* PSK client's; NULL: "qemu", as QEMU */
    bool verify_peer;       /* server: demand and verify a client certificate */
    bool client_may_lack_certificate;   /* then it shows none; the server judges */
    uint64_t rekey_bytes;   /* TLS 1.3: new keys after we wrote so many bytes; 0:
                             * GnuTLS alone, after 2^24 records */
} TlsConfig;

typedef struct TlsCredentials TlsCredentials;

/*
 * Read and check the files.  Errors name the file and what is wrong with it;
 * a key that others may read (mode & 0077, or an access list) and an expired or not yet valid
 * certificate of our own are refused.  What is missing for one endpoint
 * (client-*.pem on a daemon that only accepts) fails only when it is used.
 */
TlsCredentials *tls_credentials_load(const TlsConfig *config, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* False when @self has nothing (any more) for an endpoint that @old serves. */
bool tls_credentials_serve_as(const TlsCredentials *self,
                              const TlsCredentials *old, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* X.509 without a certificate to show as a client. */
bool tls_credentials_is_bare_client(const TlsCredentials *self);
TlsCredentials *tls_credentials_ref(TlsCredentials *self);
void tls_credentials_unref(TlsCredentials *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TlsCredentials, tls_credentials_unref)

/* Who may be at the other end, and how we introduce ourselves. */
typedef struct {
    const char *alpn;               /* NULL: none (QEMU legs) */
    const char *certificate_name;   /* SAN or CN the peer's must match, or a PSK
                                     * client's identity; NULL: any that the CA signed */
    const char *fingerprint;        /* "sha256:" + hex of its certificate; NULL: any */
    bool tls13_only;                /* the link; QEMU's anon needs 1.2 */
} TlsPeerRules;

/*
 * A session ready for its handshake.  It holds a reference on the credentials
 * (released by tls_session_free()) and a copy of @rules: a certificate is
 * checked while the handshake runs, so that the peer learns of a refusal from
 * its own handshake.  The session's user pointer is taken.
 */
gnutls_session_t tls_session_new(TlsCredentials *credentials, bool server,
                                 const TlsPeerRules *rules, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void tls_session_free(gnutls_session_t session);

/*
 * The failed handshake's cause if it was our own refusal of the peer, as
 * tls_session_check_peer() says it; else NULL.  g_error_free() it.
 */
GError *tls_session_take_refusal(gnutls_session_t session);

/*
 * After the handshake: chain, validity, revocation, then name or fingerprint,
 * then ALPN.  The message says which rule failed, what came, what is allowed.
 */
bool tls_session_check_peer(gnutls_session_t session, bool server,
                            const TlsPeerRules *rules, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* Does the peer's certificate (or PSK identity) satisfy what of these is not
 * NULL?  For choosing a configured peer on accept. */
bool tls_session_peer_matches(gnutls_session_t session,
                              const char *certificate_name,
                              const char *fingerprint);
uint64_t tls_session_get_rekey_bytes(gnutls_session_t session);
/* What the peer showed, for logs: subject DN or PSK identity; g_free(). */
char *tls_session_describe_peer(gnutls_session_t session);
/* A server's: the PSK client's identity; NULL without PSK.  Lives as long as
 * the session. */
const char *tls_session_get_psk_identity(gnutls_session_t session);
/* The peer's certificate as TlsPeerRules has it, "sha256:…"; NULL without a
 * certificate; g_free(). */
char *tls_session_get_fingerprint(gnutls_session_t session);

#endif
