/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-path.h"

#include "daemon/address-paths.h"

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

unsigned link_path_get_count(const ConfigPeer *peer)
{
    return 1 + (peer->paths ? peer->paths->len : 0);
}

unsigned link_path_choose(const ConfigPeer *peer, unsigned lane, unsigned turn)
{
    unsigned n = link_path_get_count(peer);

    return (lane % n + turn % n) % n;
}

/* NULL: it is the peer's address. */
static const AddressPath *get_path(const ConfigPeer *peer, unsigned path)
{
    return path > 0 ? g_ptr_array_index(peer->paths, path - 1) : NULL;
}

const Address *link_path_get_address(const ConfigPeer *peer, unsigned path)
{
    const AddressPath *other = get_path(peer, path);

    return other ? other->address : peer->address;
}

const char *link_path_get_bind(const ConfigPeer *peer, unsigned path)
{
    const AddressPath *other = get_path(peer, path);

    return other && other->bind ? other->bind : peer->bind;
}

char *link_path_to_string(const ConfigPeer *peer, unsigned path)
{
    const char *bind = link_path_get_bind(peer, path);

    return g_strconcat(bind ? bind : "", bind ? "@" : "",
                       link_path_get_address(peer, path)->text, NULL);
}

int link_path_connect(const ConfigPeer *peer, unsigned path, unsigned timeout_ms,
                      GCancellable *cancellable, GError **error)
{
    AddressRoute route = get_route(peer);

    route.bind = link_path_get_bind(peer, path);
    return address_connect_by(link_path_get_address(peer, path), &route,
                              timeout_ms, cancellable, error);
}

bool link_path_wants_mptcp(const GPtrArray *peers)
{
    for (unsigned i = 0; i < peers->len; i++) {
        const ConfigPeer *peer = g_ptr_array_index(peers, i);

        if (peer->mptcp) {
            return true;
        }
    }
    return false;
}

int link_path_listen(const Address *address, const GPtrArray *peers, int backlog,
                     GError **error)
{
    return link_path_wants_mptcp(peers)
           ? address_listen_mptcp(address, backlog, UNIX_MODE, error)
           : address_listen(address, backlog, UNIX_MODE, error);
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
