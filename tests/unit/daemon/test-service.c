/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/service.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib/gstdio.h>

/* What systemd would hear. */
typedef struct {
    char *directory, *path;
    int fd;
} Manager;

static int listen_unix(const char *path, int type)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval patience = { .tv_sec = 5 };
    int fd = socket(AF_UNIX, type, 0);

    g_assert_cmpint(fd, >=, 0);
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)),
                    ==, 0);
    if (type == SOCK_STREAM) {
        g_assert_cmpint(listen(fd, 1), ==, 0);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
}

static void manager_begin(Manager *self)
{
    self->directory = g_dir_make_tmp("test-service-XXXXXX", NULL);
    g_assert_nonnull(self->directory);
    self->path = g_build_filename(self->directory, "notify", NULL);
    self->fd = listen_unix(self->path, SOCK_DGRAM);
    g_setenv("NOTIFY_SOCKET", self->path, TRUE);
}

static void manager_end(Manager *self)
{
    g_unsetenv("NOTIFY_SOCKET");
    close(self->fd);
    g_unlink(self->path);
    g_rmdir(self->directory);
    g_free(self->path);
    g_free(self->directory);
}

static char *manager_receive(Manager *self)
{
    char text[1024];
    ssize_t len = recv(self->fd, text, sizeof(text), 0);

    g_assert_cmpint((int)len, >, 0);
    return g_strndup(text, (gsize)len);
}

static void test_says_ready_and_stopping(void)
{
    g_autofree char *expected = g_strdup_printf("READY=1\nMAINPID=%d",
                                                (int)getpid());
    g_autofree char *ready = NULL, *stopping = NULL;
    Manager manager;

    manager_begin(&manager);
    service_ready();
    ready = manager_receive(&manager);
    service_stopping();
    stopping = manager_receive(&manager);
    manager_end(&manager);
    g_assert_cmpstr(ready, ==, expected);
    g_assert_cmpstr(stopping, ==, "STOPPING=1");
}

static void test_reload_tells_the_time(void)
{
    gint64 before = g_get_monotonic_time(), said;
    g_autofree char *text = NULL;
    Manager manager;

    manager_begin(&manager);
    service_reloading();
    text = manager_receive(&manager);
    manager_end(&manager);
    g_assert_true(g_str_has_prefix(text, "RELOADING=1\nMONOTONIC_USEC="));
    said = g_ascii_strtoll(strrchr(text, '=') + 1, NULL, 10);
    g_assert_cmpint(said, >=, before);
    g_assert_cmpint(said, <=, g_get_monotonic_time());
}

/* A line end in a status would be an assignment of its own. */
static void test_status_is_one_line(void)
{
    g_autofree char *text = NULL;
    Manager manager;

    manager_begin(&manager);
    service_status("%u migrations%s", 2, "\nSTOPPING=1");
    text = manager_receive(&manager);
    manager_end(&manager);
    g_assert_cmpstr(text, ==, "STATUS=2 migrations STOPPING=1");
}

static void test_pats_the_watchdog(void)
{
    g_autofree char *pid = g_strdup_printf("%d", (int)getpid());
    Manager manager;

    manager_begin(&manager);
    g_setenv("WATCHDOG_USEC", "20000", TRUE);
    g_setenv("WATCHDOG_PID", pid, TRUE);
    service_start_watchdog();
    for (unsigned i = 0; i < 3; i++) {
        g_autofree char *text = manager_receive(&manager);

        g_assert_cmpstr(text, ==, "WATCHDOG=1");
        g_main_context_iteration(NULL, TRUE);
    }
    service_stop_watchdog();
    g_assert_false(g_main_context_pending(NULL));
    manager_end(&manager);
}

static void test_silent_without_systemd(void)
{
    g_unsetenv("NOTIFY_SOCKET");
    g_unsetenv("WATCHDOG_USEC");
    service_ready();
    service_start_watchdog();
    g_assert_false(g_main_context_pending(NULL));
    service_init();
    g_assert_cmpint(service_take_socket("control"), ==, -1);
    service_close_unused();
}

/* In a child: descriptors 3, 4 and 5 are whose they are. */
static int use_passed_sockets(int control, int other, int datagram)
{
    g_autofree char *pid = g_strdup_printf("%d", (int)getpid());
    int fd;

    /* Out of the way first, as they may be among the three. */
    control = fcntl(control, F_DUPFD, 10);
    other = fcntl(other, F_DUPFD, 10);
    datagram = fcntl(datagram, F_DUPFD, 10);
    if (dup2(other, 3) < 0 || dup2(control, 4) < 0 || dup2(datagram, 5) < 0) {
        return 1;
    }
    g_setenv("LISTEN_PID", pid, TRUE);
    g_setenv("LISTEN_FDS", "3", TRUE);
    g_setenv("LISTEN_FDNAMES", "strange:control:link", TRUE);
    service_init();
    fd = service_take_socket("control");
    if (fd != 4 || !(fcntl(fd, F_GETFL) & O_NONBLOCK) ||
        !(fcntl(fd, F_GETFD) & FD_CLOEXEC)) {
        return 2;
    }
    if (service_take_socket("control") != -1) {
        return 3;
    }
    if (service_take_socket("link") != -1) {
        return 4;       /* a datagram socket is no link */
    }
    service_close_unused();
    if (fcntl(3, F_GETFD) != -1 || fcntl(4, F_GETFD) == -1 ||
        fcntl(5, F_GETFD) != -1) {
        return 5;
    }
    return g_getenv("LISTEN_FDS") ? 6 : 0;
}

static void test_takes_sockets_by_name(void)
{
    g_autofree char *directory = g_dir_make_tmp("test-service-XXXXXX", NULL);
    g_autofree char *a = g_build_filename(directory, "a", NULL);
    g_autofree char *b = g_build_filename(directory, "b", NULL);
    g_autofree char *c = g_build_filename(directory, "c", NULL);
    int control = listen_unix(a, SOCK_STREAM);
    int other = listen_unix(b, SOCK_STREAM);
    int datagram = listen_unix(c, SOCK_DGRAM);
    int status;
    pid_t child = fork();

    if (child == 0) {
        _exit(use_passed_sockets(control, other, datagram));
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    close(control);
    close(other);
    close(datagram);
    g_unlink(a);
    g_unlink(b);
    g_unlink(c);
    g_rmdir(directory);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/service/says-ready-and-stopping",
                    test_says_ready_and_stopping);
    g_test_add_func("/daemon/service/reload-tells-the-time",
                    test_reload_tells_the_time);
    g_test_add_func("/daemon/service/status-is-one-line",
                    test_status_is_one_line);
    g_test_add_func("/daemon/service/pats-the-watchdog",
                    test_pats_the_watchdog);
    g_test_add_func("/daemon/service/silent-without-systemd",
                    test_silent_without_systemd);
    g_test_add_func("/daemon/service/takes-sockets-by-name",
                    test_takes_sockets_by_name);
    return g_test_run();
}
