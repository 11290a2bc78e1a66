/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-intake.c - connections that belong to a migration
 *
 * Called by intake threads, at any time: under the migration's lock its parts are
 * there, or it is over.
 */
#include "daemon/migration-private.h"

#include "daemon/ingress-link.h"
#include "daemon/ingress-qemu.h"

bool migration_take_arrival(Migration *self, Arrival *arrival, GError **error)
{
    bool ok = false;

    g_mutex_lock(&self->lock);
    if (self->ingress) {
        ok = ingress_qemu_take(self->ingress, arrival, error);
    } else {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s (%s) is over", self->id, self->name);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

bool migration_hold_channel(Migration *self, Arrival *arrival)
{
    bool held;

    g_mutex_lock(&self->lock);
    held = self->ingress && self->exchange && arrival->kind == ARRIVAL_CHANNEL &&
           exchange_ended_early(self->exchange) &&
           ingress_qemu_hold(self->ingress, arrival);
    g_mutex_unlock(&self->lock);
    return held;
}

bool migration_may_be_preempt(Migration *self)
{
    bool may_be;

    g_mutex_lock(&self->lock);
    may_be = self->exchange && exchange_preempt_is_possible(self->exchange);
    g_mutex_unlock(&self->lock);
    return may_be;
}

void migration_refuse_connection(Migration *self, const GError *error)
{
    g_mutex_lock(&self->lock);
    if (self->exchange) {
        exchange_refuse_connection(self->exchange, error);
    }
    g_mutex_unlock(&self->lock);
}

static bool check_lane_locked(const Migration *self, unsigned lane,
                              const ConfigPeer *peer, GError **error)
{
    if (migration_has_peer(self, peer) && self->ingress &&
        self->role == MIGRATION_DESTINATION) {
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                "lane %u: no migration %s of this peer takes lanes now",
                lane, self->id);
    return false;
}

static bool is_preparing(const Migration *self, const ConfigPeer *peer)
{
    return peer == self->peer && self->role == MIGRATION_DESTINATION &&
           !self->ingress && !self->final;
}

bool migration_check_lane(Migration *self, unsigned lane,
                          const ConfigPeer *peer, bool *ret_ended,
                          GError **error)
{
    int64_t until_us = g_get_monotonic_time() +
                       self->config->timeouts.handshake_ms * 1000LL;
    bool ok, waited = false;

    g_mutex_lock(&self->lock);
    while (is_preparing(self, peer)) {
        waited = true;
        if (!g_cond_wait_until(&self->prepared, &self->lock, until_us)) {
            break;
        }
    }
    *ret_ended = waited && !self->ingress;
    ok = !*ret_ended && check_lane_locked(self, lane, peer, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

bool migration_take_lane(Migration *self, Stream **stream, unsigned lane,
                         unsigned generation, const ConfigPeer *peer,
                         GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_lane_locked(self, lane, peer, error) &&
         ingress_link_take(self->ingress, *stream, lane, generation, error);
    if (ok) {
        *stream = NULL;
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

static bool check_main_locked(const Migration *self, const ConfigPeer *peer,
                              GError **error)
{
    if (migration_has_peer(self, peer) && self->role == MIGRATION_DESTINATION &&
        self->link) {
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                "no migration %s of this peer is to be resumed", self->id);
    return false;
}

bool migration_check_main(Migration *self, unsigned generation,
                          const ConfigPeer *peer, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_main_locked(self, peer, error) &&
         link_main_check_take(self->link, generation, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

bool migration_take_main(Migration *self, Stream **stream, unsigned generation,
                         const ConfigPeer *peer, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_main_locked(self, peer, error) &&
         link_main_take(self->link, *stream, generation, error);
    if (ok) {
        *stream = NULL;
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

bool migration_is_accepting(Migration *self)
{
    ExchangeSnapshot now = { .main_ended = true };
    g_autoptr(GError) error = NULL;

    g_mutex_lock(&self->lock);
    if (self->exchange) {
        exchange_get_snapshot(self->exchange, &now);
        error = exchange_get_error(self->exchange);
    }
    g_mutex_unlock(&self->lock);
    return !error && !now.main_ended && !now.return_ended;
}
