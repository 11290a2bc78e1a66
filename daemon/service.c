/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/service.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <glib-unix.h>
#include <systemd/sd-daemon.h>
#include "daemon/log.h"

typedef struct {
    char *name;
    int fd;         /* -1: taken */
} PassedSocket;

/* What systemd passed, in its order; main thread only. */
static PassedSocket *passed;
static unsigned n_passed;
static guint watchdog_id;

void service_init(void)
{
    char **names = NULL;
    /* Unset, so that no child believes the descriptors were for it. */
    int n = sd_listen_fds_with_names(1, &names);

    if (n < 0) {
        log_warning(NULL, "socket activation: %s; going on without it",
                    g_strerror(-n));
    }
    if (n > 0) {
        passed = g_new0(PassedSocket, (gsize)n);
        n_passed = (unsigned)n;
    }
    for (unsigned i = 0; i < n_passed; i++) {
        passed[i].name = g_strdup(names[i]);
        passed[i].fd = SD_LISTEN_FDS_START + (int)i;
    }
    for (char **name = names; name && *name; name++) {
        free(*name);
    }
    free(names);
}

int service_take_socket(const char *name)
{
    for (unsigned i = 0; i < n_passed; i++) {
        g_autoptr(GError) error = NULL;
        int fd = passed[i].fd;

        if (fd < 0 || strcmp(passed[i].name, name) != 0) {
            continue;
        }
        if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
            log_warning(NULL, "socket activation: got '%s' that is not a "
                        "listening stream socket, not using it", name);
            continue;
        }
        passed[i].fd = -1;
        if (!g_unix_set_fd_nonblocking(fd, TRUE, &error)) {
            log_warning(NULL, "socket activation: '%s': %s", name,
                        error->message);
        }
        return fd;
    }
    return -1;
}

void service_close_unused(void)
{
    for (unsigned i = 0; i < n_passed; i++) {
        if (passed[i].fd >= 0) {
            log_warning(NULL, "socket activation: got a socket '%s' that "
                        "nothing uses, expected 'control', 'link' or "
                        "'metrics', one of each; closing it", passed[i].name);
            close(passed[i].fd);
        }
        g_free(passed[i].name);
    }
    g_clear_pointer(&passed, g_free);
    n_passed = 0;
}

void service_ready(void)
{
    sd_notifyf(0, "READY=1\nMAINPID=%lu", (unsigned long)getpid());
}

void service_reloading(void)
{
    /* systemd compares it with its own clock; g_get_monotonic_time() is
     * CLOCK_MONOTONIC too. */
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
               (int64_t)g_get_monotonic_time());
}

void service_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}

void service_extend(unsigned patience_ms)
{
    sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, patience_ms * UINT64_C(1000));
}

void service_status(const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    /* A line end would begin another assignment. */
    g_strdelimit(text, "\n\r", ' ');
    sd_notifyf(0, "STATUS=%s", text);
}

static gboolean pat_watchdog(gpointer user_data)
{
    (void)user_data;
    sd_notify(0, "WATCHDOG=1");
    return G_SOURCE_CONTINUE;
}

void service_start_watchdog(void)
{
    uint64_t interval_us = 0;

    if (watchdog_id == 0 && sd_watchdog_enabled(0, &interval_us) > 0) {
        guint half_ms = (guint)MIN(interval_us / 2000, G_MAXUINT);

        watchdog_id = g_timeout_add(MAX(half_ms, 1), pat_watchdog, NULL);
        pat_watchdog(NULL);
    }
}

void service_stop_watchdog(void)
{
    g_clear_handle_id(&watchdog_id, g_source_remove);
}
