/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exchange's packets: epochs, memory, who may join, what a failure wakes.
 * The main channel and the return path are in test-exchange-main.c.
 *
 * "It waits" cannot be seen without a clock.  So a thread does what has to wait,
 * and when it comes back asserts that what it waited for had been announced.
 */
#include "tests/unit/daemon/exchange-fixture.h"

enum { ROOMY = 64 * 1024 * 1024, RING = 64 * 1024 };

static Fixture *fixture_new(ExchangeSetup setup)
{
    setup.memory = setup.memory ? setup.memory : ROOMY;
    setup.main_ring = setup.main_ring ? setup.main_ring : RING;
    return fixture_make(setup);
}

/* ---- small steps --------------------------------------------------------------- */

/* The whole of it: N channels that are known beforehand, K outbound. */
static Fixture *fixture_with_channels(unsigned n, unsigned k, uint64_t memory)
{
    Fixture *self = fixture_new((ExchangeSetup) { .channels_in = n,
                                                  .memory = memory });

    for (unsigned i = 0; i < n; i++) {
        g_assert_cmpuint(join(self, i), ==, i);
    }
    exchange_add_outs(self->exchange, k, false);
    return self;
}

static Packet *make_packet(Fixture *self, uint32_t len, uint64_t number)
{
    Packet *packet = packet_new(self->pool, PACKET_PAGES, len);

    memset(packet->payload, 0x5a, len);
    packet->header.normal_pages = len / LINK_FIXTURE_PAGE;
    packet->header.packet_num = number;
    return packet;
}

static bool push(Fixture *self, unsigned in, uint32_t len, uint64_t number)
{
    return exchange_reserve(self->exchange, in, packet_footprint(len)) &&
           exchange_push(self->exchange, in, make_packet(self, len, number));
}

static void assert_takes_packet(Fixture *self, unsigned out, uint64_t number,
                                uint64_t in_epoch)
{
    Packet *packet = NULL;
    uint64_t epoch = 99;

    g_assert_cmpint(exchange_take(self->exchange, out, &packet, &epoch), ==,
                    EXCHANGE_PACKET);
    g_assert_cmpuint(packet->header.packet_num, ==, number);
    g_assert_cmpuint(epoch, ==, in_epoch);
    exchange_done(self->exchange, out, packet);
}

static void assert_takes_sync(Fixture *self, unsigned out, uint64_t of_epoch)
{
    Packet *packet = NULL;
    uint64_t epoch = 99;

    g_assert_cmpint(exchange_take(self->exchange, out, &packet, &epoch), ==,
                    EXCHANGE_SYNC);
    g_assert_null(packet);
    g_assert_cmpuint(epoch, ==, of_epoch);
    exchange_synced(self->exchange, out);
}

/* ---- SYNC ------------------------------------------------------------------------ */

static void *take_late_sync(void *data)
{
    Fixture *self = data;

    assert_takes_sync(self, 1, 0);
    g_assert_cmpint(g_atomic_int_get(&self->announced), ==, 1);
    return NULL;
}

/* Pages of a channel that is behind would come after the destination's SYNC. */
static void test_sync_waits_for_every_inbound(void)
{
    Fixture *self = fixture_with_channels(3, 2, 0);
    GThread *thread;

    g_assert_true(exchange_sync(self->exchange, 0));
    g_assert_true(exchange_sync(self->exchange, 1));
    g_assert_true(push(self, 2, LINK_FIXTURE_PAGE, 7));
    g_assert_cmpuint(look(self).epochs, ==, 0);
    assert_takes_packet(self, 0, 7, 0);
    thread = g_thread_new("out", take_late_sync, self);     /* not the packet */
    g_atomic_int_set(&self->announced, 1);
    g_assert_true(exchange_sync(self->exchange, 2));
    g_thread_join(thread);
    assert_takes_sync(self, 0, 0);
    g_assert_cmpuint(look(self).epochs, ==, 1);
    fixture_free(self);
}

