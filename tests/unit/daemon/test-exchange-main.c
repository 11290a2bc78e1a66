/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exchange's main channel and return path: markers held back to the byte,
 * the mode learnt from the stream, SHUT.  Packets are in test-exchange.c.
 */
#include <stdio.h>

#include "tests/unit/daemon/exchange-fixture.h"

enum {
    RING = 64 * 1024,
    MARKER_SIZE = 8,        /* MULTIFD_FLUSH or EOS, a big-endian word */
    FOOTER_SIZE = 5,
};

static Fixture *fixture_new(ExchangeSetup setup)
{
    setup.memory = 1024 * 1024;
    setup.main_ring = setup.main_ring ? setup.main_ring : RING;
    return fixture_make(setup);
}

static Fixture *fixture_with_channels(unsigned n, unsigned k, bool confirm,
                                      size_t main_ring)
{
    Fixture *self = fixture_new((ExchangeSetup) {
        .channels_in = n, .main_ring = main_ring,
    });

    for (unsigned i = 0; i < n; i++) {
        join(self, i);
    }
    exchange_add_outs(self->exchange, k, confirm);
    return self;
}

/* ---- a main stream of our own ---------------------------------------------------- */

static void put_block_list(GByteArray *s)
{
    uint64_t length = LINK_FIXTURE_BLOCK_PAGES * LINK_FIXTURE_PAGE;

    put(s, length | 0x04, 8);
    put(s, strlen(LINK_FIXTURE_BLOCK), 1);
    put_text(s, LINK_FIXTURE_BLOCK);
    put(s, length, 8);
}

static void put_section_end(GByteArray *s)
{
    put(s, 0x10, 8);                            /* EOS */
    put(s, 0x7e, 1);
    put(s, 2, 4);
}

/* Up to and with the RAM START section: marker 1 is FLUSH or, legacy, its EOS. */
static GByteArray *make_start(bool return_path, bool flush)
{
    GByteArray *s = g_byte_array_new();

    put_text(s, "QEVM");
    put(s, 3, 4);
    put(s, 0x07, 1);
    put(s, 14, 4);
    put_text(s, "pc-i440fx-10.0");
    if (return_path) {
        put(s, 0x08, 1);
        put(s, 1, 2);
        put(s, 0, 2);
    }
    put(s, 0x01, 1);
    put(s, 2, 4);
    put(s, 3, 1);
    put_text(s, "ram");
    put(s, 0, 4);
    put(s, 4, 4);
    put_block_list(s);
    if (flush) {
        put(s, 0x200, 8);
    }
    put_section_end(s);
    return s;
}

static size_t first_marker(const GByteArray *start, bool flush)
{
    return start->len - FOOTER_SIZE - MARKER_SIZE * (flush ? 2 : 1);
}

static void put_page(GByteArray *s)
{
    put(s, 0x02, 1);                            /* PART */
    put(s, 2, 4);
    put(s, 0x08, 8);                            /* PAGE at 0 */
    put(s, strlen(LINK_FIXTURE_BLOCK), 1);
    put_text(s, LINK_FIXTURE_BLOCK);
    for (unsigned i = 0; i < LINK_FIXTURE_PAGE / 8; i++) {
        put(s, i, 8);
    }
    put_section_end(s);
}

static void put_ram_end(GByteArray *s)
{
    put(s, 0x03, 1);
    put(s, 2, 4);
    put_section_end(s);
}

static void push(Fixture *self, const GByteArray *s)
{
    g_assert_true(exchange_main_push(self->exchange, s->data, s->len));
}

/* Exactly @len bytes can be pulled now, @want's. */
static void assert_pulls(Fixture *self, bool gated, const uint8_t *want,
                         size_t len)
{
    g_autofree uint8_t *buf = g_malloc(RING);
    gssize n = exchange_main_pull(self->exchange, buf, RING, gated);

    g_assert_cmpint(n, >, 0);
    g_assert_cmpmem(buf, n, want, len);
}

static void sync_out(Fixture *self, unsigned out)
{
    Packet *packet;
    uint64_t epoch;

    g_assert_cmpint(exchange_take(self->exchange, out, &packet, &epoch), ==,
                    EXCHANGE_SYNC);
    exchange_synced(self->exchange, out);
}


/* One round: every inbound channel says SYNC, every outbound one writes it. */
static void sync_all(Fixture *self, unsigned n_in, unsigned n_out)
{
    for (unsigned in = 0; in < n_in; in++) {
        g_assert_true(exchange_sync(self->exchange, in));
    }
    for (unsigned out = 0; out < n_out; out++) {
        sync_out(self, out);
    }
}

/* Pulls once; whatever it waits for had been announced when it comes back. */
static void *pull_later(void *data)
{
    Fixture *self = data;
    g_autofree uint8_t *buf = g_malloc(RING);
    gssize n = exchange_main_pull(self->exchange, buf, RING, true);

    g_assert_cmpint(g_atomic_int_get(&self->announced), ==, 1);
    return GINT_TO_POINTER(n);
}

