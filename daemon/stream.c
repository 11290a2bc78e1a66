/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A Stream is a socket and, once stream_start_tls() has succeeded, a TLS
 * session over it.  This file has what is the same for both.
 */
#include "daemon/stream.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "daemon/stream-socket.h"
#include "daemon/stream-tls.h"

#define FINISH_US G_USEC_PER_SEC

struct Stream {
    StreamSocket socket;
    StreamTls *tls;         /* set once, before the threads start */
    int got_end;            /* atomic; the reader saw the end of the stream */
    unsigned path;          /* set before there are threads */
    StreamEndHandler end_handler;   /* NULL: none, or it was called */
    void *end_data;
};

G_DEFINE_QUARK(stream-error-quark, stream_error)

Stream *stream_new(int fd, const char *peer)
{
    Stream *self = g_new0(Stream, 1);

    stream_socket_init(&self->socket, fd, peer);
    return self;
}

void stream_free(Stream *self)
{
    if (self) {
        stream_tls_free(self->tls);
        stream_socket_clear(&self->socket);
        stream_note_broken(self, NULL);
        g_free(self);
    }
}

void stream_note_broken(Stream *self, const GError *error)
{
    StreamEndHandler handler = self->end_handler;

    self->end_handler = NULL;
    if (handler) {
        handler(error, self->end_data);
    }
}

void stream_set_end_handler(Stream *self, StreamEndHandler handler, void *data)
{
    g_assert(!self->end_handler);
    self->end_handler = handler;
    self->end_data = data;
}

bool stream_start_tls(Stream *self, TlsCredentials *credentials, bool server,
                      const TlsPeerRules *rules, unsigned timeout_ms,
                      GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;

    g_assert(!self->tls);
    self->tls = stream_tls_new(&self->socket, credentials, server, rules,
                               deadline_us, error);
    return self->tls != NULL;
}

void stream_set_timeouts(Stream *self, unsigned read_ms, unsigned write_ms)
{
    stream_socket_set_timeouts(&self->socket, read_ms, write_ms);
}

gssize stream_read(Stream *self, void *buf, size_t len, GError **error)
{
    gssize n;

    g_assert(len > 0);
    n = self->tls ? stream_tls_read(self->tls, buf, len, error)
                  : stream_socket_recv(&self->socket, buf, len, error);
    if (n == 0) {
        __atomic_store_n(&self->got_end, 1, __ATOMIC_RELEASE);
    }
    return n;
}

bool stream_ended_cleanly(const Stream *self)
{
    return __atomic_load_n(&self->got_end, __ATOMIC_ACQUIRE) &&
           (!self->tls || stream_tls_got_close_notify(self->tls));
}

bool stream_read_full(Stream *self, void *buf, size_t len, bool *ret_eof,
                      GError **error)
{
    char *to = buf;
    size_t done = 0;

    if (ret_eof) {
        *ret_eof = false;
    }
    while (done < len) {
        gssize n = stream_read(self, to + done, len - done, error);

        if (n < 0) {
            return false;
        }
        if (n == 0 && done == 0 && ret_eof) {
            *ret_eof = true;
            return true;
        }
        if (n == 0) {
            g_set_error(error, STREAM_ERROR, STREAM_ERROR_EOF,
                        "%s: got the end of the stream after %zu bytes, "
                        "expected %zu", self->socket.peer, done, len);
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

bool stream_write(Stream *self, const void *buf, size_t len, GError **error)
{
    struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };

    return stream_writev(self, &iov, 1, error);
}

bool stream_writev(Stream *self, const struct iovec *iov, unsigned n_iov,
                   GError **error)
{
    return self->tls ? stream_tls_writev(self->tls, iov, n_iov, error)
                     : stream_socket_sendv(&self->socket, iov, n_iov, error);
}

void stream_finish(Stream *self)
{
    if (self->tls) {
        stream_tls_bye(self->tls, g_get_monotonic_time() + FINISH_US);
    }
    shutdown(self->socket.fd, SHUT_WR);
}

void stream_shutdown(Stream *self)
{
    stream_socket_shutdown(&self->socket);
}

bool stream_is_hung_up(const Stream *self)
{
    struct pollfd pollfd = { .fd = stream_get_fd(self), .events = POLLRDHUP };

    return poll(&pollfd, 1, 0) > 0;
}

void stream_set_path(Stream *self, unsigned path)
{
    self->path = path;
}

unsigned stream_get_path(const Stream *self)
{
    return self->path;
}

int stream_get_fd(const Stream *self)
{
    return self->socket.fd;
}

const char *stream_get_peer(const Stream *self)
{
    return self->socket.peer;
}

gnutls_session_t stream_get_tls(const Stream *self)
{
    return self->tls ? stream_tls_get_session(self->tls) : NULL;
}

uint64_t stream_get_wire_bytes_out(const Stream *self)
{
    return __atomic_load_n(&self->socket.bytes_out, __ATOMIC_RELAXED);
}

uint64_t stream_get_wire_bytes_in(const Stream *self)
{
    return __atomic_load_n(&self->socket.bytes_in, __ATOMIC_RELAXED);
}

size_t stream_wire_cost(const Stream *self, size_t len)
{
    return self->tls ? stream_tls_wire_cost(self->tls, len) : len;
}
