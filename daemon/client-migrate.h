/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-migrate.h - the command "migrate": start one and follow it
 */
#ifndef DAEMON_CLIENT_MIGRATE_H
#define DAEMON_CLIENT_MIGRATE_H

#include <glib.h>
#include "daemon/client-session.h"

extern const GOptionEntry client_migrate_entries[];

ClientSessionExit client_migrate_run(ClientSession *session, char **args);

/* Go on with a VM that is postcopy-paused at both ends. */
extern const GOptionEntry client_migrate_recover_entries[];

ClientSessionExit client_migrate_recover(ClientSession *session, char **args);

#endif
