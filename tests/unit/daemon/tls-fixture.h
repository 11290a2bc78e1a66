/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Real certificates in a directory that is gone afterwards, real TCP
 * connections, and handshakes with a thread at each end.
 */
#ifndef TESTS_TLS_FIXTURE_H
#define TESTS_TLS_FIXTURE_H

#include <glib/gstdio.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/address.h"
#include "daemon/stream.h"
#include "daemon/tls.h"

#define FIXTURE_LONG_MS 30000   /* a deadline that is not expected to pass */
#define FIXTURE_DAY (24 * 3600)
#define FIXTURE_PSK "qemu:00112233445566778899aabbccddeeff\n"

typedef struct {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
} FixtureCa;

typedef struct {
    const char *dns;        /* SAN; NULL: none */
    const char *ip;         /* SAN, four bytes; NULL: none */
    time_t from;            /* 0: yesterday */
    time_t until;           /* 0: tomorrow */
    unsigned char serial;
    const char *purpose;    /* NULL: any */
} FixtureSpec;

static inline gnutls_x509_privkey_t fixture_key(void)
{
    gnutls_x509_privkey_t key;

    gnutls_x509_privkey_init(&key);
    g_assert_cmpint(gnutls_x509_privkey_generate(
        key, GNUTLS_PK_ECDSA,
        GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0), ==, 0);
    return key;
}

static inline gnutls_x509_crt_t fixture_crt(gnutls_x509_privkey_t key,
                                            const char *cn, time_t from,
                                            time_t until, unsigned char serial)
{
    gnutls_x509_crt_t crt;

    gnutls_x509_crt_init(&crt);
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_key(crt, key);
    gnutls_x509_crt_set_serial(crt, &serial, 1);
    gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, cn,
                                  strlen(cn));
    gnutls_x509_crt_set_activation_time(crt, from ? from
                                        : time(NULL) - FIXTURE_DAY);
    gnutls_x509_crt_set_expiration_time(crt, until ? until
                                        : time(NULL) + FIXTURE_DAY);
    return crt;
}

static inline void fixture_ca_init(FixtureCa *self, const char *cn)
{
    self->key = fixture_key();
    self->crt = fixture_crt(self->key, cn,
                            time(NULL) - 30 * FIXTURE_DAY, 0, 1);
    gnutls_x509_crt_set_ca_status(self->crt, 1);
    gnutls_x509_crt_set_key_usage(self->crt, GNUTLS_KEY_KEY_CERT_SIGN |
                                             GNUTLS_KEY_CRL_SIGN);
    g_assert_cmpint(gnutls_x509_crt_sign2(self->crt, self->crt, self->key,
                                          GNUTLS_DIG_SHA256, 0), ==, 0);
}

static inline void fixture_ca_clear(FixtureCa *self)
{
    gnutls_x509_crt_deinit(self->crt);
    gnutls_x509_privkey_deinit(self->key);
}

static inline void fixture_write(const char *directory, const char *name,
                                 const void *data, gssize len, int mode)
{
    g_autofree char *path = g_build_filename(directory, name, NULL);

    g_assert_true(g_file_set_contents(path, data, len, NULL));
    g_assert_cmpint(g_chmod(path, mode), ==, 0);
}

static inline void fixture_write_ca(const FixtureCa *ca, const char *directory)
{
    gnutls_datum_t pem;

    gnutls_x509_crt_export2(ca->crt, GNUTLS_X509_FMT_PEM, &pem);
    fixture_write(directory, "ca-cert.pem", pem.data, pem.size, 0644);
    gnutls_free(pem.data);
}

