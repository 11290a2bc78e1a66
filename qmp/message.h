/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp/message.h - writes QMP messages as bytes, and reads their members
 *
 * Why not JsonGenerator: json-glib 1.6 writes 1e55 as "1e+55.0", which no
 * parser takes, and a peer picks the "id" that we have to say back.
 */
#ifndef QMP_MESSAGE_H
#define QMP_MESSAGE_H

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * @object as one line of JSON with CR LF at its end, as QEMU sends.  Strings
 * that are not UTF-8 (a file name in an error, say) are made so.
 */
GBytes *qmp_message_encode(JsonObject *object);

/* The same for any value, appended to @text and without the line end. */
void qmp_message_append_value(GString *text, JsonNode *node);

/*
 * Member @name of @object, lent, when it is there and of this very type; else
 * NULL or false.  json_object_get_..._member() warn, or worse, on a peer's
 * surprises.  json-glib holds QEMU's integers above INT64_MAX as negative.
 */
JsonObject *qmp_message_get_object(JsonObject *object, const char *name);
JsonArray *qmp_message_get_array(JsonObject *object, const char *name);
const char *qmp_message_get_string(JsonObject *object, const char *name);
bool qmp_message_get_int(JsonObject *object, const char *name, int64_t *ret);
bool qmp_message_get_bool(JsonObject *object, const char *name, bool *ret);

/* An integer from 0 to @max. */
bool qmp_message_get_uint(JsonObject *object, const char *name, int64_t max,
                          int64_t *ret);

/* A node that owns @object or @array: json_node_init_object() would take a
 * reference of its own. */
JsonNode *qmp_message_take_object(JsonObject *object);
JsonNode *qmp_message_take_array(JsonArray *array);

#endif
