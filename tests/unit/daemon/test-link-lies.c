/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A peer that breaks the rules: each lie ends in one clear error, and nothing
 * hangs or leaks.  The peer is the test itself, which writes what it likes.
 */
#include "daemon/egress-link.h"
#include "daemon/ingress-link.h"
#include "daemon/link-lane.h"
#include "daemon/link-main.h"
#include "qmp/error.h"
#include "qmp/message.h"
#include "tests/unit/daemon/link-fixture.h"
#include "wire/crc32c.h"
#include "wire/error.h"
#include "wire/link-pack.h"
#include "wire/page-history.h"

enum { WINDOW = 128 * 1024, MAIN_WINDOW = 4096, BELL_END = 12, BELL_MESSAGE };

/* One side is real; at the other ends of its lanes the test writes. */
typedef struct {
    bool source_side;
    LinkFixtureBell bell;
    Exchange *exchange;
    LinkMain *main;
    Ingress *ingress;
    Egress *egress;
    PacketPool *pool;
    Stream *peer_main;
    Stream *peer_bulk[2];
    GThread *reader;
    unsigned pongs;             /* atomic */
    uint64_t last_pong;         /* atomic */
    char *last_control;         /* guarded by the bell's lock */
} Victim;

static void on_message(JsonObject *message, void *data)
{
    Victim *self = data;

    link_fixture_ring(&self->bell, message ? BELL_MESSAGE : BELL_END);
    g_clear_pointer(&message, json_object_unref);
}

/* So that the victim can write; notes what is asked for below. */
static void *peer_reader_thread(void *data)
{
    Victim *self = data;
    g_autofree uint8_t *buf = g_malloc(LINK_STREAM_MAX);
    LinkFrame frame;
    bool eof;

    while (link_lane_read(self->peer_main, &frame, &eof, NULL) && !eof &&
           (frame.length == 0 ||
            stream_read_full(self->peer_main, buf, frame.length, NULL, NULL))) {
        if (frame.type == LINK_PONG) {
            __atomic_store_n(&self->last_pong, frame.sequence,
                             __ATOMIC_SEQ_CST);
            __atomic_add_fetch(&self->pongs, 1, __ATOMIC_SEQ_CST);
        } else if (frame.type == LINK_CONTROL) {
            g_mutex_lock(&self->bell.lock);
            g_free(self->last_control);
            self->last_control = g_strndup((char *)buf, frame.length);
            self->bell.n[15]++;
            g_cond_broadcast(&self->bell.changed);
            g_mutex_unlock(&self->bell.lock);
        }
    }
    return NULL;
}

static void open_main(Victim *self, unsigned dead_ms)
{
    LinkMainSetup setup = {
        .source_side = self->source_side, .dead_ms = dead_ms,
        .handler = on_message, .data = self,
    };
    Stream *pair[2];

    link_fixture_pair(pair, "liar", "victim");
    setup.stream = pair[0];
    self->peer_main = pair[1];
    self->main = link_main_new(&setup);
    self->reader = g_thread_new("peer", peer_reader_thread, self);
}

static void open_exchange(Victim *self)
{
    ExchangeSetup setup = {
        .memory = 1024 * 1024, .main_ring = MAIN_WINDOW,
        .channels_in = self->source_side ? 1 : 0,
        .link_fed = !self->source_side,
        .observer = link_fixture_observe, .observer_data = &self->bell,
    };
    LinkMainFlow flow = {
        .send_window = MAIN_WINDOW, .receive_window = MAIN_WINDOW,
        .preempt_window = EXCHANGE_PREEMPT_RING,
    };

    self->exchange = exchange_new(&setup);
    flow.exchange = self->exchange;
    link_main_attach(self->main, &flow);
}

static Victim *victim_new(bool source_side)
{
    Victim *self = g_new0(Victim, 1);

    self->source_side = source_side;
    self->pool = packet_pool_new();
    open_main(self, 60000);
    open_exchange(self);
    return self;
}

static void victim_free(Victim *self)
{
    if (self->exchange) {
        exchange_close(self->exchange);
    }
    stream_shutdown(self->peer_main);
    egress_shutdown(self->egress);
    ingress_shutdown(self->ingress);
    egress_free(self->egress);
    ingress_free(self->ingress);
    link_main_free(self->main);
    exchange_free(self->exchange);
    g_thread_join(self->reader);
    stream_free(self->peer_main);
    stream_free(self->peer_bulk[0]);
    stream_free(self->peer_bulk[1]);
    packet_pool_unref(self->pool);
    g_free(self->last_control);
    g_free(self);
}

static void say(Stream *stream, const LinkFrame *frame, const void *payload)
{
    struct iovec piece = { (void *)payload, frame->length };

    /* The victim may have hung up already. */
    if (!link_lane_write(stream, NULL, frame, &piece, frame->length > 0,
                         NULL)) {
        g_test_message("not written: %s",
                       link_frame_type_name(frame->type));
    }
}

static void assert_fails(Victim *self, const char *part)
{
    g_autoptr(GError) error = NULL;

    link_fixture_wait(&self->bell, EXCHANGE_EVENT_FAILED);
    error = exchange_get_error(self->exchange);
    g_test_message("%s", error->message);
    g_assert_true(g_str_has_prefix(error->message, "link to liar, "));
    link_fixture_assert_contains(error->message, part);
    g_assert_cmpuint(link_fixture_count(&self->bell, EXCHANGE_EVENT_FAILED),
                     ==, 1);
}

/* ---- bulk lanes -------------------------------------------------------------- */

