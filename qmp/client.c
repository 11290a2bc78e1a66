/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * execute() puts an encoded command in `out` and its place for the answer in
 * `pending`, wakes the I/O thread and waits on `changed`.  The I/O thread
 * alone touches the socket, so a caller that gives up never leaves half a
 * command behind: it takes its place out of `pending`, and an answer whose id
 * is no longer there is dropped.
 *
 * Events go to qmp/client-events.c, from where the I/O thread delivers them.
 * It outlives the connection, to deliver the disconnect to a handler that is
 * set late; only free() ends it.
 *
 * Locks: no other is taken under `lock`, and what is done under it does not
 * block.  A cancellable's callback takes it, so (dis)connecting one happens
 * outside.
 */
#include "qmp/client.h"

#include "qmp/client-events.h"
#include "qmp/connect.h"
#include "qmp/error.h"
#include "qmp/framer.h"
#include "qmp/message.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES (64 * 1024)

/* What a peer that does not read may make us hold. */
#define OUT_MAX_BYTES (4u * 1024 * 1024)

typedef struct Pending {
    int64_t   id;
    JsonNode *result;
    GError   *error;
    bool      done;
} Pending;

struct QmpClient {
    /* Set while connecting, before anybody else has the client; constant. */
    char        *address;
    GSocket     *socket;
    int          wake_fd;
    GThread     *thread;
    unsigned     version[3];
    bool         oob;
    QmpClientEvents *events;    /* has a lock of its own */

    /* The I/O thread's own. */
    QmpFramer   *framer;

    GMutex       lock;          /* guards all below */
    GCond        changed;       /* a reply, the greeting or the end came */
    GHashTable  *pending;       /* int64 id -> Pending on a waiter's stack */
    int64_t      next_id;
    GByteArray  *out;
    JsonObject  *greeting;      /* constant once greeted */
    bool         greeted;
    GError      *gone;          /* sticky */
    bool         closing;
};

/* --- the I/O thread: what came in --- */

static int64_t event_timestamp(JsonObject *message)
{
    JsonObject *stamp = qmp_message_get_object(message, "timestamp");
    int64_t seconds, us;

    if (!stamp ||
        !qmp_message_get_uint(stamp, "seconds",
                              G_MAXINT64 / G_USEC_PER_SEC - 1, &seconds) ||
        !qmp_message_get_uint(stamp, "microseconds", G_USEC_PER_SEC - 1,
                              &us)) {
        return 0;
    }
    return seconds * G_USEC_PER_SEC + us;
}

static bool take_event(QmpClient *self, JsonObject *message, GError **error)
{
    const char *name = qmp_message_get_string(message, "event");

    if (!name) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                    "got an event whose name is not a string");
        return false;
    }
    qmp_client_events_push(self->events, name,
                           qmp_message_get_object(message, "data"),
                           event_timestamp(message),
                           qmp_framer_get_last_bytes(self->framer));
    qmp_client_events_deliver(self->events);
    return true;
}

/*
 * Whose reply @message is.  An error without an id answers what QEMU could
 * not even parse: that can only be the oldest command.  Locked.
 */
static Pending *find_pending(QmpClient *self, JsonObject *message)
{
    JsonNode *id = json_object_get_member(message, "id");
    Pending *oldest = NULL, *pending;
    GHashTableIter iter;

    if (id) {
        int64_t value;

        if (json_node_get_value_type(id) != G_TYPE_INT64) {
            return NULL;
        }
        value = json_node_get_int(id);
        return g_hash_table_lookup(self->pending, &value);
    }
    g_hash_table_iter_init(&iter, self->pending);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&pending)) {
        if (!pending->done && (!oldest || pending->id < oldest->id)) {
            oldest = pending;
        }
    }
    return oldest;
}

static GError *reply_error(JsonObject *message)
{
    JsonObject *error = qmp_message_get_object(message, "error");
    const char *klass = error ? qmp_message_get_string(error, "class") : NULL;
    const char *desc = error ? qmp_message_get_string(error, "desc") : NULL;

    return qmp_error_new_command(klass ? klass : "GenericError",
                                 desc ? desc : "(no description)");
}

