/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test.c - a link test's life: states, end, what is shown of it
 *
 * Whoever wants it to end shuts its streams, for a reason, and the thread finds out.
 */
#include "daemon/link-test-private.h"

#include "daemon/link-test-advice.h"
#include "daemon/log.h"
#include "daemon/registry.h"
#include "daemon/uuid.h"
#include "qmp/error.h"

enum {
    LANES_USUAL = 8,            /* are tried, even where fewer are configured */
    SETUP_MS = 30 * 1000,       /* connecting and the idle link */
    DRAIN_MS = 3000,            /* after a load, for the time limit */
};

static const char *const state_names[] = {
    [LINK_TEST_CONNECTING] = "connecting",
    [LINK_TEST_IDLE] = "idle",
    [LINK_TEST_LOAD] = "load",
    [LINK_TEST_COMPLETED] = "completed",
    [LINK_TEST_FAILED] = "failed",
    [LINK_TEST_CANCELLED] = "cancelled",
};
G_STATIC_ASSERT(G_N_ELEMENTS(state_names) == LINK_TEST_CANCELLED + 1);

/* ---- states ----------------------------------------------------------------- */

static bool is_final(LinkTestState state)
{
    return state >= LINK_TEST_COMPLETED;
}

static void tell(LinkTest *self, LinkTestState state, const char *error)
{
    JsonObject *data = json_object_new();

    json_object_set_string_member(data, "id", self->id);
    json_object_set_string_member(data, "peer", self->peer_name);
    json_object_set_string_member(data, "state", state_names[state]);
    if (error) {
        json_object_set_string_member(data, "error", error);
    }
    registry_emit(self->daemon->registry, "LINK_TEST", data);
}

void link_test_set_state(LinkTest *self, LinkTestState state, unsigned lanes,
                         GError *error)
{
    LogContext about = { .peer = self->peer_name, .state = state_names[state] };
    g_autofree char *text = error ? g_strdup(error->message) : NULL;

    g_mutex_lock(&self->lock);
    self->state = state;
    self->lanes_now = lanes;
    self->error = error;
    if (is_final(state)) {
        self->end_us = g_get_monotonic_time();
    }
    g_mutex_unlock(&self->lock);
    if (lanes > 1) {
        log_debug(&about, "link test %s with %s: %u lanes", self->id,
                  self->peer_name, lanes);
    } else if (state == LINK_TEST_FAILED) {
        log_warning(&about, "link test %s with %s: failed: %s", self->id,
                    self->peer_name, text);
    } else {
        log_info(&about, "link test %s with %s: %s", self->id, self->peer_name,
                 state_names[state]);
    }
    tell(self, state, text);
}

/* ---- the thread ------------------------------------------------------------- */

static void note_paths(LinkTest *self)
{
    Stream *stream[LINK_LANES_MAX];
    unsigned n = 0;

    while (n < LINK_LANES_MAX && link_test_lanes_has(&self->lanes, n)) {
        n++;
    }
    if (!link_test_lanes_get(&self->lanes, n, 0, stream, NULL)) {
        return;
    }
    g_mutex_lock(&self->lock);
    for (unsigned i = 0; i < n; i++) {
        link_test_result_add_lane(&self->result, stream[i]);
    }
    g_mutex_unlock(&self->lock);
}

static void *run(void *data)
{
    LinkTest *self = data;
    GError *error = NULL, *reason;
    bool ok;

    tell(self, LINK_TEST_CONNECTING, NULL);
    ok = link_test_measure(self, &error);
    note_paths(self);
    if (self->talk.stream) {
        stream_finish(self->talk.stream);
    }
    link_test_lanes_close(&self->lanes);
    reason = link_test_lanes_get_reason(&self->lanes);
    if (ok) {
        g_clear_error(&reason);
        link_test_set_state(self, LINK_TEST_COMPLETED, 0, NULL);
        return NULL;
    }
    /* What was shut fails in many ways; why it was shut counts. */
    if (reason) {
        g_error_free(error);
        error = reason;
    }
    link_test_set_state(self, g_atomic_int_get(&self->cancelled) ? LINK_TEST_CANCELLED
                                                       : LINK_TEST_FAILED, 0, error);
    return NULL;
}

/* ---- life ------------------------------------------------------------------- */

static unsigned get_total_ms(const LinkTestRequest *request)
{
    uint64_t ms = SETUP_MS + (uint64_t)link_test_count_steps(request->lanes_max) *
                  (request->time_ms * 2 + DRAIN_MS);

    return MIN(ms, LINK_TEST_TOTAL_MAX_MS);
}

