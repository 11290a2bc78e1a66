/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp/connect.h"

#include "qmp/error.h"

#include <gio/gunixsocketaddress.h>
#include <stdbool.h>
#include <string.h>
#include <sys/un.h>

/* How often to try again while a unix listener's backlog is full. */
#define BACKLOG_RETRY_MS 20

/* Even "no limit" ends one day; GLib's poll counts milliseconds in an int. */
#define WAIT_MAX_US (3600 * INT64_C(1000000))

static GSocketConnectable *parse(const char *address, GError **error)
{
    const char *path = address;
    GSocketConnectable *tcp;

    if (g_str_has_prefix(address, "tcp:")) {
        tcp = g_network_address_parse(address + strlen("tcp:"), 0, error);
        if (tcp && g_network_address_get_port(G_NETWORK_ADDRESS(tcp)) > 0) {
            return tcp;
        }
        g_clear_object(&tcp);
        g_clear_error(error);
        g_set_error(error, QMP_ERROR, QMP_ERROR_ADDRESS,
                    "got address '%s', expected tcp:host:port", address);
        return NULL;
    }
    if (g_str_has_prefix(address, "unix:")) {
        path += strlen("unix:");
    }
    if (path[0] != '/') {
        g_set_error(error, QMP_ERROR, QMP_ERROR_ADDRESS,
                    "got address '%s', expected /path, unix:/path or "
                    "tcp:host:port", address);
        return NULL;
    }
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_ADDRESS,
                    "got a socket path of %zu bytes, allowed at most %zu: "
                    "'%s'", strlen(path),
                    sizeof(((struct sockaddr_un *)0)->sun_path) - 1, path);
        return NULL;
    }
    return G_SOCKET_CONNECTABLE(g_unix_socket_address_new(path));
}

/* A full backlog gives no event when it has room again: sleep and retry. */
static bool nap(GCancellable *cancellable, GError **error)
{
    GPollFD poll_fd;

    if (g_cancellable_make_pollfd(cancellable, &poll_fd)) {
        g_poll(&poll_fd, 1, BACKLOG_RETRY_MS);
        g_cancellable_release_fd(cancellable);
    } else {
        g_usleep(BACKLOG_RETRY_MS * 1000);
    }
    return !g_cancellable_set_error_if_cancelled(cancellable, error);
}

static bool wait_connected(GSocket *socket, bool backlog_full,
                           int64_t deadline_us, GCancellable *cancellable,
                           GError **error)
{
    int64_t left_us = MIN(deadline_us - g_get_monotonic_time(), WAIT_MAX_US);
    g_autoptr(GError) local = NULL;

    if (left_us <= 0) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_TIMEOUT,
                    "nobody accepted the connection in time");
        return false;
    }
    if (backlog_full) {
        return nap(cancellable, error);
    }
    if (!g_socket_condition_timed_wait(socket, G_IO_OUT, left_us, cancellable,
                                       &local)) {
        if (g_error_matches(local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
            g_set_error(error, QMP_ERROR, QMP_ERROR_TIMEOUT,
                        "nobody accepted the connection in time");
        } else {
            g_propagate_error(error, g_steal_pointer(&local));
        }
        return false;
    }
    return g_socket_check_connect_result(socket, error);
}

static GSocket *connect_to(GSocketAddress *to, int64_t deadline_us,
                           GCancellable *cancellable, GError **error)
{
    g_autoptr(GSocket) socket =
        g_socket_new(g_socket_address_get_family(to), G_SOCKET_TYPE_STREAM,
                     G_SOCKET_PROTOCOL_DEFAULT, error);

    if (!socket) {
        return NULL;
    }
    g_socket_set_blocking(socket, FALSE);
    for (;;) {
        g_autoptr(GError) local = NULL;
        bool full;

        if (g_socket_connect(socket, to, cancellable, &local)) {
            return g_steal_pointer(&socket);
        }
        full = g_error_matches(local, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
        if (!full && !g_error_matches(local, G_IO_ERROR, G_IO_ERROR_PENDING)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return NULL;
        }
        if (!wait_connected(socket, full, deadline_us, cancellable, error)) {
            return NULL;
        }
        if (!full) {
            return g_steal_pointer(&socket);
        }
    }
}

GSocket *qmp_connect(const char *address, int64_t deadline_us,
                     GCancellable *cancellable, GError **error)
{
    g_autoptr(GSocketConnectable) connectable = parse(address, error);
    g_autoptr(GSocketAddressEnumerator) enumerator = NULL;
    g_autoptr(GError) first = NULL;

    if (!connectable) {
        return NULL;
    }
    enumerator = g_socket_connectable_enumerate(connectable);
    for (;;) {
        g_autoptr(GError) local = NULL;
        g_autoptr(GSocketAddress) to =
            g_socket_address_enumerator_next(enumerator, cancellable, &local);
        GSocket *socket = to ? connect_to(to, deadline_us, cancellable, &local)
                             : NULL;

        if (socket) {
            return socket;
        }
        if (local && !first) {
            first = g_steal_pointer(&local);
        }
        if (!to) {
            break;
        }
    }
    if (!first) {
        g_set_error(&first, QMP_ERROR, QMP_ERROR_ADDRESS,
                    "no address known for this host");
    }
    g_propagate_prefixed_error(error, g_steal_pointer(&first),
                               "connect to '%s': ", address);
    return NULL;
}
