/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/control-migration.h - commands and events of the control socket about
 * migrations: to begin, cancel, pace and look at them
 */
#ifndef DAEMON_CONTROL_MIGRATION_H
#define DAEMON_CONTROL_MIGRATION_H

#include "daemon/daemon.h"
#include "qmp/server.h"

/* @daemon must outlive the server. */
void control_migration_add(QmpServer *server, Daemon *daemon);

#endif
