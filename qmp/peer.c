/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp/peer.h"

#include <glib.h>
#include <sys/socket.h>

bool qmp_peer_get_credentials(int fd, QmpPeer *ret)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    /* On a TCP socket this succeeds with pid 0 and uid -1. */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
        len != sizeof(cred) || cred.uid == (uid_t)-1) {
        return false;
    }
    *ret = (QmpPeer) { .pid = cred.pid, .uid = cred.uid, .gid = cred.gid,
                       .fd = fd };
    return true;
}

bool qmp_peer_has_group(const QmpPeer *peer, gid_t group)
{
    g_autofree gid_t *groups = NULL;
    socklen_t len = 0;

    if (peer->gid == group) {
        return true;
    }
    /* Fails, and says how long the list is. */
    getsockopt(peer->fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len);
    groups = g_malloc0(MAX(len, sizeof(gid_t)));
    if (len == 0 || getsockopt(peer->fd, SOL_SOCKET, SO_PEERGROUPS, groups,
                               &len) < 0) {
        return false;
    }
    for (size_t i = 0; i < len / sizeof(gid_t); i++) {
        if (groups[i] == group) {
            return true;
        }
    }
    return false;
}
