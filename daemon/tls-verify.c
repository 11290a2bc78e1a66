/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a peer's certificate proves, and messages that say what it did not.
 */
#include "daemon/tls-private.h"

#include <gio/gio.h>
#include <gnutls/x509.h>
#include <string.h>

#define SHA256_SIZE 32

typedef struct {
    unsigned bit;
    const char *text;
} Cause;

/* The most telling first: an expired one is 'invalid' too. */
static const Cause causes[] = {
    { GNUTLS_CERT_REVOKED, "it was revoked by its CA" },
    { GNUTLS_CERT_EXPIRED, "it has expired" },
    { GNUTLS_CERT_NOT_ACTIVATED, "it is not yet valid" },
    { GNUTLS_CERT_SIGNER_NOT_FOUND, "it was not signed by a CA in our "
                                    "ca-cert.pem (unknown CA)" },
    { GNUTLS_CERT_SIGNER_NOT_CA, "its signer is not a CA" },
    { GNUTLS_CERT_SIGNATURE_FAILURE, "its signature is not that of the CA "
                                      "of this name in our ca-cert.pem" },
    { GNUTLS_CERT_INSECURE_ALGORITHM, "it uses an algorithm that is not "
                                      "secure" },
    { GNUTLS_CERT_PURPOSE_MISMATCH, "its extended key usage does not allow "
                                    "this end of a connection" },
    { GNUTLS_CERT_SIGNER_CONSTRAINTS_FAILURE, "its CA's constraints forbid "
                                              "it" },
    { GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED, "our ca-crl.pem is out of "
                                              "date" },
    { GNUTLS_CERT_REVOCATION_DATA_ISSUED_IN_FUTURE, "our ca-crl.pem is from "
                                                    "the future" },
    { GNUTLS_CERT_UNKNOWN_CRIT_EXTENSIONS, "it has critical extensions that "
                                           "nobody here knows" },
};

gnutls_x509_crt_t tls_verify_get_certificate(gnutls_session_t session)
{
    gnutls_x509_crt_t crt = NULL;
    const gnutls_datum_t *list;
    unsigned n = 0;

    if (gnutls_auth_get_type(session) != GNUTLS_CRD_CERTIFICATE) {
        return NULL;
    }
    list = gnutls_certificate_get_peers(session, &n);
    if (!list || n == 0 || gnutls_x509_crt_init(&crt) < 0) {
        return NULL;
    }
    if (gnutls_x509_crt_import(crt, &list[0], GNUTLS_X509_FMT_DER) < 0) {
        gnutls_x509_crt_deinit(crt);
        return NULL;
    }
    return crt;
}

/* Text out of a certificate, fit to be shown. */
static char *shown(const void *text, size_t len)
{
    g_autofree char *copy = g_strndup(text, MIN(len, 256));

    return g_strescape(copy, NULL);
}

static char *get_dn(gnutls_x509_crt_t crt)
{
    gnutls_datum_t dn = { 0 };
    char *text;

    if (gnutls_x509_crt_get_dn3(crt, &dn, 0) < 0) {
        return g_strdup("");
    }
    text = shown(dn.data, dn.size);
    gnutls_free(dn.data);
    return text;
}

static void append_name(GString *names, const char *kind, const char *name)
{
    g_string_append_printf(names, "%s%s '%s'", names->len ? ", " : "", kind,
                           name);
}

static void append_ip(GString *names, const unsigned char *raw, size_t size)
{
    GSocketFamily family = size == 4 ? G_SOCKET_FAMILY_IPV4
                                     : G_SOCKET_FAMILY_IPV6;
    g_autoptr(GInetAddress) address = NULL;
    g_autofree char *text = NULL;

    if (size == 4 || size == 16) {
        address = g_inet_address_new_from_bytes(raw, family);
        text = g_inet_address_to_string(address);
        append_name(names, "IP", text);
    }
}

static char *get_cn(gnutls_x509_crt_t crt)
{
    char cn[256];
    size_t size = sizeof(cn);

    if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0,
                                      cn, &size) < 0 ||
        strlen(cn) != size) {
        return NULL;
    }
    return g_strdup(cn);
}

/* "DNS 'a', IP '192.0.2.1'", or the common name if there are none. */
static char *list_names(gnutls_x509_crt_t crt, bool *ret_has_san)
{
    g_autoptr(GString) names = g_string_new(NULL);
    g_autofree char *cn = get_cn(crt);
    unsigned i;

    for (i = 0; i < 32; i++) {
        char san[512];
        size_t size = sizeof(san);
        int type = gnutls_x509_crt_get_subject_alt_name(crt, i, san, &size,
                                                        NULL);

        if (type == GNUTLS_SAN_DNSNAME) {
            g_autofree char *name = shown(san, size);

            append_name(names, "DNS", name);
        } else if (type == GNUTLS_SAN_IPADDRESS) {
            append_ip(names, (unsigned char *)san, size);
        } else if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
            break;
        }
    }
    *ret_has_san = names->len > 0;
    if (names->len == 0 && cn) {
        g_autofree char *name = shown(cn, strlen(cn));

        append_name(names, "CN", name);
    }
    return g_strdup(names->len ? names->str : "none");
}

/* GnuTLS looks at a common name only in certificates made for servers; a
 * client's counts as well, as long as it has no other name. */
