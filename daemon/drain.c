/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/drain.c - running, draining, over
 *
 * The service manager is told to be patient once a second, and each time only for
 * a while: if we hang, it will not wait for the whole limit.
 */
#include "daemon/drain.h"

#include "daemon/log.h"
#include "daemon/service.h"

enum {
    TICK_MS = 100,              /* how late the last migration's end is seen */
    TICKS_PER_STATUS = 10,
    PATIENCE_MS = 15 * 1000,
};

typedef enum { DRAIN_RUNNING, DRAIN_DRAINING, DRAIN_OVER } State;

struct Drain {
    Registry *registry;
    GMainLoop *loop;
    unsigned limit_ms;
    State state;
    int64_t deadline_us;        /* monotonic */
    unsigned ticks;
    guint timer;
};

Drain *drain_new(Registry *registry, GMainLoop *loop, unsigned limit_ms)
{
    Drain *self = g_new0(Drain, 1);

    self->registry = registry;
    self->loop = g_main_loop_ref(loop);
    self->limit_ms = limit_ms;
    return self;
}

void drain_free(Drain *self)
{
    if (!self) {
        return;
    }
    g_clear_handle_id(&self->timer, g_source_remove);
    g_main_loop_unref(self->loop);
    g_free(self);
}

void drain_set_limit(Drain *self, unsigned limit_ms)
{
    self->limit_ms = limit_ms;
}

bool drain_is_active(const Drain *self)
{
    return self->state != DRAIN_RUNNING;
}

void drain_end_now(Drain *self)
{
    unsigned running = registry_count_running(self->registry);

    if (self->state == DRAIN_OVER) {
        return;
    }
    self->state = DRAIN_OVER;
    g_clear_handle_id(&self->timer, g_source_remove);
    if (running > 0) {
        log_warning(LOG_ABOUT(LOG_EVENT_STOPPING), "stopping: cancelling the %u migrations that run",
                    running);
    }
    service_stopping();
    service_extend(PATIENCE_MS);
    g_main_loop_quit(self->loop);
}

static void tell_service(Drain *self, unsigned running, int64_t left_us)
{
    if (self->ticks++ % TICKS_PER_STATUS == 0) {
        service_extend(PATIENCE_MS);
        service_status("draining: %u migrations running, %d s left", running,
                       (int)(left_us / G_USEC_PER_SEC));
    }
}

static gboolean tick(void *data)
{
    Drain *self = data;
    int64_t left_us = self->deadline_us - g_get_monotonic_time();
    unsigned running = registry_count_running(self->registry);

    if (running > 0 && left_us > 0) {
        tell_service(self, running, left_us);
        return G_SOURCE_CONTINUE;
    }
    self->timer = 0;
    drain_end_now(self);
    return G_SOURCE_REMOVE;
}

void drain_begin(Drain *self)
{
    unsigned running = registry_count_running(self->registry);

    registry_refuse(self->registry);
    if (self->state != DRAIN_RUNNING || running == 0 || self->limit_ms == 0) {
        drain_end_now(self);
        return;
    }
    self->state = DRAIN_DRAINING;
    self->deadline_us = g_get_monotonic_time() + self->limit_ms * 1000LL;
    log_info(LOG_ABOUT(LOG_EVENT_STOPPING),
             "stopping: taking no new migration, waiting up to %u s for the %u that run; asked again, they are cancelled",
             self->limit_ms / 1000, running);
    service_stopping();
    tell_service(self, running, self->limit_ms * 1000LL);
    self->timer = g_timeout_add(TICK_MS, tick, self);
}
