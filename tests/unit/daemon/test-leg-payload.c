/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a destination is given of a packet: packed as its leg wants it, zero
 * pages named or written, and nothing at all where that cannot be.
 */
#include "daemon/leg-payload.h"

#include <string.h>

#include "wire/error.h"

enum { MIB = 1024 * 1024 };

typedef struct {
    Exchange *exchange;
    PacketPool *pool;
    MultifdGeometry geometry;
    LegPayload *leg;
    MultifdHeader header;       /* what leg_payload_pack() made */
    GByteArray *bytes;          /* the payload behind it */
} Fixture;

static Fixture *fixture_new(const LegPayloadRules *rules, uint64_t page_size,
                            uint64_t share)
{
    ExchangeSetup setup = { .memory = MIB, .share = MIB + share,
                            .main_ring = 65536 };
    Fixture *self = g_new0(Fixture, 1);

    self->exchange = exchange_new(&setup);
    self->pool = packet_pool_new();
    self->bytes = g_byte_array_new();
    g_assert_true(multifd_geometry_init(&self->geometry, page_size, NULL));
    self->leg = leg_payload_new(rules, &self->geometry, self->exchange);
    return self;
}

static void fixture_free(Fixture *self)
{
    leg_payload_free(self->leg);
    g_byte_array_unref(self->bytes);
    packet_pool_unref(self->pool);
    exchange_free(self->exchange);
    g_free(self);
}

/* Pages 0 to @normal - 1 with data that depends on their number, then zero ones. */
static Packet *make_packet(Fixture *self, uint32_t normal, uint32_t zero,
                           MethodId in_method)
{
    uint32_t size = self->geometry.page_size;
    Packet *packet = packet_new(self->pool, PACKET_PAGES, normal * size);

    packet->method = METHOD_NONE;
    packet->in_method = in_method;
    packet->header.normal_pages = normal;
    packet->header.zero_pages = zero;
    strcpy(packet->header.ramblock, "pc.ram");
    for (uint32_t i = 0; i < normal + zero; i++) {
        packet->header.offset[i] = (uint64_t)i * size;
    }
    for (uint32_t i = 0; i < normal * size; i++) {
        packet->payload[i] = 1 + (i / size + i) % 251;
    }
    return packet;
}

static Packet *make_opaque(Fixture *self, uint32_t zero, MethodId method)
{
    Packet *packet = packet_new(self->pool, PACKET_PAGES, 100);

    packet->method = packet->in_method = method;
    packet->header.normal_pages = 1;
    packet->header.zero_pages = zero;
    strcpy(packet->header.ramblock, "pc.ram");
    memset(packet->payload, 0xa5, 100);
    return packet;
}

static bool pack(Fixture *self, const Packet *packet, GError **error)
{
    struct iovec pieces[LEG_PAYLOAD_PIECES];
    unsigned n = 77;

    g_byte_array_set_size(self->bytes, 0);
    if (!leg_payload_pack(self->leg, packet, &self->header, pieces, &n,
                          error)) {
        g_assert_cmpuint(n, ==, 77);
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        g_assert_cmpuint(pieces[i].iov_len, >, 0);
        g_byte_array_append(self->bytes, pieces[i].iov_base,
                            pieces[i].iov_len);
    }
    g_assert_cmpuint(self->header.payload_size, ==, self->bytes->len);
    g_assert_cmpuint(self->header.pages_alloc, ==, self->geometry.page_count);
    return true;
}

static void assert_packs(Fixture *self, const Packet *packet)
{
    GError *error = NULL;

    pack(self, packet, &error);
    g_assert_no_error(error);
}

static void assert_refuses(Fixture *self, const Packet *packet,
                           const char *fragment)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(pack(self, packet, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED);
    if (!strstr(error->message, fragment)) {
        g_error("got '%s', expected '%s' in it", error->message, fragment);
    }
}

