/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Reading stops while more than a quarter of the output queue is in use, so a
 * client that sends commands without reading the answers is slowed by its own
 * socket.  Events come whether it reads or not: those that may be dropped
 * are, from half of the queue on; the others end the session when the queue
 * is full.  Memory for one session is thus bounded by the queue, one message
 * and one read.
 *
 * At the client's end of file what it asked for is still answered.
 *
 * close() may come from inside any callback; whoever runs callbacks holds a
 * reference, and looks at `closed` after each.
 */
#include "qmp/server-session.h"

#include "qmp/error.h"
#include "qmp/framer.h"

#define READ_BYTES 4096

typedef struct Output {
    GBytes *bytes;
    bool    droppable;
} Output;

struct QmpServerSession {
    gatomicrefcount    refs;
    GSocketConnection *connection;
    GSocket           *socket;          /* the connection's */
    QmpFramer         *framer;
    size_t             max_queue_bytes;
    const QmpServerSessionCallbacks *callbacks;
    gpointer           user_data;
    QmpPeer            peer;
    bool               has_peer;

    GSource           *in;              /* NULL while not reading */
    GSource           *out;             /* NULL while nothing waits */
    GQueue             queue;           /* of Output */
    size_t             queue_bytes;     /* including what is written of head */
    size_t             written;         /* of the head */
    bool               negotiated;
    bool               eof;
    bool               started;
    bool               closed;          /* sticky */
};

static void process(QmpServerSession *self);

static void output_free(Output *output)
{
    g_bytes_unref(output->bytes);
    g_free(output);
}

QmpServerSession *qmp_server_session_new(
    GSocketConnection *connection, size_t max_message_bytes,
    size_t max_queue_bytes, const QmpServerSessionCallbacks *callbacks,
    gpointer user_data)
{
    QmpServerSession *self = g_new0(QmpServerSession, 1);

    g_atomic_ref_count_init(&self->refs);
    self->connection = g_object_ref(connection);
    self->socket = g_socket_connection_get_socket(connection);
    g_socket_set_blocking(self->socket, FALSE);
    self->framer = qmp_framer_new(max_message_bytes);
    self->max_queue_bytes = max_queue_bytes;
    self->callbacks = callbacks;
    self->user_data = user_data;
    self->has_peer = qmp_peer_get_credentials(g_socket_get_fd(self->socket),
                                              &self->peer);
    g_queue_init(&self->queue);
    return self;
}

QmpServerSession *qmp_server_session_ref(QmpServerSession *self)
{
    g_atomic_ref_count_inc(&self->refs);
    return self;
}

void qmp_server_session_unref(QmpServerSession *self)
{
    if (!self || !g_atomic_ref_count_dec(&self->refs)) {
        return;
    }
    g_assert(!self->in && !self->out);
    g_queue_clear_full(&self->queue, (GDestroyNotify)output_free);
    qmp_framer_free(self->framer);
    g_object_unref(self->connection);
    g_free(self);
}

static void clear_source(GSource **source)
{
    if (*source) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

void qmp_server_session_close(QmpServerSession *self, const GError *why)
{
    if (self->closed) {
        return;
    }
    self->closed = true;
    clear_source(&self->in);
    clear_source(&self->out);
    g_socket_close(self->socket, NULL);
    self->callbacks->closed(self, why, self->user_data);
}

/* A client that leaves without reading everything has done nothing wrong. */
static void lose_connection(QmpServerSession *self, const GError *error)
{
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_CLOSED)) {
        g_debug("control session ended: %s", error->message);
        error = NULL;
    }
    qmp_server_session_close(self, error);
}

static GSource *attach(QmpServerSession *self, GIOCondition condition,
                       GSocketSourceFunc func)
{
    GSource *source = g_socket_create_source(self->socket, condition, NULL);

    /* destroyed by close() at the latest, so it needs no reference */
    g_source_set_callback(source, G_SOURCE_FUNC(func), self, NULL);
    g_source_attach(source, g_main_context_get_thread_default());
    return source;
}

/* --- output --- */

/* Take the head off the queue, or any other that is not half written. */
static void drop_link(QmpServerSession *self, GList *link)
{
    Output *output = link->data;

    self->queue_bytes -= g_bytes_get_size(output->bytes);
    output_free(output);
    g_queue_delete_link(&self->queue, link);
}

/* True when all is written or the socket is full; else the session is over. */
static bool write_queue(QmpServerSession *self)
{
    while (!self->closed && self->queue.head) {
        Output *head = self->queue.head->data;
        size_t size;
        const char *data = g_bytes_get_data(head->bytes, &size);
        g_autoptr(GError) error = NULL;
        gssize len = g_socket_send(self->socket, data + self->written,
                                   size - self->written, NULL, &error);

        if (len < 0) {
            if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
                return true;
            }
            lose_connection(self, error);
            return false;
        }
        self->written += (size_t)len;
        if (self->written == size) {
            self->written = 0;
            drop_link(self, self->queue.head);
        }
    }
    return !self->closed;
}

