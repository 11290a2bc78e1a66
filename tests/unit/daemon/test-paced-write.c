/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/paced-write.h"
#include "tests/unit/daemon/link-fixture.h"

enum { TOTAL = 300 * 1000 };

typedef struct {
    Stream *ends[2];
    uint8_t *sent;
    struct iovec iov[4];
} Fixture;

/* Four pieces, one of them empty, that together are @sent. */
static void begin(Fixture *self)
{
    static const size_t lengths[] = { 1, 0, 100 * 1000, TOTAL - 100 * 1000 - 1 };
    size_t at = 0;

    link_fixture_pair(self->ends, "destination", "source");
    self->sent = g_malloc(TOTAL);
    for (size_t i = 0; i < TOTAL; i++) {
        self->sent[i] = i % 253;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        self->iov[i] = (struct iovec) { self->sent + at, lengths[i] };
        at += lengths[i];
    }
    g_assert_cmpuint(at, ==, TOTAL);
}

static void end(Fixture *self)
{
    stream_free(self->ends[0]);
    stream_free(self->ends[1]);
    g_free(self->sent);
}

static void *read_all(void *data)
{
    Fixture *self = data;
    g_autofree uint8_t *got = g_malloc(TOTAL);
    uint8_t more;

    g_assert_true(stream_read_full(self->ends[1], got, TOTAL, NULL, NULL));
    g_assert_cmpmem(got, TOTAL, self->sent, TOTAL);
    g_assert_cmpint(stream_read(self->ends[1], &more, 1, NULL), ==, 0);
    return NULL;
}

static void check_arrives_whole(Limiter *limiter)
{
    g_autoptr(GError) error = NULL;
    struct iovec before[4];
    GThread *thread;
    Fixture self;

    begin(&self);
    memcpy(before, self.iov, sizeof(before));
    thread = g_thread_new("reader", read_all, &self);
    g_assert_true(paced_write(self.ends[0], limiter, self.iov, 4, &error));
    g_assert_no_error(error);
    g_assert_cmpmem(self.iov, sizeof(before), before, sizeof(before));
    stream_finish(self.ends[0]);
    g_thread_join(thread);
    end(&self);
}

static void test_without_limit(void)
{
    g_autoptr(Limiter) unlimited = limiter_new(NULL, 0, 1);

    check_arrives_whole(NULL);
    check_arrives_whole(unlimited);
}

/* Portions begin and end anywhere in the pieces: no byte twice, none left out. */
static void test_in_portions(void)
{
    g_autoptr(Limiter) limiter = limiter_new(NULL, 10 * 1000 * 1000, 1);

    g_assert_cmpuint(limiter_get_quantum(limiter), <, TOTAL / 4);
    check_arrives_whole(limiter);
}

/* Else a packet would burst: what a rate allows takes its time. */
static void test_keeps_to_the_rate(void)
{
    g_autoptr(Limiter) limiter = limiter_new(NULL, 10 * 1000 * 1000, 1);
    int64_t begun_us = g_get_monotonic_time();

    check_arrives_whole(limiter);
    /* 30 ms at that rate, 10 of which a bucket may hold. */
    g_assert_cmpint(g_get_monotonic_time() - begun_us, >=, 19 * 1000);
}

/* A migration that ends must not wait for its turn. */
static void test_closed_limiter_ends_it(void)
{
    g_autoptr(Limiter) limiter = limiter_new(NULL, 10 * 1000 * 1000, 1);
    g_autoptr(GError) error = NULL;
    Fixture self;
    uint8_t byte;

    begin(&self);
    limiter_close(limiter);
    g_assert_false(paced_write(self.ends[0], limiter, self.iov, 4, &error));
    g_assert_error(error, STREAM_ERROR, STREAM_ERROR_SHUTDOWN);
    stream_finish(self.ends[0]);
    g_assert_cmpint(stream_read(self.ends[1], &byte, 1, NULL), ==, 0);
    end(&self);
}

static void test_broken_stream_fails(void)
{
    g_autoptr(Limiter) limiter = limiter_new(NULL, 10 * 1000 * 1000, 1);
    g_autoptr(GError) error = NULL;
    Fixture self;

    begin(&self);
    g_clear_pointer(&self.ends[1], stream_free);
    g_assert_false(paced_write(self.ends[0], limiter, self.iov, 4, &error));
    g_assert_error(error, STREAM_ERROR, STREAM_ERROR_IO);
    end(&self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/paced-write/" path, func)
    ADD("without-limit", test_without_limit);
    ADD("in-portions", test_in_portions);
    ADD("keeps-to-the-rate", test_keeps_to_the_rate);
    ADD("closed-limiter-ends-it", test_closed_limiter_ends_it);
    ADD("broken-stream-fails", test_broken_stream_fails);
    return g_test_run();
}