/* @normal pages as make_packet() has them, then @zero pages of zeroes. */
static void assert_pages(const Fixture *self, const uint8_t *bytes, size_t len,
                         const Packet *packet, uint32_t zero)
{
    size_t zero_len = (size_t)zero * self->geometry.page_size;

    g_assert_cmpuint(len, ==, packet->payload_len + zero_len);
    g_assert_cmpmem(bytes, packet->payload_len, packet->payload,
                    packet->payload_len);
    for (size_t i = packet->payload_len; i < len; i++) {
        g_assert_cmpuint(bytes[i], ==, 0);
    }
}

/* ---- methods ----------------------------------------------------------------- */

static void test_names_zero_pages_and_copies_nothing(void)
{
    Fixture *self = fixture_new(&(LegPayloadRules) { 0 }, 4096, 0);
    g_autoptr(Packet) packet = make_packet(self, 3, 5, METHOD_NONE);
    struct iovec pieces[LEG_PAYLOAD_PIECES];
    unsigned n;

    g_assert_true(leg_payload_pack(self->leg, packet, &self->header, pieces,
                                   &n, NULL));
    g_assert_cmpuint(n, ==, 1);
    g_assert_true(pieces[0].iov_base == packet->payload);
    g_assert_cmpuint(self->header.flags, ==, 0);
    g_assert_cmpuint(self->header.normal_pages, ==, 3);
    g_assert_cmpuint(self->header.zero_pages, ==, 5);
    g_assert_cmpuint(self->header.offset[7], ==, 7 * 4096);
    fixture_free(self);
}

/* Each leg its own: whatever came in, this one goes out, in one stream. */
static void test_packs_as_the_leg_says(gconstpointer data)
{
    const char *const *names = data;        /* in, out */
    const Method *in = method_find(names[0]), *out = method_find(names[1]);
    Fixture *self = fixture_new(&(LegPayloadRules) { .method = out, .level = 3 },
                                4096, 64 * MIB);
    MethodState *decoder = out->decode ? out->decoder_new() : NULL;

    for (uint32_t normal = 1; normal <= 126; normal += 25) {
        g_autoptr(Packet) packet = make_packet(self, normal, 2, in->id);
        g_autofree uint8_t *raw = g_malloc(packet->payload_len);

        assert_packs(self, packet);
        g_assert_cmpuint(self->header.flags, ==, out->id);
        g_assert_cmpuint(self->header.zero_pages, ==, 2);
        if (decoder) {
            g_assert_cmpuint(self->bytes->len, <, packet->payload_len);
            g_assert_true(out->decode(decoder, self->bytes->data,
                                      self->bytes->len, raw,
                                      packet->payload_len, NULL));
        } else {
            memcpy(raw, self->bytes->data, self->bytes->len);
        }
        g_assert_cmpmem(raw, packet->payload_len, packet->payload,
                        packet->payload_len);
    }
    if (decoder) {
        out->state_free(decoder);
    }
    fixture_free(self);
}

/* A packet of zero pages alone: flagged as the leg's, without payload. */
static void test_packs_nothing_where_nothing_is(void)
{
    Fixture *self = fixture_new(&(LegPayloadRules) {
        .method = method_find("zlib") }, 4096, 64 * MIB);
    g_autoptr(Packet) packet = make_packet(self, 0, 9, METHOD_NONE);

    assert_packs(self, packet);
    g_assert_cmpuint(self->header.flags, ==, METHOD_ZLIB);
    g_assert_cmpuint(self->bytes->len, ==, 0);
    g_assert_cmpuint(self->header.zero_pages, ==, 9);
    fixture_free(self);
}

static void test_refuses_a_second_method(void)
{
    Fixture *self = fixture_new(&(LegPayloadRules) { 0 }, 4096, 64 * MIB);
    g_autoptr(Packet) first = make_packet(self, 1, 0, METHOD_NONE);
    g_autoptr(Packet) second = make_packet(self, 1, 0, METHOD_ZLIB);
    g_autoptr(GError) error = NULL;

    assert_packs(self, first);
    g_assert_false(pack(self, second, &error));
    g_assert_nonnull(strstr(error->message, "got compression zlib after none"));
    fixture_free(self);
}

