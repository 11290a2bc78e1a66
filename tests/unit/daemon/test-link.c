/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole link in one process: an exchange with N inbound channels, W lanes, an
 * exchange with K outbound channels.  What is fed on one side must be taken on the
 * other, each packet once, unchanged and in its epoch, and no marker before its
 * SYNC.
 */
#include <stdio.h>
#include <unistd.h>

#include "daemon/egress-link.h"
#include "daemon/ingress-link.h"
#include "daemon/link-main.h"
#include "daemon/uuid.h"
#include "qmp/message.h"
#include "tests/unit/daemon/link-fixture.h"
#include "wire/link-pack.h"

typedef struct {
    unsigned channels_in, lanes, channels_out;
    unsigned epochs, packets;   /* packets of each channel in each epoch */
    uint64_t window;
    uint64_t main_window;
    bool slow_lane;             /* lane 0 */
    unsigned faults_seed;       /* connections are cut now and then; 0: never */
} Case;

enum { BELL_SOURCE_LANE_END = 12, BELL_DESTINATION_LANE_END = 13 };

typedef struct {
    const Case *want;
    LinkFixtureBell source_bell, destination_bell;
    Exchange *source, *destination;
    LinkMain *source_main, *destination_main;
    Egress *egress;
    Ingress *ingress;
    PacketPool *pool;
    GByteArray *main;           /* what is pushed; complete beforehand */
    GByteArray *main_got;
    GThread *relay;
    int relay_fds[2];
    GThread *cutter;
    unsigned cuts;

    GMutex lock;                /* guards all below */
    int cut_fds[65];            /* of bulk lanes, then main; -1: none */
    bool cutting;
    uint8_t *seen;              /* packets_in_all() flags */
    uint64_t syncs[MULTIFD_CHANNELS_MAX];
} Link;

static uint64_t packets_per_channel(const Case *c)
{
    return (uint64_t)c->epochs * c->packets;
}

/* ---- a slow line ------------------------------------------------------------------ */

static void *relay_thread(void *data)
{
    Link *self = data;
    char buf[2048];
    ssize_t n;

    while ((n = read(self->relay_fds[0], buf, sizeof(buf))) > 0) {
        g_usleep(200);
        if (send(self->relay_fds[1], buf, n, MSG_NOSIGNAL) != n) {
            break;
        }
    }
    shutdown(self->relay_fds[0], SHUT_RDWR);
    shutdown(self->relay_fds[1], SHUT_RDWR);
    return NULL;
}

