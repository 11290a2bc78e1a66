/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <string.h>

#include "wire/error.h"
#include "wire/main-parser.h"

void main_parser_init(MainParser *self)
{
    *self = (MainParser) { .limit = UINT64_MAX };
}

void main_parser_clear(MainParser *self)
{
    g_clear_pointer(&self->opaque_reason, g_free);
    g_clear_error(&self->error);
}

void main_parser_expect(MainParser *self, size_t size)
{
    g_assert(size > 0 && size <= MAIN_UNIT_MAX);
    self->have = 0;
    self->want = size;
}

void main_parser_expect_more(MainParser *self, size_t size)
{
    g_assert(size > self->have && size <= MAIN_UNIT_MAX);
    self->want = size;
}

void main_parser_skip(MainParser *self, uint64_t bytes)
{
    self->skip = bytes;
}

void main_parser_unget(MainParser *self)
{
    g_assert(self->have == self->want && self->has_event);
    self->have--;
    self->pos--;
}

uint64_t main_parser_unit_offset(const MainParser *self)
{
    return self->pos - self->have;
}

void main_parser_emit(MainParser *self, MainEventKind kind, uint64_t offset)
{
    g_assert(!self->has_event);
    self->has_event = true;
    self->event = (MainEvent) { .kind = kind, .offset = offset };
}

bool main_parser_fail(MainParser *self, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    if (self->guessing) {
        return main_parser_stop(self, "%s, with a page size that was assumed",
                                text);
    }
    self->error = g_error_new(WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                              "main channel offset %" PRIu64 ": %s",
                              main_parser_unit_offset(self), text);
    return false;
}

bool main_parser_stop(MainParser *self, const char *format, ...)
{
    uint64_t offset = main_parser_unit_offset(self);
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    self->opaque_reason = g_strdup_printf("offset %" PRIu64 ": %s", offset,
                                          text);
    self->has_event = true;
    self->event = (MainEvent) { .kind = MAIN_EVENT_OPAQUE, .offset = offset };
    return true;
}

size_t main_parser_take(MainParser *self, const uint8_t *buf, size_t len)
{
    size_t n;

    if (self->skip > 0) {
        n = MIN(self->skip, len);
        self->skip -= n;
    } else {
        n = MIN(self->want - self->have, len);
        memcpy(self->unit + self->have, buf, n);
        self->have += n;
    }
    self->pos += n;
    return n;
}

bool main_parser_unit_ready(const MainParser *self)
{
    return self->skip == 0 && self->have == self->want;
}
