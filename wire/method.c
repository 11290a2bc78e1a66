/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire/error.h"
#include "wire/method-table.h"
#include "wire/multifd.h"

static const Method *const methods[] = {
    &method_none, &method_zlib, &method_zstd,
    &method_qpl, &method_uadk, &method_qatzip,
};

const Method *method_from_flags(uint32_t flags, GError **error)
{
    uint32_t bits = flags & MULTIFD_FLAG_METHOD_MASK;

    for (size_t i = 0; i < G_N_ELEMENTS(methods); i++) {
        if (bits == (uint32_t)methods[i]->id) {
            return methods[i];
        }
    }
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "multifd packet: got flags 0x%x, allowed at most one "
                "compression method in 0x%x", flags, MULTIFD_FLAG_METHOD_MASK);
    return NULL;
}

const Method *method_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(methods); i++) {
        if (g_str_equal(methods[i]->name, name)) {
            return methods[i];
        }
    }
    return NULL;
}

bool method_bounded_payload_size(uint32_t normal_pages G_GNUC_UNUSED,
                                 uint32_t page_size G_GNUC_UNUSED,
                                 uint32_t payload_size, uint32_t *ret_size,
                                 GError **error)
{
    /* QEMU's receiver has such a buffer and does not look before it reads. */
    if (payload_size == 0 || payload_size > MULTIFD_PAYLOAD_MAX) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "multifd packet: got next_packet_size %u of a compressed "
                    "payload, allowed 1 to %d", payload_size,
                    MULTIFD_PAYLOAD_MAX);
        return false;
    }
    *ret_size = payload_size;
    return true;
}
