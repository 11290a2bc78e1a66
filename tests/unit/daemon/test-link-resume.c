/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A main lane that goes on over another connection.  One side is real; the test is
 * the other, on each connection in turn, and says frame by frame what it got.
 */
#include "daemon/link-lane.h"
#include "daemon/link-main.h"
#include "qmp/message.h"
#include "tests/unit/daemon/link-fixture.h"

enum { WINDOW = 4096, BUDGET_MS = 60000, BELL_END = 12, BELL_MESSAGE, BELL_UP };

typedef struct {
    bool source_side;
    LinkFixtureBell bell;
    Exchange *exchange;
    LinkMain *main;
    Stream *peer;               /* our end of the connection */
    Stream *next;               /* that connect() gives; NULL: refuse */
    bool unknown;               /* and say that there is no such migration */
    unsigned generation;
} Side;

static void on_message(JsonObject *message, void *data)
{
    Side *self = data;

    link_fixture_ring(&self->bell, message ? BELL_MESSAGE : BELL_END);
    g_clear_pointer(&message, json_object_unref);
}

static void on_outage(const GError *reason, unsigned down_ms, void *data)
{
    Side *self = data;

    (void)down_ms;
    if (!reason) {
        link_fixture_ring(&self->bell, BELL_UP);
    }
}

/* The bell's lock guards what the test sets meanwhile. */
static Stream *connect_again(unsigned generation, unsigned timeout_ms,
                             GCancellable *cancellable, void *data,
                             GError **error)
{
    Side *self = data;
    Stream *stream;

    (void)timeout_ms;
    (void)cancellable;
    g_mutex_lock(&self->bell.lock);
    stream = g_steal_pointer(&self->next);
    self->generation = generation;
    if (!stream) {
        g_propagate_error(error, self->unknown
            ? link_lane_unknown_error("there is no such migration")
            : g_error_new(STREAM_ERROR, STREAM_ERROR_IO, "not yet"));
    }
    g_mutex_unlock(&self->bell.lock);
    return stream;
}

static Side *side_new(bool source_side)
{
    Side *self = g_new0(Side, 1);
    LinkMainSetup setup = {
        .source_side = source_side, .dead_ms = 60000, .handler = on_message,
        .connect = source_side ? connect_again : NULL,
        .outage_handler = on_outage, .data = self,
    };
    ExchangeSetup exchange = {
        .memory = 1024 * 1024, .main_ring = WINDOW, .channels_in = source_side,
        .link_fed = !source_side, .observer = link_fixture_observe,
        .observer_data = &self->bell,
    };
    LinkMainFlow flow = { .send_window = WINDOW, .receive_window = WINDOW };
    Stream *pair[2];

    self->source_side = source_side;
    link_fixture_pair(pair, "peer", "side");
    setup.stream = pair[0];
    self->peer = pair[1];
    self->main = link_main_new(&setup);
    self->exchange = exchange_new(&exchange);
    flow.exchange = self->exchange;
    link_main_attach(self->main, &flow);
    link_main_set_outage_budget(self->main, BUDGET_MS);
    return self;
}

static void side_free(Side *self)
{
    exchange_close(self->exchange);
    stream_shutdown(self->peer);
    link_main_free(self->main);
    exchange_free(self->exchange);
    stream_free(self->peer);
    g_free(self);
}

/* ---- frames ------------------------------------------------------------------------- */

static void say(Side *self, LinkFrame frame, const void *payload)
{
    struct iovec piece = { (void *)payload, frame.length };

    g_assert_true(link_lane_write(self->peer, NULL, &frame, &piece,
                                  frame.length > 0, NULL));
}

static void say_ack(Side *self, LinkAck ack)
{
    uint8_t buf[LINK_ACK_SIZE];

    link_ack_encode(&ack, buf);
    say(self, (LinkFrame) { .type = LINK_ACK, .length = sizeof(buf) }, buf);
}

static void say_control(Side *self, uint64_t number, const char *text)
{
    say(self, (LinkFrame) { .type = LINK_CONTROL, .length = strlen(text),
                            .sequence = number }, text);
}

/* The next that is no heartbeat. */
static LinkFrame hear(Side *self, uint8_t *buf)
{
    LinkFrame frame;

    do {
        g_assert_true(link_lane_read(self->peer, &frame, NULL, NULL));
        g_assert_cmpuint(frame.length, <=, LINK_STREAM_MAX);
        g_assert_true(frame.length == 0 ||
                      stream_read_full(self->peer, buf, frame.length, NULL,
                                       NULL));
    } while (frame.type == LINK_PING);
    return frame;
}

