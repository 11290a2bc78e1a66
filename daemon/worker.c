/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/worker.h"

#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct {
    GThreadFunc func;
    void *data;
    CpuMeter *meter;            /* a reference; may be NULL */
} Start;

/* One that waits for its turn. */
typedef struct {
    GList link;
    bool granted;
    GCond changed;
} Turn;

static GMutex lock;             /* guards all below; a leaf */
static unsigned niceness;
static unsigned threads;        /* 0: no limit */
static unsigned computing;      /* above threads only after that was lowered */
static GQueue turns = G_QUEUE_INIT;

static bool has_place(void)
{
    return threads == 0 || computing < threads;
}

/* Places go to who waits longest. */
static void grant_locked(void)
{
    while (has_place() && !g_queue_is_empty(&turns)) {
        Turn *turn = g_queue_pop_head_link(&turns)->data;

        computing++;
        turn->granted = true;
        g_cond_signal(&turn->changed);
    }
}

void worker_set_limits(unsigned nice, unsigned n_threads)
{
    g_mutex_lock(&lock);
    niceness = nice;
    threads = n_threads;
    grant_locked();
    g_mutex_unlock(&lock);
}

static int get_niceness(void)
{
    int nice;

    g_mutex_lock(&lock);
    nice = (int)niceness;
    g_mutex_unlock(&lock);
    return nice;
}

/* A thread's own: to the kernel a thread is what a process is to POSIX.  Never less
 * than it has, which only root could do. */
static void be_nice(void)
{
    id_t self = (id_t)gettid();
    int nice = get_niceness();

    if (nice > 0 && getpriority(PRIO_PROCESS, self) < nice) {
        (void)setpriority(PRIO_PROCESS, self, nice);
    }
}

static void *worker_thread(void *data)
{
    Start *start = data;
    void *ret;

    be_nice();
    cpu_meter_enter(start->meter);
    ret = start->func(start->data);
    cpu_meter_leave(start->meter);
    cpu_meter_unref(start->meter);
    g_free(start);
    return ret;
}

GThread *worker_new(const char *name, GThreadFunc func, void *data,
                    CpuMeter *meter, GError **error)
{
    Start *start = g_new(Start, 1);
    GThread *thread;

    *start = (Start) { func, data, cpu_meter_ref(meter) };
    thread = error ? g_thread_try_new(name, worker_thread, start, error)
                   : g_thread_new(name, worker_thread, start);
    if (!thread) {
        cpu_meter_unref(start->meter);
        g_free(start);
    }
    return thread;
}

static void wait_turn_locked(void)
{
    Turn turn = { .granted = false };

    turn.link.data = &turn;
    g_cond_init(&turn.changed);
    g_queue_push_tail_link(&turns, &turn.link);
    while (!turn.granted) {
        g_cond_wait(&turn.changed, &lock);
    }
    g_cond_clear(&turn.changed);
}

void worker_begin_computing(void)
{
    g_mutex_lock(&lock);
    if (has_place()) {
        computing++;
    } else {
        wait_turn_locked();
    }
    g_mutex_unlock(&lock);
}

void worker_end_computing(void)
{
    g_mutex_lock(&lock);
    computing--;
    grant_locked();
    g_mutex_unlock(&lock);
}
