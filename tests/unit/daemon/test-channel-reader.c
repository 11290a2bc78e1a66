/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One inbound multifd channel over a socket pair: bytes in, packets and SYNCs
 * out of an exchange, or the packet named that was refused.
 */
#include "daemon/channel-reader.h"
#include "tests/unit/daemon/link-fixture.h"
#include "wire/error.h"

enum { CHANNEL = 7, SHARE = 64 * 1024 * 1024 };

typedef struct {
    Exchange *exchange;
    PacketPool *pool;
    Stream *ends[2];            /* ours, the reader's */
    MultifdGeometry geometry;
    GByteArray *wire;           /* what the source sends */
    unsigned syncs_to_drop;
} Fixture;

static Fixture *fixture_new(void)
{
    ExchangeSetup setup = { .memory = SHARE / 2, .share = SHARE,
                            .main_ring = 65536, .channels_in = CHANNEL + 1 };
    Fixture *self = g_new0(Fixture, 1);

    self->exchange = exchange_new(&setup);
    self->pool = packet_pool_new();
    self->wire = g_byte_array_new();
    link_fixture_pair(self->ends, "daemon", "source");
    g_assert_true(multifd_geometry_init(&self->geometry, LINK_FIXTURE_PAGE,
                                        NULL));
    for (unsigned i = 0; i <= CHANNEL; i++) {
        MultifdInit init = { .id = i };
        unsigned in, drop;

        g_assert_true(exchange_join(self->exchange, &init, &in, &drop, NULL));
        g_assert_cmpuint(in, ==, i);
    }
    exchange_add_outs(self->exchange, 1, false);
    return self;
}

static void fixture_free(Fixture *self)
{
    stream_free(self->ends[0]);
    stream_free(self->ends[1]);
    g_byte_array_unref(self->wire);
    exchange_free(self->exchange);
    packet_pool_unref(self->pool);
    g_free(self);
}

static void push_main(Fixture *self)
{
    g_autoptr(GByteArray) s = link_fixture_main_start();

    g_assert_true(exchange_main_push(self->exchange, s->data, s->len));
}

/* ---- bytes --------------------------------------------------------------------- */

static void put_header(Fixture *self, const MultifdHeader *header)
{
    g_autofree uint8_t *buf = g_malloc(self->geometry.header_size);

    multifd_header_encode(header, &self->geometry, buf);
    g_byte_array_append(self->wire, buf, self->geometry.header_size);
}

static void put_sync(Fixture *self)
{
    put_header(self, &(MultifdHeader) { .flags = MULTIFD_FLAG_SYNC });
}

/* Pages 0 to @normal - 1 with data, the next @zero without. */
static MultifdHeader make_header(uint32_t normal, uint32_t zero)
{
    MultifdHeader header = {
        .pages_alloc = 128,
        .normal_pages = normal,
        .zero_pages = zero,
        .payload_size = normal * LINK_FIXTURE_PAGE,
        .ramblock = LINK_FIXTURE_BLOCK,
    };

    for (uint32_t i = 0; i < normal + zero; i++) {
        header.offset[i] = (uint64_t)i * LINK_FIXTURE_PAGE;
    }
    return header;
}

static void put_payload(Fixture *self, uint32_t len, uint8_t first)
{
    for (uint32_t i = 0; i < len; i++) {
        uint8_t byte = first + i % 251;

        g_byte_array_append(self->wire, &byte, 1);
    }
}

static void put_pages(Fixture *self, uint32_t flags, uint32_t normal,
                      uint32_t zero)
{
    MultifdHeader header = make_header(normal, zero);

    header.flags = flags;
    put_header(self, &header);
    put_payload(self, header.payload_size, normal);
}

static void put_device(Fixture *self, const char *idstr, uint32_t size)
{
    MultifdDeviceHeader device = { .instance_id = 3, .payload_size = size };
    uint8_t buf[MULTIFD_DEVICE_HEADER_SIZE];

    g_strlcpy(device.idstr, idstr, sizeof(device.idstr));
    multifd_device_header_encode(&device, buf);
    g_byte_array_append(self->wire, buf, sizeof(buf));
}

