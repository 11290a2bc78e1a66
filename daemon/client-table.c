/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-table.h"

#include <inttypes.h>
#include "daemon/client-format.h"
#include "daemon/units.h"

void client_table_init(ClientTable *self)
{
    self->rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    self->cells = g_ptr_array_new_with_free_func(g_free);
}

void client_table_clear(ClientTable *self)
{
    g_clear_pointer(&self->cells, g_ptr_array_unref);
    g_clear_pointer(&self->rows, g_ptr_array_unref);
}

void client_table_add(ClientTable *self, char *text)
{
    g_ptr_array_add(self->cells, text);
}

void client_table_add_number(ClientTable *self, JsonObject *object,
                             const char *member)
{
    client_table_add(self, client_format_has(object, member)
                     ? g_strdup_printf("%" PRIu64, client_format_get_number(
                           object, member))
                     : g_strdup("-"));
}

void client_table_add_text(ClientTable *self, JsonObject *object,
                           const char *member)
{
    client_table_add(self, client_format_escape(client_format_get_string(
        object, member)));
}

void client_table_add_size(ClientTable *self, JsonObject *object,
                           const char *member)
{
    client_table_add(self, units_format_size(client_format_get_number(
        object, member)));
}

void client_table_add_rate(ClientTable *self, JsonObject *object,
                           const char *member)
{
    client_table_add(self, units_format_rate(client_format_get_number(
        object, member)));
}

void client_table_end_row(ClientTable *self)
{
    gsize n = self->cells->len;
    gpointer *cells = g_ptr_array_steal(self->cells, NULL);
    char **row = g_new0(char *, n + 1);

    for (gsize i = 0; i < n; i++) {
        row[i] = cells[i];
    }
    g_free(cells);
    g_ptr_array_add(self->rows, row);
}

void client_table_append(ClientTable *self, GString *text, const char *title,
                         const char *const *titles)
{
    if (self->rows->len > 0) {
        g_autofree char *body = client_format_table(titles, self->rows);

        g_string_append_printf(text, "%s%s", title, body);
    }
    client_table_clear(self);
}
