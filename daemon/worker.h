/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/worker.h - threads that carry data: what they may take of the processors
 *
 * They run at [daemon] nice, so that the threads that command them do not wait for
 * them, and of what is nothing but computing (packing and unpacking pages) no more
 * than [daemon] threads at once do it, whatever the number of channels, lanes and
 * migrations.  The rest is for the service manager: CPUQuota=, CPUWeight=.
 *
 * The two limits are the process's own.  Thread-safe.
 */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include <glib.h>
#include "daemon/cpu-meter.h"

/* @nice: 0 to 19, of workers that are started from now on; 0 leaves it as it is.
 * @threads: 0 for as many as there are. */
void worker_set_limits(unsigned nice, unsigned threads);

/* As g_thread_try_new(), or with @error NULL as g_thread_new().  The time that it
 * takes counts in @meter, which may be NULL. */
GThread *worker_new(const char *name, GThreadFunc func, void *data,
                    CpuMeter *meter, GError **error);

/*
 * Around computing, in which nothing waits for I/O or a lock that is held for long.
 * Waits for its turn, first come first served.
 */
void worker_begin_computing(void);
void worker_end_computing(void);

#endif
