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
    Daemon *daemon;
    Config *config;                 /* a reference: has the schedules */
    GArray *hands;                  /* those that have a schedule */
    guint timer;
};

static void clear_hand(void *data)
{
    Hand *hand = data;

    g_free(hand->name);
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

/* ---- the schedules -------------------------------------------------------------- */

static const Hand *find_hand(const GArray *hands, const char *name)
{
    for (unsigned i = 0; i < hands->len; i++) {
        const Hand *hand = &g_array_index(hands, Hand, i);

        if (strcmp(hand->name, name) == 0) {
            return hand;
        }
    }
    return NULL;
}

/* Its limiter is at what the schedule before has last said, or at @plain where that
 * is new.  Without a schedule now it is moved to @plain and left alone. */
static void add_hand(GArray *hands, const GArray *before, char *name,
                     Limiter *limiter, const RateSchedule *schedule,
                     uint64_t plain)
{
    const Hand *old = find_hand(before, name);
    uint64_t last = old && old->plain == plain ? old->last : plain;
    Hand hand = { name, limiter, schedule, plain, last };

    if (rate_schedule_get_count(schedule) > 0) {
        g_array_append_val(hands, hand);
        return;
    }
    if (last != plain) {
        limiter_set_rate(limiter, plain);
    }
    g_free(name);
}

static GArray *make_hands(RateClock *self, const GArray *before)
{
    GArray *hands = g_array_new(FALSE, FALSE, sizeof(Hand));
    const Config *config = self->config;

    g_array_set_clear_func(hands, clear_hand);
    add_hand(hands, before, g_strdup("daemon"), self->daemon->limiter,
             config->rate_schedule, config->rate);
    for (unsigned i = 0; i < config->peers->len; i++) {
        const ConfigPeer *peer = g_ptr_array_index(config->peers, i);

        add_hand(hands, before, g_strdup_printf("peer %s", peer->name),
                 daemon_get_limiter(self->daemon, peer), peer->rate_schedule,
                 peer->rate);
    }
    return hands;
}

void rate_clock_set_config(RateClock *self)
{
    g_autoptr(GArray) before = g_steal_pointer(&self->hands);
    g_autoptr(Config) old G_GNUC_UNUSED = g_steal_pointer(&self->config);

    self->config = daemon_ref_config(self->daemon);
    self->hands = make_hands(self, before);
    tick(self);
    g_clear_handle_id(&self->timer, g_source_remove);
    if (self->hands->len > 0) {
        self->timer = g_timeout_add_seconds(1, tick, self);
    }
}

RateClock *rate_clock_new(Daemon *daemon)
{
    RateClock *self = g_new0(RateClock, 1);

    self->daemon = daemon;
    self->hands = g_array_new(FALSE, FALSE, sizeof(Hand));
    rate_clock_set_config(self);
    return self;
}

void rate_clock_free(RateClock *self)
{
    if (self) {
        g_clear_handle_id(&self->timer, g_source_remove);
        g_array_unref(self->hands);
        config_unref(self->config);
        g_free(self);
    }
}
