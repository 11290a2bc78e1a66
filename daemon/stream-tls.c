/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * GnuTLS never does I/O here.  Its push function appends records to `out`, its
 * pull function takes them from `in`, and both never block; the system calls
 * are made by us, outside.
 *
 * That makes the locking simple.  A session may not be used by a reader and a
 * writer at once as soon as keys change (TLS 1.3 KeyUpdate: GnuTLS sends one by
 * itself after 2^24 records, and a peer may send one at any time), because both
 * directions share the key schedule and the table of epochs.  So every call
 * into GnuTLS is made under `lock`, but for one record at a time: microseconds,
 * and never while somebody waits for the network.  To GnuTLS this looks like
 * one thread with a non-blocking socket.
 *
 * Where the credentials say so (a link's do) the writer changes the keys that it
 * writes with after so many bytes, which RFC 8446 5.5 allows 2^24.5 records of
 * with AES-GCM; the other end does the same for its direction.
 *
 * It also saves system calls: one recv fills `in` with many records where
 * GnuTLS would ask for each header and each body, and one send empties `out`
 * of up to OUT_FLUSH bytes.  The price is a copy of each record while it is in
 * the cache.
 */
#include "daemon/stream-tls.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/log.h"
#include "daemon/stream.h"

#define IN_HANDSHAKE (16 * 1024)    /* strangers get little memory */
#define IN_SIZE (128 * 1024)
#define OUT_FLUSH (112 * 1024)      /* then flush; a record more may follow */
/* GnuTLS fails a session that gets more than 8 KeyUpdates in a second: 4, and as
 * many answers, should the peer ask for them. */
#define REKEY_INTERVAL_US (G_USEC_PER_SEC / 4)
#define CONTENT_ALERT 21
#define CONTENT_HANDSHAKE 22

struct StreamTls {
    StreamSocket *socket;       /* borrowed, constant */
    size_t record_max;          /* constant after the handshake */
    size_t overhead;            /* per record, likewise */
    uint64_t rekey_bytes;       /* likewise; 0: leave it to GnuTLS */

    GMutex lock;                /* guards the session; taken last, held briefly */
    gnutls_session_t session;
    bool pushes_allowed;        /* the thread in GnuTLS owns `out` */

    /* The reader's, also within pull. */
    uint8_t *in;
    size_t in_size;
    size_t in_start;
    size_t in_end;
    bool in_eof;
    int got_close_notify;       /* atomic */
    uint8_t first[4];           /* of the connection, for a message */
    unsigned n_first;

    /* The writer's, also within push. */
    uint8_t *out;
    size_t out_size;
    size_t out_len;
    uint8_t *gather;            /* record_max bytes; NULL until needed */
    bool write_failed;          /* sticky: records are missing on the wire */
    uint64_t written;           /* with the present keys */
    gint64 rekeyed_us;
};

/* GnuTLS says AGAIN also with input left, after a KeyUpdate for one. */
static bool has_input(const StreamTls *self)
{
    return self->in_start < self->in_end;
}

static ssize_t on_pull(gnutls_transport_ptr_t data, void *buf, size_t len)
{
    StreamTls *self = data;
    size_t n = MIN(len, self->in_end - self->in_start);

    if (n == 0) {
        gnutls_transport_set_errno(self->session, EAGAIN);
        return -1;
    }
    memcpy(buf, self->in + self->in_start, n);
    self->in_start += n;
    return (ssize_t)n;
}

static int on_pull_timeout(gnutls_transport_ptr_t data,
                           unsigned ms G_GNUC_UNUSED)
{
    const StreamTls *self = data;

    return has_input(self);
}

/*
 * GnuTLS has nothing to send while it receives application data (it leaves the
 * answer to a KeyUpdate to the next send).  Should it ever, then better fail
 * than append to what another thread is just writing.
 */
static ssize_t on_push(gnutls_transport_ptr_t data, const giovec_t *iov,
                       int n_iov)
{
    StreamTls *self = data;
    size_t total = 0;
    int i;

    if (!self->pushes_allowed) {
        gnutls_transport_set_errno(self->session, EIO);
        return -1;
    }
    for (i = 0; i < n_iov; i++) {
        total += iov[i].iov_len;
    }
    if (total > self->out_size - self->out_len) {
        self->out_size = self->out_len + total;
        self->out = g_realloc(self->out, self->out_size);
    }
    for (i = 0; i < n_iov; i++) {
        memcpy(self->out + self->out_len, iov[i].iov_base, iov[i].iov_len);
        self->out_len += iov[i].iov_len;
    }
    return (ssize_t)total;
}

/* Called when `in` is empty.  False on error; the end sets in_eof. */
static bool fill_in(StreamTls *self, GError **error)
{
    gssize n;

    g_assert(!has_input(self));
    n = stream_socket_recv(self->socket, self->in, self->in_size, error);
    if (n < 0) {
        return false;
    }
    if (self->n_first == 0) {
        self->n_first = (unsigned)MIN((size_t)n, sizeof(self->first));
        memcpy(self->first, self->in, self->n_first);
    }
    self->in_eof = n == 0;
    self->in_start = 0;
    self->in_end = (size_t)n;
    return true;
}

static void set_gnutls_error(StreamTls *self, int code, const char *doing,
                             GError **error)
{
    if (code == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        gnutls_alert_description_t alert = gnutls_alert_get(self->session);
        const char *name = gnutls_alert_get_name(alert);

        g_set_error(error, STREAM_ERROR, STREAM_ERROR_TLS,
                    "%s: %s: the peer refused us with TLS alert %d (%s)",
                    self->socket->peer, doing, (int)alert,
                    name ? name : "unknown");
        return;
    }
    g_set_error(error, STREAM_ERROR, STREAM_ERROR_TLS, "%s: %s: %s",
                self->socket->peer, doing, gnutls_strerror(code));
}

/*
 * The handshake
 */

static bool flush_handshake(StreamTls *self, gint64 deadline_us, GError **error)
{
    bool ok = stream_socket_send_until(self->socket, self->out, self->out_len,
                                       deadline_us, error);

    self->out_len = 0;
    return ok;
}

/* Tell the peer that it is over; the connection stays open for reading. */
static void send_alert(StreamTls *self, gnutls_alert_description_t alert,
                       gint64 deadline_us)
{
    gnutls_alert_send(self->session, GNUTLS_AL_FATAL, alert);
    flush_handshake(self, deadline_us, NULL);
    shutdown(self->socket->fd, SHUT_WR);
}

static bool check_first_bytes(StreamTls *self, GError **error)
{
    g_autoptr(GString) hex = NULL;
    unsigned i;

    if (self->n_first == 0 || self->first[0] == CONTENT_HANDSHAKE ||
        self->first[0] == CONTENT_ALERT) {
        return true;
    }
    hex = g_string_new("0x");
    for (i = 0; i < self->n_first; i++) {
        g_string_append_printf(hex, "%02x", self->first[i]);
    }
    g_set_error(error, STREAM_ERROR, STREAM_ERROR_TLS,
                "%s: TLS handshake: got first bytes %s, expected a TLS record "
                "(0x16…); is the peer using TLS?", self->socket->peer,
                hex->str);
    return false;
}

static bool read_handshake(StreamTls *self, gint64 deadline_us, GError **error)
{
    if (!stream_socket_wait(self->socket, POLLIN, deadline_us, error) ||
        !fill_in(self, error)) {
        g_prefix_error(error, "TLS handshake: ");
        return false;
    }
    if (self->in_eof) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_TLS,
                    "%s: TLS handshake: the peer closed the connection%s",
                    self->socket->peer, self->n_first ? ""
                    : " before its first byte; is it using TLS?");
        return false;
    }
    return check_first_bytes(self, error);
}

