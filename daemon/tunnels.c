/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tunnels.c - from the tunnels there are to those that there are to be
 *
 * A tunnel is known by the address it listens at, because that is what there can be
 * only one of.  If the new configuration has a tunnel there under the same name, and
 * nothing changes for who connects, it takes over at once, from the next migration
 * on.  Otherwise the old one leaves: it keeps its address until its migration is over,
 * then hands the socket on to its successor, if there is one, so that nobody who
 * connects meanwhile is turned away by the kernel.
 */
#include "daemon/tunnels.h"

#include "daemon/log.h"

enum { SWEEP_MS = 200 };

typedef struct {
    Tunnel *tunnel;
    Config *config;             /* a reference: has the next */
    const ConfigTunnel *next;   /* its successor; NULL: none */
} Change;

struct Tunnels {
    Daemon *daemon;
    GPtrArray *active;          /* owns Tunnels */
    GPtrArray *leaving;         /* owns Changes, and their Tunnels */
    guint timer;                /* while some are leaving */

    Config *config;             /* a reference: that of the active; NULL at first */

    /* Between prepare and apply. */
    Config *next;               /* a reference */
    GPtrArray *fresh;           /* owns Tunnels, bound and not started */
};

static Change *change_new(Tunnel *tunnel, Config *config, const ConfigTunnel *next)
{
    Change *self = g_new(Change, 1);

    *self = (Change) { tunnel, config_ref(config), next };
    return self;
}

static void change_free(void *data)
{
    Change *self = data;

    tunnel_free(self->tunnel);
    config_unref(self->config);
    g_free(self);
}

/* ---- who is there ------------------------------------------------------------------ */

static bool is_taken(const Tunnels *self, const ConfigTunnel *tunnel)
{
    for (unsigned i = 0; i < self->active->len; i++) {
        if (tunnel_listens_for(g_ptr_array_index(self->active, i), tunnel)) {
            return true;
        }
    }
    for (unsigned i = 0; i < self->leaving->len; i++) {
        const Change *change = g_ptr_array_index(self->leaving, i);

        if (tunnel_listens_for(change->tunnel, tunnel)) {
            return true;
        }
    }
    return false;
}

/* Which of the new configuration is to listen where this one does. */
static const ConfigTunnel *find_next(const Config *config, const Tunnel *tunnel)
{
    for (unsigned i = 0; i < config->tunnels->len; i++) {
        const ConfigTunnel *next = g_ptr_array_index(config->tunnels, i);

        if (next->listen && tunnel_listens_for(tunnel, next)) {
            return next;
        }
    }
    return NULL;
}

/* ---- prepare ------------------------------------------------------------------------ */

static bool prepare_one(Tunnels *self, const ConfigTunnel *tunnel, GError **error)
{
    Tunnel *fresh;

    if (!tunnel_check(self->daemon, self->next, tunnel, error)) {
        return false;
    }
    if (!tunnel->listen || is_taken(self, tunnel)) {
        return true;
    }
    fresh = tunnel_new(self->daemon, self->next, tunnel, -1, error);
    if (fresh) {
        g_ptr_array_add(self->fresh, fresh);
    }
    return fresh != NULL;
}

bool tunnels_prepare(Tunnels *self, Config *config, GError **error)
{
    self->next = config_ref(config);
    for (unsigned i = 0; i < config->tunnels->len; i++) {
        if (!prepare_one(self, g_ptr_array_index(config->tunnels, i), error)) {
            tunnels_abandon(self);
            return false;
        }
    }
    return true;
}

void tunnels_abandon(Tunnels *self)
{
    g_ptr_array_set_size(self->fresh, 0);
    g_clear_pointer(&self->next, config_unref);
}

/* ---- apply -------------------------------------------------------------------------- */

static bool is_clear_text(const ConfigTunnel *tunnel)
{
    g_autoptr(GInetAddress) address = NULL;

    if (!tunnel->connect || tunnel->tls ||
        tunnel->connect->kind != ADDRESS_TCP) {
        return false;
    }
    address = g_inet_address_new_from_string(tunnel->connect->host);
    return !(address && g_inet_address_get_is_loopback(address)) &&
           strcmp(tunnel->connect->host, "localhost") != 0;
}

