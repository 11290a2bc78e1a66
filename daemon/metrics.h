/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/metrics.h - the daemon's numbers as monitoring systems read them
 *
 * https://prometheus.io/docs/specs/om/open_metrics_spec/ and the older text
 * format that it comes from; docs/metrics.md lists what there is.
 */
#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include "daemon/daemon.h"

typedef enum {
    METRICS_OPENMETRICS,
    METRICS_PROMETHEUS,     /* text format 0.0.4, of the textfile collector */
} MetricsFormat;

const char *metrics_get_content_type(MetricsFormat format);
/* g_free(). */
/* Any thread. */
char *metrics_to_text(Daemon *daemon, MetricsFormat format);

#endif
