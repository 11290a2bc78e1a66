/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/migration-link.h"

#include "daemon/egress-link.h"
#include "daemon/last-words.h"
#include "daemon/link-lane.h"
#include "daemon/link-path.h"
#include "daemon/migration-contact.h"
#include "daemon/migration-lanes.h"
#include "daemon/migration-outage.h"
#include "qmp/message.h"
#include "wire/link-pack.h"

enum {
    CONTROL_WAITING_MAX = 64,
    /* An attempt to connect anew is short, so that the link's return is noticed; but
     * now and then longer, for a line with a long way. */
    RETRY_MS = 1000,
    RETRY_LONG_MS = 3000,
    RETRY_LONG_EVERY = 4,
};

/* See migration_queue_memory(). */
static const uint64_t QUANTA = 20;
static const uint64_t QUEUE_MIN = 2 * 1024 * 1024;
static const uint64_t QUEUE_MAX = 8 * 1024 * 1024;

/* ---- news of the main lane --------------------------------------------------------- */

/* At once, in the reader's thread: the end of the link follows, and would be
 * taken for the cause. */
static void note_abort(Migration *self, JsonObject *object)
{
    if (g_strcmp0(qmp_message_get_string(object, "event"), "abort") != 0) {
        return;
    }
    g_mutex_lock(&self->lock);
    if (self->exchange) {
        exchange_fail(self->exchange, migration_link_abort_error(self, object));
    }
    g_mutex_unlock(&self->lock);
}

/* Whoever sends more than our thread can take is told off, not stored. */
static bool is_flood(Migration *self)
{
    bool flood = g_atomic_int_add(&self->control_waiting, 1) >= CONTROL_WAITING_MAX;

    if (flood) {
        g_atomic_int_dec_and_test(&self->control_waiting);
        g_mutex_lock(&self->lock);
        if (self->exchange) {
            exchange_fail(self->exchange, g_error_new(
                MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                "peer %s: got more than %d control messages at once",
                self->peer->name, CONTROL_WAITING_MAX));
        }
        g_mutex_unlock(&self->lock);
    }
    return flood;
}

static void post_control(JsonObject *object, void *data)
{
    Message *message;

    if (object) {
        note_abort(data, object);
        if (is_flood(data)) {
            json_object_unref(object);
            return;
        }
    }
    message = g_new0(Message, 1);
    message->kind = object ? MESSAGE_CONTROL : MESSAGE_LINK_ENDED;
    message->object = object;
    migration_post(data, message);
}

/* ---- lanes ------------------------------------------------------------------------------ */

/* Of the attempts at one path every fourth; generations count from 1. */
static bool is_long(const Migration *self, unsigned generation)
{
    unsigned attempt = (generation - 1) / link_path_get_count(self->peer) + 1;

    return attempt % RETRY_LONG_EVERY == 0;
}

/* What an attempt to connect anew may take. */
static ConfigTimeouts get_retry_timeouts(const Migration *self,
                                         unsigned generation, unsigned limit_ms)
{
    ConfigTimeouts timeouts = self->config->timeouts;
    unsigned long_ms = MIN(limit_ms, RETRY_LONG_MS);

    timeouts.connect_ms = MIN(timeouts.connect_ms,
                              is_long(self, generation)
                              ? long_ms : MIN(limit_ms, RETRY_MS));
    timeouts.handshake_ms = MIN(timeouts.handshake_ms, long_ms);
    return timeouts;
}

static Stream *reconnect_main(unsigned generation, unsigned timeout_ms,
                              GCancellable *cancellable, void *data,
                              GError **error)
{
    Migration *self = data;
    ConfigTimeouts timeouts = get_retry_timeouts(self, generation, timeout_ms);
    LinkHello hello = { .role = LINK_ROLE_MAIN, .resume = true,
                        .generation = generation };

    return migration_lanes_connect(self, hello, &timeouts, cancellable, NULL,
                                   error);
}

/* A peer that does not know the migration any more says so to the main lane too, and
 * there it counts.  That may be gone already, when all is torn down. */
