/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/reload.h - the configuration and the credentials again, while all goes on
 *
 * Main thread.  docs/architecture.md, "Reload", says what a migration sees of it.
 */
#ifndef DAEMON_RELOAD_H
#define DAEMON_RELOAD_H

#include "daemon/drain.h"
#include "daemon/expiry.h"
#include "daemon/link-server.h"
#include "daemon/rate-clock.h"
#include "daemon/tunnels.h"

/* What has to do with the configuration; all lent. */
typedef struct {
    Daemon *daemon;
    Tunnels *tunnels;
    RateClock *rate_clock;
    Drain *drain;
    Expiry *expiry;
    LinkServer *link_server;        /* NULL: peers cannot connect to us */
    const char *file;               /* NULL: there is none */
    /* As at the start; the caller's. */
    Config *(*load)(void *data, GError **error);
    void *data;
} ReloadSetup;

/*
 * Take over what the configuration says now, all of it or nothing; then read all
 * credentials again, all of them or none.  The one does not wait for the other: a
 * certificate that runs out is no hostage of a mistake in a file.  Logs what came of
 * it, and sends the event RELOAD.
 */
void reload_run(const ReloadSetup *setup);

#endif
