/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/metrics-http.h - GET /metrics, for who scrapes
 *
 * By libmicrohttpd, where the build found it.  It has a thread of its own, which
 * looks at what the daemon counts as any client of the control socket may; who it
 * talks to is not known, and whatever they do costs a fixed number of connections
 * for a fixed time.  No TLS and nobody is asked who he is: that is for a proxy.
 */
#ifndef DAEMON_METRICS_HTTP_H
#define DAEMON_METRICS_HTTP_H

#include "daemon/daemon.h"

/* False: this program was built without; metrics_http_new() fails then. */
bool metrics_http_is_built_in(void);

typedef struct MetricsHttp MetricsHttp;

/* Serves the listening socket @fd, which it takes.  On the main loop. */
MetricsHttp *metrics_http_new(Daemon *daemon, int fd, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void metrics_http_free(MetricsHttp *self);

#endif
