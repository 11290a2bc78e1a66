/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp/message.h - writes QMP messages as bytes
 *
 * Why not JsonGenerator: json-glib 1.6 writes 1e55 as "1e+55.0", which no
 * parser takes, and a peer picks the "id" that we have to say back.
 */
#ifndef QMP_MESSAGE_H
#define QMP_MESSAGE_H

#include <json-glib/json-glib.h>

/*
 * @object as one line of JSON with CR LF at its end, as QEMU sends.  Strings
 * that are not UTF-8 (a file name in an error, say) are made so.
 */
GBytes *qmp_message_encode(JsonObject *object);

/* The same for any value, appended to @text and without the line end. */
void qmp_message_append_value(GString *text, JsonNode *node);

#endif
