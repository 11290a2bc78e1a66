/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/rate-schedule.h - rates by time of day
 *
 * "rate@22:00-06:00=2gbit": from 22:00 on, and before 06:00, in local time.
 * Where windows overlap the one that was added last holds; outside of all, the
 * plain rate.
 */
#ifndef DAEMON_RATE_SCHEDULE_H
#define DAEMON_RATE_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct RateSchedule RateSchedule;

void rate_schedule_free(RateSchedule *self);

/*
 * @window "HH:MM-HH:MM", 00:00 to 24:00, not empty; may go past midnight.  @self
 * (a NULL one is made) is left alone on error.
 */
bool rate_schedule_add(RateSchedule **self, const char *window,
                       const char *rate, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* Bytes per second at @minute of the day; @plain where no window holds.  @self
 * may be NULL. */
uint64_t rate_schedule_get(const RateSchedule *self, unsigned minute,
                           uint64_t plain);

unsigned rate_schedule_get_count(const RateSchedule *self);
/* Both as rate_schedule_add() takes them; g_free() them. */
void rate_schedule_describe(const RateSchedule *self, unsigned index,
                            char **ret_window, char **ret_rate);

#endif
