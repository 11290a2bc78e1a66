/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-test-lanes.h"

#include "qmp/error.h"

void link_test_lanes_init(LinkTestLanes *self)
{
    memset(self, 0, sizeof(*self));
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    self->cancellable = g_cancellable_new();
}

void link_test_lanes_close(LinkTestLanes *self)
{
    g_mutex_lock(&self->lock);
    g_clear_pointer(&self->main, stream_free);
    for (unsigned i = 0; i < LINK_LANES_MAX; i++) {
        g_clear_pointer(&self->bulk[i], stream_free);
    }
    g_mutex_unlock(&self->lock);
}

void link_test_lanes_clear(LinkTestLanes *self)
{
    link_test_lanes_close(self);
    g_clear_error(&self->reason);
    g_object_unref(self->cancellable);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
}

static bool put(LinkTestLanes *self, Stream **place, const char *name,
                Stream **stream, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = !self->reason && !*place;
    if (ok) {
        stream_set_timeouts(*stream, LINK_TEST_SILENCE_MS, LINK_TEST_SILENCE_MS);
        *place = g_steal_pointer(stream);
        g_cond_broadcast(&self->changed);
    } else if (self->reason) {
        g_propagate_error(error, g_error_copy(self->reason));
    } else {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "the link test has that %s already", name);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

bool link_test_lanes_put_main(LinkTestLanes *self, Stream **stream,
                              GError **error)
{
    return put(self, &self->main, "main lane", stream, error);
}

bool link_test_lanes_put(LinkTestLanes *self, unsigned lane, Stream **stream,
                         GError **error)
{
    g_assert(lane < LINK_LANES_MAX);
    return put(self, &self->bulk[lane], "bulk lane", stream, error);
}

bool link_test_lanes_has(LinkTestLanes *self, unsigned lane)
{
    bool has;

    g_mutex_lock(&self->lock);
    has = self->bulk[lane] != NULL;
    g_mutex_unlock(&self->lock);
    return has;
}

/* With the lock held: how many there are from 0 on without a gap, up to @n. */
static unsigned count(const LinkTestLanes *self, unsigned n)
{
    unsigned i = 0;

    while (i < n && self->bulk[i]) {
        i++;
    }
    return i;
}

bool link_test_lanes_get(LinkTestLanes *self, unsigned n, unsigned timeout_ms,
                         Stream **ret, GError **error)
{
    int64_t until_us = g_get_monotonic_time() + timeout_ms * 1000LL;
    unsigned have;

    g_assert(n <= LINK_LANES_MAX);
    g_mutex_lock(&self->lock);
    while (count(self, n) < n && !self->reason &&
           g_cond_wait_until(&self->changed, &self->lock, until_us)) {
    }
    have = count(self, n);
    memcpy(ret, self->bulk, have * sizeof(*ret));
    g_mutex_unlock(&self->lock);
    if (have < n) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "got %u lanes, but lane %u is not connected", n, have);
    }
    return have == n;
}

void link_test_lanes_shut(LinkTestLanes *self, const GError *reason)
{
    g_mutex_lock(&self->lock);
    if (!self->reason) {
        self->reason = g_error_copy(reason);
        g_cond_broadcast(&self->changed);
    }
    if (self->main) {
        stream_shutdown(self->main);
    }
    for (unsigned i = 0; i < LINK_LANES_MAX; i++) {
        if (self->bulk[i]) {
            stream_shutdown(self->bulk[i]);
        }
    }
    g_mutex_unlock(&self->lock);
    /* Outside: whoever is called by it may wait for the lock. */
    g_cancellable_cancel(self->cancellable);
}

GError *link_test_lanes_get_reason(LinkTestLanes *self)
{
    GError *reason;

    g_mutex_lock(&self->lock);
    reason = self->reason ? g_error_copy(self->reason) : NULL;
    g_mutex_unlock(&self->lock);
    return reason;
}
