/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp/peer.h"

#include <glib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Our own other end: what the kernel says of it must be what we know of us. */
static void test_knows_every_group(void)
{
    int fds[2], n = getgroups(0, NULL);
    g_autofree gid_t *groups = g_new0(gid_t, (gsize)n + 1);
    QmpPeer peer;

    g_assert_cmpint(getgroups(n, groups), ==, n);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    g_assert_true(qmp_peer_get_credentials(fds[0], &peer));
    g_assert_cmpint(peer.uid, ==, geteuid());
    g_assert_true(qmp_peer_has_group(&peer, getegid()));
    for (int i = 0; i < n; i++) {
        g_assert_true(qmp_peer_has_group(&peer, groups[i]));
    }
    g_assert_false(qmp_peer_has_group(&peer, 4242424));
    close(fds[0]);
    close(fds[1]);
}

static void test_knows_nobody_over_tcp(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    QmpPeer peer;

    g_assert_cmpint(fd, >=, 0);
    g_assert_false(qmp_peer_get_credentials(fd, &peer));
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qmp/peer/knows-every-group", test_knows_every_group);
    g_test_add_func("/qmp/peer/knows-nobody-over-tcp", test_knows_nobody_over_tcp);
    return g_test_run();
}
