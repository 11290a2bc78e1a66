/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tunnel.c - the listener of a tunnel, and who the next connection is for
 *
 * The first connection of a source makes a migration, the others join it.  When
 * that one is ending (its source or destination has gone, it failed), whoever
 * comes next belongs to the next migration, and waits until the old one is over.
 *
 * What it listens with never changes; a reload may give it another destination and
 * other rates, for its next migration.  One that is to go takes no other migration,
 * but all connections of the one it has.
 *
 * Except the old source's last channels: it connects them all before it hears that
 * the migration has failed, and then hangs up.  They must neither make a migration,
 * which would fail, nor join the next guest's.  So a channel that comes then has a
 * moment to hang up.  That is a guess at what its host needs to see our FIN; where it
 * is too short, the next migration has a channel too many and fails, with its guest
 * still at the source.
 */
#include "daemon/tunnel.h"

#include <fcntl.h>
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
    Daemon *daemon;             /* these are constant */
    Config *origin;             /* a reference: has the next */
    const ConfigTunnel *listening;      /* by which its listener works */
    Address *address;
    int fd;                     /* the listening socket; -1: handed on */
    int listener_fd;            /* the same, for the listener; -1: it has it */
    Listener *listener;         /* NULL: not started */

    GMutex lock;                /* guards all below; held while a migration is looked
                                   up or made; a migration's and the registry's
                                   come under it */
    GCond idle;
    Config *config;             /* a reference: has the next */
    const ConfigTunnel *tunnel; /* of the next migration */
    bool retired;               /* there is to be no next migration */
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
    if (!self->current && self->retired) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_IO,
                    "the configuration has no tunnel %s any more that listens "
                    "as this one does", self->listening->name);
    } else if (!self->current) {
        self->current = migration_tunnel_start(self->daemon, self->config,
                                               self->tunnel, self->listener,
                                               error);
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
             "over, and has hung up", self->listening->name, arrival->init.id,
             stream_get_peer(arrival->stream));
    stream_free(g_steal_pointer(&arrival->stream));
}

static bool take_arrival(Arrival *arrival, void *data, GError **error)
{
    Tunnel *self = data;
    g_autoptr(Migration) migration = NULL;
    GError *failure = NULL;

    g_mutex_lock(&self->lock);
    if (self->current && migration_hold_channel(self->current, arrival)) {
        g_mutex_unlock(&self->lock);
        return true;
    }
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
        daemon_get_tunnel_credentials(self->daemon, self->origin,
                                      self->listening, true, &error);

    g_assert(credentials);      /* loaded by tunnel_new(), kept by reloads */
    return credentials;
}

static bool check_leg(Daemon *daemon, const Config *config,
                      const ConfigTunnel *tunnel, bool listen, GError **error)
{
    g_autoptr(TlsCredentials) credentials = NULL;

    if (!(listen ? tunnel->listen_tls : tunnel->tls)) {
        return true;
    }
    credentials = daemon_get_tunnel_credentials(daemon, config, tunnel, listen,
                                                error);
    return credentials != NULL;
}

bool tunnel_check(Daemon *daemon, const Config *config,
                  const ConfigTunnel *tunnel, GError **error)
{
    if (!check_leg(daemon, config, tunnel, true, error) ||
        !check_leg(daemon, config, tunnel, false, error)) {
        g_prefix_error(error, "tunnel %s: ", tunnel->name);
        return false;
    }
    return true;
}

/* A tunnel that lets in whoever reaches it should not go unnoticed. */
static void warn_of_strangers(const Tunnel *self)
{
    if (self->listening->listen_tls && !self->listening->listen_tls_verify_client) {
        log_warning(NULL, "tunnel %s: listen-tls-verify-client=no: whoever "
                    "reaches %s can send a guest through it",
                    self->listening->name, self->address->text);
    }
}

/* ---- reload ---------------------------------------------------------------------- */

bool tunnel_listens_for(const Tunnel *self, const ConfigTunnel *tunnel)
{
    const Address *address = self->listening->listen;

    if (strcmp(address->text, tunnel->listen->text) != 0) {
        return false;
    }
    /* Port 0 is another port for each tunnel. */
    return address->kind != ADDRESS_TCP || address->port != 0 ||
           strcmp(self->listening->name, tunnel->name) == 0;
}

