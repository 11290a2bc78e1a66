/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parsing of addresses, and what is said about sockets that exist already.
 * Making sockets is in address-connect.c and address-listen.c.
 */
#include "daemon/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define FORMS "tcp:HOST:PORT, tcp:[IPv6]:PORT, unix:PATH, vsock:CID:PORT, " \
              "HOST:PORT or /PATH"
#define HOST_MAX 255    /* RFC 1035, and more than any IPv6 text with scope */

static void bad(GError **error, const char *text, const char *why)
{
    g_autofree char *shown = g_strescape(text, NULL);

    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                "address: got '%.300s', %s", shown, why);
}

static Address *address_new(AddressKind kind, const char *host, unsigned cid,
                            unsigned port)
{
    Address *self = g_new0(Address, 1);

    self->kind = kind;
    self->host = g_strdup(host);
    self->cid = cid;
    self->port = port;
    switch (kind) {
    case ADDRESS_TCP:
        self->text = g_strdup_printf(strchr(host, ':') ? "tcp:[%s]:%u"
                                                       : "tcp:%s:%u",
                                     host, port);
        break;
    case ADDRESS_UNIX:
        self->text = g_strconcat("unix:", host, NULL);
        break;
    case ADDRESS_VSOCK:
        self->text = g_strdup_printf("vsock:%u:%u", cid, port);
        break;
    }
    return self;
}

static bool parse_number(const char *text, unsigned max, unsigned *ret)
{
    guint64 value;

    if (!g_ascii_string_to_unsigned(text, 10, 0, max, &value, NULL)) {
        return false;
    }
    *ret = (unsigned)value;
    return true;
}

static Address *parse_unix(const char *text, const char *path, GError **error)
{
    size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

    if (!*path) {
        bad(error, text, "expected a path after unix:");
        return NULL;
    }
    if (strlen(path) > max) {
        g_autofree char *why = g_strdup_printf(
            "a path of %zu bytes; the system allows at most %zu for a unix "
            "socket", strlen(path), max);

        bad(error, text, why);
        return NULL;
    }
    return address_new(ADDRESS_UNIX, path, 0, 0);
}

static Address *parse_vsock(const char *text, const char *rest, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(rest, ":", 3);
    unsigned cid = VMADDR_CID_ANY;
    unsigned port;

    if (g_strv_length(parts) != 2 ||
        (strcmp(parts[0], "any") != 0 &&
         !parse_number(parts[0], UINT32_MAX, &cid)) ||
        !parse_number(parts[1], UINT32_MAX, &port)) {
        bad(error, text, "expected vsock:CID:PORT with two numbers, or 'any' "
                         "as CID");
        return NULL;
    }
    return address_new(ADDRESS_VSOCK, NULL, cid, port);
}

/* The host in brackets must be an IPv6 number, with or without scope. */
static bool is_ipv6(const char *host)
{
    struct in6_addr addr;
    const char *percent = strchr(host, '%');
    g_autofree char *number = percent ? g_strndup(host, percent - host)
                                      : g_strdup(host);

    return inet_pton(AF_INET6, number, &addr) == 1 &&
           (!percent || percent[1]);
}

static bool is_host_text(const char *host)
{
    if (strlen(host) > HOST_MAX) {
        return false;
    }
    for (; *host; host++) {
        if (!g_ascii_isgraph(*host) || strchr("[]/,'\"", *host)) {
            return false;
        }
    }
    return true;
}

/* @rest is what follows "tcp:", or all of @text. */
static Address *parse_tcp(const char *text, const char *rest, GError **error)
{
    const char *colon = strrchr(rest, ':');
    g_autofree char *host = NULL;
    unsigned port;

    if (strchr(rest, ',')) {
        bad(error, text, "options after a comma are not understood");
        return NULL;
    }
    if (!colon) {
        bad(error, text, "expected " FORMS);
        return NULL;
    }
    if (!parse_number(colon + 1, 65535, &port)) {
        bad(error, text, "expected a port from 0 to 65535 after the last "
                         "colon");
        return NULL;
    }
    if (*rest == '[') {
        host = g_strndup(rest + 1, colon > rest + 1 ? colon - rest - 2 : 0);
        if (colon[-1] != ']' || !is_ipv6(host)) {
            bad(error, text, "expected an IPv6 address in the brackets");
            return NULL;
        }
        return address_new(ADDRESS_TCP, host, 0, port);
    }
    host = g_strndup(rest, colon - rest);
    if (strchr(host, ':')) {
        bad(error, text, "an IPv6 address must stand in brackets, as in "
                         "tcp:[::1]:4455");
        return NULL;
    }
    if (!is_host_text(host)) {
        bad(error, text, "expected a host name or number before the port");
        return NULL;
    }
    return address_new(ADDRESS_TCP, host, 0, port);
}

