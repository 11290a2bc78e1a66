/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The preempt channel in the exchange, and what the main stream tells of postcopy.
 */
#include "tests/unit/daemon/exchange-fixture.h"

enum { RING = 256 * 1024, PREEMPT_RING = 64 * 1024 };

static Fixture *fixture_new(bool link_fed)
{
    return fixture_make((ExchangeSetup) {
        .memory = 1024 * 1024,
        .main_ring = RING,
        .link_fed = link_fed,
    });
}

static void put_command(GByteArray *s, unsigned command, unsigned length)
{
    put(s, 0x08, 1);
    put(s, command, 2);
    put(s, length, 2);
}

/* Up to the first page: no multifd, and with @advise postcopy may come. */
static void push_start(Fixture *self, bool advise)
{
    g_autoptr(GByteArray) s = g_byte_array_new();
    uint64_t length = LINK_FIXTURE_BLOCK_PAGES * LINK_FIXTURE_PAGE;

    put_text(s, "QEVM");
    put(s, 3, 4);
    if (advise) {
        put_command(s, 3, 16);
        put(s, LINK_FIXTURE_PAGE, 8);
        put(s, LINK_FIXTURE_PAGE, 8);
    }
    put(s, 0x01, 1);
    put(s, 2, 4);
    put(s, 3, 1);
    put_text(s, "ram");
    put(s, 0, 4);
    put(s, 4, 4);
    put(s, length | 0x04, 8);
    put(s, strlen(LINK_FIXTURE_BLOCK), 1);
    put_text(s, LINK_FIXTURE_BLOCK);
    put(s, length, 8);
    put(s, 0x10, 8);
    put(s, 0x7e, 1);
    put(s, 2, 4);
    put(s, 0x02, 1);
    put(s, 2, 4);
    put(s, 0x08, 8);
    put(s, strlen(LINK_FIXTURE_BLOCK), 1);
    put_text(s, LINK_FIXTURE_BLOCK);
    for (unsigned i = 0; i < LINK_FIXTURE_PAGE / 8; i++) {
        put(s, i, 8);
    }
    put(s, 0x10, 8);
    put(s, 0x7e, 1);
    put(s, 2, 4);
    g_assert_true(exchange_main_push(self->exchange, s->data, s->len));
}

/* The package with POSTCOPY_RUN; and the PING behind it. */
static void push_run(Fixture *self)
{
    g_autoptr(GByteArray) s = g_byte_array_new();

    put_command(s, 7, 4);
    put(s, 10, 4);
    put_command(s, 4, 0);
    put_command(s, 5, 0);
    g_assert_true(exchange_main_push(self->exchange, s->data, s->len));
}

static void push_last_ping(Fixture *self)
{
    g_autoptr(GByteArray) s = g_byte_array_new();

    put_command(s, 2, 4);
    put(s, 4, 4);
    g_assert_true(exchange_main_push(self->exchange, s->data, s->len));
}

static void pull_main(Fixture *self)
{
    g_autofree uint8_t *buf = g_malloc(RING);

    g_assert_cmpint(exchange_main_pull(self->exchange, buf, RING, true), >, 0);
}

/* ---- is it there ----------------------------------------------------------------- */

/* A silent connection is a stranger's unless the stream allows for postcopy. */
static void test_possible_only_with_postcopy(void)
{
    for (int advise = 0; advise < 2; advise++) {
        Fixture *self = fixture_new(false);

        g_assert_false(exchange_preempt_is_possible(self->exchange));
        push_start(self, advise);
        g_assert_cmpint(exchange_preempt_is_possible(self->exchange), ==,
                        advise);
        exchange_close(self->exchange);
        g_assert_false(exchange_preempt_is_possible(self->exchange));
        fixture_free(self);
    }
}

static void *wait_expected(void *data)
{
    Fixture *self = data;
    bool expected = exchange_preempt_wait_expected(self->exchange);

    g_assert_cmpint(g_atomic_int_get(&self->announced), ==, 1);
    return GINT_TO_POINTER(expected);
}

/* Who connects it waits for the word, and is told once. */
static void test_expecting_wakes_who_connects(void)
{
    Fixture *self = fixture_new(false);
    GThread *thread = g_thread_new("wait", wait_expected, self);

    g_atomic_int_set(&self->announced, 1);
    exchange_preempt_expect(self->exchange);
    exchange_preempt_expect(self->exchange);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 1);
    g_assert_cmpuint(link_fixture_count(&self->events, EXCHANGE_EVENT_PREEMPT),
                     ==, 1);
    g_assert_true(look(self).preempt);
    fixture_free(self);
}

static void test_failure_ends_the_wait_for_it(void)
{
    Fixture *self = fixture_new(false);
    GThread *thread = g_thread_new("wait", wait_expected, self);

    g_atomic_int_set(&self->announced, 1);
    exchange_close(self->exchange);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 0);
    fixture_free(self);
}

/* ---- its bytes ---------------------------------------------------------------------- */

/* More than the ring holds, in order, while the main stream stands still. */
static void *push_much(void *data)
{
    Fixture *self = data;
    uint8_t buf[1000];

    for (unsigned i = 0; i < 200; i++) {
        memset(buf, i, sizeof(buf));
        g_assert_true(exchange_preempt_push(self->exchange, buf, sizeof(buf)));
    }
    exchange_preempt_end(self->exchange);
    return NULL;
}

