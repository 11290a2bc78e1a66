/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lanes over real TCP and TLS: who is let in, what hellos are taken, and a frame
 * that travels.
 */
#include "daemon/link-lane.h"
#include "daemon/link-main.h"
#include "daemon/link-server.h"
#include "qmp/error.h"
#include "qmp/message.h"
#include "tests/unit/daemon/link-fixture.h"
#include "tests/unit/daemon/tls-fixture.h"
#include "wire/error.h"

#define MIGRATION "0123456789abcdef0123456789abcdef"
#define INSTANCE "00112233445566778899aabbccddeeff"
#define RESUME "{\"version\":1,\"daemon\":\"a\",\"role\":\"main\"," \
    "\"migration\":\"" MIGRATION "\",\"lane\":0,\"resume\":true"

/* ---- hello, without TLS ---------------------------------------------------------- */

static void write_raw_hello(Stream *stream, const char *text)
{
    LinkFrame frame = { .type = LINK_HELLO, .length = strlen(text) };
    struct iovec piece = { (void *)text, strlen(text) };

    g_assert_true(link_lane_write(stream, NULL, &frame, &piece, 1, NULL));
}

typedef struct {
    const char *path, *text, *error;
} Hello;

static const Hello bad_hellos[] = {
    { "garbage", "not json at all", "link HELLO frame: " },
    { "array", "[1,2]", "link HELLO frame: " },
    { "no-version", "{\"daemon\":\"a\"}", "'version'" },
    { "version-0", "{\"version\":0}", "'version'" },
    { "version-text", "{\"version\":\"1\"}", "'version'" },
    { "no-daemon", "{\"version\":1}", "'daemon'" },
    { "long-daemon", "{\"version\":1,\"daemon\":\"0123456789012345678901234567"
      "890123456789012345678901234567890123\"}", "'daemon'" },
    { "unknown-role", "{\"version\":1,\"daemon\":\"a\",\"role\":\"spy\"}",
      "'role', expected 'main', 'bulk', 'test' or 'test-bulk'" },
    { "migration-short", "{\"version\":1,\"daemon\":\"a\",\"role\":\"main\","
      "\"migration\":\"abc\"}", "'migration'" },
    { "migration-not-hex", "{\"version\":1,\"daemon\":\"a\",\"role\":\"main\","
      "\"migration\":\"0123456789abcdef0123456789abcde/\"}", "'migration'" },
    { "main-lane-1", "{\"version\":1,\"daemon\":\"a\",\"role\":\"main\","
      "\"migration\":\"" MIGRATION "\",\"lane\":1}", "'lane'" },
    { "test-lane-1", "{\"version\":1,\"daemon\":\"a\",\"role\":\"test\","
      "\"migration\":\"" MIGRATION "\",\"lane\":1}", "'lane'" },
    { "test-bulk-lane-64", "{\"version\":1,\"daemon\":\"a\",\"role\":\"test-bulk\","
      "\"migration\":\"" MIGRATION "\",\"lane\":64}", "'lane'" },
    { "lane-64", "{\"version\":1,\"daemon\":\"a\",\"role\":\"bulk\","
      "\"migration\":\"" MIGRATION "\",\"lane\":64}", "'lane'" },
    { "instance-short", RESUME ",\"instance\":\"0011\"}", "'instance'" },
    { "instance-upper-case", RESUME ",\"instance\":\""
      "00112233445566778899AABBCCDDEEFF\"}", "'instance'" },
    { "instance-number", RESUME ",\"instance\":7}", "'instance'" },
    { "expected-instance", RESUME ",\"expected-instance\":\"\"}",
      "'expected-instance'" },
    { "abort-text", RESUME ",\"abort\":\"now\"}", "'abort'" },
    { "abort-no-reason", RESUME ",\"abort\":{\"cancelled\":true}}", "'abort'" },
    { "abort-cancelled-text", RESUME ",\"abort\":{\"reason\":\"\","
      "\"cancelled\":\"no\"}}", "'abort'" },
    { "abort-of-a-first-connection", "{\"version\":1,\"daemon\":\"a\",\"role\":"
      "\"main\",\"migration\":\"" MIGRATION "\",\"lane\":0,\"abort\":"
      "{\"reason\":\"\",\"cancelled\":true}}", "'abort'" },
};

