/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/address-route.h - which way a TCP connection goes, and how it is marked
 */
#ifndef DAEMON_ADDRESS_ROUTE_H
#define DAEMON_ADDRESS_ROUTE_H

#include <stdbool.h>
#include <gio/gio.h>

enum { ADDRESS_DSCP_MAX = 63 };

/* All zero: as the kernel likes.  The strings are lent. */
typedef struct {
    const char *bind;               /* a local IP address, or an interface's
                                       name; NULL: any */
    const char *congestion_control; /* as in
                                       net.ipv4.tcp_available_congestion_control */
    unsigned dscp;                  /* 0 to ADDRESS_DSCP_MAX */
    bool mptcp;                     /* Multipath TCP where kernel and peer have it */
} AddressRoute;

/*
 * A non-blocking socket of @family (AF_INET, AF_INET6), bound and marked, ready for
 * connect(); -1: @error says which of it could not be had.
 */
int address_route_socket(const AddressRoute *self, int family, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* Congestion control and DSCP, for a connection that somebody else made. */
bool address_route_mark(const AddressRoute *self, int fd, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
