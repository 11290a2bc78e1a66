/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/tls-expiry.h"

#include <gnutls/x509.h>
#include "daemon/tls-private.h"

void tls_expiry_free(TlsExpiry *self)
{
    if (self) {
        g_free(self->file);
        g_free(self);
    }
}

static void note(TlsExpiry *self, gnutls_x509_crt_t certificate)
{
    int64_t until = gnutls_x509_crt_get_expiration_time(certificate);

    if (self->until == 0 || until < self->until) {
        self->from = gnutls_x509_crt_get_activation_time(certificate);
        self->until = until;
    }
}

static void append(GPtrArray *list, const TlsExpiry *found,
                   const char *directory, const char *name)
{
    TlsExpiry *expiry;

    if (found->until == 0) {
        return;
    }
    expiry = g_new0(TlsExpiry, 1);
    *expiry = *found;
    expiry->file = g_build_filename(directory, name, NULL);
    g_ptr_array_add(list, expiry);
}

static void add_own(gnutls_certificate_credentials_t x509,
                    const char *directory, const char *name, GPtrArray *list)
{
    TlsExpiry found = { 0 };
    gnutls_x509_crt_t *chain = NULL;
    unsigned n = 0;

    if (!x509 || gnutls_certificate_get_x509_crt(x509, 0, &chain, &n) < 0) {
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        note(&found, chain[i]);
        gnutls_x509_crt_deinit(chain[i]);
    }
    gnutls_free(chain);
    append(list, &found, directory, name);
}

static void add_authorities(gnutls_certificate_credentials_t x509,
                            const char *directory, GPtrArray *list)
{
    gnutls_x509_trust_list_iter_t iter = NULL;
    gnutls_x509_trust_list_t trust = NULL;
    gnutls_x509_crt_t certificate;
    TlsExpiry found = { 0 };

    if (!x509) {
        return;
    }
    gnutls_certificate_get_trust_list(x509, &trust);
    while (trust &&
           gnutls_x509_trust_list_iter_get_ca(trust, &iter, &certificate) >= 0) {
        note(&found, certificate);
        gnutls_x509_crt_deinit(certificate);
    }
    append(list, &found, directory, "ca-cert.pem");
}

void tls_expiry_list(const TlsCredentials *self, GPtrArray *list)
{
    if (self->kind != TLS_X509) {
        return;
    }
    add_own(self->x509_server, self->directory, "server-cert.pem", list);
    add_own(self->x509_client, self->directory, "client-cert.pem", list);
    add_authorities(self->x509_server ? self->x509_server : self->x509_client,
                    self->directory, list);
}
