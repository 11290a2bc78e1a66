/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-lane-json.h - the JSON objects in HELLO and CONTROL frames
 */
#ifndef DAEMON_LINK_LANE_JSON_H
#define DAEMON_LINK_LANE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-glib/json-glib.h>

/* docs/link-protocol.md section 8. */
enum { LINK_LANE_JSON_DEPTH_MAX = 32 };

/*
 * One object and nothing else in the @len bytes, which the frame's own limit
 * bounds.  WIRE_ERROR_PROTOCOL else, with @what ("CONTROL") in the text.
 */
JsonObject *link_lane_json_parse(const char *what, const uint8_t *buf,
                                 size_t len, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* {"class":…,"desc":…} as it stands under "error" in an answer. */
JsonObject *link_lane_json_from_error(const GError *error);
/* What an answer's "error" says; a broken one says so. */
GError *link_lane_json_to_error(JsonObject *object);

#endif