static void open_slow_lane(Link *self, Stream *ret[2])
{
    int a[2], b[2], small = 4096;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, a), ==, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, b), ==, 0);
    setsockopt(a[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    ret[0] = stream_new(a[0], "destination");
    ret[1] = stream_new(b[1], "source");
    self->relay_fds[0] = a[1];
    self->relay_fds[1] = b[0];
    self->relay = g_thread_new("relay", relay_thread, self);
}

/* ---- lines that are cut ------------------------------------------------------------- */

enum { MAIN_LINE = 64 };

static void note_line(Link *self, unsigned line, const Stream *stream)
{
    g_mutex_lock(&self->lock);
    if (self->cut_fds[line] > 0) {
        close(self->cut_fds[line]);
    }
    self->cut_fds[line] = dup(stream_get_fd(stream));
    g_mutex_unlock(&self->lock);
}

static Stream *refuse(Stream *pair[2])
{
    stream_free(pair[0]);
    stream_free(pair[1]);
    return NULL;
}

static Stream *reconnect_main(unsigned generation, unsigned timeout_ms,
                              GCancellable *cancellable, void *data,
                              GError **error)
{
    Link *self = data;
    Stream *pair[2];

    (void)timeout_ms;
    (void)cancellable;
    link_fixture_pair(pair, "destination", "source");
    if (!link_main_take(self->destination_main, pair[1], generation, error)) {
        return refuse(pair);
    }
    note_line(self, MAIN_LINE, pair[0]);
    return pair[0];
}

static Stream *reconnect_bulk(unsigned lane, unsigned generation,
                              GCancellable *cancellable, void *data,
                              GError **error)
{
    Link *self = data;
    Stream *pair[2];

    (void)cancellable;
    link_fixture_pair(pair, "destination", "source");
    if (!ingress_link_take(self->ingress, pair[1], lane, generation, error)) {
        return refuse(pair);
    }
    note_line(self, lane, pair[0]);
    return pair[0];
}

/* One line, or all at once. */
static void cut_lines(Link *self, GRand *rand)
{
    unsigned line = g_rand_int_range(rand, 0, self->want->lanes + 1);
    bool all = g_rand_int_range(rand, 0, 8) == 0;

    g_mutex_lock(&self->lock);
    line = line == self->want->lanes ? MAIN_LINE : line;
    for (unsigned i = 0; i <= MAIN_LINE; i++) {
        if ((all || i == line) && self->cut_fds[i] > 0) {
            shutdown(self->cut_fds[i], SHUT_RDWR);
            self->cuts++;
        }
    }
    g_mutex_unlock(&self->lock);
}

static void *cutter_thread(void *data)
{
    Link *self = data;
    GRand *rand = g_rand_new_with_seed(self->want->faults_seed);
    bool more = true;

    while (more) {
        cut_lines(self, rand);
        g_usleep(g_rand_int_range(rand, 100, 8000));
        g_mutex_lock(&self->lock);
        more = self->cutting;
        g_mutex_unlock(&self->lock);
    }
    g_rand_free(rand);
    return NULL;
}

static void start_cutting(Link *self)
{
    if (self->want->faults_seed > 0) {
        self->cutting = true;
        self->cutter = g_thread_new("cutter", cutter_thread, self);
    }
}

static void stop_cutting(Link *self)
{
    if (!self->cutter) {
        return;
    }
    g_mutex_lock(&self->lock);
    self->cutting = false;
    g_mutex_unlock(&self->lock);
    g_thread_join(g_steal_pointer(&self->cutter));
    g_test_message("%u cuts", self->cuts);
}

/* ---- setting up ------------------------------------------------------------------- */

static void on_source_message(JsonObject *message, void *data)
{
    Link *self = data;

    if (!message) {
        link_fixture_ring(&self->source_bell, BELL_SOURCE_LANE_END);
    }
    g_clear_pointer(&message, json_object_unref);
}

static void on_destination_message(JsonObject *taken, void *data)
{
    Link *self = data;
    g_autoptr(JsonObject) message = taken;
    JsonObject *event;
    uint8_t uuid[16];
    bool multifd = false;
    int64_t count = 0;

    if (!message) {
        link_fixture_ring(&self->destination_bell, BELL_DESTINATION_LANE_END);
        return;
    }
    g_assert_cmpstr(qmp_message_get_string(message, "event"), ==, "channels");
    event = qmp_message_get_object(message, "data");
    g_assert_true(qmp_message_get_bool(event, "multifd", &multifd));
    g_assert_true(qmp_message_get_uint(event, "count", 255, &count));
    g_assert_true(uuid_from_string(qmp_message_get_string(event, "uuid"),
                                   uuid));
    g_assert_true(exchange_decide(self->destination, multifd, count, uuid,
                                  NULL));
}

static void join_channels(Link *self)
{
    for (unsigned i = 0; i < self->want->channels_in; i++) {
        MultifdInit init = { .id = i };
        unsigned in, drop;

        memcpy(init.uuid, link_fixture_uuid, 16);
        g_assert_true(exchange_join(self->source, &init, &in, &drop, NULL));
        g_assert_cmpuint(in, ==, i);
    }
}

static void open_exchanges(Link *self)
{
    ExchangeSetup source = {
        .memory = 1024 * 1024, .main_ring = 64 * 1024,
        .channels_in = self->want->channels_in,
        .observer = link_fixture_observe, .observer_data = &self->source_bell,
    };
    ExchangeSetup destination = {
        .memory = 1024 * 1024, .main_ring = 64 * 1024, .link_fed = true,
        .observer = link_fixture_observe,
        .observer_data = &self->destination_bell,
    };

    self->source = exchange_new(&source);
    self->destination = exchange_new(&destination);
}

static void open_main_lane(Link *self)
{
    LinkMainSetup source = {
        .source_side = true, .dead_ms = 60000, .handler = on_source_message,
        .data = self,
    };
    LinkMainSetup destination = {
        .dead_ms = 60000, .handler = on_destination_message, .data = self,
    };
    LinkMainFlow to_destination = {
        .exchange = self->source, .send_window = self->want->main_window,
        .receive_window = 64 * 1024, .preempt_window = EXCHANGE_PREEMPT_RING,
    };
    LinkMainFlow to_source = {
        .exchange = self->destination, .send_window = 64 * 1024,
        .receive_window = self->want->main_window,
        .preempt_window = EXCHANGE_PREEMPT_RING,
    };
    Stream *pair[2];

    link_fixture_pair(pair, "destination", "source");
    note_line(self, MAIN_LINE, pair[0]);
    source.stream = pair[0];
    source.connect = reconnect_main;
    destination.stream = pair[1];
    self->source_main = link_main_new(&source);
    self->destination_main = link_main_new(&destination);
    link_main_attach(self->destination_main, &to_source);
    link_main_attach(self->source_main, &to_destination);
    if (self->want->faults_seed > 0) {
        link_main_set_outage_budget(self->source_main, 60000);
        link_main_set_outage_budget(self->destination_main, 60000);
    }
}

static void open_bulk_lanes(Link *self)
{
    IngressLinkSetup ingress = {
        .exchange = self->destination, .main = self->destination_main,
        .window = self->want->window,
        .packed = self->want->lanes > 1, .history = 64 * LINK_FIXTURE_PAGE,
    };
    EgressLinkSetup egress = {
        .exchange = self->source, .main = self->source_main,
        .window = self->want->window,
        .lanes = g_ptr_array_new(),
        .connect = reconnect_bulk, .connect_data = self,
        .packing = { self->want->lanes > 1, false, LINK_PACK_LEVEL_MAX,
                     64 * LINK_FIXTURE_PAGE },
    };

    self->ingress = ingress_link_new(&ingress);
    for (unsigned i = 0; i < self->want->lanes; i++) {
        Stream *pair[2];

        if (i == 0 && self->want->slow_lane) {
            open_slow_lane(self, pair);
        } else {
            link_fixture_pair(pair, "destination", "source");
        }
        note_line(self, i, pair[0]);
        g_ptr_array_add(egress.lanes, pair[0]);
        g_assert_true(ingress_link_take(self->ingress, pair[1], i, 0, NULL));
    }
    g_assert_cmpuint(ingress_link_get_lanes(self->ingress), ==,
                     self->want->lanes);
    self->egress = egress_link_new(&egress);
}

static Link *link_open(const Case *want)
{
    Link *self = g_new0(Link, 1);

    self->want = want;
    self->pool = packet_pool_new();
    self->seen = g_malloc0(want->channels_in * packets_per_channel(want) + 1);
    self->main = link_fixture_main_start();
    for (unsigned i = 1; i < want->epochs; i++) {
        link_fixture_put_marker(self->main);
    }
    link_fixture_put_ram_end(self->main);
    self->main_got = g_byte_array_new();
    open_exchanges(self);
    open_main_lane(self);
    open_bulk_lanes(self);
    join_channels(self);
    return self;
}

static void link_close(Link *self)
{
    exchange_close(self->source);
    exchange_close(self->destination);
    link_main_shutdown(self->source_main);
    link_main_shutdown(self->destination_main);
    egress_shutdown(self->egress);
    ingress_shutdown(self->ingress);
    egress_free(self->egress);
    ingress_free(self->ingress);
    link_main_free(self->source_main);
    link_main_free(self->destination_main);
    /* Last, with packets in them perhaps: they still know whom to tell. */
    exchange_free(self->source);
    exchange_free(self->destination);
    if (self->relay) {
        g_thread_join(self->relay);
        close(self->relay_fds[0]);
        close(self->relay_fds[1]);
    }
    for (unsigned i = 0; i <= MAIN_LINE; i++) {
        if (self->cut_fds[i] > 0) {
            close(self->cut_fds[i]);
        }
    }
    packet_pool_unref(self->pool);
    g_byte_array_unref(self->main);
    g_byte_array_unref(self->main_got);
    g_free(self->seen);
    g_free(self);
}

/* ---- feeding and taking ------------------------------------------------------------- */

typedef struct {
    Link *link;
    unsigned channel;
    bool ok;
    GThread *thread;
} Worker;

/* Epoch 0 is empty; packet number n of a channel belongs to epoch 1 + n / packets. */
static void *feed_thread(void *data)
{
    Worker *self = data;
    Link *link = self->link;
    Exchange *exchange = link->source;
    uint64_t n = 0;

    self->ok = exchange_sync(exchange, self->channel);
    for (unsigned e = 1; self->ok && e <= link->want->epochs; e++) {
        for (unsigned i = 0; self->ok && i < link->want->packets; i++, n++) {
            Packet *packet = link_fixture_packet(link->pool, self->channel, n);

            if (exchange_reserve(exchange, self->channel,
                                 packet_get_footprint(packet))) {
                self->ok = exchange_push(exchange, self->channel, packet);
            } else {
                packet_free(packet);
                self->ok = false;
            }
        }
        self->ok = self->ok && exchange_sync(exchange, self->channel);
    }
    return NULL;
}

/* A device-state frame does not say where it came in; its idstr does here. */
static void find_origin(const Packet *packet, unsigned *channel,
                        uint64_t *number)
{
    *channel = packet->in_channel;
    *number = packet->in_packet;
    if (packet->kind == PACKET_DEVICE_STATE) {
        unsigned c, n;

        g_assert_cmpint(sscanf(packet->device.idstr, "%u/%u", &c, &n), ==, 2);
        *channel = c;
        *number = n;
    }
}

static void check_packet(Link *self, const Packet *packet, uint64_t epoch)
{
    const Case *want = self->want;
    unsigned channel;
    uint64_t number;
    g_autoptr(Packet) same = NULL;
    uint8_t *seen;

    find_origin(packet, &channel, &number);
    g_assert_cmpuint(channel, <, want->channels_in);
    g_assert_cmpuint(number, <, packets_per_channel(want));
    g_assert_cmpuint(epoch, ==, 1 + number / want->packets);
    same = link_fixture_packet(self->pool, channel, number);
    link_fixture_assert_same(packet, same);
    seen = &self->seen[channel * packets_per_channel(want) + number];
    g_mutex_lock(&self->lock);
    g_assert_cmpuint(*seen, ==, 0);
    *seen = 1;
    g_mutex_unlock(&self->lock);
}

static void *take_thread(void *data)
{
    Worker *self = data;
    Link *link = self->link;
    Exchange *exchange = link->destination;

    for (;;) {
        Packet *packet;
        uint64_t epoch;
        ExchangeTake take = exchange_take(exchange, self->channel, &packet,
                                          &epoch);

        if (take == EXCHANGE_FAILED) {
            self->ok = false;
            return NULL;
        }
        g_assert_cmpuint(epoch, ==, link->syncs[self->channel]);
        if (take == EXCHANGE_PACKET) {
            check_packet(link, packet, epoch);
            exchange_done(exchange, self->channel, packet);
            continue;
        }
        g_mutex_lock(&link->lock);
        link->syncs[self->channel]++;
        g_mutex_unlock(&link->lock);
        exchange_synced(exchange, self->channel);
        if (epoch == link->want->epochs) {
            return NULL;
        }
    }
}

static void *push_main_thread(void *data)
{
    Link *self = data;

    if (exchange_main_push(self->source, self->main->data, self->main->len)) {
        exchange_main_end(self->source);
    }
    return NULL;
}

static void *pull_main_thread(void *data)
{
    Link *self = data;
    uint8_t buf[700];
    gssize n;

    while ((n = exchange_main_pull(self->destination, buf, sizeof(buf),
                                   true)) > 0) {
        g_byte_array_append(self->main_got, buf, n);
        exchange_main_delivered(self->destination);
    }
    return NULL;
}

static Worker *start_workers(Link *self, GThreadFunc func, unsigned n)
{
    Worker *workers = g_new0(Worker, n);

    for (unsigned i = 0; i < n; i++) {
        workers[i] = (Worker) { .link = self, .channel = i, .ok = true };
        workers[i].thread = g_thread_new("worker", func, &workers[i]);
    }
    return workers;
}

static void join_workers(Worker *workers, unsigned n, bool ok)
{
    for (unsigned i = 0; i < n; i++) {
        g_thread_join(workers[i].thread);
        if (ok && !workers[i].ok) {
            g_autoptr(GError) error = exchange_get_error(workers[i].link->source);
            g_autoptr(GError) other =
                exchange_get_error(workers[i].link->destination);

            g_error("source: %s; destination: %s",
                    error ? error->message : "well",
                    other ? other->message : "well");
        }
    }
    g_free(workers);
}

static void assert_everything_came(Link *self)
{
    const Case *want = self->want;
    uint64_t n = want->channels_in * packets_per_channel(want);
    ExchangeSnapshot a, b;

    for (uint64_t i = 0; i < n; i++) {
        g_assert_cmpuint(self->seen[i], ==, 1);
    }
    g_assert_cmpmem(self->main->data, self->main->len, self->main_got->data,
                    self->main_got->len);
    exchange_get_snapshot(self->source, &a);
    exchange_get_snapshot(self->destination, &b);
    g_assert_cmpuint(a.packets, ==, n);
    g_assert_cmpuint(b.packets, ==, n);
    g_assert_cmpuint(a.normal_pages, ==, b.normal_pages);
    g_assert_cmpuint(a.zero_pages, ==, b.zero_pages);
    g_assert_cmpuint(a.device_packets, ==, b.device_packets);
    g_assert_cmpuint(b.epochs, ==, want->epochs + 1);
    g_assert_cmpuint(b.markers, ==, want->epochs);
    g_assert_cmpuint(b.channels_in, ==, want->channels_in);
    g_assert_cmpmem(b.uuid, 16, link_fixture_uuid, 16);
    g_assert_cmpuint(b.held, ==, 0);
}

/* No QEMU says SHUT 0 before it has read all of main. */
static void wait_main_taken(Link *self)
{
    int64_t until = g_get_monotonic_time() + LINK_FIXTURE_LONG_US;
    ExchangeSnapshot now;

    exchange_get_snapshot(self->destination, &now);
    while (now.main_out < self->main->len) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(1000);
        exchange_get_snapshot(self->destination, &now);
    }
}

