/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/tls.h"

#include "tests/unit/daemon/tls-fixture.h"

static const TlsPeerRules link_rules = {
    .alpn = "multiferry/1", .tls13_only = true,
};
static const TlsPeerRules qemu_rules = { .alpn = NULL };

typedef struct {
    FixtureCa ca;
    char *directory;
    TlsCredentials *credentials;
    FixturePair pair;
} Fixture;

static void set_up(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    FixtureSpec server = { .dns = "dc2.example.net", .ip = "\x7f\0\0\1" };
    FixtureSpec client = { .dns = "dc1.example.net" };

    fixture_ca_init(&self->ca, "test CA");
    self->directory = fixture_x509(&self->ca, &server, &client);
    self->credentials = fixture_load(TLS_X509, self->directory);
}

static void tear_down(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    fixture_pair_clear(&self->pair);
    tls_credentials_unref(self->credentials);
    fixture_remove(self->directory);
    fixture_ca_clear(&self->ca);
}

/* A handshake in which only the rules differ. */
static void shake(Fixture *self, const TlsPeerRules *client,
                  const TlsPeerRules *server)
{
    fixture_pair_handshake(&self->pair, self->credentials, client,
                           self->credentials, server);
}

/* Both ends accept: and bytes get through. */
static void assert_works(FixturePair *pair)
{
    char buf[5];

    g_assert_no_error(pair->client.error);
    g_assert_no_error(pair->server.error);
    g_assert_true(stream_write(pair->client.stream, "hello", 5, NULL));
    g_assert_true(stream_read_full(pair->server.stream, buf, 5, NULL, NULL));
    g_assert_cmpmem(buf, 5, "hello", 5);
}

static void test_mutual_x509(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    gnutls_session_t session;
    g_autofree char *dn = NULL;

    shake(self, &link_rules, &link_rules);
    assert_works(&self->pair);
    session = stream_get_tls(self->pair.server.stream);
    dn = tls_session_describe_peer(session);
    g_assert_cmpstr(dn, ==, "CN=test client");
    g_assert_cmpint(gnutls_protocol_get_version(session), ==, GNUTLS_TLS1_3);
    g_assert_cmpint(gnutls_cipher_get(session), ==, GNUTLS_CIPHER_AES_128_GCM);
    g_assert_null(tls_session_get_psk_identity(session));
    g_assert_true(tls_session_peer_matches(session, "dc1.example.net", NULL));
    g_assert_false(tls_session_peer_matches(session, "dc3.example.net", NULL));
}

static void test_names_match(Fixture *self, gconstpointer data)
{
    TlsPeerRules client = link_rules;
    TlsPeerRules server = link_rules;

    client.certificate_name = data;
    server.certificate_name = "dc1.example.net";
    shake(self, &client, &server);
    assert_works(&self->pair);
}

static void test_wrong_server_name(Fixture *self,
                                   gconstpointer data G_GNUC_UNUSED)
{
    TlsPeerRules rules = link_rules;

    rules.certificate_name = "dc9.example.net";
    shake(self, &rules, &link_rules);
    fixture_assert_message(self->pair.client.error, STREAM_ERROR_TLS,
                           "got names DNS 'dc2.example.net', IP '127.0.0.1'; "
                           "allowed 'dc9.example.net'");
    fixture_assert_message(self->pair.server.error, STREAM_ERROR_TLS,
                           "the peer refused us with TLS alert 42");
}

/* In TLS 1.3 a client has finished before its certificate is looked at: it
 * learns of the refusal when it reads. */
static void test_wrong_client_name(Fixture *self,
                                   gconstpointer data G_GNUC_UNUSED)
{
    TlsPeerRules rules = link_rules;
    g_autoptr(GError) error = NULL;
    char buf[1];

    rules.certificate_name = "dc9.example.net";
    shake(self, &link_rules, &rules);
    fixture_assert_message(self->pair.server.error, STREAM_ERROR_TLS,
                           "got names DNS 'dc1.example.net'; allowed "
                           "'dc9.example.net'");
    g_assert_cmpint(stream_read(self->pair.client.stream, buf, 1, &error), ==,
                    -1);
    fixture_assert_message(error, STREAM_ERROR_TLS, "TLS alert 42");
}