static bool name_matches(gnutls_x509_crt_t crt, const char *name)
{
    g_autofree char *cn = NULL;
    g_autofree char *names = NULL;
    bool has_san;

    if (gnutls_x509_crt_check_hostname(crt, name)) {
        return true;
    }
    names = list_names(crt, &has_san);
    cn = get_cn(crt);
    return !has_san && cn && g_ascii_strcasecmp(cn, name) == 0;
}

static char *get_fingerprint(gnutls_x509_crt_t crt)
{
    unsigned char digest[SHA256_SIZE];
    size_t size = sizeof(digest);
    GString *text;
    size_t i;

    if (gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, digest,
                                        &size) < 0) {
        return NULL;
    }
    text = g_string_new("sha256:");
    for (i = 0; i < size; i++) {
        g_string_append_printf(text, "%02x", digest[i]);
    }
    return g_string_free(text, FALSE);
}

/* Case and colons between the bytes, as openssl(1) prints them, are all one. */
static bool fingerprint_matches(const char *got, const char *allowed)
{
    const char *prefix = "sha256:";

    if (!got || g_ascii_strncasecmp(allowed, prefix, strlen(prefix)) != 0) {
        return false;
    }
    got += strlen(prefix);
    allowed += strlen(prefix);
    for (; *got; got++, allowed++) {
        if (*allowed == ':') {
            allowed++;
        }
        if (g_ascii_tolower(*allowed) != *got) {
            return false;
        }
    }
    return !*allowed;
}

static bool check_chain(gnutls_session_t session, bool server, const char *dn,
                        GError **error)
{
    const char *purpose = server ? GNUTLS_KP_TLS_WWW_CLIENT
                                 : GNUTLS_KP_TLS_WWW_SERVER;
    gnutls_typed_vdata_st data = {
        .type = GNUTLS_DT_KEY_PURPOSE_OID,
        .data = (unsigned char *)purpose,
    };
    const char *cause = "it is not valid";
    unsigned status = 0;
    int code = gnutls_certificate_verify_peers(session, &data, 1, &status);
    size_t i;

    if (code < 0) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_PEER,
                    "TLS peer's certificate '%s': could not be verified: %s",
                    dn, gnutls_strerror(code));
        return false;
    }
    if (status == 0) {
        return true;
    }
    for (i = 0; i < G_N_ELEMENTS(causes); i++) {
        if (status & causes[i].bit) {
            cause = causes[i].text;
            break;
        }
    }
    g_set_error(error, TLS_ERROR, TLS_ERROR_PEER,
                "TLS peer's certificate '%s': %s", dn, cause);
    return false;
}

static bool check_identity(gnutls_x509_crt_t crt, const char *dn,
                           const char *certificate_name,
                           const char *fingerprint, GError **error)
{
    g_autofree char *got = get_fingerprint(crt);

    if (certificate_name && !name_matches(crt, certificate_name)) {
        bool has_san;
        g_autofree char *names = list_names(crt, &has_san);

        g_set_error(error, TLS_ERROR, TLS_ERROR_PEER,
                    "TLS peer's certificate '%s': got names %s; allowed '%s'",
                    dn, names, certificate_name);
        return false;
    }
    if (fingerprint && !fingerprint_matches(got, fingerprint)) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_PEER,
                    "TLS peer's certificate '%s': got fingerprint %s; "
                    "allowed %s", dn, got ? got : "none", fingerprint);
        return false;
    }
    return true;
}

bool tls_verify_certificate(gnutls_session_t session, bool server,
                            const char *certificate_name,
                            const char *fingerprint, GError **error)
{
    gnutls_x509_crt_t crt = tls_verify_get_certificate(session);
    g_autofree char *dn = NULL;
    bool ok;

    if (!crt) {
        g_set_error(error, TLS_ERROR, TLS_ERROR_PEER,
                    "TLS peer: got no certificate, expected one that our CA "
                    "signed");
        return false;
    }
    dn = get_dn(crt);
    ok = check_chain(session, server, dn, error) &&
         check_identity(crt, dn, certificate_name, fingerprint, error);
    gnutls_x509_crt_deinit(crt);
    return ok;
}

bool tls_session_peer_matches(gnutls_session_t session,
                              const char *certificate_name,
                              const char *fingerprint)
{
    const char *identity = tls_session_get_psk_identity(session);
    gnutls_x509_crt_t crt;
    bool ok;

    if (identity) {
        return !fingerprint &&
               (!certificate_name || g_str_equal(identity, certificate_name));
    }
    crt = tls_verify_get_certificate(session);
    if (!crt) {
        return !certificate_name && !fingerprint;
    }
    ok = check_identity(crt, "", certificate_name, fingerprint, NULL);
    gnutls_x509_crt_deinit(crt);
    return ok;
}

char *tls_session_get_fingerprint(gnutls_session_t session)
{
    gnutls_x509_crt_t crt = tls_verify_get_certificate(session);
    char *text = crt ? get_fingerprint(crt) : NULL;

    if (crt) {
        gnutls_x509_crt_deinit(crt);
    }
    return text;
}

char *tls_session_describe_peer(gnutls_session_t session)
{
    const char *identity = tls_session_get_psk_identity(session);
    gnutls_x509_crt_t crt;
    char *dn;

    if (identity) {
        g_autofree char *escaped = g_strescape(identity, NULL);

        return g_strdup_printf("PSK identity '%s'", escaped);
    }
    crt = tls_verify_get_certificate(session);
    if (!crt) {
        return g_strdup("no certificate");
    }
    dn = get_dn(crt);
    gnutls_x509_crt_deinit(crt);
    return dn;
}
