/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/drain.h - the daemon's end: nothing new, and patience with what runs
 *
 * Ends the main loop; what is left then is for whoever runs it to cancel.
 * Listeners stay open meanwhile, for the lanes of running migrations.  Main
 * thread only.
 */
#ifndef DAEMON_DRAIN_H
#define DAEMON_DRAIN_H

#include "daemon/registry.h"

typedef struct Drain Drain;

/* @loop is ended; @limit_ms: how long running migrations may take, 0: not at all. */
Drain *drain_new(Registry *registry, GMainLoop *loop, unsigned limit_ms);
void drain_free(Drain *self);

/* The first time: refuse new migrations, and end the loop when none runs any
 * more or the limit is over.  The second time: at once. */
void drain_begin(Drain *self);
/* At once, whether it has begun or not. */
void drain_end_now(Drain *self);

/* Of the next drain_begin(). */
void drain_set_limit(Drain *self, unsigned limit_ms);

/* It has begun. */
bool drain_is_active(const Drain *self);

#endif