/* ---- markers ---------------------------------------------------------------------- */

/* A destination at a marker waits for SYNCs; without them it hangs, QMP and all. */
static void check_marker_waits_for_every_outbound(bool flush)
{
    Fixture *self = fixture_with_channels(2, 2, false, 0);
    g_autoptr(GByteArray) s = make_start(true, flush);
    size_t gate = first_marker(s, flush);
    GThread *thread;

    push(self, s);
    g_assert_true(exchange_sync(self->exchange, 0));
    g_assert_true(exchange_sync(self->exchange, 1));
    sync_out(self, 0);
    assert_pulls(self, true, s->data, gate);
    thread = g_thread_new("main", pull_later, self);
    g_assert_cmpuint(look(self).markers, ==, 0);
    g_atomic_int_set(&self->announced, 1);
    sync_out(self, 1);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, s->len - gate);
    g_assert_cmpuint(look(self).markers, ==, 1);
    fixture_free(self);
}

static void test_marker_waits_for_every_outbound(void)
{
    check_marker_waits_for_every_outbound(true);
    check_marker_waits_for_every_outbound(false);
}

/* Several markers held: each SYNC opens one, to the byte. */
static void test_each_sync_opens_one_marker(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);
    g_autoptr(GByteArray) s = make_start(true, true);
    size_t gate[4] = { first_marker(s, true) };

    for (unsigned i = 1; i < 3; i++) {
        gate[i] = s->len + 5;
        link_fixture_put_marker(s);
    }
    gate[3] = s->len;
    push(self, s);
    assert_pulls(self, true, s->data, gate[0]);
    for (unsigned i = 0; i < 3; i++) {
        sync_all(self, 1, 1);
        assert_pulls(self, true, s->data + gate[i], gate[i + 1] - gate[i]);
        g_assert_cmpuint(look(self).markers, ==, i + 1);
    }
    fixture_free(self);
}

/* TCP cuts where it likes: half of a marker tells a destination nothing, the
 * rest of it must still wait. */
static void check_split_marker(bool flush, unsigned split)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);
    g_autoptr(GByteArray) s = make_start(true, flush);
    size_t cut = first_marker(s, flush) + split;
    GThread *thread;

    g_assert_true(exchange_main_push(self->exchange, s->data, cut));
    assert_pulls(self, true, s->data, cut);
    g_assert_true(exchange_main_push(self->exchange, s->data + cut,
                                     s->len - cut));
    thread = g_thread_new("main", pull_later, self);
    g_assert_true(exchange_sync(self->exchange, 0));
    g_atomic_int_set(&self->announced, 1);
    sync_out(self, 0);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, s->len - cut);
    g_assert_cmpuint(look(self).main_out, ==, s->len);
    fixture_free(self);
}

static void test_split_marker_is_held(void)
{
    for (unsigned split = 1; split < MARKER_SIZE; split++) {
        check_split_marker(true, split);
        check_split_marker(false, split);
    }
}

/* To another host a SYNC is not there because it was written. */
static void test_marker_waits_for_confirmation(void)
{
    Fixture *self = fixture_with_channels(1, 2, true, 0);
    g_autoptr(GByteArray) s = make_start(true, true);
    size_t gate = first_marker(s, true);
    GThread *thread;

    push(self, s);
    sync_all(self, 1, 2);
    exchange_confirm_syncs(self->exchange, 1, 1);
    assert_pulls(self, true, s->data, gate);
    thread = g_thread_new("main", pull_later, self);
    g_atomic_int_set(&self->announced, 1);
    exchange_confirm_syncs(self->exchange, 0, 1);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, s->len - gate);
    fixture_free(self);
}

/* A link carries the markers; the far end holds them back. */
static void test_ungated_pull_does_not_wait(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);
    g_autoptr(GByteArray) s = make_start(true, true);

    push(self, s);
    assert_pulls(self, false, s->data, s->len);
    fixture_free(self);
}

/* ---- markers of real streams ---------------------------------------------------------- */

static GByteArray *load_main(const char *name)
{
    const char *root = g_getenv("MULTIFERRY_CAPTURES");
    g_autofree char *path = g_build_filename(root ? root : "tests/captures",
                                             name, "main.c2s.xz", NULL);
    g_autofree char *quoted = g_shell_quote(path);
    g_autofree char *command = g_strdup_printf("xz -dc %s", quoted);
    g_autofree char *xz = g_find_program_in_path("xz");
    GByteArray *all;
    uint8_t buf[65536];
    size_t n;
    FILE *pipe;

    if (!xz || !g_file_test(path, G_FILE_TEST_EXISTS)) {
        g_test_skip("no xz, or no captures: set MULTIFERRY_CAPTURES, or run "
                    "at the top");
        return NULL;
    }
    all = g_byte_array_new();
    pipe = popen(command, "r");
    g_assert_nonnull(pipe);
    while ((n = fread(buf, 1, sizeof(buf), pipe)) > 0) {
        g_byte_array_append(all, buf, n);
    }
    g_assert_cmpint(pclose(pipe), ==, 0);
    return all;
}

