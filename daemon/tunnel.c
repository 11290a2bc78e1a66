/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tunnel.c - the listener of a tunnel, and who the next connection is for
 *
 * The first connection of a source makes a migration, the others join it.  When
 * that one is ending (its source or destination has gone, it failed), whoever
 * comes next belongs to the next migration, and waits until the old one is over.
 *
 * Except the old source's last channels: it connects them all before it hears that
 * the migration has failed, and then hangs up.  They must neither make a migration,
 * which would fail, nor join the next guest's.
 */
#include "daemon/tunnel.h"

#include <poll.h>
#include <unistd.h>

#include "daemon/listener.h"
#include "daemon/log.h"
#include "daemon/migration-tunnel.h"

enum {
    BACKLOG = 512,              /* main and all multifd channels in one burst */
    UNIX_MODE = 0660,
    OLD_ENDS_MS = 5000,
    OLD_SOURCE_HANGS_UP_MS = 100,   /* when we have closed its main channel */
};

struct Tunnel {
    Daemon *daemon;
    const ConfigTunnel *config;
    Address *address;
    Listener *listener;

    GMutex lock;                /* held while a migration is looked up or made;
                                   a migration's and the registry's come under it */
    GCond idle;
    bool used;                  /* there has been a migration */
    bool waiting;               /* somebody waits for the old one to end */
    Migration *current;         /* a reference; NULL: none yet */
};

/* Afterwards there is no migration, or one that accepts.  With the lock held, and
 * let go meanwhile. */
static void wait_old_ended(Tunnel *self)
{
    while (self->waiting) {
        g_cond_wait(&self->idle, &self->lock);
    }
    if (self->current && !migration_is_accepting(self->current)) {
        Migration *old = g_steal_pointer(&self->current);

        self->waiting = true;
        g_mutex_unlock(&self->lock);
        migration_wait_ended(old, OLD_ENDS_MS);
        migration_join(old);
        migration_unref(old);
        g_mutex_lock(&self->lock);
        self->waiting = false;
        g_cond_broadcast(&self->idle);
    }
}

/* This connection may be of a source whose migration is over. */
static bool may_be_late(Tunnel *self, const Arrival *arrival)
{
    bool joins = !self->waiting && self->current &&
                 migration_is_accepting(self->current);

    return self->used && !joins && arrival->kind != ARRIVAL_MAIN;
}

static bool hangs_up(const Stream *stream, unsigned timeout_ms)
{
    struct pollfd pollfd = {
        .fd = stream_get_fd(stream),
        .events = POLLRDHUP,
    };

    return poll(&pollfd, 1, timeout_ms) > 0;
}

/* The migration for the next connection; NULL without error: the connection is
 * of the old one's source.  With the lock held, and let go meanwhile. */
static Migration *get_current(Tunnel *self, const Arrival *arrival,
                              GError **error)
{
    bool late = may_be_late(self, arrival);

    wait_old_ended(self);
    if (late) {
        g_mutex_unlock(&self->lock);
        late = hangs_up(arrival->stream, OLD_SOURCE_HANGS_UP_MS);
        g_mutex_lock(&self->lock);
        if (late) {
            return NULL;
        }
        wait_old_ended(self);
    }
    if (!self->current) {
        self->current = migration_tunnel_start(self->daemon, self->config,
                                               self->listener, error);
        self->used = true;
    }
    return self->current;
}

/* A preempt channel comes only after its main channel. */
static Migration *get_joinable(Tunnel *self, GError **error)
{
    if (!self->current || !migration_is_accepting(self->current)) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_IO,
                    "it said nothing while its migration was there");
        return NULL;
    }
    return self->current;
}

static void drop_late_channel(const Tunnel *self, Arrival *arrival)
{
    log_info(NULL, "tunnel %s: channel %u from %s came when its migration was "
             "over, and has hung up", self->config->name, arrival->init.id,
             stream_get_peer(arrival->stream));
    stream_free(g_steal_pointer(&arrival->stream));
}