/* ---- running ---------------------------------------------------------------------- */

static void *reader_thread(void *data)
{
    Fixture *self = data;

    channel_reader_run(&(ChannelReaderSetup) {
        .stream = self->ends[0], .exchange = self->exchange,
        .pool = self->pool, .in = CHANNEL, .id = CHANNEL,
        .syncs_to_drop = self->syncs_to_drop,
    });
    return NULL;
}

/* The source sends all there is, and closes; the reader reads till it ends. */
static void run(Fixture *self)
{
    GThread *thread = g_thread_new("reader", reader_thread, self);

    g_assert_true(stream_write(self->ends[1], self->wire->data, self->wire->len,
                               NULL));
    g_clear_pointer(&self->ends[1], stream_free);
    g_thread_join(thread);
}

/* The other channels have nothing to say but their SYNC. */
static void sync_others(Fixture *self)
{
    for (unsigned in = 0; in < CHANNEL; in++) {
        g_assert_true(exchange_sync(self->exchange, in));
    }
}

static ExchangeSnapshot look(Fixture *self)
{
    ExchangeSnapshot now;

    exchange_get_snapshot(self->exchange, &now);
    return now;
}

static void assert_well(Fixture *self)
{
    g_autoptr(GError) error = exchange_get_error(self->exchange);

    g_assert_no_error(error);
}

static Packet *take_packet(Fixture *self, uint64_t in_epoch)
{
    Packet *packet;
    uint64_t epoch;

    g_assert_cmpint(exchange_take(self->exchange, 0, &packet, &epoch), ==,
                    EXCHANGE_PACKET);
    g_assert_cmpuint(epoch, ==, in_epoch);
    return packet;
}

static void take_sync(Fixture *self, uint64_t of_epoch)
{
    Packet *packet;
    uint64_t epoch;

    g_assert_cmpint(exchange_take(self->exchange, 0, &packet, &epoch), ==,
                    EXCHANGE_SYNC);
    g_assert_cmpuint(epoch, ==, of_epoch);
    exchange_synced(self->exchange, 0);
}

/* The migration failed, and not because a packet was refused. */
static void assert_broke(Fixture *self, const char *part)
{
    g_autoptr(GError) error = exchange_get_error(self->exchange);
    unsigned channel;
    uint64_t packet;

    g_assert_nonnull(error);
    link_fixture_assert_contains(error->message, part);
    g_assert_false(exchange_get_rejected(self->exchange, &channel, &packet));
    g_assert_cmpuint(look(self).in[CHANNEL].packets, ==, 0);
}

static void assert_rejected(Fixture *self, uint64_t number, const char *part)
{
    g_autoptr(GError) error = exchange_get_error(self->exchange);
    g_autofree char *where = g_strdup_printf("channel %u packet %u: ", CHANNEL,
                                             (unsigned)number);
    unsigned channel = 0;
    uint64_t packet = 0;

    g_assert_nonnull(error);
    link_fixture_assert_contains(error->message, part);
    g_assert_true(g_str_has_prefix(error->message, where));
    g_assert_true(exchange_get_rejected(self->exchange, &channel, &packet));
    g_assert_cmpuint(channel, ==, CHANNEL);
    g_assert_cmpuint(packet, ==, number);
    g_assert_cmpuint(look(self).in[CHANNEL].packets, ==, 0);
}

/* ---- what QEMU sends --------------------------------------------------------------- */

