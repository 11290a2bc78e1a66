/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/exchange-packets.c - multifd packets and SYNCs through the exchange
 *
 * Theory of operation: docs/architecture.md, "The exchange".  Two things keep it
 * from standing still.  A push waits for memory only in the open epoch, whose
 * packets the outbound channels are taking; a SYNC never waits for memory.  And
 * an outbound channel that waits for work is in the open epoch: were it in an
 * earlier one, a packet or its SYNC would be there for it.  So one signal for
 * one new packet is enough, and only the end of an epoch wakes everybody.
 */
#include "daemon/exchange-private.h"

#include "daemon/uuid.h"
#include "wire/error.h"

/* Epochs that may be closed and not yet written out: bounds what is kept per epoch. */
enum { EPOCHS_AHEAD_MAX = 4096 };

/* ---- joining ------------------------------------------------------------- */

static bool check_join(const Exchange *self, const MultifdInit *init,
                       GError **error)
{
    unsigned limit = self->channels_expected ? self->channels_expected
                                             : MULTIFD_CHANNELS_MAX;

    if (init->id >= limit) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "init packet: got channel id %u, allowed 0 to %u",
                    init->id, limit - 1);
        return false;
    }
    if (self->uuid_known &&
        memcmp(self->uuid, init->uuid, MULTIFD_UUID_SIZE) != 0) {
        g_autofree char *got = uuid_to_string(init->uuid);
        g_autofree char *want = uuid_to_string(self->uuid);

        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "init packet of channel %u: got uuid %s, expected %s",
                    init->id, got, want);
        return false;
    }
    for (unsigned i = 0; i < self->barrier.n_in; i++) {
        if (self->id_of_in[i] == init->id) {
            g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                        "init packet: channel id %u is already taken",
                        init->id);
            return false;
        }
    }
    return true;
}

/* As long as epoch 1 is open nothing of it has been called complete. */
static bool check_in_time(const Exchange *self, const MultifdInit *init,
                          GError **error)
{
    if (self->mode != EXCHANGE_MAIN_ONLY &&
        (!self->settled || self->barrier.closed <= 1)) {
        return true;
    }
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "init packet of channel %u: came after the migration had "
                "begun with %u multifd channels", init->id,
                self->barrier.n_in);
    return false;
}

static void join_locked(Exchange *self, const MultifdInit *init,
                        unsigned *ret_in, unsigned *ret_syncs_to_drop)
{
    *ret_syncs_to_drop = self->barrier.closed;
    *ret_in = epoch_barrier_add_in(&self->barrier, *ret_syncs_to_drop);
    self->id_of_in[*ret_in] = init->id;
    memcpy(self->uuid, init->uuid, MULTIFD_UUID_SIZE);
    self->uuid_known = true;
    if (self->mode == EXCHANGE_UNDECIDED) {
        exchange_decide_locked(self, EXCHANGE_MULTIFD);
    }
}

bool exchange_join(Exchange *self, const MultifdInit *init, unsigned *ret_in,
                   unsigned *ret_syncs_to_drop, GError **error)
{
    GError *late = NULL, *refused = NULL;
    bool ok, complete = false;

    g_mutex_lock(&self->lock);
    ok = check_join(self, init, &refused);
    if (ok && check_in_time(self, init, &late)) {
        join_locked(self, init, ret_in, ret_syncs_to_drop);
        complete = !self->settled &&
                   self->barrier.n_in == self->channels_expected;
    }
    g_mutex_unlock(&self->lock);
    if (!ok) {
        exchange_refuse_connection(self, refused);
        g_propagate_error(error, refused);
        return false;
    }
    if (late) {
        g_propagate_error(error, g_error_copy(late));
        exchange_fail(self, late);
        return false;
    }
    if (complete) {
        exchange_settle(self);
    }
    return true;
}

void exchange_refuse_connection(Exchange *self, const GError *error)
{
    bool setting_up;

    g_mutex_lock(&self->lock);
    setting_up = !self->settled && self->mode != EXCHANGE_MAIN_ONLY;
    g_mutex_unlock(&self->lock);
    if (setting_up) {
        exchange_fail(self, g_error_copy(error));
    }
}

