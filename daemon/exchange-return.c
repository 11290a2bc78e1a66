/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/exchange-return.c - the return path, and what of both streams was delivered
 *
 * SHUT is looked for when bytes are pushed, and judged before the source can read it.
 */
#include "daemon/exchange-private.h"

#include "wire/error.h"

enum { SENT_WAIT_US = 2 * 1000 * 1000 };

bool exchange_is_all_sent(const Exchange *self)
{
    return self->mode != EXCHANGE_MULTIFD ||
           (self->stats.held == 0 &&
            epoch_barrier_synced_out(&self->barrier) == self->barrier.closed);
}

/* A writer may not have got round to saying that it has written: give it a moment. */
static void wait_all_sent(Exchange *self)
{
    int64_t deadline_us = g_get_monotonic_time() + SENT_WAIT_US;

    while (!exchange_is_over(self) && !exchange_is_all_sent(self) &&
           g_cond_wait_until(&self->sent, &self->lock, deadline_us)) {
    }
}

/*
 * A destination from 10.0 on can say SHUT 0 although one of its channels failed.
 * It cannot have loaded what we have not written, nor what its source has not
 * sent; a source from 10.0 on would believe it all the same.
 */
static bool check_shut(Exchange *self, GError **error)
{
    if (main_stream_lacks_ram(self->main)) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "return path: got SHUT 0 before the END section of RAM, "
                    "allowed only after it; the destination has not got the "
                    "whole guest");
        return false;
    }
    wait_all_sent(self);
    if (exchange_is_all_sent(self)) {
        return true;
    }
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "return path: got SHUT 0 with %" G_GUINT64_FORMAT " bytes of "
                "pages and %" G_GUINT64_FORMAT " SYNCs not sent yet; the "
                "destination has not got the whole guest", self->stats.held,
                self->barrier.closed -
                epoch_barrier_synced_out(&self->barrier));
    return false;
}

static bool look_at_return(Exchange *self, const uint8_t *buf, size_t len,
                           GError **error)
{
    uint32_t value;

    if (self->stats.shut) {
        return true;
    }
    return_path_feed(&self->return_path, buf, len);
    if (!return_path_has_shut(&self->return_path, &value)) {
        return true;
    }
    if (value == 0 && !check_shut(self, error)) {
        return false;
    }
    traffic_mark(self->traffic, TRAFFIC_SHUT);
    self->stats.shut = true;
    self->stats.shut_value = value;
    g_cond_broadcast(&self->main_data);     /* its end is meant then */
    return true;
}

static bool queue_return(Exchange *self, const uint8_t *buf, size_t len)
{
    while (len > 0) {
        size_t n;

        while (!exchange_is_over(self) &&
               byte_ring_get_space(&self->return_ring) == 0) {
            g_cond_wait(&self->return_space, &self->lock);
        }
        if (exchange_is_over(self)) {
            return false;
        }
        n = byte_ring_write(&self->return_ring, buf, len);
        buf += n;
        len -= n;
        g_cond_signal(&self->return_data);
    }
    return true;
}

bool exchange_return_push(Exchange *self, const uint8_t *buf, size_t len)
{
    GError *error = NULL;
    bool ok;

    g_mutex_lock(&self->lock);
    recorder_note_return(self->recorder, self->return_ring.in, buf, len);
    ok = look_at_return(self, buf, len, &error) && queue_return(self, buf, len);
    g_mutex_unlock(&self->lock);
    if (error) {
        exchange_fail(self, error);
    }
    return ok;
}

void exchange_return_end(Exchange *self)
{
    g_mutex_lock(&self->lock);
    self->stats.return_ended = true;
    g_cond_broadcast(&self->return_data);
    g_mutex_unlock(&self->lock);
    exchange_notify(self, EXCHANGE_EVENT_RETURN_ENDED);
}

gssize exchange_return_pull(Exchange *self, uint8_t *buf, size_t max)
{
    gssize n = -1;

    g_mutex_lock(&self->lock);
    while (!exchange_is_over(self) ||
           (exchange_is_taken_over(self) && !self->closed)) {
        if (byte_ring_get_held(&self->return_ring) > 0) {
            n = byte_ring_read(&self->return_ring, buf, max);
            g_cond_signal(&self->return_space);
            break;
        }
        if (self->stats.return_ended) {
            n = 0;
            break;
        }
        g_cond_wait(&self->return_data, &self->lock);
    }
    g_mutex_unlock(&self->lock);
    return n;
}

/* ---- what has left us ------------------------------------------------------------ */

void exchange_set_delivery_hook(Exchange *self, ExchangeDelivery hook,
                                void *data)
{
    self->delivery = hook;
    self->delivery_data = data;
}

void exchange_call_delivery_hook(Exchange *self, uint64_t main_offset,
                                 uint64_t return_offset)
{
    if (self->delivery) {
        self->delivery(main_offset, return_offset, self->delivery_data);
    }
}

void exchange_main_delivered(Exchange *self)
{
    uint64_t main_offset, return_offset;

    g_mutex_lock(&self->lock);
    self->stats.main_delivered = main_offset = self->main_ring.out;
    return_offset = self->stats.return_delivered;
    g_mutex_unlock(&self->lock);
    exchange_call_delivery_hook(self, main_offset, return_offset);
}

void exchange_return_delivered(Exchange *self)
{
    uint64_t main_offset, return_offset;
    bool first = false;

    g_mutex_lock(&self->lock);
    self->stats.return_delivered = return_offset = self->return_ring.out;
    main_offset = self->stats.main_delivered;
    if (self->stats.shut && !self->stats.shut_delivered &&
        byte_ring_get_held(&self->return_ring) == 0) {
        self->stats.shut_delivered = first = true;
        traffic_mark(self->traffic, TRAFFIC_SHUT_DELIVERED);
    }
    g_mutex_unlock(&self->lock);
    exchange_call_delivery_hook(self, main_offset, return_offset);
    if (first) {
        exchange_notify(self, EXCHANGE_EVENT_SHUT);
    }
}
