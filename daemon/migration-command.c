/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-command.c - what is asked of a migration that runs
 *
 * Any thread may ask.  What its own thread has to do is posted to it.
 */
#include "daemon/migration-private.h"

/* Nobody can go back then: neither end has the whole guest. */
static bool is_in_postcopy(Migration *self)
{
    ExchangeSnapshot now = { 0 };

    if (self->exchange) {
        exchange_get_snapshot(self->exchange, &now);
    }
    return now.postcopy && !now.shut;
}

bool migration_cancel(Migration *self, GError **error)
{
    Message *message;
    bool late, setting_up;

    g_mutex_lock(&self->lock);
    if (is_in_postcopy(self)) {
        g_mutex_unlock(&self->lock);
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s (%s): got cancel in postcopy, allowed only "
                    "before it: the guest is at both ends; QMP `migrate-pause` "
                    "at the source QEMU interrupts it", self->id, self->name);
        return false;
    }
    late = self->taken_over || migration_state_is_final(self->state);
    setting_up = self->state == MIGRATION_SETUP;
    self->cancel_asked = self->cancel_asked || !late;
    g_mutex_unlock(&self->lock);
    if (late) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s (%s): got cancel in state '%s', allowed "
                    "until the destination has taken over", self->id,
                    self->name,
                    migration_state_to_string(migration_get_state(self)));
        return false;
    }
    message = g_new0(Message, 1);
    message->kind = MESSAGE_CANCEL;
    migration_post(self, message);
    if (setting_up) {
        g_cancellable_cancel(self->cancellable);
    }
    return true;
}

void migration_hurry(Migration *self)
{
    g_cancellable_cancel(self->hurry);
    migration_post(self, g_new0(Message, 1));   /* MESSAGE_NOTHING: look again */
}

bool migration_start_postcopy(Migration *self, GError **error)
{
    Message *message;
    bool takes;

    g_mutex_lock(&self->lock);
    takes = self->takes_postcopy && !is_in_postcopy(self) &&
            !migration_state_is_final(self->state);
    g_mutex_unlock(&self->lock);
    if (!takes) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s (%s): got migrate-start-postcopy in state "
                    "'%s', allowed only in a managed migration that was begun "
                    "with 'postcopy', at its source, until it is in it",
                    self->id, self->name,
                    migration_state_to_string(migration_get_state(self)));
        return false;
    }
    message = g_new0(Message, 1);
    message->kind = MESSAGE_START_POSTCOPY;
    migration_post(self, message);
    return true;
}

static bool check_paced_here(Migration *self, const char *what, GError **error)
{
    MigrationState state = migration_get_state(self);

    if (migration_state_is_final(state)) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s is over: %s", self->id,
                    migration_state_to_string(state));
        return false;
    }
    if (self->role == MIGRATION_DESTINATION) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "migration %s: its %s is set at the source's daemon, "
                    "peer %s", self->id, what, self->peer->name);
        return false;
    }
    return true;
}

bool migration_set_rate(Migration *self, uint64_t rate_bytes_per_s,
                        GError **error)
{
    if (!check_paced_here(self, "rate", error)) {
        return false;
    }
    limiter_set_rate(self->limiter, rate_bytes_per_s);
    return true;
}

bool migration_set_weight(Migration *self, unsigned weight, GError **error)
{
    if (!check_paced_here(self, "weight", error)) {
        return false;
    }
    limiter_set_weight(self->limiter, weight);
    return true;
}