/* A destination side that knows its blocks, with two lanes. */
static Victim *destination_new(void)
{
    Victim *self = victim_new(false);
    IngressLinkSetup setup = {
        .exchange = self->exchange, .main = self->main, .window = WINDOW,
        .packed = true, .history = 4 * LINK_FIXTURE_PAGE,
    };
    g_autoptr(GByteArray) main = link_fixture_main_start();
    LinkFrame frame = { .type = LINK_MAIN, .length = main->len };

    g_assert_true(exchange_decide(self->exchange, true, 1, link_fixture_uuid,
                                  NULL));
    exchange_add_outs(self->exchange, 1, false);
    self->ingress = ingress_link_new(&setup);
    for (unsigned i = 0; i < 2; i++) {
        Stream *pair[2];

        link_fixture_pair(pair, "liar", "victim");
        g_assert_true(ingress_link_take(self->ingress, pair[0], i, 0, NULL));
        self->peer_bulk[i] = pair[1];
    }
    say(self->peer_main, &frame, main->data);
    return self;
}

static void say_epoch_end(Victim *self, uint64_t number, uint64_t epoch,
                          uint64_t frames)
{
    uint8_t buf[LINK_EPOCH_END_SIZE];
    LinkFrame frame = {
        .type = LINK_EPOCH_END, .length = sizeof(buf), .sequence = number,
        .epoch = epoch,
    };

    link_epoch_end_encode(frames, buf);
    say(self->peer_bulk[0], &frame, buf);
}

/* What a PAGES frame says, to be made wrong. */
typedef struct {
    LinkPages pages;
    MultifdHeader header;
    uint8_t payload[2 * LINK_FIXTURE_PAGE];
    uint32_t payload_len;
    uint32_t checksum_off;      /* added to the right one */
    uint32_t length_off;
    bool payload_is_opaque;
} Pages;

static Pages *pages_new(void)
{
    Pages *self = g_new0(Pages, 1);

    self->pages.page_size = LINK_FIXTURE_PAGE;
    self->header.normal_pages = 1;
    g_strlcpy(self->header.ramblock, LINK_FIXTURE_BLOCK, 256);
    self->payload_len = LINK_FIXTURE_PAGE;
    memset(self->payload, 0xa5, sizeof(self->payload));
    return self;
}

static void say_pages(Victim *self, unsigned lane, uint64_t number,
                      uint64_t epoch, Pages *pages)
{
    uint8_t buf[LINK_PAGES_HEADER_MAX + sizeof(pages->payload)];
    size_t len = link_pages_encode(&pages->pages, &pages->header, buf);
    LinkFrame frame = {
        .type = LINK_PAGES, .length = len + pages->payload_len +
                                      pages->length_off,
        .sequence = number, .epoch = epoch,
        .checksum = (pages->payload_is_opaque
                     ? crc32c(0, pages->payload, pages->payload_len)
                     : crc32c_pages(pages->payload, LINK_FIXTURE_PAGE,
                                    pages->payload_len / LINK_FIXTURE_PAGE)) +
                    pages->checksum_off,
    };

    memcpy(buf + len, pages->payload, pages->payload_len);
    say(self->peer_bulk[lane], &frame, buf);
    g_free(pages);
}

/* A packed frame of one page: @body, and its length as @len_said. */
static void say_packed(Victim *self, Pages *pages, const uint8_t *body,
                       size_t len)
{
    uint8_t buf[LINK_PAGES_HEADER_MAX + 4 * LINK_FIXTURE_PAGE];
    size_t header = link_pages_encode(&pages->pages, &pages->header, buf);
    LinkFrame frame = {
        .type = LINK_PAGES, .flags = LINK_FLAG_PACKED, .length = header + len,
        .unpacked = header + pages->payload_len, .sequence = 1, .epoch = 1,
        .checksum = crc32c_pages(pages->payload, LINK_FIXTURE_PAGE, 1),
    };

    say_epoch_end(self, 0, 0, 0);
    memcpy(buf + header, body, len);
    say(self->peer_bulk[0], &frame, buf);
    g_free(pages);
}

/* Stored, with one ref. */
static void say_stored(Victim *self, uint32_t ref, uint8_t change)
{
    Pages *pages = pages_new();
    uint8_t body[1 + LINK_PACK_REF_SIZE + LINK_FIXTURE_PAGE] = { 0 };

    bytes_put_be32(body + 1, ref);
    memcpy(body + 1 + LINK_PACK_REF_SIZE, pages->payload, LINK_FIXTURE_PAGE);
    body[sizeof(body) - 1] ^= change;
    say_packed(self, pages, body, sizeof(body));
}

static void lie_packed_opaque(Victim *v)
{
    Pages *pages = pages_new();

    pages->pages.method = METHOD_QATZIP;
    say_packed(v, pages, pages->payload, 100);
}

static void lie_packed_long(Victim *v)
{
    const uint8_t body[2 + LINK_PACK_REF_SIZE + LINK_FIXTURE_PAGE] = { 0 };

    say_packed(v, pages_new(), body, sizeof(body));
}

static void lie_packed_short(Victim *v)
{
    say_packed(v, pages_new(), (const uint8_t *)"", 1);
}

static void lie_packed_garbage(Victim *v)
{
    say_packed(v, pages_new(), (const uint8_t *)"\1garbage", 8);
}

static void lie_packed_delta(Victim *v)
{
    say_stored(v, PAGE_REF_DELTA | 3, 0);
}

static void lie_packed_slot(Victim *v)
{
    say_stored(v, PAGE_REF_STORE | 4, 0);
}

static void lie_packed_checksum(Victim *v)
{
    say_stored(v, PAGE_REF_STORE | 3, 1);
}

