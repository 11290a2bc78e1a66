/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/convergence.h"

#include <assert.h>
#include <string.h>

static const char *const policies[] = {
    [CONVERGENCE_CONTINUE] = "continue",
    [CONVERGENCE_CANCEL] = "cancel",
    [CONVERGENCE_THROTTLE] = "throttle",
    [CONVERGENCE_POSTCOPY] = "postcopy",
};
enum { N_POLICIES = sizeof(policies) / sizeof(policies[0]) };
static_assert(N_POLICIES == CONVERGENCE_POSTCOPY + 1, "a policy has no name");

const char *convergence_policy_to_string(ConvergencePolicy policy)
{
    return policies[policy];
}

bool convergence_policy_parse(const char *text, ConvergencePolicy *ret)
{
    for (unsigned i = 0; i < N_POLICIES; i++) {
        if (strcmp(text, policies[i]) == 0) {
            *ret = (ConvergencePolicy)i;
            return true;
        }
    }
    return false;
}

static const int64_t WINDOW_US = 3 * 1000 * 1000;   /* to measure the rate over */
static const int64_t RECOVERY_US = 5 * 1000 * 1000; /* of being fast enough */

/*
 * Of what leaves, the guest may dirty this much at most, per cent.  Where both
 * are equal it never ends; a little less takes for ever in practice.  And equal
 * they become: once all that a guest writes to is dirty again before a pass is
 * over, QEMU counts each page once a pass.  Two numbers about each other, so what
 * was bad is forgotten only where it is better by more than their noise.
 */
enum { BAD_PERCENT = 95, NOT_BAD_PERCENT = 85, GOOD_PERCENT = 80 };

static void measure(Convergence *self, const ConvergenceSample *sample)
{
    int64_t elapsed_us = sample->now_us - self->window_us;

    if (self->window_us == 0 || sample->sent < self->window_sent) {
        self->window_us = sample->now_us;
        self->window_sent = sample->sent;
        return;
    }
    if (elapsed_us >= WINDOW_US) {
        self->rate = (sample->sent - self->window_sent) * 1000000.0 /
                     elapsed_us;
        self->window_us = sample->now_us;
        self->window_sent = sample->sent;
    }
}

static bool is_above(const ConvergenceSample *sample, uint64_t rate,
                     unsigned percent)
{
    return sample->dirty_rate * 100.0 > (double)rate * percent;
}

static void note_since(int64_t *since_us, bool is_so, bool is_not,
                       int64_t now_us)
{
    if (is_not) {
        *since_us = 0;
    } else if (is_so && *since_us == 0) {
        *since_us = now_us;
    }
}

bool convergence_add(Convergence *self, const ConvergenceSample *sample)
{
    bool was = self->hopeless;

    measure(self, sample);
    if (sample->passes < 2 || self->rate == 0) {
        return false;
    }
    note_since(&self->bad_since_us, is_above(sample, self->rate, BAD_PERCENT),
               !is_above(sample, self->rate, NOT_BAD_PERCENT), sample->now_us);
    note_since(&self->good_since_us,
               !is_above(sample, self->rate, GOOD_PERCENT),
               is_above(sample, self->rate, GOOD_PERCENT), sample->now_us);
    if (self->bad_since_us > 0 &&
        sample->now_us - self->bad_since_us >= self->patience_us) {
        self->hopeless = true;
    }
    if (self->good_since_us > 0 &&
        sample->now_us - self->good_since_us >= RECOVERY_US) {
        self->hopeless = false;
    }
    return self->hopeless != was;
}

void convergence_pause(Convergence *self)
{
    self->window_us = 0;
    self->rate = 0;
    self->bad_since_us = self->good_since_us = 0;
}

bool convergence_is_hopeless(const Convergence *self)
{
    return self->hopeless;
}
