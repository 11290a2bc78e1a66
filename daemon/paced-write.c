/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/paced-write.h"

enum { PIECES_MAX = 8 };

/* Cut at most @max bytes off the front of the pieces; how many pieces those are. */
static unsigned cut_front(struct iovec **iov, unsigned *n_iov, size_t max,
                          struct iovec *ret)
{
    unsigned n = 0;

    while (*n_iov > 0 && max > 0) {
        struct iovec *piece = *iov;
        size_t len = MIN(piece->iov_len, max);

        ret[n++] = (struct iovec) { piece->iov_base, len };
        piece->iov_base = (uint8_t *)piece->iov_base + len;
        piece->iov_len -= len;
        max -= len;
        if (piece->iov_len == 0) {
            (*iov)++;
            (*n_iov)--;
        }
    }
    return n;
}

static size_t get_length(const struct iovec *iov, unsigned n_iov)
{
    size_t len = 0;

    for (unsigned i = 0; i < n_iov; i++) {
        len += iov[i].iov_len;
    }
    return len;
}

bool paced_write(Stream *stream, Limiter *limiter, const struct iovec *iov,
                 unsigned n_iov, GError **error)
{
    struct iovec left[PIECES_MAX], portion[PIECES_MAX];
    struct iovec *next = left;

    g_assert(n_iov <= PIECES_MAX);
    if (!limiter) {
        return stream_writev(stream, iov, n_iov, error);
    }
    memcpy(left, iov, n_iov * sizeof(*iov));
    while (n_iov > 0) {
        size_t quantum = limiter_get_quantum(limiter);
        unsigned n = cut_front(&next, &n_iov, quantum, portion);
        size_t len = get_length(portion, n);

        if (!limiter_acquire(limiter, stream_wire_cost(stream, len))) {
            g_set_error(error, STREAM_ERROR, STREAM_ERROR_SHUTDOWN,
                        "%s: the migration is over", stream_get_peer(stream));
            return false;
        }
        if (!stream_writev(stream, portion, n, error)) {
            return false;
        }
    }
    return true;
}