static void lie_checksum(Victim *v)
{
    Pages *pages = pages_new();

    say_epoch_end(v, 0, 0, 0);
    pages->checksum_off = 1;
    say_pages(v, 0, 1, 1, pages);
}

static void lie_duplicate_number(Victim *v)
{
    say_epoch_end(v, 0, 0, 0);
    say_epoch_end(v, 0, 1, 0);
}

static void lie_number_too_far(Victim *v)
{
    say_pages(v, 0, LINK_FRAMES_MAX, 1, pages_new());
}

static void lie_closed_epoch(Victim *v)
{
    say_epoch_end(v, 0, 0, 0);
    say_epoch_end(v, 1, 1, 0);
    say_pages(v, 0, 2, 1, pages_new());
}

static void lie_epoch_too_far(Victim *v)
{
    say_pages(v, 0, 0, LINK_FRAMES_MAX, pages_new());
}

static void lie_data_in_epoch_0(Victim *v)
{
    say_pages(v, 0, 0, 0, pages_new());
}

static void lie_fewer_than_came(Victim *v)
{
    say_pages(v, 0, 1, 1, pages_new());
    say_pages(v, 0, 2, 1, pages_new());
    say_epoch_end(v, 3, 1, 1);
}

static void lie_more_than_said(Victim *v)
{
    /* Epoch 0 stays open, so epoch 1 does too. */
    say_epoch_end(v, 2, 1, 1);
    say_pages(v, 0, 1, 1, pages_new());
    say_pages(v, 0, 3, 1, pages_new());
}

static void lie_epoch_end_twice(Victim *v)
{
    say_epoch_end(v, 1, 1, 5);
    say_epoch_end(v, 2, 1, 5);
}

static void lie_window_overrun(Victim *v)
{
    say_epoch_end(v, 0, 0, 0);
    for (unsigned i = 1; i < 20; i++) {
        say_pages(v, 0, i, 1, pages_new());
    }
}

static void lie_unknown_type(Victim *v)
{
    uint8_t header[LINK_HEADER_SIZE] = { LINK_TYPE_LAST + 1 };

    g_assert_true(stream_write(v->peer_bulk[0], header, sizeof(header), NULL));
}

/* Of a link test, on a lane of a migration. */
static void lie_test(Victim *v)
{
    static const uint8_t nothing[1];
    LinkFrame frame = { .type = LINK_TEST, .length = sizeof(nothing) };

    say(v->peer_bulk[0], &frame, nothing);
}

static void lie_wrong_lane_type(Victim *v)
{
    LinkFrame frame = { .type = LINK_PING };

    say(v->peer_bulk[0], &frame, NULL);
}

static void lie_oversize(Victim *v)
{
    uint8_t header[LINK_HEADER_SIZE] = { LINK_PAGES };

    bytes_put_be32(header + 4, LINK_PAGES_MAX + 1);
    g_assert_true(stream_write(v->peer_bulk[0], header, sizeof(header), NULL));
}

static void lie_unknown_block(Victim *v)
{
    Pages *pages = pages_new();

    g_strlcpy(pages->header.ramblock, "nothing", 256);
    say_pages(v, 0, 1, 1, pages);
}

static void lie_offset(Victim *v)
{
    Pages *pages = pages_new();

    pages->header.offset[0] = (uint64_t)LINK_FIXTURE_BLOCK_PAGES *
                              LINK_FIXTURE_PAGE;
    say_pages(v, 0, 1, 1, pages);
}

static void lie_page_size(Victim *v)
{
    Pages *pages = pages_new();

    pages->pages.page_size = 8192;
    pages->payload_len = 8192;
    say_pages(v, 0, 1, 1, pages);
}

static void lie_payload_length(Victim *v)
{
    Pages *pages = pages_new();

    pages->payload_len--;
    say_pages(v, 0, 1, 1, pages);
}

static void lie_in_channel(Victim *v)
{
    Pages *pages = pages_new();

    pages->pages.in_channel = 255;
    say_pages(v, 0, 1, 1, pages);
}

/* An opaque payload is not decoded here; its lengths must add up all the same. */
static void lie_page_lengths(Victim *v)
{
    Pages *pages = pages_new();

    pages->pages.method = METHOD_UADK;
    pages->payload_len = 10;
    memset(pages->payload, 0, 10);
    pages->payload[3] = 7;
    pages->payload_is_opaque = true;
    say_pages(v, 0, 1, 1, pages);
}

static void lie_no_page(Victim *v)
{
    uint8_t buf[LINK_PAGES_FIXED_SIZE + 9] = { 0, 0, 0x10 };
    LinkFrame frame = { .type = LINK_PAGES, .length = sizeof(buf),
                        .sequence = 1, .epoch = 1 };

    say(v->peer_bulk[0], &frame, buf);
}

/* A device-state frame of @len bytes of zeroes, that says @said. */
static void say_device(Victim *v, const char *idstr, uint32_t said, uint32_t len,
                       uint32_t checksum)
{
    MultifdDeviceHeader device = { .payload_size = said };
    uint8_t buf[MULTIFD_DEVICE_HEADER_SIZE + 101] = { 0 };
    LinkFrame frame = { .type = LINK_DEVICE,
                        .length = MULTIFD_DEVICE_HEADER_SIZE + len,
                        .sequence = 1, .epoch = 1, .checksum = checksum };

    g_assert_cmpuint(frame.length, <=, sizeof(buf));
    g_strlcpy(device.idstr, idstr, sizeof(device.idstr));
    multifd_device_header_encode(&device, buf);
    say(v->peer_bulk[0], &frame, buf);
}

static void lie_device_idstr(Victim *v)
{
    say_device(v, "", 1, 1, 0);
}

