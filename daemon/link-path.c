/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-path.h"

enum { UNIX_MODE = 0660 };

static AddressRoute get_route(const ConfigPeer *peer)
{
    return (AddressRoute) {
        .bind = peer->bind,
        .congestion_control = peer->congestion_control,
        .dscp = peer->dscp,
        .mptcp = peer->mptcp,
    };
}

int link_path_connect(const ConfigPeer *peer, unsigned timeout_ms,
                      GCancellable *cancellable, GError **error)
{
    AddressRoute route = get_route(peer);

    return address_connect_by(peer->address, &route, timeout_ms, cancellable,
                              error);
}

int link_path_listen(const Address *address, const GPtrArray *peers, int backlog,
                     GError **error)
{
    for (unsigned i = 0; i < peers->len; i++) {
        const ConfigPeer *peer = g_ptr_array_index(peers, i);

        if (peer->mptcp) {
            return address_listen_mptcp(address, backlog, UNIX_MODE, error);
        }
    }
    return address_listen(address, backlog, UNIX_MODE, error);
}

bool link_path_mark(const ConfigPeer *peer, int fd, GError **error)
{
    AddressRoute route = get_route(peer);

    if (!address_route_mark(&route, fd, error)) {
        g_prefix_error(error, "[peer %s] ", peer->name);
        return false;
    }
    return true;
}