/* @end: "server" or "client". */
static inline void fixture_write_end(const FixtureCa *ca,
                                     const char *directory, const char *end,
                                     const char *cn, const FixtureSpec *spec)
{
    gnutls_x509_privkey_t key = fixture_key();
    gnutls_x509_crt_t crt = fixture_crt(key, cn, spec->from, spec->until,
                                        spec->serial ? spec->serial : 2);
    g_autofree char *crt_name = g_strconcat(end, "-cert.pem", NULL);
    g_autofree char *key_name = g_strconcat(end, "-key.pem", NULL);
    gnutls_datum_t pem;

    if (spec->dns) {
        gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME,
                                             spec->dns, strlen(spec->dns),
                                             GNUTLS_FSAN_APPEND);
    }
    if (spec->ip) {
        gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS,
                                             spec->ip, 4, GNUTLS_FSAN_APPEND);
    }
    if (spec->purpose) {
        gnutls_x509_crt_set_key_purpose_oid(crt, spec->purpose, 0);
    }
    g_assert_cmpint(gnutls_x509_crt_sign2(crt, ca->crt, ca->key,
                                          GNUTLS_DIG_SHA256, 0), ==, 0);
    gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem);
    fixture_write(directory, crt_name, pem.data, pem.size, 0644);
    gnutls_free(pem.data);
    gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem);
    fixture_write(directory, key_name, pem.data, pem.size, 0600);
    gnutls_free(pem.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

static inline char *fixture_directory(void)
{
    char *directory = g_dir_make_tmp("tls-XXXXXX", NULL);

    g_assert_nonnull(directory);
    return directory;
}

/* A directory with both ends' certificates; fixture_remove() it. */
static inline char *fixture_x509(const FixtureCa *ca, const FixtureSpec *server,
                                 const FixtureSpec *client)
{
    char *directory = fixture_directory();

    fixture_write_ca(ca, directory);
    fixture_write_end(ca, directory, "server", "test server", server);
    fixture_write_end(ca, directory, "client", "test client", client);
    return directory;
}

static inline char *fixture_psk(const char *keys)
{
    char *directory = fixture_directory();

    fixture_write(directory, "keys.psk", keys, -1, 0600);
    return directory;
}

static inline void fixture_remove(char *directory)
{
    GDir *dir = g_dir_open(directory, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(directory, name, NULL);

        g_unlink(path);
    }
    g_dir_close(dir);
    g_assert_cmpint(g_rmdir(directory), ==, 0);
    g_free(directory);
}

static inline TlsCredentials *fixture_load(TlsKind kind, const char *directory)
{
    TlsConfig config = {
        .kind = kind, .directory = (char *)directory, .verify_peer = true,
    };
    g_autoptr(GError) error = NULL;
    TlsCredentials *self = tls_credentials_load(&config, &error);

    g_assert_no_error(error);
    return self;
}

/* Both ends of a TCP connection on the loopback interface. */
static inline void fixture_connect(int fds[2])
{
    g_autoptr(Address) any = address_parse("127.0.0.1:0", NULL);
    int listener = address_listen(any, 1, 0, NULL);
    g_autoptr(Address) bound = address_of_listener(listener, NULL);

    fds[0] = address_connect(bound, FIXTURE_LONG_MS, NULL, NULL);
    fds[1] = accept(listener, NULL, NULL);
    g_assert_cmpint(fds[0], >=, 0);
    g_assert_cmpint(fds[1], >=, 0);
    close(listener);
}

typedef struct {
    Stream *stream;
    TlsCredentials *credentials;
    const TlsPeerRules *rules;
    bool server;
    bool ok;
    GError *error;
} FixtureEnd;

typedef struct {
    FixtureEnd client;
    FixtureEnd server;
} FixturePair;

static inline gpointer fixture_handshake_thread(gpointer data)
{
    FixtureEnd *self = data;

    self->ok = stream_start_tls(self->stream, self->credentials, self->server,
                                self->rules, FIXTURE_LONG_MS, &self->error);
    if (!self->ok) {
        stream_shutdown(self->stream);
    }
    return NULL;
}

static inline void fixture_pair_init(FixturePair *self)
{
    int fds[2];

    fixture_connect(fds);
    *self = (FixturePair) { .server.server = true };
    self->client.stream = stream_new(fds[0], "client");
    self->server.stream = stream_new(fds[1], "server");
}

static inline void fixture_pair_handshake(FixturePair *self,
                                          TlsCredentials *client,
                                          const TlsPeerRules *client_rules,
                                          TlsCredentials *server,
                                          const TlsPeerRules *server_rules)
{
    GThread *thread;

    fixture_pair_init(self);
    self->client.credentials = client;
    self->client.rules = client_rules;
    self->server.credentials = server;
    self->server.rules = server_rules;
    thread = g_thread_new("server", fixture_handshake_thread, &self->server);
    fixture_handshake_thread(&self->client);
    g_thread_join(thread);
}

static inline void fixture_pair_clear(FixturePair *self)
{
    stream_free(self->client.stream);
    stream_free(self->server.stream);
    g_clear_error(&self->client.error);
    g_clear_error(&self->server.error);
}

static inline void fixture_assert_message(const GError *error, int code,
                                          const char *part)
{
    g_assert_error(error, STREAM_ERROR, code);
    if (!strstr(error->message, part)) {
        g_error("expected '%s' in '%s'", part, error->message);
    }
}

#endif