LinkTest *link_test_new(Daemon *daemon, const LinkTestRequest *request)
{
    LinkTest *self = g_new0(LinkTest, 1);
    bool is_auto = request->peer->lanes == CONFIG_LANES_AUTO;

    self->daemon = daemon;
    self->request = *request;
    self->request.config = config_ref(request->config);
    if (request->lanes_max == 0) {
        self->request.lanes_max = CLAMP(is_auto ? request->peer->lanes_max
                                                : request->peer->lanes,
                                        LANES_USUAL, LINK_LANES_MAX);
    }
    uuid_random_hex(self->id);
    self->peer_name = g_strdup(request->peer->name);
    self->configured_lanes = is_auto ? 0 : request->peer->lanes;
    self->configured_max = request->peer->lanes_max;
    self->link_dead_ms = request->config->timeouts.link_dead_ms;
    self->sends = !request->reverse;
    self->total_ms = get_total_ms(&self->request);
    self->begin_us = g_get_monotonic_time();
    self->deadline_us = self->begin_us + self->total_ms * 1000LL;
    link_test_lanes_init(&self->lanes);
    g_mutex_init(&self->lock);
    return self;
}

bool link_test_start(LinkTest *self, GError **error)
{
    self->thread = g_thread_try_new("link-test", run, self, error);
    return self->thread != NULL;
}

void link_test_free(LinkTest *self)
{
    if (self->thread) {
        g_thread_join(self->thread);
    }
    link_test_lanes_clear(&self->lanes);
    g_clear_error(&self->error);
    config_unref(self->request.config);
    g_mutex_clear(&self->lock);
    g_free(self->peer_name);
    g_free(self);
}

const char *link_test_get_id(const LinkTest *self)
{
    return self->id;
}

const char *link_test_get_peer(const LinkTest *self)
{
    return self->peer_name;
}

bool link_test_is_over(LinkTest *self)
{
    bool over;

    g_mutex_lock(&self->lock);
    over = is_final(self->state);
    g_mutex_unlock(&self->lock);
    return over;
}

void link_test_cancel(LinkTest *self, const char *reason)
{
    g_autoptr(GError) error = g_error_new_literal(
        QMP_CLASS, QMP_CLASS_GENERIC, reason);

    g_atomic_int_set(&self->cancelled, 1);
    link_test_lanes_shut(&self->lanes, error);
}

void link_test_check_time(LinkTest *self)
{
    g_autoptr(GError) late = NULL;

    if (!link_test_is_over(self) &&
        g_get_monotonic_time() > self->deadline_us) {
        late = g_error_new(QMP_CLASS, QMP_CLASS_GENERIC,
                           "the link test took longer than %u s",
                           self->total_ms / 1000);
        link_test_lanes_shut(&self->lanes, late);
    }
}

/* ---- as query-link-tests shows it ------------------------------------------- */

/* Takes @list. */
static JsonArray *texts_to_json(GPtrArray *list)
{
    JsonArray *array = json_array_new();

    for (unsigned i = 0; i < list->len; i++) {
        json_array_add_string_element(array, g_ptr_array_index(list, i));
    }
    g_ptr_array_unref(list);
    return array;
}

/* With the lock held. */
static void add_words(LinkTest *self, JsonObject *ret)
{
    LinkTestAdviceSetup setup = {
        .peer = self->peer_name,
        .reverse = !self->sends,
        .lanes = self->configured_lanes,
        .lanes_max = self->configured_max,
        .link_dead_ms = self->link_dead_ms,
    };

    json_object_set_array_member(ret, "warnings", texts_to_json(
        link_test_advice_get_warnings(&setup, &self->result)));
    if (self->state == LINK_TEST_COMPLETED) {
        json_object_set_array_member(ret, "advice", texts_to_json(
            link_test_advice_get(&setup, &self->result)));
    }
}

JsonObject *link_test_to_json(LinkTest *self)
{
    JsonObject *ret = json_object_new();
    int64_t end_us;

    g_mutex_lock(&self->lock);
    end_us = self->end_us ? self->end_us : g_get_monotonic_time();
    json_object_set_string_member(ret, "id", self->id);
    json_object_set_string_member(ret, "peer", self->peer_name);
    json_object_set_string_member(ret, "state", state_names[self->state]);
    if (self->error) {
        json_object_set_string_member(ret, "error", self->error->message);
    }
    json_object_set_boolean_member(ret, "reverse", !self->sends);
    json_object_set_int_member(ret, "time-ms", self->request.time_ms);
    json_object_set_int_member(ret, "elapsed-ms",
                               (end_us - self->begin_us) / 1000);
    if (self->state == LINK_TEST_LOAD) {
        json_object_set_int_member(ret, "lanes-now", self->lanes_now);
    }
    link_test_result_to_json(&self->result, ret);
    add_words(self, ret);
    g_mutex_unlock(&self->lock);
    return ret;
}
