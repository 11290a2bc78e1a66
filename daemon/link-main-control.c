/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-main-control.c - requests, answers and events on a main lane
 *
 * Shaped like QMP (docs/link-protocol.md section 6).  What goes out is queued
 * and bounded: a peer that asks without reading the answers loses its link.  It
 * stays queued until it is acknowledged, for a resume.
 */
#include "daemon/link-main-private.h"

#include "daemon/link-lane-json.h"
#include "daemon/log.h"
#include "qmp/error.h"
#include "qmp/message.h"
#include "wire/error.h"

enum { CONTROL_QUEUE_MAX = 64 };

/* ---- sending ------------------------------------------------------------------ */

/* With the lock held.  Consumes @text; false when there is no room. */
static bool queue_locked(LinkMain *self, GBytes *text)
{
    if (self->control.length >= CONTROL_QUEUE_MAX) {
        g_bytes_unref(text);
        return false;
    }
    g_queue_push_tail(&self->control, text);
    g_cond_broadcast(&self->changed);
    return true;
}

static GError *queue_error(void)
{
    return g_error_new(WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                       "got more than %d control messages that the peer does "
                       "not read", CONTROL_QUEUE_MAX);
}

static GBytes *encode(JsonObject *message, const char *what, GError **error)
{
    GBytes *text = qmp_message_encode(message);

    if (g_bytes_get_size(text) > LINK_CONTROL_MAX) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_TOO_LARGE,
                    "%s: got %zu bytes of control message, allowed %d", what,
                    g_bytes_get_size(text), LINK_CONTROL_MAX);
        g_clear_pointer(&text, g_bytes_unref);
    }
    return text;
}

static void send_text(LinkMain *self, GBytes *text)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = queue_locked(self, text);
    g_mutex_unlock(&self->lock);
    if (!ok) {
        link_main_fail(self, queue_error());
    }
}

static GBytes *encode_error_answer(gint64 id, const GError *error)
{
    g_autoptr(JsonObject) message = json_object_new();

    json_object_set_object_member(message, "error",
                                  link_lane_json_from_error(error));
    json_object_set_int_member(message, "id", id);
    return encode(message, "answer", NULL);
}

void link_main_answer(LinkMain *self, gint64 id, JsonObject *value,
                      const GError *error)
{
    g_autoptr(JsonObject) message = json_object_new();
    g_autoptr(GError) too_large = NULL;
    GBytes *text;

    if (error) {
        text = encode_error_answer(id, error);
    } else {
        json_object_set_object_member(message, "return", value);
        json_object_set_int_member(message, "id", id);
        text = encode(message, "answer", &too_large);
    }
    if (!text) {
        if (!too_large) {
            g_set_error(&too_large, QMP_ERROR, QMP_ERROR_TOO_LARGE,
                        "failed, with an error text above %d bytes",
                        LINK_CONTROL_MAX);
        }
        text = encode_error_answer(id, too_large);
    }
    send_text(self, text);
}

void link_main_send_event(LinkMain *self, const char *name, JsonObject *data)
{
    g_autoptr(JsonObject) message = json_object_new();
    g_autoptr(GError) error = NULL;
    GBytes *text;

    json_object_set_string_member(message, "event", name);
    json_object_set_object_member(message, "data",
                                  data ? data : json_object_new());
    text = encode(message, name, &error);
    if (!text) {
        log_error(NULL, "link to %s: event dropped: %s",
                  self->peer, error->message);
        return;
    }
    send_text(self, text);
}

static bool has_unwritten(const LinkMain *self)
{
    return self->writing_control ||
           self->control_next - self->control_acked < self->control.length;
}

void link_main_flush(LinkMain *self, unsigned timeout_ms)
{
    int64_t deadline_us = g_get_monotonic_time() + timeout_ms * 1000LL;

    g_mutex_lock(&self->lock);
    while (has_unwritten(self) && self->up && !self->finished &&
           g_cond_wait_until(&self->changed, &self->lock, deadline_us)) {
    }
    g_mutex_unlock(&self->lock);
}

bool link_main_ack_control(LinkMain *self, uint64_t number, GError **error)
{
    if (number < self->control_acked ||
        number > self->control_acked + self->control.length) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got ACK of CONTROL frames below %" G_GUINT64_FORMAT
                    ", allowed %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
                    number, self->control_acked,
                    self->control_acked + self->control.length);
        return false;
    }
    while (self->control_acked < number) {
        g_bytes_unref(g_queue_pop_head(&self->control));
        self->control_acked++;
    }
    self->control_next = MAX(self->control_next, number);
    return true;
}

/* With the lock held.  A peer that would wait for us must know that it need not. */
void link_main_say_end(LinkMain *self)
{
    static const char text[] = "{\"event\": \"end\"}";

    if (!self->exchange || self->budget_ms == 0) {
        return;
    }
    self->end_said = queue_locked(self, g_bytes_new_static(text, strlen(text)));
    if (!self->end_said) {
        log_debug(NULL, "link to %s: no room to say that it ends", self->peer);
    }
}

