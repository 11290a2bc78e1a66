/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-test-rtt.h"

#include <stdlib.h>
#include <glib.h>

void link_test_rtt_init(LinkTestRtt *self)
{
    self->n = 0;
}

void link_test_rtt_add(LinkTestRtt *self, uint32_t us)
{
    if (self->n < LINK_TEST_RTT_MAX) {
        self->us[self->n++] = us;
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static uint32_t get_jitter(const LinkTestRtt *self)
{
    uint64_t sum = 0;

    for (unsigned i = 1; i < self->n; i++) {
        sum += llabs((long long)self->us[i] - self->us[i - 1]);
    }
    return self->n > 1 ? sum / (self->n - 1) : 0;
}

void link_test_rtt_summarize(const LinkTestRtt *self, LinkTestRttSummary *ret)
{
    g_autofree uint32_t *sorted = g_memdup2(self->us, self->n * sizeof(*sorted));

    *ret = (LinkTestRttSummary) { .count = self->n };
    if (self->n == 0) {
        return;
    }
    qsort(sorted, self->n, sizeof(*sorted), compare);
    ret->min_us = sorted[0];
    ret->median_us = sorted[self->n / 2];
    ret->max_us = sorted[self->n - 1];
    ret->jitter_us = get_jitter(self);
}