/* GnuTLS answers a wrong key and an unknown identity alike, with a riddle. */
static void add_psk_hint(StreamTls *self, int code, GError **error)
{
    if (error && (code == GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER ||
                  code == GNUTLS_E_FATAL_ALERT_RECEIVED) &&
        gnutls_credentials_get(self->session, GNUTLS_CRD_PSK, NULL) == 0) {
        g_autofree char *text = g_strconcat(
            (*error)->message, "; do both ends have the same key for the same "
            "PSK identity?", NULL);

        g_clear_error(error);
        g_set_error_literal(error, STREAM_ERROR, STREAM_ERROR_TLS, text);
    }
}

/* No credentials of one kind at both ends; tls-creds-anon is none of ours. */
static void add_kind_hint(StreamTls *self, int code, GError **error)
{
    bool nothing_in_common =
        code == GNUTLS_E_NO_CIPHER_SUITES ||
        code == GNUTLS_E_INSUFFICIENT_CREDENTIALS ||
        (code == GNUTLS_E_FATAL_ALERT_RECEIVED &&
         gnutls_alert_get(self->session) == GNUTLS_A_HANDSHAKE_FAILURE);

    if (error && nothing_in_common) {
        g_autofree char *text = g_strconcat(
            (*error)->message, "; are the other end's credentials x509 or psk, "
            "as ours are? Anonymous ones (tls-creds-anon) are not taken", NULL);

        g_clear_error(error);
        g_set_error_literal(error, STREAM_ERROR, STREAM_ERROR_TLS, text);
    }
}

