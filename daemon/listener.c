/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/listener.c - an accept thread, and an intake thread per connection
 *
 * An intake thread lives until its connection is classified and handed over, or
 * refused; `pending` holds its stream so that listener_free() can cut it off.
 */
#include "daemon/listener.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"
#include "wire/bytes.h"
#include "wire/error.h"

enum {
    MAIN_MAGIC = 0x5145564d,        /* "QEVM", QEMU migration/qemu-file-types.h */
    PENDING_MAX = MULTIFD_CHANNELS_MAX + 17,
    ACCEPT_PAUSE_MS = 100,          /* when descriptors have run out */
};

struct Listener {
    ListenerSetup setup;            /* constant */
    char *name;
    int fd;
    int wake_fd;                    /* eventfd: look at the flags below */
    GThread *thread;

    GMutex lock;                    /* guards all below; a leaf */
    GCond changed;
    bool stopping;
    unsigned settles_wanted;        /* counts listener_settle() calls */
    unsigned settles_done;          /* backlog was empty after that many */
    GPtrArray *pending;             /* streams being classified; not owned */
};

typedef struct {
    Listener *listener;
    Stream *stream;
} Intake;

/* ---- one connection --------------------------------------------------------- */

static bool start_tls(Listener *self, Stream *stream, GError **error)
{
    static const TlsPeerRules any_signed = { 0 };
    g_autoptr(TlsCredentials) credentials = NULL;

    if (!self->setup.get_credentials) {
        return true;
    }
    credentials = self->setup.get_credentials(self->setup.data);
    return stream_start_tls(stream, credentials, true, &any_signed,
                            self->setup.handshake_ms, error);
}

static bool classify(Stream *stream, Arrival *arrival, GError **error)
{
    uint8_t buf[MULTIFD_INIT_SIZE];
    uint32_t magic;

    if (!stream_read_full(stream, buf, 4, NULL, error)) {
        return false;
    }
    magic = bytes_get_be32(buf);
    arrival->is_main = magic == MAIN_MAGIC;
    if (arrival->is_main) {
        return true;
    }
    if (magic != MULTIFD_MAGIC) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got first bytes 0x%08x, expected 0x%08x (main channel) or "
                    "0x%08x (multifd channel)%s", magic, MAIN_MAGIC,
                    MULTIFD_MAGIC,
                    magic >> 16 == 0x1603 ? "; is the other end using TLS?" : "");
        return false;
    }
    return stream_read_full(stream, buf + 4, sizeof(buf) - 4, NULL, error) &&
           multifd_init_decode(buf, &arrival->init, error);
}

static bool take_in(Listener *self, Stream *stream, Arrival *arrival,
                    GError **error)
{
    stream_set_timeouts(stream, self->setup.first_bytes_ms,
                        self->setup.handshake_ms);
    if (!start_tls(self, stream, error) || !classify(stream, arrival, error)) {
        return false;
    }
    stream_set_timeouts(stream, 0, 0);
    return true;
}

/* From now on listener_free() does not touch the stream any more. */
static bool end_pending(Listener *self, Stream *stream)
{
    bool stopping;

    g_mutex_lock(&self->lock);
    g_ptr_array_remove_fast(self->pending, stream);
    stopping = self->stopping;
    g_mutex_unlock(&self->lock);
    return !stopping;
}

static void *intake_thread(void *data)
{
    g_autofree Intake *intake = data;
    Listener *self = intake->listener;
    Arrival arrival = { 0 };
    g_autoptr(GError) error = NULL;
    bool ok;

    ok = take_in(self, intake->stream, &arrival, &error);
    arrival.stream = intake->stream;
    ok = ok && self->setup.handler(&arrival, self->setup.data, &error);
    if (!ok && error) {
        log_warning(NULL, "%s: connection from %s: %s; closed it", self->name,
                    stream_get_peer(intake->stream), error->message);
    }
    /* The stream is freed only once it is out of the list. */
    end_pending(self, intake->stream);
    stream_free(arrival.stream);

    g_mutex_lock(&self->lock);
    self->settles_done += 0;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    return NULL;
}

/* ---- accepting ------------------------------------------------------------- */