static void test_pages_become_packets(void)
{
    Fixture *self = fixture_new();
    Packet *packet;

    push_main(self);
    put_sync(self);
    put_pages(self, 0, 3, 2);
    put_pages(self, 0, 0, 5);
    sync_others(self);
    run(self);
    assert_well(self);
    take_sync(self, 0);
    packet = take_packet(self, 1);
    g_assert_cmpint(packet->kind, ==, PACKET_PAGES);
    g_assert_cmpuint(packet->header.normal_pages, ==, 3);
    g_assert_cmpuint(packet->header.zero_pages, ==, 2);
    g_assert_cmpuint(packet->header.offset[4], ==, 4 * LINK_FIXTURE_PAGE);
    g_assert_cmpstr(packet->header.ramblock, ==, LINK_FIXTURE_BLOCK);
    g_assert_cmpuint(packet->in_channel, ==, CHANNEL);
    g_assert_cmpuint(packet->in_packet, ==, 1);
    g_assert_cmpmem(packet->payload, packet->payload_len,
                    self->wire->data + 2 * self->geometry.header_size,
                    3 * LINK_FIXTURE_PAGE);
    exchange_done(self->exchange, 0, packet);
    packet = take_packet(self, 1);
    g_assert_cmpuint(packet->header.zero_pages, ==, 5);
    g_assert_cmpuint(packet->payload_len, ==, 0);
    exchange_done(self->exchange, 0, packet);
    g_assert_cmpuint(look(self).held, ==, 0);
    fixture_free(self);
}

/* 7.2 sets SYNC on a packet with pages: they belong to the epoch that it ends. */
static void test_data_with_sync_gives_data_then_sync(void)
{
    Fixture *self = fixture_new();

    push_main(self);
    put_sync(self);
    put_pages(self, MULTIFD_FLAG_SYNC, 2, 0);
    put_header(self, &(MultifdHeader) { .payload_size = 4096 });
    sync_others(self);
    run(self);
    assert_well(self);
    sync_others(self);
    g_assert_cmpuint(look(self).in[CHANNEL].syncs, ==, 2);
    take_sync(self, 0);
    exchange_done(self->exchange, 0, take_packet(self, 1));
    take_sync(self, 1);
    g_assert_cmpuint(look(self).packets, ==, 1);
    fixture_free(self);
}

/* What follows such a packet: a header that names nothing, stale fields in it. */
static void test_dataless_packet_is_nothing(void)
{
    Fixture *self = fixture_new();
    MultifdHeader stale = { .pages_alloc = 128, .payload_size = 8192 };

    push_main(self);
    put_header(self, &stale);
    stale.flags = METHOD_ZLIB;
    put_header(self, &stale);
    put_sync(self);
    run(self);
    assert_well(self);
    g_assert_cmpuint(look(self).packets, ==, 0);
    g_assert_cmpuint(look(self).held, ==, 0);
    g_assert_cmpuint(look(self).in[CHANNEL].syncs, ==, 1);
    fixture_free(self);
}

/* A late comer owes a SYNC that the epoch did not wait for. */
static void test_counted_sync_is_dropped(void)
{
    Fixture *self = fixture_new();

    push_main(self);
    self->syncs_to_drop = 1;
    put_sync(self);
    put_pages(self, 0, 1, 0);
    run(self);
    assert_well(self);
    g_assert_cmpuint(look(self).in[CHANNEL].syncs, ==, 0);
    exchange_done(self->exchange, 0, take_packet(self, 0));
    fixture_free(self);
}

static void put_zlib_pages(Fixture *self, MethodState *encoder,
                           const uint8_t *raw, uint32_t n_pages)
{
    g_autofree uint8_t *packed = g_malloc(MULTIFD_PAYLOAD_MAX);
    MultifdHeader header = make_header(n_pages, 0);
    size_t len = 0;

    g_assert_true(method_find("zlib")->encode(encoder, raw,
                                              n_pages * LINK_FIXTURE_PAGE,
                                              packed, MULTIFD_PAYLOAD_MAX, &len,
                                              NULL));
    header.flags = METHOD_ZLIB;
    header.payload_size = len;
    put_header(self, &header);
    g_byte_array_append(self->wire, packed, len);
}