static void lie_device_size(Victim *v)
{
    say_device(v, "vfio", 100, 101, 0);
}

static void lie_device_checksum(Victim *v)
{
    say_device(v, "vfio", 100, 100, 1);
}

/* ---- main lane, destination side ------------------------------------------------ */

/* One byte of a stream, at @offset. */
static void say_byte(Victim *v, LinkFrameType type, uint64_t offset)
{
    LinkFrame frame = { .type = type, .length = 1, .sequence = offset };

    say(v->peer_main, &frame, "x");
}

static void say_ack(Victim *v, LinkAck ack)
{
    uint8_t buf[LINK_ACK_SIZE];
    LinkFrame frame = { .type = LINK_ACK, .length = sizeof(buf) };

    link_ack_encode(&ack, buf);
    say(v->peer_main, &frame, buf);
}

static void lie_main_gap(Victim *v)
{
    say_byte(v, LINK_MAIN, 1000);
}

static void lie_main_window(Victim *v)
{
    uint8_t buf[1000] = { 0 };
    g_autoptr(GByteArray) sent = link_fixture_main_start();
    LinkFrame frame = { .type = LINK_MAIN, .length = sizeof(buf),
                        .sequence = sent->len };

    /* Device sections, opaque to the parser: any bytes do. */
    memset(buf, 0x04, sizeof(buf));
    for (unsigned i = 0; i < 5; i++, frame.sequence += sizeof(buf)) {
        say(v->peer_main, &frame, buf);
    }
}

static void lie_preempt_gap(Victim *v)
{
    say_byte(v, LINK_PREEMPT, 1);
}

static void lie_preempt_window(Victim *v)
{
    g_autofree uint8_t *buf = g_malloc0(EXCHANGE_PREEMPT_RING);
    LinkFrame frame = { .type = LINK_PREEMPT, .length = EXCHANGE_PREEMPT_RING };

    say(v->peer_main, &frame, buf);
    frame.sequence = frame.length;
    frame.length = 1;
    say(v->peer_main, &frame, buf);
}

static void lie_main_after_end(Victim *v)
{
    g_autoptr(GByteArray) sent = link_fixture_main_start();
    LinkFrame frame = { .type = LINK_MAIN, .flags = LINK_FLAG_END,
                        .sequence = sent->len };

    say(v->peer_main, &frame, NULL);
    say(v->peer_main, &frame, NULL);
}

static void lie_return_to_destination(Victim *v)
{
    LinkFrame frame = { .type = LINK_RETURN, .length = 1 };

    say(v->peer_main, &frame, "x");
}

static void lie_bulk_on_main(Victim *v)
{
    uint8_t buf[LINK_EPOCH_END_SIZE] = { 0 };
    LinkFrame frame = { .type = LINK_EPOCH_END, .length = sizeof(buf) };

    say(v->peer_main, &frame, buf);
}

static void lie_ack_of_return(Victim *v)
{
    say_ack(v, (LinkAck) { .return_offset = 1 });
}

static void say_control(Stream *stream, uint64_t number, const char *text)
{
    LinkFrame frame = { .type = LINK_CONTROL, .length = strlen(text),
                        .sequence = number };

    say(stream, &frame, text);
}

static void lie_control_number(Victim *v)
{
    say_control(v->peer_main, 1, "{\"event\":\"x\"}");
}

static void lie_control_garbage(Victim *v)
{
    say_control(v->peer_main, 0, "{\"event\"");
}

static void lie_control_two(Victim *v)
{
    say_control(v->peer_main, 0, "{\"event\":\"x\"}{\"event\":\"x\"}");
}

static void lie_control_nothing(Victim *v)
{
    say_control(v->peer_main, 0, "{\"execute\":\"no id\"}");
}

static void lie_control_deep(Victim *v)
{
    g_autoptr(GString) text = g_string_new("{\"event\":\"x\",\"data\":");

    for (unsigned i = 0; i < 32; i++) {
        g_string_append_c(text, '[');
    }
    for (unsigned i = 0; i < 32; i++) {
        g_string_append_c(text, ']');
    }
    g_string_append_c(text, '}');
    say_control(v->peer_main, 0, text->str);
}

static void lie_control_large(Victim *v)
{
    uint8_t header[LINK_HEADER_SIZE] = { LINK_CONTROL };

    bytes_put_be32(header + 4, LINK_CONTROL_MAX + 1);
    g_assert_true(stream_write(v->peer_main, header, sizeof(header), NULL));
}

typedef struct {
    const char *path;
    void (*lie)(Victim *victim);
    const char *error;
} Lie;