/* ---- a request of ours ---------------------------------------------------------- */

static void on_cancelled(GCancellable *cancellable G_GNUC_UNUSED, void *data)
{
    LinkMain *self = data;

    g_mutex_lock(&self->lock);
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
}

/* With the lock held. */
static bool start_request(LinkMain *self, const char *name,
                          JsonObject *arguments, GError **error)
{
    g_autoptr(JsonObject) message = json_object_new();
    GBytes *text;

    json_object_set_string_member(message, "execute", name);
    json_object_set_object_member(message, "arguments",
                                  arguments ? arguments : json_object_new());
    if (self->request_open) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    "another request is under way");
        return false;
    }
    json_object_set_int_member(message, "id", ++self->request_id);
    text = encode(message, name, error);
    if (!text) {
        return false;
    }
    if (!queue_locked(self, text)) {
        g_propagate_error(error, queue_error());
        return false;
    }
    self->request_open = true;
    return true;
}

/* With the lock held.  NULL: an error. */
static JsonObject *wait_answer(LinkMain *self, unsigned timeout_ms,
                               GCancellable *cancellable, GError **error)
{
    int64_t start_us = g_get_monotonic_time() - link_main_get_down_us(self);
    int64_t left_us = timeout_ms * 1000LL;

    while (left_us > 0 && !self->answer && !link_main_is_over(self) &&
           !g_cancellable_is_cancelled(cancellable)) {
        g_cond_wait_until(&self->changed, &self->lock,
                          g_get_monotonic_time() + left_us);
        left_us = start_us + timeout_ms * 1000LL + link_main_get_down_us(self) -
                  g_get_monotonic_time();
    }
    if (self->answer) {
        return g_steal_pointer(&self->answer);
    }
    if (self->error) {
        g_propagate_error(error, g_error_copy(self->error));
    } else if (g_cancellable_set_error_if_cancelled(cancellable, error)) {
        return NULL;
    } else if (self->closing || self->ended) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_SHUTDOWN,
                    "the link was shut");
    } else {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_TIMEOUT,
                    "got no answer in time");
    }
    return NULL;
}

static JsonObject *read_answer(JsonObject *answer, GError **error)
{
    JsonObject *failure = qmp_message_get_object(answer, "error");
    JsonObject *value = qmp_message_get_object(answer, "return");

    if (value) {
        return json_object_ref(value);
    }
    g_propagate_error(error, failure ? link_lane_json_to_error(failure)
                      : g_error_new(WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                                    "got an answer without 'return' or "
                                    "'error' object"));
    return NULL;
}

JsonObject *link_main_request(LinkMain *self, const char *name,
                              JsonObject *arguments, unsigned timeout_ms,
                              GCancellable *cancellable, GError **error)
{
    g_autoptr(JsonObject) answer = NULL;
    JsonObject *value = NULL;
    gulong id = cancellable ? g_cancellable_connect(
        cancellable, G_CALLBACK(on_cancelled), self, NULL) : 0;

    g_mutex_lock(&self->lock);
    if (start_request(self, name, arguments, error)) {
        answer = wait_answer(self, timeout_ms, cancellable, error);
        self->request_open = false;
    }
    g_mutex_unlock(&self->lock);
    g_cancellable_disconnect(cancellable, id);
    if (answer) {
        value = read_answer(answer, error);
    }
    if (!value) {
        g_prefix_error(error, "request '%s' to %s: ", name, self->peer);
    }
    return value;
}

/* ---- what the peer says ---------------------------------------------------------- */

/*
 * Late answers, and those nobody asked for, are nobody's.  Handed over and not
 * shared: json-glib's reference counts are not atomic.
 */
static void take_answer(LinkMain *self, JsonObject *taken)
{
    g_autoptr(JsonObject) message = taken;
    int64_t id;

    g_mutex_lock(&self->lock);
    if (self->request_open && !self->answer &&
        qmp_message_get_int(message, "id", &id) && id == self->request_id) {
        self->answer = g_steal_pointer(&message);
        g_cond_broadcast(&self->changed);
    }
    g_mutex_unlock(&self->lock);
}

bool link_main_handle_control(LinkMain *self, JsonObject *taken,
                              GError **error)
{
    g_autoptr(JsonObject) message = taken;
    bool closing, is_end;
    int64_t id;

    if (json_object_has_member(message, "return") ||
        json_object_has_member(message, "error")) {
        take_answer(self, g_steal_pointer(&message));
        return true;
    }
    if (!qmp_message_get_string(message, "event") &&
        !(qmp_message_get_string(message, "execute") &&
          qmp_message_get_int(message, "id", &id))) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link CONTROL frame: got neither a request with an id, an "
                    "answer nor an event");
        return false;
    }
    g_mutex_lock(&self->lock);
    is_end = g_strcmp0(qmp_message_get_string(message, "event"), "end") == 0;
    self->peer_ended |= is_end;
    closing = self->closing;
    g_mutex_unlock(&self->lock);
    if (!closing && !is_end) {
        self->handler(g_steal_pointer(&message), self->data);
    }
    return true;
}