static void test_fingerprints(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *fingerprint = NULL;
    g_autofree char *upper = NULL;
    g_autoptr(GString) colons = g_string_new("sha256:");
    TlsPeerRules rules = link_rules;
    gnutls_session_t session;
    size_t i;

    shake(self, &link_rules, &link_rules);
    session = stream_get_tls(self->pair.client.stream);
    fingerprint = tls_session_get_fingerprint(session);
    g_assert_cmpuint(strlen(fingerprint), ==, strlen("sha256:") + 64);
    upper = g_ascii_strup(fingerprint, -1);
    for (i = 7; fingerprint[i]; i += 2) {
        g_string_append_printf(colons, "%s%.2s", i > 7 ? ":" : "",
                               upper + i);
    }
    g_assert_true(tls_session_peer_matches(session, NULL, fingerprint));
    g_assert_true(tls_session_peer_matches(session, NULL, colons->str));
    fingerprint[10] = fingerprint[10] == '0' ? '1' : '0';
    g_assert_false(tls_session_peer_matches(session, NULL, fingerprint));
    fingerprint[10] = '\0';
    g_assert_false(tls_session_peer_matches(session, NULL, fingerprint));
    fixture_pair_clear(&self->pair);

    rules.fingerprint = colons->str;
    shake(self, &rules, &link_rules);
    assert_works(&self->pair);
    fixture_pair_clear(&self->pair);

    rules.fingerprint = "sha256:00";
    shake(self, &rules, &link_rules);
    fixture_assert_message(self->pair.client.error, STREAM_ERROR_TLS,
                           "allowed sha256:00");
}

/* The server's certificate comes from @directory, the client is the usual. */
static void check_bad_server(Fixture *self, char *directory,
                             const char *message)
{
    TlsCredentials *server = fixture_load(TLS_X509, directory);

    fixture_pair_handshake(&self->pair, self->credentials, &link_rules, server,
                           &link_rules);
    fixture_assert_message(self->pair.client.error, STREAM_ERROR_TLS, message);
    g_assert_false(self->pair.server.ok);
    fixture_pair_clear(&self->pair);
    self->pair = (FixturePair) { 0 };
    tls_credentials_unref(server);
    fixture_remove(directory);
}

static void test_wrong_ca(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    FixtureSpec spec = { .dns = "dc2.example.net" };
    FixtureCa other;

    fixture_ca_init(&other, "other CA");
    check_bad_server(self, fixture_x509(&other, &spec, &spec), "unknown CA");
    fixture_ca_clear(&other);
    fixture_ca_init(&other, "test CA");
    check_bad_server(self, fixture_x509(&other, &spec, &spec),
                     "not that of the CA of this name");
    fixture_ca_clear(&other);
}

static void test_wrong_purpose(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    FixtureSpec spec = { .dns = "x", .purpose = GNUTLS_KP_TLS_WWW_CLIENT };

    check_bad_server(self, fixture_x509(&self->ca, &spec, &spec),
                     "extended key usage");
}

/* Our own loader refuses expired files, so it expires after loading. */
static void test_expired(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    FixtureSpec spec = { .dns = "x" };

    spec.until = time(NULL) + 1;
    {
        char *directory = fixture_x509(&self->ca, &spec, &spec);
        TlsCredentials *server = fixture_load(TLS_X509, directory);

        while (time(NULL) <= spec.until) {
            g_usleep(20000);
        }
        fixture_pair_handshake(&self->pair, self->credentials, &link_rules,
                               server, &link_rules);
        fixture_assert_message(self->pair.client.error, STREAM_ERROR_TLS,
                               "'CN=test server': it has expired");
        tls_credentials_unref(server);
        fixture_remove(directory);
    }
}

static void write_crl(const FixtureCa *ca, const char *directory,
                      unsigned char serial)
{
    gnutls_x509_crl_t crl;
    gnutls_datum_t pem;

    gnutls_x509_crl_init(&crl);
    gnutls_x509_crl_set_version(crl, 2);
    gnutls_x509_crl_set_this_update(crl, time(NULL) - FIXTURE_DAY);
    gnutls_x509_crl_set_next_update(crl, time(NULL) + FIXTURE_DAY);
    gnutls_x509_crl_set_crt_serial(crl, &serial, 1, time(NULL) - 3600);
    g_assert_cmpint(gnutls_x509_crl_sign2(crl, ca->crt, ca->key,
                                          GNUTLS_DIG_SHA256, 0), ==, 0);
    gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &pem);
    fixture_write(directory, "ca-crl.pem", pem.data, pem.size, 0644);
    gnutls_free(pem.data);
    gnutls_x509_crl_deinit(crl);
}