static void set_handshake_error(StreamTls *self, int code, GError **error)
{
    g_autoptr(GError) refusal = tls_session_take_refusal(self->session);

    if (refusal) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_TLS, "%s: %s",
                    self->socket->peer, refusal->message);
    } else if (code == GNUTLS_E_NO_CERTIFICATE_FOUND ||
               code == GNUTLS_E_CERTIFICATE_REQUIRED) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_TLS,
                    "%s: TLS handshake: got no certificate from the peer, "
                    "expected one that our CA signed", self->socket->peer);
    } else {
        set_gnutls_error(self, code, "TLS handshake", error);
        add_psk_hint(self, code, error);
        add_kind_hint(self, code, error);
    }
}

static void send_alert_for(StreamTls *self, int code, gint64 deadline_us)
{
    int level = 0;
    int alert = gnutls_error_to_alert(code, &level);

    if (code != GNUTLS_E_FATAL_ALERT_RECEIVED && alert >= 0) {
        send_alert(self, (gnutls_alert_description_t)alert, deadline_us);
    } else {
        flush_handshake(self, deadline_us, NULL);
    }
}

static bool handshake(StreamTls *self, gint64 deadline_us, GError **error)
{
    int code;

    for (;;) {
        code = gnutls_handshake(self->session);
        if (code < 0 && gnutls_error_is_fatal(code)) {
            send_alert_for(self, code, deadline_us);
            set_handshake_error(self, code, error);
            return false;
        }
        if (!flush_handshake(self, deadline_us, error)) {
            g_prefix_error(error, "TLS handshake: ");
            return false;
        }
        if (code == 0) {
            return true;
        }
        if (code == GNUTLS_E_AGAIN && !has_input(self) &&
            !read_handshake(self, deadline_us, error)) {
            return false;
        }
    }
}

static bool check_peer(StreamTls *self, bool server, const TlsPeerRules *rules,
                       gint64 deadline_us, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (tls_session_check_peer(self->session, server, rules, &cause)) {
        return true;
    }
    g_set_error(error, STREAM_ERROR, STREAM_ERROR_TLS, "%s: %s",
                self->socket->peer, cause->message);
    send_alert(self, GNUTLS_A_ACCESS_DENIED, deadline_us);
    return false;
}

/* TLS 1.2 has no KeyUpdate; only QEMU legs speak it. */
static void set_rekeying(StreamTls *self)
{
    if (gnutls_protocol_get_version(self->session) == GNUTLS_TLS1_3) {
        self->rekey_bytes = tls_session_get_rekey_bytes(self->session);
        self->rekeyed_us = g_get_monotonic_time();
    }
}

/* The peer is no stranger any more: room for bulk data. */
static void size_buffers(StreamTls *self)
{
    self->record_max = gnutls_record_get_max_size(self->session);
    self->overhead = gnutls_record_overhead_size(self->session);
    self->in = g_realloc(self->in, IN_SIZE);
    self->in_size = IN_SIZE;
}