static Stream *reconnect_bulk(unsigned lane, unsigned generation,
                              GCancellable *cancellable, void *data,
                              GError **error)
{
    Migration *self = data;
    ConfigTimeouts timeouts = generation > 0
        ? get_retry_timeouts(self, generation, RETRY_LONG_MS)
        : self->config->timeouts;
    LinkHello hello = { .role = LINK_ROLE_BULK, .lane = lane,
                        .generation = generation };
    g_autoptr(GError) cause = NULL;
    Stream *stream = migration_lanes_connect(self, hello, &timeouts, cancellable,
                                             NULL, &cause);

    if (!stream && link_lane_is_unknown(cause)) {
        g_autofree char *reason = g_strdup_printf(
            "the peer says on another lane: %s", cause->message);

        migration_link_break(self, reason);
    }
    if (!stream) {
        g_propagate_error(error, g_steal_pointer(&cause));
    }
    return stream;
}

static void make_main(Migration *self, Stream *stream, bool source_side)
{
    LinkMainSetup setup = {
        .stream = stream,
        .source_side = source_side,
        .dead_ms = self->config->timeouts.link_dead_ms,
        .handler = post_control,
        .connect = source_side ? reconnect_main : NULL,
        .outage_handler = migration_outage_note,
        .data = self,
        .cpu = self->cpu,
    };

    migration_set_link(self, link_main_new(&setup));
}

void migration_link_take_main(Migration *self, Stream *stream)
{
    make_main(self, stream, false);
}

/* ---- source side ---------------------------------------------------------------------- */

/* A peer's number within what we can use. */
static bool get_number(JsonObject *object, const char *name, int64_t max,
                       int64_t *ret, GError **error)
{
    if (!qmp_message_get_uint(object, name, max, ret)) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                    "answer to prepare: '%s' is missing or above %"
                    G_GINT64_FORMAT, name, max);
        return false;
    }
    return true;
}

/* Of a managed migration: the destination QEMU. */
static bool read_info(JsonObject *answer, LinkGrant *ret, GError **error)
{
    JsonObject *object = qmp_message_get_object(answer, "info");
    g_autoptr(QemuInfo) info = NULL;

    if (!object) {
        return true;
    }
    info = qemu_info_from_json(object, error);
    if (!info) {
        g_prefix_error(error, "answer to prepare: ");
        return false;
    }
    ret->knows_zero_pages = qemu_info_is_version(info, 9, 0);
    return true;
}

/* ---- packing --------------------------------------------------------------------------- */

/* In proportion to the share of memory: many at once do not take more than one. */
static uint64_t get_history_share(const Migration *self)
{
    double part = (double)self->memory / (double)self->config->migration_memory;

    return (uint64_t)((double)self->config->page_history * MIN(part, 1.0));
}

static LinkPacking get_own_packing(const Migration *self)
{
    LinkPacking packing = { .packed = self->peer->compression != CONFIG_COMPRESSION_NONE };

    if (packing.packed) {
        packing.fixed = self->peer->compression != CONFIG_COMPRESSION_AUTO;
        packing.level = packing.fixed ? self->peer->compression
                                      : LINK_PACK_LEVEL_MAX;
        packing.history = get_history_share(self);
    }
    return packing;
}

void migration_link_tell_packing(const LinkPacking *packing, JsonObject *object)
{
    json_object_set_boolean_member(object, "packed", packing->packed);
    json_object_set_int_member(object, "page-history", packing->history);
}

/* What the other side says, and what is ours: the less of both. */
static LinkPacking read_packing(JsonObject *object, LinkPacking own)
{
    bool packed = false;
    int64_t history = 0;

    qmp_message_get_bool(object, "packed", &packed);
    qmp_message_get_uint(object, "page-history", G_MAXINT64, &history);
    if (!packed || !own.packed) {
        return (LinkPacking) { .packed = false };
    }
    own.history = MIN(own.history, (uint64_t)history);
    return own;
}

LinkPacking migration_link_agree_packing(const Migration *self,
                                         JsonObject *arguments)
{
    return read_packing(arguments, get_own_packing(self));
}

static bool read_grant(const Migration *self, JsonObject *answer, LinkGrant *ret,
                       GError **error)
{
    int64_t window, main_window, preempt_window, channels;

    if (!get_number(answer, "window", G_MAXINT64, &window, error) ||
        !get_number(answer, "main-window", G_MAXINT64, &main_window, error) ||
        !get_number(answer, "channels", MULTIFD_CHANNELS_MAX, &channels,
                    error)) {
        return false;
    }
    *ret = (LinkGrant) {
        .window = window,
        .main_window = main_window,
        .channels = channels,
        .knows_zero_pages = true,
    };
    if (qmp_message_get_uint(answer, "preempt-window", EXCHANGE_PREEMPT_RING,
                             &preempt_window)) {
        ret->preempt_window = preempt_window;
    }
    ret->packing = read_packing(answer, get_own_packing(self));
    qmp_message_get_bool(answer, "no-multifd", &ret->no_multifd);
    qmp_message_get_bool(answer, "postcopy", &ret->postcopy);
    qmp_message_get_bool(answer, "preempt", &ret->preempt);
    return read_info(answer, ret, error);
}

