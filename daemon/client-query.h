/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-query.h - commands that only look: status, peers, version
 */
#ifndef DAEMON_CLIENT_QUERY_H
#define DAEMON_CLIENT_QUERY_H

#include "daemon/client-session.h"

ClientSessionExit client_query_status(ClientSession *session, char **args);
ClientSessionExit client_query_peers(ClientSession *session, char **args);
/* The daemon's; the client's own is said before. */
ClientSessionExit client_query_version(ClientSession *session);

#endif
