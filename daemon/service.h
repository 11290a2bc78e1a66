/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/service.h - systemd's contracts: readiness, watchdog, passed sockets
 *
 * Does nothing where systemd is not there (no NOTIFY_SOCKET, no LISTEN_FDS).
 */
#ifndef DAEMON_SERVICE_H
#define DAEMON_SERVICE_H

#include <stdbool.h>
#include <glib.h>

/* Sockets passed by name (FileDescriptorName= "control", "link"); -1: none.
 * The caller owns what it takes; service_close_unused() closes the rest with
 * a warning. */
void service_init(void);
int service_take_socket(const char *name);
void service_close_unused(void);

void service_ready(void);
void service_reloading(void);       /* then service_ready() again */
void service_stopping(void);
void service_status(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* Pats the watchdog from the main loop, if one is asked for. */
void service_start_watchdog(void);

#endif