static bool begin_intake(Listener *self, Stream *stream)
{
    bool room;

    g_mutex_lock(&self->lock);
    room = !self->stopping && self->pending->len < PENDING_MAX;
    if (room) {
        g_ptr_array_add(self->pending, stream);
    }
    g_mutex_unlock(&self->lock);
    return room;
}

static void accept_one(Listener *self, int fd)
{
    Stream *stream = stream_new(fd, NULL);
    Intake *intake;
    GThread *thread;
    g_autoptr(GError) error = NULL;

    if (!begin_intake(self, stream)) {
        log_warning(NULL, "%s: connection from %s: %u are waiting already; "
                    "closed it", self->name, stream_get_peer(stream),
                    PENDING_MAX);
        stream_free(stream);
        return;
    }
    intake = g_new(Intake, 1);
    *intake = (Intake) { self, stream };
    thread = g_thread_try_new("intake", intake_thread, intake, &error);
    if (!thread) {
        log_error(NULL, "%s: %s", self->name, error->message);
        end_pending(self, stream);
        stream_free(stream);
        g_free(intake);
        return;
    }
    g_thread_unref(thread);
}

/* Until nobody waits in the backlog.  False: no descriptor was to be had. */
static bool accept_all(Listener *self)
{
    for (;;) {
        int fd = accept4(self->fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0) {
            accept_one(self, fd);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return true;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                   errno == ENOMEM) {
            log_error(NULL, "%s: accept: %s", self->name, g_strerror(errno));
            return false;
        }
    }
}

static void *accept_thread(void *data)
{
    Listener *self = data;
    bool stopping = false, pause = false;

    while (!stopping) {
        struct pollfd fds[2] = {
            { .fd = self->wake_fd, .events = POLLIN },
            { .fd = pause ? -1 : self->fd, .events = POLLIN },
        };
        unsigned wanted;
        uint64_t count;

        poll(fds, G_N_ELEMENTS(fds), pause ? ACCEPT_PAUSE_MS : -1);
        if (fds[0].revents && read(self->wake_fd, &count, sizeof(count)) < 0) {
            g_assert(errno == EAGAIN || errno == EINTR);
        }
        g_mutex_lock(&self->lock);
        stopping = self->stopping;
        wanted = self->settles_wanted;
        g_mutex_unlock(&self->lock);

        pause = !stopping && !accept_all(self);

        g_mutex_lock(&self->lock);
        self->settles_done = wanted;
        g_cond_broadcast(&self->changed);
        g_mutex_unlock(&self->lock);
    }
    return NULL;
}

static void wake(Listener *self)
{
    uint64_t one = 1;
    ssize_t n = write(self->wake_fd, &one, sizeof(one));

    g_assert(n == sizeof(one));
}

void listener_settle(Listener *self, unsigned timeout_ms)
{
    int64_t deadline_us = g_get_monotonic_time() + timeout_ms * 1000LL;
    unsigned mine;

    g_mutex_lock(&self->lock);
    mine = ++self->settles_wanted;
    wake(self);
    while (!self->stopping &&
           ((int)(self->settles_done - mine) < 0 || self->pending->len > 0)) {
        if (!g_cond_wait_until(&self->changed, &self->lock, deadline_us)) {
            break;
        }
    }
    g_mutex_unlock(&self->lock);
}

/* ---- life ------------------------------------------------------------------- */

Listener *listener_new(int fd, const ListenerSetup *setup)
{
    Listener *self = g_new0(Listener, 1);

    self->setup = *setup;
    self->name = g_strdup(setup->name);
    self->fd = fd;
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert(self->wake_fd >= 0);
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    self->pending = g_ptr_array_new();
    self->thread = g_thread_new("accept", accept_thread, self);
    return self;
}

void listener_free(Listener *self)
{
    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    self->stopping = true;
    g_mutex_unlock(&self->lock);
    wake(self);
    g_thread_join(self->thread);

    g_mutex_lock(&self->lock);
    for (unsigned i = 0; i < self->pending->len; i++) {
        stream_shutdown(g_ptr_array_index(self->pending, i));
    }
    while (self->pending->len > 0) {
        g_cond_wait(&self->changed, &self->lock);
    }
    g_mutex_unlock(&self->lock);

    g_ptr_array_unref(self->pending);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
    close(self->wake_fd);
    close(self->fd);
    g_free(self->name);
    g_free(self);
}
