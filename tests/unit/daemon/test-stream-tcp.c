/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel says of a TCP connection, and that a unix socket is none. */
#include "daemon/stream-tcp.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Two ends on the loopback, connected. */
static void connect_pair(int fds[2])
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    g_assert_cmpint(bind(listener, (struct sockaddr *)&address, len), ==, 0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    g_assert_cmpint(getsockname(listener, (struct sockaddr *)&address, &len),
                    ==, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    g_assert_cmpint(connect(fds[0], (struct sockaddr *)&address, len), ==, 0);
    fds[1] = accept(listener, NULL, NULL);
    g_assert_cmpint(fds[1], >=, 0);
    close(listener);
}

static void test_tcp(void)
{
    g_autoptr(Stream) a = NULL, b = NULL;
    StreamTcp tcp = { .retransmits = 99 };
    char algorithm[STREAM_TCP_ALGORITHM_SIZE];
    int fds[2];

    connect_pair(fds);
    a = stream_new(fds[0], "a");
    b = stream_new(fds[1], "b");
    g_assert_true(stream_write(a, "x", 1, NULL));
    g_assert_true(stream_tcp_get(a, &tcp));
    g_assert_cmpuint(tcp.rtt_us, >, 0);     /* of the handshake */
    g_assert_cmpuint(tcp.retransmits, ==, 0);
    g_assert_cmpuint(tcp.mss, >, 0);
    g_assert_cmpuint(tcp.mtu, >, tcp.mss);
    g_assert_cmpuint(tcp.segments, ==, 1);
    stream_tcp_get_algorithm(a, algorithm);
    g_assert_cmpstr(algorithm, !=, "");
    g_assert_cmpuint(tcp.least_rtt_us, >, 0);
    g_assert_cmpuint(tcp.least_rtt_us, <=, tcp.rtt_us);
}

/* A receiver who does not read: what it has not room for is unsent. */
static void test_unsent(void)
{
    g_autoptr(Stream) a = NULL, b = NULL;
    StreamTcp tcp;
    int fds[2], small = 4096;
    char buf[65536] = { 0 };

    connect_pair(fds);
    g_assert_cmpint(setsockopt(fds[1], SOL_SOCKET, SO_RCVBUF, &small,
                               sizeof(small)), ==, 0);
    a = stream_new(fds[0], "a");
    b = stream_new(fds[1], "b");
    while (send(fds[0], buf, sizeof(buf), MSG_DONTWAIT) > 0) {
    }
    g_assert_true(stream_tcp_get(a, &tcp));
    g_assert_cmpuint(tcp.unsent, >, 0);
    g_assert_cmpuint(tcp.acked, <, G_MAXUINT32);
}

static void test_no_tcp(void)
{
    g_autoptr(Stream) a = NULL, b = NULL;
    StreamTcp tcp;
    char algorithm[STREAM_TCP_ALGORITHM_SIZE] = "x";
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    a = stream_new(fds[0], "a");
    b = stream_new(fds[1], "b");
    g_assert_false(stream_tcp_get(a, &tcp));
    stream_tcp_get_algorithm(a, algorithm);
    g_assert_cmpstr(algorithm, ==, "");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/stream-tcp/tcp", test_tcp);
    g_test_add_func("/daemon/stream-tcp/unsent", test_unsent);
    g_test_add_func("/daemon/stream-tcp/no-tcp", test_no_tcp);
    return g_test_run();
}