/* One stream over all packets of the channel; the leg beyond packs anew. */
static void test_zlib_is_decoded(void)
{
    Fixture *self = fixture_new();
    MethodState *encoder = method_find("zlib")->encoder_new(1);
    g_autofree uint8_t *raw = g_malloc(4 * LINK_FIXTURE_PAGE);

    for (unsigned i = 0; i < 4 * LINK_FIXTURE_PAGE; i++) {
        raw[i] = i * i >> 5;
    }
    push_main(self);
    put_sync(self);
    put_zlib_pages(self, encoder, raw, 4);
    put_zlib_pages(self, encoder, raw + LINK_FIXTURE_PAGE, 2);
    method_find("zlib")->state_free(encoder);
    sync_others(self);
    run(self);
    assert_well(self);
    take_sync(self, 0);
    for (unsigned i = 0; i < 2; i++) {
        Packet *packet = take_packet(self, 1);

        g_assert_cmpint(packet->method, ==, METHOD_NONE);
        g_assert_cmpint(packet->in_method, ==, METHOD_ZLIB);
        g_assert_cmpmem(packet->payload, packet->payload_len,
                        raw + i * LINK_FIXTURE_PAGE,
                        (i ? 2 : 4) * LINK_FIXTURE_PAGE);
        exchange_done(self->exchange, 0, packet);
    }
    /* What was reserved for the packed bytes was given back. */
    g_assert_cmpuint(look(self).held, ==, 0);
    g_assert_cmpuint(look(self).charged, ==, METHOD_DECODER_SMALL);
    fixture_free(self);
}

static void test_device_state_is_carried(void)
{
    Fixture *self = fixture_new();
    Packet *packet;

    push_main(self);
    put_sync(self);
    put_device(self, "0000:01:00.0/vfio", 1000);
    put_payload(self, 1000, 9);
    sync_others(self);
    run(self);
    assert_well(self);
    take_sync(self, 0);
    packet = take_packet(self, 1);
    g_assert_cmpint(packet->kind, ==, PACKET_DEVICE_STATE);
    g_assert_cmpstr(packet->device.idstr, ==, "0000:01:00.0/vfio");
    g_assert_cmpuint(packet->device.instance_id, ==, 3);
    g_assert_cmpmem(packet->payload, packet->payload_len,
                    self->wire->data + self->wire->len - 1000, 1000);
    exchange_done(self->exchange, 0, packet);
    fixture_free(self);
}

/* ---- what no QEMU sends ------------------------------------------------------------------ */

/* A second packet that differs from a good one in one thing. */
typedef struct {
    const char *name;
    void (*spoil)(uint8_t *header);     /* NULL: no first SYNC before it */
    const char *message;
} Spoilt;

static void spoil_magic(uint8_t *h)
{
    h[0] ^= 1;
}

static void spoil_version(uint8_t *h)
{
    bytes_put_be32(h + 4, 2);
}

static void spoil_flags(uint8_t *h)
{
    bytes_put_be32(h + 8, 0x80);
}

static void spoil_methods(uint8_t *h)
{
    bytes_put_be32(h + 8, METHOD_ZLIB | METHOD_ZSTD);
}

static void spoil_alloc(uint8_t *h)
{
    bytes_put_be32(h + 12, 129);
}

static void spoil_normal(uint8_t *h)
{
    bytes_put_be32(h + 16, 129);
}

static void spoil_size(uint8_t *h)
{
    bytes_put_be32(h + 20, UINT32_MAX);
}

static void spoil_zero(uint8_t *h)
{
    bytes_put_be32(h + 32, UINT32_MAX);
}

static void spoil_block(uint8_t *h)
{
    h[64] = 'x';
}

static void spoil_block_end(uint8_t *h)
{
    memset(h + 64, 'x', 256);
}

static void spoil_alignment(uint8_t *h)
{
    bytes_put_be64(h + 320, 1);
}

static void spoil_bounds(uint8_t *h)
{
    bytes_put_be64(h + 320, (uint64_t)LINK_FIXTURE_BLOCK_PAGES *
                            LINK_FIXTURE_PAGE);
}

static void spoil_unique(uint8_t *h)
{
    bytes_put_be64(h + 328, 0);
}

static const Spoilt spoilt[] = {
    { "magic", spoil_magic, "got magic" },
    { "version", spoil_version, "got version 2" },
    { "flags", spoil_flags, "got flags 0x80" },
    { "two-methods", spoil_methods, "0x6" },
    { "pages-alloc", spoil_alloc, "got pages_alloc 129" },
    { "normal-pages", spoil_normal, "got normal_pages 129" },
    { "payload-size", spoil_size, "got next_packet_size 4294967295" },
    { "zero-pages", spoil_zero, "got zero_pages 4294967295" },
    { "block", spoil_block, "xc.ram" },
    { "block-without-end", spoil_block_end, "without its NUL" },
    { "unaligned-offset", spoil_alignment, "got offset[0] 0x1" },
    { "offset-beyond-block", spoil_bounds, "allowed only whole pages" },
    { "page-twice", spoil_unique, "twice" },
    { "data-before-first-sync", NULL, "before the first SYNC" },
};

