/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes are either a configuration or an error with a text.  What is
 * understood, printed and read again is understood in the same way.
 */
#include "daemon/config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Config *load(const char *data, size_t size, GError **error)
{
    return config_load_from_data(data, size, "fuzz", NULL, NULL, error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *copy = g_memdup2(data, size);
    g_autoptr(Config) config = load(copy, size, &error);
    g_autoptr(Config) again = NULL;
    g_autofree char *text = NULL, *text_again = NULL;

    if (!config) {
        g_assert(error && error->message[0]);
        g_assert(g_utf8_validate(error->message, -1, NULL));
        return 0;
    }
    g_assert_no_error(error);
    text = config_to_string(config);
    again = load(text, strlen(text), &error);
    g_assert_no_error(error);
    text_again = config_to_string(again);
    g_assert_cmpstr(text, ==, text_again);
    return 0;
}
