/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/acceptor.c - one accept thread, and an intake thread per connection
 *
 * The accept thread is also the one that cuts off who is slow: it polls until the
 * next deadline at most.  `pending` holds the intakes; an intake's stream is NULL
 * once it is identified, because from then on it may be freed by its new owner.
 */
#include "daemon/acceptor.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"

enum {
    ACCEPT_PAUSE_MS = 100,          /* when descriptors have run out */
    SETTLE_TIMES = 10,              /* of its time-out, while connections go on */
    CROWDED_SHARE = 10,             /* of the time to identify, when it is full */
};

struct Acceptor {
    AcceptorSetup setup;            /* constant, but identify_ms: atomic */
    char *name;
    int fd;
    int wake_fd;                    /* eventfd: look at the flags below */
    GThread *thread;

    GMutex lock;                    /* guards all below; a leaf */
    GCond changed;
    bool stopping;
    unsigned settles_wanted;        /* counts acceptor_settle() calls */
    unsigned settles_done;          /* backlog was empty after that many */
    GPtrArray *pending;             /* of AcceptorIntake; not owned */
};

struct AcceptorIntake {
    Acceptor *acceptor;
    Stream *stream;                 /* owned by its thread, once that runs */
    Stream *to_cut;                 /* the same until it is identified */
    bool cut;                       /* deadline, or stopping */
    int64_t deadline_us;
};

typedef enum { ACCEPTED_ALL, ACCEPTED_MAX, ACCEPT_FAILED } AcceptResult;

static unsigned get_identify_ms(Acceptor *self)
{
    return (unsigned)g_atomic_int_get((gint *)&self->setup.identify_ms);
}

void acceptor_set_identify(Acceptor *self, unsigned identify_ms)
{
    g_atomic_int_set((gint *)&self->setup.identify_ms, (gint)identify_ms);
}

static void wake(Acceptor *self)
{
    uint64_t one = 1;
    ssize_t n = write(self->wake_fd, &one, sizeof(one));

    g_assert(n == sizeof(one));
}

/* ---- one connection --------------------------------------------------------- */

bool acceptor_identified(AcceptorIntake *intake, GError **error)
{
    Acceptor *self = intake->acceptor;
    bool cut;

    g_mutex_lock(&self->lock);
    cut = intake->cut || self->stopping;
    intake->to_cut = NULL;
    g_mutex_unlock(&self->lock);
    if (cut) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_TIMEOUT,
                    "it did not say who it is in time");
    }
    return !cut;
}

static void cut_off(AcceptorIntake *intake)
{
    if (intake->to_cut) {
        stream_shutdown(intake->to_cut);
        intake->to_cut = NULL;
        intake->cut = true;
    }
}

/* Frees what is still there, then tells: the last thing a thread does to @self. */
static void end_intake(Acceptor *self, AcceptorIntake *intake)
{
    g_mutex_lock(&self->lock);
    intake->to_cut = NULL;
    g_mutex_unlock(&self->lock);
    stream_free(intake->stream);

    g_mutex_lock(&self->lock);
    g_ptr_array_remove_fast(self->pending, intake);
    wake(self);
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    g_free(intake);
}

/* Those that our own end cut off are no news. */
static void log_failure(AcceptorIntake *intake, const char *peer,
                        const GError *error)
{
    Acceptor *self = intake->acceptor;
    bool stopping, cut;

    g_mutex_lock(&self->lock);
    stopping = self->stopping;
    cut = intake->cut;
    g_mutex_unlock(&self->lock);
    if (cut && !stopping) {
        log_warning(LOG_ABOUT(LOG_EVENT_CONNECTION_REFUSED),
                    "%s: connection from %s: did not say who it is "
                    "within %u ms (a tenth of that in a crowd); closed it",
                    self->name, peer, get_identify_ms(self));
    } else if (!stopping) {
        /* A stream's own errors begin with the peer. */
        bool named = g_str_has_prefix(error->message, peer);

        log_warning(LOG_ABOUT(LOG_EVENT_CONNECTION_REFUSED),
                    "%s: connection from %s%s%s; closed it", self->name,
                    named ? "" : peer, named ? "" : ": ", error->message);
    }
}

static void *intake_thread(void *data)
{
    AcceptorIntake *intake = data;
    Acceptor *self = intake->acceptor;
    g_autofree char *peer = g_strdup(stream_get_peer(intake->stream));
    g_autoptr(GError) error = NULL;

    if (!self->setup.handler(intake, &intake->stream, self->setup.data,
                             &error) && error) {
        log_failure(intake, peer, error);
    }
    end_intake(self, intake);
    return NULL;
}

/* ---- accepting ------------------------------------------------------------- */

static void accept_one(Acceptor *self, int fd)
{
    AcceptorIntake *intake = g_new0(AcceptorIntake, 1);
    g_autoptr(GError) error = NULL;
    GThread *thread;

    intake->acceptor = self;
    intake->stream = intake->to_cut = stream_new(fd, NULL);
    intake->deadline_us = g_get_monotonic_time() +
                          get_identify_ms(self) * 1000LL;
    g_mutex_lock(&self->lock);
    g_ptr_array_add(self->pending, intake);
    g_mutex_unlock(&self->lock);
    thread = g_thread_try_new("intake", intake_thread, intake, &error);
    if (!thread) {
        log_error(NULL, "%s: %s", self->name, error->message);
        end_intake(self, intake);
        return;
    }
    g_thread_unref(thread);
}

