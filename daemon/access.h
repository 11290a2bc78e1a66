/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/access.h - who may command the daemon
 *
 * Root, the daemon's own user, and the members of one group.  The control
 * socket's mode says the same; this holds also where that was set too wide.
 */
#ifndef DAEMON_ACCESS_H
#define DAEMON_ACCESS_H

#include <sys/types.h>
#include "qmp/server.h"

typedef struct {
    gid_t group;
} Access;

/* @group: its name or number; NULL: the daemon's own. */
bool access_init(Access *self, const char *group, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* A QmpServerAccessCheck; @data is an Access.  Logs whom it refuses.  Who comes
 * over TCP cannot be known, and is let in. */
bool access_check(const QmpPeer *peer, gpointer data, GError **error);

#endif
