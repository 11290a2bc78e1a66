/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>

#include "daemon/convergence.h"

enum { MB = 1000 * 1000 };

typedef struct {
    Convergence convergence;
    ConvergenceSample sample;
    unsigned changes;
} Fixture;

static void begin(Fixture *self)
{
    *self = (Fixture) {
        .convergence.patience_us = 10 * G_USEC_PER_SEC,
        .sample = { .now_us = 1000 * G_USEC_PER_SEC, .passes = 1 },
    };
}

/* So many seconds with these rates, two samples each. */
static void pass_time(Fixture *self, unsigned seconds, uint64_t dirty_rate,
                      uint64_t sent_rate)
{
    for (unsigned i = 0; i < 2 * seconds; i++) {
        self->sample.now_us += G_USEC_PER_SEC / 2;
        self->sample.sent += sent_rate / 2;
        self->sample.dirty_rate = dirty_rate;
        self->changes += convergence_add(&self->convergence, &self->sample);
    }
}

static void test_the_first_pass_says_nothing(void)
{
    Fixture self;

    begin(&self);
    pass_time(&self, 60, 500 * MB, 10 * MB);
    g_assert_false(convergence_is_hopeless(&self.convergence));
    g_assert_cmpuint(self.changes, ==, 0);
}

static void test_says_so_once_after_patience(void)
{
    Fixture self;

    begin(&self);
    pass_time(&self, 5, 0, 10 * MB);
    self.sample.passes = 2;
    pass_time(&self, 9, 20 * MB, 10 * MB);
    g_assert_false(convergence_is_hopeless(&self.convergence));
    pass_time(&self, 3, 20 * MB, 10 * MB);
    g_assert_true(convergence_is_hopeless(&self.convergence));
    g_assert_cmpuint(self.convergence.rate, ==, 10 * MB);
    pass_time(&self, 60, 20 * MB, 10 * MB);
    g_assert_cmpuint(self.changes, ==, 1);
}

static void test_a_short_burst_is_nothing(void)
{
    Fixture self;

    begin(&self);
    self.sample.passes = 2;
    for (unsigned i = 0; i < 10; i++) {
        pass_time(&self, 8, 20 * MB, 10 * MB);
        pass_time(&self, 2, 5 * MB, 10 * MB);
    }
    g_assert_cmpuint(self.changes, ==, 0);
}

/* All of a working set is dirty again after each pass: both rates are equal. */
static void test_noise_does_not_hide_it(void)
{
    Fixture self;

    begin(&self);
    self.sample.passes = 2;
    for (unsigned i = 0; i < 10; i++) {
        pass_time(&self, 2, 10.5 * MB, 10 * MB);
        pass_time(&self, 2, 9 * MB, 10 * MB);
    }
    g_assert_true(convergence_is_hopeless(&self.convergence));
    g_assert_cmpuint(self.changes, ==, 1);
}

static void test_takes_it_back(void)
{
    Fixture self;

    begin(&self);
    self.sample.passes = 2;
    pass_time(&self, 20, 20 * MB, 10 * MB);
    g_assert_true(convergence_is_hopeless(&self.convergence));
    pass_time(&self, 20, 20 * MB, 100 * MB);
    g_assert_false(convergence_is_hopeless(&self.convergence));
    g_assert_cmpuint(self.changes, ==, 2);
}

/* A link that is down sends nothing: that is an outage, not a slow link. */
static void test_nothing_leaves(void)
{
    Fixture self;

    begin(&self);
    self.sample.passes = 2;
    pass_time(&self, 60, 20 * MB, 0);
    g_assert_false(convergence_is_hopeless(&self.convergence));
}

/* What was measured before an outage says nothing of what comes after it. */
static void test_an_outage_begins_anew(void)
{
    Fixture self;

    begin(&self);
    self.sample.passes = 2;
    for (unsigned i = 0; i < 10; i++) {
        pass_time(&self, 8, 20 * MB, 10 * MB);
        convergence_pause(&self.convergence);
        self.sample.now_us += 60 * G_USEC_PER_SEC;
    }
    g_assert_cmpuint(self.changes, ==, 0);
    pass_time(&self, 20, 20 * MB, 10 * MB);
    g_assert_true(convergence_is_hopeless(&self.convergence));
    convergence_pause(&self.convergence);
    g_assert_true(convergence_is_hopeless(&self.convergence));
}

static void test_policies_have_names(void)
{
    ConvergencePolicy policy = CONVERGENCE_CANCEL;

    g_assert_true(convergence_policy_parse("postcopy", &policy));
    g_assert_cmpint(policy, ==, CONVERGENCE_POSTCOPY);
    g_assert_cmpstr(convergence_policy_to_string(policy), ==, "postcopy");
    g_assert_false(convergence_policy_parse("Postcopy", &policy));
    g_assert_false(convergence_policy_parse("", &policy));
    g_assert_cmpint(policy, ==, CONVERGENCE_POSTCOPY);      /* left alone */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add_func("/daemon/convergence/" name, function)
    ADD("the-first-pass-says-nothing", test_the_first_pass_says_nothing);
    ADD("says-so-once-after-patience", test_says_so_once_after_patience);
    ADD("a-short-burst-is-nothing", test_a_short_burst_is_nothing);
    ADD("noise-does-not-hide-it", test_noise_does_not_hide_it);
    ADD("takes-it-back", test_takes_it_back);
    ADD("nothing-leaves", test_nothing_leaves);
    ADD("an-outage-begins-anew", test_an_outage_begins_anew);
    ADD("policies-have-names", test_policies_have_names);
    return g_test_run();
}