static void test_revoked(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    FixtureSpec spec = { .dns = "x", .serial = 77 };

    write_crl(&self->ca, self->directory, 77);
    tls_credentials_unref(self->credentials);
    self->credentials = fixture_load(TLS_X509, self->directory);
    check_bad_server(self, fixture_x509(&self->ca, &spec, &spec), "revoked");
    shake(self, &link_rules, &link_rules);      /* not serial 77 */
    assert_works(&self->pair);
}

static void test_client_without_certificate(Fixture *self,
                                            gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *cert = g_build_filename(self->directory,
                                             "client-cert.pem", NULL);
    g_autofree char *key = g_build_filename(self->directory, "client-key.pem",
                                            NULL);
    g_autoptr(TlsCredentials) server_only = NULL;

    g_unlink(cert);
    g_unlink(key);
    server_only = fixture_load(TLS_X509, self->directory);
    fixture_pair_handshake(&self->pair, server_only, &link_rules,
                           self->credentials, &link_rules);
    fixture_assert_message(self->pair.client.error, STREAM_ERROR_TLS,
                           "got no client-cert.pem");
    g_assert_false(self->pair.server.ok);
}

/* Towards a QEMU it may be missing, and that end judges. */
static void test_bare_client(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *cert = g_build_filename(self->directory,
                                             "client-cert.pem", NULL);
    g_autofree char *key = g_build_filename(self->directory, "client-key.pem",
                                            NULL);
    TlsConfig config = {
        .kind = TLS_X509, .directory = self->directory,
        .client_may_lack_certificate = true,
    };
    g_autoptr(TlsCredentials) lenient = tls_credentials_load(&config, NULL);
    g_autoptr(TlsCredentials) bare = NULL;

    g_assert_false(tls_credentials_is_bare_client(lenient));
    g_unlink(cert);
    g_unlink(key);
    bare = tls_credentials_load(&config, NULL);
    g_assert_true(tls_credentials_is_bare_client(bare));
    g_assert_false(tls_credentials_serve_as(bare, lenient, NULL));
    fixture_pair_handshake(&self->pair, bare, &qemu_rules, lenient, &qemu_rules);
    g_assert_no_error(self->pair.client.error);
    g_assert_no_error(self->pair.server.error);
    assert_works(&self->pair);
    fixture_pair_clear(&self->pair);

    fixture_pair_handshake(&self->pair, bare, &qemu_rules, self->credentials,
                           &qemu_rules);
    fixture_assert_message(self->pair.server.error, STREAM_ERROR_TLS,
                           "got no certificate from the peer");
}

static void test_alpn(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    TlsPeerRules other = link_rules;
    TlsPeerRules none = { .tls13_only = true };

    other.alpn = "multiferry/2";
    shake(self, &other, &link_rules);
    g_assert_false(self->pair.client.ok);
    fixture_assert_message(self->pair.client.error, STREAM_ERROR_TLS,
                           "TLS alert 120");
    g_assert_false(self->pair.server.ok);
    fixture_pair_clear(&self->pair);

    shake(self, &none, &link_rules);
    fixture_assert_message(self->pair.server.error, STREAM_ERROR_TLS,
                           "got no application protocol (ALPN), expected "
                           "'multiferry/1'");
    fixture_pair_clear(&self->pair);

    shake(self, &link_rules, &none);
    fixture_assert_message(self->pair.client.error, STREAM_ERROR_TLS,
                           "got no application protocol");
}

/* A link never speaks 1.2, whatever the priority string says. */
static void test_link_is_tls13_only(Fixture *self,
                                    gconstpointer data G_GNUC_UNUSED)
{
    TlsConfig config = {
        .kind = TLS_X509, .directory = self->directory, .verify_peer = true,
        .priority = (char *)"NORMAL:-VERS-ALL:+VERS-TLS1.2",
    };
    g_autoptr(TlsCredentials) old = tls_credentials_load(&config, NULL);

    fixture_pair_handshake(&self->pair, old, &qemu_rules, self->credentials,
                           &link_rules);
    g_assert_false(self->pair.client.ok);
    g_assert_false(self->pair.server.ok);
    fixture_pair_clear(&self->pair);
    fixture_pair_handshake(&self->pair, old, &qemu_rules, self->credentials,
                           &qemu_rules);
    assert_works(&self->pair);
}