/* The destination's word travels back; it counts when it is written there. */
static void finish_with_shut(Link *self)
{
    static const uint8_t shut[] = { 0, 1, 0, 4, 0, 0, 0, 0 };
    uint8_t buf[64];
    ExchangeSnapshot snapshot;
    gssize n = 0;

    wait_main_taken(self);
    g_assert_true(exchange_return_push(self->destination, shut, sizeof(shut)));
    while (n < (gssize)sizeof(shut)) {
        gssize more = exchange_return_pull(self->source, buf + n,
                                           sizeof(buf) - n);

        g_assert_cmpint(more, >, 0);
        n += more;
    }
    g_assert_cmpmem(buf, n, shut, sizeof(shut));
    exchange_get_snapshot(self->destination, &snapshot);
    g_assert_false(snapshot.shut_delivered);
    exchange_return_delivered(self->source);
    link_fixture_wait(&self->source_bell, EXCHANGE_EVENT_SHUT);
    link_fixture_wait(&self->destination_bell, EXCHANGE_EVENT_SHUT);
}

static void run_case(const void *data)
{
    const Case *want = data;
    Link *self = link_open(want);
    Worker *feeders, *takers;
    GThread *push, *pull;
    uint8_t uuid[16];
    unsigned channels;
    EgressLinkLane lanes[64];
    uint64_t frames = 0;

    push = g_thread_new("push", push_main_thread, self);
    feeders = start_workers(self, feed_thread, want->channels_in);
    g_assert_cmpint(exchange_wait_decided(self->destination, &channels, uuid),
                    ==, EXCHANGE_MULTIFD);
    exchange_add_outs(self->destination, want->channels_out, false);
    pull = g_thread_new("pull", pull_main_thread, self);
    start_cutting(self);
    takers = start_workers(self, take_thread, want->channels_out);
    join_workers(feeders, want->channels_in, true);
    join_workers(takers, want->channels_out, true);
    g_thread_join(push);
    /* The main channel's end is held until the destination has said SHUT. */
    finish_with_shut(self);
    g_thread_join(pull);
    stop_cutting(self);
    assert_everything_came(self);
    g_assert_cmpuint(egress_link_get_lanes(self->egress, lanes, 64), ==,
                     want->lanes);
    for (unsigned i = 0; i < want->lanes; i++) {
        frames += lanes[i].frames;
    }
    g_assert_true(frames == want->channels_in * packets_per_channel(want) +
                            want->epochs + 1 || want->faults_seed > 0);
    link_close(self);
}