/* Every field is the source's to choose: the packet is named, nothing goes on. */
static void test_bad_field_is_rejected(gconstpointer data)
{
    const Spoilt *how = data;
    Fixture *self = fixture_new();
    size_t at = how->spoil ? self->geometry.header_size : 0;

    push_main(self);
    if (how->spoil) {
        put_sync(self);
    }
    put_pages(self, 0, 2, 1);
    if (how->spoil) {
        how->spoil(self->wire->data + at);
    }
    sync_others(self);
    run(self);
    assert_rejected(self, how->spoil ? 1 : 0, how->message);
    fixture_free(self);
}

/* The decoder's state is the channel's: two kinds would make nonsense of it. */
static void test_second_method_is_rejected(void)
{
    Fixture *self = fixture_new();
    g_autoptr(GError) error = NULL;

    push_main(self);
    put_sync(self);
    put_pages(self, 0, 1, 0);
    put_pages(self, METHOD_ZLIB, 1, 0);
    sync_others(self);
    run(self);
    error = exchange_get_error(self->exchange);
    link_fixture_assert_contains(error ? error->message : NULL,
                                 "channel 7 packet 2: got compression zlib "
                                 "after none");
    g_assert_cmpuint(look(self).in[CHANNEL].packets, ==, 1);
    fixture_free(self);
}

static void test_corrupt_zlib_is_rejected(void)
{
    Fixture *self = fixture_new();
    MultifdHeader header = make_header(1, 0);

    push_main(self);
    put_sync(self);
    header.flags = METHOD_ZLIB;
    header.payload_size = 100;
    put_header(self, &header);
    put_payload(self, 100, 1);
    sync_others(self);
    run(self);
    assert_rejected(self, 1, "a payload that inflates with");
    fixture_free(self);
}

static void put_packed(Fixture *self, uint32_t flags, const void *payload,
                       uint32_t len)
{
    MultifdHeader header = make_header(1, 0);

    header.flags = flags;
    header.payload_size = len;
    put_header(self, &header);
    g_byte_array_append(self->wire, payload, len);
}

/* A page that unpacks to 16 MiB: refused, and never held. */
static void test_bombs_are_rejected(void)
{
    static const char *const names[] = { "zlib", "zstd" };
    size_t raw_len = 16 << 20;
    g_autofree uint8_t *raw = g_malloc0(raw_len);
    g_autofree uint8_t *packed = g_malloc(MULTIFD_PAYLOAD_MAX);

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        Fixture *self = fixture_new();
        const Method *method = method_find(names[i]);
        MethodState *encoder = method->encoder_new(1);
        size_t len = 0;

        g_assert_true(method->encode(encoder, raw, raw_len, packed,
                                     MULTIFD_PAYLOAD_MAX, &len, NULL));
        method->state_free(encoder);
        push_main(self);
        put_sync(self);
        put_packed(self, method->id, packed, len);
        sync_others(self);
        run(self);
        assert_rejected(self, 1, "got more than 4096 bytes of pages");
        g_assert_cmpuint(look(self).held_peak, <, 1024 * 1024);
        fixture_free(self);
    }
}

/* SYNCs of a source with pages of @page_size, where the main channel says 4096. */
static void check_page_size_is_told(uint64_t page_size, bool says_alloc,
                                    uint64_t packet, const char *part)
{
    Fixture *self = fixture_new();

    g_assert_true(multifd_geometry_init(&self->geometry, page_size, NULL));
    push_main(self);
    for (unsigned i = 0; i < 4; i++) {
        put_header(self, &(MultifdHeader) {
            .flags = MULTIFD_FLAG_SYNC,
            .pages_alloc = says_alloc ? self->geometry.page_count : 0,
        });
    }
    sync_others(self);
    run(self);
    assert_rejected(self, packet, part);
    assert_rejected(self, packet, "[tunnel] page-size");
    fixture_free(self);
}