/* Ids must be 0 to N - 1: a gap means that a channel is missing. */
static bool check_ids(const Exchange *self, GError **error)
{
    for (unsigned i = 0; i < self->barrier.n_in; i++) {
        if (self->id_of_in[i] >= self->barrier.n_in) {
            g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                        "multifd channels: got %u with an id %u; a "
                        "connection is missing", self->barrier.n_in,
                        self->id_of_in[i]);
            return false;
        }
    }
    return true;
}

static bool settle_locked(Exchange *self, GError **error)
{
    if (self->mode == EXCHANGE_UNDECIDED) {
        exchange_decide_locked(self, EXCHANGE_MAIN_ONLY);
        return true;
    }
    if (!check_ids(self, error)) {
        return false;
    }
    self->settled = true;
    g_cond_broadcast(&self->state);
    exchange_try_close_locked(self);
    return true;
}

void exchange_settle(Exchange *self)
{
    GError *error = NULL;
    bool failed = false, decided = false;

    g_mutex_lock(&self->lock);
    if (!self->settled && self->mode != EXCHANGE_MAIN_ONLY) {
        decided = settle_locked(self, &error);
        failed = !decided && exchange_fail_locked(self, error);
    }
    g_mutex_unlock(&self->lock);
    if (failed) {
        exchange_notify(self, EXCHANGE_EVENT_FAILED);
    } else if (decided) {
        exchange_notify(self, EXCHANGE_EVENT_DECIDED);
    }
}

bool exchange_is_settle_due(const Exchange *self)
{
    return self->channels_expected == 0 &&
           (self->all_connected ||
            (self->mode == EXCHANGE_MULTIFD && self->markers->len > 0));
}

bool exchange_wait_settle_needed(Exchange *self)
{
    bool needed;

    g_mutex_lock(&self->lock);
    while (!exchange_is_over(self) && !self->settled &&
           self->mode != EXCHANGE_MAIN_ONLY && !exchange_is_settle_due(self)) {
        g_cond_wait(&self->state, &self->lock);
    }
    needed = !exchange_is_over(self) && !self->settled &&
             self->mode != EXCHANGE_MAIN_ONLY;
    g_mutex_unlock(&self->lock);
    return needed;
}

bool exchange_ended_early(Exchange *self)
{
    bool early;

    g_mutex_lock(&self->lock);
    early = exchange_is_over(self) && !self->settled &&
            self->mode != EXCHANGE_MAIN_ONLY;
    g_mutex_unlock(&self->lock);
    return early;
}

/* ---- inbound --------------------------------------------------------------- */

static GQueue *queue_of(Exchange *self, uint64_t epoch)
{
    GQueue *queue = g_hash_table_lookup(self->queues, &epoch);

    if (!queue) {
        queue = g_queue_new();
        g_hash_table_insert(self->queues, g_memdup2(&epoch, sizeof(epoch)),
                            queue);
    }
    return queue;
}

static void enqueue(Exchange *self, uint64_t epoch, Packet *packet)
{
    self->stats.packets++;
    if (packet->kind == PACKET_PAGES) {
        self->stats.normal_pages += packet->header.normal_pages;
        self->stats.zero_pages += packet->header.zero_pages;
    } else {
        self->stats.device_packets++;
    }
    g_queue_push_tail(queue_of(self, epoch), packet);
    g_cond_signal(&self->work);
}

static void count_in(Exchange *self, unsigned id, const Packet *packet)
{
    self->stats.in[id].packets++;
    self->stats.in[id].bytes += packet->payload_len;
}

bool exchange_push(Exchange *self, unsigned in, Packet *packet)
{
    uint64_t epoch;
    bool ok;

    g_mutex_lock(&self->lock);
    /* Stays so: only the caller moves its channel on. */
    epoch = epoch_barrier_in_epoch(&self->barrier, in);
    g_mutex_unlock(&self->lock);
    traffic_note_packet(self->traffic, epoch, packet);
    recorder_note_packet(self->recorder, epoch, packet);
    g_mutex_lock(&self->lock);
    ok = !exchange_is_over(self);
    if (ok) {
        count_in(self, self->id_of_in[in], packet);
        enqueue(self, epoch, g_steal_pointer(&packet));
    }
    g_mutex_unlock(&self->lock);
    packet_free(packet);
    return ok;
}