/* What an encoder takes is the migration's memory. */
static void test_charges_the_encoder(void)
{
    Fixture *self = fixture_new(&(LegPayloadRules) {
        .method = method_find("zstd"), .level = 9 }, 4096, 8 * MIB);
    g_autoptr(Packet) packet = make_packet(self, 1, 0, METHOD_NONE);
    g_autoptr(GError) error = NULL;

    assert_refuses(self, packet, "no memory");
    error = exchange_get_error(self->exchange);
    g_assert_nonnull(strstr(error->message, "zstd level 9: needs"));
    g_assert_nonnull(strstr(error->message, "migration-memory"));
    fixture_free(self);
}

/* ---- opaque methods, device state -------------------------------------------------- */

static void test_carries_opaque_payload_as_it_came(gconstpointer data)
{
    Fixture *self = fixture_new(&(LegPayloadRules) { 0 }, 4096, 0);
    const Method *method = method_find(data);
    g_autoptr(Packet) packet = make_opaque(self, 4, method->id);

    assert_packs(self, packet);
    g_assert_cmpuint(self->header.flags, ==, method->id);
    g_assert_cmpuint(self->header.zero_pages, ==, 4);
    g_assert_cmpmem(self->bytes->data, self->bytes->len, packet->payload, 100);
    fixture_free(self);
}

/* A zstd destination that is given qpl hangs for good, QMP and all. */
static void test_refuses_opaque_payload_for_another_method(void)
{
    static const char *const others[] = { "none", "zlib", "zstd" };

    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        Fixture *self = fixture_new(&(LegPayloadRules) {
            .method = method_find(others[i]) }, 4096, 64 * MIB);
        g_autoptr(Packet) packet = make_opaque(self, 0, METHOD_QPL);
        g_autofree char *text = g_strdup_printf("packed with %s ([tunnel] "
                                                "compression)", others[i]);

        assert_refuses(self, packet, text);
        fixture_free(self);
    }
}

static void test_device_state_needs_none(gconstpointer data)
{
    const Method *method = data ? method_find(data) : NULL;
    Fixture *self = fixture_new(&(LegPayloadRules) { .method = method }, 4096,
                                64 * MIB);
    g_autoptr(Packet) packet = packet_new(self->pool, PACKET_DEVICE_STATE, 10);
    g_autoptr(GError) error = NULL;
    bool allowed = !method || !method->encode;

    strcpy(packet->device.idstr, "0000:00:02.0/vfio");
    g_assert_true(leg_payload_check_device(self->leg, packet, &error) ==
                  allowed);
    if (!allowed) {
        g_assert_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED);
        g_assert_nonnull(strstr(error->message, "'0000:00:02.0/vfio'"));
        g_assert_nonnull(strstr(error->message, data));
    }
    fixture_free(self);
}

/* ---- zero pages -------------------------------------------------------------------- */

typedef struct {
    const char *method;
    uint32_t page_size, normal, zero;
} ZeroCase;

/* As many pages as a packet can name, at every page size, with every method. */
static void test_writes_zero_pages(gconstpointer data)
{
    const ZeroCase *c = data;
    const Method *method = method_find(c->method);
    Fixture *self = fixture_new(&(LegPayloadRules) {
        .method = method, .write_zero_pages = true }, c->page_size, 64 * MIB);
    g_autoptr(Packet) packet = make_packet(self, c->normal, c->zero,
                                           METHOD_ZSTD);
    uint32_t pages = c->normal + c->zero;
    size_t len = (size_t)pages * c->page_size;
    g_autofree uint8_t *raw = g_malloc(len);

    assert_packs(self, packet);
    g_assert_cmpuint(self->header.normal_pages, ==, pages);
    g_assert_cmpuint(self->header.zero_pages, ==, 0);
    for (uint32_t i = 0; i < pages; i++) {
        g_assert_cmpuint(self->header.offset[i], ==,
                         (uint64_t)i * c->page_size);
    }
    if (method->decode) {
        MethodState *decoder = method->decoder_new();

        g_assert_true(method->decode(decoder, self->bytes->data,
                                     self->bytes->len, raw, len, NULL));
        method->state_free(decoder);
    } else {
        g_assert_cmpuint(self->bytes->len, ==, len);
        memcpy(raw, self->bytes->data, len);
    }
    assert_pages(self, raw, len, packet, c->zero);
    fixture_free(self);
}