static JsonObject *request(Migration *self, const char *name,
                           JsonObject *arguments, GCancellable *cancellable,
                           GError **error)
{
    const ConfigTimeouts *timeouts = &self->config->timeouts;

    /* The peer may have to ask its QEMU several things for this. */
    return link_main_request(self->link, name, arguments,
                             timeouts->handshake_ms + 3 * timeouts->qmp_ms,
                             cancellable, error);
}

bool migration_link_prepare(Migration *self, unsigned lanes,
                            JsonObject *arguments, LinkGrant *ret,
                            GError **error)
{
    g_autoptr(JsonObject) answer = NULL;
    LinkHello hello = { .role = LINK_ROLE_MAIN };
    LinkPacking own;
    Stream *stream;

    json_object_set_int_member(arguments, "return-window",
                               MIGRATION_RETURN_WINDOW);
    json_object_set_int_member(arguments, "lanes",
                               migration_lanes_get_first(self, lanes));
    migration_outage_tell(self, arguments);
    own = get_own_packing(self);
    migration_link_tell_packing(&own, arguments);
    stream = migration_lanes_connect(self, hello, &self->config->timeouts,
                                     self->cancellable, &self->far, error);
    if (!stream) {
        json_object_unref(arguments);
        g_prefix_error(error, "peer %s: ", self->peer->name);
        peer_status_note_failed(self->daemon->peer_status, self->peer->name,
                                *error);
        return false;
    }
    peer_status_note_reached(self->daemon->peer_status, self->peer->name);
    migration_contact_note(self->daemon, self->peer, self->far.daemon,
                           self->far.instance);
    last_words_say_now(self->daemon->last_words, self->peer);
    make_main(self, stream, true);
    self->lanes = migration_lanes_begin(self, lanes);
    answer = request(self, "prepare", arguments, self->cancellable, error);
    if (!answer || !read_grant(self, answer, ret, error)) {
        g_prefix_error(error, "peer %s: ", self->peer->name);
        return false;
    }
    return true;
}

/* What of our share is for what the peer has not acknowledged yet; the rest is for
 * what waits to be sent, and for decoding what the source QEMU has packed. */
static uint64_t get_bulk_window(const Migration *self)
{
    return self->memory / 8 * 3;
}

static uint64_t get_main_window(const Migration *self)
{
    return MIN(self->memory / 16, (uint64_t)MIGRATION_MAIN_WINDOW);
}

bool migration_link_open(Migration *self, unsigned lanes,
                         const LinkGrant *grant, GError **error)
{
    EgressLinkSetup setup = {
        .exchange = self->exchange,
        .main = self->link,
        .window = MIN(grant->window, get_bulk_window(self)),
        .limiter = self->limiter,
        .connect = reconnect_bulk,
        .connect_data = self,
        .lanes_max = lanes == CONFIG_LANES_AUTO ? self->peer->lanes_max : 0,
        .packing = grant->packing,
        .peer = self->peer,
    };
    LinkMainFlow flow = {
        .exchange = self->exchange,
        .limiter = self->limiter,
        .send_window = MIN(grant->main_window, get_main_window(self)),
        .receive_window = MIGRATION_RETURN_WINDOW,
        .preempt_window = grant->preempt_window,
    };

    setup.lanes = migration_lanes_finish(self->lanes, &setup.generation, error);
    g_clear_pointer(&self->lanes, migration_lanes_free);
    if (!setup.lanes) {
        g_prefix_error(error, "peer %s: ", self->peer->name);
        return false;
    }
    /* If that fails, it is the exchange that does. */
    if (!exchange_charge(self->exchange, setup.window + flow.send_window,
                         "what the peer has not acknowledged")) {
        log_debug(NULL, "no room for the window");
    }
    link_main_attach(self->link, &flow);
    migration_set_egress(self, egress_link_new(&setup));
    migration_outage_check(self);
    return true;
}

