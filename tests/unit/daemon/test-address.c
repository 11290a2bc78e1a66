/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/address.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LONG_MS 30000       /* a deadline that is not expected to pass */

static Address *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    Address *self = address_parse(text, &error);

    g_assert_no_error(error);
    return self;
}

static void test_parses_every_form(void)
{
    static const struct {
        const char *text;
        AddressKind kind;
        const char *host;
        unsigned cid;
        unsigned port;
        const char *canonical;
    } cases[] = {
        { "tcp:example.net:4444", ADDRESS_TCP, "example.net", 0, 4444,
          "tcp:example.net:4444" },
        { "192.0.2.1:1", ADDRESS_TCP, "192.0.2.1", 0, 1, "tcp:192.0.2.1:1" },
        { "tcp:0:65535", ADDRESS_TCP, "0", 0, 65535, "tcp:0:65535" },
        { "tcp::4444", ADDRESS_TCP, "", 0, 4444, "tcp::4444" },
        { "[::1]:0", ADDRESS_TCP, "::1", 0, 0, "tcp:[::1]:0" },
        { "tcp:[fe80::1%eth0]:9", ADDRESS_TCP, "fe80::1%eth0", 0, 9,
          "tcp:[fe80::1%eth0]:9" },
        { "unix:/run/a:b", ADDRESS_UNIX, "/run/a:b", 0, 0, "unix:/run/a:b" },
        { "/run/x", ADDRESS_UNIX, "/run/x", 0, 0, "unix:/run/x" },
        { "unix:rel", ADDRESS_UNIX, "rel", 0, 0, "unix:rel" },
        { "vsock:2:1234", ADDRESS_VSOCK, NULL, 2, 1234, "vsock:2:1234" },
        { "vsock:any:7", ADDRESS_VSOCK, NULL, 4294967295u, 7,
          "vsock:4294967295:7" },
    };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Address) address = parse(cases[i].text);
        g_autoptr(Address) copy = address_copy(address);

        g_assert_cmpint(copy->kind, ==, cases[i].kind);
        g_assert_cmpstr(copy->host, ==, cases[i].host);
        g_assert_cmpuint(copy->cid, ==, cases[i].cid);
        g_assert_cmpuint(copy->port, ==, cases[i].port);
        g_assert_cmpstr(copy->text, ==, cases[i].canonical);
    }
}

static void test_says_what_is_wrong(void)
{
    static const struct { const char *text, *message; } cases[] = {
        { "", "got '', expected tcp:HOST:PORT" },
        { "example.net", "expected tcp:HOST:PORT" },
        { "tcp:example.net", "expected tcp:HOST:PORT" },
        { "tcp:h:65536", "a port from 0 to 65535" },
        { "tcp:h:", "a port from 0 to 65535" },
        { "tcp:h:+1", "a port from 0 to 65535" },
        { "tcp:h:4444,ipv4=on", "options after a comma" },
        { "tcp:::1:4444", "must stand in brackets" },
        { "tcp:[::1:4444", "in the brackets" },
        { "tcp:[]:4444", "in the brackets" },
        { "tcp:[x]:4444", "in the brackets" },
        { "[:4444", "in the brackets" },
        { "tcp:a b:4444", "expected a host name" },
        { "tcp:a\n:4444", "got 'tcp:a\\n:4444', expected a host name" },
        { "unix:", "expected a path" },
        { "vsock:1", "expected vsock:CID:PORT" },
        { "vsock:x:1", "expected vsock:CID:PORT" },
        { "vsock:1:2:3", "expected vsock:CID:PORT" },
        { "fd:4", "expected tcp:HOST:PORT" },
        { "exec:cat", "expected tcp:HOST:PORT" },
    };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(address_parse(cases[i].text, &error));
        g_assert_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
        if (!strstr(error->message, cases[i].message)) {
            g_error("'%s' gave '%s'", cases[i].text, error->message);
        }
    }
}

/* sun_path has 108 bytes with its NUL; the kernel would say only EINVAL. */
static void test_refuses_too_long_a_path(void)
{
    g_autofree char *fits = g_strnfill(107, '/');
    g_autofree char *too_long = g_strnfill(108, '/');
    g_autoptr(GError) error = NULL;
    g_autoptr(Address) address = parse(fits);

    g_assert_null(address_parse(too_long, &error));
    g_assert_nonnull(strstr(error->message, "108 bytes"));
    g_assert_nonnull(strstr(error->message, "at most 107"));
}

