/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-watch.h"

#include <gio/gio.h>
#include <unistd.h>

#include "daemon/link-path.h"
#include "daemon/log.h"
#include "wire/link-frame.h"

enum {
    LOOK_MS = 250,
    SUSPECT_MS = 1000,          /* without a word while TCP sends again */
    PROBE_MS = 500,             /* for a connection; now and then as long as ... */
    PROBE_LONG_MS = 2000,
    PROBE_LONG_EVERY = 4,
    PROOF_MS = 3000,            /* a path that was good is so for that long */
    GRACE_MS = 300,             /* for the lane itself, once its path is good */
    HOME_MIN_MS = 5000,         /* from leaving a path to trying to go back, ... */
    HOME_MAX_MS = 300 * 1000,   /* ... and at most, after many failures */
    HOME_APART_MS = 500,        /* between two lanes that go back */
    HOME_STAYS_MS = 30 * 1000,  /* who is back for that long has not failed */
};

typedef struct {
    /* For suspicions. */
    int64_t probe_us;           /* the next one, not before */
    int64_t proved_us;          /* a connection was had; 0: not of late */
    unsigned n_probes;          /* in vain, one after the other */
    /* For going home. */
    int64_t home_us;            /* not before; 0: nobody wants to */
    int64_t came_us;            /* the last lane that went back */
    unsigned home_wait_ms;
} Path;

struct LinkWatch {
    LinkWatchSetup setup;       /* constant */
    unsigned n_paths;
    GCancellable *cancellable;
    GThread *thread;
    Path *paths;                /* the thread's */
    bool back[LINK_LANES_MAX];  /* likewise: it was sent home */

    GMutex lock;                /* guards the next one; a leaf */
    GCond changed;
    bool stopping;
};

static int64_t ms_from_now(unsigned ms)
{
    return g_get_monotonic_time() + ms * 1000LL;
}

