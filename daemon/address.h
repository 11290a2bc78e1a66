/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/address.h - where to listen and where to connect
 *
 * The forms QEMU has: tcp:HOST:PORT, tcp:[V6]:PORT, unix:PATH, vsock:CID:PORT;
 * and the short HOST:PORT and /PATH.
 */
#ifndef DAEMON_ADDRESS_H
#define DAEMON_ADDRESS_H

#include <stdbool.h>
#include <gio/gio.h>
#include "daemon/address-route.h"

typedef enum { ADDRESS_TCP, ADDRESS_UNIX, ADDRESS_VSOCK } AddressKind;

typedef struct {
    AddressKind kind;
    char *host;         /* TCP: name or number without brackets; UNIX: path */
    unsigned port;      /* TCP, VSOCK */
    unsigned cid;       /* VSOCK */
    char *text;         /* canonical form, QEMU's: tcp:…, unix:…, vsock:… */
} Address;

Address *address_parse(const char *text, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
Address *address_copy(const Address *self);
void address_free(Address *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Address, address_free)

/*
 * Connect; blocks in the calling thread until connected, @timeout_ms is over
 * or @cancellable is cancelled.  All addresses of a name are tried.  Returns a
 * blocking, close-on-exec socket (NODELAY on TCP), or -1 with @error set.
 */
int address_connect(const Address *self, unsigned timeout_ms,
                    GCancellable *cancellable, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Likewise, by a @route, which concerns TCP only. */
int address_connect_by(const Address *self, const AddressRoute *route,
                       unsigned timeout_ms, GCancellable *cancellable,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Listen; @backlog as listen(2).  A stale unix socket that nobody listens on is
 * replaced; one in use is an error.  @unix_mode: file mode of a unix socket.
 * Returns a non-blocking, close-on-exec listening socket or -1.
 */
int address_listen(const Address *self, int backlog, unsigned unix_mode,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Likewise; also for Multipath TCP, if it is TCP and the kernel has it. */
int address_listen_mptcp(const Address *self, int backlog, unsigned unix_mode,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The address that a listening socket is bound to (port 0 resolved). */
Address *address_of_listener(int fd, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The other end of a connection for messages: 'tcp:192.0.2.1:4455', 'unix (pid 17, uid 0)'; g_free(). */
char *address_describe_peer(int fd);
/* Our own end's address without a port, '192.0.2.1'; g_free(). */
char *address_describe_local_host(int fd);

#endif
