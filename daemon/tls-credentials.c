/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading of credentials.  Everything is read here and nothing later: GnuTLS's
 * own backend for PSK files would open the file anew in every handshake, so the
 * keys are kept in a table and handed to it by a callback.
 */
#include "daemon/tls-private.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/tls-key-file.h"

/*
 * AES-128-GCM first: with the AES instructions of any server it is the cheapest
 * per byte, and strong enough for what GnuTLS calls NORMAL.  As servers we
 * choose by this order, because a QEMU client would prefer AES-256.
 */
#define PRIORITY_DEFAULT                                             \
    "NORMAL:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305" \
    ":-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"
#define PRIORITY_PSK ":+ECDHE-PSK:+DHE-PSK:+PSK"
#define PRIORITY_PSK_TLS13 ":+ECDHE-PSK:+DHE-PSK"   /* forward secrecy only */
#define PRIORITY_ANON ":+ANON-ECDH:+ANON-DH"
#define PRIORITY_TLS13 ":-VERS-ALL:+VERS-TLS1.3"

#define FILE_MAX (4 * 1024 * 1024)
#define PSK_USERNAME_DEFAULT "qemu"

G_DEFINE_QUARK(tls-error-quark, tls_error)

static bool fail(GError **error, const char *where, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static bool fail(GError **error, const char *where, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, TLS_ERROR, TLS_ERROR_FILE, "%s: %s", where, what);
    return false;
}

static bool check(int code, const char *where, GError **error)
{
    return code >= 0 || fail(error, where, "%s", gnutls_strerror(code));
}

