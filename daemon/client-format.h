/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-format.h - what the daemon answers, made readable
 *
 * Pure functions.  The daemon may be newer or older than we are, so a member
 * that is missing or of another type is as good as absent; and what came from
 * guests and peers may hold terminal escapes, so text is escaped.
 */
#ifndef DAEMON_CLIENT_FORMAT_H
#define DAEMON_CLIENT_FORMAT_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include <json-glib/json-glib.h>

/* Absent: NULL.  Lent by @object. */
const char *client_format_get_string(JsonObject *object, const char *member);
JsonObject *client_format_get_object(JsonObject *object, const char *member);
JsonArray *client_format_get_array(JsonObject *object, const char *member);
/* Absent or negative: 0. */
uint64_t client_format_get_number(JsonObject *object, const char *member);
bool client_format_has(JsonObject *object, const char *member);
bool client_format_get_flag(JsonObject *object, const char *member);
/* Any number, or 0. */
double client_format_get_double(JsonObject *object, const char *member);

/* The same for elements; @array may be NULL, and @i beyond its end. */
unsigned client_format_get_length(JsonArray *array);
JsonObject *client_format_object_at(JsonArray *array, unsigned i);
JsonArray *client_format_array_at(JsonArray *array, unsigned i);
const char *client_format_string_at(JsonArray *array, unsigned i);
uint64_t client_format_number_at(JsonArray *array, unsigned i);

/* One line without control characters; NULL gives "-".  g_free(). */
char *client_format_escape(const char *text);

/* A rate where 0 means that there is none.  g_free(). */
char *client_format_limit(uint64_t bytes_per_s);

/* Compact, or over several lines for people.  g_free(). */
char *client_format_json(JsonNode *node, bool pretty);

/*
 * Rows of cells in columns as wide as their widest cell.  @titles is
 * NULL-terminated; each row is a char ** with as many cells.  g_free().
 */
char *client_format_table(const char *const *titles, const GPtrArray *rows);

#endif
