/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/stream-tls.h - a GnuTLS session between a Stream and its socket
 *
 * For stream.c only.  Same rules for threads as daemon/stream.h.
 */
#ifndef DAEMON_STREAM_TLS_H
#define DAEMON_STREAM_TLS_H

#include "daemon/stream-socket.h"
#include "daemon/tls.h"

typedef struct StreamTls StreamTls;

/* Handshake and check of the peer.  NULL and @error when it fails; the peer
 * has then been told why, as far as TLS has a word for it. */
StreamTls *stream_tls_new(StreamSocket *socket, TlsCredentials *credentials,
                          bool server, const TlsPeerRules *rules,
                          gint64 deadline_us, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void stream_tls_free(StreamTls *self);

/* As stream_read(). */
gssize stream_tls_read(StreamTls *self, void *buf, size_t len, GError **error);
bool stream_tls_writev(StreamTls *self, const struct iovec *iov,
                       unsigned n_iov, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* Send close_notify, if that can be done until @deadline_us. */
void stream_tls_bye(StreamTls *self, gint64 deadline_us);

bool stream_tls_got_close_notify(const StreamTls *self);
gnutls_session_t stream_tls_get_session(const StreamTls *self);
size_t stream_tls_wire_cost(const StreamTls *self, size_t len);

#endif
