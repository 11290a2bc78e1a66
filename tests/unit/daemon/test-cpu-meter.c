/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The processor time of threads that run, that have ended, and that do not count. */
#include <stdbool.h>
#include <time.h>
#include "daemon/cpu-meter.h"

enum { WORK_US = 20000 };

typedef struct {
    CpuMeter *meter;
    GMutex lock;
    GCond changed;
    bool worked, may_end;
} Fixture;

static uint64_t own_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * G_USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

/* By the thread's own clock: however busy the machine is. */
static void work(void)
{
    uint64_t until_us = own_us() + WORK_US;

    while (own_us() < until_us) {
    }
}

/* What a thread did before it worked for the migration is none of its cost. */
static void test_counts_between_enter_and_leave(void)
{
    g_autoptr(CpuMeter) meter = cpu_meter_new();

    work();
    cpu_meter_enter(meter);
    cpu_meter_leave(meter);
    g_assert_cmpuint(cpu_meter_get_us(meter), <, WORK_US);
    cpu_meter_enter(meter);
    work();
    cpu_meter_leave(meter);
    g_assert_cmpuint(cpu_meter_get_us(meter), >=, WORK_US);
    g_assert_cmpuint(cpu_meter_get_us(meter), <, 2 * WORK_US);
}

static void *work_and_wait(void *data)
{
    Fixture *self = data;

    cpu_meter_enter(self->meter);
    work();
    g_mutex_lock(&self->lock);
    self->worked = true;
    g_cond_broadcast(&self->changed);
    while (!self->may_end) {
        g_cond_wait(&self->changed, &self->lock);
    }
    g_mutex_unlock(&self->lock);
    cpu_meter_leave(self->meter);
    return NULL;
}

/* A long migration is looked at while it runs, and a sum must not fall at its end. */
static void test_counts_threads_that_run(void)
{
    Fixture self = { .meter = cpu_meter_new() };
    GThread *thread;
    uint64_t running_us;

    g_mutex_init(&self.lock);
    g_cond_init(&self.changed);
    thread = g_thread_new("worker", work_and_wait, &self);
    g_mutex_lock(&self.lock);
    while (!self.worked) {
        g_cond_wait(&self.changed, &self.lock);
    }
    g_mutex_unlock(&self.lock);
    running_us = cpu_meter_get_us(self.meter);
    g_assert_cmpuint(running_us, >=, WORK_US);
    g_mutex_lock(&self.lock);
    self.may_end = true;
    g_cond_broadcast(&self.changed);
    g_mutex_unlock(&self.lock);
    g_thread_join(thread);
    g_assert_cmpuint(cpu_meter_get_us(self.meter), >=, running_us);
    cpu_meter_unref(self.meter);
    g_cond_clear(&self.changed);
    g_mutex_clear(&self.lock);
}

/* Where nobody wants to know. */
static void test_null_meter_measures_nothing(void)
{
    cpu_meter_enter(NULL);
    cpu_meter_leave(NULL);
    g_assert_cmpuint(cpu_meter_get_us(NULL), ==, 0);
    cpu_meter_unref(cpu_meter_ref(NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/cpu-meter/" path, func)
    ADD("counts-between-enter-and-leave", test_counts_between_enter_and_leave);
    ADD("counts-threads-that-run", test_counts_threads_that_run);
    ADD("null-measures-nothing", test_null_meter_measures_nothing);
    return g_test_run();
}