/* ---- ends ---------------------------------------------------------------------------- */

static const Case small_main = {
    1, 1, 1, 60, 0, 64 * 1024, 100, false, 0,
};
static const Case small_main_cut = {
    1, 1, 1, 60, 0, 64 * 1024, 100, false, 7,
};
static const Case plain = { 2, 3, 2, 3, 4, 1024 * 1024, 64 * 1024, false, 0 };

/* No multifd: the event says so, bulk lanes stay silent, main bytes flow. */
static void test_main_only(void)
{
    static const Case none = { 0, 1, 1, 1, 0, 65536, 1024, false, 0 };
    Link *self = g_new0(Link, 1);
    GThread *push, *pull;
    uint8_t uuid[16];
    unsigned channels;
    EgressLinkLane lane;

    self->want = &none;
    self->pool = packet_pool_new();
    self->seen = g_malloc0(1);
    self->main = link_fixture_main_start();
    link_fixture_put_ram_end(self->main);
    self->main_got = g_byte_array_new();
    open_exchanges(self);
    open_main_lane(self);
    open_bulk_lanes(self);
    push = g_thread_new("push", push_main_thread, self);
    exchange_settle(self->source);
    g_assert_cmpint(exchange_wait_decided(self->destination, &channels, uuid),
                    ==, EXCHANGE_MAIN_ONLY);
    pull = g_thread_new("pull", pull_main_thread, self);
    g_thread_join(push);
    finish_with_shut(self);
    g_thread_join(pull);
    g_assert_cmpmem(self->main->data, self->main->len, self->main_got->data,
                    self->main_got->len);
    g_assert_cmpuint(egress_link_get_lanes(self->egress, &lane, 1), ==, 1);
    g_assert_cmpuint(lane.frames, ==, 0);
    link_close(self);
}

