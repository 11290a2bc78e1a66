/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/uuid.h"

#include <string.h>
#include <glib.h>

char *uuid_to_string(const uint8_t uuid[UUID_SIZE])
{
    GString *text = g_string_sized_new(36);

    for (unsigned i = 0; i < UUID_SIZE; i++) {
        g_string_append_printf(text, "%s%02x",
                               i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                               uuid[i]);
    }
    return g_string_free(text, FALSE);
}

bool uuid_from_string(const char *text, uint8_t ret[UUID_SIZE])
{
    uint8_t uuid[UUID_SIZE];

    if (!g_uuid_string_is_valid(text)) {
        return false;
    }
    for (unsigned i = 0; i < UUID_SIZE; i++) {
        text += *text == '-';
        uuid[i] = g_ascii_xdigit_value(text[0]) << 4 |
                  g_ascii_xdigit_value(text[1]);
        text += 2;
    }
    memcpy(ret, uuid, UUID_SIZE);
    return true;
}

bool uuid_is_zero(const uint8_t uuid[UUID_SIZE])
{
    static const uint8_t zero[UUID_SIZE];

    return memcmp(uuid, zero, UUID_SIZE) == 0;
}

void uuid_random_hex(char ret[2 * UUID_SIZE + 1])
{
    g_autofree char *uuid = g_uuid_string_random();
    char *out = ret;

    for (const char *in = uuid; *in; in++) {
        if (*in != '-') {
            *out++ = *in;
        }
    }
    *out = '\0';
}