static int listen_at(const char *text)
{
    g_autoptr(Address) address = parse(text);
    g_autoptr(GError) error = NULL;
    int fd = address_listen(address, 8, 0600, &error);

    g_assert_no_error(error);
    g_assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    g_assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    return fd;
}

static int connect_to(const Address *address)
{
    g_autoptr(GError) error = NULL;
    int fd = address_connect(address, LONG_MS, NULL, &error);

    g_assert_no_error(error);
    g_assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    g_assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
    return fd;
}

static void check_round_trip(const char *at, const char *host)
{
    int listener = listen_at(at);
    g_autoptr(Address) bound = address_of_listener(listener, NULL);
    g_autoptr(Address) target = NULL;
    g_autofree char *text = g_strdup_printf("%s:%u", host, bound->port);
    g_autofree char *peer = NULL;
    int nodelay = 0;
    socklen_t len = sizeof(nodelay);
    int fd;

    g_assert_cmpuint(bound->port, !=, 0);
    target = parse(text);
    fd = connect_to(target);
    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &len);
    g_assert_cmpint(nodelay, !=, 0);
    peer = address_describe_peer(fd);
    g_assert_true(g_str_has_prefix(peer, "tcp:"));
    g_assert_true(g_str_has_suffix(peer, strrchr(target->text, ':')));
    close(fd);
    close(listener);
}

static bool have_ipv6(void)
{
    struct sockaddr_in6 at = { .sin6_family = AF_INET6,
                               .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static void test_tcp_round_trip(void)
{
    check_round_trip("127.0.0.1:0", "127.0.0.1");
    check_round_trip("tcp::0", "tcp:127.0.0.1");
    /* 'localhost' may give ::1 first, where nobody listens: try the next */
    check_round_trip("127.0.0.1:0", "localhost");
}

static void test_tcp6_round_trip(void)
{
    if (!have_ipv6()) {
        g_test_skip("needs IPv6 on the loopback interface");
        return;
    }
    check_round_trip("[::1]:0", "[::1]");
    check_round_trip("[::]:0", "127.0.0.1");
}

static void test_refused_says_where(void)
{
    int listener = listen_at("127.0.0.1:0");
    g_autoptr(Address) bound = address_of_listener(listener, NULL);
    g_autoptr(GError) error = NULL;

    close(listener);
    g_assert_cmpint(address_connect(bound, LONG_MS, NULL, &error), ==, -1);
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED);
    g_assert_nonnull(strstr(error->message, bound->text));
}

static void test_port_zero_is_no_target(void)
{
    g_autoptr(Address) address = parse("127.0.0.1:0");
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(address_connect(address, LONG_MS, NULL, &error), ==, -1);
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
}

typedef struct {
    char *directory;
    char *path;
    Address *address;
} UnixFixture;

static void unix_set_up(UnixFixture *self, gconstpointer data G_GNUC_UNUSED)
{
    self->directory = g_dir_make_tmp("address-XXXXXX", NULL);
    self->path = g_build_filename(self->directory, "s", NULL);
    self->address = parse(self->path);
}

static void unix_tear_down(UnixFixture *self,
                           gconstpointer data G_GNUC_UNUSED)
{
    g_unlink(self->path);
    g_assert_cmpint(g_rmdir(self->directory), ==, 0);
    address_free(self->address);
    g_free(self->path);
    g_free(self->directory);
}

/* The umask of whoever started us must neither open nor close the socket. */
static void test_unix_mode_is_as_asked(UnixFixture *self,
                                       gconstpointer data G_GNUC_UNUSED)
{
    static const mode_t masks[] = { 0, 0077, 0777 };
    static const unsigned modes[] = { 0600, 0660, 0666 };
    size_t i;

    for (i = 0; i < 3; i++) {
        mode_t before = umask(masks[i]);
        int fd = address_listen(self->address, 8, modes[i], NULL);
        struct stat st;

        umask(before);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(lstat(self->path, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 07777, ==, modes[i]);
        close(fd);      /* leaves the file, stale, for the next round */
    }
}

static void test_unix_in_use_is_left_alone(UnixFixture *self,
                                           gconstpointer data G_GNUC_UNUSED)
{
    int listener = address_listen(self->address, 8, 0600, NULL);
    g_autoptr(Address) bound = address_of_listener(listener, NULL);
    g_autoptr(GError) error = NULL;
    g_autofree char *peer = NULL;
    g_autofree char *expected = g_strdup_printf("unix (pid %d, uid %u)",
                                                (int)getpid(), getuid());
    int fd;

    g_assert_cmpstr(bound->text, ==, self->address->text);
    g_assert_cmpint(address_listen(self->address, 8, 0600, &error), ==, -1);
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_ADDRESS_IN_USE);
    fd = connect_to(self->address);
    peer = address_describe_peer(fd);
    g_assert_cmpstr(peer, ==, expected);
    close(fd);
    close(listener);
}

static void test_unix_file_is_not_replaced(UnixFixture *self,
                                           gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(g_file_set_contents(self->path, "mine", -1, NULL));
    g_assert_cmpint(address_listen(self->address, 8, 0600, &error), ==, -1);
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS);
    g_assert_true(g_file_test(self->path, G_FILE_TEST_IS_REGULAR));
}

