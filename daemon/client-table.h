/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-table.h - a table of cells, filled row by row
 */
#ifndef DAEMON_CLIENT_TABLE_H
#define DAEMON_CLIENT_TABLE_H

#include <json-glib/json-glib.h>

typedef struct {
    GPtrArray *rows;            /* of strv: complete ones */
    GPtrArray *cells;           /* of the row under way */
} ClientTable;

void client_table_init(ClientTable *self);
void client_table_clear(ClientTable *self);

/* Takes @text. */
void client_table_add(ClientTable *self, char *text);
/* A member as a number; as text, escaped, "-" where it is missing. */
void client_table_add_number(ClientTable *self, JsonObject *object,
                             const char *member);
void client_table_add_text(ClientTable *self, JsonObject *object,
                           const char *member);
/* As a size and as a rate, from bytes. */
void client_table_add_size(ClientTable *self, JsonObject *object,
                           const char *member);
void client_table_add_rate(ClientTable *self, JsonObject *object,
                           const char *member);
void client_table_end_row(ClientTable *self);

/* Behind @title, unless there is no row.  Clears it.  @titles as in
 * client_format_table(). */
void client_table_append(ClientTable *self, GString *text, const char *title,
                         const char *const *titles);

#endif
