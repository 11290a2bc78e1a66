/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/stream.h"

#include "tests/unit/daemon/tls-fixture.h"

/* Every test of behaviour that must be the same runs plain and under TLS. */
typedef struct {
    TlsCredentials *credentials;    /* NULL: plain */
    FixturePair pair;
    Stream *client;
    Stream *server;
} Fixture;

static const TlsPeerRules rules = { .alpn = "multiferry/1",
                                    .tls13_only = true };
static const TlsPeerRules old_rules = { .alpn = NULL };

static TlsCredentials *load_psk(void)
{
    char *directory = fixture_psk(FIXTURE_PSK);
    TlsCredentials *credentials = fixture_load(TLS_PSK, directory);

    fixture_remove(directory);
    return credentials;
}

static void set_up(Fixture *self, gconstpointer data)
{
    if (data) {
        bool is_old = g_str_equal(data, "anon");

        self->credentials = is_old ? fixture_load(TLS_ANON, NULL)
                                   : load_psk();
        fixture_pair_handshake(&self->pair, self->credentials,
                               is_old ? &old_rules : &rules,
                               self->credentials,
                               is_old ? &old_rules : &rules);
        g_assert_no_error(self->pair.client.error);
        g_assert_no_error(self->pair.server.error);
    } else {
        fixture_pair_init(&self->pair);
    }
    self->client = self->pair.client.stream;
    self->server = self->pair.server.stream;
}

static void tear_down(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    fixture_pair_clear(&self->pair);
    tls_credentials_unref(self->credentials);
}

/* What byte @i of a test stream is: a prime period shows any shift. */
static uint8_t pattern(size_t i)
{
    return (uint8_t)(i % 251);
}

static uint8_t *pattern_new(size_t len)
{
    uint8_t *buf = g_malloc(len);
    size_t i;

    for (i = 0; i < len; i++) {
        buf[i] = pattern(i);
    }
    return buf;
}

typedef struct {
    Stream *stream;
    size_t len;
    bool ok;
    GError *error;
} Job;

static gpointer read_thread(gpointer data)
{
    Job *job = data;
    g_autofree uint8_t *buf = g_malloc(job->len);
    size_t i;

    job->ok = stream_read_full(job->stream, buf, job->len, NULL, &job->error);
    if (!job->ok) {
        stream_shutdown(job->stream);   /* or the writers would wait */
    }
    for (i = 0; job->ok && i < job->len; i++) {
        job->ok = buf[i] == pattern(i);
    }
    return NULL;
}

static gpointer write_thread(gpointer data)
{
    Job *job = data;
    g_autofree uint8_t *buf = pattern_new(job->len);

    job->ok = stream_write(job->stream, buf, job->len, &job->error);
    return NULL;
}

/* Both directions at once, each end with a reader and a writer. */
static void test_both_directions_at_once(Fixture *self,
                                         gconstpointer data G_GNUC_UNUSED)
{
    Job jobs[4] = {
        { .stream = self->client }, { .stream = self->server },
        { .stream = self->client }, { .stream = self->server },
    };
    GThread *threads[4];
    int i;

    for (i = 0; i < 4; i++) {
        jobs[i].len = 8 * 1000 * 1000;
        threads[i] = g_thread_new("job", i < 2 ? read_thread : write_thread,
                                  &jobs[i]);
    }
    for (i = 0; i < 4; i++) {
        g_thread_join(threads[i]);
        g_assert_no_error(jobs[i].error);
        g_assert_true(jobs[i].ok);
    }
    g_assert_cmpuint(stream_get_wire_bytes_in(self->client), ==,
                     stream_get_wire_bytes_out(self->server));
    g_assert_cmpuint(stream_get_wire_bytes_out(self->client), >=, jobs[0].len);
}

/* Tiny and large, empty, neighbours in memory, more than IOV_MAX of them. */
static void test_writev_of_many_shapes(Fixture *self,
                                       gconstpointer data G_GNUC_UNUSED)
{
    static const size_t sizes[] = { 1, 0, 64, 16383, 16384, 16385, 4096, 4096,
                                    100000, 0, 7, 3 };
    Job job = { .stream = self->server };
    g_autofree uint8_t *buf = NULL;
    struct iovec iov[3000];
    GThread *thread;
    size_t at = 0;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(iov); i++) {
        iov[i].iov_len = i < 24 ? sizes[i % 12] : i % 512;
        job.len += iov[i].iov_len;
    }
    buf = pattern_new(job.len);
    for (i = 0; i < G_N_ELEMENTS(iov); i++) {
        /* every other one is moved, so that it has no neighbour */
        iov[i].iov_base = i % 2 ? buf + at
                                : g_memdup2(buf + at, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    thread = g_thread_new("reader", read_thread, &job);
    g_assert_true(stream_writev(self->client, iov, G_N_ELEMENTS(iov), NULL));
    g_thread_join(thread);
    g_assert_no_error(job.error);
    g_assert_true(job.ok);
    for (i = 0; i < G_N_ELEMENTS(iov); i += 2) {
        g_free(iov[i].iov_base);
    }
}

static void test_wire_cost_is_what_is_counted(Fixture *self,
                                              gconstpointer data
                                              G_GNUC_UNUSED)
{
    static const size_t lens[] = { 1, 16384, 16385, 100000 };
    g_autofree uint8_t *buf = pattern_new(100000);
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(lens); i++) {
        uint64_t before = stream_get_wire_bytes_out(self->client);

        g_assert_true(stream_write(self->client, buf, lens[i], NULL));
        g_assert_cmpuint(stream_get_wire_bytes_out(self->client) - before, ==,
                         stream_wire_cost(self->client, lens[i]));
    }
}