/* Channels settle late: SYNCs of those that are here must not close the epoch. */
static void test_epoch_stays_open_until_settled(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });

    join(self, 0);
    g_assert_true(exchange_sync(self->exchange, 0));
    g_assert_cmpuint(look(self).epochs, ==, 0);
    join(self, 1);
    exchange_settle(self->exchange);
    g_assert_cmpuint(look(self).epochs, ==, 0);
    g_assert_true(exchange_sync(self->exchange, 1));
    g_assert_cmpuint(look(self).epochs, ==, 1);
    fixture_free(self);
}

/* A link may be ahead of itself: what is early waits for its epoch. */
static void test_early_link_frames_wait(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { .link_fed = true });
    g_autoptr(GError) error = NULL;

    g_assert_true(exchange_decide(self->exchange, true, 2, link_fixture_uuid,
                                  &error));
    exchange_add_outs(self->exchange, 1, false);
    g_assert_true(exchange_push_epoch(self->exchange, 1,
                                      make_packet(self, 4096, 11)));
    g_assert_true(exchange_push_epoch(self->exchange, 0,
                                      make_packet(self, 4096, 10)));
    exchange_close_epoch(self->exchange, 0);
    assert_takes_packet(self, 0, 10, 0);
    assert_takes_sync(self, 0, 0);
    assert_takes_packet(self, 0, 11, 1);
    fixture_free(self);
}

/* ---- random threads ----------------------------------------------------------------- */

enum { EPOCHS = 40, CHANNELS_MOST = 8 };

typedef struct {
    Fixture *fixture;
    unsigned n_in, n_out;
    gint syncs_in[CHANNELS_MOST];       /* atomic: announced before they are sent */
    gint pushed, taken;                 /* atomic */
} Storm;

typedef struct {
    Storm *storm;
    unsigned channel;
    uint32_t seed;
} Actor;

static void *inbound_actor(void *data)
{
    g_autofree Actor *actor = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(actor->seed);
    Storm *storm = actor->storm;

    for (unsigned epoch = 0; epoch < EPOCHS; epoch++) {
        unsigned n = epoch ? g_rand_int_range(rand, 0, 12) : 0;

        while (n-- > 0) {
            g_atomic_int_inc(&storm->pushed);
            g_assert_true(push(storm->fixture, actor->channel,
                               g_rand_int_range(rand, 1, 4) * 4096, epoch));
        }
        g_atomic_int_inc(&storm->syncs_in[actor->channel]);
        g_assert_true(exchange_sync(storm->fixture->exchange, actor->channel));
    }
    return NULL;
}

/* What a destination relies on, seen from one of its channels. */
static void *outbound_actor(void *data)
{
    g_autofree Actor *actor = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(actor->seed);
    Storm *storm = actor->storm;
    Exchange *exchange = storm->fixture->exchange;
    uint64_t synced = 0;

    while (synced < EPOCHS) {
        Packet *packet;
        uint64_t epoch;
        ExchangeTake take = exchange_take(exchange, actor->channel, &packet,
                                          &epoch);

        g_assert_cmpint(take, !=, EXCHANGE_FAILED);
        g_assert_cmpuint(epoch, ==, synced);
        if (g_rand_boolean(rand)) {
            g_thread_yield();
        }
        if (take == EXCHANGE_PACKET) {
            g_assert_cmpuint(packet->header.packet_num, ==, synced);
            g_atomic_int_inc(&storm->taken);
            exchange_done(exchange, actor->channel, packet);
            continue;
        }
        for (unsigned i = 0; i < storm->n_in; i++) {
            g_assert_cmpint(g_atomic_int_get(&storm->syncs_in[i]), >=,
                            (gint)synced + 1);
        }
        exchange_synced(exchange, actor->channel);
        synced++;
    }
    return NULL;
}

static GThread *start_actor(Storm *storm, GThreadFunc func, unsigned channel)
{
    Actor *actor = g_new(Actor, 1);

    *actor = (Actor) { storm, channel, g_test_rand_int() };
    return g_thread_new("actor", func, actor);
}