static gboolean on_writable(GSocket *socket, GIOCondition condition,
                            gpointer data)
{
    QmpServerSession *self = qmp_server_session_ref(data);

    (void)socket;
    (void)condition;
    if (write_queue(self)) {
        process(self);
    }
    qmp_server_session_unref(self);
    return G_SOURCE_CONTINUE;       /* process() removes it when idle */
}

static void drop_droppable(QmpServerSession *self, size_t wanted)
{
    GList *link = self->queue.head, *next;

    for (; link && self->queue_bytes + wanted > self->max_queue_bytes;
         link = next) {
        Output *output = link->data;
        bool half_written = link == self->queue.head && self->written > 0;

        next = link->next;
        if (output->droppable && !half_written) {
            drop_link(self, link);
        }
    }
}

/* Make room for @size bytes; false when the message is not to be queued. */
static bool make_room(QmpServerSession *self, size_t size, bool droppable)
{
    g_autoptr(GError) error = NULL;

    if (self->queue_bytes == 0) {
        return true;            /* one message of any size, or none could be */
    }
    if (droppable && self->queue_bytes + size > self->max_queue_bytes / 2) {
        return false;
    }
    drop_droppable(self, size);
    if (self->queue_bytes + size <= self->max_queue_bytes) {
        return true;
    }
    g_set_error(&error, QMP_ERROR, QMP_ERROR_TOO_LARGE,
                "got %zu bytes that the client has not read, allowed at most "
                "%zu", self->queue_bytes + size, self->max_queue_bytes);
    qmp_server_session_close(self, error);
    return false;
}

void qmp_server_session_send(QmpServerSession *self, GBytes *bytes,
                             bool droppable)
{
    Output *output;

    if (self->closed || !make_room(self, g_bytes_get_size(bytes), droppable)) {
        return;
    }
    output = g_new0(Output, 1);
    output->bytes = g_bytes_ref(bytes);
    output->droppable = droppable;
    g_queue_push_tail(&self->queue, output);
    self->queue_bytes += g_bytes_get_size(bytes);
    if (write_queue(self) && self->queue.head && !self->out) {
        self->out = attach(self, G_IO_OUT, on_writable);
    }
}

/* --- input --- */

static bool is_congested(const QmpServerSession *self)
{
    return self->queue_bytes > self->max_queue_bytes / 4;
}

/* Hand up one message.  False when the framer has no more. */
static bool process_one(QmpServerSession *self)
{
    g_autoptr(JsonObject) message = NULL;
    g_autoptr(GError) error = NULL;

    if (!qmp_framer_next(self->framer, &message, &error)) {
        self->callbacks->bad_input(self, error, self->user_data);
        if (g_error_matches(error, QMP_ERROR, QMP_ERROR_TOO_LARGE)) {
            qmp_server_session_close(self, error);
        }
        return true;
    }
    if (message) {
        self->callbacks->message(self, message, self->user_data);
    }
    return message != NULL;
}

static void read_input(QmpServerSession *self)
{
    char buf[READ_BYTES];
    g_autoptr(GError) error = NULL;
    gssize len = g_socket_receive(self->socket, buf, sizeof(buf), NULL,
                                  &error);

    if (len > 0) {
        qmp_framer_feed(self->framer, buf, (size_t)len);
    } else if (len == 0) {
        self->eof = true;
    } else if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
        lose_connection(self, error);
    }
}

static gboolean on_readable(GSocket *socket, GIOCondition condition,
                            gpointer data)
{
    QmpServerSession *self = qmp_server_session_ref(data);

    (void)socket;
    (void)condition;
    read_input(self);
    process(self);
    qmp_server_session_unref(self);
    return G_SOURCE_CONTINUE;       /* process() removes it when congested */
}

/* Do what can be done with what is here, then wait for the right things. */
static void process(QmpServerSession *self)
{
    bool more = true;

    while (more && !self->closed && !is_congested(self)) {
        more = process_one(self);
    }
    if (self->closed) {
        return;
    }
    if (self->eof && !more && !self->queue.head) {
        qmp_server_session_close(self, NULL);
        return;
    }
    if (self->eof || is_congested(self)) {
        clear_source(&self->in);
    } else if (!self->in) {
        self->in = attach(self, G_IO_IN, on_readable);
    }
    if (!self->queue.head) {
        clear_source(&self->out);
    }
}

void qmp_server_session_start(QmpServerSession *self)
{
    g_assert(!self->started);
    self->started = true;
    qmp_server_session_ref(self);
    process(self);
    qmp_server_session_unref(self);
}

/* --- getters --- */

bool qmp_server_session_get_peer(const QmpServerSession *self, QmpPeer *ret)
{
    if (self->has_peer) {
        *ret = self->peer;
    }
    return self->has_peer;
}

bool qmp_server_session_is_negotiated(const QmpServerSession *self)
{
    return self->negotiated;
}

void qmp_server_session_set_negotiated(QmpServerSession *self)
{
    self->negotiated = true;
}
