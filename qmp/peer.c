/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp/peer.h"

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
    *ret = (QmpPeer) { .pid = cred.pid, .uid = cred.uid, .gid = cred.gid };
    return true;
}
