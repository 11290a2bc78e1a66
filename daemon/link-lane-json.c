/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-lane-json.c - parsing by the QMP framer, which refuses what
 * json-glib must not see; but a frame is exactly one object, and flatter.
 */
#include "daemon/link-lane-json.h"

#include "qmp/error.h"
#include "qmp/framer.h"
#include "qmp/message.h"
#include "wire/error.h"

/* Brackets outside strings.  Broken JSON may count wrong: it is refused later. */
static unsigned get_depth(const uint8_t *buf, size_t len)
{
    unsigned depth = 0, deepest = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        uint8_t c = buf[i];

        if (in_string && c == '\\') {
            i++;
        } else if (c == '"') {
            in_string = !in_string;
        } else if (!in_string && (c == '{' || c == '[')) {
            depth++;
            deepest = MAX(deepest, depth);
        } else if (!in_string && (c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

static JsonObject *parse_alone(const uint8_t *buf, size_t len, GError **error)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(len);
    g_autoptr(JsonObject) object = NULL;
    JsonObject *more = NULL;

    qmp_framer_feed(framer, buf, len);
    if (!qmp_framer_next(framer, &object, error)) {
        return NULL;
    }
    if (!object) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got an unfinished JSON object");
        return NULL;
    }
    if (!qmp_framer_next(framer, &more, error)) {
        return NULL;
    }
    if (more || qmp_framer_is_inside_message(framer)) {
        g_clear_pointer(&more, json_object_unref);
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got more than one JSON object, allowed one");
        return NULL;
    }
    return g_steal_pointer(&object);
}

JsonObject *link_lane_json_parse(const char *what, const uint8_t *buf,
                                 size_t len, GError **error)
{
    g_autoptr(GError) cause = NULL;
    unsigned depth = get_depth(buf, len);
    JsonObject *object;

    if (depth > LINK_LANE_JSON_DEPTH_MAX) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link %s frame: got nesting depth %u, allowed at most %d",
                    what, depth, LINK_LANE_JSON_DEPTH_MAX);
        return NULL;
    }
    object = parse_alone(buf, len, &cause);
    if (!object) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL, "link %s frame: %s",
                    what, cause->message);
    }
    return object;
}

JsonObject *link_lane_json_from_error(const GError *error)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(
        object, "class", qmp_class_to_string(qmp_error_get_class(error)));
    json_object_set_string_member(object, "desc", error->message);
    return object;
}

GError *link_lane_json_to_error(JsonObject *object)
{
    const char *klass = qmp_message_get_string(object, "class");
    const char *desc = qmp_message_get_string(object, "desc");

    return qmp_error_new_command(klass ? klass : "GenericError",
                                 desc ? desc : "no reason given");
}
