/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/address-resolve.h - from an Address to what socket(2) wants
 *
 * For address-connect.c and address-listen.c only.
 */
#ifndef DAEMON_ADDRESS_RESOLVE_H
#define DAEMON_ADDRESS_RESOLVE_H

#include <sys/socket.h>
#include "daemon/address.h"

typedef struct {
    struct sockaddr_storage storage;
    socklen_t len;
} AddressSocket;

/*
 * All socket addresses of @self, at least one, as a GArray of AddressSocket,
 * in the resolver's order.  Blocks at most until @deadline_us (monotonic)
 * when a name must be looked up.
 */
GArray *address_resolve(const Address *self, gint64 deadline_us,
                        GCancellable *cancellable, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