static LinkAck hear_ack(Side *self)
{
    g_autofree uint8_t *buf = g_malloc(LINK_STREAM_MAX);
    LinkFrame frame = hear(self, buf);
    LinkAck ack;

    g_assert_cmpuint(frame.type, ==, LINK_ACK);
    link_ack_decode(buf, &ack);
    return ack;
}

/* Drops the connection and gives the side another. */
static void drop(Side *self, unsigned generation)
{
    Stream *pair[2], *old = self->peer;
    g_autoptr(GError) error = NULL;

    link_fixture_pair(pair, "peer", "side");
    if (self->source_side) {
        g_mutex_lock(&self->bell.lock);
        self->next = pair[0];
        g_mutex_unlock(&self->bell.lock);
    } else {
        g_assert_true(link_main_take(self->main, pair[0], generation, &error));
    }
    stream_free(old);
    self->peer = pair[1];
    link_fixture_wait(&self->bell, BELL_UP);
}

static void assert_fails(Side *self, const char *part)
{
    g_autoptr(GError) error = NULL;

    link_fixture_wait(&self->bell, EXCHANGE_EVENT_FAILED);
    error = exchange_get_error(self->exchange);
    link_fixture_assert_contains(error->message, part);
}

/* ---- control ------------------------------------------------------------------------ */

/* What was not acknowledged comes again, and only that; numbers go on. */
static void test_control_is_sent_again(void)
{
    Side *self = side_new(true);
    uint8_t buf[LINK_STREAM_MAX];
    LinkFrame frame;

    link_main_send_event(self->main, "one", NULL);
    link_main_send_event(self->main, "two", NULL);
    g_assert_cmpuint(hear(self, buf).sequence, ==, 0);
    g_assert_cmpuint(hear(self, buf).sequence, ==, 1);
    drop(self, 0);
    g_assert_cmpuint(hear_ack(self).control, ==, 0);
    say_ack(self, (LinkAck) { .control = 1 });
    frame = hear(self, buf);
    g_assert_cmpuint(frame.type, ==, LINK_CONTROL);
    g_assert_cmpuint(frame.sequence, ==, 1);
    buf[frame.length] = '\0';
    link_fixture_assert_contains((char *)buf, "two");
    link_main_send_event(self->main, "three", NULL);
    g_assert_cmpuint(hear(self, buf).sequence, ==, 2);
    side_free(self);
}

/* A message that broke off in the middle was not received; a whole one was. */
static void test_control_cut(void)
{
    Side *self = side_new(false);
    const char text[] = "{\"event\":\"x\"}";
    LinkFrame frame = { .type = LINK_CONTROL, .length = strlen(text),
                        .sequence = 1 };
    uint8_t header[LINK_HEADER_SIZE];

    say_control(self, 0, text);
    g_assert_cmpuint(hear_ack(self).control, ==, 1);
    link_frame_encode(&frame, header);
    g_assert_true(stream_write(self->peer, header, sizeof(header), NULL));
    g_assert_true(stream_write(self->peer, text, 5, NULL));
    drop(self, 1);
    g_assert_cmpuint(hear_ack(self).control, ==, 1);
    say_ack(self, (LinkAck) { 0 });
    say_control(self, 1, text);
    g_assert_cmpuint(hear_ack(self).control, ==, 2);
    g_assert_cmpuint(link_fixture_count(&self->bell, BELL_MESSAGE), ==, 2);
    side_free(self);
}

/* ---- streams ------------------------------------------------------------------------ */

/* Bytes that had come come again, and are pushed once; the end too. */
static void test_stream_overlaps(void)
{
    Side *self = side_new(false);
    g_autoptr(GByteArray) main = link_fixture_main_start();
    ExchangeSnapshot snapshot;
    unsigned half = main->len / 2;

    say(self, (LinkFrame) { .type = LINK_MAIN, .length = half }, main->data);
    say_control(self, 0, "{\"event\":\"x\"}");      /* so that it has come */
    g_assert_cmpuint(hear_ack(self).control, ==, 1);
    drop(self, 1);
    g_assert_cmpuint(hear_ack(self).main_offset, ==, 0);
    say_ack(self, (LinkAck) { 0 });
    say(self, (LinkFrame) { .type = LINK_MAIN, .length = 3 }, main->data);
    say(self, (LinkFrame) { .type = LINK_MAIN, .length = main->len - 3,
                            .flags = LINK_FLAG_END, .sequence = 3 },
        main->data + 3);
    link_fixture_wait(&self->bell, EXCHANGE_EVENT_MAIN_ENDED);
    self->bell.n[BELL_UP] = 0;
    drop(self, 2);
    hear_ack(self);
    say_ack(self, (LinkAck) { 0 });
    say(self, (LinkFrame) { .type = LINK_MAIN, .length = 1,
                            .flags = LINK_FLAG_END, .sequence = main->len - 1 },
        main->data + main->len - 1);
    say_control(self, 1, "{\"event\":\"x\"}");
    g_assert_cmpuint(hear_ack(self).control, ==, 2);
    exchange_get_snapshot(self->exchange, &snapshot);
    g_assert_cmpuint(snapshot.main_in, ==, main->len);
    g_assert_cmpuint(link_fixture_count(&self->bell, EXCHANGE_EVENT_MAIN_ENDED),
                     ==, 1);
    side_free(self);
}

