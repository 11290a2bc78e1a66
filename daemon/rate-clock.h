/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/rate-clock.h - sets the limiters of daemon and peers by the time of day
 *
 * Looks every second, on the main loop.  A rate set by hand (set-rate-limit) holds
 * until the schedule's next change.
 */
#ifndef DAEMON_RATE_CLOCK_H
#define DAEMON_RATE_CLOCK_H

#include "daemon/daemon.h"

typedef struct RateClock RateClock;

/* Sets what holds now.  @daemon must outlive it. */
RateClock *rate_clock_new(Daemon *daemon);
/* After daemon_set_config(): by the daemon's schedules as they are now. */
void rate_clock_set_config(RateClock *self);
void rate_clock_free(RateClock *self);

/* As the timer does, at this minute of the day. */
void rate_clock_set_time(RateClock *self, unsigned minute);

#endif
