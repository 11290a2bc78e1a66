/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a link test measures and says, without a daemon: round trips, loads over
 * socket pairs, the talk on the main lane, advice, and the streams' keeper.
 */
#include "daemon/link-lane.h"
#include "daemon/link-test-advice.h"
#include "daemon/link-test-lanes.h"
#include "daemon/link-test-load.h"
#include "daemon/link-test-rtt.h"
#include "daemon/link-test-talk.h"
#include "daemon/tls-speed.h"
#include "qmp/error.h"
#include "qmp/message.h"
#include "tests/unit/daemon/link-fixture.h"
#include "tests/unit/daemon/tls-fixture.h"
#include "wire/error.h"

/* ---- round trips ------------------------------------------------------------ */

static void summarize(const uint32_t *us, unsigned n, LinkTestRttSummary *ret)
{
    g_autofree LinkTestRtt *rtt = g_new(LinkTestRtt, 1);

    link_test_rtt_init(rtt);
    for (unsigned i = 0; i < n; i++) {
        link_test_rtt_add(rtt, us[i]);
    }
    link_test_rtt_summarize(rtt, ret);
}

static void test_rtt_summary(void)
{
    static const uint32_t us[] = { 50, 10, 30, 20, UINT32_MAX };
    LinkTestRttSummary got;

    summarize(us, 5, &got);
    g_assert_cmpuint(got.count, ==, 5);
    g_assert_cmpuint(got.min_us, ==, 10);
    g_assert_cmpuint(got.median_us, ==, 30);
    g_assert_cmpuint(got.max_us, ==, UINT32_MAX);
    summarize(us, 4, &got);
    g_assert_cmpuint(got.jitter_us, ==, (40 + 20 + 10) / 3);
}

static void test_rtt_few(void)
{
    static const uint32_t us[] = { 7 };
    LinkTestRttSummary got;

    summarize(us, 0, &got);
    g_assert_cmpuint(got.count, ==, 0);
    g_assert_cmpuint(got.max_us, ==, 0);
    summarize(us, 1, &got);
    g_assert_cmpuint(got.min_us, ==, 7);
    g_assert_cmpuint(got.median_us, ==, 7);
    g_assert_cmpuint(got.jitter_us, ==, 0);
}

/* However long it takes, no more is kept than there is room for. */
static void test_rtt_full(void)
{
    g_autofree LinkTestRtt *rtt = g_new(LinkTestRtt, 1);
    LinkTestRttSummary got;

    link_test_rtt_init(rtt);
    for (unsigned i = 0; i < LINK_TEST_RTT_MAX + 5; i++) {
        link_test_rtt_add(rtt, i);
    }
    link_test_rtt_summarize(rtt, &got);
    g_assert_cmpuint(got.count, ==, LINK_TEST_RTT_MAX);
    g_assert_cmpuint(got.max_us, ==, LINK_TEST_RTT_MAX - 1);
}

/* ---- loads ------------------------------------------------------------------ */

typedef struct {
    Stream *a[4], *b[4];
} Pairs;

static void pairs_open(Pairs *self, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        Stream *pair[2];

        link_fixture_pair(pair, "a", "b");
        self->a[i] = pair[0];
        self->b[i] = pair[1];
    }
}

static void pairs_close(Pairs *self, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        stream_free(self->a[i]);
        stream_free(self->b[i]);
    }
}

static LinkTestLoad *start(Stream *const *lanes, unsigned n, bool send,
                           uint64_t bytes_max)
{
    LinkTestLoadSetup setup = {
        .send = send, .time_ms = 300, .bytes_max = bytes_max,
    };

    return link_test_load_new(lanes, n, &setup);
}

