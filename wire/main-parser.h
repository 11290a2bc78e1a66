/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/main-parser.h - the byte machinery under main-stream.c, for it alone
 *
 * Theory of operation.  A stream is read in units: a parser names how many
 * bytes it needs next (expect), is called when they are all there (a "step"),
 * looks at them and names the next unit.  Between two units any number of bytes
 * can be skipped unseen.  So nothing depends on how the bytes were cut, and the
 * memory needed is one unit.
 *
 * A step emits at most one event.  Where the byte that ends one thing belongs
 * to the next (a subsection's absence shows in the next section's type), the
 * step emits the event, gives the byte back (unget) and sees it again.
 */
#ifndef WIRE_MAIN_PARSER_H
#define WIRE_MAIN_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>
#include "wire/main-stream.h"

enum { MAIN_UNIT_MAX = 256 };   /* the longest name, and to spare */

typedef struct {
    uint64_t pos;           /* bytes of the stream looked at */
    uint64_t limit;         /* no unit may end beyond: a package's end */
    uint64_t skip;          /* bytes to pass before the next unit */
    uint8_t unit[MAIN_UNIT_MAX];
    size_t have, want;      /* of unit */

    bool has_event;
    MainEvent event;

    bool guessing;          /* a length was assumed: a contradiction may be ours */
    char *opaque_reason;    /* not NULL: opaque */
    GError *error;          /* not NULL: broken */
} MainParser;

void main_parser_init(MainParser *self);
void main_parser_clear(MainParser *self);

/* The next unit has @size bytes, 1 to MAIN_UNIT_MAX. */
void main_parser_expect(MainParser *self, size_t size);
/* The present unit goes on up to @size bytes. */
void main_parser_expect_more(MainParser *self, size_t size);
/* Pass @bytes before the next unit. */
void main_parser_skip(MainParser *self, uint64_t bytes);
/* Give back the unit's last byte: the step will be called with it again. */
void main_parser_unget(MainParser *self);
/* Where the present unit began. */
uint64_t main_parser_unit_offset(const MainParser *self);

void main_parser_emit(MainParser *self, MainEventKind kind, uint64_t offset);

/*
 * The stream contradicts itself at the present unit.  Returns what the step is
 * to return: false, or true where a length was assumed, which turns it opaque.
 */
bool main_parser_fail(MainParser *self, const char *format, ...)
    G_GNUC_PRINTF(2, 3);
/* The stream cannot be followed beyond the present unit's begin. */
bool main_parser_stop(MainParser *self, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

/* Take bytes into skip or the unit; returns how many, 0 only for @len 0. */
size_t main_parser_take(MainParser *self, const uint8_t *buf, size_t len);
bool main_parser_unit_ready(const MainParser *self);

#endif