/* Offsets of the markers; test-captures holds the parser against a second one. */
static GArray *find_markers(const GByteArray *s)
{
    g_autoptr(MainStream) stream = main_stream_new();
    GArray *offsets = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    size_t at = 0;

    while (at < s->len) {
        bool has_event;
        MainEvent event;
        size_t used;

        g_assert_true(main_stream_feed(stream, s->data + at, s->len - at, &used,
                                       &event, &has_event, NULL));
        if (has_event && event.kind == MAIN_EVENT_MARKER) {
            g_array_append_val(offsets, event.offset);
        }
        at += used;
    }
    return offsets;
}

typedef struct {
    Fixture *fixture;
    GByteArray *stream;
    GArray *markers;
    GMutex lock;
    GCond moved;
    uint64_t syncs;         /* announced on all channels */
    size_t pulled;
} Replay;

/* As much as the SYNCs allow, the rest of a split marker not counted. */
static size_t get_limit(const Replay *self)
{
    return self->syncs < self->markers->len
           ? g_array_index(self->markers, uint64_t, self->syncs) +
             MARKER_SIZE - 1
           : self->stream->len;
}

static void *replay_puller(void *data)
{
    Replay *self = data;
    uint8_t buf[777];

    while (self->pulled < self->stream->len) {
        gssize n = exchange_main_pull(self->fixture->exchange, buf, sizeof(buf),
                                      true);

        g_assert_cmpint(n, >, 0);
        g_mutex_lock(&self->lock);
        g_assert_cmpmem(buf, n, self->stream->data + self->pulled, n);
        self->pulled += n;
        g_assert_cmpuint(self->pulled, <=, get_limit(self));
        g_cond_broadcast(&self->moved);
        g_mutex_unlock(&self->lock);
    }
    return NULL;
}

static void *replay_pusher(void *data)
{
    Replay *self = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    size_t at = 0;

    while (at < self->stream->len) {
        size_t n = g_rand_int_range(rand, 1, 500);

        n = MIN(n, self->stream->len - at);
        g_assert_true(exchange_main_push(self->fixture->exchange,
                                         self->stream->data + at, n));
        at += n;
    }
    return NULL;
}

/* Marker k + 1 is reached first, then its SYNC is sent. */
static void replay_syncs(Replay *self)
{
    for (unsigned i = 0; i < self->markers->len; i++) {
        g_mutex_lock(&self->lock);
        while (self->pulled < g_array_index(self->markers, uint64_t, i)) {
            g_cond_wait(&self->moved, &self->lock);
        }
        self->syncs++;
        g_mutex_unlock(&self->lock);
        sync_all(self->fixture, 2, 3);
    }
}

/* QEMU's own streams, in random pieces through a ring that is far too small. */
static void test_real_stream_keeps_its_markers(gconstpointer name)
{
    Replay self = { .stream = load_main(name) };
    GThread *pusher, *puller;

    if (!self.stream) {
        return;
    }
    self.markers = find_markers(self.stream);
    g_assert_cmpuint(self.markers->len, >, 1);
    self.fixture = fixture_with_channels(2, 3, false, 1000);
    puller = g_thread_new("pull", replay_puller, &self);
    pusher = g_thread_new("push", replay_pusher, &self);
    replay_syncs(&self);
    g_thread_join(pusher);
    g_thread_join(puller);
    g_assert_cmpuint(self.pulled, ==, self.stream->len);
    g_assert_cmpuint(look(self.fixture).markers, ==, self.markers->len);
    g_assert_true(look(self.fixture).return_path);
    g_assert_cmpuint(link_fixture_count(&self.fixture->events,
                                        EXCHANGE_EVENT_RAMBLOCKS), ==, 1);
    fixture_free(self.fixture);
    g_array_unref(self.markers);
    g_byte_array_unref(self.stream);
}

/* ---- with or without multifd --------------------------------------------------------------- */

/* A marker proves nothing: 7.2's looks the same without multifd. */
static void test_undecided_stays_shut(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });
    g_autoptr(GByteArray) s = make_start(true, false);
    size_t gate = first_marker(s, false);
    GThread *thread;

    push(self, s);
    g_assert_cmpint(look(self).mode, ==, EXCHANGE_UNDECIDED);
    assert_pulls(self, true, s->data, gate);
    thread = g_thread_new("main", pull_later, self);
    g_assert_cmpuint(look(self).main_out, ==, gate);
    g_atomic_int_set(&self->announced, 1);
    exchange_settle(self->exchange);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, s->len - gate);
    g_assert_cmpint(look(self).mode, ==, EXCHANGE_MAIN_ONLY);
    fixture_free(self);
}