/* What was sent has come, byte for byte, and twice over the same lanes. */
static void test_load_arrives(void)
{
    Pairs pairs;

    pairs_open(&pairs, 3);
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(LinkTestLoad) out = start(pairs.a, 3, true, 0);
        g_autoptr(LinkTestLoad) in = start(pairs.b, 3, false, UINT64_MAX);
        LinkTestLoadResult sent, came;
        g_autoptr(GError) error = NULL;

        g_assert_true(link_test_load_finish(out, &sent, &error));
        g_assert_true(link_test_load_finish(in, &came, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(sent.bytes, >, 0);
        g_assert_cmpuint(came.bytes, ==, sent.bytes);
        g_assert_cmpuint(came.rate, >, 0);
        g_assert_true(link_test_load_is_over(in));
    }
    pairs_close(&pairs, 3);
}

static void fails_with(LinkTestLoad *load, const char *part)
{
    LinkTestLoadResult result = { .bytes = 42 };
    g_autoptr(GError) error = NULL;

    g_assert_false(link_test_load_finish(load, &result, &error));
    link_fixture_assert_contains(error->message, part);
    g_assert_cmpuint(result.bytes, ==, 42);
    link_test_load_free(load);
}

static void write_frame(Stream *stream, const LinkFrame *frame, const char *text)
{
    struct iovec piece = { (void *)text, strlen(text) };

    g_assert_true(link_lane_write(stream, NULL, frame, &piece,
                                  *text ? 1 : 0, NULL));
}

/* Nothing comes after it: who waits for more sees the end. */
static void write_last_frame(Stream *stream, const LinkFrame *frame,
                             const char *text)
{
    write_frame(stream, frame, text);
    stream_shutdown(stream);
}

/* More than a test may bring, whatever the peer goes on to send. */
static void test_load_is_bounded(void)
{
    LinkFrame frame = { .type = LINK_TEST, .length = 3 };
    Pairs pairs;

    pairs_open(&pairs, 1);
    write_last_frame(pairs.a[0], &frame, "abc");
    fails_with(start(pairs.b, 1, false, 2),
               "got more than 2 bytes, which is all that is allowed");
    pairs_close(&pairs, 1);
}

static void test_load_refuses_other_frames(void)
{
    LinkFrame frame = { .type = LINK_PING };
    Pairs pairs;

    pairs_open(&pairs, 1);
    write_last_frame(pairs.a[0], &frame, "");
    fails_with(start(pairs.b, 1, false, 100),
               "got a PING frame, which a test's bulk lane does not carry");
    pairs_close(&pairs, 1);
}

static void test_load_refuses_gaps(void)
{
    LinkFrame frame = { .type = LINK_TEST, .length = 3 };
    Pairs pairs;

    pairs_open(&pairs, 1);
    write_frame(pairs.a[0], &frame, "abc");
    frame.sequence = 4;
    write_last_frame(pairs.a[0], &frame, "def");
    fails_with(start(pairs.b, 1, false, 100),
               "got a TEST frame with offset 4, expected 3");
    pairs_close(&pairs, 1);
}

/* One lane that breaks ends all: the others wait for nothing. */
static void test_load_lane_breaks(void)
{
    LinkFrame frame = { .type = LINK_TEST, .length = 3 };
    Pairs pairs;

    pairs_open(&pairs, 2);
    write_frame(pairs.a[0], &frame, "abc");
    stream_shutdown(pairs.a[0]);
    fails_with(start(pairs.b, 2, false, 100), "the end of the stream");
    pairs_close(&pairs, 2);
}

/* Nobody reads, and it is let go of: no thread waits on. */
static void test_load_is_given_up(void)
{
    g_autoptr(Limiter) root = limiter_new(NULL, 1, 1);
    g_autoptr(Limiter) leaf = limiter_new(root, 0, 1);
    LinkTestLoadSetup setup = { .send = true, .time_ms = 30000, .limiter = leaf };
    Pairs pairs;

    pairs_open(&pairs, 2);
    link_test_load_free(start(pairs.a, 2, false, 100));
    link_test_load_free(link_test_load_new(pairs.b, 2, &setup));
    pairs_close(&pairs, 2);
}

/* ---- talk ------------------------------------------------------------------- */

static void *serve_thread(void *data)
{
    LinkTestTalk talk;
    JsonObject *request;
    g_autoptr(GError) refusal = g_error_new(QMP_CLASS, QMP_CLASS_GENERIC, "no");

    link_test_talk_init(&talk, data);
    while ((request = link_test_talk_next(&talk, NULL))) {
        bool ok = g_strcmp0(qmp_message_get_string(request, "execute"),
                            "run") == 0;

        g_assert_true(link_test_talk_answer(&talk, request, ok
                                            ? json_object_new() : NULL, refusal,
                                            NULL));
        json_object_unref(request);
    }
    return NULL;
}

static void test_talk(void)
{
    Stream *pair[2];
    GThread *thread;
    LinkTestTalk talk;
    JsonObject *answer;
    g_autoptr(GError) error = NULL;
    uint32_t us = 0;

    link_fixture_pair(pair, "a", "b");
    thread = g_thread_new("serve", serve_thread, pair[1]);
    link_test_talk_init(&talk, pair[0]);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_true(link_test_talk_ping(&talk, &us, &error));
        g_assert_cmpuint(us, >, 0);
        answer = link_test_talk_ask(&talk, "run", NULL, &error);
        g_assert_no_error(error);
        json_object_unref(answer);
    }
    g_assert_null(link_test_talk_ask(&talk, "walk", json_object_new(), &error));
    link_fixture_assert_contains(error->message, "the peer refused: ");
    stream_finish(pair[0]);
    g_thread_join(thread);
    stream_free(pair[0]);
    stream_free(pair[1]);
}