/* What is read anew must not reach what was read before. */
static void test_reload_leaves_sessions_alone(Fixture *self,
                                              gconstpointer data G_GNUC_UNUSED)
{
    FixtureSpec spec = { .dns = "new.example.net" };
    TlsPeerRules rules = link_rules;

    shake(self, &link_rules, &link_rules);
    tls_credentials_unref(self->credentials);
    fixture_write_end(&self->ca, self->directory, "server", "new", &spec);
    self->credentials = fixture_load(TLS_X509, self->directory);
    assert_works(&self->pair);
    fixture_pair_clear(&self->pair);

    rules.certificate_name = "new.example.net";
    shake(self, &rules, &link_rules);
    assert_works(&self->pair);
}

/*
 * PSK and anonymous
 */

static void check_psk(const char *client_keys, const char *server_keys,
                      const TlsPeerRules *rules, const char *allowed,
                      FixturePair *pair)
{
    char *client_directory = fixture_psk(client_keys);
    char *server_directory = fixture_psk(server_keys);
    g_autoptr(TlsCredentials) client = fixture_load(TLS_PSK, client_directory);
    g_autoptr(TlsCredentials) server = fixture_load(TLS_PSK, server_directory);
    TlsPeerRules server_rules = *rules;

    server_rules.certificate_name = allowed;
    fixture_pair_handshake(pair, client, rules, server, &server_rules);
    fixture_remove(client_directory);
    fixture_remove(server_directory);
}

static void test_psk(void)
{
    FixturePair pair;
    gnutls_session_t session;
    g_autofree char *text = NULL;

    check_psk(FIXTURE_PSK, "# ours\n\n" FIXTURE_PSK, &link_rules, "qemu",
              &pair);
    assert_works(&pair);
    session = stream_get_tls(pair.server.stream);
    g_assert_cmpstr(tls_session_get_psk_identity(session), ==, "qemu");
    text = tls_session_describe_peer(session);
    g_assert_cmpstr(text, ==, "PSK identity 'qemu'");
    g_assert_cmpint(gnutls_cipher_get(session), ==, GNUTLS_CIPHER_AES_128_GCM);
    fixture_pair_clear(&pair);
}

static void test_psk_mismatch(void)
{
    FixturePair pair;

    check_psk(FIXTURE_PSK, "qemu:ff112233\n", &link_rules, NULL, &pair);
    fixture_assert_message(pair.client.error, STREAM_ERROR_TLS,
                           "the same key for the same PSK identity?");
    fixture_assert_message(pair.server.error, STREAM_ERROR_TLS,
                           "the same key for the same PSK identity?");
    fixture_pair_clear(&pair);

    check_psk(FIXTURE_PSK, "other:00112233445566778899aabbccddeeff\n",
              &link_rules, NULL, &pair);
    g_assert_false(pair.client.ok);
    g_assert_false(pair.server.ok);
    fixture_pair_clear(&pair);

    check_psk(FIXTURE_PSK, FIXTURE_PSK, &link_rules, "dc1", &pair);
    fixture_assert_message(pair.server.error, STREAM_ERROR_TLS,
                           "got PSK identity 'qemu', allowed 'dc1'");
    fixture_pair_clear(&pair);
}

static void test_anon(void)
{
    g_autoptr(TlsCredentials) anon = fixture_load(TLS_ANON, NULL);
    FixturePair pair;

    fixture_pair_handshake(&pair, anon, &qemu_rules, anon, &qemu_rules);
    assert_works(&pair);
    fixture_pair_clear(&pair);
    fixture_pair_handshake(&pair, anon, &link_rules, anon, &link_rules);
    fixture_assert_message(pair.client.error, STREAM_ERROR_TLS,
                           "TLS 1.3 has no anonymous handshake");
    fixture_pair_clear(&pair);
}

/*
 * Loading
 */

static void assert_load_fails(TlsKind kind, const char *directory,
                              const char *priority, const char *part)
{
    TlsConfig config = {
        .kind = kind, .directory = (char *)directory, .verify_peer = true,
        .priority = (char *)priority,
    };
    g_autoptr(GError) error = NULL;

    g_assert_null(tls_credentials_load(&config, &error));
    g_assert_error(error, TLS_ERROR, TLS_ERROR_FILE);
    if (!strstr(error->message, part)) {
        g_error("expected '%s' in '%s'", part, error->message);
    }
}

static void test_key_readable_by_others(Fixture *self,
                                        gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *key = g_build_filename(self->directory, "server-key.pem",
                                            NULL);
    char *psk = fixture_psk(FIXTURE_PSK);
    g_autofree char *psk_path = g_build_filename(psk, "keys.psk", NULL);

    g_chmod(key, 0640);
    assert_load_fails(TLS_X509, self->directory, NULL,
                      "server-key.pem: got mode 0640");
    g_chmod(psk_path, 0604);
    assert_load_fails(TLS_PSK, psk, NULL, "keys.psk: got mode 0604");
    fixture_remove(psk);
}

