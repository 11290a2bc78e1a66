/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/ingress-qemu.h - plays the destination towards a source QEMU
 */
#ifndef DAEMON_INGRESS_QEMU_H
#define DAEMON_INGRESS_QEMU_H

#include "daemon/exchange.h"
#include "daemon/ingress.h"
#include "daemon/listener.h"

/* Neither is owned; both outlive it. */
Ingress *ingress_qemu_new(Exchange *exchange, Listener *listener);

/*
 * A connection of this migration's source.  Takes arrival->stream on success;
 * on failure (a second main channel, see also exchange_join() and ingress-preempt.h) the caller closes
 * it.  Any thread, but not after ingress_shutdown().
 */
bool ingress_qemu_take(Ingress *ingress, Arrival *arrival, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/*
 * A channel that came when the migration had failed, and the source had not
 * connected all: it is closed together with main.  Takes arrival->stream if true;
 * false: that has happened.
 */
bool ingress_qemu_hold(Ingress *ingress, Arrival *arrival);

#endif
