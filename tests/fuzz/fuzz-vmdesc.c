/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: any bytes have a description that can be read, or an error; the
 * sections found lie one behind the other within the bytes; and with values they
 * are the same sections.
 *
 * Input: the end of a main channel, from somewhere in its device sections on.
 */
#include "daemon/vmdesc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum_bytes(JsonArray *sections)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < json_array_get_length(sections); i++) {
        int64_t bytes = json_object_get_int_member(
            json_array_get_object_element(sections, i), "bytes");

        g_assert_cmpint(bytes, >, 0);
        sum += bytes;
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vmdesc) vmdesc = vmdesc_new(data, size, &error);
    g_autoptr(JsonArray) sections = NULL, values = NULL;

    g_assert_true((vmdesc == NULL) == (error != NULL));
    if (!vmdesc) {
        return 0;
    }
    sections = vmdesc_list_sections(vmdesc);
    values = vmdesc_list_values(vmdesc);
    g_assert_cmpuint(sum_bytes(sections), <=, size);
    g_assert_cmpuint(json_array_get_length(sections), ==,
                     json_array_get_length(values));
    g_assert_cmpuint(sum_bytes(values), ==, sum_bytes(sections));
    return 0;
}
