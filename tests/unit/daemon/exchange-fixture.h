/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An exchange with a bell for its events, and small steps on it.  With short names,
 * for the tests of the exchange alone.
 */
#ifndef TESTS_EXCHANGE_FIXTURE_H
#define TESTS_EXCHANGE_FIXTURE_H

#include "tests/unit/daemon/link-fixture.h"
#include "wire/error.h"

#define put link_fixture_put
#define put_text link_fixture_put_text

typedef struct {
    Exchange *exchange;
    PacketPool *pool;
    LinkFixtureBell events;     /* by ExchangeEvent */
    gint announced;             /* atomic: what others wait for is about to be done */
} Fixture;

/* @setup without its observer. */
static inline Fixture *fixture_make(ExchangeSetup setup)
{
    Fixture *self = g_new0(Fixture, 1);

    setup.observer = link_fixture_observe;
    setup.observer_data = &self->events;
    self->exchange = exchange_new(&setup);
    self->pool = packet_pool_new();
    return self;
}

static inline void fixture_free(Fixture *self)
{
    exchange_free(self->exchange);
    packet_pool_unref(self->pool);
    g_free(self);
}

static inline bool try_join(Fixture *self, unsigned id, const char *uuid,
                            unsigned *ret_in, unsigned *ret_drop,
                            GError **error)
{
    MultifdInit init = { .id = id };

    memcpy(init.uuid, uuid, sizeof(init.uuid));
    return exchange_join(self->exchange, &init, ret_in, ret_drop, error);
}

static inline unsigned join(Fixture *self, unsigned id)
{
    g_autoptr(GError) error = NULL;
    unsigned in = 99, drop = 99;

    g_assert_true(try_join(self, id, (const char *)link_fixture_uuid, &in,
                           &drop, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(drop, ==, 0);
    return in;
}

static inline ExchangeSnapshot look(Fixture *self)
{
    ExchangeSnapshot now;

    exchange_get_snapshot(self->exchange, &now);
    return now;
}

static inline void assert_failed(Fixture *self, const char *part)
{
    g_autoptr(GError) error = exchange_get_error(self->exchange);

    g_assert_nonnull(error);
    link_fixture_assert_contains(error->message, part);
    g_assert_cmpuint(link_fixture_count(&self->events, EXCHANGE_EVENT_FAILED),
                     ==, 1);
}

static inline void assert_well(Fixture *self)
{
    g_autoptr(GError) error = exchange_get_error(self->exchange);

    g_assert_no_error(error);
    g_assert_cmpuint(link_fixture_count(&self->events, EXCHANGE_EVENT_FAILED),
                     ==, 0);
}

static inline void fail(Fixture *self, const char *text)
{
    exchange_fail(self->exchange, g_error_new_literal(
        WIRE_ERROR, WIRE_ERROR_PROTOCOL, text));
}

#endif