static bool read_all(int fd, size_t size, gnutls_datum_t *ret)
{
    size_t done = 0;

    ret->data = g_malloc(size + 1);
    while (done < size) {
        ssize_t n = read(fd, ret->data + done, size - done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        done += (size_t)n;
    }
    ret->data[done] = '\0';
    ret->size = (unsigned)done;
    return done == size;
}

static void datum_clear(gnutls_datum_t *self)
{
    if (self->data) {
        gnutls_memset(self->data, 0, self->size);
        g_free(self->data);
    }
    *self = (gnutls_datum_t) { 0 };
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(gnutls_datum_t, datum_clear)

/* The mode is checked on the open file, so it is the one that is read. */
static bool read_file(const char *path, bool secret, gnutls_datum_t *ret,
                      GError **error)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ok;

    if (fd < 0) {
        return fail(error, path, "%s", g_strerror(errno));
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        ok = fail(error, path, "got something that is not a file");
    } else if (secret && !tls_key_file_is_private(fd, &st)) {
        ok = fail(error, path, "got mode %04o, which lets others read the "
                  "key; allowed at most 0600 (chmod 0600 it)",
                  (unsigned)st.st_mode & 07777);
    } else if (st.st_size > FILE_MAX) {
        ok = fail(error, path, "got %" PRId64 " bytes, allowed at most %d",
                  (int64_t)st.st_size, FILE_MAX);
    } else if (!read_all(fd, (size_t)st.st_size, ret)) {
        ok = fail(error, path, "could not be read to its end");
    } else {
        ok = true;
    }
    close(fd);
    return ok;
}

static bool file_exists(const char *path)
{
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static bool check_validity(const char *path, const gnutls_datum_t *pem,
                           GError **error)
{
    gnutls_x509_crt_t *list = NULL;
    unsigned n = 0;
    time_t now = time(NULL);
    time_t from;
    time_t until;
    unsigned i;

    if (!check(gnutls_x509_crt_list_import2(&list, &n, pem,
                                            GNUTLS_X509_FMT_PEM, 0),
               path, error)) {
        return false;
    }
    from = gnutls_x509_crt_get_activation_time(list[0]);
    until = gnutls_x509_crt_get_expiration_time(list[0]);
    for (i = 0; i < n; i++) {
        gnutls_x509_crt_deinit(list[i]);
    }
    gnutls_free(list);
    if (now < from || now > until) {
        g_autoptr(GDateTime) when =
            g_date_time_new_from_unix_utc(now < from ? from : until);
        g_autofree char *text = g_date_time_format_iso8601(when);

        return fail(error, path, now < from
                    ? "the certificate is not valid before %s"
                    : "the certificate expired at %s", text);
    }
    return true;
}

static bool load_trust(gnutls_certificate_credentials_t x509,
                       const char *directory, GError **error)
{
    g_autofree char *ca = g_build_filename(directory, "ca-cert.pem", NULL);
    g_autofree char *crl = g_build_filename(directory, "ca-crl.pem", NULL);
    g_auto(gnutls_datum_t) ca_pem = { 0 };
    g_auto(gnutls_datum_t) crl_pem = { 0 };
    int n;

    if (!read_file(ca, false, &ca_pem, error)) {
        return false;
    }
    n = gnutls_certificate_set_x509_trust_mem(x509, &ca_pem,
                                              GNUTLS_X509_FMT_PEM);
    if (n == 0) {
        return fail(error, ca, "got no certificate in it");
    }
    if (!check(n, ca, error)) {
        return false;
    }
    if (!file_exists(crl)) {
        return true;
    }
    return read_file(crl, false, &crl_pem, error) &&
           check(gnutls_certificate_set_x509_crl_mem(x509, &crl_pem,
                                                     GNUTLS_X509_FMT_PEM),
                 crl, error);
}

/* @end is "server" or "client".  Without any file of that name: true, and no
 * credentials; they are missed only when a session needs them. */
static bool load_x509_end(const char *directory, const char *end,
                          gnutls_certificate_credentials_t *ret,
                          GError **error)
{
    g_autofree char *cert_name = g_strconcat(end, "-cert.pem", NULL);
    g_autofree char *key_name = g_strconcat(end, "-key.pem", NULL);
    g_autofree char *cert = g_build_filename(directory, cert_name, NULL);
    g_autofree char *key = g_build_filename(directory, key_name, NULL);
    g_auto(gnutls_datum_t) cert_pem = { 0 };
    g_auto(gnutls_datum_t) key_pem = { 0 };
    int code;

    if (!file_exists(cert) && !file_exists(key)) {
        return true;
    }
    if (!read_file(cert, false, &cert_pem, error) ||
        !read_file(key, true, &key_pem, error) ||
        !check_validity(cert, &cert_pem, error)) {
        return false;
    }
    gnutls_certificate_allocate_credentials(ret);
    code = gnutls_certificate_set_x509_key_mem(*ret, &cert_pem, &key_pem,
                                               GNUTLS_X509_FMT_PEM);
    if (code == GNUTLS_E_CERTIFICATE_KEY_MISMATCH) {
        return fail(error, key, "got a key that is not the one of %s", cert);
    }
    gnutls_certificate_set_known_dh_params(*ret, GNUTLS_SEC_PARAM_MEDIUM);
    return check(code, key, error) && load_trust(*ret, directory, error);
}

static bool load_x509(TlsCredentials *self, GError **error)
{
    if (!load_x509_end(self->directory, "server", &self->x509_server, error) ||
        !load_x509_end(self->directory, "client", &self->x509_client, error)) {
        return false;
    }
    if (!self->x509_client && self->client_may_lack_certificate) {
        gnutls_certificate_allocate_credentials(&self->x509_trust);
        return load_trust(self->x509_trust, self->directory, error);
    }
    if (!self->x509_client && !self->x509_server) {
        return fail(error, self->directory, "got neither server-cert.pem nor "
                    "client-cert.pem, expected at least one with its key");
    }
    return true;
}

static int on_psk_wanted(gnutls_session_t session, const char *identity,
                         gnutls_datum_t *ret)
{
    TlsSession *own = gnutls_session_get_ptr(session);
    GBytes *key = g_hash_table_lookup(own->credentials->psk_keys, identity);
    gsize size;
    const void *data;

    if (!key) {
        return 1;   /* unknown: GnuTLS goes on with a random key, and fails */
    }
    data = g_bytes_get_data(key, &size);
    ret->data = gnutls_malloc(size);
    if (!ret->data) {
        return -1;
    }
    memcpy(ret->data, data, size);
    ret->size = (unsigned)size;
    return 0;
}

static bool parse_psk_line(TlsCredentials *self, const char *path,
                           unsigned number, const char *line, GError **error)
{
    const char *colon = strchr(line, ':');
    gnutls_datum_t hex = { 0 };
    gnutls_datum_t key = { 0 };

    if (!*line || *line == '#') {
        return true;
    }
    if (!colon || colon == line) {
        return fail(error, path, "line %u: expected IDENTITY:HEXKEY", number);
    }
    hex.data = (unsigned char *)colon + 1;
    hex.size = (unsigned)strlen(colon + 1);
    if (hex.size == 0 || gnutls_hex_decode2(&hex, &key) < 0) {
        return fail(error, path, "line %u: expected the key of '%.*s' in "
                    "hexadecimal digits", number, (int)(colon - line), line);
    }
    g_hash_table_replace(self->psk_keys, g_strndup(line, colon - line),
                         g_bytes_new_with_free_func(key.data, key.size,
                                                    gnutls_free, key.data));
    return true;
}

static bool parse_psk(TlsCredentials *self, const char *path, char *text,
                      GError **error)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    bool ok = true;
    unsigned i;

    for (i = 0; ok && lines[i]; i++) {
        ok = parse_psk_line(self, path, i + 1, g_strchomp(lines[i]), error);
    }
    for (i = 0; lines[i]; i++) {
        gnutls_memset(lines[i], 0, strlen(lines[i]));
    }
    if (ok && g_hash_table_size(self->psk_keys) == 0) {
        return fail(error, path, "got no key in it, expected lines "
                    "IDENTITY:HEXKEY");
    }
    return ok;
}

static bool load_psk(TlsCredentials *self, GError **error)
{
    g_autofree char *path = g_build_filename(self->directory, "keys.psk", NULL);
    g_auto(gnutls_datum_t) text = { 0 };
    GBytes *own;
    gnutls_datum_t key;
    gsize size;

    if (!read_file(path, true, &text, error) ||
        !parse_psk(self, path, (char *)text.data, error)) {
        return false;
    }
    gnutls_psk_allocate_server_credentials(&self->psk_server);
    gnutls_psk_set_server_credentials_function(self->psk_server,
                                               on_psk_wanted);
    gnutls_psk_set_server_known_dh_params(self->psk_server,
                                          GNUTLS_SEC_PARAM_MEDIUM);
    own = g_hash_table_lookup(self->psk_keys, self->psk_username);
    if (!own) {
        return true;    /* enough for a server */
    }
    key.data = (unsigned char *)g_bytes_get_data(own, &size);
    key.size = (unsigned)size;
    gnutls_psk_allocate_client_credentials(&self->psk_client);
    return check(gnutls_psk_set_client_credentials(self->psk_client,
                                                   self->psk_username, &key,
                                                   GNUTLS_PSK_KEY_RAW),
                 path, error);
}

static bool load_anon(TlsCredentials *self, GError **error G_GNUC_UNUSED)
{
    gnutls_anon_allocate_server_credentials(&self->anon_server);
    gnutls_anon_allocate_client_credentials(&self->anon_client);
    gnutls_anon_set_server_known_dh_params(self->anon_server,
                                           GNUTLS_SEC_PARAM_MEDIUM);
    return true;
}

static bool init_priority(gnutls_priority_t *ret, const char *base,
                          const char *kx, const char *versions, GError **error)
{
    g_autofree char *text = g_strconcat(base, kx, versions, NULL);
    const char *at = text;
    int code = gnutls_priority_init(ret, text, &at);

    if (code < 0) {
        *ret = NULL;
        g_set_error(error, TLS_ERROR, TLS_ERROR_FILE,
                    "TLS priority '%s': not understood by GnuTLS from '%s' on",
                    text, at);
        return false;
    }
    return true;
}

static bool load_priorities(TlsCredentials *self, const char *priority,
                            GError **error)
{
    static const char *const kx[] = {
        [TLS_X509] = "", [TLS_PSK] = PRIORITY_PSK, [TLS_ANON] = PRIORITY_ANON,
    };
    static const char *const kx_tls13[] = {
        [TLS_X509] = "", [TLS_PSK] = PRIORITY_PSK_TLS13, [TLS_ANON] = "",
    };
    const char *base = priority ? priority : PRIORITY_DEFAULT;

    return init_priority(&self->priority, base, kx[self->kind], "", error) &&
           init_priority(&self->priority_tls13, base, kx_tls13[self->kind],
                         PRIORITY_TLS13, error);
}

TlsCredentials *tls_credentials_load(const TlsConfig *config, GError **error)
{
    static bool (*const load[])(TlsCredentials *, GError **) = {
        [TLS_X509] = load_x509, [TLS_PSK] = load_psk, [TLS_ANON] = load_anon,
    };
    g_autoptr(TlsCredentials) self = g_new0(TlsCredentials, 1);

    g_atomic_ref_count_init(&self->refs);
    self->kind = config->kind;
    self->verify_peer = config->verify_peer;
    self->rekey_bytes = config->rekey_bytes;
    self->client_may_lack_certificate = config->client_may_lack_certificate;
    self->directory = g_strdup(config->directory);
    self->psk_username = g_strdup(config->psk_username ? config->psk_username
                                                       : PSK_USERNAME_DEFAULT);
    self->psk_keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                           (GDestroyNotify)g_bytes_unref);
    if (!self->directory && self->kind != TLS_ANON) {
        fail(error, "TLS", "expected a directory with the credentials");
        return NULL;
    }
    if (!load_priorities(self, config->priority, error) ||
        !load[self->kind](self, error)) {
        return NULL;
    }
    return g_steal_pointer(&self);
}

