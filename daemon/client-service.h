/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-service.h - commands about the service: metrics, history
 */
#ifndef DAEMON_CLIENT_SERVICE_H
#define DAEMON_CLIENT_SERVICE_H

#include "daemon/client-session.h"

extern const GOptionEntry client_service_metrics_entries[];
ClientSessionExit client_service_metrics(ClientSession *session, char **args);

extern const GOptionEntry client_service_history_entries[];
ClientSessionExit client_service_history(ClientSession *session, char **args);

#endif