static const Lie destination_lies[] = {
    { "checksum", lie_checksum, "got data with checksum" },
    { "packed-opaque", lie_packed_opaque, "got packed pages, allowed only of raw" },
    { "packed-long", lie_packed_long, "bytes of packed frame, allowed" },
    { "packed-short", lie_packed_short, "bytes of packed frame, allowed" },
    { "packed-garbage", lie_packed_garbage, "are no zstd frame of" },
    { "packed-delta", lie_packed_delta, "a slot that holds nothing" },
    { "packed-slot", lie_packed_slot, "allowed are the slots of the history" },
    { "packed-checksum", lie_packed_checksum, "got data with checksum" },
    { "duplicate-number", lie_duplicate_number, "got 0 a second time" },
    { "number-too-far", lie_number_too_far, "got 65536, allowed below" },
    { "closed-epoch", lie_closed_epoch, "got epoch 1, allowed from" },
    { "epoch-too-far", lie_epoch_too_far, "got epoch 65536, allowed below" },
    { "data-in-epoch-0", lie_data_in_epoch_0, "data is allowed from epoch 1" },
    { "fewer-than-came", lie_fewer_than_came, "fewer frames than came" },
    { "more-than-said", lie_more_than_said, "EPOCH_END said frames: 1" },
    { "epoch-end-twice", lie_epoch_end_twice, "allowed for each: 1" },
    { "window-overrun", lie_window_overrun, "bytes not acknowledged" },
    { "unknown-type", lie_unknown_type, "got type 13" },
    { "test-outside-a-test", lie_test, "got a TEST frame" },
    { "ping-on-bulk", lie_wrong_lane_type, "got a PING frame" },
    { "oversize", lie_oversize, "got length" },
    { "unknown-block", lie_unknown_block, "nothing" },
    { "offset", lie_offset, "(channel 0 packet 0): " },
    { "page-size", lie_page_size, "got pages of 8192 bytes" },
    { "payload-length", lie_payload_length, "bytes of payload" },
    { "in-channel", lie_in_channel, "got inbound channel 255" },
    { "page-lengths", lie_page_lengths, "got lengths that add up to 11, allowed 10" },
    { "no-page", lie_no_page, "got no pages, allowed at least 1" },
    { "device-idstr", lie_device_idstr, "an idstr that is empty" },
    { "device-size", lie_device_size, "device-state packet of 100 bytes" },
    { "device-checksum", lie_device_checksum, "got data with checksum" },
    { "main-gap", lie_main_gap, "MAIN frame with offset 1000" },
    { "main-window", lie_main_window, "(window 4096)" },
    { "preempt-gap", lie_preempt_gap, "PREEMPT frame with offset 1" },
    { "preempt-window", lie_preempt_window, "(window 65536)" },
    { "main-after-end", lie_main_after_end, "after the end of that stream" },
    { "return-to-destination", lie_return_to_destination,
      "from the end that must not send any" },
    { "bulk-on-main", lie_bulk_on_main, "the main lane does not carry" },
    { "ack-of-return", lie_ack_of_return, "got ACK of RETURN byte 1" },
    { "control-number", lie_control_number, "got CONTROL number 1" },
    { "control-garbage", lie_control_garbage, "unfinished JSON" },
    { "control-two", lie_control_two, "more than one JSON object" },
    { "control-nothing", lie_control_nothing, "neither a request" },
    { "control-deep", lie_control_deep, "nesting depth 33, allowed at most 32" },
    { "control-large", lie_control_large, "got length 65537" },
};

static void run_destination_lie(const void *data)
{
    const Lie *lie = data;
    Victim *self = destination_new();

    lie->lie(self);
    assert_fails(self, lie->error);
    victim_free(self);
}

/* Only a packet that was refused for what it says counts as rejected. */
static void test_rejected_is_remembered(void)
{
    Victim *self = destination_new();
    Pages *pages = pages_new();
    unsigned channel;
    uint64_t packet;

    pages->pages.in_channel = 3;
    pages->pages.in_packet = 77;
    pages->header.offset[0] = 1;
    say_pages(self, 0, 1, 1, pages);
    link_fixture_wait(&self->bell, EXCHANGE_EVENT_REJECTED);
    g_assert_true(exchange_get_rejected(self->exchange, &channel, &packet));
    g_assert_cmpuint(channel, ==, 3);
    g_assert_cmpuint(packet, ==, 77);
    victim_free(self);
}

/* ---- lanes that break, which is no lie ------------------------------------------------ */

static void connect_again(Victim *self, unsigned lane, unsigned generation)
{
    Stream *pair[2];

    link_fixture_pair(pair, "liar", "victim");
    g_assert_true(ingress_link_take(self->ingress, pair[0], lane, generation,
                                    NULL));
    stream_free(self->peer_bulk[lane]);
    self->peer_bulk[lane] = pair[1];
}

/* One packet in epoch 1, whole and once; then both epochs end. */
static void assert_one_packet(Victim *self)
{
    ExchangeSnapshot snapshot;
    Packet *packet;
    uint64_t epoch;
    ExchangeTake take = exchange_take(self->exchange, 0, &packet, &epoch);
    g_autoptr(GError) error = exchange_get_error(self->exchange);

    g_assert_no_error(error);
    g_assert_cmpint(take, ==, EXCHANGE_SYNC);
    exchange_synced(self->exchange, 0);
    g_assert_cmpint(exchange_take(self->exchange, 0, &packet, &epoch), ==,
                    EXCHANGE_PACKET);
    g_assert_cmpuint(epoch, ==, 1);
    g_assert_cmpuint(packet->payload[LINK_FIXTURE_PAGE - 1], ==, 0xa5);
    g_assert_cmpint(packet->in_method, ==, METHOD_NONE);
    exchange_done(self->exchange, 0, packet);
    g_assert_cmpint(exchange_take(self->exchange, 0, &packet, &epoch), ==,
                    EXCHANGE_SYNC);
    g_assert_cmpuint(epoch, ==, 1);
    exchange_get_snapshot(self->exchange, &snapshot);
    g_assert_cmpuint(snapshot.packets, ==, 1);
    g_assert_null(exchange_get_error(self->exchange));
}

static size_t encode_pages(uint8_t *buf, uint8_t flags)
{
    Pages *pages = pages_new();
    LinkFrame frame = {
        .type = LINK_PAGES, .flags = flags, .epoch = 1,
        .checksum = crc32c_pages(pages->payload, LINK_FIXTURE_PAGE, 1),
    };
    size_t len = link_pages_encode(&pages->pages, &pages->header,
                                   buf + LINK_HEADER_SIZE);

    memcpy(buf + LINK_HEADER_SIZE + len, pages->payload, LINK_FIXTURE_PAGE);
    frame.length = len + LINK_FIXTURE_PAGE;
    link_frame_encode(&frame, buf);
    g_free(pages);
    return LINK_HEADER_SIZE + frame.length;
}