static bool has_room(Acceptor *self)
{
    bool room;

    g_mutex_lock(&self->lock);
    room = self->pending->len < self->setup.pending_max;
    g_mutex_unlock(&self->lock);
    return room;
}

/* Until nobody waits in the backlog, or there is no room. */
static AcceptResult accept_all(Acceptor *self)
{
    while (has_room(self)) {
        int fd = accept4(self->fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0) {
            accept_one(self, fd);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return ACCEPTED_ALL;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            /* Out of descriptors, most likely: after a pause it may work again. */
            log_error(NULL, "%s: accept: %s", self->name, g_strerror(errno));
            return ACCEPT_FAILED;
        }
    }
    return ACCEPTED_MAX;
}

/*
 * Cut off whose time is over; when to look again, for poll().  In a crowd that
 * time is short, so that those who say nothing do not keep out who does.
 */
static int cut_off_late(Acceptor *self, bool crowded)
{
    int64_t early_us = crowded ? get_identify_ms(self) * 1000LL *
                                 (CROWDED_SHARE - 1) / CROWDED_SHARE : 0;
    int64_t now_us = g_get_monotonic_time() + early_us, next_us = INT64_MAX;

    g_mutex_lock(&self->lock);
    for (unsigned i = 0; i < self->pending->len; i++) {
        AcceptorIntake *intake = g_ptr_array_index(self->pending, i);

        if (intake->to_cut && intake->deadline_us <= now_us) {
            cut_off(intake);
        } else if (intake->to_cut) {
            next_us = MIN(next_us, intake->deadline_us);
        }
    }
    g_mutex_unlock(&self->lock);
    return next_us == INT64_MAX ? -1
           : (int)CLAMP((next_us - now_us) / 1000 + 1, 1, 60 * 1000);
}

static void wait_for_work(Acceptor *self, AcceptResult last)
{
    struct pollfd fds[2] = {
        { .fd = self->wake_fd, .events = POLLIN },
        { .fd = last == ACCEPTED_ALL ? self->fd : -1, .events = POLLIN },
    };
    int timeout_ms = cut_off_late(self, last == ACCEPTED_MAX);
    uint64_t count;

    if (last == ACCEPT_FAILED &&
        (timeout_ms < 0 || timeout_ms > ACCEPT_PAUSE_MS)) {
        timeout_ms = ACCEPT_PAUSE_MS;
    }
    poll(fds, G_N_ELEMENTS(fds), timeout_ms);
    if (fds[0].revents && read(self->wake_fd, &count, sizeof(count)) < 0) {
        g_assert(errno == EAGAIN || errno == EINTR);
    }
}

static void *accept_thread(void *data)
{
    Acceptor *self = data;
    AcceptResult result = ACCEPTED_ALL;

    for (;;) {
        bool stopping;
        unsigned wanted;

        wait_for_work(self, result);
        g_mutex_lock(&self->lock);
        stopping = self->stopping;
        wanted = self->settles_wanted;
        g_mutex_unlock(&self->lock);
        if (stopping) {
            return NULL;
        }
        result = accept_all(self);
        if (result == ACCEPTED_ALL) {
            g_mutex_lock(&self->lock);
            self->settles_done = wanted;
            g_cond_broadcast(&self->changed);
            g_mutex_unlock(&self->lock);
        }
    }
}

void acceptor_settle(Acceptor *self, unsigned timeout_ms)
{
    int64_t begin_us = g_get_monotonic_time();
    int64_t last_us = begin_us + timeout_ms * 1000LL * SETTLE_TIMES;
    int64_t deadline_us = begin_us + timeout_ms * 1000LL;
    unsigned mine;

    g_mutex_lock(&self->lock);
    mine = ++self->settles_wanted;
    wake(self);
    while (!self->stopping &&
           ((int)(self->settles_done - mine) < 0 || self->pending->len > 0)) {
        if (!g_cond_wait_until(&self->changed, &self->lock, deadline_us)) {
            break;
        }
        /* It moves, slowly: on a busy machine every thread waits for its turn. */
        deadline_us = MIN(last_us,
                          g_get_monotonic_time() + timeout_ms * 1000LL);
    }
    g_mutex_unlock(&self->lock);
}

/* ---- life ------------------------------------------------------------------- */

Acceptor *acceptor_new(int fd, const AcceptorSetup *setup)
{
    Acceptor *self = g_new0(Acceptor, 1);

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

void acceptor_free(Acceptor *self)
{
    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    self->stopping = true;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    wake(self);
    g_thread_join(self->thread);

    g_mutex_lock(&self->lock);
    for (unsigned i = 0; i < self->pending->len; i++) {
        cut_off(g_ptr_array_index(self->pending, i));
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