static void assert_ends(Stream *stream)
{
    bool eof = false;
    char buf[4];

    g_assert_true(stream_read_full(stream, buf, 4, &eof, NULL));
    g_assert_true(eof);
}

static void test_finish_is_a_clean_end(Fixture *self,
                                       gconstpointer data G_GNUC_UNUSED)
{
    char buf[4];

    g_assert_true(stream_write(self->client, "last", 4, NULL));
    stream_finish(self->client);
    g_assert_true(stream_read_full(self->server, buf, 4, NULL, NULL));
    g_assert_false(stream_ended_cleanly(self->server));
    assert_ends(self->server);
    g_assert_true(stream_ended_cleanly(self->server));

    /* half closed: the other direction is still good */
    g_assert_true(stream_write(self->server, "back", 4, NULL));
    g_assert_true(stream_read_full(self->client, buf, 4, NULL, NULL));
    g_assert_cmpmem(buf, 4, "back", 4);
}

/* QEMU before 10.0 ends TLS with a plain FIN: an end, but not a clean one, and
 * what we still have to say must get through. */
static void test_fin_without_close_notify(Fixture *self,
                                          gconstpointer data G_GNUC_UNUSED)
{
    char buf[4];

    shutdown(stream_get_fd(self->client), SHUT_WR);
    assert_ends(self->server);
    g_assert_cmpint(stream_ended_cleanly(self->server), ==,
                    stream_get_tls(self->server) == NULL);
    g_assert_true(stream_write(self->server, "back", 4, NULL));
    g_assert_true(stream_read_full(self->client, buf, 4, NULL, NULL));
}

static void test_eof_inside(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;
    bool eof;
    char buf[10];

    g_assert_true(stream_write(self->client, "abc", 3, NULL));
    stream_finish(self->client);
    g_assert_false(stream_read_full(self->server, buf, 10, &eof, &error));
    fixture_assert_message(error, STREAM_ERROR_EOF,
                           "after 3 bytes, expected 10");
    g_clear_error(&error);
    g_assert_false(stream_read_full(self->server, buf, 10, NULL, &error));
    fixture_assert_message(error, STREAM_ERROR_EOF, "after 0 bytes");
}

static gpointer write_until_error(gpointer data)
{
    Job *job = data;
    g_autofree uint8_t *buf = pattern_new(job->len);

    while (stream_write(job->stream, buf, job->len, &job->error)) {
    }
    return NULL;
}

/* A peer that neither reads nor writes: only shutdown gets our threads out. */
static void test_shutdown_wakes_reader_and_writer(Fixture *self,
                                                  gconstpointer data
                                                  G_GNUC_UNUSED)
{
    Job reader = { .stream = self->client, .len = 100 };
    Job writer = { .stream = self->client, .len = 1000000 };
    GThread *threads[2];
    char buf[1];

    threads[0] = g_thread_new("reader", read_thread, &reader);
    threads[1] = g_thread_new("writer", write_until_error, &writer);
    g_usleep(20000);    /* so that they mostly block; right either way */
    stream_shutdown(self->client);
    g_thread_join(threads[0]);
    g_thread_join(threads[1]);
    fixture_assert_message(reader.error, STREAM_ERROR_SHUTDOWN, "client");
    fixture_assert_message(writer.error, STREAM_ERROR_SHUTDOWN, "client");
    g_clear_error(&reader.error);
    g_clear_error(&writer.error);
    g_assert_cmpint(stream_read(self->client, buf, 1, &reader.error), ==, -1);
    g_assert_false(stream_write(self->client, buf, 1, &writer.error));
    g_assert_error(reader.error, STREAM_ERROR, STREAM_ERROR_SHUTDOWN);
    g_assert_error(writer.error, STREAM_ERROR, STREAM_ERROR_SHUTDOWN);
    g_clear_error(&reader.error);
    g_clear_error(&writer.error);
    stream_finish(self->client);    /* harmless now */
}