static void take_reply(QmpClient *self, JsonObject *message)
{
    Pending *pending;

    g_mutex_lock(&self->lock);
    pending = find_pending(self, message);
    if (pending && !pending->done) {
        JsonNode *result = json_object_get_member(message, "return");

        if (result) {
            pending->result = json_node_copy(result);
        } else {
            pending->error = reply_error(message);
        }
        pending->done = true;
        g_cond_broadcast(&self->changed);
    }
    g_mutex_unlock(&self->lock);
}

/* The first message, and only it, must be the greeting. */
static bool take_greeting(QmpClient *self, JsonObject *message, GError **error)
{
    JsonObject *greeting = qmp_message_get_object(message, "QMP");
    JsonObject *refusal = qmp_message_get_object(message, "error");
    const char *desc = refusal ? qmp_message_get_string(refusal, "desc") : NULL;

    if (!greeting && desc) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                    "got a refusal instead of a greeting: %s", desc);
        return false;
    }
    if (!greeting) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                    "got a first message without 'QMP', expected a QMP "
                    "greeting");
        return false;
    }
    g_mutex_lock(&self->lock);
    self->greeting = json_object_ref(greeting);
    self->greeted = true;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    return true;
}

static bool take_message(QmpClient *self, JsonObject *message, GError **error)
{
    bool greeted;

    g_mutex_lock(&self->lock);
    greeted = self->greeted;
    g_mutex_unlock(&self->lock);

    if (!greeted) {
        return take_greeting(self, message, error);
    }
    if (json_object_has_member(message, "event")) {
        return take_event(self, message, error);
    }
    if (json_object_has_member(message, "return") ||
        json_object_has_member(message, "error")) {
        take_reply(self, message);
        return true;
    }
    g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                "got a message that is neither reply nor event");
    return false;
}

static void set_disconnected(GError **error, const char *why)
{
    g_set_error(error, QMP_ERROR, QMP_ERROR_DISCONNECTED, "%s", why);
}

static bool read_input(QmpClient *self, GError **error)
{
    g_autofree char *buf = g_malloc(READ_BYTES);
    ssize_t len = recv(g_socket_get_fd(self->socket), buf, READ_BYTES, 0);

    if (len < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return true;
        }
        set_disconnected(error, g_strerror(errno));
        return false;
    }
    if (len == 0) {
        set_disconnected(error, qmp_framer_is_inside_message(self->framer)
                                ? "the peer closed the connection in the "
                                  "middle of a message"
                                : "the peer closed the connection");
        return false;
    }
    qmp_framer_feed(self->framer, buf, (size_t)len);
    for (;;) {
        g_autoptr(JsonObject) message = NULL;

        if (!qmp_framer_next(self->framer, &message, error)) {
            return false;
        }
        if (!message) {
            return true;
        }
        if (!take_message(self, message, error)) {
            return false;
        }
    }
}