static void test_bad_hello(const void *data)
{
    const Hello *hello = data;
    g_autoptr(GError) error = NULL;
    Stream *pair[2];
    LinkHello got = { .lane = 42 };

    link_fixture_pair(pair, "a", "b");
    write_raw_hello(pair[0], hello->text);
    g_assert_false(link_lane_read_hello(pair[1], &got, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    link_fixture_assert_contains(error->message, hello->error);
    g_assert_cmpuint(got.lane, ==, 42);
    stream_free(pair[0]);
    stream_free(pair[1]);
}

/* A newer peer is told what we speak; members that we do not know say nothing. */
static void test_newer_hello(void)
{
    Stream *pair[2];
    LinkHello hello;

    link_fixture_pair(pair, "a", "b");
    write_raw_hello(pair[0], "{\"version\":7,\"daemon\":\"dc9\",\"role\":"
                    "\"bulk\",\"migration\":\"" MIGRATION "\",\"lane\":63,"
                    "\"resume\":true}");
    g_assert_true(link_lane_read_hello(pair[1], &hello, NULL));
    g_assert_cmpuint(hello.version, ==, 1);
    g_assert_cmpstr(hello.daemon, ==, "dc9");
    g_assert_cmpint(hello.role, ==, LINK_ROLE_BULK);
    g_assert_cmpstr(hello.migration, ==, MIGRATION);
    g_assert_cmpuint(hello.lane, ==, 63);
    stream_free(pair[0]);
    stream_free(pair[1]);
}

static void read_bytes_fails(const void *bytes, size_t len, const char *part)
{
    g_autoptr(GError) error = NULL;
    Stream *pair[2];
    LinkHello hello;

    link_fixture_pair(pair, "a", "b");
    g_assert_true(stream_write(pair[0], bytes, len, NULL));
    stream_shutdown(pair[0]);
    g_assert_false(link_lane_read_hello(pair[1], &hello, &error));
    link_fixture_assert_contains(error->message, part);
    stream_free(pair[0]);
    stream_free(pair[1]);
}

static void test_too_long_hello(void)
{
    uint8_t header[LINK_HEADER_SIZE] = { LINK_HELLO };

    bytes_put_be32(header + 4, LINK_HELLO_MAX + 1);
    read_bytes_fails(header, sizeof(header), "got length 4097");
}

static void test_other_frame_first(void)
{
    LinkFrame frame = { .type = LINK_PING };
    uint8_t header[LINK_HEADER_SIZE];

    link_frame_encode(&frame, header);
    read_bytes_fails(header, sizeof(header), "got a PING frame first");
    read_bytes_fails("GET / HTTP/1.1\r\n\r\n              ", 32, "got type 71");
    read_bytes_fails(header, 10, "end of the stream after 10 bytes");
}

/* At every byte: nothing waits for the rest, and nothing is taken for a hello. */
static void test_cut_hello(void)
{
    static const char text[] = "{\"version\":1,\"daemon\":\"a\",\"role\":"
        "\"bulk\",\"migration\":\"" MIGRATION "\",\"lane\":0}";
    LinkFrame frame = { .type = LINK_HELLO, .length = strlen(text) };
    uint8_t buf[LINK_HEADER_SIZE + sizeof(text) - 1];

    link_frame_encode(&frame, buf);
    memcpy(buf + LINK_HEADER_SIZE, text, strlen(text));
    for (size_t len = 0; len < sizeof(buf); len++) {
        read_bytes_fails(buf, len, "the end of the stream after ");
    }
}

/* ---- over TLS ----------------------------------------------------------------------- */

typedef struct {
    LinkFixtureBell bell;       /* 0: a lane came */
    char *directory;
    TlsCredentials *credentials;
    Config config;
    ConfigPeer us;              /* how the client finds the server */
    LinkServer *server;
    Stream *came;               /* guarded by the bell's lock */
    LinkHello hello;
    const ConfigPeer *peer;
} Fixture;

static const ConfigTimeouts timeouts = {
    .connect_ms = FIXTURE_LONG_MS, .handshake_ms = FIXTURE_LONG_MS,
    .link_dead_ms = FIXTURE_LONG_MS,
};

static TlsCredentials *get_credentials(void *data)
{
    return tls_credentials_ref(((Fixture *)data)->credentials);
}

typedef struct {
    const char *path, *answer, *error;
} Answer;

enum { FIRST_BAD_ANSWER = 20 };     /* the lane that gets the first of these */

static const Answer bad_answers[] = {
    { "garbage", "[1]", "link HELLO frame: " },
    { "no-version", "{\"daemon\":\"b\"}", "no usable 'version'" },
    { "version-0", "{\"version\":0,\"daemon\":\"b\"}", "no usable 'version'" },
    { "newer-version", "{\"version\":2,\"daemon\":\"b\"}",
      "link HELLO: got version 2, allowed 1" },
    { "no-daemon", "{\"version\":1}", "no usable 'daemon'" },
    { "instance", "{\"version\":1,\"daemon\":\"b\",\"instance\":\"me\"}",
      "no usable 'instance'" },
    { "refusal", "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}",
      "the peer refused: GenericError: no" },
    { "refusal-without-reason", "{\"error\":{}}",
      "the peer refused: GenericError: no reason given" },
};

static Config *get_config(const LinkHello *hello, void *data)
{
    (void)hello;
    return config_ref(&((Fixture *)data)->config);
}

static bool on_lane(Stream **stream, const LinkHello *hello, Config *config,
                    const ConfigPeer *peer, void *data, GError **error)
{
    Fixture *self = data;

    g_assert_true(config == &self->config);
    if (hello->lane == 13) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_DEVICE_NOT_FOUND,
                    "no such migration");
        return false;
    }
    if (hello->lane >= FIRST_BAD_ANSWER) {
        write_raw_hello(*stream,
                        bad_answers[hello->lane - FIRST_BAD_ANSWER].answer);
    } else if (!link_lane_accept(*stream, "dc2", INSTANCE, error)) {
        return false;
    }
    g_mutex_lock(&self->bell.lock);
    self->came = g_steal_pointer(stream);
    self->hello = *hello;
    self->peer = peer;
    g_mutex_unlock(&self->bell.lock);
    link_fixture_ring(&self->bell, 0);
    return true;
}

