/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: a multifd packet is decoded, or refused with a WIRE_ERROR and the
 * result left alone; what is decoded holds the bounds that its users rely on,
 * and encodes to bytes that decode to the same.
 *
 * Input: the bytes of one channel, init packet first.  The last byte chooses the
 * page size.  Payloads are taken to be next_packet_size long.
 */
#include <string.h>

#include "wire/error.h"
#include "wire/method.h"
#include "wire/multifd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static RamblockTable *table_new(void)
{
    RamblockTable *table = ramblock_table_new();
    g_autoptr(GError) error = NULL;

    g_assert_true(ramblock_table_add(table, (const uint8_t *)"pc.ram", 6,
                                     16 << 20, 0, NULL, &error));
    g_assert_true(ramblock_table_add(table, (const uint8_t *)"m", 1, 5000, 0,
                                     NULL, &error));
    return table;
}

static void check_init(const uint8_t *data)
{
    uint8_t again[MULTIFD_INIT_SIZE];
    MultifdInit init, second;
    g_autoptr(GError) error = NULL;

    if (!multifd_init_decode(data, &init, &error)) {
        g_assert_true(error && error->domain == WIRE_ERROR);
        return;
    }
    multifd_init_encode(&init, again);
    g_assert_true(multifd_init_decode(again, &second, NULL));
    g_assert_true(memcmp(&init, &second, sizeof(init)) == 0);
}

static void check_pages(const MultifdHeader *h, const MultifdGeometry *geometry,
                        const RamblockTable *table)
{
    g_autoptr(GError) error = NULL;
    const Ramblock *block;

    if (!multifd_header_check_pages(h, geometry, table, &error)) {
        g_assert_true(error && error->domain == WIRE_ERROR);
        return;
    }
    block = ramblock_table_find(table, h->ramblock, strlen(h->ramblock));
    for (uint32_t i = 0; i < h->normal_pages + h->zero_pages; i++) {
        g_assert_true(h->offset[i] < block->used_length);
        g_assert_true(block->used_length - h->offset[i] >=
                      geometry->page_size);
        for (uint32_t j = 0; j < i; j++) {
            g_assert_true(h->offset[i] != h->offset[j]);
        }
    }
}

static uint32_t payload_of(const MultifdHeader *h,
                           const MultifdGeometry *geometry)
{
    g_autoptr(GError) error = NULL;
    const Method *method = method_from_flags(h->flags, &error);
    uint32_t size = 0;

    if (h->normal_pages == 0 || !method) {
        return 0;
    }
    if (method->payload_size(h->normal_pages, geometry->page_size,
                             h->payload_size, &size, &error)) {
        g_assert_true(size > 0 && size <= MULTIFD_PAYLOAD_MAX);
    } else {
        g_assert_true(error && error->domain == WIRE_ERROR);
    }
    return size;
}

/* Returns how many bytes the header says that its packet has, 0 to stop. */
static size_t check_header(const uint8_t *data, const MultifdGeometry *geometry,
                           const RamblockTable *table)
{
    g_autofree uint8_t *again = g_malloc(geometry->header_size);
    MultifdHeader h, second;
    g_autoptr(GError) error = NULL;

    memset(&h, 0x5a, sizeof(h));
    second = h;
    if (!multifd_header_decode(data, geometry, &h, &error)) {
        g_assert_true(error && error->domain == WIRE_ERROR);
        g_assert_true(memcmp(&h, &second, sizeof(h)) == 0);
        return 0;
    }
    g_assert_true(h.pages_alloc <= geometry->page_count);
    g_assert_true((uint64_t)h.normal_pages + h.zero_pages <= h.pages_alloc);
    multifd_header_encode(&h, geometry, again);
    g_assert_true(multifd_header_decode(again, geometry, &second, NULL));
    g_assert_true(memcmp(&h, &second, sizeof(h)) == 0);
    check_pages(&h, geometry, table);
    return geometry->header_size + payload_of(&h, geometry);
}

static size_t check_device(const uint8_t *data)
{
    uint8_t again[MULTIFD_DEVICE_HEADER_SIZE];
    MultifdDeviceHeader h, second;
    g_autoptr(GError) error = NULL;

    if (!multifd_device_header_decode(data, 1 << 20, &h, &error)) {
        g_assert_true(error && error->domain == WIRE_ERROR);
        return 0;
    }
    g_assert_true(h.payload_size > 0 && h.payload_size <= 1 << 20);
    multifd_device_header_encode(&h, again);
    g_assert_true(multifd_device_header_decode(again, 1 << 20, &second, NULL));
    g_assert_true(memcmp(&h, &second, sizeof(h)) == 0);
    return MULTIFD_DEVICE_HEADER_SIZE + h.payload_size;
}

static size_t check_packet(const uint8_t *data, size_t size,
                           const MultifdGeometry *geometry,
                           const RamblockTable *table)
{
    uint32_t flags;
    bool device;

    if (size < MULTIFD_PREFIX_SIZE ||
        !multifd_prefix_decode(data, &flags, NULL)) {
        return 0;
    }
    device = flags & MULTIFD_FLAG_DEVICE_STATE;
    if (device && size >= MULTIFD_DEVICE_HEADER_SIZE) {
        return check_device(data);
    }
    if (!device && size >= geometry->header_size) {
        return check_header(data, geometry, table);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t page_sizes[] = { 4096, 1024, 8192, 16384, 65536 };
    g_autoptr(RamblockTable) table = table_new();
    MultifdGeometry geometry;
    size_t pos = MULTIFD_INIT_SIZE;

    if (size < MULTIFD_INIT_SIZE) {
        return 0;
    }
    g_assert_true(multifd_geometry_init(
        &geometry, page_sizes[data[size - 1] % G_N_ELEMENTS(page_sizes)],
        NULL));
    check_init(data);
    while (pos < size) {
        size_t n = check_packet(data + pos, size - pos, &geometry, table);

        if (n == 0 || n > size - pos) {
            break;
        }
        pos += n;
    }
    return 0;
}