static bool write_output(QmpClient *self, GError **error)
{
    bool ok = true;

    g_mutex_lock(&self->lock);
    while (self->out->len > 0) {
        ssize_t len = send(g_socket_get_fd(self->socket), self->out->data,
                           self->out->len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (len < 0 && errno == EINTR) {
            continue;
        }
        if (len < 0) {
            ok = errno == EAGAIN;
            if (!ok) {
                set_disconnected(error, g_strerror(errno));
            }
            break;
        }
        g_byte_array_remove_range(self->out, 0, (guint)len);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

/* --- the I/O thread: its loop --- */

/* The connection is over: fail all waits, now and later. */
static void set_gone(QmpClient *self, GError *error)
{
    g_mutex_lock(&self->lock);
    g_prefix_error(&error, "qmp '%s': ", self->address);
    self->gone = error;
    g_byte_array_set_size(self->out, 0);
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    qmp_client_events_push(self->events, NULL, NULL, 0, 0);
    /* Nothing is read from here on; let the peer see that at once. */
    shutdown(g_socket_get_fd(self->socket), SHUT_RDWR);
}

static void wake(QmpClient *self)
{
    uint64_t one = 1;

    /* EAGAIN means that wake-ups are already pending by the billion. */
    if (write(self->wake_fd, &one, sizeof(one)) < 0) {
        g_assert(errno == EAGAIN || errno == EINTR);
    }
}

/* Wait for work.  Returns the socket's revents, 0 when only woken. */
static short wait_for_work(QmpClient *self, bool connected, bool has_output)
{
    struct pollfd fds[] = {
        { .fd = self->wake_fd, .events = POLLIN },
        { .fd = connected ? g_socket_get_fd(self->socket) : -1,
          .events = (short)(POLLIN | (has_output ? POLLOUT : 0)) },
    };
    uint64_t count;

    if (poll(fds, G_N_ELEMENTS(fds), -1) <= 0) {
        return 0;
    }
    if (fds[0].revents && read(self->wake_fd, &count, sizeof(count)) < 0) {
        g_assert(errno == EAGAIN || errno == EINTR);
    }
    return fds[1].revents;
}

static gpointer io_thread(gpointer data)
{
    QmpClient *self = data;

    for (;;) {
        bool connected, closing, has_output;
        GError *error = NULL;
        short ready;

        g_mutex_lock(&self->lock);
        closing = self->closing;
        connected = !self->gone;
        has_output = self->out->len > 0;
        g_mutex_unlock(&self->lock);
        if (closing) {
            return NULL;
        }
        ready = wait_for_work(self, connected, has_output);
        if (connected &&
            (!write_output(self, &error) ||
             ((ready & ~POLLOUT) && !read_input(self, &error)))) {
            set_gone(self, error);
        }
        qmp_client_events_deliver(self->events);
    }
}

/* --- waiting --- */

static void on_cancelled(GCancellable *cancellable, gpointer data)
{
    QmpClient *self = data;

    (void)cancellable;
    g_mutex_lock(&self->lock);
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
}

static int64_t deadline_from_now(unsigned timeout_ms)
{
    return timeout_ms ? g_get_monotonic_time() + (int64_t)timeout_ms * 1000
                      : G_MAXINT64;
}

/*
 * Wait until *@done, with the lock held.  A wait that fails says why, but
 * not for what: the caller prefixes that.
 */
static bool wait_until(QmpClient *self, const bool *done, int64_t deadline_us,
                       GCancellable *cancellable, GError **error)
{
    while (!*done) {
        if (self->gone) {
            /* whatever ended it, for this caller the connection is gone */
            g_set_error_literal(error, QMP_ERROR, QMP_ERROR_DISCONNECTED,
                                self->gone->message);
            return false;
        }
        if (g_cancellable_set_error_if_cancelled(cancellable, error)) {
            return false;
        }
        if (deadline_us == G_MAXINT64) {
            g_cond_wait(&self->changed, &self->lock);
        } else if (!g_cond_wait_until(&self->changed, &self->lock,
                                      deadline_us) && !*done) {
            g_set_error(error, QMP_ERROR, QMP_ERROR_TIMEOUT,
                        "qmp '%s': no answer in time", self->address);
            return false;
        }
    }
    return true;
}

static bool wait_greeting(QmpClient *self, int64_t deadline_us,
                          GCancellable *cancellable, GError **error)
{
    g_autoptr(GError) local = NULL;
    GError *gone = NULL;
    gulong handler_id = 0;
    bool ok;

    if (cancellable) {
        handler_id = g_cancellable_connect(cancellable,
                                           G_CALLBACK(on_cancelled), self,
                                           NULL);
    }
    g_mutex_lock(&self->lock);
    ok = wait_until(self, &self->greeted, deadline_us, cancellable, &local);
    if (!ok && self->gone) {
        gone = g_error_copy(self->gone);        /* with its own code */
    }
    g_mutex_unlock(&self->lock);
    g_cancellable_disconnect(cancellable, handler_id);

    if (gone) {
        g_propagate_error(error, gone);
    } else if (!ok) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                   "greeting: ");
    }
    return ok;
}

/* --- executing --- */

static GBytes *encode_command(const char *key, const char *command,
                              JsonObject *arguments, int64_t id)
{
    g_autoptr(JsonObject) message = json_object_new();

    json_object_set_string_member(message, key, command);
    if (arguments) {
        json_object_set_object_member(message, "arguments", arguments);
    }
    json_object_set_int_member(message, "id", id);
    return qmp_message_encode(message);
}

/* Put the command in the queue and @pending in its place.  Locked. */
static bool send_command(QmpClient *self, const char *key, const char *command,
                         JsonObject *arguments, Pending *pending,
                         GError **error)
{
    g_autoptr(GBytes) bytes = NULL;

    pending->id = self->next_id++;
    bytes = encode_command(key, command, arguments, pending->id);
    if (g_bytes_get_size(bytes) > OUT_MAX_BYTES - self->out->len) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_TOO_LARGE,
                    "qmp '%s': got %zu bytes to send with %u waiting, allowed "
                    "at most %u", self->address, g_bytes_get_size(bytes),
                    self->out->len, OUT_MAX_BYTES);
        return false;
    }
    g_byte_array_append(self->out, g_bytes_get_data(bytes, NULL),
                        (guint)g_bytes_get_size(bytes));
    g_hash_table_insert(self->pending, &pending->id, pending);
    return true;
}