/* ---- lanes ------------------------------------------------------------------ */

static void *put_thread(void *data)
{
    LinkTestLanes *lanes = data;
    Stream *pair[2];

    link_fixture_pair(pair, "a", "b");
    g_assert_true(link_test_lanes_put(lanes, 0, &pair[0], NULL));
    g_assert_null(pair[0]);
    stream_free(pair[1]);
    return NULL;
}

static void test_lanes(void)
{
    LinkTestLanes lanes;
    Stream *pair[2], *got[2];
    g_autoptr(GError) error = NULL, reason = NULL, kept = NULL;
    GThread *thread;

    link_test_lanes_init(&lanes);
    g_assert_false(link_test_lanes_get(&lanes, 1, 0, got, &error));
    link_fixture_assert_contains(error->message, "lane 0 is not connected");
    g_clear_error(&error);
    /* One that is only on its way is waited for. */
    thread = g_thread_new("put", put_thread, &lanes);
    g_assert_true(link_test_lanes_get(&lanes, 1, FIXTURE_LONG_MS, got, NULL));
    g_thread_join(thread);
    g_assert_true(link_test_lanes_has(&lanes, 0));
    g_assert_false(link_test_lanes_has(&lanes, 1));
    link_fixture_pair(pair, "c", "d");
    g_assert_false(link_test_lanes_put(&lanes, 0, &pair[0], &error));
    link_fixture_assert_contains(error->message, "that bulk lane already");
    g_clear_error(&error);
    reason = g_error_new(QMP_CLASS, QMP_CLASS_GENERIC, "enough");
    link_test_lanes_shut(&lanes, reason);
    g_assert_false(link_test_lanes_put_main(&lanes, &pair[0], &error));
    g_assert_cmpstr(error->message, ==, "enough");
    g_assert_true(g_cancellable_is_cancelled(lanes.cancellable));
    kept = link_test_lanes_get_reason(&lanes);
    g_assert_cmpstr(kept->message, ==, "enough");
    stream_free(pair[0]);
    stream_free(pair[1]);
    link_test_lanes_clear(&lanes);
}

/* ---- TLS -------------------------------------------------------------------- */

static void test_tls_speed(void)
{
    FixtureSpec server = { .dns = "a" }, client = { .dns = "b" };
    FixtureCa ca;
    FixturePair pair;
    TlsPeerRules rules = { .tls13_only = true };
    TlsCredentials *credentials;
    char *directory;

    fixture_ca_init(&ca, "test CA");
    directory = fixture_x509(&ca, &server, &client);
    fixture_ca_clear(&ca);
    credentials = fixture_load(TLS_X509, directory);
    fixture_pair_handshake(&pair, credentials, &rules, credentials, &rules);
    g_assert_true(pair.client.ok && pair.server.ok);
    g_assert_cmpuint(tls_speed_measure(stream_get_tls(pair.client.stream)), >, 0);
    fixture_pair_clear(&pair);
    tls_credentials_unref(credentials);
    fixture_remove(directory);
}

/* ---- advice ----------------------------------------------------------------- */

static const LinkTestAdviceSetup advice_setup = {
    .peer = "dc2", .lanes = 4, .link_dead_ms = 5000,
};

/* A clean line of 40 ms; megabytes a second by step. */
static LinkTestResult make_result(const unsigned *rates, unsigned n)
{
    LinkTestRttSummary rtt = { 20, 40000, 40000, 41000, 100 };
    LinkTestResult result = {
        .idle = rtt, .n_steps = n, .algorithm = "cubic", .window = 64 << 20,
        .tls_here = 4000000000, .tls_there = 3000000000, .n_paths = 1,
        .paths = { { .address = "tcp:a:1", .local = "b", .mtu = 1500 } },
    };

    for (unsigned i = 0; i < n; i++) {
        result.steps[i] = (LinkTestStep) {
            .lanes = 1u << i, .rtt = rtt,
            .load = { .rate = rates[i] * 1000000, .segments = 10000 },
        };
    }
    return result;
}

