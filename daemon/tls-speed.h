/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tls-speed.h - how fast one core of this machine is at a TLS session's cipher
 */
#ifndef DAEMON_TLS_SPEED_H
#define DAEMON_TLS_SPEED_H

#include <stdint.h>
#include <gnutls/gnutls.h>

/*
 * Bytes per second of a thread's own time, by encrypting full records for about
 * 50 ms of it; 0: that cipher cannot be tried.  Blocks so long.
 */
uint64_t tls_speed_measure(gnutls_session_t session);

#endif