static void test_passes_in_order_and_ends(void)
{
    Fixture *self = fixture_new(false);
    GThread *thread = g_thread_new("push", push_much, self);
    uint8_t buf[4096];
    uint64_t at = 0;
    gssize n;

    while ((n = exchange_preempt_pull(self->exchange, buf, sizeof(buf))) > 0) {
        for (gssize i = 0; i < n; i++, at++) {
            g_assert_cmpuint(buf[i], ==, at / 1000);
        }
        exchange_preempt_delivered(self->exchange);
        g_assert_cmpuint(exchange_preempt_get_delivered(self->exchange), ==,
                         at);
    }
    g_assert_cmpint(n, ==, 0);
    g_assert_cmpuint(at, ==, 200 * 1000);
    g_thread_join(thread);
    fixture_free(self);
}

/* A destination that does not read holds up the source, not our memory. */
static void *push_too_much(void *data)
{
    Fixture *self = data;
    g_autofree uint8_t *buf = g_malloc0(PREEMPT_RING + 1);
    bool ok = exchange_preempt_push(self->exchange, buf, PREEMPT_RING + 1);

    return GINT_TO_POINTER(ok);
}

static void test_push_waits_and_ends_with_a_failure(void)
{
    Fixture *self = fixture_new(false);
    GThread *thread = g_thread_new("push", push_too_much, self);

    while (look(self).preempt_in < PREEMPT_RING) {
        g_thread_yield();
    }
    g_assert_cmpuint(look(self).preempt_in, ==, PREEMPT_RING);
    exchange_fail(self->exchange, g_error_new_literal(
        WIRE_ERROR, WIRE_ERROR_PROTOCOL, "over"));
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 0);
    fixture_free(self);
}

/* ---- postcopy on the main stream ------------------------------------------------------ */

/* Who may let the guest run asks these: too early would be twice. */
static void test_switch_is_told_in_steps(void)
{
    Fixture *self = fixture_new(false);

    push_start(self, true);
    g_assert_false(look(self).postcopy);
    push_run(self);
    g_assert_true(look(self).postcopy);
    g_assert_false(look(self).postcopy_sent);
    g_assert_false(look(self).postcopy_given);
    pull_main(self);
    g_assert_false(look(self).postcopy_given);
    exchange_main_delivered(self->exchange);
    g_assert_true(look(self).postcopy_given);
    g_assert_false(look(self).postcopy_sent);
    push_last_ping(self);
    g_assert_true(look(self).postcopy_sent);
    g_assert_cmpuint(link_fixture_count(&self->events,
                                        EXCHANGE_EVENT_POSTCOPY), ==, 2);
    fixture_free(self);
}

/* A page that the guest waits for is behind all that we hold. */
static void *push_pages(void *data)
{
    Fixture *self = data;
    g_autofree uint8_t *buf = g_malloc0(RING);

    /* It is no section: but the first byte of it waits already. */
    (void)exchange_main_push(self->exchange, buf, RING);
    return NULL;
}

static void test_little_is_held_in_postcopy(void)
{
    static const uint8_t resume[] = { 0x08, 0x00, 0x0a, 0x00, 0x00 };
    Fixture *self = fixture_new(false);
    GThread *thread;

    g_assert_true(exchange_main_push(self->exchange, resume, sizeof(resume)));
    thread = g_thread_new("push", push_pages, self);
    while (look(self).main_in < 64 * 1024) {
        g_thread_yield();
    }
    g_assert_cmpuint(look(self).main_in, ==, 64 * 1024);
    exchange_close(self->exchange);
    g_thread_join(thread);
    fixture_free(self);
}

/* A resumed migration has neither multifd nor a block list, and passes as it is. */
static void test_resumed_stream_is_main_only(void)
{
    static const uint8_t resume[] = { 0x08, 0x00, 0x0a, 0x00, 0x07, 'x' };
    Fixture *self = fixture_new(false);
    uint8_t buf[64];

    g_assert_true(exchange_main_push(self->exchange, resume, sizeof(resume)));
    g_assert_cmpint(look(self).mode, ==, EXCHANGE_MAIN_ONLY);
    g_assert_true(look(self).resumed && look(self).postcopy_sent);
    g_assert_true(look(self).return_path && look(self).opaque);
    g_assert_true(exchange_preempt_is_possible(self->exchange));
    g_assert_true(exchange_has_pages_on_main(self->exchange));
    g_assert_cmpint(exchange_main_pull(self->exchange, buf, sizeof(buf), true),
                    ==, sizeof(resume));
    g_assert_cmpmem(buf, sizeof(resume), resume, sizeof(resume));
    fixture_free(self);
}

/* There the peer says whether there is multifd. */
static void test_resumed_stream_from_a_link_decides_nothing(void)
{
    static const uint8_t resume[] = { 0x08, 0x00, 0x01, 0x00, 0x00 };
    Fixture *self = fixture_new(true);

    g_assert_true(exchange_main_push(self->exchange, resume, sizeof(resume)));
    g_assert_cmpint(look(self).mode, ==, EXCHANGE_UNDECIDED);
    g_assert_true(look(self).resumed);
    fixture_free(self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/exchange-preempt/" path, func)
    ADD("possible-only-with-postcopy", test_possible_only_with_postcopy);
    ADD("expecting-wakes-who-connects", test_expecting_wakes_who_connects);
    ADD("failure-ends-the-wait-for-it", test_failure_ends_the_wait_for_it);
    ADD("passes-in-order-and-ends", test_passes_in_order_and_ends);
    ADD("push-waits-and-ends-with-a-failure",
        test_push_waits_and_ends_with_a_failure);
    ADD("switch-is-told-in-steps", test_switch_is_told_in_steps);
    ADD("little-is-held-in-postcopy", test_little_is_held_in_postcopy);
    ADD("resumed-stream-is-main-only", test_resumed_stream_is_main_only);
    ADD("resumed-stream-from-a-link-decides-nothing",
        test_resumed_stream_from_a_link_decides_nothing);
    return g_test_run();
}