static void test_refuses_to_write_zero_pages_beside_opaque_ones(void)
{
    Fixture *self = fixture_new(&(LegPayloadRules) { .write_zero_pages = true },
                                4096, 0);
    g_autoptr(Packet) with = make_opaque(self, 4, METHOD_UADK);
    g_autoptr(Packet) without = make_opaque(self, 0, METHOD_UADK);

    assert_refuses(self, with, "got 4 zero pages in a packet with uadk");
    assert_packs(self, without);
    fixture_free(self);
}

#define ADD(name, function) \
    g_test_add_func("/daemon/leg-payload/" name, function)
#define ADD_DATA(name, data, function) \
    g_test_add_data_func("/daemon/leg-payload/" name, data, function)

static void add_zero_cases(void)
{
    static const ZeroCase cases[] = {
        { "none", 4096, 5, 7 }, { "none", 4096, 0, 128 },
        { "none", 4096, 127, 1 }, { "zlib", 4096, 64, 64 },
        { "zlib", 4096, 0, 128 }, { "zstd", 4096, 1, 127 },
        { "none", 1024, 100, 412 }, { "zlib", 1024, 0, 512 },
        { "none", 8192, 1, 63 }, { "zstd", 8192, 63, 1 },
        { "zlib", 16384, 16, 16 }, { "none", 65536, 3, 5 },
        { "zstd", 65536, 0, 8 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf(
            "/daemon/leg-payload/writes-zero-pages/%s-%u-%u+%u",
            cases[i].method, cases[i].page_size, cases[i].normal,
            cases[i].zero);

        g_test_add_data_func(path, &cases[i], test_writes_zero_pages);
    }
}

int main(int argc, char **argv)
{
    static const char *const pairs[][2] = {
        { "none", "zlib" }, { "none", "zstd" }, { "zlib", "none" },
        { "zlib", "zstd" }, { "zstd", "none" }, { "zstd", "zlib" },
        { "zlib", "zlib" },
    };

    g_test_init(&argc, &argv, NULL);
    ADD("names-zero-pages-and-copies-nothing",
        test_names_zero_pages_and_copies_nothing);
    for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
        g_autofree char *path = g_strdup_printf(
            "/daemon/leg-payload/packs-as-the-leg-says/%s-to-%s", pairs[i][0],
            pairs[i][1]);

        g_test_add_data_func(path, pairs[i], test_packs_as_the_leg_says);
    }
    ADD("packs-nothing-where-nothing-is", test_packs_nothing_where_nothing_is);
    ADD("refuses-a-second-method", test_refuses_a_second_method);
    ADD("charges-the-encoder", test_charges_the_encoder);
    ADD_DATA("carries-opaque-payload/qpl", "qpl",
             test_carries_opaque_payload_as_it_came);
    ADD_DATA("carries-opaque-payload/uadk", "uadk",
             test_carries_opaque_payload_as_it_came);
    ADD_DATA("carries-opaque-payload/qatzip", "qatzip",
             test_carries_opaque_payload_as_it_came);
    ADD("refuses-opaque-payload-for-another-method",
        test_refuses_opaque_payload_for_another_method);
    ADD_DATA("device-state-needs-none/same", NULL,
             test_device_state_needs_none);
    ADD_DATA("device-state-needs-none/none", "none",
             test_device_state_needs_none);
    ADD_DATA("device-state-needs-none/zlib", "zlib",
             test_device_state_needs_none);
    ADD_DATA("device-state-needs-none/zstd", "zstd",
             test_device_state_needs_none);
    add_zero_cases();
    ADD("refuses-to-write-zero-pages-beside-opaque-ones",
        test_refuses_to_write_zero_pages_beside_opaque_ones);
    return g_test_run();
}
