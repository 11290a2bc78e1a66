/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "daemon/link-reducer.h"
#include "daemon/link-restorer.h"
#include "wire/error.h"

enum { PAGE = 4096, PAGES = 8 };

typedef struct {
    RamblockTable *blocks;
    PacketPool *pool;
    LinkReduction *shared;
    LinkReducer *reducer;
    LinkRestoration *far;
    LinkRestorer *restorer;
    uint64_t number;
} Fixture;

static void begin(Fixture *self, uint32_t n_slots, bool fixed, int level)
{
    LinkReductionSetup setup = { .page_size = PAGE, .n_slots = n_slots,
                                 .fixed = fixed, .level = level };

    self->number = 0;
    self->blocks = ramblock_table_new();
    g_assert_true(ramblock_table_add(self->blocks, (const uint8_t *)"ram", 3,
                                     1 << 20, 0, NULL, NULL));
    setup.blocks = self->blocks;
    self->pool = packet_pool_new();
    self->shared = link_reduction_new(&setup);
    self->reducer = link_reducer_new(self->shared);
    self->far = link_restoration_new(n_slots);
    self->restorer = link_restorer_new(self->far, PAGE);
}

static void end(Fixture *self)
{
    link_restorer_free(self->restorer);
    link_restoration_free(self->far);
    link_reducer_free(self->reducer);
    link_reduction_free(self->shared);
    packet_pool_unref(self->pool);
    ramblock_table_free(self->blocks);
}

/* PAGES pages, each with a number in it and @fill behind. */
static Packet *make_packet(Fixture *self, uint8_t fill)
{
    Packet *packet = packet_new(self->pool, PACKET_PAGES, PAGES * PAGE);

    g_strlcpy(packet->header.ramblock, "ram", sizeof(packet->header.ramblock));
    packet->header.normal_pages = PAGES;
    memset(packet->payload, fill, PAGES * PAGE);
    for (unsigned i = 0; i < PAGES; i++) {
        packet->header.offset[i] = i * PAGE;
        packet->payload[i * PAGE] = i;
    }
    return packet;
}

/* To the far end and acknowledged; returns the length on the wire. */
static size_t send_packet(Fixture *self, const Packet *packet)
{
    size_t len;
    g_autofree uint8_t *packed = link_reducer_pack(self->reducer, packet,
                                                   self->number, self->number,
                                                   0, &len);
    g_autoptr(Packet) there = make_packet(self, 0);
    g_autoptr(GError) error = NULL;

    self->number++;
    if (!packed) {
        return 0;
    }
    g_assert_true(link_restorer_unpack(self->restorer, packed, len, there,
                                       &error));
    g_assert_cmpmem(there->payload, there->payload_len, packet->payload,
                    packet->payload_len);
    link_restorer_store(self->restorer, there);
    return len;
}

static void fill_with_noise(Packet *packet)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);

    for (unsigned i = 0; i < PAGES * PAGE; i++) {
        packet->payload[i] = g_rand_int(rand);
    }
}

/* What does not compress at all, but changes only a little, is nearly free. */
static void test_sends_changes(void)
{
    LinkReductionCounts counts;
    Fixture self;
    g_autoptr(Packet) packet = NULL;
    size_t first, second;

    begin(&self, 64, true, 1);
    packet = make_packet(&self, 0);
    fill_with_noise(packet);
    first = send_packet(&self, packet);
    g_assert_cmpuint(first, >, PAGES * PAGE);
    packet->payload[100] ^= 1;
    packet->payload[7 * PAGE + 4095] ^= 0x80;
    second = send_packet(&self, packet);
    g_assert_cmpuint(second, <, 200);
    link_reduction_get_counts(self.shared, &counts);
    g_assert_cmpuint(counts.raw, ==, 2 * PAGES * PAGE);
    g_assert_cmpuint(counts.packed, ==, first + second);
    g_assert_cmpuint(counts.history.known, ==, 2);
    g_assert_cmpuint(counts.history.same, ==, PAGES - 2);
    end(&self);
}

static void test_without_history(void)
{
    Fixture self;
    g_autoptr(Packet) packet = NULL;

    begin(&self, 0, true, 1);
    packet = make_packet(&self, 'x');
    g_assert_cmpuint(send_packet(&self, packet), <, 1000);
    end(&self);
}

static void test_leaves_the_rest_alone(void)
{
    Fixture self;
    g_autoptr(Packet) packet = NULL;
    size_t len;

    begin(&self, 64, true, 1);
    packet = make_packet(&self, 'x');
    packet->method = METHOD_QPL;
    g_assert_null(link_reducer_pack(self.reducer, packet, 0, 0, 0, &len));
    packet->method = METHOD_NONE;
    packet->header.normal_pages = 0;
    packet->header.zero_pages = 3;
    g_assert_null(link_reducer_pack(self.reducer, packet, 0, 0, 0, &len));
    packet->kind = PACKET_DEVICE_STATE;
    g_assert_null(link_reducer_pack(self.reducer, packet, 0, 0, 0, &len));
    end(&self);
}

/* A peer that names slots where none were agreed on. */
static void test_refuses_refs_without_history(void)
{
    Fixture self;
    g_autoptr(Packet) packet = NULL;
    LinkRestoration *far = link_restoration_new(0);
    LinkRestorer *restorer = link_restorer_new(far, PAGE);
    g_autofree uint8_t *packed = NULL;
    g_autoptr(GError) error = NULL;
    size_t len;

    begin(&self, 64, true, 1);
    packet = make_packet(&self, 'x');
    packed = link_reducer_pack(self.reducer, packet, 0, 0, 0, &len);
    g_assert_false(link_restorer_unpack(restorer, packed, len, packet, &error));
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "page 0: got history ref "
                            "0x40000000, allowed only 0"));
    link_restorer_free(restorer);
    link_restoration_free(far);
    end(&self);
}

/* ---- how hard --------------------------------------------------------------------- */

/* Packs for real, and claims that nothing else takes time. */
static void test_gives_up_where_packing_is_the_limit(void)
{
    Fixture self;
    g_autoptr(Packet) packet = NULL;
    bool packed = true;

    begin(&self, 64, false, 6);
    packet = make_packet(&self, 0);
    fill_with_noise(packet);
    for (unsigned i = 0; i < 1000 * 1000 && packed; i++) {
        packed = send_packet(&self, packet) > 0;
        link_reducer_note_write(self.reducer, 0);
    }
    g_assert_false(packed);
    g_assert_cmpint(link_reducer_get_level(self.reducer), ==, 0);
    end(&self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/daemon/link-reducer/" name, function)
    ADD("sends-changes", test_sends_changes);
    ADD("without-history", test_without_history);
    ADD("leaves-the-rest-alone", test_leaves_the_rest_alone);
    ADD("refuses-refs-without-history", test_refuses_refs_without_history);
    ADD("gives-up-where-packing-is-the-limit",
        test_gives_up_where_packing_is_the_limit);
    return g_test_run();
}