/* ---- postcopy's preempt channel ---------------------------------------------------- */

enum { PREEMPT_BYTES = 300 * 1000 };    /* several windows */

static void fill_preempt(uint8_t *buf)
{
    for (unsigned i = 0; i < PREEMPT_BYTES; i++) {
        buf[i] = i % 251;
    }
}

static void *push_preempt_thread(void *data)
{
    Link *self = data;
    g_autofree uint8_t *buf = g_malloc(PREEMPT_BYTES);

    fill_preempt(buf);
    g_assert_true(exchange_preempt_push(self->source, buf, PREEMPT_BYTES));
    exchange_preempt_end(self->source);
    return NULL;
}

/* While nobody takes what main carries: it does not wait behind that. */
static void run_preempt(const void *data)
{
    Link *self = link_open(data);
    g_autofree uint8_t *got = g_malloc(PREEMPT_BYTES);
    g_autofree uint8_t *want = g_malloc(PREEMPT_BYTES);
    GThread *main = g_thread_new("push", push_main_thread, self);
    GThread *push = g_thread_new("preempt", push_preempt_thread, self);
    size_t have = 0;
    gssize n;

    while ((n = exchange_preempt_pull(self->destination, got + have,
                                      PREEMPT_BYTES - have)) > 0) {
        if (have == 0) {
            start_cutting(self);    /* a link that never worked is given up */
        }
        have += n;
        exchange_preempt_delivered(self->destination);
    }
    g_assert_cmpint(n, ==, 0);
    fill_preempt(want);
    g_assert_cmpmem(got, have, want, PREEMPT_BYTES);
    g_thread_join(push);
    stop_cutting(self);
    exchange_fail(self->source, g_error_new(STREAM_ERROR, STREAM_ERROR_IO,
                                            "enough"));
    g_thread_join(main);
    link_close(self);
}