static void run_storm(unsigned n_in, unsigned n_out)
{
    uint64_t memory = 3 * packet_footprint(3 * 4096);
    Storm storm = { .n_in = n_in, .n_out = n_out };
    GThread *threads[2 * CHANNELS_MOST];
    ExchangeSnapshot now;
    unsigned n = 0;

    storm.fixture = fixture_with_channels(n_in, n_out, memory);
    for (unsigned i = 0; i < n_in; i++) {
        threads[n++] = start_actor(&storm, inbound_actor, i);
    }
    for (unsigned i = 0; i < n_out; i++) {
        threads[n++] = start_actor(&storm, outbound_actor, i);
    }
    while (n > 0) {
        g_thread_join(threads[--n]);
    }
    now = look(storm.fixture);
    g_assert_cmpint(storm.taken, ==, storm.pushed);
    g_assert_cmpuint(now.packets, ==, (unsigned)storm.pushed);
    g_assert_cmpuint(now.epochs, ==, EPOCHS);
    g_assert_cmpuint(now.held, ==, 0);
    g_assert_cmpuint(now.held_peak, <=, memory);
    g_assert_true(now.all_sent);
    fixture_free(storm.fixture);
}

/* The rule itself, whatever the threads' order: nothing crosses a SYNC, on any
 * outbound channel, and nothing is lost. */
