/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/ingress-preempt.h"

#include <string.h>

#include "daemon/log.h"
#include "wire/error.h"

/*
 * Silent strangers can use up the candidates, and the source's own channel is refused
 * then.  Time cannot tell them apart: it may be silent for all of precopy.
 */
enum {
    CANDIDATES_MAX = 16,
    BUFFER_SIZE = 16 * 1024,    /* at least PREEMPT_START_MAX */
};

struct IngressPreempt {
    Exchange *exchange;

    GMutex lock;                /* guards all below; a leaf */
    bool closed;
    bool known;                 /* one of them has begun to send pages */
    GPtrArray *candidates;      /* of Candidate, owned */
};

typedef struct {
    IngressPreempt *owner;
    Stream *stream;
    GThread *thread;
    bool done;                  /* the thread has nothing more to do */
    size_t len;                 /* bytes in buf */
    uint8_t buf[BUFFER_SIZE];
} Candidate;

static void free_candidate(void *data)
{
    Candidate *self = data;

    if (self->thread) {
        g_thread_join(self->thread);
    }
    stream_free(self->stream);
    g_free(self);
}

/* ---- one of them ------------------------------------------------------------ */

/* False: it has ended without saying anything, or is none. */
static bool read_start(Candidate *self, GError **error)
{
    PreemptStart verdict = PREEMPT_START_MORE;

    while ((verdict = exchange_preempt_judge(self->owner->exchange, self->buf,
                                             self->len)) == PREEMPT_START_MORE) {
        gssize n = stream_read(self->stream, self->buf + self->len,
                               BUFFER_SIZE - self->len, error);

        if (n <= 0) {
            return false;
        }
        self->len += n;
    }
    if (verdict == PREEMPT_START_NO) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "%s: got first bytes that are neither a main nor a multifd "
                    "channel's, nor a page of this guest, as a preempt channel "
                    "begins", stream_get_peer(self->stream));
        return false;
    }
    return true;
}

/* There is one at most. */
static bool choose(Candidate *self, GError **error)
{
    IngressPreempt *owner = self->owner;
    bool first;

    g_mutex_lock(&owner->lock);
    first = !owner->known;
    owner->known = true;
    g_mutex_unlock(&owner->lock);
    if (!first) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "%s: got a second preempt channel, allowed is one",
                    stream_get_peer(self->stream));
    }
    return first;
}

static void carry(Candidate *self)
{
    Exchange *exchange = self->owner->exchange;
    GError *error = NULL;
    gssize n = self->len;

    while (n > 0 && exchange_preempt_push(exchange, self->buf, n)) {
        n = stream_read(self->stream, self->buf, BUFFER_SIZE, &error);
    }
    if (error) {
        g_prefix_error(&error, "preempt channel: from the source QEMU: ");
        exchange_fail(exchange, error);
    } else if (n == 0) {
        exchange_preempt_end(exchange);
    }
}

static void *candidate_thread(void *data)
{
    Candidate *self = data;
    IngressPreempt *owner = self->owner;
    g_autoptr(GError) error = NULL;
    bool closed;

    if (read_start(self, &error) && choose(self, &error)) {
        carry(self);
    }
    g_mutex_lock(&owner->lock);
    closed = owner->closed;
    self->done = true;
    g_mutex_unlock(&owner->lock);
    stream_shutdown(self->stream);
    if (error && !closed) {
        log_warning(NULL, "%s; closed it", error->message);
    }
    return NULL;
}

/* ---- all of them ------------------------------------------------------------ */

/* Those that have gone make room. */
static void reap(IngressPreempt *self)
{
    for (unsigned i = self->candidates->len; i > 0; i--) {
        Candidate *candidate = g_ptr_array_index(self->candidates, i - 1);

        if (candidate->done) {
            g_ptr_array_remove_index_fast(self->candidates, i - 1);
        }
    }
}

static bool check_take(IngressPreempt *self, GError **error)
{
    if (self->closed) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "the migration is over");
        return false;
    }
    if (self->known) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a silent connection, allowed only until the preempt "
                    "channel is known");
        return false;
    }
    if (self->candidates->len >= CANDIDATES_MAX) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got one more silent connection, allowed are %d at once",
                    CANDIDATES_MAX);
        return false;
    }
    return true;
}

static bool take_locked(IngressPreempt *self, Arrival *arrival, GError **error)
{
    Candidate *candidate;

    reap(self);
    if (!check_take(self, error)) {
        return false;
    }
    candidate = g_new0(Candidate, 1);
    candidate->owner = self;
    candidate->stream = arrival->stream;
    candidate->len = arrival->start_len;
    memcpy(candidate->buf, arrival->start, arrival->start_len);
    candidate->thread = g_thread_try_new("in-preempt", candidate_thread,
                                         candidate, error);
    if (!candidate->thread) {
        candidate->stream = NULL;       /* still the caller's */
        free_candidate(candidate);
        return false;
    }
    arrival->stream = NULL;
    g_ptr_array_add(self->candidates, candidate);
    return true;
}

bool ingress_preempt_take(IngressPreempt *self, Arrival *arrival,
                          GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = take_locked(self, arrival, error);
    g_mutex_unlock(&self->lock);
    if (ok) {
        exchange_preempt_expect(self->exchange);
    }
    return ok;
}

/* ---- life ------------------------------------------------------------------- */

IngressPreempt *ingress_preempt_new(Exchange *exchange)
{
    IngressPreempt *self = g_new0(IngressPreempt, 1);

    self->exchange = exchange;
    g_mutex_init(&self->lock);
    self->candidates = g_ptr_array_new_with_free_func(free_candidate);
    return self;
}

void ingress_preempt_shutdown(IngressPreempt *self)
{
    g_mutex_lock(&self->lock);
    self->closed = true;
    for (unsigned i = 0; i < self->candidates->len; i++) {
        Candidate *candidate = g_ptr_array_index(self->candidates, i);

        stream_shutdown(candidate->stream);
    }
    g_mutex_unlock(&self->lock);
}

void ingress_preempt_free(IngressPreempt *self)
{
    /* Closed, so nobody adds to these any more. */
    g_ptr_array_unref(self->candidates);
    g_mutex_clear(&self->lock);
    g_free(self);
}
