/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/rate-schedule.h"

#include <string.h>
#include "daemon/config-value.h"
#include "daemon/units.h"

enum { MINUTES_PER_DAY = 24 * 60, WINDOWS_MAX = 64 };

typedef struct {
    unsigned from, to;      /* minutes of the day; to may be MINUTES_PER_DAY */
    uint64_t rate;          /* bytes/s; 0: unlimited */
} Window;

struct RateSchedule {
    unsigned n;
    Window windows[WINDOWS_MAX];
};

void rate_schedule_free(RateSchedule *self)
{
    g_free(self);
}

/* "HH:MM", exactly. */
static bool parse_time(const char *text, unsigned *ret)
{
    unsigned hours, minutes;

    for (unsigned i = 0; i < 5; i++) {
        if (i == 2 ? text[i] != ':' : !g_ascii_isdigit(text[i])) {
            return false;
        }
    }
    hours = (text[0] - '0') * 10 + (text[1] - '0');
    minutes = (text[3] - '0') * 10 + (text[4] - '0');
    *ret = hours * 60 + minutes;
    return minutes < 60 && *ret <= MINUTES_PER_DAY;
}

static bool parse_window(const char *text, Window *ret, GError **error)
{
    if (strlen(text) != 11 || !parse_time(text, &ret->from) || text[5] != '-' ||
        !parse_time(text + 6, &ret->to) || ret->from == ret->to ||
        ret->from == MINUTES_PER_DAY) {
        g_autofree char *shown = g_strescape(text, NULL);

        return config_value_fail(error, "got '%.40s', expected a window such as "
                                 "22:00-06:00, from 00:00 to 24:00", shown);
    }
    return true;
}

bool rate_schedule_add(RateSchedule **self, const char *window,
                       const char *rate, GError **error)
{
    Window parsed;

    if (!parse_window(window, &parsed, error) ||
        !units_parse_rate(rate, &parsed.rate, error)) {
        return false;
    }
    if (*self && (*self)->n == WINDOWS_MAX) {
        return config_value_fail(error, "got one window more, expected at most "
                                 "%d", WINDOWS_MAX);
    }
    if (!*self) {
        *self = g_new0(RateSchedule, 1);
    }
    (*self)->windows[(*self)->n++] = parsed;
    return true;
}

static bool holds(const Window *window, unsigned minute)
{
    return window->from < window->to
           ? minute >= window->from && minute < window->to
           : minute >= window->from || minute < window->to;
}

uint64_t rate_schedule_get(const RateSchedule *self, unsigned minute,
                           uint64_t plain)
{
    for (unsigned i = self ? self->n : 0; i > 0; i--) {
        if (holds(&self->windows[i - 1], minute)) {
            return self->windows[i - 1].rate;
        }
    }
    return plain;
}

unsigned rate_schedule_get_count(const RateSchedule *self)
{
    return self ? self->n : 0;
}

void rate_schedule_describe(const RateSchedule *self, unsigned index,
                            char **ret_window, char **ret_rate)
{
    const Window *window = &self->windows[index];

    *ret_window = g_strdup_printf("%02u:%02u-%02u:%02u", window->from / 60,
                                  window->from % 60, window->to / 60,
                                  window->to % 60);
    *ret_rate = units_encode_rate(window->rate);
}
