/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp/framer.h - cuts a stream of bytes into QMP messages
 *
 * A QMP peer sends JSON objects one after the other, with or without line
 * ends, several in one read or one in many.  The framer finds where each ends
 * and parses it.  It does no I/O and knows nothing of commands.
 *
 * What it refuses before json-glib sees it: messages, nesting and numbers of
 * values above a limit; bytes and escapes that JSON does not allow.
 */
#ifndef QMP_FRAMER_H
#define QMP_FRAMER_H

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a server allows its clients. */
#define QMP_FRAMER_SERVER_MAX_BYTES (64u * 1024)

/* What a client allows its server: query-qmp-schema alone is ~300 KiB. */
#define QMP_FRAMER_CLIENT_MAX_BYTES (16u * 1024 * 1024)

/* json-glib recurses once a level; QEMU's deepest answers have about ten. */
#define QMP_FRAMER_MAX_DEPTH 64u

/*
 * Values in one message.  "[]," is three bytes on the wire and some 200 in
 * memory, so a limit on bytes alone would not bound memory.
 */
#define QMP_FRAMER_MAX_VALUES (256u * 1024)

typedef struct QmpFramer QmpFramer;

QmpFramer *qmp_framer_new(size_t max_bytes);
void qmp_framer_free(QmpFramer *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpFramer, qmp_framer_free)

/*
 * Append @len bytes.  Call qmp_framer_next() until it has no more before
 * feeding again; then memory stays below max_bytes plus one feed.
 */
void qmp_framer_feed(QmpFramer *self, const void *buf, size_t len);

/*
 * Take the next message.  True with an object in @ret (owned by the caller),
 * or true with NULL when more bytes are needed.
 *
 * QMP_ERROR_PROTOCOL:  something that is not a JSON object came.  It has been
 *                      skipped, up to the next line end or 0xff: call again.
 * QMP_ERROR_TOO_LARGE: the message is above max_bytes.  Its end is unknown;
 *                      every later call fails alike.
 */
bool qmp_framer_next(QmpFramer *self, JsonObject **ret,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Length on the wire of the message that qmp_framer_next() gave last. */
size_t qmp_framer_get_last_bytes(const QmpFramer *self);

/* Whether bytes of an unfinished message are held: at EOF, a truncation. */
bool qmp_framer_is_inside_message(const QmpFramer *self);

#endif