static JsonNode *execute_until(QmpClient *self, const char *key,
                               const char *command, JsonObject *arguments,
                               int64_t deadline_us, GCancellable *cancellable,
                               GError **error)
{
    Pending pending = { .id = 0 };
    gulong handler_id = 0;
    GError *local = NULL;

    g_assert(g_thread_self() != self->thread);
    if (cancellable) {
        handler_id = g_cancellable_connect(cancellable,
                                           G_CALLBACK(on_cancelled), self,
                                           NULL);
    }
    g_mutex_lock(&self->lock);
    if (self->gone) {
        /* wait_until() says it */
        g_clear_pointer(&arguments, json_object_unref);
        wait_until(self, &pending.done, deadline_us, NULL, &local);
    } else if (send_command(self, key, command, arguments, &pending, &local)) {
        wake(self);
        wait_until(self, &pending.done, deadline_us, cancellable, &local);
        g_hash_table_remove(self->pending, &pending.id);
    }
    g_mutex_unlock(&self->lock);
    g_cancellable_disconnect(cancellable, handler_id);

    if (local || pending.error) {
        g_propagate_prefixed_error(error, local ? local : pending.error,
                                   "%s: ", command);
        g_assert(!pending.result);
        return NULL;
    }
    return pending.result;
}

JsonNode *qmp_client_execute(QmpClient *self, const char *command,
                             JsonObject *arguments, unsigned timeout_ms,
                             GCancellable *cancellable, GError **error)
{
    return execute_until(self, "execute", command, arguments,
                         deadline_from_now(timeout_ms), cancellable, error);
}

JsonNode *qmp_client_execute_oob(QmpClient *self, const char *command,
                                 JsonObject *arguments, unsigned timeout_ms,
                                 GCancellable *cancellable, GError **error)
{
    return execute_until(self, "exec-oob", command, arguments,
                         deadline_from_now(timeout_ms), cancellable, error);
}

/* --- connecting --- */

static bool offers_oob(JsonObject *greeting)
{
    JsonArray *offered = qmp_message_get_array(greeting, "capabilities");

    for (guint i = 0; offered && i < json_array_get_length(offered); i++) {
        JsonNode *item = json_array_get_element(offered, i);

        if (json_node_get_value_type(item) == G_TYPE_STRING &&
            g_str_equal(json_node_get_string(item), "oob")) {
            return true;
        }
    }
    return false;
}

static bool parse_greeting(QmpClient *self, GError **error)
{
    static const char *const parts[] = { "major", "minor", "micro" };
    JsonObject *version = qmp_message_get_object(self->greeting, "version");
    JsonObject *qemu = version ? qmp_message_get_object(version, "qemu")
                               : NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        int64_t value;

        if (!qemu ||
            !qmp_message_get_uint(qemu, parts[i], G_MAXINT, &value)) {
            g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                        "qmp '%s': got a greeting without version.qemu.%s",
                        self->address, parts[i]);
            return false;
        }
        self->version[i] = (unsigned)value;
    }
    self->oob = offers_oob(self->greeting);
    return true;
}

