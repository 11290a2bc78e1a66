/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/exchange.c - life, failure and mode of an exchange
 *
 * The packets are in exchange-packets.c, the main stream in exchange-main.c, the
 * return path in exchange-return.c.
 */
#include "daemon/exchange-private.h"

#include "wire/error.h"

enum {
    RETURN_RING_SIZE = 64 * 1024,
};

static void free_queue(void *data)
{
    g_queue_free_full(data, (GDestroyNotify)packet_free);
}

Exchange *exchange_new(const ExchangeSetup *setup)
{
    Exchange *self = g_new0(Exchange, 1);

    self->memory = self->queue = setup->memory;
    self->share = setup->share;
    self->channels_expected = setup->channels_in;
    self->link_fed = setup->link_fed;
    self->traffic = setup->traffic;
    self->recorder = setup->recorder;
    self->cpu = setup->cpu;
    self->observer = setup->observer;
    self->observer_data = setup->observer_data;

    g_mutex_init(&self->lock);
    g_cond_init(&self->state);
    g_cond_init(&self->barrier_moved);
    g_cond_init(&self->sent);
    g_cond_init(&self->work);
    g_cond_init(&self->main_data);
    g_cond_init(&self->main_space);
    g_cond_init(&self->return_data);
    g_cond_init(&self->return_space);
    g_cond_init(&self->preempt_data);
    g_cond_init(&self->preempt_space);

    epoch_barrier_init(&self->barrier);
    g_queue_init(&self->waiters);
    self->queues = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                         free_queue);
    self->main = main_stream_new();
    self->page_size = setup->page_size;
    main_stream_set_page_size(self->main, self->page_size);
    byte_ring_init(&self->main_ring, setup->main_ring);
    byte_ring_init(&self->return_ring, RETURN_RING_SIZE);
    byte_ring_init(&self->preempt_ring, EXCHANGE_PREEMPT_RING);
    self->markers = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    return_path_init(&self->return_path);
    return self;
}

void exchange_free(Exchange *self)
{
    if (!self) {
        return;
    }
    g_array_unref(self->markers);
    byte_ring_clear(&self->preempt_ring);
    byte_ring_clear(&self->return_ring);
    byte_ring_clear(&self->main_ring);
    main_stream_free(self->main);
    g_hash_table_unref(self->queues);
    g_cond_clear(&self->preempt_space);
    g_cond_clear(&self->preempt_data);
    g_cond_clear(&self->return_space);
    g_cond_clear(&self->return_data);
    g_cond_clear(&self->main_space);
    g_cond_clear(&self->main_data);
    g_cond_clear(&self->work);
    g_cond_clear(&self->sent);
    g_cond_clear(&self->barrier_moved);
    g_cond_clear(&self->state);
    g_mutex_clear(&self->lock);
    g_clear_error(&self->error);
    g_free(self);
}

CpuMeter *exchange_get_cpu(const Exchange *self)
{
    return self->cpu;
}

void exchange_notify(Exchange *self, ExchangeEvent event)
{
    if (self->observer) {
        self->observer(self, event, self->observer_data);
    }
}

/* ---- failing ---------------------------------------------------------- */

bool exchange_is_over(const Exchange *self)
{
    return self->error || self->closed;
}

bool exchange_is_taken_over(const Exchange *self)
{
    return self->stats.shut && self->stats.shut_value == 0;
}

static void wake_everyone(Exchange *self)
{
    g_cond_broadcast(&self->state);
    g_cond_broadcast(&self->barrier_moved);
    exchange_wake_waiters_locked(self);
    g_cond_broadcast(&self->sent);
    g_cond_broadcast(&self->work);
    g_cond_broadcast(&self->main_data);
    g_cond_broadcast(&self->main_space);
    g_cond_broadcast(&self->return_data);
    g_cond_broadcast(&self->return_space);
    g_cond_broadcast(&self->preempt_data);
    g_cond_broadcast(&self->preempt_space);
}

static bool fail_locked(Exchange *self, GError *error, bool matters)
{
    if (exchange_is_over(self) || !matters) {
        g_error_free(error);
        return false;
    }
    self->error = error;
    wake_everyone(self);
    return true;
}

bool exchange_fail_locked(Exchange *self, GError *error)
{
    return fail_locked(self, error, !exchange_is_taken_over(self));
}

void exchange_fail(Exchange *self, GError *error)
{
    bool first;

    g_mutex_lock(&self->lock);
    first = exchange_fail_locked(self, error);
    g_mutex_unlock(&self->lock);
    if (first) {
        exchange_notify(self, EXCHANGE_EVENT_FAILED);
    }
}

void exchange_fail_delivery(Exchange *self, GError *error)
{
    bool first;

    g_mutex_lock(&self->lock);
    first = fail_locked(self, error, !self->stats.shut_delivered);
    g_mutex_unlock(&self->lock);
    if (first) {
        exchange_notify(self, EXCHANGE_EVENT_FAILED);
    }
}

void exchange_close(Exchange *self)
{
    g_mutex_lock(&self->lock);
    self->closed = true;
    wake_everyone(self);
    g_mutex_unlock(&self->lock);
}

void exchange_reject(Exchange *self, unsigned channel, uint64_t packet,
                     GError *error)
{
    bool first;

    g_mutex_lock(&self->lock);
    first = exchange_fail_locked(self, error);
    if (first) {
        self->rejected = true;
        self->rejected_channel = channel;
        self->rejected_packet = packet;
    }
    g_mutex_unlock(&self->lock);
    if (first) {
        exchange_notify(self, EXCHANGE_EVENT_REJECTED);
        exchange_notify(self, EXCHANGE_EVENT_FAILED);
    }
}