static void test_nothing_crosses_a_sync(void)
{
    static const unsigned legs[][2] = {
        { 1, 1 }, { 3, 2 }, { 2, 5 }, { 8, 3 }, { 1, 8 }, { 8, 1 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(legs); i++) {
        run_storm(legs[i][0], legs[i][1]);
    }
}

/* ---- memory ---------------------------------------------------------------------------- */

static void *push_when_there_is_room(void *data)
{
    Fixture *self = data;

    g_assert_true(push(self, 0, 4096, 2));
    g_assert_cmpint(g_atomic_int_get(&self->announced), ==, 1);
    return NULL;
}

/* A source that is faster than the WAN must not fill the host's memory. */
static void test_push_beyond_the_share_waits(void)
{
    uint64_t memory = 2 * packet_footprint(4096);
    Fixture *self = fixture_with_channels(1, 1, memory);
    Packet *lent = NULL;
    GThread *thread;
    uint64_t epoch;

    g_assert_true(push(self, 0, 4096, 0));
    g_assert_true(push(self, 0, 4096, 1));
    thread = g_thread_new("in", push_when_there_is_room, self);
    /* A packet that was taken is still held, until it is written. */
    g_assert_cmpint(exchange_take(self->exchange, 0, &lent, &epoch), ==,
                    EXCHANGE_PACKET);
    g_assert_cmpuint(look(self).held, ==, memory);
    g_atomic_int_set(&self->announced, 1);
    exchange_done(self->exchange, 0, lent);
    g_thread_join(thread);
    assert_takes_packet(self, 0, 1, 0);
    assert_takes_packet(self, 0, 2, 0);
    g_assert_cmpuint(look(self).held, ==, 0);
    g_assert_cmpuint(look(self).held_peak, ==, memory);
    fixture_free(self);
}

/* Else a share that is less than a packet would stand still for good. */
static void test_one_packet_always_fits(void)
{
    Fixture *self = fixture_with_channels(1, 1, 1000);

    for (unsigned i = 0; i < 3; i++) {
        g_assert_true(push(self, 0, MULTIFD_PACKET_SIZE, i));
        assert_takes_packet(self, 0, i, 0);
    }
    fixture_free(self);
}

enum { PUSHERS = 8, PUSHES = 200 };

typedef struct {
    Fixture *fixture;
    unsigned in;
} Pusher;

static void *push_mixed_sizes(void *data)
{
    const Pusher *self = data;

    for (unsigned i = 0; i < PUSHES; i++) {
        g_assert_true(push(self->fixture, self->in,
                           4096 << ((i + self->in) % 5), i));
    }
    return NULL;
}

/* Only who can go on is woken: one that is forgotten waits for ever. */
static void test_everybody_gets_memory(void)
{
    Fixture *self = fixture_with_channels(PUSHERS, 1,
                                          packet_footprint(64 * 1024));
    GThread *threads[PUSHERS];
    Pusher pushers[PUSHERS];
    Packet *packet;
    uint64_t epoch;

    for (unsigned i = 0; i < PUSHERS; i++) {
        pushers[i] = (Pusher) { self, i };
        threads[i] = g_thread_new("in", push_mixed_sizes, &pushers[i]);
    }
    for (unsigned i = 0; i < PUSHERS * PUSHES; i++) {
        g_assert_cmpint(exchange_take(self->exchange, 0, &packet, &epoch), ==,
                        EXCHANGE_PACKET);
        exchange_done(self->exchange, 0, packet);
    }
    for (unsigned i = 0; i < PUSHERS; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpuint(look(self).held, ==, 0);
    g_assert_cmpuint(look(self).held_peak, <=, packet_footprint(64 * 1024));
    fixture_free(self);
}

/* The SYNC that others wait for must not be behind memory that they hold. */
static void test_sync_does_not_wait_for_memory(void)
{
    Fixture *self = fixture_with_channels(2, 1, packet_footprint(4096));

    g_assert_true(push(self, 0, 4096, 0));
    g_assert_true(exchange_sync(self->exchange, 0));
    g_assert_true(exchange_sync(self->exchange, 1));
    assert_takes_packet(self, 0, 0, 0);
    assert_takes_sync(self, 0, 0);
    fixture_free(self);
}

/* ---- joining ------------------------------------------------------------------------------ */

static void assert_refused(Fixture *self, unsigned id, const char *uuid,
                           const char *part)
{
    g_autoptr(GError) error = NULL;
    unsigned in = 77, drop = 77, before = look(self).channels_in;

    g_assert_false(try_join(self, id, uuid, &in, &drop, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    link_fixture_assert_contains(error->message, part);
    g_assert_cmpuint(in, ==, 77);
    g_assert_cmpuint(drop, ==, 77);
    g_assert_cmpuint(look(self).channels_in, ==, before);
}

static const char *const our_uuid = (const char *)link_fixture_uuid;
static const char strange_uuid[16] = "somebody else's";

/* It may have been one of the source's: its pages would be missing. */
static void test_stranger_before_settle_fails(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });

    join(self, 0);
    assert_refused(self, 1, strange_uuid, "got uuid");
    assert_failed(self, "got uuid");
    fixture_free(self);
}

/* Whoever can reach the port must not be able to end a migration. */
static void test_stranger_after_settle_harms_nobody(void)
{
    Fixture *self = fixture_with_channels(2, 1, 0);
    g_autoptr(GError) error = g_error_new(WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                                          "not a QEMU");

    assert_refused(self, 1, strange_uuid, "got uuid");
    assert_refused(self, 1, our_uuid, "already taken");
    assert_refused(self, 2, our_uuid, "allowed 0 to 1");
    exchange_refuse_connection(self->exchange, error);
    assert_well(self);
    fixture_free(self);
}

static void test_refused_connection_before_settle_fails(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });
    g_autoptr(GError) error = g_error_new(WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                                          "not a QEMU");

    exchange_refuse_connection(self->exchange, error);
    assert_failed(self, "not a QEMU");
    fixture_free(self);
}

static void test_duplicate_id_before_settle_fails(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });

    join(self, 1);
    assert_refused(self, 1, our_uuid, "channel id 1 is already taken");
    assert_failed(self, "already taken");
    fixture_free(self);
}

static void test_id_beyond_the_known_count_fails(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { .channels_in = 2 });

    assert_refused(self, 2, our_uuid, "got channel id 2, allowed 0 to 1");
    assert_failed(self, "got channel id 2");
    fixture_free(self);
}

/* Ids are in any order, but a gap is a channel that never came. */
static void test_id_gap_at_settle_fails(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });

    join(self, 2);
    join(self, 0);
    exchange_settle(self->exchange);
    assert_failed(self, "connection is missing");
    g_assert_cmpuint(link_fixture_count(&self->events, EXCHANGE_EVENT_DECIDED),
                     ==, 0);
    fixture_free(self);
}

