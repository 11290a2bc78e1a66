/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test-advice.h - what a link test's numbers mean for migrations
 *
 * Pure: numbers in, sentences for an operator out.  Each names what to turn, as
 * docs/tuning.md explains it, and the numbers that it rests on.
 */
#ifndef DAEMON_LINK_TEST_ADVICE_H
#define DAEMON_LINK_TEST_ADVICE_H

#include <glib.h>
#include "daemon/link-test-result.h"

typedef struct {
    const char *peer;           /* its name */
    bool reverse;               /* the peer was who sent */
    unsigned lanes;             /* as configured; 0: found by itself, up to: */
    unsigned lanes_max;
    unsigned link_dead_ms;
} LinkTestAdviceSetup;

/* Of char *, the most important first; owns them.  None without a step. */
GPtrArray *link_test_advice_get(const LinkTestAdviceSetup *setup,
                                const LinkTestResult *result);
/* Of char *: why the numbers are to be taken with care. */
GPtrArray *link_test_advice_get_warnings(const LinkTestAdviceSetup *setup,
                                         const LinkTestResult *result);

#endif