GError *exchange_get_error(Exchange *self)
{
    GError *copy;

    g_mutex_lock(&self->lock);
    copy = self->error ? g_error_copy(self->error) : NULL;
    g_mutex_unlock(&self->lock);
    return copy;
}

bool exchange_get_rejected(Exchange *self, unsigned *ret_channel,
                           uint64_t *ret_packet)
{
    bool rejected;

    g_mutex_lock(&self->lock);
    rejected = self->rejected;
    *ret_channel = self->rejected_channel;
    *ret_packet = self->rejected_packet;
    g_mutex_unlock(&self->lock);
    return rejected;
}

/* ---- mode ---------------------------------------------------------------- */

void exchange_decide_locked(Exchange *self, ExchangeMode mode)
{
    self->mode = mode;
    g_cond_broadcast(&self->state);
    g_cond_broadcast(&self->main_data);     /* the gate may have opened */
}

bool exchange_check_undecided_locked(const Exchange *self, GError **error)
{
    if (self->mode != EXCHANGE_UNDECIDED) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "channels: got them twice, allowed once");
        return false;
    }
    return true;
}

static bool check_decide(const Exchange *self, bool multifd,
                         unsigned channels_in, GError **error)
{
    if (!exchange_check_undecided_locked(self, error)) {
        return false;
    }
    if (multifd && (channels_in == 0 || channels_in > MULTIFD_CHANNELS_MAX)) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "channels: got count %u, allowed 1 to %u", channels_in,
                    MULTIFD_CHANNELS_MAX);
        return false;
    }
    return true;
}

bool exchange_decide(Exchange *self, bool multifd, unsigned channels_in,
                     const uint8_t uuid[MULTIFD_UUID_SIZE], GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_decide(self, multifd, channels_in, error);
    if (ok) {
        memcpy(self->uuid, uuid, MULTIFD_UUID_SIZE);
        self->uuid_known = true;
        self->barrier.n_in = multifd ? channels_in : 0;
        self->settled = multifd;
        exchange_decide_locked(self, multifd ? EXCHANGE_MULTIFD
                                             : EXCHANGE_MAIN_ONLY);
    }
    g_mutex_unlock(&self->lock);
    if (ok) {
        exchange_notify(self, EXCHANGE_EVENT_DECIDED);
    }
    return ok;
}

ExchangeMode exchange_wait_decided(Exchange *self, unsigned *ret_channels_in,
                                   uint8_t ret_uuid[MULTIFD_UUID_SIZE])
{
    ExchangeMode mode;

    g_mutex_lock(&self->lock);
    while (!exchange_is_over(self) && self->mode != EXCHANGE_MAIN_ONLY &&
           !(self->mode == EXCHANGE_MULTIFD && self->settled)) {
        g_cond_wait(&self->state, &self->lock);
    }
    /* What is known is told even when it is over: an abort needs it. */
    mode = self->mode == EXCHANGE_MULTIFD && !self->settled
           ? EXCHANGE_UNDECIDED : self->mode;
    *ret_channels_in = self->barrier.n_in;
    memcpy(ret_uuid, self->uuid, MULTIFD_UUID_SIZE);
    g_mutex_unlock(&self->lock);
    return mode;
}

bool exchange_has_pages_on_main(Exchange *self)
{
    bool pages;

    g_mutex_lock(&self->lock);
    pages = self->mode == EXCHANGE_MAIN_ONLY || self->postcopy;
    g_mutex_unlock(&self->lock);
    return pages;
}

void exchange_get_snapshot(Exchange *self, ExchangeSnapshot *ret)
{
    const char *machine;

    g_mutex_lock(&self->lock);
    *ret = self->stats;
    ret->mode = self->mode;
    ret->channels_in = self->barrier.n_in;
    ret->channels_out = self->barrier.n_out;
    ret->main_in = self->main_ring.in;
    ret->main_out = self->main_ring.out;
    ret->return_in = self->return_ring.in;
    ret->return_out = self->return_ring.out;
    ret->preempt_in = self->preempt_ring.in;
    ret->preempt_out = self->preempt_ring.out;
    ret->preempt = self->preempt_expected;
    ret->epochs = self->barrier.closed;
    ret->markers = self->markers_passed;
    ret->main_drained = ret->main_ended &&
                        byte_ring_get_held(&self->main_ring) == 0;
    ret->begun = self->link_fed || self->settled ||
                 self->mode == EXCHANGE_MAIN_ONLY ||
                 exchange_is_settle_due(self);
    ret->all_sent = exchange_is_all_sent(self);
    ret->return_path = main_stream_has_return_path(self->main);
    ret->opaque = main_stream_is_opaque(self->main);
    ret->postcopy = self->postcopy;
    ret->postcopy_sent = self->postcopy_sent;
    ret->postcopy_given = self->postcopy &&
                          ret->main_delivered >= self->postcopy_run;
    ret->resumed = self->resumed;
    memcpy(ret->uuid, self->uuid, sizeof(ret->uuid));
    machine = main_stream_get_machine(self->main);
    g_strlcpy(ret->machine, machine ? machine : "", sizeof(ret->machine));
    ret->activity = ret->main_in + ret->main_out + ret->return_in +
                    ret->return_out + ret->preempt_in + ret->preempt_out +
                    ret->packets + ret->epochs + ret->held;
    g_mutex_unlock(&self->lock);
}