/* Pages on main before any channel: nobody need wait for the end of the RAM. */
static void test_page_data_means_main_only(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });
    g_autoptr(GByteArray) s = make_start(true, false);

    put_page(s);
    push(self, s);
    g_assert_cmpint(look(self).mode, ==, EXCHANGE_MAIN_ONLY);
    g_assert_true(exchange_has_pages_on_main(self->exchange));
    g_assert_false(exchange_wait_settle_needed(self->exchange));
    g_assert_cmpuint(link_fixture_count(&self->events, EXCHANGE_EVENT_DECIDED),
                     ==, 1);
    assert_pulls(self, true, s->data, s->len);
    fixture_free(self);
}

/* A channel after that would have no place for its pages. */
static void test_channel_after_main_only_fails(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });
    MultifdInit init = { .id = 0 };
    g_autoptr(GError) error = NULL;
    unsigned in, drop;

    exchange_settle(self->exchange);
    g_assert_false(exchange_join(self->exchange, &init, &in, &drop, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    assert_failed(self, "came after the migration had begun");
    fixture_free(self);
}

/* A guest without a page to send: only the end of its RAM decides. */
static void test_ram_end_asks_to_settle(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });
    g_autoptr(GByteArray) s = make_start(true, false);

    push(self, s);
    g_assert_false(look(self).begun);
    g_byte_array_set_size(s, 0);
    put_ram_end(s);
    push(self, s);
    g_assert_true(exchange_wait_settle_needed(self->exchange));
    g_assert_cmpint(look(self).mode, ==, EXCHANGE_UNDECIDED);
    exchange_settle(self->exchange);
    g_assert_cmpint(look(self).mode, ==, EXCHANGE_MAIN_ONLY);
    g_assert_false(exchange_wait_settle_needed(self->exchange));
    fixture_free(self);
}

/* With a channel here marker 1 says that all of them are. */
static void test_marker_with_a_channel_asks_to_settle(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });
    g_autoptr(GByteArray) s = make_start(true, true);
    uint8_t uuid[MULTIFD_UUID_SIZE];
    unsigned n;

    join(self, 0);
    g_assert_cmpint(look(self).mode, ==, EXCHANGE_MULTIFD);
    push(self, s);
    g_assert_true(exchange_wait_settle_needed(self->exchange));
    join(self, 1);
    exchange_settle(self->exchange);
    g_assert_cmpint(exchange_wait_decided(self->exchange, &n, uuid), ==,
                    EXCHANGE_MULTIFD);
    g_assert_cmpuint(n, ==, 2);
    fixture_free(self);
}

static void *push_into_small_ring(void *data)
{
    Fixture *self = data;
    g_autoptr(GByteArray) s = make_start(true, false);

    put_ram_end(s);
    push(self, s);
    return NULL;
}

/* Held main bytes are bounded, and the gate is shut: a full ring decides, too. */
static void test_full_ring_asks_to_settle(void)
{
    g_autoptr(GByteArray) s = make_start(true, false);
    Fixture *self = fixture_new((ExchangeSetup) { .main_ring = s->len });
    GThread *thread = g_thread_new("push", push_into_small_ring, self);

    g_assert_true(exchange_wait_settle_needed(self->exchange));
    g_assert_cmpuint(look(self).main_in, ==, s->len);
    exchange_settle(self->exchange);
    assert_pulls(self, true, s->data, s->len);
    g_thread_join(thread);
    fixture_free(self);
}

static void *wait_settle_in_vain(void *data)
{
    Fixture *self = data;

    g_assert_false(exchange_wait_settle_needed(self->exchange));
    g_assert_cmpint(g_atomic_int_get(&self->announced), ==, 1);
    return NULL;
}

/* The far side has no listener: it must believe its peer alone. */
static void test_link_fed_never_decides_itself(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { .link_fed = true });
    GThread *thread = g_thread_new("settle", wait_settle_in_vain, self);
    g_autoptr(GByteArray) s = make_start(true, false);
    size_t gate = first_marker(s, false);

    put_page(s);
    put_ram_end(s);
    put(s, 0x04, 1);                            /* a device: opaque */
    push(self, s);
    g_assert_cmpint(look(self).mode, ==, EXCHANGE_UNDECIDED);
    assert_pulls(self, true, s->data, gate);
    g_atomic_int_set(&self->announced, 1);
    g_assert_true(exchange_decide(self->exchange, false, 0, link_fixture_uuid,
                                  NULL));
    assert_pulls(self, true, s->data + gate, s->len - gate);
    exchange_close(self->exchange);
    g_thread_join(thread);
    fixture_free(self);
}

/* ---- what the main channel tells ------------------------------------------------------------- */

static void test_geometry_comes_with_the_configuration(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });
    g_autoptr(GByteArray) s = make_start(true, true);
    MultifdGeometry geometry;
    bool over = true;

    g_assert_false(exchange_wait_geometry_for(self->exchange, 0, &geometry,
                                              &over));
    g_assert_false(over);
    push(self, s);
    g_assert_true(exchange_wait_geometry_for(self->exchange, 0, &geometry,
                                             &over));
    g_assert_false(over);
    g_assert_cmpuint(geometry.page_size, ==, 4096);
    g_assert_cmpuint(geometry.header_size, ==, 320 + 8 * 128);
    g_assert_true(exchange_wait_geometry(self->exchange, &geometry));
    fail(self, "over");
    g_assert_false(exchange_wait_geometry_for(self->exchange, 60000, &geometry,
                                              &over));
    g_assert_true(over);
    fixture_free(self);
}

