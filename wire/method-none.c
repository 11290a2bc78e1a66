/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/method-none.c - pages as they are, in the order of the header's offsets
 *
 * QEMU's receiver ignores next_packet_size here and reads normal_pages pages.
 * Every source sends their product, so another value is a stream out of step.
 */
#include <inttypes.h>

#include "wire/error.h"
#include "wire/method-table.h"

static bool none_payload_size(uint32_t normal_pages, uint32_t page_size,
                              uint32_t payload_size, uint32_t *ret_size,
                              GError **error)
{
    uint64_t expected = (uint64_t)normal_pages * page_size;

    if (payload_size != expected) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet, method none: got next_packet_size %u, "
                    "allowed %" PRIu64 " (%u pages of %u)", payload_size,
                    expected, normal_pages, page_size);
        return false;
    }
    *ret_size = payload_size;
    return true;
}

const Method method_none = {
    .id = METHOD_NONE,
    .name = "none",
    .payload_size = none_payload_size,
};