/* What was written before shutdown still arrives. */
static void test_shutdown_keeps_what_was_written(Fixture *self,
                                                 gconstpointer data
                                                 G_GNUC_UNUSED)
{
    char buf[4];

    g_assert_true(stream_write(self->client, "last", 4, NULL));
    stream_shutdown(self->client);
    g_assert_true(stream_read_full(self->server, buf, 4, NULL, NULL));
    assert_ends(self->server);
}

static void test_timeouts(Fixture *self, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;
    Job writer = { .stream = self->client, .len = 1000000 };
    char buf[1];

    stream_set_timeouts(self->client, 20, 20);
    g_assert_cmpint(stream_read(self->client, buf, 1, &error), ==, -1);
    fixture_assert_message(error, STREAM_ERROR_TIMEOUT,
                           "client: read made no progress for 20 ms");
    write_until_error(&writer);
    fixture_assert_message(writer.error, STREAM_ERROR_TIMEOUT,
                           "client: write made no progress for 20 ms");
    g_clear_error(&writer.error);
}

static void test_reset_is_an_io_error(Fixture *self,
                                      gconstpointer data G_GNUC_UNUSED)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };
    g_autoptr(GError) error = NULL;
    char buf[1];

    setsockopt(stream_get_fd(self->server), SOL_SOCKET, SO_LINGER, &linger,
               sizeof(linger));
    stream_free(self->server);
    self->pair.server.stream = NULL;
    g_assert_cmpint(stream_read(self->client, buf, 1, &error), ==, -1);
    fixture_assert_message(error, STREAM_ERROR_IO,
                           "client: read: Connection reset");
    g_clear_error(&error);
    /* and no SIGPIPE */
    while (stream_write(self->client, "x", 1, &error)) {
    }
    g_assert_error(error, STREAM_ERROR, STREAM_ERROR_IO);
}

/* A changed byte on the way must never reach the caller. */
static void test_tampering_is_noticed(Fixture *self,
                                      gconstpointer data G_GNUC_UNUSED)
{
    static const uint8_t record[5 + 32] = { 23, 3, 3, 0, 32 };
    g_autoptr(GError) error = NULL;
    char buf[1];

    g_assert_cmpint(send(stream_get_fd(self->client), record, sizeof(record),
                         0), ==, sizeof(record));
    g_assert_cmpint(stream_read(self->server, buf, 1, &error), ==, -1);
    fixture_assert_message(error, STREAM_ERROR_TLS, "server: TLS read");
}

/*
 * Handshakes with who does not speak TLS
 */

static void test_plain_client_on_tls_server(void)
{
    g_autoptr(TlsCredentials) credentials = load_psk();
    g_autoptr(GError) error = NULL;
    FixturePair pair;

    fixture_pair_init(&pair);
    g_assert_true(stream_write(pair.client.stream, "QEVM\0\0\0\3", 8, NULL));
    g_assert_false(stream_start_tls(pair.server.stream, credentials, true,
                                    &rules, FIXTURE_LONG_MS, &error));
    fixture_assert_message(error, STREAM_ERROR_TLS, "server: TLS handshake: "
                           "got first bytes 0x5145564d, expected a TLS record "
                           "(0x16…); is the peer using TLS?");
    fixture_pair_clear(&pair);
}

static void test_tls_client_on_plain_server(void)
{
    g_autoptr(TlsCredentials) credentials = load_psk();
    g_autoptr(GError) error = NULL;
    FixturePair pair;

    fixture_pair_init(&pair);
    g_assert_true(stream_write(pair.server.stream, "hello", 5, NULL));
    g_assert_false(stream_start_tls(pair.client.stream, credentials, false,
                                    &rules, FIXTURE_LONG_MS, &error));
    fixture_assert_message(error, STREAM_ERROR_TLS, "got first bytes "
                           "0x68656c6c");
    g_clear_error(&error);
    fixture_pair_clear(&pair);

    fixture_pair_init(&pair);
    stream_finish(pair.server.stream);
    g_assert_false(stream_start_tls(pair.client.stream, credentials, false,
                                    &rules, FIXTURE_LONG_MS, &error));
    fixture_assert_message(error, STREAM_ERROR_TLS, "the peer closed the "
                           "connection before its first byte");
    fixture_pair_clear(&pair);
}

static void test_client_that_never_speaks(void)
{
    g_autoptr(TlsCredentials) credentials = load_psk();
    g_autoptr(GError) error = NULL;
    FixturePair pair;

    fixture_pair_init(&pair);
    g_assert_false(stream_start_tls(pair.server.stream, credentials, true,
                                    &rules, 20, &error));
    fixture_assert_message(error, STREAM_ERROR_TIMEOUT, "TLS handshake: "
                           "server: the peer did not answer in time");
    fixture_pair_clear(&pair);
}

