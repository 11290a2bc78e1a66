/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: whatever comes and however it is cut into reads, the framer
 * gives objects and errors, never neither; the same bytes in one read and in
 * many give the same; and every object it gives can be written and read back.
 *
 * The first byte chooses the size of the reads and the message limit.
 */
#include "qmp/error.h"
#include "qmp/framer.h"
#include "qmp/message.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* @text was written from an object: it must read back and write the same. */
static void check_reads_back(const char *text)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(G_MAXUINT / 4);
    g_autoptr(JsonObject) again = NULL;
    g_autoptr(GBytes) rewritten = NULL;
    g_autoptr(GError) error = NULL;

    qmp_framer_feed(framer, text, strlen(text));
    if (!qmp_framer_next(framer, &again, &error) || !again) {
        g_error("'%s' does not read back: %s", text,
                error ? error->message : "incomplete");
    }
    rewritten = qmp_message_encode(again);
    g_assert_cmpmem(text, strlen(text), g_bytes_get_data(rewritten, NULL),
                    g_bytes_get_size(rewritten));
}

static void append_object(GString *result, JsonObject *object)
{
    g_autoptr(GBytes) bytes = qmp_message_encode(object);
    g_autofree char *text = g_strndup(g_bytes_get_data(bytes, NULL),
                                      g_bytes_get_size(bytes));

    check_reads_back(text);
    g_string_append(result, text);
}

/* One line per result; the caller compares the whole. */
static char *split(const uint8_t *data, size_t size, size_t read_bytes,
                   size_t max_bytes)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(max_bytes);
    GString *result = g_string_new(NULL);

    for (size_t at = 0; at < size; at += read_bytes) {
        qmp_framer_feed(framer, data + at, MIN(read_bytes, size - at));
        for (;;) {
            g_autoptr(JsonObject) object = NULL;
            g_autoptr(GError) error = NULL;
            bool ok = qmp_framer_next(framer, &object, &error);

            g_assert(ok == (error == NULL) && (ok || !object));
            if (object) {
                append_object(result, object);
                continue;
            }
            if (ok) {
                break;
            }
            if (error->code == QMP_ERROR_TOO_LARGE) {
                return g_string_free(result, FALSE);
            }
            g_string_append_printf(result, "%s\n", error->message);
        }
    }
    return g_string_free(result, FALSE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *whole = NULL;
    g_autofree char *parts = NULL;
    size_t max_bytes;

    if (size < 1) {
        return 0;
    }
    max_bytes = data[0] & 0x80 ? 64 : 64 * 1024;
    whole = split(data + 1, size - 1, size, max_bytes);
    parts = split(data + 1, size - 1, 1 + (data[0] & 0x0f), max_bytes);
    g_assert_cmpstr(whole, ==, parts);
    return 0;
}