static bool says(const LinkTestAdviceSetup *setup, const LinkTestResult *result,
                 const char *part)
{
    g_autoptr(GPtrArray) list = link_test_advice_get(setup, result);

    for (unsigned i = 0; i < list->len; i++) {
        g_test_message("%s", (char *)g_ptr_array_index(list, i));
        if (strstr(g_ptr_array_index(list, i), part)) {
            return true;
        }
    }
    return false;
}

#define ASSERT_SAYS(result, part) \
    g_assert_true(says(&advice_setup, &(result), part))
#define ASSERT_SILENT(result, part) \
    g_assert_false(says(&advice_setup, &(result), part))

static void test_advice_lanes(void)
{
    static const unsigned grows[] = { 10, 20, 40, 80, 82 };
    static const unsigned flat[] = { 80, 82, 81, 80, 79 };
    static const unsigned falls[] = { 80, 82, 60, 40, 20 };
    LinkTestAdviceSetup other = advice_setup;
    LinkTestResult result = make_result(grows, 5);

    ASSERT_SAYS(result, "lanes: 8 fill the line (640.0 Mbit/s, one alone 80.0 "
                "Mbit/s); set lanes=8 in [peer dc2], which has 4");
    other.lanes = 8;
    g_assert_true(says(&other, &result, "lanes=8 is enough"));
    other.lanes = 0;
    other.lanes_max = 8;
    g_assert_true(says(&other, &result, "lanes=auto finds them"));
    other.lanes_max = 4;
    g_assert_true(says(&other, &result, "set lanes-max=8 in [peer dc2], which "
                       "has 4"));
    result = make_result(flat, 5);
    ASSERT_SAYS(result, "lanes: one fills the line");
    result = make_result(falls, 5);
    ASSERT_SAYS(result, "lanes: 1 got most");
}

static void test_advice_queue(void)
{
    static const unsigned rates[] = { 10, 20 };
    LinkTestResult result = make_result(rates, 2);

    ASSERT_SILENT(result, "rate:");
    result.steps[1].rtt.median_us = 240000;
    ASSERT_SAYS(result, "grows from 40 ms to 240 ms");
    ASSERT_SAYS(result, "a limit of 152.0 Mbit/s");
    result.steps[1].load.retransmits = 100;
    ASSERT_SAYS(result, "loss: 1.00 % of the segments were sent again, and the "
                "queue was long");
}

static void test_advice_loss(void)
{
    static const unsigned rates[] = { 10, 20 };
    LinkTestResult result = make_result(rates, 2);

    result.steps[1].load.retransmits = 9;
    ASSERT_SILENT(result, "loss:");
    result.steps[1].load.retransmits = 10;
    ASSERT_SAYS(result, "with cubic: congestion-control=bbr");
    g_strlcpy(result.algorithm, "bbr", sizeof(result.algorithm));
    ASSERT_SILENT(result, "congestion-control=bbr");
}

static void test_advice_limit(void)
{
    static const unsigned rates[] = { 9, 10 };
    LinkTestResult result = make_result(rates, 2);

    result.limit = 10 * 1000 * 1000;
    ASSERT_SAYS(result, "the limit, 80.0 Mbit/s, is what was measured");
    result.limit = 100 * 1000 * 1000;
    ASSERT_SILENT(result, "is what was measured");
}

static void test_advice_window(void)
{
    static const unsigned rates[] = { 100 };    /* 4 MB in 40 ms */
    LinkTestResult result = make_result(rates, 1);

    ASSERT_SAYS(result, "enough");
    result.window = 7 << 20;
    ASSERT_SAYS(result, "raise migration-memory");
    result.steps[0].load.rwnd_limited = 300;
    ASSERT_SAYS(result, "for 30 % of the time the receiver's window");
    ASSERT_SAYS(result, "tcp_rmem there");
    result.steps[0].load.sndbuf_limited = 200;
    ASSERT_SAYS(result, "tcp_wmem here");
}

