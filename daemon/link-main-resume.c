/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-main-resume.c - from one connection of a main lane to the next
 *
 * All of it in the reader's thread, which is the only one that replaces the
 * connection, and does so while the writer is not in it.  The source side connects,
 * again and again; the destination side waits to be handed a connection.  Either
 * gives up when the budget is used up.
 *
 * Then both begin with an ACK.  It says from where on the peer shall send again; so
 * what comes on this connection begins there (`cursor`), although some of it may
 * have come before.
 */
#include "daemon/link-main-private.h"

#include "daemon/link-lane.h"
#include "wire/error.h"

enum {
    CONNECT_MIN_MS = 50,
    ALIVE_US = 2000 * 1000,
};

void link_main_mark_down(LinkMain *self, GError *error)
{
    if (self->lost) {
        g_error_free(error);
    } else {
        self->lost = error;
        self->down_since_us = g_get_monotonic_time();
    }
    self->up = false;
    stream_shutdown(self->stream);
    g_cond_broadcast(&self->changed);
}

int64_t link_main_get_down_us(const LinkMain *self)
{
    return self->down_before_us +
           (self->up ? 0 : g_get_monotonic_time() - self->down_since_us);
}

void link_main_set_outage_budget(LinkMain *self, unsigned budget_ms)
{
    g_mutex_lock(&self->lock);
    if (self->budget_ms != budget_ms) {
        self->budget_ms = budget_ms;
        g_cond_broadcast(&self->changed);
    }
    g_mutex_unlock(&self->lock);
}

void link_main_get_outage(LinkMain *self, LinkMainOutage *ret)
{
    g_mutex_lock(&self->lock);
    *ret = (LinkMainOutage) {
        .down = !self->up && !self->error && !self->ended,
        .budget_ms = self->budget_ms,
        .resumes = self->resumes,
        .resent_bytes = self->resent_bytes,
    };
    if (ret->down) {
        ret->down_ms = (g_get_monotonic_time() - self->down_since_us) / 1000;
    }
    g_mutex_unlock(&self->lock);
}

/* With the lock held. */
static bool outlives_connection(const LinkMain *self)
{
    return self->exchange && self->budget_ms > 0 && !self->peer_ended &&
           (self->source_side ? self->connect != NULL : self->heard);
}

/* ---- what is known from elsewhere -------------------------------------------------- */

/* With the lock held.  A live peer says something at least every second. */
static bool is_alive(const LinkMain *self)
{
    return self->up && g_get_monotonic_time() - self->heard_us < ALIVE_US;
}

bool link_main_is_alive(LinkMain *self)
{
    bool alive;

    g_mutex_lock(&self->lock);
    alive = is_alive(self);
    g_mutex_unlock(&self->lock);
    return alive;
}

void link_main_give_up(LinkMain *self, GError *error)
{
    link_main_fail(self, error);
}

void link_main_break(LinkMain *self, GError *error)
{
    bool breaks;

    g_mutex_lock(&self->lock);
    breaks = self->up && !is_alive(self) && !link_main_is_over(self) &&
             outlives_connection(self);
    if (breaks) {
        link_main_mark_down(self, error);
    }
    g_mutex_unlock(&self->lock);
    if (!breaks) {
        g_error_free(error);
    }
}

bool link_main_is_heard(LinkMain *self)
{
    bool heard;

    g_mutex_lock(&self->lock);
    heard = self->control.length <= self->end_said || self->peer_ended ||
            !self->exchange;
    g_mutex_unlock(&self->lock);
    return heard;
}

bool link_main_get_tcp(LinkMain *self, StreamTcp *ret, unsigned *ret_path)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = self->up && stream_tcp_get(self->stream, ret);
    *ret_path = ok ? stream_get_path(self->stream) : 0;
    g_mutex_unlock(&self->lock);
    return ok;
}

