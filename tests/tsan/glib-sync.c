/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tests/tsan/glib-sync.c - GLib's locks in a form that ThreadSanitizer sees
 *
 * GLib's mutexes are futexes in a library that is not instrumented: TSan would
 * call everything that they guard a race.  Linked into the programs with
 * SAN=thread only, these definitions come before the library's own: the same
 * functions on pthreads, which TSan knows.  What else carries an order between
 * threads inside GLib (queues, reference counts, idle sources) is passed on to
 * GLib, and told to TSan.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <glib-object.h>
#include <pthread.h>
#include <sanitizer/tsan_interface.h>

static void check(int result)
{
    if (result != 0) {
        g_error("pthread: %s", g_strerror(result));
    }
}

/* ---- GMutex -------------------------------------------------------------- */

/* All zeroes is a usable mutex, so it may have to be made at its first use. */
static pthread_mutex_t *get_mutex(GMutex *mutex)
{
    pthread_mutex_t *made, *seen = __atomic_load_n((pthread_mutex_t **)&mutex->p,
                                                   __ATOMIC_ACQUIRE);

    if (seen) {
        return seen;
    }
    made = g_new(pthread_mutex_t, 1);
    check(pthread_mutex_init(made, NULL));
    if (__atomic_compare_exchange_n((pthread_mutex_t **)&mutex->p, &seen, made,
                                    false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        return made;
    }
    pthread_mutex_destroy(made);
    g_free(made);
    return seen;
}

void g_mutex_init(GMutex *mutex)
{
    mutex->p = NULL;
}

void g_mutex_clear(GMutex *mutex)
{
    if (mutex->p) {
        check(pthread_mutex_destroy(mutex->p));
        g_free(g_steal_pointer(&mutex->p));
    }
}

void (g_mutex_lock)(GMutex *mutex)
{
    check(pthread_mutex_lock(get_mutex(mutex)));
}

void (g_mutex_unlock)(GMutex *mutex)
{
    check(pthread_mutex_unlock(get_mutex(mutex)));
}

gboolean (g_mutex_trylock)(GMutex *mutex)
{
    return pthread_mutex_trylock(get_mutex(mutex)) == 0;
}

/* ---- GCond --------------------------------------------------------------- */

static pthread_cond_t *make_cond(void)
{
    pthread_cond_t *made = g_new(pthread_cond_t, 1);
    pthread_condattr_t attributes;

    check(pthread_condattr_init(&attributes));
    check(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC));
    check(pthread_cond_init(made, &attributes));
    pthread_condattr_destroy(&attributes);
    return made;
}

