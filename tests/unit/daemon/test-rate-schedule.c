/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "daemon/config.h"
#include "daemon/rate-clock.h"
#include "daemon/rate-schedule.h"

enum { MBIT = 1000 * 1000 / 8 };

static RateSchedule *make(const char *window, const char *rate)
{
    RateSchedule *schedule = NULL;
    g_autoptr(GError) error = NULL;
    bool ok = rate_schedule_add(&schedule, window, rate, &error);

    g_assert_no_error(error);
    g_assert_true(ok);
    return schedule;
}

static void assert_rate(const RateSchedule *schedule, unsigned hour,
                        unsigned minute, uint64_t mbit)
{
    g_assert_cmpuint(rate_schedule_get(schedule, hour * 60 + minute, 100 * MBIT),
                     ==, mbit * MBIT);
}

static void test_from_and_before(void)
{
    RateSchedule *schedule = make("08:30-17:00", "10mbit");

    assert_rate(schedule, 8, 29, 100);
    assert_rate(schedule, 8, 30, 10);
    assert_rate(schedule, 16, 59, 10);
    assert_rate(schedule, 17, 0, 100);
    rate_schedule_free(schedule);
    assert_rate(NULL, 12, 0, 100);
}

static void test_past_midnight(void)
{
    RateSchedule *schedule = make("22:00-06:00", "unlimited");

    assert_rate(schedule, 21, 59, 100);
    assert_rate(schedule, 22, 0, 0);
    assert_rate(schedule, 0, 0, 0);
    assert_rate(schedule, 5, 59, 0);
    assert_rate(schedule, 6, 0, 100);
    rate_schedule_free(schedule);
}

static void test_the_last_one_holds(void)
{
    RateSchedule *schedule = make("00:00-24:00", "50mbit");

    g_assert_true(rate_schedule_add(&schedule, "12:00-13:00", "5mbit", NULL));
    assert_rate(schedule, 11, 59, 50);
    assert_rate(schedule, 12, 0, 5);
    assert_rate(schedule, 23, 59, 50);
    rate_schedule_free(schedule);
}

static void test_refuses_what_is_no_window(void)
{
    static const char *const bad[] = {
        "", "22:00", "22:00-", "2:00-06:00", "22:00-6:00", "22:00-06:60",
        "24:01-06:00", "24:00-06:00", "06:00-06:00", "22-00-06-00",
        "22:00-06:00 ", "aa:bb-cc:dd", "-1:00-06:00",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        RateSchedule *schedule = NULL;
        g_autoptr(GError) error = NULL;

        g_assert_false(rate_schedule_add(&schedule, bad[i], "1gbit", &error));
        g_assert_nonnull(strstr(error->message, "expected a window such as"));
        g_assert_null(schedule);
    }
}

/* ---- in a configuration ------------------------------------------------------ */

static const char text[] =
    "[daemon]\nrate=1gbit\nrate@22:00-06:00=2gbit\nrate@00:00-01:00=unlimited\n"
    "[tls]\ndirectory=/etc/multiferry/tls\n"
    "[peer dc2]\naddress=dc2:4321\ncertificate-name=dc2\n"
    "rate@12:00-13:00=100mbit\n";

static void test_configuration_and_back(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = config_load_from_data(text, strlen(text), "f",
                                                     NULL, NULL, &error);
    g_autoptr(Config) again = NULL;
    g_autofree char *printed = NULL;

    g_assert_no_error(error);
    g_assert_cmpuint(rate_schedule_get_count(config->rate_schedule), ==, 2);
    printed = config_to_string(config);
    g_assert_nonnull(strstr(printed, "rate@22:00-06:00=2"));
    g_assert_nonnull(strstr(printed, "rate@12:00-13:00=100"));
    again = config_load_from_data(printed, strlen(printed), "g", NULL, NULL,
                                  &error);
    g_assert_no_error(error);
    g_assert_cmpuint(rate_schedule_get(again->rate_schedule, 23 * 60, 0), ==,
                     2000 * MBIT);
}

static void assert_config_refused(const char *bad, const char *message)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(config_load_from_data(bad, strlen(bad), "f", NULL, NULL,
                                        &error));
    g_assert_nonnull(strstr(error->message, message));
}

static void test_configuration_says_where(void)
{
    assert_config_refused("[daemon]\nrate@25:00-26:00=1gbit\n",
                          "[daemon] rate@25:00-26:00: got '25:00-26:00', "
                          "expected a window");
    assert_config_refused("[daemon]\nrate@22:00-06:00=fast\n",
                          "[daemon] rate@22:00-06:00: ");
    assert_config_refused("[daemon]\nrate@=1gbit\n", "expected a window");
}