/* The configuration's end, and the end of OPEN_RETURN_PATH behind it. */
enum { AT_CONFIGURED = 8 + 5 + 14, AT_ADVISE = AT_CONFIGURED + 5 };

static void insert(GByteArray *s, size_t at, const GByteArray *more)
{
    g_autoptr(GByteArray) rest = g_byte_array_new();

    g_byte_array_append(rest, s->data + at, s->len - at);
    g_byte_array_set_size(s, at);
    g_byte_array_append(s, more->data, more->len);
    g_byte_array_append(s, rest->data, rest->len);
}

static void say_page_bits(GByteArray *s, unsigned bits)
{
    g_autoptr(GByteArray) more = g_byte_array_new();

    put(more, 0x05, 1);                         /* SUBSECTION */
    put(more, strlen("configuration/target-page-bits"), 1);
    put_text(more, "configuration/target-page-bits");
    put(more, 1, 4);
    put(more, bits, 4);
    insert(s, AT_CONFIGURED, more);
}

static void say_postcopy_advise(GByteArray *s, uint64_t page_size)
{
    g_autoptr(GByteArray) more = g_byte_array_new();

    put(more, 0x08, 1);
    put(more, 3, 2);
    put(more, 16, 2);
    put(more, page_size, 8);
    put(more, page_size, 8);
    insert(s, AT_ADVISE, more);
}

typedef struct {
    const char *name;
    unsigned bits;              /* 0: the configuration does not say */
    uint64_t advised;           /* 0: no POSTCOPY_ADVISE */
    uint64_t told;
    uint64_t expected;
} PageSizeCase;

/* What the stream says wins; what says nothing is as we were told. */
static void test_page_size(gconstpointer data)
{
    const PageSizeCase *c = data;
    Fixture *self = fixture_new((ExchangeSetup) { .page_size = c->told });
    g_autoptr(GByteArray) s = make_start(true, true);
    MultifdGeometry geometry;
    bool over;

    if (c->advised) {
        say_postcopy_advise(s, c->advised);
    }
    if (c->bits) {
        say_page_bits(s, c->bits);
    }
    /* A byte at a time: no piece may settle it too early. */
    for (size_t i = 0; i < s->len; i++) {
        g_assert_true(exchange_main_push(self->exchange, s->data + i, 1));
        if (exchange_wait_geometry_for(self->exchange, 0, &geometry, &over)) {
            g_assert_cmpuint(geometry.page_size, ==, c->expected);
        }
    }
    g_assert_true(exchange_wait_geometry_for(self->exchange, 0, &geometry,
                                             &over));
    fixture_free(self);
}

/* The peer knows it from the QEMU or the operator at its side. */
static void test_page_size_comes_from_the_peer(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { .link_fed = true });
    g_autoptr(GByteArray) s = make_start(true, true);
    g_autoptr(GError) error = NULL;
    MultifdGeometry geometry;

    push(self, s);
    g_assert_false(exchange_set_page_size(self->exchange, 12288, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_true(exchange_set_page_size(self->exchange, 8192, NULL));
    g_assert_true(exchange_wait_geometry(self->exchange, &geometry));
    g_assert_cmpuint(geometry.page_size, ==, 8192);
    fixture_free(self);
}

/* Channels would write with one and read with another. */
static void test_page_size_stays_once_decided(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { .link_fed = true });
    g_autoptr(GByteArray) s = make_start(true, true);
    uint8_t uuid[MULTIFD_UUID_SIZE] = { 0 };
    g_autoptr(GError) error = NULL;
    MultifdGeometry geometry;

    push(self, s);
    g_assert_true(exchange_decide(self->exchange, true, 2, uuid, NULL));
    g_assert_false(exchange_set_page_size(self->exchange, 1024, &error));
    g_assert_nonnull(strstr(error->message, "got them twice"));
    g_assert_true(exchange_wait_geometry(self->exchange, &geometry));
    g_assert_cmpuint(geometry.page_size, ==, 4096);
    fixture_free(self);
}

static void test_peer_does_not_contradict_the_stream(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { .link_fed = true });
    g_autoptr(GByteArray) s = make_start(true, true);
    g_autoptr(GError) error = NULL;
    MultifdGeometry geometry;

    say_page_bits(s, 13);
    push(self, s);
    g_assert_false(exchange_set_page_size(self->exchange, 4096, &error));
    g_assert_nonnull(strstr(error->message, "got page size 4096, expected 8192"));
    g_assert_true(exchange_wait_geometry(self->exchange, &geometry));
    g_assert_cmpuint(geometry.page_size, ==, 8192);
    g_assert_true(exchange_set_page_size(self->exchange, 8192, NULL));
    fixture_free(self);
}

