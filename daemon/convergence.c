/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/convergence.h"

static const int64_t WINDOW_US = 3 * 1000 * 1000;   /* to measure the rate over */
static const int64_t RECOVERY_US = 5 * 1000 * 1000; /* of being fast enough */

/* Of what leaves, the guest may dirty this much at most, per cent.  Where both
 * are equal it never ends; a little less takes for ever in practice. */
enum { BAD_PERCENT = 95, GOOD_PERCENT = 80 };

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

static void note_since(int64_t *since_us, bool is_so, int64_t now_us)
{
    if (!is_so) {
        *since_us = 0;
    } else if (*since_us == 0) {
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
               sample->now_us);
    note_since(&self->good_since_us,
               !is_above(sample, self->rate, GOOD_PERCENT), sample->now_us);
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

bool convergence_is_hopeless(const Convergence *self)
{
    return self->hopeless;
}
