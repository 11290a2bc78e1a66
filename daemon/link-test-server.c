/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-test-server.h"

#include "daemon/link-test-facts.h"
#include "daemon/link-test-lanes.h"
#include "daemon/link-test-load.h"
#include "daemon/link-test-talk.h"
#include "daemon/log.h"
#include "daemon/registry.h"
#include "daemon/stream-tcp.h"
#include "daemon/tls-speed.h"
#include "qmp/error.h"
#include "qmp/message.h"

enum { LANE_MS = 2000 };       /* that a lane may be late */

struct LinkTestServer {
    Daemon *daemon;                 /* these are constant */
    Config *config;                 /* a reference */
    const ConfigPeer *peer;         /* of it */
    char *id;
    char *peer_name;
    GThread *thread;                /* NULL: was not started */
    LinkTestLanes lanes;            /* has its own lock */
    gint over;                      /* atomic; only goes from 0 to 1 */
    int64_t deadline_us;            /* atomic */

    /* Of the thread alone. */
    LinkTestTalk talk;
    LinkTestLoad *load;             /* NULL: none now */
    Limiter *limiter;               /* of that */
    bool sends;                     /* that does */
    bool begun;
    uint64_t bytes_left;            /* that may yet come in */
};

static bool refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static bool refuse(GError **error, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC, "link test: %s", text);
    return false;
}

static bool get_number(JsonObject *args, const char *name, int64_t min,
                       int64_t max, int64_t *ret, GError **error)
{
    if (!qmp_message_get_uint(args, name, max, ret) || *ret < min) {
        return refuse(error, "got no usable '%s', expected %" G_GINT64_FORMAT
                      " to %" G_GINT64_FORMAT, name, min, max);
    }
    return true;
}

/* ---- requests --------------------------------------------------------------- */

static void set_deadline(LinkTestServer *self, int64_t from_now_ms)
{
    __atomic_store_n(&self->deadline_us,
                     g_get_monotonic_time() + from_now_ms * 1000,
                     __ATOMIC_RELAXED);
}

static JsonObject *begin(LinkTestServer *self, JsonObject *args, GError **error)
{
    char algorithm[STREAM_TCP_ALGORITHM_SIZE];
    JsonObject *ret;
    int64_t total_ms;

    if (self->begun) {
        refuse(error, "begin: got it twice, allowed once");
        return NULL;
    }
    if (!get_number(args, "total-ms", 1, LINK_TEST_TOTAL_MAX_MS, &total_ms,
                    error)) {
        return NULL;
    }
    self->begun = true;
    set_deadline(self, total_ms);
    ret = json_object_new();
    json_object_set_int_member(ret, "tls-rate", tls_speed_measure(
        stream_get_tls(self->talk.stream)));
    json_object_set_int_member(ret, "migrations", registry_count_running(
        self->daemon->registry));
    json_object_set_int_member(ret, "rate-limit", link_test_facts_get_limit(
        self->daemon, self->peer));
    stream_tcp_get_algorithm(self->talk.stream, algorithm);
    json_object_set_string_member(ret, "congestion-control", algorithm);
    json_object_set_int_member(ret, "window", link_test_facts_get_window(
        self->config));
    return ret;
}

static bool start_load(LinkTestServer *self, unsigned n, unsigned time_ms,
                       uint64_t rate, GError **error)
{
    Stream *lanes[LINK_LANES_MAX];
    LinkTestLoadSetup setup = {
        .send = self->sends,
        .time_ms = time_ms,
        .bytes_max = self->bytes_left,
    };

    if (!link_test_lanes_get(&self->lanes, n, LANE_MS, lanes, error)) {
        return false;
    }
    g_clear_pointer(&self->limiter, limiter_unref);
    if (self->sends) {
        self->limiter = limiter_new(daemon_get_limiter(self->daemon, self->peer),
                                    rate, 1);
        setup.limiter = self->limiter;
    }
    self->load = link_test_load_new(lanes, n, &setup);
    return true;
}

static JsonObject *run(LinkTestServer *self, JsonObject *args, GError **error)
{
    int64_t n, time_ms, rate = 0;

    if (!self->begun || self->load) {
        refuse(error, "run: allowed only after begin, one after the other");
        return NULL;
    }
    if (!get_number(args, "lanes", 1, LINK_LANES_MAX, &n, error) ||
        !get_number(args, "time-ms", LINK_TEST_TIME_MIN_MS,
                    LINK_TEST_TIME_MAX_MS, &time_ms, error)) {
        return NULL;
    }
    if (!qmp_message_get_bool(args, "send", &self->sends)) {
        refuse(error, "got no usable 'send', expected true or false");
        return NULL;
    }
    qmp_message_get_uint(args, "rate", G_MAXINT64, &rate);
    return start_load(self, n, time_ms, rate, error) ? json_object_new() : NULL;
}