static void test_ramblocks_are_lent(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });
    g_autoptr(GByteArray) s = make_start(true, true);
    const RamblockTable *table;

    push(self, s);
    table = exchange_wait_ramblocks(self->exchange);
    g_assert_nonnull(table);
    g_assert_nonnull(ramblock_table_find(table, LINK_FIXTURE_BLOCK,
                                         strlen(LINK_FIXTURE_BLOCK)));
    g_assert_cmpuint(link_fixture_count(&self->events,
                                        EXCHANGE_EVENT_RAMBLOCKS), ==, 1);
    fixture_free(self);
}

/* Pages that cannot be checked are not passed on. */
static void test_end_before_ramblocks_fails(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });

    g_assert_true(exchange_main_push(self->exchange,
                                     (const uint8_t *)"QEVM\0\0\0\3", 8));
    exchange_main_end(self->exchange);
    g_assert_null(exchange_wait_ramblocks(self->exchange));
    assert_failed(self, "cannot be followed to its RAM block list (it ended)");
    fixture_free(self);
}

static void test_contradicting_stream_fails(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });

    g_assert_false(exchange_main_push(self->exchange,
                                      (const uint8_t *)"QEVX\0\0\0\3", 8));
    assert_failed(self, "");
    fixture_free(self);
}

static void test_missing_return_path_is_told(void)
{
    Fixture *self = fixture_new((ExchangeSetup) { 0 });
    g_autoptr(GByteArray) s = make_start(false, true);

    push(self, s);
    g_assert_cmpuint(link_fixture_count(&self->events,
                                        EXCHANGE_EVENT_NO_RETURN_PATH), ==, 1);
    g_assert_false(look(self).return_path);
    fixture_free(self);
}

/* ---- the end, and SHUT -------------------------------------------------------------------------- */

static GByteArray *make_shut(uint32_t value)
{
    GByteArray *s = g_byte_array_new();

    put(s, 2, 2);                               /* PONG 1 before it */
    put(s, 4, 2);
    put(s, 1, 4);
    put(s, 1, 2);                               /* SHUT */
    put(s, 4, 2);
    put(s, value, 4);
    return s;
}

static bool push_shut(Fixture *self, uint32_t value)
{
    g_autoptr(GByteArray) s = make_shut(value);

    return exchange_return_push(self->exchange, s->data, s->len);
}

static void assert_return_has_shut(Fixture *self, uint32_t value)
{
    g_autoptr(GByteArray) want = make_shut(value);
    uint8_t buf[64];
    gssize n = exchange_return_pull(self->exchange, buf, sizeof(buf));

    g_assert_cmpint(n, >, 0);
    g_assert_cmpmem(buf, n, want->data, want->len);
}

static void hold_packet(Fixture *self)
{
    Packet *packet = packet_new(self->pool, PACKET_PAGES, 4096);

    memset(packet->payload, 0, 4096);
    g_assert_true(exchange_reserve(self->exchange, 0, packet_footprint(4096)));
    g_assert_true(exchange_push(self->exchange, 0, packet));
}

/* Without a return path the source's close is the end; with one it may mean
 * that the source runs the guest again, and the destination must not load it. */
static void test_end_without_return_path_is_the_end(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);
    g_autoptr(GByteArray) s = make_start(false, true);
    uint8_t buf[8];

    push(self, s);
    sync_all(self, 1, 1);
    exchange_main_end(self->exchange);
    assert_pulls(self, true, s->data, s->len);
    g_assert_cmpint(exchange_main_pull(self->exchange, buf, 8, true), ==, 0);
    g_assert_true(look(self).main_drained);
    fixture_free(self);
}

static void test_end_with_return_path_waits_for_shut(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);
    g_autoptr(GByteArray) s = make_start(true, true);
    GThread *thread;

    put_ram_end(s);
    push(self, s);
    sync_all(self, 1, 1);
    exchange_main_end(self->exchange);
    assert_pulls(self, true, s->data, s->len);
    thread = g_thread_new("main", pull_later, self);
    g_assert_true(look(self).main_drained);
    g_atomic_int_set(&self->announced, 1);
    g_assert_true(push_shut(self, 0));
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 0);
    fixture_free(self);
}

/* A source from 10.0 on takes SHUT 0 for the end at any time, and its guest would
 * be gone. */
static void test_shut_before_the_end_of_ram_fails(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);
    g_autoptr(GByteArray) s = make_start(true, true);

    push(self, s);
    sync_all(self, 1, 1);
    g_assert_false(push_shut(self, 0));
    assert_failed(self, "return path: got SHUT 0 before the END section of RAM");
    g_assert_cmpuint(look(self).return_in, ==, 0);
    g_assert_false(look(self).shut);
    fixture_free(self);
}

/* A destination can say SHUT 0 although one of its channels failed: the source
 * would drop a guest that has not arrived.  (Waits as long as the product.) */
