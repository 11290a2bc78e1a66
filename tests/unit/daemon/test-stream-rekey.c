/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New TLS 1.3 keys in the middle of a stream that is busy both ways, with a
 * reader and a writer at each end.  Each KeyUpdate that GnuTLS sends or gets is
 * counted by a hook, so no test passes because there was none.
 */
#include "daemon/stream.h"

#include "tests/unit/daemon/tls-fixture.h"

enum {
    CHUNK = 251 * 400,      /* of the pattern: a prime period shows any shift */
    REKEY_BYTES = 64 * 1024,
    WANTED = 2,             /* updates of each end */
    PEER_UPDATES = 6,       /* GnuTLS fails a session that gets 9 in a second */
};

static const TlsPeerRules rules = { .alpn = NULL };

/* By the end whose session it is: 0 the client's, 1 the server's. */
static gnutls_session_t sessions[2];    /* set before any thread */
static int updates_sent[2];
static int updates_got[2];

static int count_update(gnutls_session_t session,
                        unsigned type G_GNUC_UNUSED, unsigned when
                        G_GNUC_UNUSED, unsigned incoming,
                        const gnutls_datum_t *message G_GNUC_UNUSED)
{
    int end = session == sessions[1];

    g_atomic_int_inc(&(incoming ? updates_got : updates_sent)[end]);
    return 0;
}

/* Before the threads of a test start. */
static void watch(Stream *client, Stream *server)
{
    Stream *ends[2] = { client, server };

    memset(updates_sent, 0, sizeof(updates_sent));
    memset(updates_got, 0, sizeof(updates_got));
    for (int i = 0; i < 2; i++) {
        sessions[i] = ends[i] ? stream_get_tls(ends[i]) : NULL;
        if (sessions[i]) {
            gnutls_handshake_set_hook_function(
                sessions[i], GNUTLS_HANDSHAKE_KEY_UPDATE, GNUTLS_HOOK_POST,
                count_update);
        }
    }
}

static void fill_pattern(uint8_t *buf)
{
    for (size_t i = 0; i < CHUNK; i++) {
        buf[i] = (uint8_t)(i % 251);
    }
}

typedef struct {
    Stream *stream;
    int end;
    bool (*is_enough)(int end); /* of a writer */
    bool ok;
    size_t len;
    GError *error;
} Job;

/* Its own keys have changed often enough. */
static bool is_rekeyed(int end)
{
    return g_atomic_int_get(&updates_sent[end]) >= WANTED;
}

/* Until it is enough, or clearly never will be. */
static gpointer write_thread(gpointer data)
{
    Job *job = data;
    gint64 end_us = g_get_monotonic_time() + FIXTURE_LONG_MS * 1000LL;
    uint8_t buf[CHUNK];

    fill_pattern(buf);
    do {
        job->ok = stream_write(job->stream, buf, sizeof(buf), &job->error);
        job->len += sizeof(buf);
    } while (job->ok && !job->is_enough(job->end) &&
             g_get_monotonic_time() < end_us);
    stream_finish(job->stream);
    return NULL;
}

static gpointer read_thread(gpointer data)
{
    Job *job = data;
    uint8_t expected[CHUNK], buf[CHUNK];
    bool eof = false;

    fill_pattern(expected);
    while ((job->ok = stream_read_full(job->stream, buf, sizeof(buf), &eof,
                                       &job->error)) && !eof) {
        job->ok = memcmp(buf, expected, sizeof(buf)) == 0;
        job->len += sizeof(buf);
        if (!job->ok) {
            break;
        }
    }
    if (!job->ok) {
        stream_shutdown(job->stream);   /* or the writers would wait */
    }
    return NULL;
}

static TlsCredentials *load(uint64_t rekey_bytes)
{
    char *directory = fixture_psk(FIXTURE_PSK);
    TlsConfig config = {
        .kind = TLS_PSK, .directory = directory, .rekey_bytes = rekey_bytes,
    };
    TlsCredentials *credentials = tls_credentials_load(&config, NULL);

    g_assert_nonnull(credentials);
    fixture_remove(directory);
    return credentials;
}

