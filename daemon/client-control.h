/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-control.h - commands that change something and are done:
 * cancel, limit, quit
 */
#ifndef DAEMON_CLIENT_CONTROL_H
#define DAEMON_CLIENT_CONTROL_H

#include "daemon/client-session.h"

ClientSessionExit client_control_cancel(ClientSession *session, char **args);
ClientSessionExit client_control_start_postcopy(ClientSession *session,
                                                char **args);
ClientSessionExit client_control_limit(ClientSession *session, char **args);
extern const GOptionEntry client_control_quit_entries[];
ClientSessionExit client_control_quit(ClientSession *session, char **args);

#endif