/* Fill the backlog of a listener that never accepts: then connecting waits. */
static GArray *fill_backlog(const Address *address)
{
    GArray *fds = g_array_new(FALSE, FALSE, sizeof(int));

    for (;;) {
        int fd = address_connect(address, 20, NULL, NULL);

        if (fd < 0) {
            return fds;
        }
        g_array_append_val(fds, fd);
    }
}

static void close_all(GArray *fds)
{
    unsigned i;

    for (i = 0; i < fds->len; i++) {
        close(g_array_index(fds, int, i));
    }
    g_array_unref(fds);
}

static void test_unix_timeout(UnixFixture *self,
                              gconstpointer data G_GNUC_UNUSED)
{
    int listener = address_listen(self->address, 1, 0600, NULL);
    GArray *fds = fill_backlog(self->address);
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(address_connect(self->address, 20, NULL, &error), ==, -1);
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    close_all(fds);
    close(listener);
}

static gpointer cancel_thread(gpointer data)
{
    g_usleep(10000);
    g_cancellable_cancel(data);
    return NULL;
}

static void test_cancel_ends_a_wait(UnixFixture *self,
                                    gconstpointer data G_GNUC_UNUSED)
{
    int listener = address_listen(self->address, 1, 0600, NULL);
    GArray *fds = fill_backlog(self->address);
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    g_autoptr(GError) error = NULL;
    GThread *thread = g_thread_new("cancel", cancel_thread, cancellable);

    g_assert_cmpint(address_connect(self->address, LONG_MS, cancellable,
                                    &error), ==, -1);
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    g_thread_join(thread);
    close_all(fds);
    close(listener);
}

static void test_tcp_timeout_and_cancel(void)
{
    int listener = listen_at("127.0.0.1:0");
    g_autoptr(Address) bound = address_of_listener(listener, NULL);
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    g_autoptr(GError) error = NULL;
    GThread *thread;
    GArray *fds;

    g_assert_cmpint(listen(listener, 0), ==, 0);
    fds = fill_backlog(bound);
    g_assert_cmpint(address_connect(bound, 20, NULL, &error), ==, -1);
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    g_clear_error(&error);
    thread = g_thread_new("cancel", cancel_thread, cancellable);
    g_assert_cmpint(address_connect(bound, LONG_MS, cancellable, &error), ==,
                    -1);
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    g_thread_join(thread);
    close_all(fds);
    close(listener);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add_func("/daemon/address/" path, test)
#define ADD_UNIX(path, test) \
    g_test_add("/daemon/address/" path, UnixFixture, NULL, unix_set_up, test, \
               unix_tear_down)
    ADD("parses-every-form", test_parses_every_form);
    ADD("says-what-is-wrong", test_says_what_is_wrong);
    ADD("refuses-too-long-a-path", test_refuses_too_long_a_path);
    ADD("tcp-round-trip", test_tcp_round_trip);
    ADD("tcp6-round-trip", test_tcp6_round_trip);
    ADD("refused-says-where", test_refused_says_where);
    ADD("port-zero-is-no-target", test_port_zero_is_no_target);
    ADD("tcp-timeout-and-cancel", test_tcp_timeout_and_cancel);
    ADD_UNIX("unix-mode-is-as-asked", test_unix_mode_is_as_asked);
    ADD_UNIX("unix-in-use-is-left-alone", test_unix_in_use_is_left_alone);
    ADD_UNIX("unix-file-is-not-replaced", test_unix_file_is_not_replaced);
    ADD_UNIX("unix-timeout", test_unix_timeout);
    ADD_UNIX("cancel-ends-a-wait", test_cancel_ends_a_wait);
    return g_test_run();
}