static void test_shut_with_packets_held_fails(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);

    hold_packet(self);
    g_assert_false(push_shut(self, 0));
    assert_failed(self, "return path: got SHUT 0 with");
    g_assert_cmpuint(look(self).return_in, ==, 0);
    g_assert_false(look(self).shut);
    fixture_free(self);
}

static void *write_the_rest(void *data)
{
    Fixture *self = data;
    Packet *packet;
    uint64_t epoch;

    g_assert_cmpint(exchange_take(self->exchange, 0, &packet, &epoch), ==,
                    EXCHANGE_PACKET);
    exchange_done(self->exchange, 0, packet);
    sync_out(self, 0);
    return NULL;
}

/* A writer that has written may say so a moment after SHUT has come. */
static void test_shut_waits_for_writers(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);
    GThread *thread;

    hold_packet(self);
    g_assert_true(exchange_sync(self->exchange, 0));
    thread = g_thread_new("out", write_the_rest, self);
    g_assert_true(push_shut(self, 0));
    g_thread_join(thread);
    assert_return_has_shut(self, 0);
    assert_well(self);
    fixture_free(self);
}

/* Bad news is passed on in any case, at once. */
static void test_failed_shut_is_passed_on(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);

    hold_packet(self);
    g_assert_true(push_shut(self, 1));
    assert_return_has_shut(self, 1);
    g_assert_true(look(self).shut);
    g_assert_cmpuint(look(self).shut_value, ==, 1);
    fail(self, "still counts");
    assert_failed(self, "still counts");
    fixture_free(self);
}

/* The destination owns the guest now: only the source's hearing of it matters. */
static void test_no_failure_counts_after_shut(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);

    g_assert_true(push_shut(self, 0));
    fail(self, "too late");
    exchange_reject(self->exchange, 0, 1, g_error_new(
        WIRE_ERROR, WIRE_ERROR_PROTOCOL, "too late, too"));
    assert_well(self);
    exchange_fail_delivery(self->exchange, g_error_new(
        WIRE_ERROR, WIRE_ERROR_PROTOCOL, "source gone"));
    assert_failed(self, "source gone");
    fixture_free(self);
}

static void test_delivery_failure_after_delivery_does_not_count(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);

    g_assert_true(push_shut(self, 0));
    assert_return_has_shut(self, 0);
    g_assert_cmpuint(link_fixture_count(&self->events, EXCHANGE_EVENT_SHUT),
                     ==, 0);
    exchange_return_delivered(self->exchange);
    exchange_return_delivered(self->exchange);
    g_assert_cmpuint(link_fixture_count(&self->events, EXCHANGE_EVENT_SHUT),
                     ==, 1);
    g_assert_true(look(self).shut_delivered);
    exchange_fail_delivery(self->exchange, g_error_new(
        WIRE_ERROR, WIRE_ERROR_PROTOCOL, "source gone"));
    assert_well(self);
    fixture_free(self);
}

/* A link's other lane may fail while the verdict is on its way. */
static void test_shut_is_delivered_after_a_failure(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);
    uint8_t buf[8];

    g_assert_true(push_shut(self, 0));
    exchange_fail_delivery(self->exchange, g_error_new(
        WIRE_ERROR, WIRE_ERROR_PROTOCOL, "a lane"));
    assert_return_has_shut(self, 0);
    exchange_return_end(self->exchange);
    g_assert_cmpint(exchange_return_pull(self->exchange, buf, 8), ==, 0);
    exchange_close(self->exchange);
    g_assert_cmpint(exchange_return_pull(self->exchange, buf, 8), ==, -1);
    fixture_free(self);
}

/* Without SHUT 0 a failure ends it at once: the source is to run the guest. */
static void test_return_path_ends_with_a_failure(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);
    uint8_t buf[8];

    g_assert_true(exchange_return_push(self->exchange, (const uint8_t *)"\0\2",
                                       2));
    fail(self, "broken");
    g_assert_cmpint(exchange_return_pull(self->exchange, buf, 8), ==, -1);
    fixture_free(self);
}

/* ---- numbers ----------------------------------------------------------------------------------- */

typedef struct {
    unsigned calls;
    uint64_t main, back;
} Delivered;

static void note_delivery(uint64_t main_offset, uint64_t return_offset,
                          void *data)
{
    Delivered *delivered = data;

    *delivered = (Delivered) { delivered->calls + 1, main_offset,
                               return_offset };
}