static void test_own_certificate_out_of_date(Fixture *self,
                                             gconstpointer data G_GNUC_UNUSED)
{
    FixtureSpec old = { .from = time(NULL) - 3 * FIXTURE_DAY,
                        .until = time(NULL) - FIXTURE_DAY };
    FixtureSpec early = { .from = time(NULL) + FIXTURE_DAY,
                          .until = time(NULL) + 3 * FIXTURE_DAY };

    fixture_write_end(&self->ca, self->directory, "server", "x", &old);
    assert_load_fails(TLS_X509, self->directory, NULL,
                      "server-cert.pem: the certificate expired at 2");
    fixture_write_end(&self->ca, self->directory, "server", "x", &early);
    assert_load_fails(TLS_X509, self->directory, NULL,
                      "server-cert.pem: the certificate is not valid before");
}

static void test_broken_files(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    char *empty = fixture_directory();
    char *psk = fixture_psk("qemu:xyz\n");
    FixtureSpec spec = { .dns = "x" };
    char *other = fixture_x509(&self->ca, &spec, &spec);
    g_autofree char *from = g_build_filename(other, "server-key.pem", NULL);
    g_autofree char *to = g_build_filename(self->directory, "server-key.pem",
                                           NULL);

    assert_load_fails(TLS_X509, empty, NULL, "got neither server-cert.pem");
    assert_load_fails(TLS_PSK, empty, NULL, "No such file");
    assert_load_fails(TLS_PSK, psk, NULL, "keys.psk: line 1: expected the key "
                      "of 'qemu'");
    fixture_write(psk, "keys.psk", "# nothing\n", -1, 0600);
    assert_load_fails(TLS_PSK, psk, NULL, "got no key in it");
    fixture_write(psk, "keys.psk", "nocolon\n", -1, 0600);
    assert_load_fails(TLS_PSK, psk, NULL, "line 1: expected IDENTITY:HEXKEY");
    assert_load_fails(TLS_X509, self->directory, "NORMAL:+NONSENSE",
                      "from '+NONSENSE' on");
    g_assert_cmpint(g_rename(from, to), ==, 0);
    assert_load_fails(TLS_X509, self->directory, NULL, "got a key that is not "
                      "the one of");
    fixture_write(self->directory, "ca-cert.pem", "", 0, 0644);
    fixture_remove(empty);
    fixture_remove(psk);
    fixture_remove(other);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add_func("/daemon/tls/" path, test)
#define ADD_X509_WITH(path, data, test) \
    g_test_add("/daemon/tls/" path, Fixture, data, set_up, test, tear_down)
#define ADD_X509(path, test) ADD_X509_WITH(path, NULL, test)
    ADD_X509("x509/mutual", test_mutual_x509);
    ADD_X509_WITH("x509/dns-name-matches", "dc2.example.net",
                  test_names_match);
    ADD_X509_WITH("x509/ip-matches", "127.0.0.1", test_names_match);
    ADD_X509("x509/wrong-server-name", test_wrong_server_name);
    ADD_X509("x509/wrong-client-name", test_wrong_client_name);
    ADD_X509("x509/fingerprints", test_fingerprints);
    ADD_X509("x509/wrong-ca", test_wrong_ca);
    ADD_X509("x509/wrong-purpose", test_wrong_purpose);
    ADD_X509("x509/expired", test_expired);
    ADD_X509("x509/revoked", test_revoked);
    ADD_X509("x509/client-without-certificate",
             test_client_without_certificate);
    ADD_X509("x509/client-without-certificate-where-it-may",
             test_bare_client);
    ADD_X509("alpn", test_alpn);
    ADD_X509("link-is-tls13-only", test_link_is_tls13_only);
    ADD_X509("reload-leaves-sessions-alone",
             test_reload_leaves_sessions_alone);
    ADD("psk", test_psk);
    ADD("psk-mismatch", test_psk_mismatch);
    ADD("anon", test_anon);
    ADD_X509("load/key-readable-by-others", test_key_readable_by_others);
    ADD_X509("load/own-certificate-out-of-date",
             test_own_certificate_out_of_date);
    ADD_X509("load/broken-files", test_broken_files);
    return g_test_run();
}
