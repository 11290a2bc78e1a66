/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/control-service.h - commands of the control socket about the service:
 * query-metrics, query-history
 */
#ifndef DAEMON_CONTROL_SERVICE_H
#define DAEMON_CONTROL_SERVICE_H

#include "daemon/daemon.h"
#include "qmp/server.h"

/* @daemon must outlive the server. */
void control_service_add(QmpServer *server, Daemon *daemon);

/* For query-status: when the certificates in use expire. */
JsonArray *control_service_certificates(Daemon *daemon);

#endif