static void add_peer(Fixture *self, const char *name, const char *certificate)
{
    ConfigPeer *peer = g_new0(ConfigPeer, 1);

    peer->name = (char *)name;
    peer->certificate_name = (char *)certificate;
    g_ptr_array_add(self->config.peers, peer);
}

static void fixture_open(Fixture *self, const ConfigTimeouts *ours)
{
    FixtureSpec server = { .dns = "dc2.test" }, client = { .dns = "dc1.test" };
    LinkServerSetup setup = {
        .get_config = get_config, .get_credentials = get_credentials,
        .handler = on_lane, .data = self,
    };
    g_autoptr(Address) any = address_parse("127.0.0.1:0", NULL);
    int fd = address_listen(any, 8, 0, NULL);
    FixtureCa ca;

    fixture_ca_init(&ca, "test CA");
    self->directory = fixture_x509(&ca, &server, &client);
    fixture_ca_clear(&ca);
    self->credentials = fixture_load(TLS_X509, self->directory);
    g_atomic_ref_count_init(&self->config.refs);      /* ours, to the end */
    self->config.timeouts = *ours;
    self->config.peers = g_ptr_array_new_with_free_func(g_free);
    self->us = (ConfigPeer) {
        .name = (char *)"dc2", .address = address_of_listener(fd, NULL),
        .certificate_name = (char *)"dc2.test",
    };
    self->server = link_server_new(fd, &setup);
}

static void fixture_close(Fixture *self)
{
    link_server_free(self->server);
    stream_free(self->came);
    address_free(self->us.address);
    g_ptr_array_unref(self->config.peers);
    tls_credentials_unref(self->credentials);
    fixture_remove(self->directory);
}

static Stream *connect_lane(Fixture *self, unsigned lane, LinkAnswer *ret_answer,
                            GError **error)
{
    LinkHello hello = {
        .daemon = "dc1", .role = LINK_ROLE_BULK, .migration = MIGRATION,
        .lane = lane, .instance = INSTANCE,
    };

    return link_lane_connect(&self->us, self->credentials, &timeouts, &hello,
                             NULL, NULL, ret_answer, error);
}

