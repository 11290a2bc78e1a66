/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/rate-clock.h"

#include "daemon/log.h"
#include "daemon/units.h"

typedef struct {
    char *name;                     /* for the log */
    Limiter *limiter;               /* lent */
    const RateSchedule *schedule;   /* the configuration's */
    uint64_t plain;
    uint64_t last;                  /* what the schedule said */
} Hand;

struct RateClock {
    GArray *hands;                  /* those that have a schedule */
    guint timer;
};

static void clear_hand(void *data)
{
    Hand *hand = data;

    g_free(hand->name);
}

static void add_hand(RateClock *self, char *name, Limiter *limiter,
                     const RateSchedule *schedule, uint64_t plain)
{
    Hand hand = { name, limiter, schedule, plain, plain };

    if (rate_schedule_get_count(schedule) > 0) {
        g_array_append_val(self->hands, hand);
    } else {
        g_free(name);
    }
}

static void move_hand(Hand *self, unsigned minute)
{
    uint64_t rate = rate_schedule_get(self->schedule, minute, self->plain);
    g_autofree char *text = NULL;

    if (rate == self->last) {
        return;
    }
    self->last = rate;
    limiter_set_rate(self->limiter, rate);
    text = units_encode_rate(rate);
    log_info(NULL, "%s: the rate is %s from now on, by schedule", self->name,
             text);
}

void rate_clock_set_time(RateClock *self, unsigned minute)
{
    for (unsigned i = 0; i < self->hands->len; i++) {
        move_hand(&g_array_index(self->hands, Hand, i), minute);
    }
}

static gboolean tick(void *data)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();

    rate_clock_set_time(data, g_date_time_get_hour(now) * 60 +
                              g_date_time_get_minute(now));
    return G_SOURCE_CONTINUE;
}

RateClock *rate_clock_new(const Daemon *daemon)
{
    RateClock *self = g_new0(RateClock, 1);
    const Config *config = daemon->config;

    self->hands = g_array_new(FALSE, FALSE, sizeof(Hand));
    g_array_set_clear_func(self->hands, clear_hand);
    add_hand(self, g_strdup("daemon"), daemon->limiter, config->rate_schedule,
             config->rate);
    for (unsigned i = 0; i < config->peers->len; i++) {
        const ConfigPeer *peer = g_ptr_array_index(config->peers, i);

        add_hand(self, g_strdup_printf("peer %s", peer->name),
                 daemon_get_limiter(daemon, peer), peer->rate_schedule,
                 peer->rate);
    }
    tick(self);
    if (self->hands->len > 0) {
        self->timer = g_timeout_add_seconds(1, tick, self);
    }
    return self;
}

void rate_clock_free(RateClock *self)
{
    if (self) {
        if (self->timer) {
            g_source_remove(self->timer);
        }
        g_array_unref(self->hands);
        g_free(self);
    }
}