static void test_known_count_settles_by_itself(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { .channels_in = 2 });
    uint8_t uuid[MULTIFD_UUID_SIZE];
    unsigned n = 0;

    join(self, 1);
    g_assert_cmpuint(link_fixture_count(&self->events, EXCHANGE_EVENT_DECIDED),
                     ==, 0);
    join(self, 0);
    g_assert_cmpuint(link_fixture_count(&self->events, EXCHANGE_EVENT_DECIDED),
                     ==, 1);
    g_assert_cmpint(exchange_wait_decided(self->exchange, &n, uuid), ==,
                    EXCHANGE_MULTIFD);
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpmem(uuid, 16, link_fixture_uuid, 16);
    fixture_free(self);
}

/* A SYN that was lost on the way must not cost the migration: epoch 0 is empty. */
static void test_late_channel_joins_while_epoch_1_is_open(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });
    g_autoptr(GError) error = NULL;
    unsigned in, drop;

    join(self, 0);
    exchange_settle(self->exchange);
    exchange_add_outs(self->exchange, 1, false);
    g_assert_true(exchange_sync(self->exchange, 0));
    g_assert_true(try_join(self, 1, our_uuid, &in, &drop, &error));
    g_assert_cmpuint(drop, ==, 1);
    g_assert_true(exchange_sync(self->exchange, 0));
    g_assert_cmpuint(look(self).epochs, ==, 1);
    g_assert_true(push(self, in, 4096, 5));
    assert_takes_sync(self, 0, 0);
    assert_takes_packet(self, 0, 5, 1);
    g_assert_true(exchange_sync(self->exchange, in));
    g_assert_cmpuint(look(self).epochs, ==, 2);
    assert_takes_sync(self, 0, 1);
    fixture_free(self);
}

/* By then epoch 1 was called complete without its pages: corruption, if let in. */
static void test_channel_too_late_fails(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });

    join(self, 0);
    exchange_settle(self->exchange);
    g_assert_true(exchange_sync(self->exchange, 0));
    g_assert_true(exchange_sync(self->exchange, 0));
    assert_refused(self, 1, our_uuid, "came after the migration had begun");
    assert_failed(self, "came after the migration had begun");
    fixture_free(self);
}

/* Without its SYNC the others would wait for ever. */
static void test_channel_that_left_behind_fails(void)
{
    Fixture *self = fixture_with_channels(2, 1, 0);

    g_assert_true(exchange_main_push(self->exchange,
                                     (const uint8_t *)"QEVM", 4));
    g_assert_true(exchange_sync(self->exchange, 0));
    g_assert_true(exchange_sync(self->exchange, 1));
    exchange_leave(self->exchange, 1);
    assert_well(self);
    g_assert_false(exchange_sync(self->exchange, 0));
    assert_failed(self, "channel 1: ended after 1 SYNCs, another channel sent "
                  "2");
    fixture_free(self);
}

static void test_leaving_behind_fails_at_once(void)
{
    Fixture *self = fixture_with_channels(2, 1, 0);

    g_assert_true(exchange_main_push(self->exchange,
                                     (const uint8_t *)"QEVM", 4));
    g_assert_true(exchange_sync(self->exchange, 0));
    exchange_leave(self->exchange, 1);
    assert_failed(self, "channel 1: ended after 0 SYNCs");
    fixture_free(self);
}

/* What a source that gave up leaves in the backlog is no migration. */
static void test_leaving_before_main_began_fails(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });

    exchange_leave(self->exchange, join(self, 0));
    assert_failed(self, "ended before the main channel began");
    fixture_free(self);
}

/* ---- decided by the peer ----------------------------------------------------------------- */

static void test_decide_is_checked(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { .link_fed = true });
    static const unsigned counts[] = { 0, 256, G_MAXUINT };
    uint8_t uuid[MULTIFD_UUID_SIZE];
    unsigned n;

    for (size_t i = 0; i < G_N_ELEMENTS(counts); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(exchange_decide(self->exchange, true, counts[i],
                                       link_fixture_uuid, &error));
        g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
        link_fixture_assert_contains(error->message, "allowed 1 to 255");
        g_assert_cmpint(look(self).mode, ==, EXCHANGE_UNDECIDED);
    }
    g_assert_true(exchange_decide(self->exchange, true, 255, link_fixture_uuid,
                                  NULL));
    g_assert_cmpint(exchange_wait_decided(self->exchange, &n, uuid), ==,
                    EXCHANGE_MULTIFD);
    g_assert_cmpuint(n, ==, 255);
    fixture_free(self);
}