/* The operator of an alpha, who has not heard of page sizes, is told of them. */
static void test_wrong_page_size_is_told(void)
{
    check_page_size_is_told(8192, true, 0, "with pages of 8192 bytes");
    check_page_size_is_told(8192, false, 0, "with pages of 8192 bytes");
    check_page_size_is_told(65536, false, 0, "with pages of 65536 bytes");
    check_page_size_is_told(1024, true, 0, "with pages of 1024 bytes");
    check_page_size_is_told(1024, false, 1, "a first packet that is longer");
}

static void test_zstd_garbage_is_rejected(void)
{
    Fixture *self = fixture_new();

    push_main(self);
    put_sync(self);
    put_packed(self, METHOD_ZSTD, "no frame of zstd", 16);
    sync_others(self);
    run(self);
    assert_rejected(self, 1, "a first payload that begins no zstd frame");
    fixture_free(self);
}

/* The window is the source's to choose, the memory is ours. */
static void test_zstd_window_is_paid_for(void)
{
    static const uint8_t frame[] = {
        0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00,
    };
    Fixture *self = fixture_new();

    push_main(self);
    put_sync(self);
    put_packed(self, METHOD_ZSTD, frame, sizeof(frame));
    sync_others(self);
    run(self);
    assert_broke(self, "channel 7: decoding zstd: needs ");
    g_assert_cmpuint(look(self).charged, ==, 0);
    fixture_free(self);
}

/* qpl and uadk have lengths inside, which a receiver asserts; nobody decodes. */
static void test_page_lengths_are_checked(void)
{
    uint8_t payload[4 + 100] = { 0, 0, 0, 101 };
    Fixture *self = fixture_new();

    push_main(self);
    put_sync(self);
    put_packed(self, METHOD_QPL, payload, sizeof(payload));
    sync_others(self);
    run(self);
    assert_rejected(self, 1, "got lengths that add up to 105, allowed 104");
    fixture_free(self);
}

static void check_device_rejected(const char *idstr, uint32_t size,
                                  const char *part)
{
    Fixture *self = fixture_new();

    push_main(self);
    put_sync(self);
    put_device(self, idstr, size);
    sync_others(self);
    run(self);
    assert_rejected(self, 1, part);
    g_assert_cmpuint(look(self).held_peak, ==, 0);
    fixture_free(self);
}

/* The size is looked at before memory is taken for it. */
static void test_device_state_is_bounded(void)
{
    check_device_rejected("vfio", DEVICE_PAYLOAD_MAX + 1,
                          "got next_packet_size 16777217, allowed 1 to "
                          "16777216");
    check_device_rejected("vfio", UINT32_MAX, "got next_packet_size");
    check_device_rejected("vfio", 0, "got next_packet_size 0");
    check_device_rejected("", 8, "empty");
}

static void test_device_state_before_first_sync_is_rejected(void)
{
    Fixture *self = fixture_new();

    push_main(self);
    put_device(self, "vfio", 8);
    put_payload(self, 8, 0);
    run(self);
    assert_rejected(self, 0, "before the first SYNC");
    fixture_free(self);
}

/* ---- the end of a channel --------------------------------------------------------------- */

/* A source that dies within a packet: not the packet's fault, but a failure. */
static void check_cut(size_t short_by)
{
    Fixture *self = fixture_new();

    push_main(self);
    put_sync(self);
    put_pages(self, 0, 1, 0);
    g_byte_array_set_size(self->wire, self->wire->len - short_by);
    sync_others(self);
    run(self);
    assert_broke(self, "channel 7 packet 1: from the source QEMU: ");
    fixture_free(self);
}

static void test_end_inside_a_packet_fails(void)
{
    check_cut(1);                                       /* payload */
    check_cut(LINK_FIXTURE_PAGE);                       /* before its payload */
    check_cut(LINK_FIXTURE_PAGE + 1);                   /* header */
    check_cut(LINK_FIXTURE_PAGE + 1344 - 12);           /* behind the prefix */
    check_cut(LINK_FIXTURE_PAGE + 1344 - 5);            /* inside it */
}