/* A destination that takes nothing: the window fills, nothing grows, and a
 * shutdown gets through to everybody. */
static void test_stops_at_the_window(void)
{
    static const Case want = { 3, 2, 1, 4, 64, 200 * 1024, 4096, false, 0 };
    Link *self = link_open(&want);
    GThread *push = g_thread_new("push", push_main_thread, self);
    Worker *feeders = start_workers(self, feed_thread, want.channels_in);
    int64_t until = g_get_monotonic_time() + LINK_FIXTURE_LONG_US;
    uint64_t in_flight = 0;
    ExchangeSnapshot snapshot;
    GError *error = g_error_new(STREAM_ERROR, STREAM_ERROR_IO, "enough");

    while (in_flight + 17 * 4096 + 8192 < want.window) {
        in_flight = egress_link_get_in_flight(self->egress);
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(1000);
    }
    g_assert_cmpuint(in_flight, <=, want.window);
    exchange_get_snapshot(self->destination, &snapshot);
    g_assert_cmpuint(snapshot.held, <=, want.window);
    exchange_fail(self->source, error);
    join_workers(feeders, want.channels_in, false);
    g_thread_join(push);
    link_close(self);
}

/* A main lane that dies fails both exchanges and tells both owners once. */
static void test_main_lane_dies(void)
{
    Link *self = link_open(&plain);
    g_autoptr(GError) error = NULL, same = NULL;

    link_main_shutdown(self->source_main);
    link_fixture_wait(&self->destination_bell, BELL_DESTINATION_LANE_END);
    link_fixture_wait(&self->destination_bell, EXCHANGE_EVENT_FAILED);
    error = exchange_get_error(self->destination);
    same = link_main_get_error(self->destination_main);
    g_assert_cmpstr(error->message, ==, "link to source, main lane: the peer "
                    "ended it");
    g_assert_cmpstr(error->message, ==, same->message);
    /* Who ended it needs not be told. */
    g_assert_cmpuint(link_fixture_count(&self->source_bell,
                                        BELL_SOURCE_LANE_END), ==, 0);
    link_close(self);
}