bool tls_credentials_serve_as(const TlsCredentials *self,
                              const TlsCredentials *old, GError **error)
{
    if ((old->x509_server && !self->x509_server) ||
        (old->x509_client && !self->x509_client)) {
        return fail(error, self->directory, "got no %s-cert.pem any more, "
                    "expected one as before",
                    self->x509_server ? "client" : "server");
    }
    if (old->psk_client && !self->psk_client) {
        return fail(error, self->directory, "got no key of '%s' in keys.psk "
                    "any more, expected one as before", self->psk_username);
    }
    return true;
}

bool tls_credentials_is_bare_client(const TlsCredentials *self)
{
    return self->kind == TLS_X509 && !self->x509_client;
}

TlsCredentials *tls_credentials_ref(TlsCredentials *self)
{
    g_atomic_ref_count_inc(&self->refs);
    return self;
}

#define FREE(pointer, function) \
    do { if (pointer) { function(pointer); } } while (0)

void tls_credentials_unref(TlsCredentials *self)
{
    if (!self || !g_atomic_ref_count_dec(&self->refs)) {
        return;
    }
    FREE(self->priority, gnutls_priority_deinit);
    FREE(self->priority_tls13, gnutls_priority_deinit);
    FREE(self->x509_server, gnutls_certificate_free_credentials);
    FREE(self->x509_client, gnutls_certificate_free_credentials);
    FREE(self->x509_trust, gnutls_certificate_free_credentials);
    FREE(self->psk_server, gnutls_psk_free_server_credentials);
    FREE(self->psk_client, gnutls_psk_free_client_credentials);
    FREE(self->anon_server, gnutls_anon_free_server_credentials);
    FREE(self->anon_client, gnutls_anon_free_client_credentials);
    g_hash_table_unref(self->psk_keys);
    g_free(self->directory);
    g_free(self->psk_username);
    g_free(self);
}