unsigned link_main_get_generation(LinkMain *self)
{
    unsigned generation;

    g_mutex_lock(&self->lock);
    generation = self->generation;
    g_mutex_unlock(&self->lock);
    return generation;
}

/* ---- handing one in --------------------------------------------------------------- */

static bool check_take(const LinkMain *self, unsigned generation, GError **error)
{
    if (link_main_is_over(self) || self->source_side ||
        !outlives_connection(self)) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "main lane: it is over");
        return false;
    }
    if (generation <= self->generation) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "main lane: got generation %u, allowed above %u",
                    generation, self->generation);
        return false;
    }
    return true;
}

bool link_main_check_take(LinkMain *self, unsigned generation, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_take(self, generation, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

bool link_main_take(LinkMain *self, Stream *stream, unsigned generation,
                    GError **error)
{
    Stream *stale = NULL;
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_take(self, generation, error);
    if (ok) {
        stale = self->next_stream;
        self->next_stream = stream;
        self->generation = generation;
        link_main_mark_down(self, g_error_new(STREAM_ERROR, STREAM_ERROR_IO,
                                              "the peer has connected anew"));
    }
    g_mutex_unlock(&self->lock);
    stream_free(stale);
    return ok;
}

/* ---- waiting for one --------------------------------------------------------------- */

/* With the lock held: when the wait is over. */
static int64_t get_deadline(const LinkMain *self)
{
    return self->down_since_us + self->budget_ms * 1000LL;
}

/* With the lock held. */
static bool may_wait(const LinkMain *self)
{
    return !link_main_is_over(self) && g_get_monotonic_time() < get_deadline(self);
}

static Stream *wait_handed(LinkMain *self)
{
    Stream *stream;

    g_mutex_lock(&self->lock);
    while (!self->next_stream && may_wait(self)) {
        g_cond_wait_until(&self->changed, &self->lock, get_deadline(self));
    }
    stream = g_steal_pointer(&self->next_stream);
    g_mutex_unlock(&self->lock);
    return stream;
}

/* Until the next attempt is due; false: there is none. */
static bool pause_until(LinkMain *self, int64_t due_us)
{
    bool ok;

    g_mutex_lock(&self->lock);
    while (may_wait(self) && g_get_monotonic_time() < due_us) {
        g_cond_wait_until(&self->changed, &self->lock,
                          MIN(due_us, get_deadline(self)));
    }
    ok = may_wait(self);
    g_mutex_unlock(&self->lock);
    return ok;
}

static unsigned next_generation(LinkMain *self)
{
    unsigned generation;

    g_mutex_lock(&self->lock);
    generation = ++self->generation;
    g_mutex_unlock(&self->lock);
    return generation;
}

static unsigned get_left_ms(LinkMain *self)
{
    int64_t left_us;

    g_mutex_lock(&self->lock);
    left_us = get_deadline(self) - g_get_monotonic_time();
    g_mutex_unlock(&self->lock);
    return CLAMP(left_us / 1000, CONNECT_MIN_MS, G_MAXINT);
}

/* A host that answers that nobody listens has no such daemon any more; but give it
 * the time that a silent one would be given. */
static bool is_gone(LinkMain *self, const GError *error, int64_t *refused_since_us)
{
    int64_t now_us = g_get_monotonic_time();
    bool patient;

    g_mutex_lock(&self->lock);
    patient = self->budget_ms == LINK_MAIN_FOREVER;
    g_mutex_unlock(&self->lock);
    if (patient) {
        return false;
    }
    if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED)) {
        *refused_since_us = 0;
        return link_lane_is_unknown(error);
    }
    *refused_since_us = *refused_since_us ? *refused_since_us : now_us;
    return now_us - *refused_since_us > self->dead_ms * 1000LL;
}