Address *address_parse(const char *text, GError **error)
{
    static const char *const others[] = { "fd:", "exec:", "rdma:", "file:" };
    size_t i;

    if (!*text) {
        bad(error, text, "expected " FORMS);
        return NULL;
    }
    if (*text == '/') {
        return parse_unix(text, text, error);
    }
    if (g_str_has_prefix(text, "unix:")) {
        return parse_unix(text, text + strlen("unix:"), error);
    }
    if (g_str_has_prefix(text, "vsock:")) {
        return parse_vsock(text, text + strlen("vsock:"), error);
    }
    for (i = 0; i < G_N_ELEMENTS(others); i++) {
        if (g_str_has_prefix(text, others[i])) {
            bad(error, text, "expected " FORMS);
            return NULL;
        }
    }
    return parse_tcp(text, g_str_has_prefix(text, "tcp:") ? text + 4 : text,
                     error);
}

Address *address_copy(const Address *self)
{
    return address_new(self->kind, self->host, self->cid, self->port);
}

void address_free(Address *self)
{
    if (self) {
        g_free(self->host);
        g_free(self->text);
        g_free(self);
    }
}

/* An IPv4 peer of an IPv6 socket is shown, and compared, as IPv4. */
static Address *from_inet6(const struct sockaddr_in6 *in6)
{
    char host[INET6_ADDRSTRLEN];

    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
    } else {
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
    }
    return address_new(ADDRESS_TCP, host, 0, ntohs(in6->sin6_port));
}

/* NULL for families that we do not have. */
static Address *from_sockaddr(const struct sockaddr_storage *storage,
                              socklen_t len)
{
    char host[INET_ADDRSTRLEN];
    const struct sockaddr_in *in = (const void *)storage;
    const struct sockaddr_un *un = (const void *)storage;
    const struct sockaddr_vm *vm = (const void *)storage;
    g_autofree char *path = NULL;

    switch (storage->ss_family) {
    case AF_INET:
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        return address_new(ADDRESS_TCP, host, 0, ntohs(in->sin_port));
    case AF_INET6:
        return from_inet6((const void *)storage);
    case AF_UNIX:
        path = len > offsetof(struct sockaddr_un, sun_path)
            ? g_strndup(un->sun_path,
                        len - offsetof(struct sockaddr_un, sun_path))
            : g_strdup("");
        return address_new(ADDRESS_UNIX, path, 0, 0);
    case AF_VSOCK:
        return address_new(ADDRESS_VSOCK, NULL, vm->svm_cid, vm->svm_port);
    default:
        return NULL;
    }
}

Address *address_of_listener(int fd, GError **error)
{
    struct sockaddr_storage storage = { 0 };
    socklen_t len = sizeof(storage);
    Address *self;

    if (getsockname(fd, (struct sockaddr *)&storage, &len) < 0) {
        int saved = errno;

        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved),
                    "listener fd %d: %s", fd, g_strerror(saved));
        return NULL;
    }
    self = from_sockaddr(&storage, len);
    if (!self) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    "listener fd %d: got address family %d, expected tcp, "
                    "unix or vsock", fd, storage.ss_family);
    }
    return self;
}

char *address_describe_peer(int fd)
{
    struct sockaddr_storage storage = { 0 };
    socklen_t len = sizeof(storage);
    struct ucred cred;
    socklen_t cred_len = sizeof(cred);
    g_autoptr(Address) peer = NULL;

    if (getpeername(fd, (struct sockaddr *)&storage, &len) < 0) {
        return g_strdup("unknown peer");
    }
    if (storage.ss_family == AF_UNIX) {
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) < 0) {
            return g_strdup("unix");
        }
        return g_strdup_printf("unix (pid %d, uid %u)", (int)cred.pid,
                               (unsigned)cred.uid);
    }
    peer = from_sockaddr(&storage, len);
    return peer ? g_strdup(peer->text) : g_strdup("unknown peer");
}

char *address_describe_local_host(int fd)
{
    struct sockaddr_storage storage = { 0 };
    socklen_t len = sizeof(storage);
    g_autoptr(Address) local = NULL;

    if (getsockname(fd, (struct sockaddr *)&storage, &len) < 0) {
        return g_strdup("unknown");
    }
    if (storage.ss_family == AF_UNIX) {
        return g_strdup("unix");
    }
    local = from_sockaddr(&storage, len);
    return g_strdup(local ? local->host : "unknown");
}
