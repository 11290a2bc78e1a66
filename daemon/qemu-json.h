/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/qemu-json.h - members of JSON objects that we did not write
 *
 * A QEMU may be older or newer than we are, and a peer may say anything: a
 * member that is absent or of another type is like one that is absent.
 * (json-glib's own getters print a warning instead.)
 */
#ifndef DAEMON_QEMU_JSON_H
#define DAEMON_QEMU_JSON_H

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

/* NULL when there is none; what is returned belongs to @object. */
const char *qemu_json_find_string(JsonObject *object, const char *member);
JsonObject *qemu_json_find_object(JsonObject *object, const char *member);
JsonArray *qemu_json_find_array(JsonObject *object, const char *member);

/* Absent: 0, or false. */
int64_t qemu_json_get_int(JsonObject *object, const char *member);
double qemu_json_get_double(JsonObject *object, const char *member);
bool qemu_json_get_bool(JsonObject *object, const char *member);

/* Like qemu_json_get_int(), and 0 for a negative number. */
uint64_t qemu_json_get_size(JsonObject *object, const char *member);

/* The object in @node, or NULL. */
JsonObject *qemu_json_node_object(JsonNode *node);

#endif
