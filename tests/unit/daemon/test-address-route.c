/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/address.h"

enum { TIMEOUT_MS = 30000 };

/* A listener on loopback, and what it was given. */
static int listen_at(const char *text, Address **ret)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Address) any = address_parse(text, NULL);
    int fd = address_listen(any, 8, 0600, &error);

    g_assert_no_error(error);
    *ret = address_of_listener(fd, &error);
    g_assert_no_error(error);
    return fd;
}

static int connect_by(const Address *to, const AddressRoute *route)
{
    g_autoptr(GError) error = NULL;
    int fd = address_connect_by(to, route, TIMEOUT_MS, NULL, &error);

    g_assert_no_error(error);
    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static void assert_fails(const Address *to, const AddressRoute *route,
                         const char *text)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(address_connect_by(to, route, TIMEOUT_MS, NULL, &error), ==,
                    -1);
    g_assert_nonnull(strstr(error->message, text));
}

static void test_binds_to_an_address(void)
{
    AddressRoute route = { .bind = "127.0.0.77" };
    g_autoptr(Address) to = NULL;
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    int listener = listen_at("tcp:127.0.0.1:0", &to);
    int fd = connect_by(to, &route);

    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&from, &len), ==, 0);
    g_assert_cmphex(ntohl(from.sin_addr.s_addr), ==, 0x7f00004d);
    close(fd);
    close(listener);
}

static void test_binds_to_an_interface(void)
{
    AddressRoute route = { .bind = "lo" };
    g_autoptr(Address) to = NULL;
    char name[32] = "";
    socklen_t len = sizeof(name);
    int listener = listen_at("tcp:127.0.0.1:0", &to);
    int fd = connect_by(to, &route);

    g_assert_cmpint(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len), ==,
                    0);
    g_assert_cmpstr(name, ==, "lo");
    close(fd);
    close(listener);
}

static void test_says_what_could_not_be_had(void)
{
    g_autoptr(Address) to = NULL;
    int listener = listen_at("tcp:127.0.0.1:0", &to);

    assert_fails(to, &(AddressRoute){ .bind = "no-such-if0" },
                 "bind to interface no-such-if0: ");
    assert_fails(to, &(AddressRoute){ .bind = "192.0.2.55" },
                 "bind to 192.0.2.55: ");
    assert_fails(to, &(AddressRoute){ .bind = "::1" },
                 "bind to ::1: the other end has an IPv4 address");
    assert_fails(to, &(AddressRoute){ .congestion_control = "hope" },
                 "congestion-control hope: ");
    close(listener);
}

static void test_marks(void)
{
    /* Every kernel has reno. */
    AddressRoute route = { .congestion_control = "reno", .dscp = 10 };
    g_autoptr(Address) to = NULL;
    char name[32] = "";
    int tos = 0;
    socklen_t len = sizeof(tos);
    int listener = listen_at("tcp:127.0.0.1:0", &to);
    int fd = connect_by(to, &route);

    g_assert_cmpint(getsockopt(fd, IPPROTO_IP, IP_TOS, &tos, &len), ==, 0);
    g_assert_cmpint(tos, ==, 10 << 2);
    len = sizeof(name);
    g_assert_cmpint(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len), ==,
                    0);
    g_assert_cmpstr(name, ==, "reno");
    close(fd);
    close(listener);
}

/* A peer without it speaks TCP; so does this listener. */
static void test_mptcp_falls_back(void)
{
    AddressRoute route = { .mptcp = true };
    g_autoptr(Address) to = NULL;
    int listener = listen_at("tcp:127.0.0.1:0", &to);
    int fd = connect_by(to, &route);

    g_assert_cmpint(write(fd, "x", 1), ==, 1);
    close(fd);
    close(listener);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/daemon/address-route/" name, function)
    ADD("binds-to-an-address", test_binds_to_an_address);
    ADD("binds-to-an-interface", test_binds_to_an_interface);
    ADD("says-what-could-not-be-had", test_says_what_could_not_be_had);
    ADD("marks", test_marks);
    ADD("mptcp-falls-back", test_mptcp_falls_back);
    return g_test_run();
}
