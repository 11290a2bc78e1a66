/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon/control-recording.h - the command of the control socket that records:
 * read-recording */
#ifndef DAEMON_CONTROL_RECORDING_H
#define DAEMON_CONTROL_RECORDING_H

#include "daemon/daemon.h"
#include "qmp/server.h"

/* @daemon must outlive the server. */
void control_recording_add(QmpServer *server, Daemon *daemon);

#endif
