/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/migration-lanes.h"

#include "daemon/link-path.h"

enum {
    AUTO_FIRST = 4,
    /* A connection that breaks off in its handshake is a stranger's to the peer, who
     * warns of it: one that is not needed gets so long to say whose it is. */
    POLITE_MS = 700,
};

typedef struct {
    MigrationLanes *all;
    unsigned number;
    Stream *stream;             /* NULL: did not come */
    GError *error;
    GThread *thread;            /* NULL: joined */
} Connecting;

struct MigrationLanes {
    Migration *migration;       /* lent */
    GCancellable *cancellable;
    gulong follows;             /* the migration's own */
    unsigned generation;
    unsigned n;
    Connecting *lanes;

    GMutex lock;                /* guards all below; a leaf */
    GCond ended;
    unsigned running;           /* threads */
};

void migration_lanes_introduce(const Migration *migration, LinkHello *hello)
{
    hello->version = LINK_VERSION;
    g_strlcpy(hello->daemon, migration->config->name, sizeof(hello->daemon));
    g_strlcpy(hello->migration, migration->id, sizeof(hello->migration));
    memcpy(hello->instance, migration->daemon->instance, sizeof(LinkInstance));
    memcpy(hello->expected, migration->far.instance, sizeof(LinkInstance));
}

Stream *migration_lanes_connect(Migration *migration, LinkHello hello,
                                const ConfigTimeouts *timeouts,
                                GCancellable *cancellable,
                                LinkAnswer *ret_answer, GError **error)
{
    g_autoptr(TlsCredentials) credentials =
        daemon_get_link_credentials(migration->daemon, migration->config, error);

    if (!credentials) {
        return NULL;
    }
    migration_lanes_introduce(migration, &hello);
    return link_lane_connect(migration->peer, credentials, timeouts, &hello,
                             migration->daemon->peer_status, cancellable,
                             ret_answer, error);
}

static void *connect_thread(void *data)
{
    Connecting *self = data;
    Migration *migration = self->all->migration;
    LinkHello hello = {
        .role = LINK_ROLE_BULK,
        .lane = self->number,
        .generation = self->all->generation,
    };

    self->stream = migration_lanes_connect(migration, hello,
                                           &migration->config->timeouts,
                                           self->all->cancellable, NULL,
                                           &self->error);
    g_mutex_lock(&self->all->lock);
    self->all->running--;
    g_cond_broadcast(&self->all->ended);
    g_mutex_unlock(&self->all->lock);
    return NULL;
}

static void begin(MigrationLanes *self)
{
    self->running = self->n;
    for (unsigned i = 0; i < self->n; i++) {
        g_clear_error(&self->lanes[i].error);
        self->lanes[i] = (Connecting) { .all = self, .number = i };
        self->lanes[i].thread = g_thread_new("connect", connect_thread,
                                             &self->lanes[i]);
    }
}

/* True: one has come at least. */
static bool join(MigrationLanes *self)
{
    bool any = false;

    for (unsigned i = 0; i < self->n; i++) {
        if (self->lanes[i].thread) {
            g_thread_join(g_steal_pointer(&self->lanes[i].thread));
        }
        any |= self->lanes[i].stream != NULL;
    }
    return any;
}

static void cancel(GCancellable *cancellable G_GNUC_UNUSED, void *own)
{
    g_cancellable_cancel(own);
}

/* With several paths each has one. */
unsigned migration_lanes_get_first(const Migration *migration, unsigned lanes)
{
    const ConfigPeer *peer = migration->peer;

    return lanes != CONFIG_LANES_AUTO ? lanes
        : MIN(MAX((unsigned)AUTO_FIRST, link_path_get_count(peer)),
              peer->lanes_max);
}

MigrationLanes *migration_lanes_begin(Migration *migration, unsigned lanes)
{
    MigrationLanes *self = g_new0(MigrationLanes, 1);

    self->migration = migration;
    self->cancellable = g_cancellable_new();
    g_mutex_init(&self->lock);
    g_cond_init(&self->ended);
    self->n = migration_lanes_get_first(migration, lanes);
    self->lanes = g_new0(Connecting, self->n);
    self->follows = g_cancellable_connect(migration->cancellable,
                                          G_CALLBACK(cancel), self->cancellable,
                                          NULL);
    begin(self);
    return self;
}

GPtrArray *migration_lanes_finish(MigrationLanes *self, unsigned *ret_generation,
                                  GError **error)
{
    GPtrArray *streams;

    /* A peer that was long to prepare has not waited for them. */
    if (!join(self) && !g_cancellable_is_cancelled(self->cancellable)) {
        self->generation++;
        begin(self);
    }
    if (!join(self)) {
        g_propagate_prefixed_error(error,
                                   g_steal_pointer(&self->lanes[0].error),
                                   "lane 0: ");
        return NULL;
    }
    streams = g_ptr_array_new();
    for (unsigned i = 0; i < self->n; i++) {
        if (self->lanes[i].error) {
            log_warning(NULL, "%s; is tried again", self->lanes[i].error->message);
        }
        g_ptr_array_add(streams, g_steal_pointer(&self->lanes[i].stream));
    }
    *ret_generation = self->generation;
    return streams;
}

static void wait_politely(MigrationLanes *self)
{
    int64_t until_us = g_get_monotonic_time() + POLITE_MS * 1000LL;

    g_mutex_lock(&self->lock);
    while (self->running > 0 &&
           g_cond_wait_until(&self->ended, &self->lock, until_us)) {
    }
    g_mutex_unlock(&self->lock);
}

void migration_lanes_free(MigrationLanes *self)
{
    if (!self) {
        return;
    }
    wait_politely(self);
    g_cancellable_disconnect(self->migration->cancellable, self->follows);
    g_cancellable_cancel(self->cancellable);
    join(self);
    for (unsigned i = 0; i < self->n; i++) {
        stream_free(self->lanes[i].stream);
        g_clear_error(&self->lanes[i].error);
    }
    g_object_unref(self->cancellable);
    g_cond_clear(&self->ended);
    g_mutex_clear(&self->lock);
    g_free(self->lanes);
    g_free(self);
}
