/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/control.h - the commands and events of the control socket
 *
 * On the main loop.  docs/multiferry-qmp.7 is the manual of it.
 */
#ifndef DAEMON_CONTROL_H
#define DAEMON_CONTROL_H

#include "daemon/access.h"
#include "daemon/daemon.h"
#include "daemon/drain.h"

typedef struct {
    Daemon *daemon;
    Drain *drain;               /* begun by `quit` */
    const char *link_address;   /* bound; NULL: none */
    const char *metrics_address;    /* likewise */
    const GPtrArray *tunnels;   /* of Tunnel; as tunnels_list() */
    Access *access;
} ControlSetup;

typedef struct Control Control;

/* Serves the listening socket @fd, which it takes. */
Control *control_new(const ControlSetup *setup, int fd, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void control_free(Control *self);

#endif
