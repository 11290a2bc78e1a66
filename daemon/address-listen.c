/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listening sockets.  A unix socket's file is made with no more rights than
 * asked for: Linux takes the mode of a new socket file from the socket's own
 * mode less the umask (see fchmod before bind below), and only what the umask
 * took is given back by name, before anybody can connect.
 */
#include "daemon/address.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/address-resolve.h"

#define LOOKUP_US (5 * G_USEC_PER_SEC)

static int fail(const Address *self, int fd, GError **error)
{
    int saved = errno;

    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved),
                "listen on %s: %s", self->text, g_strerror(saved));
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

/* No particular one of our addresses, and no particular IP version. */
static bool is_any_host(const char *host)
{
    return !*host || g_str_equal(host, "*");
}

/*
 * Nobody listens if connecting is refused.  Any other answer, even 'try again'
 * (a full backlog), means that somebody does.
 */
static bool remove_stale(const Address *self, const AddressSocket *at,
                         GError **error)
{
    struct stat st;
    int fd;
    int code;

    if (lstat(self->host, &st) < 0) {
        return true;    /* nothing there; else bind() says what is wrong */
    }
    if (!S_ISSOCK(st.st_mode)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                    "listen on %s: the file exists and is not a socket",
                    self->text);
        return false;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        fail(self, -1, error);
        return false;
    }
    code = connect(fd, (const struct sockaddr *)&at->storage, at->len) < 0
        ? errno : 0;
    close(fd);
    if (code == ECONNREFUSED) {
        unlink(self->host);
    } else if (code != ENOENT) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_ADDRESS_IN_USE,
                    "listen on %s: another process listens there (%s)",
                    self->text, code ? g_strerror(code) : "it answered");
        return false;
    }
    return true;
}

static bool bind_unix(const Address *self, int fd, const AddressSocket *at,
                      unsigned mode)
{
    struct stat st;

    if (fchmod(fd, mode) < 0 ||
        bind(fd, (const struct sockaddr *)&at->storage, at->len) < 0 ||
        lstat(self->host, &st) < 0) {
        return false;
    }
    return (st.st_mode & 07777) == mode || chmod(self->host, mode) == 0;
}

static bool bind_inet(int fd, const AddressSocket *at)
{
    int on = 1;
    int off = 0;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0) {
        return false;
    }
    /* '::' takes IPv4 too, as it does in QEMU, whatever the sysctl says. */
    if (at->storage.ss_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0) {
        return false;
    }
    return bind(fd, (const struct sockaddr *)&at->storage, at->len) == 0;
}

static int open_socket(int family, bool mptcp)
{
    int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    int fd = mptcp ? socket(family, type, IPPROTO_MPTCP) : -1;

    /* A kernel without it has TCP still, which such a listener takes too. */
    return fd >= 0 ? fd : socket(family, type, 0);
}

static int listen_at(const Address *self, const AddressSocket *at, bool mptcp,
                     int backlog, unsigned unix_mode, GError **error)
{
    int family = at->storage.ss_family;
    bool is_inet = family == AF_INET || family == AF_INET6;
    bool bound;
    int fd;

    if (family == AF_UNIX && !remove_stale(self, at, error)) {
        return -1;
    }
    fd = open_socket(family, is_inet && mptcp);
    if (fd < 0) {
        return fail(self, -1, error);
    }
    if (family == AF_UNIX) {
        bound = bind_unix(self, fd, at, unix_mode);
    } else if (is_inet) {
        bound = bind_inet(fd, at);
    } else {
        bound = bind(fd, (const struct sockaddr *)&at->storage, at->len) == 0;
    }
    if (!bound || listen(fd, backlog) < 0) {
        return fail(self, fd, error);
    }
    return fd;
}

/* No host: one socket for IPv6 and IPv4, or IPv4 alone where that is all. */
static int listen_any(const Address *self, bool mptcp, int backlog,
                      GError **error)
{
    AddressSocket v6 = { .len = sizeof(struct sockaddr_in6) };
    AddressSocket v4 = { .len = sizeof(struct sockaddr_in) };
    struct sockaddr_in6 *in6 = (void *)&v6.storage;
    struct sockaddr_in *in = (void *)&v4.storage;
    int fd;

    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons((uint16_t)self->port);
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)self->port);
    fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return listen_at(self, &v4, mptcp, backlog, 0, error);
    }
    close(fd);
    return listen_at(self, &v6, mptcp, backlog, 0, error);
}

static int listen_on(const Address *self, bool mptcp, int backlog,
                     unsigned unix_mode, GError **error)
{
    g_autoptr(GArray) all = NULL;

    if (self->kind == ADDRESS_TCP && is_any_host(self->host)) {
        return listen_any(self, mptcp, backlog, error);
    }
    all = address_resolve(self, g_get_monotonic_time() + LOOKUP_US, NULL,
                          error);
    if (!all) {
        g_prefix_error(error, "listen: ");
        return -1;
    }
    return listen_at(self, &g_array_index(all, AddressSocket, 0), mptcp,
                     backlog, unix_mode, error);
}

int address_listen(const Address *self, int backlog, unsigned unix_mode,
                   GError **error)
{
    return listen_on(self, false, backlog, unix_mode, error);
}

int address_listen_mptcp(const Address *self, int backlog, unsigned unix_mode,
                         GError **error)
{
    return listen_on(self, true, backlog, unix_mode, error);
}