static void test_lane_number_is_taken(void)
{
    Link *self = link_open(&plain);
    g_autoptr(GError) error = NULL;
    Stream *pair[2];

    link_fixture_pair(pair, "a", "b");
    g_assert_false(ingress_link_take(self->ingress, pair[0], 1, 0, &error));
    g_assert_cmpstr(error->message, ==, "bulk lane 1: is there already");
    g_clear_error(&error);
    g_assert_false(ingress_link_take(self->ingress, pair[0], 64, 0, &error));
    g_assert_cmpstr(error->message, ==, "bulk lane 64: allowed 0 to 63");
    g_clear_error(&error);
    ingress_shutdown(self->ingress);
    g_assert_false(ingress_link_take(self->ingress, pair[0], 7, 0, &error));
    g_assert_cmpstr(error->message, ==, "the migration is over");
    stream_free(pair[0]);
    stream_free(pair[1]);
    link_close(self);
}

static void add_cases(void)
{
    static const struct {
        const char *path;
        Case want;
    } cases[] = {
        { "1-1-1", { 1, 1, 1, 5, 8, 1024 * 1024, 64 * 1024, false, 0 } },
        { "4-1-2", { 4, 1, 2, 5, 8, 1024 * 1024, 64 * 1024, false, 0 } },
        { "4-3-2", { 4, 3, 2, 5, 8, 1024 * 1024, 64 * 1024, false, 0 } },
        { "3-8-5", { 3, 8, 5, 5, 8, 4096 * 1024, 64 * 1024, false, 0 } },
        { "one-frame-window/1", { 2, 1, 2, 3, 5, 1, 1, false, 0 } },
        { "one-frame-window/3", { 2, 3, 2, 3, 5, 1, 100, false, 0 } },
        { "one-frame-window/8", { 2, 8, 2, 3, 5, 1, 100, false, 0 } },
        { "slow-lane/3", { 4, 3, 3, 4, 10, 512 * 1024, 4096, true, 0 } },
        { "slow-lane/8", { 2, 8, 1, 40, 2, 512 * 1024, 4096, true, 0 } },
        { "more-epochs-than-window", { 2, 3, 2, 300, 0, 64 * 1024, 4096,
                                       false, 0 } },
        { "more-epochs-than-window-slow", { 2, 3, 2, 300, 1, 128 * 1024, 4096,
                                            true, 0 } },
        { "cut/1", { 2, 1, 2, 30, 20, 512 * 1024, 4096, false, 1 } },
        { "cut/3", { 4, 3, 2, 30, 10, 1024 * 1024, 64 * 1024, false, 2 } },
        { "cut/8", { 2, 8, 3, 60, 10, 1024 * 1024, 4096, false, 3 } },
        { "cut/small-window", { 2, 4, 1, 40, 10, 64 * 1024, 100, false, 4 } },
        { "cut/one-frame-window", { 2, 3, 2, 10, 10, 1, 1, false, 5 } },
        { "cut/many-epochs", { 2, 3, 2, 300, 1, 128 * 1024, 4096, false, 6 } },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strconcat("/link/transfer/", cases[i].path,
                                            NULL);

        g_test_add_data_func(path, &cases[i].want, run_case);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_cases();
    g_test_add_func("/link/transfer/main-only", test_main_only);
    g_test_add_data_func("/link/transfer/preempt", &small_main, run_preempt);
    g_test_add_data_func("/link/transfer/preempt-cut", &small_main_cut,
                         run_preempt);
    g_test_add_func("/link/transfer/stops-at-the-window",
                    test_stops_at_the_window);
    g_test_add_func("/link/end/main-lane-dies", test_main_lane_dies);
    g_test_add_func("/link/end/lane-number-is-taken",
                    test_lane_number_is_taken);
    return g_test_run();
}