/* A lane that ends inside a frame, wherever: the frame comes again, and counts
 * once. */
static void test_frame_cut_at_every_byte(void)
{
    uint8_t buf[LINK_HEADER_SIZE + LINK_PAGES_HEADER_MAX + LINK_FIXTURE_PAGE];
    size_t size = encode_pages(buf, 0);

    for (size_t len = 1; len <= size; len += len < 100 ? 1 : 1333) {
        Victim *self = destination_new();

        encode_pages(buf, 0);
        g_assert_true(stream_write(self->peer_bulk[0], buf, len, NULL));
        stream_shutdown(self->peer_bulk[0]);
        connect_again(self, 0, 1);
        encode_pages(buf, LINK_FLAG_RESENT);
        g_assert_true(stream_write(self->peer_bulk[0], buf, size, NULL));
        say_epoch_end(self, 1, 0, 0);
        say_epoch_end(self, 2, 1, 1);
        assert_one_packet(self);
        victim_free(self);
    }
}

/* The same for the frame that ends the epoch. */
static void test_epoch_end_cut(void)
{
    LinkFrame frame = { .type = LINK_EPOCH_END, .length = LINK_EPOCH_END_SIZE,
                        .sequence = 2, .epoch = 1 };
    uint8_t header[LINK_HEADER_SIZE], frames[LINK_EPOCH_END_SIZE];
    Victim *self = destination_new();

    say_pages(self, 0, 0, 1, pages_new());
    say_epoch_end(self, 1, 0, 0);
    link_frame_encode(&frame, header);
    g_assert_true(stream_write(self->peer_bulk[1], header, sizeof(header), NULL));
    stream_shutdown(self->peer_bulk[1]);
    connect_again(self, 1, 1);
    frame.flags = LINK_FLAG_RESENT;
    link_epoch_end_encode(1, frames);
    say(self->peer_bulk[1], &frame, frames);
    assert_one_packet(self);
    victim_free(self);
}

/* A copy that comes while its original is still being read takes it over. */
static void test_copy_takes_over(void)
{
    uint8_t buf[LINK_HEADER_SIZE + LINK_PAGES_HEADER_MAX + LINK_FIXTURE_PAGE];
    size_t size = encode_pages(buf, 0);
    Victim *self = destination_new();

    g_assert_true(stream_write(self->peer_bulk[1], buf, size - 10, NULL));
    g_usleep(20 * 1000);        /* most likely it is being read then; either is right */
    encode_pages(buf, LINK_FLAG_RESENT);
    g_assert_true(stream_write(self->peer_bulk[0], buf, size, NULL));
    say_epoch_end(self, 1, 0, 0);
    say_epoch_end(self, 2, 1, 1);
    assert_one_packet(self);
    victim_free(self);
}

/* What came whole is dropped when it comes again, and so is an original that the
 * kernel held back until after its copy. */
static void test_copies_are_dropped(void)
{
    uint8_t buf[LINK_HEADER_SIZE + LINK_PAGES_HEADER_MAX + LINK_FIXTURE_PAGE];
    size_t size = encode_pages(buf, LINK_FLAG_RESENT);
    Victim *self = destination_new();

    g_assert_true(stream_write(self->peer_bulk[0], buf, size, NULL));
    g_assert_true(stream_write(self->peer_bulk[0], buf, size, NULL));
    encode_pages(buf, 0);
    g_assert_true(stream_write(self->peer_bulk[0], buf, size, NULL));
    say_epoch_end(self, 1, 0, 0);
    say_epoch_end(self, 2, 1, 1);
    assert_one_packet(self);
    g_assert_cmpuint(ingress_link_get_dropped(self->ingress), ==, 2 * size);
    victim_free(self);
}

static void test_bulk_without_multifd(void)
{
    Victim *self = victim_new(false);
    IngressLinkSetup setup = {
        .exchange = self->exchange, .main = self->main, .window = WINDOW,
    };
    Stream *pair[2];

    g_assert_true(exchange_decide(self->exchange, false, 0, link_fixture_uuid,
                                  NULL));
    self->ingress = ingress_link_new(&setup);
    link_fixture_pair(pair, "liar", "victim");
    g_assert_true(ingress_link_take(self->ingress, pair[0], 0, 0, NULL));
    self->peer_bulk[0] = pair[1];
    say_epoch_end(self, 0, 0, 0);
    assert_fails(self, "allowed none in a migration without multifd");
    victim_free(self);
}

/* ---- main lane, source side ------------------------------------------------------- */

static void lie_ack_main(Victim *v)
{
    say_ack(v, (LinkAck) { .main_offset = 1 });
}

static void lie_ack_bulk(Victim *v)
{
    say_ack(v, (LinkAck) { .bulk = 1 });
}

static void lie_ack_preempt(Victim *v)
{
    say_ack(v, (LinkAck) { .preempt_offset = 1 });
}

static void lie_preempt_to_source(Victim *v)
{
    say_byte(v, LINK_PREEMPT, 0);
}

static void lie_return_gap(Victim *v)
{
    say_byte(v, LINK_RETURN, 1);
}

static void lie_return_window(Victim *v)
{
    uint8_t buf[MAIN_WINDOW + 1] = { 0 };
    LinkFrame frame = { .type = LINK_RETURN, .length = sizeof(buf) };

    say(v->peer_main, &frame, buf);
}

static void lie_main_to_source(Victim *v)
{
    say_byte(v, LINK_MAIN, 0);
}

