/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test-measure.c - what a link test does, from top to bottom
 *
 * Connect, echoes on the idle link, then one load after the other, each over more
 * lanes, with echoes meanwhile.  Only this thread talks on the main lane.
 */
#include "daemon/link-test-private.h"

#include <string.h>

#include "daemon/link-test-connect.h"
#include "daemon/link-test-facts.h"
#include "daemon/registry.h"
#include "daemon/tls-speed.h"
#include "qmp/error.h"
#include "qmp/message.h"
#include "wire/error.h"

enum {
    IDLE_ECHOES = 20,
    ECHO_EVERY_US = 50 * 1000,
    ASK_EVERY_US = 50 * 1000,
    LAST_MS = 1500,             /* with less time left no load is begun */
};

/* ---- the peer --------------------------------------------------------------- */

/* One from before there were link tests does not know the role. */
static void explain_refusal(LinkTest *self, GError **error)
{
    if (error && g_error_matches(*error, QMP_ERROR, QMP_ERROR_COMMAND) &&
        strstr((*error)->message, "no usable 'role'")) {
        g_prefix_error(error, "peer %s knows no link tests: its multiferryd is "
                       "older than this one: ", self->peer_name);
    }
}

static bool connect_main(LinkTest *self, GError **error)
{
    PeerStatus *status = self->daemon->peer_status;
    g_autoptr(GError) failed = NULL;
    g_autoptr(Stream) stream = link_test_connect_main(
        self->daemon, &self->request, self->id, self->lanes.cancellable,
        &failed);

    if (stream) {
        peer_status_note_reached(status, self->peer_name);
        link_test_talk_init(&self->talk, stream);
        return link_test_lanes_put_main(&self->lanes, &stream, error);
    }
    explain_refusal(self, &failed);
    /* A peer that answers is there. */
    if (failed->domain == QMP_ERROR) {
        peer_status_note_reached(status, self->peer_name);
    } else if (!g_cancellable_is_cancelled(self->lanes.cancellable)) {
        peer_status_note_failed(status, self->peer_name, failed);
    }
    g_propagate_error(error, g_steal_pointer(&failed));
    return false;
}

/* A number of the peer's that is nonsense is as good as none. */
static uint64_t get_number(JsonObject *object, const char *name)
{
    int64_t value = 0;

    qmp_message_get_uint(object, name, G_MAXINT64, &value);
    return value;
}

static char *describe_cipher(gnutls_session_t session)
{
    return g_strdup_printf("%s %s", gnutls_protocol_get_name(
        gnutls_protocol_get_version(session)), gnutls_cipher_get_name(
        gnutls_cipher_get(session)));
}

/* Of who sends. */
static void note_algorithm(LinkTest *self, JsonObject *answer)
{
    char *algorithm = self->result.algorithm;
    const char *theirs = qmp_message_get_string(answer, "congestion-control");

    if (self->sends) {
        stream_tcp_get_algorithm(self->talk.stream, algorithm);
    } else if (theirs) {
        g_strlcpy(algorithm, theirs, STREAM_TCP_ALGORITHM_SIZE);
        g_strcanon(algorithm, "abcdefghijklmnopqrstuvwxyz0123456789_-", '?');
    }
}

static void take_facts(LinkTest *self, JsonObject *answer)
{
    LinkTestResult *result = &self->result;
    gnutls_session_t session = stream_get_tls(self->talk.stream);
    g_autofree char *cipher = describe_cipher(session);
    uint64_t speed = tls_speed_measure(session);
    uint64_t window = link_test_facts_get_window(self->request.config);
    uint64_t ours = self->request.ignore_limit ? 0 : link_test_facts_get_limit(
        self->daemon, self->request.peer);
    uint64_t limit = self->sends ? ours : get_number(answer, "rate-limit");
    uint64_t rate = self->request.rate;
    unsigned running = registry_count_running(self->daemon->registry);

    g_mutex_lock(&self->lock);
    g_strlcpy(result->cipher, cipher, sizeof(result->cipher));
    note_algorithm(self, answer);
    result->tls_here = speed;
    result->tls_there = get_number(answer, "tls-rate");
    result->window = MIN(window, get_number(answer, "window"));
    result->limit = limit && rate ? MIN(limit, rate) : MAX(limit, rate);
    result->migrations = running;
    result->migrations_there = get_number(answer, "migrations");
    g_mutex_unlock(&self->lock);
}

static bool begin(LinkTest *self, GError **error)
{
    JsonObject *args = json_object_new(), *answer;

    json_object_set_int_member(args, "total-ms", self->total_ms);
    answer = link_test_talk_ask(&self->talk, "begin", args, error);
    if (!answer) {
        return false;
    }
    take_facts(self, answer);
    json_object_unref(answer);
    return true;
}

/* ---- echoes ----------------------------------------------------------------- */

static void sleep_until(int64_t until_us)
{
    int64_t left_us = until_us - g_get_monotonic_time();

    if (left_us > 0) {
        g_usleep(left_us);
    }
}

static bool echo(LinkTest *self, LinkTestRtt *rtt, GError **error)
{
    int64_t begin_us = g_get_monotonic_time();
    uint32_t us;

    if (!link_test_talk_ping(&self->talk, &us, error)) {
        return false;
    }
    link_test_rtt_add(rtt, us);
    sleep_until(begin_us + ECHO_EVERY_US);
    return true;
}

static bool measure_idle(LinkTest *self, GError **error)
{
    g_autofree LinkTestRtt *rtt = g_new(LinkTestRtt, 1);

    link_test_rtt_init(rtt);
    for (unsigned i = 0; i < IDLE_ECHOES; i++) {
        if (!echo(self, rtt, error)) {
            return false;
        }
    }
    g_mutex_lock(&self->lock);
    link_test_rtt_summarize(rtt, &self->result.idle);
    g_mutex_unlock(&self->lock);
    return true;
}

