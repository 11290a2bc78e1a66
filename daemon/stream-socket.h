/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/stream-socket.h - the socket under a Stream
 *
 * For stream.c and stream-tls.c only: system calls made whole, errors made
 * GErrors, bytes counted.  The fd stays open until stream_socket_clear(), so
 * that its number cannot come to mean something else to another thread.
 */
#ifndef DAEMON_STREAM_SOCKET_H
#define DAEMON_STREAM_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <glib.h>

typedef struct {
    int fd;             /* constant */
    char *peer;         /* constant */

    /* Atomic, any thread. */
    int is_shut;            /* only goes from 0 to 1 */
    unsigned read_ms;       /* for messages; the kernel keeps the time */
    unsigned write_ms;
    uint64_t bytes_in;
    uint64_t bytes_out;
} StreamSocket;

void stream_socket_init(StreamSocket *self, int fd, const char *peer);
void stream_socket_clear(StreamSocket *self);

void stream_socket_set_timeouts(StreamSocket *self, unsigned read_ms,
                                unsigned write_ms);

/* Bytes received, 0 at the end, -1 on error. */
gssize stream_socket_recv(StreamSocket *self, void *buf, size_t len,
                          GError **error);

/* All of it. */
bool stream_socket_sendv(StreamSocket *self, const struct iovec *iov,
                         unsigned n_iov, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/*
 * Wait for @events (poll(2)) until @deadline_us, monotonic.  A shut or broken
 * socket counts as ready.  STREAM_ERROR_TIMEOUT when nothing came.
 */
bool stream_socket_wait(StreamSocket *self, short events, gint64 deadline_us,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* All of it, until @deadline_us; the socket stays blocking. */
bool stream_socket_send_until(StreamSocket *self, const void *buf, size_t len,
                              gint64 deadline_us, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

void stream_socket_shutdown(StreamSocket *self);
bool stream_socket_is_shut(const StreamSocket *self);
/* false with STREAM_ERROR_SHUTDOWN set if we shut it. */
bool stream_socket_check(const StreamSocket *self, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
