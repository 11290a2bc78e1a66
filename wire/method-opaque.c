/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/method-opaque.c - methods of accelerators, forwarded packet by packet
 *
 * qpl and uadk (QEMU migration/multifd-qpl.c, multifd-uadk.c) put a 32-bit length
 * per page before the packed pages; QEMU's receivers assert that these add up,
 * so we check it first.  A length of a whole page is a page that was not packed.
 * qatzip has no framing of its own.  None keeps state between packets.
 */
#include <inttypes.h>

#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/method-table.h"

static bool framed_payload_size(uint32_t normal_pages, uint32_t page_size,
                                uint32_t payload_size, uint32_t *ret_size,
                                GError **error)
{
    uint64_t lengths = (uint64_t)normal_pages * 4;
    uint64_t most = lengths + (uint64_t)normal_pages * page_size;

    if (payload_size <= lengths || payload_size > most) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet, method with page lengths: got "
                    "next_packet_size %u, allowed %" PRIu64 " to %" PRIu64
                    " (%u pages of %u)", payload_size, lengths + 1, most,
                    normal_pages, page_size);
        return false;
    }
    *ret_size = payload_size;
    return true;
}

static bool framed_check(const uint8_t *src, size_t src_len,
                         uint32_t normal_pages, uint32_t page_size,
                         GError **error)
{
    uint64_t sum = (uint64_t)normal_pages * 4;

    if (src_len < sum) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet, method with page lengths: got %zu bytes, "
                    "allowed at least %" PRIu64 " for %u lengths", src_len,
                    sum, normal_pages);
        return false;
    }
    for (uint32_t i = 0; i < normal_pages; i++) {
        uint32_t length = bytes_get_be32(src + 4 * (size_t)i);

        if (length == 0 || length > page_size) {
            g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                        "multifd packet, method with page lengths: got length "
                        "%u of page %u, allowed 1 to %u", length, i, page_size);
            return false;
        }
        sum += length;
    }
    if (sum != src_len) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet, method with page lengths: got lengths "
                    "that add up to %" PRIu64 ", allowed %zu, the payload",
                    sum, src_len);
        return false;
    }
    return true;
}

const Method method_qpl = {
    .id = METHOD_QPL,
    .name = "qpl",
    .payload_size = framed_payload_size,
    .check = framed_check,
    .opaque = true,
};

const Method method_uadk = {
    .id = METHOD_UADK,
    .name = "uadk",
    .payload_size = framed_payload_size,
    .check = framed_check,
    .opaque = true,
};

const Method method_qatzip = {
    .id = METHOD_QATZIP,
    .name = "qatzip",
    .payload_size = method_bounded_payload_size,
    .opaque = true,
};