/* What the lanes of a link do by themselves. */
static void test_both_ends_rekey(void)
{
    g_autoptr(TlsCredentials) credentials = load(REKEY_BYTES);
    FixturePair pair;
    Job jobs[4];
    GThread *threads[4];

    fixture_pair_handshake(&pair, credentials, &rules, credentials, &rules);
    g_assert_no_error(pair.client.error);
    g_assert_no_error(pair.server.error);
    watch(pair.client.stream, pair.server.stream);
    for (int i = 0; i < 4; i++) {
        jobs[i] = (Job) { .end = i % 2, .stream = i % 2 ? pair.server.stream
                                                        : pair.client.stream,
                          .is_enough = is_rekeyed };
        threads[i] = g_thread_new("job", i < 2 ? read_thread : write_thread,
                                  &jobs[i]);
    }
    for (int i = 0; i < 4; i++) {
        g_thread_join(threads[i]);
        g_assert_no_error(jobs[i].error);
        g_assert_true(jobs[i].ok);
    }
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(updates_sent[i], >=, WANTED);
        g_assert_cmpint(updates_got[i], ==, updates_sent[!i]);
        g_assert_cmpuint(jobs[i].len, ==, jobs[2 + !i].len);
    }
    fixture_pair_clear(&pair);
}

/* Without being asked to, nobody does, and the writer ends at its deadline. */
static void test_is_off_by_default(void)
{
    g_autoptr(TlsCredentials) credentials = load(0);
    g_autofree uint8_t *buf = g_malloc(CHUNK);
    Job reader = { 0 };
    FixturePair pair;
    GThread *thread;

    fixture_pair_handshake(&pair, credentials, &rules, credentials, &rules);
    g_assert_no_error(pair.client.error);
    watch(pair.client.stream, pair.server.stream);
    reader.stream = pair.server.stream;
    thread = g_thread_new("reader", read_thread, &reader);
    fill_pattern(buf);
    g_usleep(300 * 1000);       /* past any interval between two updates */
    for (int i = 0; i < 20; i++) {
        g_assert_true(stream_write(pair.client.stream, buf, CHUNK, NULL));
    }
    stream_finish(pair.client.stream);
    g_thread_join(thread);
    g_assert_true(reader.ok);
    g_assert_cmpint(updates_sent[0], ==, 0);
    fixture_pair_clear(&pair);
}

/* A QEMU, as far as TLS goes: GnuTLS on a blocking socket, one thread. */
typedef struct {
    int fd;
    bool server;
    bool ok;
    int updates;        /* of its own */
    size_t got;
} Peer;

static int find_key(gnutls_session_t session G_GNUC_UNUSED,
                    const char *user G_GNUC_UNUSED, gnutls_datum_t *ret)
{
    static const char hex[] = FIXTURE_PSK;
    const gnutls_datum_t text = {
        (unsigned char *)strchr(hex, ':') + 1,
        (unsigned)strcspn(strchr(hex, ':') + 1, "\n"),
    };

    return gnutls_hex_decode2(&text, ret);
}

static gnutls_session_t peer_session(Peer *self, void **ret_credentials)
{
    gnutls_session_t session;

    g_assert_cmpint(gnutls_init(&session, self->server ? GNUTLS_SERVER
                                                       : GNUTLS_CLIENT), ==, 0);
    if (self->server) {
        gnutls_psk_server_credentials_t credentials;

        gnutls_psk_allocate_server_credentials(&credentials);
        gnutls_psk_set_server_credentials_function(credentials, find_key);
        *ret_credentials = credentials;
    } else {
        gnutls_psk_client_credentials_t credentials;
        gnutls_datum_t key;

        g_assert_cmpint(find_key(session, "", &key), ==, 0);
        gnutls_psk_allocate_client_credentials(&credentials);
        gnutls_psk_set_client_credentials(credentials, "qemu", &key,
                                          GNUTLS_PSK_KEY_RAW);
        gnutls_free(key.data);
        *ret_credentials = credentials;
    }
    gnutls_priority_set_direct(session, "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK", NULL);
    gnutls_credentials_set(session, GNUTLS_CRD_PSK, *ret_credentials);
    gnutls_transport_set_int(session, self->fd);
    return session;
}

static bool peer_receive(Peer *self, gnutls_session_t session, size_t len)
{
    while (len > 0) {
        uint8_t buf[16384];
        ssize_t n = gnutls_record_recv(session, buf, MIN(len, sizeof(buf)));

        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] != (self->got + (size_t)i) % 251) {
                return false;
            }
        }
        self->got += (size_t)n;
        len -= (size_t)n;
    }
    return true;
}