static bool listens_with_same_tls(const ConfigTunnel *a, const ConfigTunnel *b)
{
    if (!a->listen_tls || !b->listen_tls) {
        return a->listen_tls == b->listen_tls;
    }
    return a->listen_tls_verify_client == b->listen_tls_verify_client &&
           g_strcmp0(a->listen_tls_client, b->listen_tls_client) == 0 &&
           g_strcmp0(a->tls_directory, b->tls_directory) == 0 &&
           a->tls_psk == b->tls_psk;
}

bool tunnel_can_become(const Tunnel *self, const Config *config,
                       const ConfigTunnel *tunnel)
{
    const ConfigTimeouts *own = &self->origin->timeouts;
    const ConfigTimeouts *next = &config->timeouts;

    return strcmp(self->listening->name, tunnel->name) == 0 &&
           listens_with_same_tls(self->listening, tunnel) &&
           own->handshake_ms == next->handshake_ms &&
           own->first_bytes_ms == next->first_bytes_ms;
}

void tunnel_become(Tunnel *self, Config *config, const ConfigTunnel *tunnel)
{
    Config *old;

    g_mutex_lock(&self->lock);
    old = self->config;
    self->config = config_ref(config);
    self->tunnel = tunnel;
    g_mutex_unlock(&self->lock);
    config_unref(old);
}

void tunnel_retire(Tunnel *self)
{
    g_mutex_lock(&self->lock);
    self->retired = true;
    g_mutex_unlock(&self->lock);
}

bool tunnel_is_idle(Tunnel *self)
{
    bool idle;

    g_mutex_lock(&self->lock);
    idle = !self->waiting &&
           (!self->current || migration_wait_ended(self->current, 0));
    g_mutex_unlock(&self->lock);
    return idle;
}

int tunnel_take_socket(Tunnel *self)
{
    int fd = self->fd;

    self->fd = -1;
    return fd;
}

/* ---- life ------------------------------------------------------------------------ */

/* Its own listening socket, or @fd. */
static bool bind_socket(Tunnel *self, int fd, GError **error)
{
    self->fd = fd >= 0 ? fd : address_listen(self->listening->listen, BACKLOG,
                                             UNIX_MODE, error);
    if (self->fd < 0) {
        return false;
    }
    self->listener_fd = fcntl(self->fd, F_DUPFD_CLOEXEC, 0);
    if (self->listener_fd < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "%s",
                    g_strerror(errno));
        return false;
    }
    self->address = address_of_listener(self->fd, error);
    return self->address != NULL;
}

Tunnel *tunnel_new(Daemon *daemon, Config *config, const ConfigTunnel *tunnel,
                   int fd, GError **error)
{
    Tunnel *self = g_new0(Tunnel, 1);

    self->daemon = daemon;
    self->fd = self->listener_fd = -1;
    self->origin = config_ref(config);
    self->config = config_ref(config);
    self->listening = self->tunnel = tunnel;
    g_mutex_init(&self->lock);
    g_cond_init(&self->idle);
    if (!bind_socket(self, fd, error)) {
        g_prefix_error(error, "tunnel %s: ", tunnel->name);
        tunnel_free(self);
        return NULL;
    }
    return self;
}

void tunnel_start(Tunnel *self)
{
    g_autofree char *name = g_strdup_printf("tunnel %s", self->listening->name);
    ListenerSetup setup = {
        .name = name,
        .get_credentials = self->listening->listen_tls ? get_credentials : NULL,
        .tls_client = self->listening->listen_tls_client,
        .handshake_ms = self->origin->timeouts.handshake_ms,
        .first_bytes_ms = self->origin->timeouts.first_bytes_ms,
        .handler = take_arrival,
        .refused = refuse_connection,
        .may_be_preempt = may_be_preempt,
        .data = self,
    };

    /* An intake thread may come at once: it waits for the listener's address. */
    g_mutex_lock(&self->lock);
    self->listener = listener_new(self->listener_fd, &setup);
    self->listener_fd = -1;
    g_mutex_unlock(&self->lock);
    log_info(LOG_ABOUT(LOG_EVENT_LISTENING), "tunnel %s: listening at %s",
             self->listening->name, self->address->text);
    warn_of_strangers(self);
}

static void close_socket(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

void tunnel_free(Tunnel *self)
{
    if (!self) {
        return;
    }
    if (self->fd >= 0 && self->address && self->address->kind == ADDRESS_UNIX) {
        unlink(self->address->host);
    }
    listener_free(self->listener);
    if (self->current) {
        migration_join(self->current);
    }
    migration_unref(self->current);
    close_socket(self->fd);
    close_socket(self->listener_fd);
    address_free(self->address);
    config_unref(self->config);
    config_unref(self->origin);
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
    return self->listening->name;
}
