/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/stream.h - one connection, plain or TLS, behind one set of calls
 *
 * Blocking.  One thread may read while another writes; not two of a kind.
 * stream_shutdown() may be called from any thread at any time and makes every
 * present and later call fail or return end of file at once.
 *
 * The GLib main loop never calls the blocking ones.
 */
#ifndef DAEMON_STREAM_H
#define DAEMON_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <glib.h>
#include "daemon/tls.h"

#define STREAM_ERROR (stream_error_quark())

typedef enum {
    STREAM_ERROR_IO,        /* the system or the peer broke the connection */
    STREAM_ERROR_EOF,       /* ended inside something that had to be whole */
    STREAM_ERROR_TIMEOUT,
    STREAM_ERROR_TLS,       /* handshake, verification or record failure */
    STREAM_ERROR_SHUTDOWN,  /* we called stream_shutdown() */
} StreamError;

GQuark stream_error_quark(void);

typedef struct Stream Stream;

/* Takes the connected socket, makes it blocking.  @peer: for messages, copied;
 * NULL: asked from the kernel. */
Stream *stream_new(int fd, const char *peer);
/* Closes without further ado (no close_notify).  NULL is fine. */
void stream_free(Stream *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stream, stream_free)
/* @handler is called once: when the stream is said to be broken, or else when it is
 * freed (@broken is NULL then).  To be set before there is a second thread. */
typedef void (*StreamEndHandler)(const GError *broken, void *data);
void stream_set_end_handler(Stream *self, StreamEndHandler handler, void *data);
/* By its owner, in the thread that would free it. */
void stream_note_broken(Stream *self, const GError *error);

/* Handshake and check of the peer, within @timeout_ms. */
bool stream_start_tls(Stream *self, TlsCredentials *credentials, bool server,
                      const TlsPeerRules *rules, unsigned timeout_ms,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* 0: wait for ever.  Applies to each single wait for the peer. */
void stream_set_timeouts(Stream *self, unsigned read_ms, unsigned write_ms);

/* Bytes read (>0), 0 at the end of the stream, -1 on error.  A TLS end without
 * close_notify counts as an end (QEMU before 10.0 never sends one); see
 * stream_ended_cleanly(). */
gssize stream_read(Stream *self, void *buf, size_t len, GError **error);
bool stream_ended_cleanly(const Stream *self);

/*
 * All @len bytes.  End of the stream before the first byte: true with *ret_eof
 * set (an error when @ret_eof is NULL); in the middle: STREAM_ERROR_EOF.
 */
bool stream_read_full(Stream *self, void *buf, size_t len, bool *ret_eof,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* All of it.  Plain: writev.  TLS: full-size records, pieces gathered; under TLS
 * 1.3 with new keys now and then (TlsConfig's rekey_bytes). */
bool stream_write(Stream *self, const void *buf, size_t len, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool stream_writev(Stream *self, const struct iovec *iov, unsigned n_iov,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The writer says that no more comes: close_notify under TLS, then FIN.
 * Best effort, does not block longer than a second. */
void stream_finish(Stream *self);

/* Any thread: end both directions now.  What was written still goes out. */
void stream_shutdown(Stream *self);

/* The peer has ended its direction or is gone; there may be bytes before that. */
bool stream_is_hung_up(const Stream *self);

int stream_get_fd(const Stream *self);
/* By which of several ways it goes, as who made it says; 0 if he does not. */
void stream_set_path(Stream *self, unsigned path);
unsigned stream_get_path(const Stream *self);
const char *stream_get_peer(const Stream *self);
gnutls_session_t stream_get_tls(const Stream *self);    /* NULL: plain */

/* Bytes that left for and came from the network: the payload, plus TLS's
 * measured overhead.  Any thread. */
uint64_t stream_get_wire_bytes_out(const Stream *self);
uint64_t stream_get_wire_bytes_in(const Stream *self);
/* What @len bytes of payload cost on the wire, for a limiter. */
size_t stream_wire_cost(const Stream *self, size_t len);

#endif