/* A link acknowledges what was written, not what was merely pulled. */
static void test_delivery_is_what_was_written(void)
{
    Fixture *self = fixture_with_channels(1, 1, false, 0);
    g_autoptr(GByteArray) s = make_start(true, true);
    Delivered delivered = { 0 };
    ExchangeSnapshot now;

    exchange_set_delivery_hook(self->exchange, note_delivery, &delivered);
    push(self, s);
    assert_pulls(self, false, s->data, s->len);
    g_assert_cmpuint(look(self).main_delivered, ==, 0);
    g_assert_cmpuint(delivered.calls, ==, 0);
    exchange_main_delivered(self->exchange);
    g_assert_cmpuint(delivered.main, ==, s->len);
    g_assert_cmpuint(delivered.back, ==, 0);
    g_assert_true(push_shut(self, 1));
    assert_return_has_shut(self, 1);
    exchange_return_delivered(self->exchange);
    g_assert_cmpuint(delivered.calls, ==, 2);
    g_assert_cmpuint(delivered.main, ==, s->len);
    g_assert_cmpuint(delivered.back, ==, 16);

    now = look(self);
    g_assert_cmpuint(now.main_in, ==, s->len);
    g_assert_cmpuint(now.main_out, ==, s->len);
    g_assert_cmpuint(now.main_delivered, ==, s->len);
    g_assert_cmpuint(now.return_in, ==, 16);
    g_assert_cmpuint(now.return_out, ==, 16);
    g_assert_cmpuint(now.return_delivered, ==, 16);
    g_assert_cmpstr(now.machine, ==, "pc-i440fx-10.0");
    g_assert_false(now.opaque);
    g_assert_false(now.main_drained);
    fixture_free(self);
}

static void add_page_sizes(void)
{
    static const PageSizeCase cases[] = {
        { "unsaid", 0, 0, 0, 4096 },
        { "told", 0, 0, 8192, 8192 },
        { "configured", 14, 0, 0, 16384 },
        { "configured-not-as-told", 12, 0, 1024, 4096 },
        { "advised", 0, 8192, 0, 8192 },
        { "advised-not-as-told", 0, 65536, 8192, 65536 },
        { "configured-and-advised", 16, 65536, 8192, 65536 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf(
            "/exchange/main/stream/page-size/%s", cases[i].name);

        g_test_add_data_func(path, &cases[i], test_page_size);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/exchange-main/" path, func)
    ADD("marker/waits-for-every-outbound",
        test_marker_waits_for_every_outbound);
    ADD("marker/each-sync-opens-one", test_each_sync_opens_one_marker);
    ADD("marker/split-is-held", test_split_marker_is_held);
    ADD("marker/waits-for-confirmation", test_marker_waits_for_confirmation);
    ADD("marker/ungated-does-not-wait", test_ungated_pull_does_not_wait);
    g_test_add_data_func("/daemon/exchange-main/marker/real-legacy",
                         "qemu72-none-2ch", test_real_stream_keeps_its_markers);
    g_test_add_data_func("/daemon/exchange-main/marker/real-flush",
                         "qemu100-none-2ch",
                         test_real_stream_keeps_its_markers);
    ADD("mode/undecided-stays-shut", test_undecided_stays_shut);
    ADD("mode/page-data-means-main-only", test_page_data_means_main_only);
    ADD("mode/channel-after-main-only-fails",
        test_channel_after_main_only_fails);
    ADD("mode/ram-end-asks-to-settle", test_ram_end_asks_to_settle);
    ADD("mode/marker-with-a-channel-asks-to-settle",
        test_marker_with_a_channel_asks_to_settle);
    ADD("mode/full-ring-asks-to-settle", test_full_ring_asks_to_settle);
    ADD("mode/link-fed-never-decides-itself",
        test_link_fed_never_decides_itself);
    add_page_sizes();
    ADD("stream/page-size/comes-from-the-peer",
        test_page_size_comes_from_the_peer);
    ADD("stream/page-size/stays-once-decided",
        test_page_size_stays_once_decided);
    ADD("stream/page-size/peer-does-not-contradict-the-stream",
        test_peer_does_not_contradict_the_stream);
    ADD("stream/geometry-comes-with-the-configuration",
        test_geometry_comes_with_the_configuration);
    ADD("stream/ramblocks-are-lent", test_ramblocks_are_lent);
    ADD("stream/end-before-ramblocks-fails", test_end_before_ramblocks_fails);
    ADD("stream/contradiction-fails", test_contradicting_stream_fails);
    ADD("stream/missing-return-path-is-told", test_missing_return_path_is_told);
    ADD("end/without-return-path-is-the-end",
        test_end_without_return_path_is_the_end);
    ADD("end/with-return-path-waits-for-shut",
        test_end_with_return_path_waits_for_shut);
    ADD("shut/before-the-end-of-ram-fails",
        test_shut_before_the_end_of_ram_fails);
    ADD("shut/with-packets-held-fails", test_shut_with_packets_held_fails);
    ADD("shut/waits-for-writers", test_shut_waits_for_writers);
    ADD("shut/failed-is-passed-on", test_failed_shut_is_passed_on);
    ADD("shut/no-failure-counts-after-it", test_no_failure_counts_after_shut);
    ADD("shut/delivery-failure-after-delivery-does-not-count",
        test_delivery_failure_after_delivery_does_not_count);
    ADD("shut/is-delivered-after-a-failure",
        test_shut_is_delivered_after_a_failure);
    ADD("return-path/ends-with-a-failure",
        test_return_path_ends_with_a_failure);
    ADD("snapshot/delivery-is-what-was-written",
        test_delivery_is_what_was_written);
    return g_test_run();
}