/* The end has no byte of its own, so it is said on each connection. */
static void test_end_is_sent_again(void)
{
    Side *self = side_new(false);
    uint8_t buf[LINK_STREAM_MAX];
    LinkFrame frame;

    say_control(self, 0, "{\"event\":\"x\"}");
    g_assert_cmpuint(hear_ack(self).control, ==, 1);
    exchange_return_push(self->exchange, (const uint8_t *)"abc", 3);
    frame = hear(self, buf);
    g_assert_cmpuint(frame.type, ==, LINK_RETURN);
    exchange_return_end(self->exchange);
    frame = hear(self, buf);
    g_assert_cmpuint(frame.flags, ==, LINK_FLAG_END);
    drop(self, 1);
    hear_ack(self);
    say_ack(self, (LinkAck) { .return_offset = 2 });
    frame = hear(self, buf);
    g_assert_cmpuint(frame.sequence, ==, 2);
    g_assert_cmpuint(frame.length, ==, 1);
    g_assert_cmpint(buf[0], ==, 'c');
    g_assert_cmpuint(frame.flags, ==, LINK_FLAG_END);
    side_free(self);
}

static void test_gap_after_resume(void)
{
    Side *self = side_new(false);
    g_autoptr(GByteArray) main = link_fixture_main_start();

    say(self, (LinkFrame) { .type = LINK_MAIN, .length = 10 }, main->data);
    say_control(self, 0, "{\"event\":\"x\"}");
    hear_ack(self);
    drop(self, 1);
    hear_ack(self);
    say_ack(self, (LinkAck) { 0 });
    say(self, (LinkFrame) { .type = LINK_MAIN, .length = 1, .sequence = 11 },
        main->data);
    assert_fails(self, "got a MAIN frame with offset 11, expected 10");
    side_free(self);
}

/* ---- whose connection it is --------------------------------------------------------- */

static void test_first_frame_is_ack(void)
{
    Side *self = side_new(false);

    say_control(self, 0, "{\"event\":\"x\"}");
    hear_ack(self);
    drop(self, 1);
    hear_ack(self);
    say_control(self, 1, "{\"event\":\"x\"}");
    assert_fails(self, "got a CONTROL frame first after a resume, expected ACK");
    side_free(self);
}

static void test_generations(void)
{
    Side *self = side_new(false);
    Stream *pair[2];
    g_autoptr(GError) error = NULL;

    link_fixture_pair(pair, "peer", "side");
    /* Nothing was heard since the attach. */
    g_assert_false(link_main_take(self->main, pair[0], 1, &error));
    g_assert_cmpstr(error->message, ==, "main lane: it is over");
    g_clear_error(&error);
    say_control(self, 0, "{\"event\":\"x\"}");
    hear_ack(self);
    drop(self, 3);
    g_assert_false(link_main_take(self->main, pair[0], 3, &error));
    g_assert_cmpstr(error->message, ==,
                    "main lane: got generation 3, allowed above 3");
    g_assert_false(link_main_check_take(self->main, 2, NULL));
    g_assert_true(link_main_check_take(self->main, 4, NULL));
    stream_free(pair[0]);
    stream_free(pair[1]);
    side_free(self);
}

/* Who says that it ends is not waited for. */
static void test_end_is_no_outage(void)
{
    Side *self = side_new(false);

    say_control(self, 0, "{\"event\":\"end\"}");
    hear_ack(self);
    stream_shutdown(self->peer);
    assert_fails(self, "the peer ended it");
    g_assert_cmpuint(link_fixture_count(&self->bell, BELL_MESSAGE), ==, 0);
    side_free(self);
}