static void test_decide_twice_is_refused(void)
{
    static const uint8_t other[MULTIFD_UUID_SIZE] = "other";

    for (unsigned first = 0; first < 2; first++) {
        Fixture *self = fixture_new((ExchangeSetup) { .link_fed = true });
        g_autoptr(GError) error = NULL;

        g_assert_true(exchange_decide(self->exchange, first, first ? 3 : 0,
                                      link_fixture_uuid, NULL));
        g_assert_false(exchange_decide(self->exchange, true, 2, other, &error));
        g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
        link_fixture_assert_contains(error->message, "allowed once");
        g_assert_cmpint(look(self).mode, ==, first ? EXCHANGE_MULTIFD
                                                   : EXCHANGE_MAIN_ONLY);
        g_assert_cmpuint(look(self).channels_in, ==, first ? 3 : 0);
        g_assert_cmpmem(look(self).uuid, 16, link_fixture_uuid, 16);
        g_assert_cmpuint(link_fixture_count(&self->events,
                                            EXCHANGE_EVENT_DECIDED), ==, 1);
        fixture_free(self);
    }
}

/* ---- failing ---------------------------------------------------------------------------------- */

typedef struct {
    Fixture *fixture;
    bool (*wait)(Fixture *fixture);     /* true: it ended well, which is wrong */
} Waiter;

static bool wait_settle(Fixture *self)
{
    return exchange_wait_settle_needed(self->exchange);
}

static bool wait_geometry(Fixture *self)
{
    MultifdGeometry geometry;

    return exchange_wait_geometry(self->exchange, &geometry);
}

static bool wait_ramblocks(Fixture *self)
{
    return exchange_wait_ramblocks(self->exchange) != NULL;
}

static bool wait_decided(Fixture *self)
{
    uint8_t uuid[MULTIFD_UUID_SIZE];
    unsigned n;

    return exchange_wait_decided(self->exchange, &n, uuid) !=
           EXCHANGE_UNDECIDED;
}

static bool wait_main_data(Fixture *self)
{
    uint8_t buf[16];

    return exchange_main_pull(self->exchange, buf, sizeof(buf), true) >= 0;
}

static bool wait_return_data(Fixture *self)
{
    uint8_t buf[16];

    return exchange_return_pull(self->exchange, buf, sizeof(buf)) >= 0;
}

static bool wait_epoch_to_push(Fixture *self)
{
    return push(self, 0, 4096, 0);
}

static bool wait_epoch_to_sync(Fixture *self)
{
    return exchange_sync(self->exchange, 0);
}

static bool wait_memory(Fixture *self)
{
    return push(self, 1, 4096, 0);
}

static bool wait_work(Fixture *self)
{
    Packet *packet;
    uint64_t epoch;

    return exchange_take(self->exchange, 0, &packet, &epoch) !=
           EXCHANGE_FAILED;
}

static bool wait_main_room(Fixture *self)
{
    g_autoptr(GByteArray) stream = link_fixture_main_start();

    return exchange_main_push(self->exchange, stream->data, stream->len);
}

static bool wait_return_room(Fixture *self)
{
    g_autofree uint8_t *much = g_malloc0(1024 * 1024);

    return exchange_return_push(self->exchange, much, 1024 * 1024);
}

static void *waiter_thread(void *data)
{
    Waiter *waiter = data;

    g_atomic_int_inc(&waiter->fixture->announced);
    g_assert_false(waiter->wait(waiter->fixture));
    return NULL;
}

