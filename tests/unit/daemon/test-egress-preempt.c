/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The preempt channel towards a destination QEMU: when it is connected, and that
 * it passes a main channel which the rate holds back.
 */
#include <poll.h>
#include <unistd.h>

#include "daemon/egress-qemu.h"
#include "tests/unit/daemon/link-fixture.h"

enum { RATE = 8, FLOOD = 48 * 1024, LONG_MS = 60000 };

typedef struct {
    char *directory;
    Address *address;
    int listener;
    Exchange *exchange;
    Limiter *limiter;
    Egress *egress;
    Stream *main;
    LinkFixtureBell events;     /* by ExchangeEvent */
} Fixture;

static Stream *accept_one(Fixture *self)
{
    struct pollfd pollfd = { .fd = self->listener, .events = POLLIN };
    Stream *stream;
    int fd;

    g_assert_cmpint(poll(&pollfd, 1, LONG_MS), ==, 1);
    fd = accept4(self->listener, NULL, NULL, SOCK_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    stream = stream_new(fd, "egress");
    stream_set_timeouts(stream, LONG_MS, LONG_MS);
    return stream;
}

/* With the main channel of a resumed migration under way. */
static Fixture *fixture_new(uint64_t rate)
{
    static const uint8_t start[] = { 0x08, 0x00, 0x0a, 0x00, 0x00 };
    Fixture *self = g_new0(Fixture, 1);
    ExchangeSetup exchange = {
        .memory = 1024 * 1024, .main_ring = 256 * 1024,
        .observer = link_fixture_observe, .observer_data = &self->events,
    };
    EgressQemuSetup setup = { .connect_ms = LONG_MS, .handshake_ms = LONG_MS };
    g_autofree char *text = NULL;
    uint8_t got[sizeof(start)];

    self->directory = g_dir_make_tmp("egress-XXXXXX", NULL);
    text = g_strdup_printf("unix:%s/s", self->directory);
    self->address = address_parse(text, NULL);
    self->listener = address_listen(self->address, 8, 0600, NULL);
    g_assert_cmpint(self->listener, >=, 0);
    self->exchange = exchange_new(&exchange);
    self->limiter = limiter_new(NULL, rate, 1);
    setup.exchange = self->exchange;
    setup.address = self->address;
    setup.limiter = self->limiter;
    self->egress = egress_qemu_new(&setup);
    g_assert_true(exchange_main_push(self->exchange, start, sizeof(start)));
    self->main = accept_one(self);
    g_assert_true(stream_read_full(self->main, got, sizeof(got), NULL, NULL));
    return self;
}

static void fixture_free(Fixture *self)
{
    exchange_close(self->exchange);
    egress_shutdown(self->egress);
    egress_free(self->egress);
    stream_free(self->main);
    limiter_unref(self->limiter);
    exchange_free(self->exchange);
    close(self->listener);
    unlink(self->address->host);
    rmdir(self->directory);
    address_free(self->address);
    g_free(self->directory);
    g_free(self);
}

/* The guest waits for this page: at this rate the page alone would take 8 s, and the flood hours. */
static void test_passes_a_main_channel_that_is_held_back(void)
{
    static const uint8_t page[] = "a page that was asked for, and never waits for a rate, however low";
    Fixture *self = fixture_new(RATE);
    g_autofree uint8_t *flood = g_malloc0(FLOOD);
    g_autoptr(Stream) preempt = NULL;
    uint8_t got[sizeof(page)];
    ExchangeSnapshot now;

    g_assert_true(exchange_main_push(self->exchange, flood, FLOOD));
    exchange_preempt_expect(self->exchange);
    preempt = accept_one(self);
    g_assert_true(exchange_preempt_push(self->exchange, page, sizeof(page)));
    g_assert_true(stream_read_full(preempt, got, sizeof(got), NULL, NULL));
    g_assert_cmpmem(got, sizeof(got), page, sizeof(page));
    exchange_get_snapshot(self->exchange, &now);
    g_assert_cmpuint(now.main_delivered, <, FLOOD);
    fixture_free(self);
}

/* A destination needs it although nothing is ever said on it, and sees its end. */
static void test_is_connected_when_expected_and_ends(void)
{
    Fixture *self = fixture_new(0);
    g_autoptr(Stream) preempt = NULL;
    uint8_t byte;

    exchange_preempt_expect(self->exchange);
    preempt = accept_one(self);
    exchange_preempt_end(self->exchange);
    g_assert_cmpint(stream_read(preempt, &byte, 1, NULL), ==, 0);
    fixture_free(self);
}

/* What we took for the source's may have been a silent stranger. */
static void test_refused_one_matters_only_with_bytes(void)
{
    static const uint8_t page[] = "page";
    Fixture *self = fixture_new(0);
    g_autoptr(GError) error = NULL;
    uint8_t byte;

    shutdown(self->listener, SHUT_RDWR);
    exchange_preempt_expect(self->exchange);
    g_assert_true(exchange_main_push(self->exchange, page, 1));
    g_assert_true(stream_read_full(self->main, &byte, 1, NULL, NULL));
    g_assert_null(exchange_get_error(self->exchange));
    g_assert_true(exchange_preempt_push(self->exchange, page, sizeof(page)));
    link_fixture_wait(&self->events, EXCHANGE_EVENT_FAILED);
    error = exchange_get_error(self->exchange);
    link_fixture_assert_contains(error->message, "preempt channel to the "
                                 "destination QEMU at ");
    fixture_free(self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/egress-preempt/" path, func)
    ADD("passes-a-main-channel-that-is-held-back",
        test_passes_a_main_channel_that_is_held_back);
    ADD("is-connected-when-expected-and-ends",
        test_is_connected_when_expected_and_ends);
    ADD("refused-one-matters-only-with-bytes",
        test_refused_one_matters_only_with_bytes);
    return g_test_run();
}