void exchange_try_close_locked(Exchange *self)
{
    if (self->settled && epoch_barrier_try_close(&self->barrier)) {
        traffic_note_epoch_end(self->traffic, self->barrier.closed);
        g_cond_broadcast(&self->barrier_moved);
        g_cond_broadcast(&self->work);
    }
}

/* A channel that has ended cannot send the SYNC that the others will wait for. */
static bool check_left_behind(const Exchange *self, GError **error)
{
    uint64_t most = 0;

    for (unsigned i = 0; i < self->barrier.n_in; i++) {
        most = MAX(most, self->barrier.in_syncs[i]);
    }
    for (unsigned i = 0; i < self->barrier.n_in; i++) {
        if (self->left[i] && self->barrier.in_syncs[i] < most) {
            g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                        "channel %u: ended after %" G_GUINT64_FORMAT " SYNCs, "
                        "another channel sent %" G_GUINT64_FORMAT,
                        self->id_of_in[i], self->barrier.in_syncs[i], most);
            return false;
        }
    }
    return true;
}

static bool may_sync(const Exchange *self, unsigned in)
{
    return epoch_barrier_in_may_push(&self->barrier, in) &&
           self->barrier.closed < epoch_barrier_synced_out(&self->barrier) +
                                  EPOCHS_AHEAD_MAX;
}

bool exchange_sync(Exchange *self, unsigned in)
{
    GError *error = NULL;
    bool ok, failed = false;

    g_mutex_lock(&self->lock);
    while (!exchange_is_over(self) && !may_sync(self, in)) {
        g_cond_wait(&self->barrier_moved, &self->lock);
    }
    ok = !exchange_is_over(self);
    if (ok) {
        self->stats.in[self->id_of_in[in]].syncs++;
        recorder_note_sync(self->recorder, self->id_of_in[in],
                           epoch_barrier_in_epoch(&self->barrier, in));
        epoch_barrier_in_sync(&self->barrier, in);
        if (check_left_behind(self, &error)) {
            exchange_try_close_locked(self);
        } else {
            ok = false;
            failed = exchange_fail_locked(self, error);
        }
    }
    g_mutex_unlock(&self->lock);
    if (failed) {
        exchange_notify(self, EXCHANGE_EVENT_FAILED);
    }
    return ok;
}

/* What a source leaves behind in the backlog when it has given up. */
static bool check_began(const Exchange *self, unsigned in, GError **error)
{
    if (self->main_ring.in > 0) {
        return true;
    }
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "channel %u: ended before the main channel began",
                self->id_of_in[in]);
    return false;
}

void exchange_leave(Exchange *self, unsigned in)
{
    GError *error = NULL;
    bool failed = false;

    g_mutex_lock(&self->lock);
    self->left[in] = true;
    if (!check_began(self, in, &error) || !check_left_behind(self, &error)) {
        failed = exchange_fail_locked(self, error);
    }
    g_mutex_unlock(&self->lock);
    if (failed) {
        exchange_notify(self, EXCHANGE_EVENT_FAILED);
    }
}

bool exchange_push_epoch(Exchange *self, uint64_t epoch, Packet *packet)
{
    bool ok;

    traffic_note_packet(self->traffic, epoch, packet);
    recorder_note_packet(self->recorder, epoch, packet);
    g_mutex_lock(&self->lock);
    ok = !exchange_is_over(self);
    if (ok) {
        if (packet->in_channel < MULTIFD_CHANNELS_MAX) {
            count_in(self, packet->in_channel, packet);
        }
        exchange_hold_locked(self, packet_get_footprint(packet));
        enqueue(self, epoch, g_steal_pointer(&packet));
    }
    g_mutex_unlock(&self->lock);
    packet_free(packet);
    return ok;
}