/* Each field may be the one that is cut: all of them, and the first offset. */
static void test_end_at_every_byte_of_a_header_fails(void)
{
    for (size_t have = 1; have < 330; have++) {
        check_cut(LINK_FIXTURE_PAGE + 1344 - have);
    }
}

static void test_end_inside_device_state_fails(void)
{
    for (unsigned have = 0; have < 2; have++) {
        Fixture *self = fixture_new();

        push_main(self);
        put_sync(self);
        put_device(self, "vfio", 100);
        if (have) {
            put_payload(self, 99, 0);
        } else {
            g_byte_array_set_size(self->wire, self->wire->len - 1);
        }
        sync_others(self);
        run(self);
        assert_broke(self, "channel 7 packet 1: from the source QEMU: ");
        fixture_free(self);
    }
}

/* An end at a packet's border is the other channels' business only if they go on. */
static void test_end_at_a_border_is_a_leave(void)
{
    Fixture *self = fixture_new();

    push_main(self);
    put_sync(self);
    run(self);
    assert_well(self);
    sync_others(self);
    assert_well(self);
    g_assert_false(exchange_sync(self->exchange, 0));
    assert_broke(self, "channel 7: ended after 1 SYNCs");
    fixture_free(self);
}

/* Nobody reads yet, so nobody else would see that the source is gone. */
static void test_hang_up_before_geometry_is_seen(void)
{
    Fixture *self = fixture_new();

    run(self);
    assert_broke(self, "channel 7: ended before the main channel began");
    fixture_free(self);
}

/* A reader that waits must end with the migration. */
static void test_close_ends_a_waiting_reader(void)
{
    Fixture *self = fixture_new();
    GThread *thread = g_thread_new("reader", reader_thread, self);

    exchange_close(self->exchange);
    g_thread_join(thread);
    assert_well(self);
    fixture_free(self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/channel-reader/" path, func)
    ADD("pages/wrong-size-is-told", test_wrong_page_size_is_told);
    ADD("pages-become-packets", test_pages_become_packets);
    ADD("data-with-sync-gives-data-then-sync",
        test_data_with_sync_gives_data_then_sync);
    ADD("dataless-packet-is-nothing", test_dataless_packet_is_nothing);
    ADD("counted-sync-is-dropped", test_counted_sync_is_dropped);
    ADD("zlib-is-decoded", test_zlib_is_decoded);
    ADD("device-state/is-carried", test_device_state_is_carried);
    ADD("device-state/is-bounded", test_device_state_is_bounded);
    ADD("device-state/before-first-sync-is-rejected",
        test_device_state_before_first_sync_is_rejected);
    for (size_t i = 0; i < G_N_ELEMENTS(spoilt); i++) {
        g_autofree char *path = g_strconcat("/daemon/channel-reader/rejects/",
                                            spoilt[i].name, NULL);

        g_test_add_data_func(path, &spoilt[i], test_bad_field_is_rejected);
    }
    ADD("rejects/second-method", test_second_method_is_rejected);
    ADD("rejects/corrupt-zlib", test_corrupt_zlib_is_rejected);
    ADD("rejects/bombs", test_bombs_are_rejected);
    ADD("rejects/zstd-garbage", test_zstd_garbage_is_rejected);
    ADD("rejects/zstd-window-beyond-the-share", test_zstd_window_is_paid_for);
    ADD("rejects/page-lengths-that-lie", test_page_lengths_are_checked);
    ADD("end/inside-a-packet-fails", test_end_inside_a_packet_fails);
    ADD("end/at-every-byte-of-a-header-fails",
        test_end_at_every_byte_of_a_header_fails);
    ADD("end/inside-device-state-fails", test_end_inside_device_state_fails);
    ADD("end/at-a-border-is-a-leave", test_end_at_a_border_is_a_leave);
    ADD("end/hang-up-before-geometry-is-seen",
        test_hang_up_before_geometry_is_seen);
    ADD("end/close-ends-a-waiting-reader", test_close_ends_a_waiting_reader);
    return g_test_run();
}
