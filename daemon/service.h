/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/service.h - systemd's contracts: readiness, watchdog, passed sockets
 *
 * Does nothing where systemd is not there (no NOTIFY_SOCKET, no LISTEN_FDS).
 * Main thread only, except service_status().
 */
#ifndef DAEMON_SERVICE_H
#define DAEMON_SERVICE_H

#include <stdbool.h>
#include <glib.h>

/*
 * Sockets passed by name (FileDescriptorName= "control", "link", "metrics").  Call
 * service_init() once, before anything opens descriptors or threads.
 *
 * service_take_socket() gives the next listening stream socket of this name,
 * non-blocking and close-on-exec, -1 when there is none (more); the caller
 * owns it.  service_close_unused() closes the rest with a warning.
 */
void service_init(void);
int service_take_socket(const char *name);
void service_close_unused(void);

void service_ready(void);
void service_reloading(void);       /* then service_ready() again */
void service_stopping(void);
/* Starting, reloading or stopping may take this much longer, from now on. */
void service_extend(unsigned patience_ms);
void service_status(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Pats the watchdog from the default main loop at half of its interval, if
 * one is asked for; service_stop_watchdog() before the loop is left. */
void service_start_watchdog(void);
void service_stop_watchdog(void);

#endif