static void test_known_peer(void)
{
    Fixture self = { 0 };
    g_autoptr(GError) error = NULL;
    LinkFrame frame = { .type = LINK_PING, .sequence = 99 }, got;
    LinkAnswer answer;
    Stream *stream;

    fixture_open(&self, &timeouts);
    add_peer(&self, "dc3", "dc3.test");
    add_peer(&self, "dc1", "dc1.test");
    stream = connect_lane(&self, 5, &answer, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(answer.daemon, ==, "dc2");
    g_assert_cmpstr(answer.instance, ==, INSTANCE);
    link_fixture_wait(&self.bell, 0);
    g_assert_cmpstr(self.peer->name, ==, "dc1");
    g_assert_cmpstr(self.hello.migration, ==, MIGRATION);
    g_assert_cmpuint(self.hello.lane, ==, 5);
    g_assert_cmpstr(self.hello.instance, ==, INSTANCE);
    g_assert_cmpstr(self.hello.expected, ==, "");
    g_assert_false(self.hello.abort);
    g_assert_true(link_lane_write(stream, NULL, &frame, NULL, 0, NULL));
    g_assert_true(link_lane_read(self.came, &got, NULL, NULL));
    g_assert_cmpuint(got.sequence, ==, 99);
    stream_free(stream);
    fixture_close(&self);
}

/* A migration's last word: all of it gets through. */
static void test_abort(void)
{
    Fixture self = { 0 };
    g_autoptr(GError) error = NULL;
    LinkHello hello = {
        .daemon = "dc1", .migration = MIGRATION, .resume = true, .generation = 3,
        .expected = INSTANCE, .abort = true, .cancelled = true,
    };
    Stream *stream;

    memset(hello.reason, '\1', LINK_REASON_MAX);    /* six bytes each in JSON */
    fixture_open(&self, &timeouts);
    add_peer(&self, "dc1", "dc1.test");
    stream = link_lane_connect(&self.us, self.credentials, &timeouts, &hello,
                               NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    link_fixture_wait(&self.bell, 0);
    g_assert_true(self.hello.abort);
    g_assert_true(self.hello.cancelled);
    g_assert_cmpstr(self.hello.reason, ==, hello.reason);
    g_assert_cmpstr(self.hello.expected, ==, INSTANCE);
    stream_free(stream);
    fixture_close(&self);
}

static void assert_refused(Fixture *self, unsigned lane, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(connect_lane(self, lane, NULL, &error));
    g_test_message("%s", error->message);
    link_fixture_assert_contains(error->message, "link to dc2, bulk lane ");
    link_fixture_assert_contains(error->message, part);
}

/* Our CA signed it, and still: nobody configured it. */
static void test_unknown_peer(void)
{
    Fixture self = { 0 };

    fixture_open(&self, &timeouts);
    add_peer(&self, "dc3", "dc3.test");
    add_peer(&self, "anybody", NULL);
    assert_refused(&self, 0, "the peer refused: GenericError: link: got ");
    fixture_close(&self);
    g_assert_null(self.came);
}

static void test_handler_refuses(void)
{
    Fixture self = { 0 };
    g_autoptr(GError) error = NULL;

    fixture_open(&self, &timeouts);
    add_peer(&self, "dc1", "dc1.test");
    g_assert_null(connect_lane(&self, 13, NULL, &error));
    g_assert_cmpint(qmp_error_get_class(error), ==, QMP_CLASS_DEVICE_NOT_FOUND);
    link_fixture_assert_contains(error->message, "no such migration");
    fixture_close(&self);
}

/* Who connects looks at the answer as closely as who listens at the hello. */
static void test_bad_answer(const void *data)
{
    const Answer *answer = data;
    Fixture self = { 0 };

    fixture_open(&self, &timeouts);
    add_peer(&self, "dc1", "dc1.test");
    assert_refused(&self, FIRST_BAD_ANSWER + (answer - bad_answers),
                   answer->error);
    fixture_close(&self);
}

/* The server is somebody else than the one configured. */
static void test_wrong_server(void)
{
    Fixture self = { 0 };

    fixture_open(&self, &timeouts);
    add_peer(&self, "dc1", "dc1.test");
    self.us.certificate_name = (char *)"dc7.test";
    assert_refused(&self, 0, "allowed 'dc7.test'");
    fixture_close(&self);
}

/* Who says nothing is cut off by the deadline, and does not keep others out. */
static void test_silent_strangers(void)
{
    ConfigTimeouts hasty = timeouts;
    Fixture self = { 0 };
    Stream *silent[80], *stream;
    g_autoptr(GError) error = NULL;

    hasty.handshake_ms = 500;
    fixture_open(&self, &hasty);
    add_peer(&self, "dc1", "dc1.test");
    for (unsigned i = 0; i < G_N_ELEMENTS(silent); i++) {
        int fd = address_connect(self.us.address, FIXTURE_LONG_MS, NULL, NULL);

        g_assert_cmpint(fd, >=, 0);
        silent[i] = stream_new(fd, NULL);
    }
    stream = connect_lane(&self, 1, NULL, &error);
    g_assert_no_error(error);
    link_fixture_wait(&self.bell, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(silent); i++) {
        char byte;

        g_assert_cmpint(stream_read(silent[i], &byte, 1, NULL), <=, 0);
        stream_free(silent[i]);
    }
    stream_free(stream);
    fixture_close(&self);
}

/* The server's end does not wait for them either. */
static void test_free_with_strangers(void)
{
    Fixture self = { 0 };
    Stream *silent;
    char byte;
    int fd;

    fixture_open(&self, &timeouts);
    fd = address_connect(self.us.address, FIXTURE_LONG_MS, NULL, NULL);
    silent = stream_new(fd, NULL);
    fixture_close(&self);
    g_assert_cmpint(stream_read(silent, &byte, 1, NULL), <=, 0);
    stream_free(silent);
}

static void *cancel_thread(void *data)
{
    g_usleep(20 * 1000);
    g_cancellable_cancel(data);
    return NULL;
}

/* Connected to somebody who never answers. */
static void test_connect_is_cancelled(void)
{
    g_autoptr(Address) any = address_parse("127.0.0.1:0", NULL);
    int fd = address_listen(any, 8, 0, NULL);
    Fixture self = { 0 };
    ConfigPeer peer = { .name = (char *)"dc2",
                        .address = address_of_listener(fd, NULL) };
    LinkHello hello = { .daemon = "dc1", .migration = MIGRATION };
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    g_autoptr(GError) error = NULL;
    GThread *thread;

    fixture_open(&self, &timeouts);
    thread = g_thread_new("cancel", cancel_thread, cancellable);
    g_assert_null(link_lane_connect(&peer, self.credentials, &timeouts, &hello,
                                    NULL, cancellable, NULL, &error));
    g_thread_join(thread);
    link_fixture_assert_contains(error->message, "link to dc2, main lane 0: ");
    address_free(peer.address);
    fixture_close(&self);
    close(fd);
}

/* ---- a main lane over TLS ------------------------------------------------------------- */

static void on_message(JsonObject *message, void *data)
{
    LinkFixtureBell *bell = data;

    link_fixture_ring(bell, message ? 1 : 2);
    g_clear_pointer(&message, json_object_unref);
}

static void test_main_lane_over_tls(void)
{
    Fixture self = { 0 };
    LinkMainSetup setup = { .dead_ms = FIXTURE_LONG_MS, .handler = on_message };
    LinkFixtureBell bells[2] = { 0 };
    LinkMain *mains[2];
    Stream *stream;
    g_autoptr(GError) error = NULL;

    fixture_open(&self, &timeouts);
    add_peer(&self, "dc1", "dc1.test");
    stream = connect_lane(&self, 0, NULL, &error);
    g_assert_no_error(error);
    link_fixture_wait(&self.bell, 0);
    setup.data = &bells[0];
    setup.stream = stream;
    setup.source_side = true;
    mains[0] = link_main_new(&setup);
    setup.data = &bells[1];
    setup.stream = g_steal_pointer(&self.came);
    setup.source_side = false;
    mains[1] = link_main_new(&setup);
    link_main_send_event(mains[0], "hello", NULL);
    link_main_send_event(mains[1], "hello", NULL);
    link_fixture_wait(&bells[0], 1);
    link_fixture_wait(&bells[1], 1);
    link_main_shutdown(mains[0]);
    link_fixture_wait(&bells[1], 2);
    link_main_free(mains[0]);
    link_main_free(mains[1]);
    fixture_close(&self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad_hellos); i++) {
        g_autofree char *path = g_strconcat("/link/hello/bad/",
                                            bad_hellos[i].path, NULL);

        g_test_add_data_func(path, &bad_hellos[i], test_bad_hello);
    }
    g_test_add_func("/link/hello/newer", test_newer_hello);
    g_test_add_func("/link/hello/too-long", test_too_long_hello);
    g_test_add_func("/link/hello/other-frame-first", test_other_frame_first);
    g_test_add_func("/link/hello/cut-at-every-byte", test_cut_hello);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad_answers); i++) {
        g_autofree char *path = g_strconcat("/link/hello/bad-answer/",
                                            bad_answers[i].path, NULL);

        g_test_add_data_func(path, &bad_answers[i], test_bad_answer);
    }
    g_test_add_func("/link/server/known-peer", test_known_peer);
    g_test_add_func("/link/server/abort", test_abort);
    g_test_add_func("/link/server/unknown-peer", test_unknown_peer);
    g_test_add_func("/link/server/handler-refuses", test_handler_refuses);
    g_test_add_func("/link/server/wrong-server", test_wrong_server);
    g_test_add_func("/link/server/silent-strangers", test_silent_strangers);
    g_test_add_func("/link/server/free-with-strangers",
                    test_free_with_strangers);
    g_test_add_func("/link/server/connect-is-cancelled",
                    test_connect_is_cancelled);
    g_test_add_func("/link/server/main-lane-over-tls", test_main_lane_over_tls);
    return g_test_run();
}