static const Lie source_lies[] = {
    { "ack-main", lie_ack_main, "got ACK of MAIN byte 1" },
    { "ack-bulk", lie_ack_bulk, "got ACK of bulk frames below 1" },
    { "ack-preempt", lie_ack_preempt, "got ACK of PREEMPT byte 1" },
    { "return-gap", lie_return_gap, "RETURN frame with offset 1" },
    { "preempt-to-source", lie_preempt_to_source, "must not send any" },
    { "return-window", lie_return_window, "(window 4096)" },
    { "main-to-source", lie_main_to_source, "must not send any" },
};

static void run_source_lie(const void *data)
{
    const Lie *lie = data;
    Victim *self = victim_new(true);
    EgressLinkSetup setup = {
        .exchange = self->exchange, .main = self->main, .window = WINDOW,
        .lanes = g_ptr_array_new(),
    };
    Stream *pair[2];

    link_fixture_pair(pair, "liar", "victim");
    g_ptr_array_add(setup.lanes, pair[0]);
    self->peer_bulk[0] = pair[1];
    self->egress = egress_link_new(&setup);
    lie->lie(self);
    assert_fails(self, lie->error);
    victim_free(self);
}

/* ---- silence, floods, requests ------------------------------------------------------ */

/* A peer that answers nothing is dead after dead_ms, before attach as well. */
static void test_silence_is_death(void)
{
    Victim *self = g_new0(Victim, 1);
    g_autoptr(GError) error = NULL;

    self->pool = packet_pool_new();
    open_main(self, 60);
    link_fixture_wait(&self->bell, BELL_END);
    error = link_main_get_error(self->main);
    g_assert_error(error, STREAM_ERROR, STREAM_ERROR_TIMEOUT);
    link_fixture_assert_contains(error->message, "link to liar, main lane: the "
                                 "peer is silent and taken for dead: ");
    g_assert_cmpuint(link_fixture_count(&self->bell, BELL_END), ==, 1);
    /* An exchange that is attached too late learns of it too. */
    open_exchange(self);
    assert_fails(self, "taken for dead");
    victim_free(self);
}

/* Two that are idle keep each other alive, and know the round trip. */
static void test_heartbeat_keeps_alive(void)
{
    Victim victims[2] = { { .source_side = true }, { .source_side = false } };
    LinkMain *mains[2];
    Stream *pair[2];
    int64_t until = g_get_monotonic_time() + LINK_FIXTURE_LONG_US;

    link_fixture_pair(pair, "b", "a");
    for (unsigned i = 0; i < 2; i++) {
        LinkMainSetup setup = {
            .stream = pair[i], .source_side = i == 0, .dead_ms = 3000,
            .handler = on_message, .data = &victims[i],
        };

        mains[i] = link_main_new(&setup);
    }
    while (link_main_get_rtt_us(mains[0]) == 0 ||
           link_main_get_rtt_us(mains[1]) == 0) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(1000);
    }
    g_assert_null(link_main_get_error(mains[0]));
    link_main_shutdown(mains[0]);
    link_main_free(mains[0]);
    link_main_free(mains[1]);
}

/* The answers to a flood are as many as we can write, the last is the last. */
static void test_ping_flood(void)
{
    Victim *self = victim_new(false);
    LinkFrame frame = { .type = LINK_PING };
    int64_t until = g_get_monotonic_time() + LINK_FIXTURE_LONG_US;

    for (frame.sequence = 1; frame.sequence <= 5000; frame.sequence++) {
        say(self->peer_main, &frame, NULL);
    }
    while (__atomic_load_n(&self->last_pong, __ATOMIC_SEQ_CST) != 5000) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(1000);
    }
    g_assert_cmpuint(__atomic_load_n(&self->pongs, __ATOMIC_SEQ_CST), <=, 5000);
    g_assert_null(link_main_get_error(self->main));
    victim_free(self);
}

typedef struct {
    Victim *victim;
    unsigned timeout_ms;
    GCancellable *cancellable;
    JsonObject *value;
    GError *error;
} Request;

static void *request_thread(void *data)
{
    Request *self = data;
    JsonObject *arguments = json_object_new();

    json_object_set_int_member(arguments, "n", 5);
    self->value = link_main_request(self->victim->main, "prepare", arguments,
                                    self->timeout_ms, self->cancellable,
                                    &self->error);
    return NULL;
}

static void test_request_is_answered(void)
{
    Victim *self = victim_new(true);
    Request request = { self, 30000, NULL, NULL, NULL };
    GThread *thread = g_thread_new("request", request_thread, &request);
    int64_t n = 0;

    link_fixture_wait(&self->bell, 15);
    g_mutex_lock(&self->bell.lock);
    link_fixture_assert_contains(self->last_control, "\"prepare\"");
    link_fixture_assert_contains(self->last_control, "\"id\": 1");
    g_mutex_unlock(&self->bell.lock);
    /* Answers to what was not asked are ignored. */
    say_control(self->peer_main, 0, "{\"return\":{\"n\":1},\"id\":7}");
    say_control(self->peer_main, 1, "{\"return\":{\"n\":2},\"id\":\"1\"}");
    say_control(self->peer_main, 2, "{\"return\":{\"n\":6},\"id\":1}");
    say_control(self->peer_main, 3, "{\"return\":{\"n\":3},\"id\":1}");
    g_thread_join(thread);
    g_assert_no_error(request.error);
    g_assert_true(qmp_message_get_int(request.value, "n", &n));
    g_assert_cmpint(n, ==, 6);
    json_object_unref(request.value);
    victim_free(self);
}

