/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test-result.h - what a link test has found so far
 *
 * Plain data; who holds it locks it.
 */
#ifndef DAEMON_LINK_TEST_RESULT_H
#define DAEMON_LINK_TEST_RESULT_H

#include <stdbool.h>
#include <json-glib/json-glib.h>
#include "daemon/link-test-load.h"
#include "daemon/link-test-rtt.h"
#include "daemon/stream-tcp.h"

enum {
    LINK_TEST_RESULT_STEPS = 8,         /* 1, 2, 4 … 64, and what lies between */
    LINK_TEST_RESULT_ADDRESS = 80,
    LINK_TEST_RESULT_PATHS = 16,
};

/* So many lanes, for some seconds. */
typedef struct {
    unsigned lanes;
    LinkTestLoadResult load;            /* of both ends */
    LinkTestRttSummary rtt;
} LinkTestStep;

/* Lanes between the same two addresses. */
typedef struct {
    char address[LINK_TEST_RESULT_ADDRESS], local[LINK_TEST_RESULT_ADDRESS];
    unsigned lanes;
    uint32_t mtu, mss, min_rtt_us;      /* the least of them; 0: not known */
} LinkTestPath;

typedef struct {
    LinkTestRttSummary idle;
    LinkTestStep steps[LINK_TEST_RESULT_STEPS];
    unsigned n_steps;
    LinkTestPath paths[LINK_TEST_RESULT_PATHS];
    unsigned n_paths;                   /* more are not kept */
    char cipher[64];
    uint64_t tls_here, tls_there;       /* bytes/s of one core; 0: not known */
    char algorithm[STREAM_TCP_ALGORITHM_SIZE];  /* congestion control of who sends */
    uint64_t limit;                     /* bytes/s, of who sends; 0: none */
    uint64_t window;                    /* of one migration, at the less able end */
    unsigned migrations, migrations_there;      /* that ran meanwhile */
    bool cut_short;                     /* there was no time for all steps */
} LinkTestResult;

/* An established lane's path. */
void link_test_result_add_lane(LinkTestResult *self, const Stream *stream);
/* The step with the highest rate; NULL: there is none. */
const LinkTestStep *link_test_result_get_best(const LinkTestResult *self);
/* Adds members. */
void link_test_result_to_json(const LinkTestResult *self, JsonObject *object);

#endif
