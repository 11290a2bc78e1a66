/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Main streams made by hand, and what the parser makes of them.  Each is fed whole
 * and byte by byte, from buffers of exact size, and both must agree.
 */
#ifndef TESTS_MAIN_STREAM_FIXTURE_H
#define TESTS_MAIN_STREAM_FIXTURE_H

#include <string.h>

#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/main-stream.h"

enum { MAX_EVENTS = 32 };

/* What came of a stream. */
typedef struct {
    MainStream *stream;
    MainEvent events[MAX_EVENTS];
    unsigned n_events;
    char *error;            /* NULL: none */
} Outcome;

/* ---- making streams ---- */

static inline void put(GByteArray *s, uint64_t value, unsigned size)
{
    uint8_t buf[8];

    bytes_put_be64(buf, value);
    g_byte_array_append(s, buf + 8 - size, size);
}

static inline void put_text(GByteArray *s, const char *text)
{
    g_byte_array_append(s, (const uint8_t *)text, strlen(text));
}

static inline void put_name(GByteArray *s, const char *name)
{
    put(s, strlen(name), 1);
    put_text(s, name);
}

static inline void put_section(GByteArray *s, unsigned type, unsigned id)
{
    put(s, type, 1);
    put(s, id, 4);
}

static inline void put_section_start(GByteArray *s, const char *name,
                                     unsigned id, uint32_t version)
{
    put_section(s, 0x01, id);
    put_name(s, name);
    put(s, 0, 4);
    put(s, version, 4);
}

static inline void put_section_footer(GByteArray *s, unsigned id)
{
    put_section(s, 0x7e, id);
}

/* ---- feeding them ---- */

static inline void feed(Outcome *o, const uint8_t *buf, size_t len)
{
    g_autofree uint8_t *exact = g_memdup2(buf, len);
    size_t pos = 0;

    while (pos < len && !o->error) {
        g_autoptr(GError) error = NULL;
        MainEvent event = { 0 };
        bool has_event;
        size_t used;

        if (!main_stream_feed(o->stream, exact + pos, len - pos, &used, &event,
                              &has_event, &error)) {
            g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
            o->error = g_strdup(error->message);
            return;
        }
        g_assert_true(used == len - pos || has_event);
        pos += used;
        if (has_event) {
            g_assert_cmpuint(o->n_events, <, MAX_EVENTS);
            o->events[o->n_events++] = event;
        }
    }
}

static inline void outcome_clear(Outcome *o)
{
    main_stream_free(o->stream);
    g_free(o->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Outcome, outcome_clear)

/* Takes @s. */
static inline void outcome_init(Outcome *o, GByteArray *s)
{
    g_auto(Outcome) single = { .stream = main_stream_new() };

    *o = (Outcome) { .stream = main_stream_new() };
    feed(o, s->data, s->len);
    for (guint i = 0; i < s->len; i++) {
        feed(&single, s->data + i, 1);
    }
    g_assert_cmpstr(single.error, ==, o->error);
    g_assert_cmpmem(single.events, sizeof(single.events), o->events,
                    sizeof(o->events));
    g_byte_array_unref(s);
}

static inline void assert_broken(GByteArray *s, const char *fragment)
{
    g_auto(Outcome) o;
    const uint8_t more[] = { 0 };

    outcome_init(&o, s);
    g_test_message("%s", o.error);
    g_assert_nonnull(o.error);
    g_assert_nonnull(strstr(o.error, fragment));
    g_assert_true(g_str_has_prefix(o.error, "main channel offset "));
    /* It stays broken, and says the same again. */
    g_clear_pointer(&o.error, g_free);
    feed(&o, more, 1);
    g_assert_nonnull(strstr(o.error, fragment));
}

static inline void assert_opaque(GByteArray *s, const char *fragment)
{
    g_auto(Outcome) o;
    unsigned n_events;
    const uint8_t more[] = { 0xff, 0xff, 0xff, 0xff };

    outcome_init(&o, s);
    g_assert_cmpstr(o.error, ==, NULL);
    g_assert_true(main_stream_is_opaque(o.stream));
    g_test_message("%s", main_stream_get_opaque_reason(o.stream));
    g_assert_nonnull(strstr(main_stream_get_opaque_reason(o.stream), fragment));
    g_assert_cmpint(o.events[o.n_events - 1].kind, ==, MAIN_EVENT_OPAQUE);
    n_events = o.n_events;
    feed(&o, more, sizeof(more));
    g_assert_cmpstr(o.error, ==, NULL);
    g_assert_cmpuint(o.n_events, ==, n_events);
}

#endif