/* All of them at once, then over: nobody may be left standing. */
static void check_wakes(Fixture *self, bool (*const waits[])(Fixture *),
                        unsigned n, bool failing)
{
    GThread *threads[16];
    Waiter waiters[16];

    for (unsigned i = 0; i < n; i++) {
        waiters[i] = (Waiter) { self, waits[i] };
        threads[i] = g_thread_new("waiter", waiter_thread, &waiters[i]);
    }
    while (g_atomic_int_get(&self->announced) < (gint)n) {
        g_thread_yield();
    }
    if (failing) {
        fail(self, "first");
        fail(self, "second");
        assert_failed(self, "first");
    } else {
        exchange_close(self->exchange);
        assert_well(self);
    }
    for (unsigned i = 0; i < n; i++) {
        g_thread_join(threads[i]);
        g_assert_false(waits[i](self));     /* later waits, too */
    }
}

static void check_wakes_before_anything(bool failing)
{
    static bool (*const waits[])(Fixture *) = {
        wait_settle, wait_geometry, wait_ramblocks, wait_decided,
        wait_main_data, wait_return_data,
    };
    Fixture *self = fixture_new((ExchangeSetup) { 0 });

    check_wakes(self, waits, G_N_ELEMENTS(waits), failing);
    fixture_free(self);
}

static void check_wakes_in_flight(bool failing)
{
    static bool (*const waits[])(Fixture *) = {
        wait_epoch_to_push, wait_epoch_to_sync, wait_memory, wait_work,
        wait_main_room, wait_return_room,
    };
    Fixture *self = fixture_new((ExchangeSetup) {
        .channels_in = 2, .main_ring = 64, .memory = packet_footprint(4096),
    });

    join(self, 0);
    join(self, 1);
    exchange_add_outs(self->exchange, 1, false);
    g_assert_true(exchange_sync(self->exchange, 0));
    /* Room that is taken, by a packet that is still being read. */
    g_assert_true(exchange_reserve(self->exchange, 1, packet_footprint(4096)));
    check_wakes(self, waits, G_N_ELEMENTS(waits), failing);
    fixture_free(self);
}

/* One waiter that is forgotten is a daemon that hangs when a migration fails. */
static void test_failure_wakes_every_waiter(void)
{
    check_wakes_before_anything(true);
    check_wakes_in_flight(true);
}

static void test_close_wakes_every_waiter(void)
{
    check_wakes_before_anything(false);
    check_wakes_in_flight(false);
}

/* An operator is told which packet it was. */
static void test_rejected_packet_is_remembered(void)
{
    Fixture *self = fixture_with_channels(1, 1, 0);
    unsigned channel;
    uint64_t packet;

    g_assert_false(exchange_get_rejected(self->exchange, &channel, &packet));
    exchange_reject(self->exchange, 3, 1187, g_error_new(
        WIRE_ERROR, WIRE_ERROR_PROTOCOL, "bad"));
    exchange_reject(self->exchange, 4, 1, g_error_new(
        WIRE_ERROR, WIRE_ERROR_PROTOCOL, "worse"));
    g_assert_true(exchange_get_rejected(self->exchange, &channel, &packet));
    g_assert_cmpuint(channel, ==, 3);
    g_assert_cmpuint(packet, ==, 1187);
    g_assert_cmpuint(link_fixture_count(&self->events, EXCHANGE_EVENT_REJECTED),
                     ==, 1);
    assert_failed(self, "bad");
    fixture_free(self);
}

/* ---- numbers -------------------------------------------------------------------------------------- */