static void test_advice_others(void)
{
    static const unsigned rates[] = { 2900 };
    LinkTestResult result = make_result(rates, 1);

    ASSERT_SAYS(result, "TLS: one core does 24.0 Gbit/s");
    result.tls_there = 0;
    result.tls_here = 0;
    ASSERT_SILENT(result, "TLS:");
    ASSERT_SILENT(result, "MTU:");
    result.paths[0].mtu = 1400;
    ASSERT_SAYS(result, "MTU: 1400 on the way to tcp:a:1");
    ASSERT_SILENT(result, "link-dead");
    result.steps[0].rtt.max_us = 2500000;
    ASSERT_SAYS(result, "link-dead: a round trip took up to 2500 ms");
    ASSERT_SAYS(result, "the hand-over adds about 40 ms");
}

/* Nothing was measured, nothing is said; nor is anything divided by it. */
static void test_advice_without_numbers(void)
{
    LinkTestResult result = { .n_steps = 0 };
    g_autoptr(GPtrArray) none = link_test_advice_get(&advice_setup, &result);
    g_autoptr(GPtrArray) zero = NULL;

    g_assert_cmpuint(none->len, ==, 0);
    result.n_steps = 1;
    result.steps[0].lanes = 1;
    zero = link_test_advice_get(&advice_setup, &result);
    g_assert_cmpuint(zero->len, >, 0);
}

static void test_warnings(void)
{
    LinkTestResult result = { .migrations_there = 2, .cut_short = true };
    g_autoptr(GPtrArray) list = link_test_advice_get_warnings(&advice_setup,
                                                              &result);

    g_assert_cmpuint(list->len, ==, 2);
    link_fixture_assert_contains(g_ptr_array_index(list, 0),
                                 "0 here and 2 at dc2");
    link_fixture_assert_contains(g_ptr_array_index(list, 1), "no time");
}

/* ---- results ---------------------------------------------------------------- */

/* Lanes between the same addresses are one path, and its least numbers count. */
static void test_result_paths(void)
{
    LinkTestResult result = { .n_steps = 0 };
    Stream *pairs[3][2];

    for (unsigned i = 0; i < 3; i++) {
        int fds[2];

        fixture_connect(fds);
        pairs[i][0] = stream_new(fds[0], "a");
        pairs[i][1] = stream_new(fds[1], "b");
        link_test_result_add_lane(&result, pairs[i][0]);
    }
    /* Each connection has a listener of its own, so each is another path. */
    g_assert_cmpuint(result.n_paths, ==, 3);
    link_test_result_add_lane(&result, pairs[0][0]);
    g_assert_cmpuint(result.n_paths, ==, 3);
    g_assert_cmpuint(result.paths[0].lanes, ==, 2);
    g_assert_cmpstr(result.paths[0].local, ==, "127.0.0.1");
    for (unsigned i = 0; i < 100; i++) {
        /* As if they were others; more than there is room for are not kept. */
        for (unsigned k = 0; k < result.n_paths; k++) {
            g_snprintf(result.paths[k].local, LINK_TEST_RESULT_ADDRESS, "%u", k);
        }
        link_test_result_add_lane(&result, pairs[0][0]);
    }
    g_assert_cmpuint(result.n_paths, ==, LINK_TEST_RESULT_PATHS);
    for (unsigned i = 0; i < 3; i++) {
        stream_free(pairs[i][0]);
        stream_free(pairs[i][1]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/link-test/" path, func)
    ADD("rtt/summary", test_rtt_summary);
    ADD("rtt/few", test_rtt_few);
    ADD("rtt/full", test_rtt_full);
    ADD("load/arrives", test_load_arrives);
    ADD("load/is-bounded", test_load_is_bounded);
    ADD("load/refuses-other-frames", test_load_refuses_other_frames);
    ADD("load/refuses-gaps", test_load_refuses_gaps);
    ADD("load/lane-breaks", test_load_lane_breaks);
    ADD("load/is-given-up", test_load_is_given_up);
    ADD("talk/asks-and-echoes", test_talk);
    ADD("lanes/put-get-shut", test_lanes);
    ADD("tls-speed", test_tls_speed);
    ADD("advice/lanes", test_advice_lanes);
    ADD("advice/queue", test_advice_queue);
    ADD("advice/loss", test_advice_loss);
    ADD("advice/limit", test_advice_limit);
    ADD("advice/window", test_advice_window);
    ADD("advice/others", test_advice_others);
    ADD("advice/without-numbers", test_advice_without_numbers);
    ADD("warnings", test_warnings);
    ADD("result/paths", test_result_paths);
    return g_test_run();
}