static bool negotiate(QmpClient *self, int64_t deadline_us,
                      GCancellable *cancellable, GError **error)
{
    g_autoptr(JsonNode) result = NULL;
    JsonObject *arguments = NULL;

    if (!wait_greeting(self, deadline_us, cancellable, error) ||
        !parse_greeting(self, error)) {
        return false;
    }
    if (self->oob) {
        JsonArray *enable = json_array_new();

        json_array_add_string_element(enable, "oob");
        arguments = json_object_new();
        json_object_set_array_member(arguments, "enable", enable);
    }
    result = execute_until(self, "execute", "qmp_capabilities", arguments,
                           deadline_us, cancellable, error);
    return result != NULL;
}

QmpClient *qmp_client_connect(const char *address, unsigned timeout_ms,
                              GCancellable *cancellable, GError **error)
{
    int64_t deadline_us = deadline_from_now(timeout_ms);
    g_autoptr(GSocket) socket = qmp_connect(address, deadline_us, cancellable,
                                            error);
    g_autoptr(QmpClient) self = NULL;

    if (!socket) {
        return NULL;
    }
    self = g_new0(QmpClient, 1);
    self->address = g_strdup(address);
    self->socket = g_steal_pointer(&socket);
    self->framer = qmp_framer_new(QMP_FRAMER_CLIENT_MAX_BYTES);
    self->pending = g_hash_table_new(g_int64_hash, g_int64_equal);
    self->out = g_byte_array_new();
    self->events = qmp_client_events_new();
    self->next_id = 1;
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);

    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->wake_fd < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    "qmp '%s': eventfd: %s", address, g_strerror(errno));
        return NULL;
    }
    self->thread = g_thread_try_new("qmp-client", io_thread, self, error);
    if (!self->thread || !negotiate(self, deadline_us, cancellable, error)) {
        return NULL;
    }
    return g_steal_pointer(&self);
}

static void stop_thread(QmpClient *self)
{
    if (!self->thread) {
        return;
    }
    g_assert(g_thread_self() != self->thread);
    qmp_client_events_close(self->events);
    g_mutex_lock(&self->lock);
    self->closing = true;
    g_mutex_unlock(&self->lock);
    wake(self);
    g_thread_join(self->thread);
}

void qmp_client_free(QmpClient *self)
{
    if (!self) {
        return;
    }
    stop_thread(self);
    g_assert(g_hash_table_size(self->pending) == 0);
    qmp_client_events_free(self->events);
    g_hash_table_unref(self->pending);
    g_byte_array_unref(self->out);
    g_clear_pointer(&self->greeting, json_object_unref);
    g_clear_error(&self->gone);
    qmp_framer_free(self->framer);
    if (self->wake_fd >= 0) {
        close(self->wake_fd);
    }
    g_object_unref(self->socket);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
    g_free(self->address);
    g_free(self);
}

/* --- the rest --- */

void qmp_client_set_event_handler(QmpClient *self,
                                  QmpClientEventHandler handler,
                                  gpointer user_data, GDestroyNotify destroy)
{
    qmp_client_events_set_handler(self->events, handler, user_data, destroy);
    wake(self);
}

void qmp_client_get_version(const QmpClient *self, unsigned *ret_major,
                            unsigned *ret_minor, unsigned *ret_micro)
{
    *ret_major = self->version[0];
    *ret_minor = self->version[1];
    *ret_micro = self->version[2];
}

bool qmp_client_has_oob(const QmpClient *self)
{
    return self->oob;
}

bool qmp_client_get_peer_credentials(const QmpClient *self, QmpPeer *ret)
{
    return qmp_peer_get_credentials(g_socket_get_fd(self->socket), ret);
}

GError *qmp_client_get_error(QmpClient *self)
{
    GError *error;

    g_mutex_lock(&self->lock);
    error = self->gone ? g_error_copy(self->gone) : NULL;
    g_mutex_unlock(&self->lock);
    return error;
}