/* What operators see is what went through, by the channels' own ids. */
static void test_snapshot_counts(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { .channels_in = 2 });
    Packet *device = packet_new(self->pool, PACKET_DEVICE_STATE, 100);
    unsigned first = join(self, 1), second = join(self, 0);
    ExchangeSnapshot now;

    memset(device->payload, 0, 100);
    exchange_add_outs(self->exchange, 1, false);
    g_assert_true(push(self, first, 8192, 0));
    g_assert_true(exchange_reserve(self->exchange, second,
                                   packet_footprint(100)));
    g_assert_true(exchange_push(self->exchange, second, device));
    g_assert_true(exchange_sync(self->exchange, second));
    now = look(self);
    g_assert_cmpuint(now.held, ==, packet_footprint(8192) +
                                   packet_footprint(100));
    g_assert_false(now.all_sent);
    assert_takes_packet(self, 0, 0, 0);
    assert_takes_packet(self, 0, 0, 0);
    g_assert_true(exchange_sync(self->exchange, first));
    g_assert_false(look(self).all_sent);
    assert_takes_sync(self, 0, 0);

    now = look(self);
    g_assert_cmpint(now.mode, ==, EXCHANGE_MULTIFD);
    g_assert_cmpuint(now.channels_in, ==, 2);
    g_assert_cmpuint(now.channels_out, ==, 1);
    g_assert_cmpuint(now.packets, ==, 2);
    g_assert_cmpuint(now.normal_pages, ==, 2);
    g_assert_cmpuint(now.device_packets, ==, 1);
    g_assert_cmpuint(now.in[1].bytes, ==, 8192);
    g_assert_cmpuint(now.in[0].bytes, ==, 100);
    g_assert_cmpuint(now.in[0].syncs, ==, 1);
    g_assert_cmpuint(now.in[1].syncs, ==, 1);
    g_assert_cmpuint(now.out[0].packets, ==, 2);
    g_assert_cmpuint(now.out[0].bytes, ==, 8292);
    g_assert_cmpuint(now.out[0].syncs, ==, 1);
    g_assert_cmpuint(now.epochs, ==, 1);
    g_assert_cmpuint(now.held, ==, 0);
    g_assert_true(now.all_sent);
    g_assert_cmpmem(now.uuid, 16, link_fixture_uuid, 16);
    fixture_free(self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/exchange/" path, func)
    ADD("sync/waits-for-every-inbound", test_sync_waits_for_every_inbound);
    ADD("sync/epoch-stays-open-until-settled",
        test_epoch_stays_open_until_settled);
    ADD("sync/early-link-frames-wait", test_early_link_frames_wait);
    ADD("sync/nothing-crosses-a-sync", test_nothing_crosses_a_sync);
    ADD("memory/push-beyond-the-share-waits",
        test_push_beyond_the_share_waits);
    ADD("memory/one-packet-always-fits", test_one_packet_always_fits);
    ADD("memory/everybody-gets-some", test_everybody_gets_memory);
    ADD("memory/sync-does-not-wait-for-memory",
        test_sync_does_not_wait_for_memory);
    ADD("join/stranger-before-settle-fails", test_stranger_before_settle_fails);
    ADD("join/stranger-after-settle-harms-nobody",
        test_stranger_after_settle_harms_nobody);
    ADD("join/refused-connection-before-settle-fails",
        test_refused_connection_before_settle_fails);
    ADD("join/duplicate-id-before-settle-fails",
        test_duplicate_id_before_settle_fails);
    ADD("join/id-beyond-the-known-count-fails",
        test_id_beyond_the_known_count_fails);
    ADD("join/id-gap-at-settle-fails", test_id_gap_at_settle_fails);
    ADD("join/known-count-settles-by-itself",
        test_known_count_settles_by_itself);
    ADD("join/late-channel-joins-while-epoch-1-is-open",
        test_late_channel_joins_while_epoch_1_is_open);
    ADD("join/channel-too-late-fails", test_channel_too_late_fails);
    ADD("leave/channel-that-left-behind-fails",
        test_channel_that_left_behind_fails);
    ADD("leave/leaving-behind-fails-at-once",
        test_leaving_behind_fails_at_once);
    ADD("leave/before-main-began-fails", test_leaving_before_main_began_fails);
    ADD("decide/is-checked", test_decide_is_checked);
    ADD("decide/twice-is-refused", test_decide_twice_is_refused);
    ADD("fail/wakes-every-waiter", test_failure_wakes_every_waiter);
    ADD("fail/close-wakes-every-waiter", test_close_wakes_every_waiter);
    ADD("fail/rejected-packet-is-remembered",
        test_rejected_packet_is_remembered);
    ADD("snapshot/counts", test_snapshot_counts);
    return g_test_run();
}