static bool peer_send(gnutls_session_t session, const uint8_t *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = gnutls_record_send(session, buf, len);

        if (n < 0 && n != GNUTLS_E_AGAIN && n != GNUTLS_E_INTERRUPTED) {
            return false;
        }
        buf += MAX(n, 0);
        len -= (size_t)MAX(n, 0);
    }
    return true;
}

/* A chunk each way, new keys, and so on; every other time ours are wanted too. */
static gpointer peer_thread(gpointer data)
{
    Peer *self = data;
    g_autofree uint8_t *buf = g_malloc(CHUNK);
    void *credentials = NULL;
    gnutls_session_t session = peer_session(self, &credentials);

    fill_pattern(buf);
    self->ok = gnutls_handshake(session) == 0;
    while (self->ok && self->updates <= PEER_UPDATES) {
        self->ok = peer_send(session, buf, CHUNK) &&
                   peer_receive(self, session, CHUNK) &&
                   gnutls_session_key_update(session, self->updates % 2
                                             ? GNUTLS_KU_PEER : 0) == 0;
        self->updates++;
    }
    self->ok = self->ok && peer_send(session, buf, CHUNK);
    gnutls_bye(session, GNUTLS_SHUT_WR);
    while (self->ok && peer_receive(self, session, 1)) {
    }
    gnutls_deinit(session);
    if (self->server) {
        gnutls_psk_free_server_credentials(credentials);
    } else {
        gnutls_psk_free_client_credentials(credentials);
    }
    return NULL;
}

/* All of the peer's have come, and some were answered, so in mid-stream. */
static bool is_answered(int end)
{
    return g_atomic_int_get(&updates_sent[end]) > 0 &&
           g_atomic_int_get(&updates_got[end]) > PEER_UPDATES;
}

/* On a QEMU leg the other end may change keys, and ask us to, at any time. */
static void test_peer_rekeys(gconstpointer data)
{
    g_autoptr(TlsCredentials) credentials = load(0);
    bool we_are_server = GPOINTER_TO_INT(data);
    g_autoptr(Stream) stream = NULL;
    GThread *threads[3];
    Peer peer = { .server = !we_are_server };
    Job reader = { 0 };
    Job writer = { .end = we_are_server, .is_enough = is_answered };
    GError *error = NULL;
    int fds[2];

    fixture_connect(fds);
    peer.fd = fds[we_are_server ? 0 : 1];
    stream = stream_new(fds[we_are_server ? 1 : 0], "ours");
    threads[0] = g_thread_new("peer", peer_thread, &peer);
    g_assert_true(stream_start_tls(stream, credentials, we_are_server, &rules,
                                   FIXTURE_LONG_MS, &error));
    g_assert_no_error(error);
    watch(we_are_server ? NULL : stream, we_are_server ? stream : NULL);
    reader.stream = writer.stream = stream;
    threads[1] = g_thread_new("reader", read_thread, &reader);
    threads[2] = g_thread_new("writer", write_thread, &writer);
    for (int i = 0; i < 3; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_no_error(reader.error);
    g_assert_no_error(writer.error);
    g_assert_true(peer.ok);
    g_assert_true(reader.ok);
    g_assert_true(writer.ok);
    g_assert_cmpuint(peer.got, ==, writer.len);
    g_assert_cmpuint(reader.len, ==, (PEER_UPDATES + 2) * (size_t)CHUNK);
    g_assert_cmpint(updates_got[we_are_server], ==, PEER_UPDATES + 1);
    /* Requests that come faster than we write are answered by one. */
    g_assert_cmpint(updates_sent[we_are_server], >=, 1);
    g_assert_cmpint(updates_sent[we_are_server], <=, PEER_UPDATES / 2);
    close(peer.fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/stream/rekey/both-ends", test_both_ends_rekey);
    g_test_add_func("/daemon/stream/rekey/off-by-default", test_is_off_by_default);
    g_test_add_data_func("/daemon/stream/rekey/peer-client-does",
                         GINT_TO_POINTER(true), test_peer_rekeys);
    g_test_add_data_func("/daemon/stream/rekey/peer-server-does",
                         GINT_TO_POINTER(false), test_peer_rekeys);
    return g_test_run();
}
