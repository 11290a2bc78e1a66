/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp/peer.h - who is at the other end of a socket
 */
#ifndef QMP_PEER_H
#define QMP_PEER_H

#include <stdbool.h>
#include <sys/types.h>

/* As the kernel noted them at connect(); a later setuid() changes nothing. */
typedef struct QmpPeer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
    int fd;         /* it was asked of; may be closed when a callback returns */
} QmpPeer;

/* False when the kernel does not know, as for TCP. */
bool qmp_peer_get_credentials(int fd, QmpPeer *ret);

/* Whether it was in @group then; @peer's socket must still be open. */
bool qmp_peer_has_group(const QmpPeer *peer, gid_t group);

#endif
