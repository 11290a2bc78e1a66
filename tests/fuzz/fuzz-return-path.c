/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: any bytes are watched within the buffer; how they are cut changes
 * nothing; and SHUT is seen only where the bytes 00 01 00 04 are.
 */
#include <string.h>

#include "wire/return-path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ReturnPath whole, pieces;
    uint32_t value;

    return_path_init(&whole);
    return_path_init(&pieces);
    return_path_feed(&whole, data, size);
    for (size_t pos = 0; pos < size;) {
        size_t n = MIN(1 + data[pos] % 7u, size - pos);

        return_path_feed(&pieces, data + pos, n);
        pos += n;
    }
    g_assert_true(whole.opaque == pieces.opaque);
    g_assert_true(whole.shut_seen == pieces.shut_seen);
    g_assert_cmpuint(whole.shut_value, ==, pieces.shut_value);
    g_assert_cmpuint(whole.messages, ==, pieces.messages);
    if (return_path_has_shut(&whole, &value)) {
        g_assert_nonnull(memmem(data, size, "\0\1\0\4", 4));
    }
    return 0;
}