StreamTls *stream_tls_new(StreamSocket *socket, TlsCredentials *credentials,
                          bool server, const TlsPeerRules *rules,
                          gint64 deadline_us, GError **error)
{
    g_autoptr(GError) cause = NULL;
    gnutls_session_t session = tls_session_new(credentials, server, rules,
                                               &cause);
    StreamTls *self;

    if (!session) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_TLS, "%s: %s",
                    socket->peer, cause->message);
        return NULL;
    }
    self = g_new0(StreamTls, 1);
    self->socket = socket;
    self->session = session;
    g_mutex_init(&self->lock);
    self->pushes_allowed = true;
    self->in_size = IN_HANDSHAKE;
    self->in = g_malloc(self->in_size);
    gnutls_transport_set_ptr(session, self);
    gnutls_transport_set_vec_push_function(session, on_push);
    gnutls_transport_set_pull_function(session, on_pull);
    gnutls_transport_set_pull_timeout_function(session, on_pull_timeout);
    if (!handshake(self, deadline_us, error) ||
        !check_peer(self, server, rules, deadline_us, error)) {
        stream_tls_free(self);
        return NULL;
    }
    size_buffers(self);
    set_rekeying(self);
    self->pushes_allowed = false;
    return self;
}

void stream_tls_free(StreamTls *self)
{
    if (self) {
        tls_session_free(self->session);
        g_mutex_clear(&self->lock);
        g_free(self->in);
        g_free(self->out);
        g_free(self->gather);
        g_free(self);
    }
}

/*
 * Reading
 */

gssize stream_tls_read(StreamTls *self, void *buf, size_t len, GError **error)
{
    for (;;) {
        ssize_t n;

        if (!stream_socket_check(self->socket, error)) {
            return -1;
        }
        g_mutex_lock(&self->lock);
        n = gnutls_record_recv(self->session, buf, len);
        g_mutex_unlock(&self->lock);
        if (n > 0) {
            return n;
        }
        if (n == 0) {
            __atomic_store_n(&self->got_close_notify, 1, __ATOMIC_RELEASE);
            return 0;
        }
        /* GnuTLS is not told of an end without close_notify: it would close
         * the other direction too. */
        if (n == GNUTLS_E_AGAIN) {
            if (has_input(self)) {
                continue;
            }
            if (!self->in_eof && !fill_in(self, error)) {
                return -1;
            }
            if (self->in_eof) {
                return 0;
            }
        } else if (gnutls_error_is_fatal((int)n) ||
                   n == GNUTLS_E_REHANDSHAKE) {
            set_gnutls_error(self, (int)n, "TLS read", error);
            return -1;
        }
    }
}

bool stream_tls_got_close_notify(const StreamTls *self)
{
    return __atomic_load_n(&self->got_close_notify, __ATOMIC_ACQUIRE);
}

/*
 * Writing
 */

/* Append a KeyUpdate to `out` if it is due; what follows has the new keys. */
static bool rekey_if_due(StreamTls *self, GError **error)
{
    gint64 now_us;
    int code;

    if (self->rekey_bytes == 0 || self->written < self->rekey_bytes) {
        return true;
    }
    now_us = g_get_monotonic_time();
    if (now_us - self->rekeyed_us < REKEY_INTERVAL_US) {
        return true;
    }
    g_mutex_lock(&self->lock);
    self->pushes_allowed = true;
    code = gnutls_session_key_update(self->session, 0);
    self->pushes_allowed = false;
    g_mutex_unlock(&self->lock);
    if (code < 0) {
        set_gnutls_error(self, code, "TLS key update", error);
        return false;
    }
    log_debug(NULL, "%s: new TLS keys after %" PRIu64 " bytes",
              self->socket->peer, self->written);
    self->written = 0;
    self->rekeyed_us = now_us;
    return true;
}

