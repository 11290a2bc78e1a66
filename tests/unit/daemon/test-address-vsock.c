/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockets of AF_VSOCK, as far as this kernel has them: a listener needs the
 * family, a connection to ourselves the module vsock_loopback.
 */
#include "daemon/address.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/stream.h"

enum { TIMEOUT_MS = 10000, LOOPBACK = 1 };

/* vsock has no port that means "any" in QEMU's syntax. */
static unsigned pick_port(void)
{
    static unsigned next;

    return 20000 + (unsigned)getpid() % 20000 + next++;
}

static Address *address(unsigned cid, unsigned port)
{
    g_autofree char *text = g_strdup_printf("vsock:%u:%u", cid, port);
    g_autoptr(GError) error = NULL;
    Address *self = address_parse(text, &error);

    g_assert_no_error(error);
    return self;
}

static bool can_bind(unsigned cid)
{
    struct sockaddr_vm at = { .svm_family = AF_VSOCK, .svm_cid = cid,
                              .svm_port = VMADDR_PORT_ANY };
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static void test_listens(void)
{
    g_autoptr(Address) any = address(VMADDR_CID_ANY, pick_port());
    g_autoptr(Address) bound = NULL;
    g_autoptr(GError) error = NULL;
    int fd;

    if (!can_bind(VMADDR_CID_ANY)) {
        g_test_skip("needs AF_VSOCK (/dev/vsock)");
        return;
    }
    fd = address_listen(any, 5, 0, &error);
    g_assert_no_error(error);
    bound = address_of_listener(fd, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(bound->text, ==, any->text);
    g_assert_cmpint(address_listen(any, 5, 0, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, any->text));
    close(fd);
}

/* A CID that is no host here: an error in time, which says which. */
static void test_nobody_there(void)
{
    g_autoptr(Address) nobody = address(0x7fffff00, pick_port());
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(address_connect(nobody, TIMEOUT_MS, NULL, &error), ==, -1);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, nobody->text));
}

static void test_round_trip(void)
{
    unsigned port = pick_port();
    g_autoptr(Address) here = address(LOOPBACK, port);
    g_autoptr(Stream) client = NULL;
    g_autoptr(Stream) server = NULL;
    g_autoptr(GError) error = NULL;
    char buf[4];
    int listener, fd;

    if (!can_bind(LOOPBACK)) {
        g_test_skip("needs vsock loopback (module vsock_loopback)");
        return;
    }
    listener = address_listen(here, 5, 0, &error);
    g_assert_no_error(error);
    fd = address_connect(here, TIMEOUT_MS, NULL, &error);
    g_assert_no_error(error);
    client = stream_new(fd, NULL);
    g_assert_nonnull(strstr(stream_get_peer(client), here->text));
    do {
        fd = accept(listener, NULL, NULL);
    } while (fd < 0 && errno == EAGAIN);
    server = stream_new(fd, NULL);
    g_assert_true(stream_write(client, "abcd", 4, NULL));
    g_assert_true(stream_read_full(server, buf, 4, NULL, NULL));
    g_assert_cmpmem(buf, 4, "abcd", 4);
    stream_finish(client);
    g_assert_cmpint(stream_read(server, buf, 4, NULL), ==, 0);
    close(listener);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/address/vsock/listens", test_listens);
    g_test_add_func("/daemon/address/vsock/nobody-there", test_nobody_there);
    g_test_add_func("/daemon/address/vsock/round-trip", test_round_trip);
    return g_test_run();
}
