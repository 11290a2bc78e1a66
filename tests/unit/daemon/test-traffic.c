/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The traffic record: what it counts, and that it stays small whatever comes.
 */
#include "daemon/traffic.h"

#include <string.h>

enum { PAGE = 4096 };

static RamblockTable *make_table(uint64_t ram_length)
{
    RamblockTable *table = ramblock_table_new();
    g_autoptr(GError) error = NULL;

    g_assert_true(ramblock_table_add(table, (const uint8_t *)"rom", 3, PAGE, 0,
                                     NULL, &error));
    g_assert_true(ramblock_table_add(table, (const uint8_t *)"ram", 3,
                                     ram_length, 0, NULL, &error));
    return table;
}

static Traffic *make_traffic(uint64_t ram_length)
{
    g_autoptr(RamblockTable) table = make_table(ram_length);
    Traffic *traffic = traffic_new(false);

    traffic_begin(traffic, table, PAGE);
    return traffic;
}

/* @n pages from @first on, the first @normal of them with content. */
static void note(Traffic *traffic, uint64_t epoch, uint64_t first,
                 unsigned normal, unsigned zero)
{
    Packet packet = { .kind = PACKET_PAGES, .payload_len = normal * PAGE };

    g_strlcpy(packet.header.ramblock, "ram", sizeof(packet.header.ramblock));
    packet.header.normal_pages = normal;
    packet.header.zero_pages = zero;
    for (unsigned i = 0; i < normal + zero; i++) {
        packet.header.offset[i] = (first + i) * PAGE;
    }
    traffic_note_packet(traffic, epoch, &packet);
}

/* The largest block comes first. */
static JsonObject *get_ram(JsonObject *json)
{
    JsonArray *blocks = json_object_get_array_member(json, "ramblocks");
    JsonObject *ram = json_array_get_object_element(blocks, 0);

    g_assert_cmpstr(json_object_get_string_member(ram, "name"), ==, "ram");
    return ram;
}

static uint64_t sum(JsonArray *list)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < json_array_get_length(list); i++) {
        total += json_array_get_int_element(list, i);
    }
    return total;
}

/* The number that tells an operator how much the guest dirties. */
static void test_counts_pages_sent_again(void)
{
    g_autoptr(Traffic) traffic = make_traffic(1024 * PAGE);
    g_autoptr(JsonObject) json = NULL;
    JsonObject *ram, *epoch;

    note(traffic, 1, 0, 100, 28);
    note(traffic, 1, 500, 0, 128);
    note(traffic, 2, 90, 20, 0);    /* 90 to 109 */
    json = traffic_to_json(traffic);
    ram = get_ram(json);
    g_assert_cmpint(json_object_get_int_member(ram, "normal-pages"), ==, 120);
    g_assert_cmpint(json_object_get_int_member(ram, "zero-pages"), ==, 156);
    g_assert_cmpint(json_object_get_int_member(ram, "pages-again"), ==, 20);
    g_assert_true(json_object_get_boolean_member(ram, "again-exact"));
    g_assert_cmpint(sum(json_object_get_array_member(ram, "parts-again")), ==,
                    20);
    g_assert_cmpint(sum(json_object_get_array_member(ram, "parts")), ==, 276);
    epoch = json_array_get_object_element(
        json_object_get_array_member(json, "epochs"), 2);
    g_assert_cmpint(json_object_get_int_member(epoch, "pages-again"), ==, 20);
    g_assert_cmpint(json_object_get_int_member(epoch, "packets"), ==, 1);
    g_assert_cmpint(json_object_get_int_member(json, "payload-bytes"), ==,
                    120 * PAGE);
}

/* Time that goes on makes the rows coarser, and loses no page. */
static void test_rows_double(void)
{
    g_autoptr(Traffic) traffic = make_traffic(1024 * PAGE);
    g_autoptr(JsonObject) json = NULL;
    JsonArray *heat, *history, *epochs;
    uint64_t pages = 0;

    for (unsigned i = 0; i < 5000; i++) {
        traffic_set_now(traffic, i * 100 * 1000LL);
        note(traffic, i, i % 1000, 1, 0);
        traffic_note_epoch_end(traffic, i + 1);
    }
    json = traffic_to_json(traffic);
    heat = json_object_get_array_member(get_ram(json), "heat");
    history = json_object_get_array_member(json, "history");
    epochs = json_object_get_array_member(json, "epochs");
    g_assert_cmpuint(json_array_get_length(heat), <=, 32);
    g_assert_cmpuint(json_array_get_length(history), <=, 128);
    g_assert_cmpuint(json_array_get_length(epochs), <=, 128);
    for (unsigned i = 0; i < json_array_get_length(heat); i++) {
        pages += sum(json_array_get_array_element(heat, i));
    }
    g_assert_cmpuint(pages, ==, 5000);
    pages = 0;
    for (unsigned i = 0; i < json_array_get_length(history); i++) {
        pages += json_array_get_int_element(
            json_array_get_array_element(history, i), 3);
    }
    g_assert_cmpuint(pages, ==, 5000);
    pages = 0;
    for (unsigned i = 0; i < json_array_get_length(epochs); i++) {
        pages += json_object_get_int_member(
            json_array_get_object_element(epochs, i), "normal-pages");
    }
    g_assert_cmpuint(pages, ==, 5000);
    g_assert_cmpint(json_object_get_int_member(json, "epochs-per-row"), ==, 64);
}

