/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One address of the name after the other, each with its fair part of the time
 * that is left, so that one silent address does not use up the time of the
 * next.  The socket is non-blocking only while it connects.
 */
#include "daemon/address.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/address-resolve.h"

#define FULL_BACKLOG_RETRY_MS 10

static bool fail(GError **error, int code)
{
    g_set_error_literal(error, G_IO_ERROR, g_io_error_from_errno(code),
                        g_strerror(code));
    return false;
}

/* Wait for @events on @fd; with no events just for the time to pass. */
static bool wait_for(int fd, short events, gint64 deadline_us, bool *ret_timeout,
                     GCancellable *cancellable, GError **error)
{
    GPollFD cancel = { .fd = -1 };
    struct pollfd fds[2] = { { .fd = events ? fd : -1, .events = events } };
    gint64 left_us = deadline_us - g_get_monotonic_time();
    int n;

    if (g_cancellable_set_error_if_cancelled(cancellable, error)) {
        return false;
    }
    if (cancellable && !g_cancellable_make_pollfd(cancellable, &cancel)) {
        return fail(error, EMFILE);
    }
    fds[1] = (struct pollfd) { .fd = cancel.fd, .events = POLLIN };
    n = poll(fds, 2, left_us > 0 ? (int)MIN((left_us + 999) / 1000, 60000) : 0);
    if (cancellable) {
        g_cancellable_release_fd(cancellable);
    }
    if (g_cancellable_set_error_if_cancelled(cancellable, error)) {
        return false;
    }
    if (n < 0 && errno != EINTR) {
        return fail(error, errno);
    }
    *ret_timeout = n <= 0 && g_get_monotonic_time() >= deadline_us;
    return true;
}

static bool wait_connected(int fd, gint64 deadline_us,
                           GCancellable *cancellable, GError **error)
{
    struct pollfd ready = { .fd = fd, .events = POLLOUT };
    bool timed_out = false;
    int code = 0;
    socklen_t len = sizeof(code);

    while (poll(&ready, 1, 0) <= 0) {
        if (timed_out) {
            return fail(error, ETIMEDOUT);
        }
        if (!wait_for(fd, POLLOUT, deadline_us, &timed_out, cancellable,
                      error)) {
            return false;
        }
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0) {
        code = errno;
    }
    return code == 0 || fail(error, code);
}

static bool connect_socket(int fd, const AddressSocket *to, gint64 deadline_us,
                           GCancellable *cancellable, GError **error)
{
    bool timed_out = false;

    while (connect(fd, (const struct sockaddr *)&to->storage, to->len) < 0) {
        gint64 retry_us = g_get_monotonic_time() + FULL_BACKLOG_RETRY_MS * 1000;

        if (errno == EINPROGRESS || errno == EINTR) {
            return wait_connected(fd, deadline_us, cancellable, error);
        }
        if (errno != EAGAIN) {
            return fail(error, errno);
        }
        /* A unix socket whose backlog is full gives no event to wait for. */
        if (retry_us >= deadline_us) {
            return fail(error, ETIMEDOUT);
        }
        if (!wait_for(fd, 0, retry_us, &timed_out, cancellable, error)) {
            return false;
        }
    }
    return true;
}

static bool is_ip(int family)
{
    return family == AF_INET || family == AF_INET6;
}

static int make_socket(const AddressRoute *route, int family, GError **error)
{
    int fd;

    if (route && is_ip(family)) {
        return address_route_socket(route, family, error);
    }
    fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        fail(error, errno);
    }
    return fd;
}

static int try_address(const AddressSocket *to, const AddressRoute *route,
                       gint64 deadline_us, GCancellable *cancellable,
                       GError **error)
{
    int family = to->storage.ss_family;
    int on = 1;
    int fd = make_socket(route, family, error);

    if (fd < 0) {
        return -1;
    }
    if (!connect_socket(fd, to, deadline_us, cancellable, error)) {
        close(fd);
        return -1;
    }
    if (is_ip(family)) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

static bool check_target(const Address *self, GError **error)
{
    if (self->kind == ADDRESS_TCP && (!*self->host || self->port == 0)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "%s: expected a host and a port to connect to",
                    self->text);
        return false;
    }
    return true;
}

int address_connect(const Address *self, unsigned timeout_ms,
                    GCancellable *cancellable, GError **error)
{
    return address_connect_by(self, NULL, timeout_ms, cancellable, error);
}

int address_connect_by(const Address *self, const AddressRoute *route,
                       unsigned timeout_ms, GCancellable *cancellable,
                       GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    g_autoptr(GArray) all = NULL;
    g_autoptr(GError) last = NULL;
    unsigned i;

    if (!check_target(self, error)) {
        return -1;
    }
    all = address_resolve(self, deadline_us, cancellable, error);
    if (!all) {
        return -1;
    }
    for (i = 0; i < all->len; i++) {
        gint64 now_us = g_get_monotonic_time();
        gint64 part_us = MAX(deadline_us - now_us, 0) / (all->len - i);
        int fd;

        g_clear_error(&last);
        fd = try_address(&g_array_index(all, AddressSocket, i), route,
                         now_us + part_us, cancellable, &last);
        if (fd >= 0) {
            return fd;
        }
        if (g_error_matches(last, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
            break;
        }
    }
    g_propagate_prefixed_error(error, g_steal_pointer(&last),
                               all->len > 1 ? "connect to %s (%u addresses): "
                                            : "connect to %s: ",
                               self->text, all->len);
    return -1;
}
