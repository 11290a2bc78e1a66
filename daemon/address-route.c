/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/address-route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DSCP_SHIFT = 2 };            /* it is the upper part of the TOS byte */

static bool fail(GError **error, const char *what, const char *value, int code)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), "%s %s: %s",
                what, value, g_strerror(code));
    return false;
}

/* ---- where from ------------------------------------------------------------- */

/* False: @text is no IP address at all. */
static bool parse_local(const char *text, struct sockaddr_storage *ret,
                        socklen_t *ret_len)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        ret->ss_family = AF_INET;
        *ret_len = sizeof(*v4);
    } else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        ret->ss_family = AF_INET6;
        *ret_len = sizeof(*v6);
    } else {
        return false;
    }
    return true;
}

static bool bind_local(int fd, int family, const char *text, GError **error)
{
    struct sockaddr_storage local;
    socklen_t len;
    int on = 1;

    if (!parse_local(text, &local, &len)) {
        return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, text,
                          strlen(text)) == 0 ||
               fail(error, "bind to interface", text, errno);
    }
    if (local.ss_family != family) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "bind to %s: the other end has an %s address", text,
                    family == AF_INET6 ? "IPv6" : "IPv4");
        return false;
    }
    /* The port is chosen by connect(), which knows the other end. */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    return bind(fd, (struct sockaddr *)&local, len) == 0 ||
           fail(error, "bind to", text, errno);
}

/* ---- how --------------------------------------------------------------------- */

static bool set_dscp(int fd, unsigned dscp, GError **error)
{
    int tos = dscp << DSCP_SHIFT, family = 0;
    socklen_t len = sizeof(family);
    g_autofree char *text = g_strdup_printf("%u", dscp);
    int result;

    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len);
    result = family == AF_INET6
             ? setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos))
             : setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
    return result == 0 || fail(error, "dscp", text, errno);
}

bool address_route_mark(const AddressRoute *self, int fd, GError **error)
{
    const char *algorithm = self->congestion_control;

    if (algorithm && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, algorithm,
                                strlen(algorithm)) != 0) {
        int saved = errno;

        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved),
                    "congestion-control %s: %s; allowed is what "
                    "net.ipv4.tcp_allowed_congestion_control has", algorithm,
                    g_strerror(saved));
        return false;
    }
    return self->dscp == 0 || set_dscp(fd, self->dscp, error);
}

static int open_socket(const AddressRoute *self, int family)
{
    int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    int fd = self->mptcp ? socket(family, type, IPPROTO_MPTCP) : -1;

    /* A kernel without it, or where it is switched off, has TCP still. */
    return fd >= 0 ? fd : socket(family, type, 0);
}

int address_route_socket(const AddressRoute *self, int family, GError **error)
{
    int fd = open_socket(self, family);

    if (fd < 0) {
        fail(error, "socket", "of TCP", errno);
        return -1;
    }
    if ((self->bind && !bind_local(fd, family, self->bind, error)) ||
        !address_route_mark(self, fd, error)) {
        close(fd);
        return -1;
    }
    return fd;
}