void exchange_close_epoch(Exchange *self, uint64_t epoch)
{
    g_mutex_lock(&self->lock);
    epoch_barrier_close(&self->barrier, epoch);
    traffic_note_epoch_end(self->traffic, self->barrier.closed);
    for (unsigned i = 0; i < self->barrier.n_in; i++) {
        self->stats.in[i].syncs++;
        recorder_note_sync(self->recorder, i, epoch);
    }
    g_cond_broadcast(&self->work);
    g_mutex_unlock(&self->lock);
}

/* ---- outbound ------------------------------------------------------------ */

void exchange_add_outs(Exchange *self, unsigned n, bool confirm)
{
    g_mutex_lock(&self->lock);
    self->confirm = confirm;
    for (unsigned i = 0; i < n; i++) {
        epoch_barrier_add_out(&self->barrier);
    }
    g_mutex_unlock(&self->lock);
}

static Packet *pop_packet(Exchange *self, uint64_t epoch)
{
    GQueue *queue = g_hash_table_lookup(self->queues, &epoch);
    Packet *packet = queue ? g_queue_pop_head(queue) : NULL;

    if (queue && g_queue_is_empty(queue)) {
        g_hash_table_remove(self->queues, &epoch);
    }
    return packet;
}

ExchangeTake exchange_take(Exchange *self, unsigned out, Packet **ret_packet,
                           uint64_t *ret_epoch)
{
    ExchangeTake take = EXCHANGE_FAILED;

    *ret_packet = NULL;
    g_mutex_lock(&self->lock);
    while (!exchange_is_over(self)) {
        *ret_epoch = epoch_barrier_out_epoch(&self->barrier, out);
        *ret_packet = pop_packet(self, *ret_epoch);
        if (*ret_packet) {
            take = EXCHANGE_PACKET;
            break;
        }
        if (epoch_barrier_out_may_sync(&self->barrier, out, true)) {
            take = EXCHANGE_SYNC;
            break;
        }
        g_cond_wait(&self->work, &self->lock);
    }
    g_mutex_unlock(&self->lock);
    return take;
}

void exchange_done(Exchange *self, unsigned out, Packet *packet)
{
    uint64_t footprint = packet_get_footprint(packet);
    uint32_t payload_len = packet->payload_len;

    packet_free(packet);
    traffic_touch(self->traffic, TRAFFIC_LAST_PACKET_OUT);
    g_mutex_lock(&self->lock);
    self->stats.out[out].packets++;
    self->stats.out[out].bytes += payload_len;
    exchange_unhold_locked(self, footprint);
    g_mutex_unlock(&self->lock);
}

uint64_t exchange_get_open_markers(const Exchange *self)
{
    uint64_t least = G_MAXUINT64;

    if (!self->confirm) {
        return epoch_barrier_synced_out(&self->barrier);
    }
    for (unsigned i = 0; i < self->barrier.n_out; i++) {
        least = MIN(least, self->confirmed[i]);
    }
    return least;
}

static void wake_markers(Exchange *self, uint64_t open_before)
{
    if (exchange_get_open_markers(self) != open_before) {
        g_cond_broadcast(&self->main_data);
    }
}

void exchange_synced(Exchange *self, unsigned out)
{
    uint64_t synced, open;

    g_mutex_lock(&self->lock);
    synced = epoch_barrier_synced_out(&self->barrier);
    open = exchange_get_open_markers(self);
    epoch_barrier_out_synced(&self->barrier, out);
    self->stats.out[out].syncs++;
    wake_markers(self, open);
    if (epoch_barrier_synced_out(&self->barrier) != synced) {
        g_cond_broadcast(&self->barrier_moved);
        g_cond_broadcast(&self->sent);
    }
    g_mutex_unlock(&self->lock);
}

void exchange_confirm_syncs(Exchange *self, unsigned out, unsigned n)
{
    uint64_t open;

    g_mutex_lock(&self->lock);
    open = exchange_get_open_markers(self);
    self->confirmed[out] += n;
    wake_markers(self, open);
    g_mutex_unlock(&self->lock);
}