static bool probe(LinkWatch *self, unsigned path, unsigned timeout_ms)
{
    int fd = link_path_connect(self->setup.peer, path, timeout_ms,
                               self->cancellable, NULL);

    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

/* ---- suspicion -------------------------------------------------------------------- */

static void prove(LinkWatch *self, unsigned number)
{
    Path *path = &self->paths[number];
    bool is_long;

    if (g_get_monotonic_time() < path->probe_us) {
        return;
    }
    is_long = ++path->n_probes % PROBE_LONG_EVERY == 0;
    path->probe_us = ms_from_now(PROBE_MS);
    if (probe(self, number, is_long ? PROBE_LONG_MS : PROBE_MS)) {
        path->proved_us = g_get_monotonic_time();
        path->n_probes = 0;
    }
}

/* The path was seen to be good, and the lane has heard nothing all the time since. */
static bool is_convicted(const Path *path, const LinkWatchLane *lane)
{
    int64_t since_us = g_get_monotonic_time() - path->proved_us;

    return since_us >= (lane->patience_ms + GRACE_MS) * 1000LL &&
           lane->stuck_ms * 1000LL > since_us;
}

static void suspect(LinkWatch *self, int lane, const LinkWatchLane *now)
{
    Path *path = &self->paths[now->path];

    if (path->proved_us > 0 &&
        g_get_monotonic_time() - path->proved_us > PROOF_MS * 1000LL) {
        path->proved_us = 0;
    }
    if (path->proved_us == 0) {
        prove(self, now->path);
    } else if (is_convicted(path, now)) {
        log_info(NULL, "link to %s: a lane has heard nothing for %u ms, and its "
                 "path is good: it is made anew", self->setup.peer->name,
                 now->stuck_ms);
        self->setup.remake_lane(lane, false, self->setup.data);
    }
}

/* ---- home ------------------------------------------------------------------------- */

static void wait_longer(Path *path)
{
    path->home_us = ms_from_now(path->home_wait_ms);
    path->home_wait_ms = MIN(path->home_wait_ms * 2, (unsigned)HOME_MAX_MS);
}

/* It is away, and was there before: soon after it had gone back, or long. */
static void note_away(LinkWatch *self, int lane, Path *path)
{
    bool failed = self->back[lane] &&
                  g_get_monotonic_time() - path->came_us < HOME_STAYS_MS * 1000LL;

    if (!failed && path->home_us > 0) {
        return;
    }
    if (!failed) {
        path->home_wait_ms = HOME_MIN_MS;
    }
    self->back[lane] = false;
    wait_longer(path);
}

static void go_home(LinkWatch *self, int lane)
{
    unsigned number = link_path_choose(self->setup.peer, lane, 0);
    Path *path = &self->paths[number];

    note_away(self, lane, path);
    if (g_get_monotonic_time() < path->home_us ||
        !self->setup.may_move(self->setup.data)) {
        return;
    }
    if (!probe(self, number, PROBE_LONG_MS)) {
        wait_longer(path);
        return;
    }
    log_info(NULL, "link to %s: path %u is good again, bulk lane %d goes back to it",
             self->setup.peer->name, number + 1, lane);
    self->back[lane] = true;
    path->came_us = g_get_monotonic_time();
    path->home_us = ms_from_now(HOME_APART_MS);
    self->setup.remake_lane(lane, true, self->setup.data);
}

/* All are where they belong: the next one that leaves begins anew. */
static void note_home(LinkWatch *self, int lane)
{
    Path *path = &self->paths[link_path_choose(self->setup.peer, lane, 0)];

    if (self->back[lane] &&
        g_get_monotonic_time() - path->came_us >= HOME_STAYS_MS * 1000LL) {
        self->back[lane] = false;
        path->home_us = 0;
    }
}

/* ---- the thread ------------------------------------------------------------------- */

static void look_at(LinkWatch *self, int lane, const LinkWatchLane *now)
{
    if (!now->up || now->path >= self->n_paths) {
        return;
    }
    if (now->stuck_ms >= SUSPECT_MS) {
        suspect(self, lane, now);
    } else if (lane != LINK_WATCH_MAIN && self->n_paths > 1) {
        if (now->path == link_path_choose(self->setup.peer, lane, 0)) {
            note_home(self, lane);
        } else {
            go_home(self, lane);
        }
    }
}

static bool pause_for(LinkWatch *self, unsigned ms)
{
    int64_t until_us = ms_from_now(ms);
    bool ok;

    g_mutex_lock(&self->lock);
    while (!self->stopping &&
           g_cond_wait_until(&self->changed, &self->lock, until_us)) {
    }
    ok = !self->stopping;
    g_mutex_unlock(&self->lock);
    return ok;
}

static void *watch_thread(void *data)
{
    LinkWatch *self = data;
    LinkWatchLane now;

    while (pause_for(self, LOOK_MS)) {
        for (int lane = LINK_WATCH_MAIN; lane < LINK_LANES_MAX; lane++) {
            if (!self->setup.get_lane(lane, &now, self->setup.data)) {
                break;
            }
            look_at(self, lane, &now);
        }
    }
    return NULL;
}

LinkWatch *link_watch_new(const LinkWatchSetup *setup)
{
    LinkWatch *self = g_new0(LinkWatch, 1);

    self->setup = *setup;
    self->n_paths = link_path_get_count(setup->peer);
    self->paths = g_new0(Path, self->n_paths);
    self->cancellable = g_cancellable_new();
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    self->thread = g_thread_new("link-watch", watch_thread, self);
    return self;
}

void link_watch_shutdown(LinkWatch *self)
{
    g_mutex_lock(&self->lock);
    self->stopping = true;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    g_cancellable_cancel(self->cancellable);
}

void link_watch_free(LinkWatch *self)
{
    if (!self) {
        return;
    }
    link_watch_shutdown(self);
    g_thread_join(self->thread);
    g_object_unref(self->cancellable);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
    g_free(self->paths);
    g_free(self);
}