static void test_clock_moves_limiters(void)
{
    g_autoptr(Config) config = config_load_from_data(text, strlen(text), "f",
                                                     NULL, NULL, NULL);
    Daemon daemon;
    RateClock *clock;

    daemon_init(&daemon, config);
    clock = rate_clock_new(&daemon);
    rate_clock_set_time(clock, 22 * 60);
    g_assert_cmpuint(limiter_get_rate(daemon.limiter), ==, 2000 * MBIT);
    rate_clock_set_time(clock, 0);
    g_assert_cmpuint(limiter_get_rate(daemon.limiter), ==, 0);
    rate_clock_set_time(clock, 12 * 60 + 30);
    g_assert_cmpuint(limiter_get_rate(daemon.limiter), ==, 1000 * MBIT);
    g_assert_cmpuint(limiter_get_rate(daemon_get_limiter(
        &daemon, g_ptr_array_index(config->peers, 0))), ==, 100 * MBIT);
    /* By hand: until the schedule's next change. */
    limiter_set_rate(daemon.limiter, 7 * MBIT);
    rate_clock_set_time(clock, 12 * 60 + 31);
    g_assert_cmpuint(limiter_get_rate(daemon.limiter), ==, 7 * MBIT);
    rate_clock_set_time(clock, 22 * 60);
    g_assert_cmpuint(limiter_get_rate(daemon.limiter), ==, 2000 * MBIT);
    rate_clock_free(clock);
    daemon_clear(&daemon);
}

/* What is set by hand stays, unless the file changes just that. */
static void test_reload_sets_what_has_changed(void)
{
    static const char head[] = "[tls]\ndirectory=/t\n";
    static const struct {
        const char *peer;       /* what dc2 says now */
        uint64_t by_hand, after;
    } steps[] = {
        { "rate=80mbit\n", 0, 80 * MBIT },
        { "rate=80mbit\nlanes=8\n", 7 * MBIT, 7 * MBIT },
        { "rate=90mbit\n", 7 * MBIT, 90 * MBIT },
        { "rate=90mbit\nrate@00:00-24:00=5mbit\n", 0, 5 * MBIT },
        { "rate=90mbit\nrate@00:00-24:00=5mbit\nlanes=8\n", 7 * MBIT, 7 * MBIT },
        { "rate=90mbit\nrate@00:00-24:00=6mbit\n", 0, 6 * MBIT },
        { "rate=90mbit\n", 0, 90 * MBIT },
        { "rate=90mbit\nrate@00:00-24:00=5mbit\n", 0, 5 * MBIT },
        { "rate=80mbit\n", 0, 80 * MBIT },
    };
    Daemon daemon;
    RateClock *clock = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autofree char *file = g_strconcat(
            head, "[peer dc2]\naddress=h:1\ncertificate-name=x\n",
            steps[i].peer, NULL);
        g_autoptr(GError) error = NULL;
        g_autoptr(Config) config = config_load_from_data(
            file, strlen(file), "f", NULL, NULL, &error);
        const ConfigPeer *peer;

        g_assert_no_error(error);
        peer = config_find_peer(config, "dc2");
        if (!clock) {
            daemon_init(&daemon, config);
            clock = rate_clock_new(&daemon);
        } else {
            if (steps[i].by_hand) {
                limiter_set_rate(daemon_get_limiter(&daemon, peer),
                                 steps[i].by_hand);
            }
            daemon_set_config(&daemon, config);
            rate_clock_set_config(clock);
        }
        g_assert_cmpuint(limiter_get_rate(daemon_get_limiter(&daemon, peer)),
                         ==, steps[i].after);
    }
    rate_clock_free(clock);
    daemon_clear(&daemon);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add_func("/daemon/rate-schedule/" name, function)
    ADD("from-and-before", test_from_and_before);
    ADD("past-midnight", test_past_midnight);
    ADD("the-last-one-holds", test_the_last_one_holds);
    ADD("refuses-what-is-no-window", test_refuses_what_is_no_window);
    ADD("configuration-and-back", test_configuration_and_back);
    ADD("configuration-says-where", test_configuration_says_where);
    ADD("clock-moves-limiters", test_clock_moves_limiters);
    ADD("reload-sets-what-has-changed", test_reload_sets_what_has_changed);
    return g_test_run();
}