static pthread_cond_t *get_cond(GCond *cond)
{
    pthread_cond_t *made, *seen = __atomic_load_n((pthread_cond_t **)&cond->p,
                                                  __ATOMIC_ACQUIRE);

    if (seen) {
        return seen;
    }
    made = make_cond();
    if (__atomic_compare_exchange_n((pthread_cond_t **)&cond->p, &seen, made,
                                    false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        return made;
    }
    pthread_cond_destroy(made);
    g_free(made);
    return seen;
}

void g_cond_init(GCond *cond)
{
    cond->p = NULL;
}

void g_cond_clear(GCond *cond)
{
    if (cond->p) {
        check(pthread_cond_destroy(cond->p));
        g_free(g_steal_pointer(&cond->p));
    }
}

void g_cond_wait(GCond *cond, GMutex *mutex)
{
    check(pthread_cond_wait(get_cond(cond), get_mutex(mutex)));
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
    struct timespec until = { end_time / G_USEC_PER_SEC,
                              end_time % G_USEC_PER_SEC * 1000 };
    int result = pthread_cond_timedwait(get_cond(cond), get_mutex(mutex),
                                        &until);

    if (result != ETIMEDOUT) {
        check(result);
    }
    return result == 0;
}

void g_cond_signal(GCond *cond)
{
    check(pthread_cond_signal(get_cond(cond)));
}

void g_cond_broadcast(GCond *cond)
{
    check(pthread_cond_broadcast(get_cond(cond)));
}

/* ---- once ------------------------------------------------------------------ */

static pthread_mutex_t once_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t once_changed = PTHREAD_COND_INITIALIZER;
static GSList *once_busy;           /* locations that a thread initialises */

gboolean (g_once_init_enter)(volatile void *location)
{
    volatile gsize *value = location;
    bool ours;

    check(pthread_mutex_lock(&once_lock));
    while (g_slist_find(once_busy, (void *)location)) {
        check(pthread_cond_wait(&once_changed, &once_lock));
    }
    ours = __atomic_load_n(value, __ATOMIC_ACQUIRE) == 0;
    if (ours) {
        once_busy = g_slist_prepend(once_busy, (void *)location);
    }
    check(pthread_mutex_unlock(&once_lock));
    return ours;
}

void (g_once_init_leave)(volatile void *location, gsize result)
{
    check(pthread_mutex_lock(&once_lock));
    __atomic_store_n((volatile gsize *)location, result, __ATOMIC_RELEASE);
    once_busy = g_slist_remove(once_busy, (void *)location);
    check(pthread_cond_broadcast(&once_changed));
    check(pthread_mutex_unlock(&once_lock));
}

/* ---- what stays GLib's --------------------------------------------------- */

#define REAL(name) ((__typeof__(&(name)))real(#name))

static void *real(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    if (!function) {
        g_error("%s", dlerror());
    }
    return function;
}

void g_async_queue_push(GAsyncQueue *queue, gpointer data)
{
    __tsan_release(queue);
    REAL(g_async_queue_push)(queue, data);
}

gpointer g_async_queue_timeout_pop(GAsyncQueue *queue, guint64 timeout)
{
    gpointer data = REAL(g_async_queue_timeout_pop)(queue, timeout);

    __tsan_acquire(queue);
    return data;
}

void g_async_queue_unref(GAsyncQueue *queue)
{
    __tsan_release(queue);
    __tsan_acquire(queue);
    REAL(g_async_queue_unref)(queue);
}

gboolean (g_atomic_ref_count_dec)(gatomicrefcount *count)
{
    gboolean last;

    __tsan_release(count);
    last = REAL(g_atomic_ref_count_dec)(count);
    if (last) {
        __tsan_acquire(count);
    }
    return last;
}

void (g_object_unref)(gpointer object)
{
    __tsan_release(object);
    __tsan_acquire(object);
    REAL(g_object_unref)(object);
}

void g_bytes_unref(GBytes *bytes)
{
    if (bytes) {
        __tsan_release(bytes);
        __tsan_acquire(bytes);
        REAL(g_bytes_unref)(bytes);
    }
}

/* ---- idle sources: work handed to the thread of a main loop ---------------- */

typedef struct {
    GSourceFunc func;
    gpointer data;
    GDestroyNotify notify;
} Errand;

/* Made by this thread, and without a callback yet. */
static __thread GSource *new_idle;

static gboolean run_errand(gpointer data)
{
    Errand *errand = data;

    __tsan_acquire(errand);
    return errand->func(errand->data);
}

static void free_errand(gpointer data)
{
    Errand *errand = data;

    __tsan_acquire(errand);
    if (errand->notify) {
        errand->notify(errand->data);
    }
    g_free(errand);
}

static Errand *new_errand(GSourceFunc func, gpointer data, GDestroyNotify notify)
{
    Errand *errand = g_new(Errand, 1);

    *errand = (Errand) { func, data, notify };
    __tsan_release(errand);
    return errand;
}

GSource *g_idle_source_new(void)
{
    new_idle = REAL(g_idle_source_new)();
    return new_idle;
}

void g_source_set_callback(GSource *source, GSourceFunc func, gpointer data,
                           GDestroyNotify notify)
{
    if (source == new_idle) {
        data = new_errand(func, data, notify);
        func = run_errand;
        notify = free_errand;
    }
    new_idle = NULL;
    REAL(g_source_set_callback)(source, func, data, notify);
}

guint (g_idle_add_full)(gint priority, GSourceFunc func, gpointer data,
                        GDestroyNotify notify)
{
    return REAL(g_idle_add_full)(priority, run_errand,
                                 new_errand(func, data, notify), free_errand);
}
