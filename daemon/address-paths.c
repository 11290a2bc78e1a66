/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/address-paths.h"

#include <string.h>

static void path_free(void *data)
{
    AddressPath *self = data;

    g_free(self->bind);
    address_free(self->address);
    g_free(self);
}

static bool refuse(const char *text, const char *expected, GError **error)
{
    g_autofree char *shown = g_strescape(text, NULL);

    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                "got '%.100s', expected %s", shown, expected);
    return false;
}

/* One of them; @self takes it. */
static bool add(GPtrArray *self, const char *text, GError **error)
{
    const char *at = strrchr(text, '@');
    g_autofree char *bind = at ? g_strndup(text, at - text) : NULL;
    g_autoptr(Address) address = address_parse(at ? at + 1 : text, NULL);
    AddressPath *path;

    if (!address || address->kind != ADDRESS_TCP || !*address->host ||
        address->port == 0 ||
        (bind && !*bind)) {
        return refuse(text, "[BIND@]HOST:PORT, BIND a local IP address or an "
                      "interface", error);
    }
    path = g_new(AddressPath, 1);
    path->bind = g_steal_pointer(&bind);
    path->address = g_steal_pointer(&address);
    g_ptr_array_add(self, path);
    return true;
}

GPtrArray *address_paths_parse(const char *text, GError **error)
{
    g_autoptr(GPtrArray) self = g_ptr_array_new_with_free_func(path_free);
    g_auto(GStrv) parts = g_strsplit(text, ",", ADDRESS_PATHS_MAX + 1);

    if (!*text) {
        refuse(text, "at least one path", error);
        return NULL;
    }
    if (g_strv_length(parts) > ADDRESS_PATHS_MAX) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "got more than %d paths, expected at most so many",
                    ADDRESS_PATHS_MAX);
        return NULL;
    }
    for (unsigned i = 0; parts[i]; i++) {
        if (!add(self, g_strstrip(parts[i]), error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&self);
}

char *address_paths_to_string(const GPtrArray *self)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < self->len; i++) {
        const AddressPath *path = g_ptr_array_index(self, i);

        g_string_append_printf(text, "%s%s%s%s", i > 0 ? "," : "",
                               path->bind ? path->bind : "",
                               path->bind ? "@" : "", path->address->text);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}