/* ---- loads ------------------------------------------------------------------ */

static Limiter *make_limiter(LinkTest *self)
{
    Limiter *parent = daemon_get_limiter(self->daemon, self->request.peer);

    if (!self->sends) {
        return NULL;
    }
    return limiter_new(self->request.ignore_limit ? NULL : parent,
                       self->request.rate, 1);
}

static bool ask_run(LinkTest *self, unsigned n, GError **error)
{
    JsonObject *args = json_object_new(), *answer;

    json_object_set_int_member(args, "lanes", n);
    json_object_set_int_member(args, "time-ms", self->request.time_ms);
    json_object_set_boolean_member(args, "send", !self->sends);
    if (self->request.rate > 0) {
        json_object_set_int_member(args, "rate", self->request.rate);
    }
    answer = link_test_talk_ask(&self->talk, "run", args, error);
    if (!answer) {
        return false;
    }
    json_object_unref(answer);
    return true;
}

/* Until the other end is through, too: what is on its way still takes its time. */
static bool ask_result(LinkTest *self, LinkTestLoadResult *ret, GError **error)
{
    bool done = false;

    while (!done) {
        JsonObject *answer = link_test_talk_ask(&self->talk, "result", NULL,
                                                error);

        if (!answer) {
            return false;
        }
        if (!qmp_message_get_bool(answer, "done", &done)) {
            g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                        "answer to result: 'done' is missing");
            json_object_unref(answer);
            return false;
        }
        if (done) {
            *ret = (LinkTestLoadResult) {
                .bytes = get_number(answer, "bytes"),
                .rate = get_number(answer, "rate"),
                .segments = get_number(answer, "segments"),
                .retransmits = get_number(answer, "retransmits"),
                .rwnd_limited = MIN(get_number(answer, "rwnd-limited"), 1000),
                .sndbuf_limited = MIN(get_number(answer, "sndbuf-limited"), 1000),
            };
        }
        json_object_unref(answer);
        if (!done) {
            g_usleep(ASK_EVERY_US);
        }
    }
    return true;
}

/* The receiver knows what came, the sender what it took. */
static void add_step(LinkTest *self, unsigned n, const LinkTestLoadResult *sender,
                     const LinkTestLoadResult *receiver, const LinkTestRtt *rtt)
{
    LinkTestStep step = { .lanes = n, .load = *sender };
    unsigned running = registry_count_running(self->daemon->registry);

    step.load.rate = receiver->rate;
    step.load.bytes = receiver->bytes;
    link_test_rtt_summarize(rtt, &step.rtt);
    g_mutex_lock(&self->lock);
    self->result.steps[self->result.n_steps++] = step;
    self->result.migrations = MAX(self->result.migrations, running);
    g_mutex_unlock(&self->lock);
}

static bool run_load(LinkTest *self, unsigned n, Stream *const *lanes,
                     Limiter *limiter, GError **error)
{
    LinkTestLoadSetup setup = {
        .send = self->sends, .time_ms = self->request.time_ms,
        .limiter = limiter, .bytes_max = LINK_TEST_BYTES_MAX,
    };
    g_autofree LinkTestRtt *rtt = g_new(LinkTestRtt, 1);
    g_autoptr(LinkTestLoad) load = NULL;
    LinkTestLoadResult here, there;

    if (!ask_run(self, n, error)) {
        return false;
    }
    link_test_rtt_init(rtt);
    load = link_test_load_new(lanes, n, &setup);
    while (!link_test_load_is_over(load)) {
        if (!echo(self, rtt, error)) {
            return false;
        }
    }
    if (!link_test_load_finish(load, &here, error) ||
        !ask_result(self, &there, error)) {
        return false;
    }
    add_step(self, n, self->sends ? &here : &there,
             self->sends ? &there : &here, rtt);
    return true;
}

static bool run_step(LinkTest *self, unsigned n, GError **error)
{
    g_autoptr(Limiter) limiter = make_limiter(self);
    Stream *lanes[LINK_LANES_MAX];

    link_test_set_state(self, LINK_TEST_LOAD, n, NULL);
    return link_test_connect_bulk(self->daemon, &self->request, self->id, n,
                                  &self->lanes, error) &&
           link_test_lanes_get(&self->lanes, n, 0, lanes, error) &&
           run_load(self, n, lanes, limiter, error);
}

static unsigned get_next(unsigned n, unsigned max)
{
    return n * 2 > max && n < max ? max : n * 2;
}

unsigned link_test_count_steps(unsigned max)
{
    unsigned steps = 0;

    for (unsigned n = 1; n <= max; n = get_next(n, max)) {
        steps++;
    }
    return steps;
}

static bool has_time(LinkTest *self)
{
    return g_get_monotonic_time() + self->request.time_ms * 1000LL +
           LAST_MS * 1000LL < self->deadline_us;
}

static bool run_steps(LinkTest *self, GError **error)
{
    unsigned max = self->request.lanes_max;

    for (unsigned n = 1; n <= max; n = get_next(n, max)) {
        if (!has_time(self)) {
            g_mutex_lock(&self->lock);
            self->result.cut_short = true;
            g_mutex_unlock(&self->lock);
            return true;
        }
        if (!run_step(self, n, error)) {
            return false;
        }
    }
    return true;
}

bool link_test_measure(LinkTest *self, GError **error)
{
    if (!connect_main(self, error)) {
        return false;
    }
    link_test_set_state(self, LINK_TEST_IDLE, 0, NULL);
    return begin(self, error) && measure_idle(self, error) &&
           run_steps(self, error);
}