static void test_unknown_to_the_peer(void)
{
    Side *self = side_new(true);

    self->unknown = true;
    stream_shutdown(self->peer);
    assert_fails(self, "cannot be resumed: DeviceNotFound: there is no such");
    side_free(self);
}

static void test_budget(void)
{
    Side *self = side_new(true);
    LinkMainOutage outage;

    stream_shutdown(self->peer);
    do {
        link_main_get_outage(self->main, &outage);
    } while (!outage.down);
    g_assert_cmpuint(outage.budget_ms, ==, BUDGET_MS);
    link_main_set_outage_budget(self->main, 20);
    assert_fails(self, "no connection for 20 ms (outage budget)");
    side_free(self);
}

/* ---- what is known from elsewhere --------------------------------------------------- */

/* The budget, a minute, is not waited for. */
static void test_given_up(void)
{
    Side *self = side_new(false);
    LinkMainOutage outage;

    say_control(self, 0, "{\"event\":\"hello\"}");
    hear_ack(self);
    stream_shutdown(self->peer);
    do {
        link_main_get_outage(self->main, &outage);
    } while (!outage.down);
    g_assert_cmpuint(link_fixture_count(&self->bell, BELL_END), ==, 0);
    link_main_give_up(self->main, g_error_new(STREAM_ERROR, STREAM_ERROR_IO,
                                              "it has ended there"));
    assert_fails(self, "it has ended there");
    side_free(self);
}

/* As if it had broken by itself: what was not acknowledged comes on the next one. */
static void test_broken_on_purpose(void)
{
    Side *self = side_new(true);
    uint8_t buf[LINK_STREAM_MAX];
    Stream *pair[2];

    link_main_send_event(self->main, "one", NULL);
    g_assert_cmpuint(hear(self, buf).sequence, ==, 0);
    link_fixture_pair(pair, "peer", "side");
    self->next = pair[0];
    link_main_break(self->main, g_error_new(STREAM_ERROR, STREAM_ERROR_IO, "why"));
    link_fixture_wait(&self->bell, BELL_UP);
    stream_free(self->peer);
    self->peer = pair[1];
    g_assert_cmpuint(link_main_get_generation(self->main), ==, 1);
    hear_ack(self);
    say_ack(self, (LinkAck) { 0 });
    g_assert_cmpuint(hear(self, buf).type, ==, LINK_CONTROL);
    side_free(self);
}

/* Where no other connection would follow it stays as it is. */
static void test_not_broken_without_budget(void)
{
    Side *self = side_new(true);
    uint8_t buf[LINK_STREAM_MAX];

    link_main_set_outage_budget(self->main, 0);
    link_main_break(self->main, g_error_new(STREAM_ERROR, STREAM_ERROR_IO, "why"));
    link_main_send_event(self->main, "one", NULL);
    g_assert_cmpuint(hear(self, buf).type, ==, LINK_CONTROL);
    side_free(self);
}

/* Not by being written: by being acknowledged, all but the `end`. */
static void test_is_heard(void)
{
    Side *self = side_new(true);
    uint8_t buf[LINK_STREAM_MAX];

    g_assert_true(link_main_is_heard(self->main));
    link_main_send_event(self->main, "one", NULL);
    link_main_send_event(self->main, "abort", NULL);
    hear(self, buf);
    hear(self, buf);
    say_ack(self, (LinkAck) { .control = 1 });
    say_control(self, 0, "{\"event\":\"heard\"}");
    link_fixture_wait(&self->bell, BELL_MESSAGE);
    g_assert_false(link_main_is_heard(self->main));
    say_ack(self, (LinkAck) { .control = 2 });
    while (!link_main_is_heard(self->main)) {
        g_usleep(100);
    }
    link_main_shutdown(self->main);
    g_assert_true(link_main_is_heard(self->main));
    side_free(self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/link/resume/" path, func)
    ADD("control-is-sent-again", test_control_is_sent_again);
    ADD("control-cut", test_control_cut);
    ADD("stream-overlaps", test_stream_overlaps);
    ADD("end-is-sent-again", test_end_is_sent_again);
    ADD("gap", test_gap_after_resume);
    ADD("first-frame-is-ack", test_first_frame_is_ack);
    ADD("generations", test_generations);
    ADD("end-is-no-outage", test_end_is_no_outage);
    ADD("unknown-to-the-peer", test_unknown_to_the_peer);
    ADD("budget", test_budget);
    ADD("given-up", test_given_up);
    ADD("broken-on-purpose", test_broken_on_purpose);
    ADD("not-broken-without-budget", test_not_broken_without_budget);
    ADD("is-heard", test_is_heard);
    return g_test_run();
}