bool migration_link_call(Migration *self, const char *name,
                         JsonObject *arguments, GCancellable *cancellable,
                         GError **error)
{
    g_autoptr(JsonObject) answer = request(self, name, arguments, cancellable,
                                           error);

    if (!answer) {
        g_prefix_error(error, "peer %s: %s: ", self->peer->name, name);
    }
    return answer != NULL;
}

JsonObject *migration_link_ask(Migration *self, const char *name,
                               JsonObject *arguments, GError **error)
{
    JsonObject *answer = request(self, name, arguments, NULL, error);

    if (!answer) {
        g_prefix_error(error, "peer %s: %s: ", self->peer->name, name);
    }
    return answer;
}

uint64_t migration_queue_memory(Migration *self)
{
    uint64_t quantum = limiter_get_quantum(self->limiter);  /* 2.5 ms */
    uint64_t queue = quantum > QUEUE_MAX / QUANTA ? QUEUE_MAX
                                                  : MAX(quantum * QUANTA, QUEUE_MIN);

    return MIN(queue, self->memory / 4);
}

/* ---- abort ---------------------------------------------------------------------------- */

static JsonObject *describe_abort(const char *reason, bool cancelled)
{
    JsonObject *data = json_object_new();

    json_object_set_string_member(data, "reason", reason);
    json_object_set_boolean_member(data, "cancelled", cancelled);
    return data;
}

static bool is_cancel(const GError *reason)
{
    return g_error_matches(reason, MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED);
}

void migration_link_abort(Migration *self, const GError *reason, bool in_halves)
{
    JsonObject *data;

    if (!self->link) {
        return;
    }
    g_clear_error(&self->said);
    self->said = g_error_copy(reason);
    data = describe_abort(reason->message, is_cancel(reason));
    json_object_set_boolean_member(data, "in-halves", in_halves);
    link_main_send_event(self->link, "abort", data);
}

/* As much of it as there is room for, in whole characters. */
static void copy_text(char *ret, size_t size, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    const char *end;

    g_strlcpy(ret, valid, size);
    g_utf8_validate(ret, -1, &end);
    ret[end - ret] = '\0';
}

void migration_link_leave_word(Migration *self)
{
    LastWord word = {
        .config = self->config,
        .peer = self->peer,
        .hello = { .role = LINK_ROLE_MAIN, .resume = true, .abort = true },
        .budget_ms = migration_outage_get_far_budget(self),
    };

    if (self->role != MIGRATION_SOURCE || !self->said ||
        link_main_is_heard(self->link)) {
        return;
    }
    migration_lanes_introduce(self, &word.hello);
    word.hello.generation = link_main_get_generation(self->link) + 1;
    word.hello.cancelled = is_cancel(self->said);
    copy_text(word.hello.reason, sizeof(word.hello.reason), self->said->message);
    last_words_add(self->daemon->last_words, &word);
}

void migration_link_end(Migration *self, const char *reason, bool cancelled)
{
    JsonObject *event = json_object_new();

    json_object_set_string_member(event, "event", "abort");
    json_object_set_object_member(event, "data",
                                  describe_abort(reason, cancelled));
    post_control(event, self);
    g_mutex_lock(&self->lock);
    if (self->link) {
        link_main_give_up(self->link, g_error_new(
            MIGRATION_ERROR, MIGRATION_ERROR_FAILED, "%s", reason));
    }
    g_mutex_unlock(&self->lock);
}

void migration_link_break(Migration *self, const char *reason)
{
    g_mutex_lock(&self->lock);
    if (self->link) {
        link_main_break(self->link, g_error_new_literal(
            STREAM_ERROR, STREAM_ERROR_IO, reason));
    }
    g_mutex_unlock(&self->lock);
}

GError *migration_link_abort_error(Migration *self, JsonObject *event)
{
    JsonObject *data = qmp_message_get_object(event, "data");
    const char *text = data ? qmp_message_get_string(data, "reason") : NULL;
    g_autofree char *reason = ramblock_name_escape(
        text ? text : "it gave no reason", text ? MIN(strlen(text), 1000) : 17);
    bool cancelled = false, in_halves = false;

    if (data) {
        qmp_message_get_bool(data, "cancelled", &cancelled);
        qmp_message_get_bool(data, "in-halves", &in_halves);
    }
    return g_error_new(MIGRATION_ERROR,
                       in_halves ? MIGRATION_ERROR_IN_HALVES
                       : cancelled ? MIGRATION_ERROR_CANCELLED
                                   : MIGRATION_ERROR_FAILED,
                       "peer %s: %s", self->peer->name, reason);
}