static bool take_arrival(Arrival *arrival, void *data, GError **error)
{
    Tunnel *self = data;
    g_autoptr(Migration) migration = NULL;
    GError *failure = NULL;

    g_mutex_lock(&self->lock);
    if (arrival->kind == ARRIVAL_PREEMPT) {
        migration = get_joinable(self, &failure);
    } else {
        migration = get_current(self, arrival, &failure);
    }
    if (migration) {
        migration_ref(migration);
    }
    g_mutex_unlock(&self->lock);
    if (failure) {
        g_propagate_error(error, failure);
        return false;
    }
    if (!migration) {
        drop_late_channel(self, arrival);
        return true;
    }
    return migration_take_arrival(migration, arrival, error);
}

static void refuse_connection(const GError *error, void *data)
{
    Tunnel *self = data;

    g_mutex_lock(&self->lock);
    if (self->current) {
        migration_refuse_connection(self->current, error);
    }
    g_mutex_unlock(&self->lock);
}

static bool may_be_preempt(void *data)
{
    Tunnel *self = data;
    bool may_be;

    g_mutex_lock(&self->lock);
    may_be = self->current && migration_may_be_preempt(self->current);
    g_mutex_unlock(&self->lock);
    return may_be;
}

static TlsCredentials *get_credentials(void *data)
{
    Tunnel *self = data;
    g_autoptr(GError) error = NULL;
    TlsCredentials *credentials =
        daemon_get_tunnel_credentials(self->daemon, self->config, true, &error);

    g_assert(credentials);      /* loaded by tunnel_new(), kept by reloads */
    return credentials;
}

static bool check_credentials(Tunnel *self, bool listen, GError **error)
{
    g_autoptr(TlsCredentials) credentials = NULL;

    if (!(listen ? self->config->listen_tls : self->config->tls)) {
        return true;
    }
    credentials = daemon_get_tunnel_credentials(self->daemon, self->config,
                                                listen, error);
    return credentials != NULL;
}

/* A tunnel that lets in whoever reaches it should not go unnoticed. */
static void warn_of_strangers(const Tunnel *self)
{
    if (self->config->listen_tls && !self->config->listen_tls_verify_client) {
        log_warning(NULL, "tunnel %s: listen-tls-verify-client=no: whoever "
                    "reaches %s can send a guest through it",
                    self->config->name, self->address->text);
    }
}

static bool start_listening(Tunnel *self, GError **error)
{
    g_autofree char *name = g_strdup_printf("tunnel %s", self->config->name);
    ListenerSetup setup = {
        .name = name,
        .get_credentials = self->config->listen_tls ? get_credentials : NULL,
        .tls_client = self->config->listen_tls_client,
        .handshake_ms = self->daemon->config->timeouts.handshake_ms,
        .first_bytes_ms = self->daemon->config->timeouts.first_bytes_ms,
        .handler = take_arrival,
        .refused = refuse_connection,
        .may_be_preempt = may_be_preempt,
        .data = self,
    };
    int fd = address_listen(self->config->listen, BACKLOG, UNIX_MODE, error);

    if (fd < 0) {
        return false;
    }
    self->address = address_of_listener(fd, error);
    if (!self->address) {
        close(fd);
        return false;
    }
    /* An intake thread may come at once: it waits for the listener's address. */
    g_mutex_lock(&self->lock);
    self->listener = listener_new(fd, &setup);
    g_mutex_unlock(&self->lock);
    return true;
}

Tunnel *tunnel_new(Daemon *daemon, const ConfigTunnel *tunnel, GError **error)
{
    Tunnel *self = g_new0(Tunnel, 1);

    self->daemon = daemon;
    self->config = tunnel;
    g_mutex_init(&self->lock);
    g_cond_init(&self->idle);
    if (!check_credentials(self, true, error) ||
        !check_credentials(self, false, error) ||
        !start_listening(self, error)) {
        g_prefix_error(error, "tunnel %s: ", tunnel->name);
        tunnel_free(self);
        return NULL;
    }
    warn_of_strangers(self);
    return self;
}

void tunnel_free(Tunnel *self)
{
    if (!self) {
        return;
    }
    if (self->address && self->address->kind == ADDRESS_UNIX) {
        unlink(self->address->host);
    }
    listener_free(self->listener);
    if (self->current) {
        migration_join(self->current);
    }
    migration_unref(self->current);
    address_free(self->address);
    g_cond_clear(&self->idle);
    g_mutex_clear(&self->lock);
    g_free(self);
}

const Address *tunnel_get_address(const Tunnel *self)
{
    return self->address;
}

const char *tunnel_get_name(const Tunnel *self)
{
    return self->config->name;
}
