/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/cpu-meter.h"

#include <pthread.h>
#include <time.h>

typedef struct {
    pthread_t thread;
    clockid_t clock;
    uint64_t before_us;         /* its time when it entered */
} Entry;

struct CpuMeter {
    gatomicrefcount refs;
    GMutex lock;                /* guards all below; a leaf */
    uint64_t done_us;           /* of threads that have left */
    GArray *entries;            /* of those that have not */
};

CpuMeter *cpu_meter_new(void)
{
    CpuMeter *self = g_new0(CpuMeter, 1);

    g_atomic_ref_count_init(&self->refs);
    g_mutex_init(&self->lock);
    self->entries = g_array_new(FALSE, FALSE, sizeof(Entry));
    return self;
}

CpuMeter *cpu_meter_ref(CpuMeter *self)
{
    if (self) {
        g_atomic_ref_count_inc(&self->refs);
    }
    return self;
}

void cpu_meter_unref(CpuMeter *self)
{
    if (self && g_atomic_ref_count_dec(&self->refs)) {
        g_array_unref(self->entries);
        g_mutex_clear(&self->lock);
        g_free(self);
    }
}

static uint64_t read_us(clockid_t clock)
{
    struct timespec t;

    /* It cannot fail: who has an entry has not ended. */
    if (clock_gettime(clock, &t) != 0) {
        return 0;
    }
    return (uint64_t)t.tv_sec * G_USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

void cpu_meter_enter(CpuMeter *self)
{
    Entry entry = { .thread = pthread_self() };

    if (!self || pthread_getcpuclockid(entry.thread, &entry.clock) != 0) {
        return;
    }
    entry.before_us = read_us(CLOCK_THREAD_CPUTIME_ID);
    g_mutex_lock(&self->lock);
    g_array_append_val(self->entries, entry);
    g_mutex_unlock(&self->lock);
}

void cpu_meter_leave(CpuMeter *self)
{
    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    for (unsigned i = 0; i < self->entries->len; i++) {
        const Entry *entry = &g_array_index(self->entries, Entry, i);

        if (pthread_equal(entry->thread, pthread_self())) {
            self->done_us += read_us(CLOCK_THREAD_CPUTIME_ID) -
                             entry->before_us;
            g_array_remove_index_fast(self->entries, i);
            break;
        }
    }
    g_mutex_unlock(&self->lock);
}

uint64_t cpu_meter_get_us(CpuMeter *self)
{
    uint64_t us;

    if (!self) {
        return 0;
    }
    g_mutex_lock(&self->lock);
    us = self->done_us;
    for (unsigned i = 0; i < self->entries->len; i++) {
        const Entry *entry = &g_array_index(self->entries, Entry, i);

        us += read_us(entry->clock) - entry->before_us;
    }
    g_mutex_unlock(&self->lock);
    return us;
}