/* Append @len bytes of payload to `out` as records. */
static bool encrypt(StreamTls *self, const uint8_t *from, size_t len,
                    GError **error)
{
    while (len > 0) {
        ssize_t n;

        if (!rekey_if_due(self, error)) {
            return false;
        }
        g_mutex_lock(&self->lock);
        self->pushes_allowed = true;
        n = gnutls_record_send(self->session, from, len);
        self->pushes_allowed = false;
        g_mutex_unlock(&self->lock);
        if (n > 0) {
            from += n;
            len -= (size_t)n;
            self->written += (uint64_t)n;
        } else if (n != GNUTLS_E_INTERRUPTED && n != GNUTLS_E_AGAIN) {
            set_gnutls_error(self, (int)n, "TLS write", error);
            return false;
        }
    }
    return true;
}

static bool flush(StreamTls *self, GError **error)
{
    struct iovec iov = { .iov_base = self->out, .iov_len = self->out_len };

    self->out_len = 0;
    return stream_socket_sendv(self->socket, &iov, 1, error);
}

/* What is still to be written: neighbours in memory count as one piece. */
typedef struct {
    const uint8_t *from;
    size_t left;                /* of the current piece */
    const struct iovec *next;
    const struct iovec *end;
} Pieces;

static void pieces_advance(Pieces *self, size_t done)
{
    self->from += done;
    self->left -= done;
    while (self->next < self->end &&
           (self->left == 0 || self->next->iov_len == 0 ||
            self->from + self->left == self->next->iov_base)) {
        if (self->left == 0) {
            self->from = self->next->iov_base;
        }
        self->left += self->next->iov_len;
        self->next++;
    }
}

/* Small pieces and the beginning of a large one make a full record. */
static size_t gather(StreamTls *self, Pieces *pieces)
{
    size_t len = 0;

    if (!self->gather) {
        self->gather = g_malloc(self->record_max);
    }
    while (pieces->left > 0 && len < self->record_max) {
        size_t n = MIN(pieces->left, self->record_max - len);

        memcpy(self->gather + len, pieces->from, n);
        len += n;
        pieces_advance(pieces, n);
    }
    return len;
}

static bool encrypt_next(StreamTls *self, Pieces *pieces, GError **error)
{
    size_t n = MIN(pieces->left, self->record_max);
    const uint8_t *from = pieces->from;

    if (n < self->record_max && pieces->next < pieces->end) {
        n = gather(self, pieces);
        from = self->gather;
    } else {
        pieces_advance(pieces, n);
    }
    return encrypt(self, from, n, error);
}

static bool write_pieces(StreamTls *self, Pieces *pieces, GError **error)
{
    while (pieces->left > 0) {
        if (!encrypt_next(self, pieces, error) ||
            (self->out_len >= OUT_FLUSH && !flush(self, error))) {
            return false;
        }
    }
    return flush(self, error);
}

bool stream_tls_writev(StreamTls *self, const struct iovec *iov,
                       unsigned n_iov, GError **error)
{
    Pieces pieces = { .next = iov, .end = iov + n_iov };

    if (!stream_socket_check(self->socket, error)) {
        return false;
    }
    if (self->write_failed) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_IO,
                    "%s: TLS write: an earlier write failed",
                    self->socket->peer);
        return false;
    }
    pieces_advance(&pieces, 0);
    self->write_failed = !write_pieces(self, &pieces, error);
    return !self->write_failed;
}

void stream_tls_bye(StreamTls *self, gint64 deadline_us)
{
    if (self->write_failed || stream_socket_is_shut(self->socket)) {
        return;
    }
    g_mutex_lock(&self->lock);
    self->pushes_allowed = true;
    gnutls_bye(self->session, GNUTLS_SHUT_WR);
    self->pushes_allowed = false;
    g_mutex_unlock(&self->lock);
    self->write_failed = true;  /* nothing can follow close_notify */
    flush_handshake(self, deadline_us, NULL);
}

gnutls_session_t stream_tls_get_session(const StreamTls *self)
{
    return self->session;
}

size_t stream_tls_wire_cost(const StreamTls *self, size_t len)
{
    size_t n_records = (len + self->record_max - 1) / self->record_max;

    return len + n_records * self->overhead;
}