/* Not of what was so before. */
static void warn_of_clear_text(const Tunnels *self, const ConfigTunnel *tunnel)
{
    const ConfigTunnel *before =
        self->config ? config_find_tunnel(self->config, tunnel->name) : NULL;

    if (is_clear_text(tunnel) &&
        !(before && is_clear_text(before) &&
          strcmp(before->connect->text, tunnel->connect->text) == 0)) {
        log_warning(LOG_ABOUT(LOG_EVENT_CLEAR_TEXT), "tunnel %s: sends the guest's memory to %s in the "
                    "clear; tls=yes encrypts it", tunnel->name,
                    tunnel->connect->text);
    }
}

static void start(Tunnels *self, Tunnel *tunnel)
{
    tunnel_start(tunnel);
    g_ptr_array_add(self->active, tunnel);
}

/* It is idle, and nobody can come any more. */
static void replace(Tunnels *self, Change *change)
{
    int fd = change->next ? tunnel_take_socket(change->tunnel) : -1;
    g_autoptr(GError) error = NULL;
    Tunnel *next;

    log_info(NULL, "tunnel %s: not listening at %s any more",
             tunnel_get_name(change->tunnel),
             tunnel_get_address(change->tunnel)->text);
    g_clear_pointer(&change->tunnel, tunnel_free);
    if (!change->next) {
        return;
    }
    next = tunnel_new(self->daemon, change->config, change->next, fd, &error);
    if (next) {
        start(self, next);
    } else {
        log_error(LOG_ABOUT(LOG_EVENT_RELOAD_FAILED), "reload: %s", error->message);
    }
}

static gboolean sweep(void *data)
{
    Tunnels *self = data;

    for (unsigned i = self->leaving->len; i > 0; i--) {
        Change *change = g_ptr_array_index(self->leaving, i - 1);

        if (tunnel_is_idle(change->tunnel)) {
            replace(self, change);
            g_ptr_array_remove_index(self->leaving, i - 1);
        }
    }
    if (self->leaving->len > 0) {
        return G_SOURCE_CONTINUE;
    }
    self->timer = 0;
    return G_SOURCE_REMOVE;
}

static void leave(Tunnels *self, unsigned index, const ConfigTunnel *next)
{
    Tunnel *tunnel = g_ptr_array_steal_index(self->active, index);

    tunnel_retire(tunnel);
    g_ptr_array_add(self->leaving, change_new(tunnel, self->next, next));
}

static void change_active(Tunnels *self)
{
    for (unsigned i = self->active->len; i > 0; i--) {
        Tunnel *tunnel = g_ptr_array_index(self->active, i - 1);
        const ConfigTunnel *next = find_next(self->next, tunnel);

        if (next && tunnel_can_become(tunnel, self->next, next)) {
            tunnel_become(tunnel, self->next, next);
        } else {
            leave(self, i - 1, next);
        }
    }
}

static void change_leaving(Tunnels *self)
{
    for (unsigned i = 0; i < self->leaving->len; i++) {
        Change *change = g_ptr_array_index(self->leaving, i);

        config_unref(change->config);
        change->config = config_ref(self->next);
        change->next = find_next(self->next, change->tunnel);
    }
}

void tunnels_apply(Tunnels *self)
{
    for (unsigned i = 0; i < self->next->tunnels->len; i++) {
        warn_of_clear_text(self, g_ptr_array_index(self->next->tunnels, i));
    }
    change_leaving(self);
    change_active(self);
    while (self->fresh->len > 0) {
        start(self, g_ptr_array_steal_index(self->fresh, 0));
    }
    g_clear_handle_id(&self->timer, g_source_remove);
    if (sweep(self) == G_SOURCE_CONTINUE) {
        self->timer = g_timeout_add(SWEEP_MS, sweep, self);
    }
    config_unref(self->config);
    self->config = g_steal_pointer(&self->next);
}

/* ---- life ---------------------------------------------------------------------------- */

Tunnels *tunnels_new(Daemon *daemon)
{
    Tunnels *self = g_new0(Tunnels, 1);

    self->daemon = daemon;
    self->active = g_ptr_array_new_with_free_func((GDestroyNotify)tunnel_free);
    self->leaving = g_ptr_array_new_with_free_func(change_free);
    self->fresh = g_ptr_array_new_with_free_func((GDestroyNotify)tunnel_free);
    return self;
}

void tunnels_free(Tunnels *self)
{
    if (!self) {
        return;
    }
    g_clear_handle_id(&self->timer, g_source_remove);
    tunnels_abandon(self);
    config_unref(self->config);
    g_ptr_array_unref(self->fresh);
    g_ptr_array_unref(self->leaving);
    g_ptr_array_unref(self->active);
    g_free(self);
}

const GPtrArray *tunnels_list(const Tunnels *self)
{
    return self->active;
}
