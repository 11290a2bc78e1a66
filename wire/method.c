/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wire/error.h"
#include "wire/method-table.h"
#include "wire/multifd.h"

static const struct {
    MethodId id;
    const char *name;
    const Method *method;   /* NULL: known to QEMU, not carried by us */
} methods[] = {
    { METHOD_NONE, "none", &method_none },
    { METHOD_ZLIB, "zlib", NULL },
    { METHOD_ZSTD, "zstd", NULL },
    { METHOD_QPL, "qpl", NULL },
    { METHOD_UADK, "uadk", NULL },
    { METHOD_QATZIP, "qatzip", NULL },
};

const Method *method_from_flags(uint32_t flags, GError **error)
{
    uint32_t bits = flags & MULTIFD_FLAG_METHOD_MASK;

    for (size_t i = 0; i < G_N_ELEMENTS(methods); i++) {
        if (bits != (uint32_t)methods[i].id) {
            continue;
        }
        if (!methods[i].method) {
            g_set_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
                        "multifd packet: got compression method %s (flags "
                        "0x%x), which this build does not carry",
                        methods[i].name, flags);
        }
        return methods[i].method;
    }
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "multifd packet: got flags 0x%x, allowed at most one "
                "compression method in 0x%x", flags, MULTIFD_FLAG_METHOD_MASK);
    return NULL;
}

const Method *method_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(methods); i++) {
        if (methods[i].method && g_str_equal(methods[i].name, name)) {
            return methods[i].method;
        }
    }
    return NULL;
}
