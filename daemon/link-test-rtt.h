/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test-rtt.h - round trips of a link test, and what they come to
 *
 * Pure.
 */
#ifndef DAEMON_LINK_TEST_RTT_H
#define DAEMON_LINK_TEST_RTT_H

#include <stdint.h>

enum { LINK_TEST_RTT_MAX = 2048 };      /* more are not kept */

typedef struct {
    unsigned n;
    uint32_t us[LINK_TEST_RTT_MAX];     /* in the order in which they came */
} LinkTestRtt;

typedef struct {
    unsigned count;             /* 0: the others say nothing */
    uint32_t min_us, median_us, max_us;
    uint32_t jitter_us;         /* mean difference of one from the next */
} LinkTestRttSummary;

void link_test_rtt_init(LinkTestRtt *self);
void link_test_rtt_add(LinkTestRtt *self, uint32_t us);
void link_test_rtt_summarize(const LinkTestRtt *self, LinkTestRttSummary *ret);

#endif