/* A byte now and then must not keep the handshake alive. */
static gpointer drip_thread(gpointer data)
{
    static const uint8_t hello[5 + 60] = { 22, 3, 1, 1, 0 };
    size_t i;

    for (i = 0; i < sizeof(hello); i++) {
        if (send(stream_get_fd(data), hello + i, 1, MSG_NOSIGNAL) < 0) {
            break;
        }
        g_usleep(5000);
    }
    return NULL;
}

static void test_client_that_drips(void)
{
    g_autoptr(TlsCredentials) credentials = load_psk();
    g_autoptr(GError) error = NULL;
    FixturePair pair;
    GThread *thread;

    fixture_pair_init(&pair);
    thread = g_thread_new("drip", drip_thread, pair.client.stream);
    g_assert_false(stream_start_tls(pair.server.stream, credentials, true,
                                    &rules, 50, &error));
    g_assert_error(error, STREAM_ERROR, STREAM_ERROR_TIMEOUT);
    stream_shutdown(pair.server.stream);
    g_thread_join(thread);
    fixture_pair_clear(&pair);
}

static gpointer shutdown_thread(gpointer data)
{
    g_usleep(10000);
    stream_shutdown(data);
    return NULL;
}

static void test_shutdown_ends_a_handshake(void)
{
    g_autoptr(TlsCredentials) credentials = load_psk();
    g_autoptr(GError) error = NULL;
    FixturePair pair;
    GThread *thread;

    fixture_pair_init(&pair);
    thread = g_thread_new("shutdown", shutdown_thread, pair.server.stream);
    g_assert_false(stream_start_tls(pair.server.stream, credentials, true,
                                    &rules, FIXTURE_LONG_MS, &error));
    g_assert_error(error, STREAM_ERROR, STREAM_ERROR_SHUTDOWN);
    g_thread_join(thread);
    fixture_pair_clear(&pair);
}

static void test_asks_the_kernel_for_the_peer(void)
{
    int fds[2];
    g_autoptr(Stream) stream = NULL;

    fixture_connect(fds);
    stream = stream_new(fds[0], NULL);
    g_assert_true(g_str_has_prefix(stream_get_peer(stream), "tcp:127.0.0.1:"));
    g_assert_cmpint(stream_get_fd(stream), ==, fds[0]);
    g_assert_null(stream_get_tls(stream));
    close(fds[1]);
    stream_free(NULL);
}

#define ADD(path, test) g_test_add_func("/daemon/stream/" path, test)
#define ADD_ONE(kind, data, path, test) \
    g_test_add("/daemon/stream/" kind "/" path, Fixture, data, set_up, test, \
               tear_down)
#define ADD_ALL(path, test)                     \
    do {                                        \
        ADD_ONE("plain", NULL, path, test);     \
        ADD_ONE("tls13", "psk", path, test);    \
        ADD_ONE("tls12", "anon", path, test);   \
    } while (0)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD_ALL("both-directions-at-once", test_both_directions_at_once);
    ADD_ALL("writev-of-many-shapes", test_writev_of_many_shapes);
    ADD_ALL("wire-cost-is-what-is-counted", test_wire_cost_is_what_is_counted);
    ADD_ALL("finish-is-a-clean-end", test_finish_is_a_clean_end);
    ADD_ALL("fin-without-close-notify", test_fin_without_close_notify);
    ADD_ALL("eof-inside", test_eof_inside);
    ADD_ALL("shutdown-wakes-reader-and-writer",
            test_shutdown_wakes_reader_and_writer);
    ADD_ALL("shutdown-keeps-what-was-written",
            test_shutdown_keeps_what_was_written);
    ADD_ALL("timeouts", test_timeouts);
    ADD_ALL("reset-is-an-io-error", test_reset_is_an_io_error);
    ADD_ONE("tls13", "psk", "tampering-is-noticed", test_tampering_is_noticed);
    ADD_ONE("tls12", "anon", "tampering-is-noticed",
            test_tampering_is_noticed);
    ADD("handshake/plain-client-on-tls-server",
        test_plain_client_on_tls_server);
    ADD("handshake/tls-client-on-plain-server",
        test_tls_client_on_plain_server);
    ADD("handshake/client-that-never-speaks", test_client_that_never_speaks);
    ADD("handshake/client-that-drips", test_client_that_drips);
    ADD("handshake/shutdown-ends-it", test_shutdown_ends_a_handshake);
    ADD("asks-the-kernel-for-the-peer", test_asks_the_kernel_for_the_peer);
    return g_test_run();
}