/* A peer that jumps to the end of all numbers costs some doublings, no more. */
static void test_far_epoch(void)
{
    g_autoptr(Traffic) traffic = make_traffic(16 * PAGE);
    g_autoptr(JsonObject) json = NULL;

    note(traffic, 0, 0, 1, 0);
    note(traffic, G_MAXUINT64, 1, 1, 0);
    json = traffic_to_json(traffic);
    g_assert_cmpint(json_object_get_int_member(json, "normal-pages"), ==, 2);
}

/* A guest too large for a bit for each page is counted by parts, and says so. */
static void test_huge_block(void)
{
    g_autoptr(Traffic) traffic = make_traffic(1ull << 42);
    g_autoptr(JsonObject) json = NULL;
    JsonObject *ram;

    note(traffic, 1, 0, 128, 0);
    note(traffic, 1, 0, 128, 0);
    json = traffic_to_json(traffic);
    ram = get_ram(json);
    g_assert_false(json_object_get_boolean_member(ram, "again-exact"));
    g_assert_cmpint(json_object_get_int_member(ram, "pages-again"), ==, 0);
    g_assert_cmpuint(json_array_get_length(json_object_get_array_member(
        ram, "parts")), <=, 256);
}

/* 4096 blocks are allowed to a source; a row for each would be too much. */
static void test_many_blocks(void)
{
    g_autoptr(RamblockTable) table = ramblock_table_new();
    g_autoptr(Traffic) traffic = traffic_new(false);
    g_autoptr(JsonObject) json = NULL;
    Packet packet = { .kind = PACKET_PAGES };

    for (unsigned i = 0; i < RAMBLOCK_COUNT_MAX; i++) {
        g_autofree char *name = g_strdup_printf("b%u", i);

        g_assert_true(ramblock_table_add(table, (const uint8_t *)name,
                                         strlen(name), (i + 1) * PAGE, 0, NULL,
                                         NULL));
    }
    traffic_begin(traffic, table, PAGE);
    g_strlcpy(packet.header.ramblock, "b0", sizeof(packet.header.ramblock));
    packet.header.zero_pages = 1;
    traffic_note_packet(traffic, 1, &packet);
    json = traffic_to_json(traffic);
    g_assert_cmpuint(json_array_get_length(json_object_get_array_member(
        json, "ramblocks")), ==, 32);
    g_assert_cmpint(json_object_get_int_member(json, "ramblock-count"), ==,
                    RAMBLOCK_COUNT_MAX);
    g_assert_cmpint(json_object_get_int_member(json, "zero-pages"), ==, 1);
}

/* Bytes on the wire are asked for once a second: no peaks where it was asked. */
static void test_samples_are_spread(void)
{
    g_autoptr(Traffic) traffic = make_traffic(16 * PAGE);
    TrafficSample sample = { .wire_bytes = 1000 };
    g_autoptr(JsonObject) json = NULL;
    JsonArray *history;
    uint64_t total = 0;

    traffic_set_now(traffic, 950 * 1000);
    traffic_sample(traffic, &sample);
    json = traffic_to_json(traffic);
    history = json_object_get_array_member(json, "history");
    g_assert_cmpuint(json_array_get_length(history), ==, 10);
    for (unsigned i = 0; i < 10; i++) {
        int64_t bytes = json_array_get_int_element(
            json_array_get_array_element(history, i), 2);

        g_assert_cmpint(bytes, ==, 100);
        total += bytes;
    }
    g_assert_cmpuint(total, ==, 1000);
}

/* Device state is the guest's: it is in no answer, and not kept. */
static void test_devices_are_not_told(void)
{
    static const char text[] = "{\"devices\":[{\"name\":\"dev\","
        "\"instance_id\":7,\"fields\":[{\"name\":\"x\",\"type\":\"uint32\","
        "\"size\":4}]}]}";
    static const uint8_t head[] = {
        0x04, 0, 0, 0, 9, 3, 'd', 'e', 'v', 0, 0, 0, 7, 0, 0, 0, 1,
        0xde, 0xad, 0xbe, 0xef, 0x7e, 0, 0, 0, 9, 0x00,
        0x06, 0, 0, 0, sizeof(text) - 1,
    };
    g_autoptr(Traffic) traffic = make_traffic(16 * PAGE);
    g_autoptr(JsonObject) json = NULL;
    JsonArray *sections;
    JsonObject *device;

    traffic_note_devices(traffic, head, sizeof(head));
    traffic_note_devices(traffic, (const uint8_t *)text, sizeof(text) - 1);
    traffic_finish(traffic);
    json = traffic_to_json(traffic);
    sections = json_object_get_array_member(
        json_object_get_object_member(json, "main"), "sections");
    device = json_array_get_object_element(sections, 0);
    g_assert_cmpstr(json_object_get_string_member(device, "name"), ==, "dev");
    g_assert_cmpint(json_object_get_int_member(device, "instance"), ==, 7);
    g_assert_cmpint(json_object_get_int_member(device, "bytes"), ==, 26);
    g_assert_false(json_object_has_member(device, "fields"));
    g_assert_cmpuint(json_array_get_length(sections), ==, 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/traffic/counts-pages-sent-again",
                    test_counts_pages_sent_again);
    g_test_add_func("/daemon/traffic/rows-double", test_rows_double);
    g_test_add_func("/daemon/traffic/far-epoch", test_far_epoch);
    g_test_add_func("/daemon/traffic/huge-block", test_huge_block);
    g_test_add_func("/daemon/traffic/many-blocks", test_many_blocks);
    g_test_add_func("/daemon/traffic/samples-are-spread",
                    test_samples_are_spread);
    g_test_add_func("/daemon/traffic/devices-are-not-told",
                    test_devices_are_not_told);
    return g_test_run();
}
