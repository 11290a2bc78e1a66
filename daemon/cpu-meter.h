/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/cpu-meter.h - the processor time that the threads of a migration take
 *
 * Asked from the kernel's clock of each thread, so it costs nothing while data
 * flows.  Thread-safe; its lock is a leaf.  A NULL meter measures nothing.
 */
#ifndef DAEMON_CPU_METER_H
#define DAEMON_CPU_METER_H

#include <stdint.h>
#include <glib.h>

typedef struct CpuMeter CpuMeter;

CpuMeter *cpu_meter_new(void);
CpuMeter *cpu_meter_ref(CpuMeter *self);
void cpu_meter_unref(CpuMeter *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CpuMeter, cpu_meter_unref)

/* The calling thread's time counts between these two. */
void cpu_meter_enter(CpuMeter *self);
void cpu_meter_leave(CpuMeter *self);

/* User and system time of those that have left, and of those that have not. */
uint64_t cpu_meter_get_us(CpuMeter *self);

#endif