static void test_request_is_refused(void)
{
    Victim *self = victim_new(true);
    Request request = { self, 30000, NULL, NULL, NULL };
    GThread *thread = g_thread_new("request", request_thread, &request);

    link_fixture_wait(&self->bell, 15);
    say_control(self->peer_main, 0, "{\"error\":{\"class\":\"DeviceNotFound\","
                "\"desc\":\"no VM 'x'\"},\"id\":1}");
    g_thread_join(thread);
    g_assert_error(request.error, QMP_ERROR, QMP_ERROR_COMMAND);
    g_assert_cmpint(qmp_error_get_class(request.error), ==,
                    QMP_CLASS_DEVICE_NOT_FOUND);
    g_assert_cmpstr(request.error->message, ==, "request 'prepare' to liar: "
                    "DeviceNotFound: no VM 'x'");
    g_clear_error(&request.error);
    victim_free(self);
}

static void test_request_times_out(void)
{
    Victim *self = victim_new(true);
    Request request = { self, 10, NULL, NULL, NULL };

    request_thread(&request);
    g_assert_error(request.error, STREAM_ERROR, STREAM_ERROR_TIMEOUT);
    g_clear_error(&request.error);
    victim_free(self);
}

static void test_request_is_cancelled(void)
{
    Victim *self = victim_new(true);
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    Request request = { self, 60000, cancellable, NULL, NULL };
    GThread *thread = g_thread_new("request", request_thread, &request);

    link_fixture_wait(&self->bell, 15);
    g_cancellable_cancel(cancellable);
    g_thread_join(thread);
    g_assert_error(request.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    g_clear_error(&request.error);
    victim_free(self);
}

static void test_request_ends_with_the_lane(void)
{
    Victim *self = victim_new(true);
    Request request = { self, 60000, NULL, NULL, NULL };
    GThread *thread = g_thread_new("request", request_thread, &request);

    link_fixture_wait(&self->bell, 15);
    stream_shutdown(self->peer_main);
    g_thread_join(thread);
    link_fixture_assert_contains(request.error->message, "request 'prepare' to "
                                 "liar: link to liar, main lane: the peer "
                                 "ended it");
    g_clear_error(&request.error);
    victim_free(self);
}

/* Last words get out: what was sent before shutdown arrives whole. */
static void test_last_words(void)
{
    Victim *self = victim_new(true);
    JsonObject *data = json_object_new();

    json_object_set_string_member(data, "reason", "because");
    link_main_send_event(self->main, "abort", data);
    link_main_shutdown(self->main);
    link_fixture_wait(&self->bell, 15);
    g_mutex_lock(&self->bell.lock);
    link_fixture_assert_contains(self->last_control, "because");
    g_mutex_unlock(&self->bell.lock);
    g_assert_cmpuint(link_fixture_count(&self->bell, BELL_END), ==, 0);
    victim_free(self);
}

/* Who asks and does not read the answers loses the link, not our memory. */
static void test_answers_not_read(void)
{
    Victim *self = g_new0(Victim, 1);
    LinkMainSetup setup = { .dead_ms = 60000, .handler = on_message,
                            .data = self };
    Stream *pair[2];
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strnfill(60000, 'x');

    link_fixture_pair(pair, "liar", "victim");
    setup.stream = pair[0];
    self->main = link_main_new(&setup);
    for (unsigned i = 0; i < 200; i++) {
        JsonObject *value = json_object_new();

        json_object_set_string_member(value, "text", text);
        link_main_answer(self->main, i, value, NULL);
    }
    link_fixture_wait(&self->bell, BELL_END);
    error = link_main_get_error(self->main);
    link_fixture_assert_contains(error->message, "the peer does not read");
    link_main_free(self->main);
    stream_free(pair[1]);
    g_free(self);
}

static void add_lies(const char *side, const Lie *lies, unsigned n,
                     GTestDataFunc run)
{
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *path = g_strdup_printf("/link/lies/%s/%s", side,
                                                lies[i].path);

        g_test_add_data_func(path, &lies[i], run);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_lies("to-destination", destination_lies,
             G_N_ELEMENTS(destination_lies), run_destination_lie);
    add_lies("to-source", source_lies, G_N_ELEMENTS(source_lies),
             run_source_lie);
    g_test_add_func("/link/lies/rejected-is-remembered",
                    test_rejected_is_remembered);
    g_test_add_func("/link/break/frame-cut-at-every-byte",
                    test_frame_cut_at_every_byte);
    g_test_add_func("/link/break/epoch-end-cut", test_epoch_end_cut);
    g_test_add_func("/link/break/copy-takes-over", test_copy_takes_over);
    g_test_add_func("/link/break/copies-are-dropped", test_copies_are_dropped);
    g_test_add_func("/link/lies/bulk-without-multifd",
                    test_bulk_without_multifd);
    g_test_add_func("/link/main/silence-is-death", test_silence_is_death);
    g_test_add_func("/link/main/heartbeat-keeps-alive",
                    test_heartbeat_keeps_alive);
    g_test_add_func("/link/main/ping-flood", test_ping_flood);
    g_test_add_func("/link/main/request-is-answered", test_request_is_answered);
    g_test_add_func("/link/main/request-is-refused", test_request_is_refused);
    g_test_add_func("/link/main/request-times-out", test_request_times_out);
    g_test_add_func("/link/main/request-is-cancelled",
                    test_request_is_cancelled);
    g_test_add_func("/link/main/request-ends-with-the-lane",
                    test_request_ends_with_the_lane);
    g_test_add_func("/link/main/last-words", test_last_words);
    g_test_add_func("/link/main/answers-not-read", test_answers_not_read);
    return g_test_run();
}