/* A load that failed ends the test: its lanes are shut. */
static JsonObject *result(LinkTestServer *self, GError **error)
{
    JsonObject *ret;
    LinkTestLoadResult got;
    bool done;

    if (!self->load) {
        refuse(error, "result: allowed only after run, once");
        return NULL;
    }
    done = link_test_load_is_over(self->load);
    if (done && !link_test_load_finish(self->load, &got, error)) {
        return NULL;
    }
    ret = json_object_new();
    json_object_set_boolean_member(ret, "done", done);
    if (!done) {
        return ret;
    }
    g_clear_pointer(&self->load, link_test_load_free);
    self->bytes_left -= self->sends ? 0 : MIN(got.bytes, self->bytes_left);
    json_object_set_int_member(ret, "bytes", got.bytes);
    json_object_set_int_member(ret, "rate", got.rate);
    json_object_set_int_member(ret, "segments", got.segments);
    json_object_set_int_member(ret, "retransmits", got.retransmits);
    json_object_set_int_member(ret, "rwnd-limited", got.rwnd_limited);
    json_object_set_int_member(ret, "sndbuf-limited", got.sndbuf_limited);
    return ret;
}

static JsonObject *handle(LinkTestServer *self, JsonObject *request,
                          GError **error)
{
    const char *name = qmp_message_get_string(request, "execute");
    JsonObject *args = qmp_message_get_object(request, "arguments");
    g_autoptr(JsonObject) none = json_object_new();

    args = args ? args : none;
    if (g_strcmp0(name, "begin") == 0) {
        return begin(self, args, error);
    }
    if (g_strcmp0(name, "run") == 0) {
        return run(self, args, error);
    }
    if (g_strcmp0(name, "result") == 0) {
        return result(self, error);
    }
    refuse(error, "got no request that there is in a link test");
    return NULL;
}

/* ---- the thread ------------------------------------------------------------- */

static bool serve_one(LinkTestServer *self, GError **error)
{
    g_autoptr(JsonObject) request = link_test_talk_next(&self->talk, error);
    g_autoptr(GError) refusal = NULL;
    JsonObject *ret;

    if (!request) {
        return false;
    }
    ret = handle(self, request, &refusal);
    if (!link_test_talk_answer(&self->talk, request, ret, refusal, error)) {
        return false;
    }
    if (!ret) {
        g_propagate_error(error, g_steal_pointer(&refusal));
        return false;
    }
    return true;
}

static void *serve(void *data)
{
    LinkTestServer *self = data;
    LogContext about = { .peer = self->peer_name };
    g_autoptr(GError) error = NULL, reason = NULL;

    log_info(&about, "link test %s: asked for by %s", self->id, self->peer_name);
    while (serve_one(self, &error)) {
    }
    reason = link_test_lanes_get_reason(&self->lanes);
    if (reason || error) {
        log_warning(&about, "link test %s with %s: %s", self->id,
                    self->peer_name, (reason ? reason : error)->message);
    } else {
        log_info(&about, "link test %s with %s: over", self->id,
                 self->peer_name);
    }
    g_clear_pointer(&self->load, link_test_load_free);
    stream_finish(self->talk.stream);
    link_test_lanes_close(&self->lanes);
    g_atomic_int_set(&self->over, 1);
    return NULL;
}

/* ---- life ------------------------------------------------------------------- */

LinkTestServer *link_test_server_new(Daemon *daemon, const char *id,
                                     Config *config, const ConfigPeer *peer)
{
    LinkTestServer *self = g_new0(LinkTestServer, 1);

    self->daemon = daemon;
    self->config = config_ref(config);
    self->peer = peer;
    self->id = g_strdup(id);
    self->peer_name = g_strdup(peer->name);
    self->bytes_left = LINK_TEST_BYTES_MAX;
    link_test_lanes_init(&self->lanes);
    set_deadline(self, config->timeouts.handshake_ms);
    return self;
}

bool link_test_server_start(LinkTestServer *self, Stream **stream,
                            GError **error)
{
    link_test_talk_init(&self->talk, *stream);
    if (!link_test_lanes_put_main(&self->lanes, stream, error)) {
        return false;
    }
    self->thread = g_thread_try_new("link-test", serve, self, error);
    return self->thread != NULL;
}

void link_test_server_free(LinkTestServer *self)
{
    if (self->thread) {
        g_thread_join(self->thread);
    }
    g_clear_pointer(&self->limiter, limiter_unref);
    link_test_lanes_clear(&self->lanes);
    config_unref(self->config);
    g_free(self->peer_name);
    g_free(self->id);
    g_free(self);
}

const char *link_test_server_get_id(const LinkTestServer *self)
{
    return self->id;
}

const char *link_test_server_get_peer(const LinkTestServer *self)
{
    return self->peer_name;
}

bool link_test_server_is_over(LinkTestServer *self)
{
    return g_atomic_int_get(&self->over);
}

void link_test_server_give_up(LinkTestServer *self)
{
    g_atomic_int_set(&self->over, 1);
}

bool link_test_server_has_lane(LinkTestServer *self, unsigned lane)
{
    return link_test_lanes_has(&self->lanes, lane);
}

bool link_test_server_put_lane(LinkTestServer *self, unsigned lane,
                               Stream **stream, GError **error)
{
    return link_test_lanes_put(&self->lanes, lane, stream, error);
}

void link_test_server_shut(LinkTestServer *self, const GError *reason)
{
    link_test_lanes_shut(&self->lanes, reason);
}

void link_test_server_check_time(LinkTestServer *self)
{
    int64_t deadline_us = __atomic_load_n(&self->deadline_us, __ATOMIC_RELAXED);
    g_autoptr(GError) late = NULL;

    if (g_get_monotonic_time() > deadline_us) {
        late = g_error_new(QMP_CLASS, QMP_CLASS_GENERIC,
                           "the time that was asked for is over");
        link_test_server_shut(self, late);
    }
}
