/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/stream-socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "daemon/address.h"
#include "daemon/stream.h"

/* The kernel copies this table for each call; 256 pages of 4 KiB are enough
 * bytes for one call, and well below IOV_MAX. */
#define IOV_BATCH 256

void stream_socket_init(StreamSocket *self, int fd, const char *peer)
{
    *self = (StreamSocket) {
        .fd = fd,
        .peer = peer ? g_strdup(peer) : address_describe_peer(fd),
    };
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

void stream_socket_clear(StreamSocket *self)
{
    close(self->fd);
    g_free(self->peer);
}

static void set_timeout(int fd, int option, unsigned ms)
{
    struct timeval tv = {
        .tv_sec = ms / 1000,
        .tv_usec = (suseconds_t)(ms % 1000) * 1000,
    };

    setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv));
}

void stream_socket_set_timeouts(StreamSocket *self, unsigned read_ms,
                                unsigned write_ms)
{
    __atomic_store_n(&self->read_ms, read_ms, __ATOMIC_RELAXED);
    __atomic_store_n(&self->write_ms, write_ms, __ATOMIC_RELAXED);
    set_timeout(self->fd, SO_RCVTIMEO, read_ms);
    set_timeout(self->fd, SO_SNDTIMEO, write_ms);
}

bool stream_socket_is_shut(const StreamSocket *self)
{
    return __atomic_load_n(&self->is_shut, __ATOMIC_ACQUIRE);
}

bool stream_socket_check(const StreamSocket *self, GError **error)
{
    if (stream_socket_is_shut(self)) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_SHUTDOWN,
                    "%s: we shut the connection", self->peer);
        return false;
    }
    return true;
}

void stream_socket_shutdown(StreamSocket *self)
{
    __atomic_store_n(&self->is_shut, 1, __ATOMIC_RELEASE);
    shutdown(self->fd, SHUT_RDWR);
}

/* What @code means for @verb, unless our own shutdown is the cause. */
static void set_error(const StreamSocket *self, GError **error,
                      const char *verb, const unsigned *timeout_ms, int code)
{
    if (!stream_socket_check(self, error)) {
        return;
    }
    if (code == EAGAIN || code == EWOULDBLOCK) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_TIMEOUT,
                    "%s: %s made no progress for %u ms", self->peer, verb,
                    __atomic_load_n(timeout_ms, __ATOMIC_RELAXED));
        return;
    }
    g_set_error(error, STREAM_ERROR, STREAM_ERROR_IO, "%s: %s: %s",
                self->peer, verb, g_strerror(code));
}

gssize stream_socket_recv(StreamSocket *self, void *buf, size_t len,
                          GError **error)
{
    ssize_t n;

    if (!stream_socket_check(self, error)) {
        return -1;
    }
    do {
        n = recv(self->fd, buf, len, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        set_error(self, error, "read", &self->read_ms, errno);
        return -1;
    }
    if (n == 0 && !stream_socket_check(self, error)) {
        return -1;
    }
    __atomic_add_fetch(&self->bytes_in, (uint64_t)n, __ATOMIC_RELAXED);
    return n;
}

/* A window over an iovec table, so that the caller's stays as it is. */
typedef struct {
    const struct iovec *next;
    const struct iovec *end;
    size_t skip;                /* bytes of *next that are done */
} Cursor;

static unsigned cursor_fill(const Cursor *self, struct iovec *batch)
{
    const struct iovec *v;
    size_t skip = self->skip;
    unsigned n = 0;

    for (v = self->next; v < self->end && n < IOV_BATCH; v++) {
        if (v->iov_len > skip) {
            batch[n].iov_base = (char *)v->iov_base + skip;
            batch[n++].iov_len = v->iov_len - skip;
        }
        skip = 0;
    }
    return n;
}

static void cursor_advance(Cursor *self, size_t done)
{
    while (self->next < self->end) {
        size_t left = self->next->iov_len - self->skip;

        if (done < left) {
            self->skip += done;
            return;
        }
        done -= left;
        self->skip = 0;
        self->next++;
    }
}

bool stream_socket_sendv(StreamSocket *self, const struct iovec *iov,
                         unsigned n_iov, GError **error)
{
    struct iovec batch[IOV_BATCH];
    Cursor cursor = { .next = iov, .end = iov + n_iov };

    if (!stream_socket_check(self, error)) {
        return false;
    }
    for (;;) {
        struct msghdr msg = { .msg_iov = batch };
        ssize_t n;

        msg.msg_iovlen = cursor_fill(&cursor, batch);
        if (msg.msg_iovlen == 0) {
            return true;
        }
        n = sendmsg(self->fd, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            set_error(self, error, "write", &self->write_ms, errno);
            return false;
        }
        __atomic_add_fetch(&self->bytes_out, (uint64_t)n, __ATOMIC_RELAXED);
        cursor_advance(&cursor, (size_t)n);
    }
}

bool stream_socket_wait(StreamSocket *self, short events, gint64 deadline_us,
                        GError **error)
{
    struct pollfd ready = { .fd = self->fd, .events = events };

    for (;;) {
        gint64 left_us = deadline_us - g_get_monotonic_time();
        int left_ms = (int)CLAMP((left_us + 999) / 1000, 0, 60000);
        int n = poll(&ready, 1, left_ms);

        if (!stream_socket_check(self, error)) {
            return false;
        }
        if (n > 0) {
            return true;
        }
        if (n < 0 && errno != EINTR) {
            set_error(self, error, "poll", &self->read_ms, errno);
            return false;
        }
        if (n == 0 && left_ms == 0) {
            g_set_error(error, STREAM_ERROR, STREAM_ERROR_TIMEOUT,
                        "%s: the peer did not %s in time", self->peer,
                        events & POLLIN ? "answer" : "read");
            return false;
        }
    }
}

bool stream_socket_send_until(StreamSocket *self, const void *buf, size_t len,
                              gint64 deadline_us, GError **error)
{
    const char *from = buf;

    while (len > 0) {
        ssize_t n = send(self->fd, from, len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n >= 0) {
            __atomic_add_fetch(&self->bytes_out, (uint64_t)n,
                               __ATOMIC_RELAXED);
            from += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            if (!stream_socket_wait(self, POLLOUT, deadline_us, error)) {
                return false;
            }
        } else if (errno != EINTR) {
            set_error(self, error, "write", &self->write_ms, errno);
            return false;
        }
    }
    return true;
}