/* NULL: with @error the peer has let go of the migration; without it, time is up. */
static Stream *connect_again(LinkMain *self, GError **error)
{
    int64_t due_us = 0, refused_since_us = 0;

    for (unsigned attempt = 0; pause_until(self, due_us); attempt++) {
        g_autoptr(GError) cause = NULL;
        Stream *stream;

        due_us = g_get_monotonic_time() + link_lane_get_retry_us(attempt);
        stream = self->connect(next_generation(self), get_left_ms(self),
                               self->cancellable, self->data, &cause);
        if (stream) {
            return stream;
        }
        if (is_gone(self, cause, &refused_since_us)) {
            g_propagate_prefixed_error(error, g_steal_pointer(&cause),
                                       "cannot be resumed: ");
            return NULL;
        }
    }
    return NULL;
}

/* ---- going on ------------------------------------------------------------------------ */

/* With the lock held: what we ask the peer to begin with. */
static void rewind_in(LinkMain *self)
{
    self->ack.control = self->control_in;
    self->first_ack = self->ack;
    self->first_ack_wanted = true;
    self->ack_wanted = false;
    for (unsigned i = 0; i < self->n_in; i++) {
        self->in[i].cursor = self->in[i].delivered;
        self->in[i].end_seen = false;
    }
}

/* With the lock held.  How long there was no connection, in ms. */
static unsigned install_locked(LinkMain *self, Stream *stream)
{
    int64_t down_us = g_get_monotonic_time() - self->down_since_us;

    self->wire_bytes_before += stream_get_wire_bytes_out(self->stream);
    self->stream = stream;
    rewind_in(self);
    for (unsigned i = 0; i < self->n_out; i++) {
        self->out[i].end_written = false;
    }
    self->synced = false;
    self->pong_wanted = false;
    self->next_ping_us = 0;
    self->down_before_us += down_us;
    self->resumes++;
    g_clear_error(&self->lost);
    self->up = true;
    g_cond_broadcast(&self->changed);
    return down_us / 1000;
}

/* Takes @stream; false: it is over meanwhile. */
static bool install(LinkMain *self, Stream *stream)
{
    Stream *unused = stream;
    g_autoptr(Stream) older = NULL;
    unsigned down_ms = 0;
    bool ok;

    g_mutex_lock(&self->lock);
    while (self->writing) {
        g_cond_wait(&self->changed, &self->lock);
    }
    ok = !link_main_is_over(self);
    if (ok && self->next_stream) {      /* handed in while we waited */
        older = stream;
        stream = g_steal_pointer(&self->next_stream);
    }
    if (ok) {
        unused = self->stream;
        stream_set_timeouts(stream, self->dead_ms, self->dead_ms);
        down_ms = install_locked(self, stream);
    }
    g_mutex_unlock(&self->lock);
    stream_free(unused);
    if (ok && self->outage_handler) {
        self->outage_handler(NULL, down_ms, self->data);
    }
    return ok;
}

/* *@error becomes why the connection is no good.  False: that ends the lane. */
static bool note_down(LinkMain *self, GError **error)
{
    /* Breaking the rules is no outage. */
    bool broken = (*error)->domain == STREAM_ERROR;
    bool ok;

    g_mutex_lock(&self->lock);
    ok = broken && !link_main_is_over(self) && outlives_connection(self);
    link_main_mark_down(self, g_error_copy(*error));
    if (broken) {
        g_error_free(*error);
        *error = g_error_copy(self->lost);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

bool link_main_resume(LinkMain *self, GError *error)
{
    GError *gone = NULL;
    Stream *stream;

    if (!note_down(self, &error)) {
        link_main_fail(self, error);
        return false;
    }
    stream_note_broken(self->stream, error);
    if (self->outage_handler) {
        self->outage_handler(error, 0, self->data);
    }
    stream = self->source_side ? connect_again(self, &gone) : wait_handed(self);
    if (stream) {
        g_error_free(error);
        return install(self, stream);
    }
    if (gone) {
        g_error_free(error);
        error = gone;
    } else {
        g_prefix_error(&error, "no connection for %u ms (outage budget): ",
                       self->budget_ms);
    }
    link_main_fail(self, error);
    return false;
}
