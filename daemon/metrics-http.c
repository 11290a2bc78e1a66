/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/metrics-http.c - one page, many strangers
 *
 * A connection is for one answer and then closed.  The library bounds their number,
 * in all and of one IP address, and cuts off who is silent; who goes on sending a
 * byte now and then is cut off here, after a time that no scrape takes.  The text is
 * made anew at most five times a second, however often it is asked for: that takes
 * the locks of migrations.
 */
#include "daemon/metrics-http.h"

#include <unistd.h>

#ifdef HAVE_LIBMICROHTTPD

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "daemon/log.h"
#include "daemon/metrics.h"

enum {
    CONNECTIONS_MAX = 32,
    PER_IP_MAX = 16,
    MEMORY_MAX = 16 * 1024,     /* of a connection: request and headers */
    SILENT_S = 10,
    WHOLE_US = 15 * G_USEC_PER_SEC,
    TEXT_AGE_US = G_USEC_PER_SEC / 5,
    COMPLAIN_US = 60 * G_USEC_PER_SEC,
};

struct MetricsHttp {
    Daemon *daemon;
    struct MHD_Daemon *server;
    guint timer;

    GBytes *text;               /* these are of the server's thread */
    int64_t text_us;
    int64_t complained_us;

    GMutex lock;                /* guards all below; a leaf */
    GHashTable *connections;    /* fd -> int64_t *: since when */
};

bool metrics_http_is_built_in(void)
{
    return true;
}

/* ---- answers ---------------------------------------------------------------------- */

static GBytes *get_text(MetricsHttp *self)
{
    int64_t now_us = g_get_monotonic_time();
    char *text;

    if (!self->text || now_us - self->text_us >= TEXT_AGE_US) {
        text = metrics_to_text(self->daemon, METRICS_OPENMETRICS);
        g_clear_pointer(&self->text, g_bytes_unref);
        self->text = g_bytes_new_take(text, strlen(text));
        self->text_us = now_us;
    }
    return self->text;
}

static enum MHD_Result send_text(struct MHD_Connection *connection, unsigned status,
                                 const char *type, GBytes *text)
{
    size_t len;
    const void *data = g_bytes_get_data(text, &len);
    struct MHD_Response *response = MHD_create_response_from_buffer(
        len, (void *)data, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result = MHD_NO;

    if (response &&
        MHD_add_response_header(response, "Content-Type", type) == MHD_YES &&
        MHD_add_response_header(response, "Connection", "close") == MHD_YES &&
        (status != MHD_HTTP_METHOD_NOT_ALLOWED ||
         MHD_add_response_header(response, "Allow", "GET") == MHD_YES)) {
        result = MHD_queue_response(connection, status, response);
    }
    if (response) {
        MHD_destroy_response(response);
    }
    return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status,
                              const char *text)
{
    g_autoptr(GBytes) bytes = g_bytes_new_static(text, strlen(text));

    return send_text(connection, status, "text/plain; charset=utf-8", bytes);
}

/* Called with the header, and again when the request is complete. */
static enum MHD_Result answer(void *data, struct MHD_Connection *connection,
                              const char *url, const char *method,
                              const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
    static int header_seen;
    MetricsHttp *self = data;

    (void)version;
    (void)upload;
    (void)upload_size;
    if (strcmp(url, "/metrics") != 0) {
        return refuse(connection, MHD_HTTP_NOT_FOUND, "see /metrics\n");
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0) {
        return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET only\n");
    }
    if (!*state) {
        *state = &header_seen;
        return MHD_YES;
    }
    return send_text(connection, MHD_HTTP_OK,
                     metrics_get_content_type(METRICS_OPENMETRICS), get_text(self));
}

/* ---- connections ------------------------------------------------------------------ */

/* The library closes the descriptor only after it has said so here. */
static void note_connection(void *data, struct MHD_Connection *connection,
                            void **context, enum MHD_ConnectionNotificationCode what)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    MetricsHttp *self = data;
    int64_t now_us = g_get_monotonic_time();
    gpointer key = GINT_TO_POINTER(info ? info->connect_fd : -1);

    (void)context;
    g_mutex_lock(&self->lock);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        g_hash_table_insert(self->connections, key,
                            g_memdup2(&now_us, sizeof(now_us)));
    } else {
        g_hash_table_remove(self->connections, key);
    }
    g_mutex_unlock(&self->lock);
}

static gboolean cut_off_slow(void *data)
{
    MetricsHttp *self = data;
    int64_t limit_us = g_get_monotonic_time() - WHOLE_US;
    GHashTableIter iter;
    gpointer fd;
    int64_t *since_us;

    g_mutex_lock(&self->lock);
    g_hash_table_iter_init(&iter, self->connections);
    while (g_hash_table_iter_next(&iter, &fd, (gpointer *)&since_us)) {
        if (*since_us < limit_us) {
            shutdown(GPOINTER_TO_INT(fd), SHUT_RDWR);
        }
    }
    g_mutex_unlock(&self->lock);
    return G_SOURCE_CONTINUE;
}

/* ---- the library's troubles ------------------------------------------------------- */

/* Mostly what strangers send: it must not fill the journal. */
static void complain(void *data, const char *format, va_list ap)
    G_GNUC_PRINTF(2, 0);
static void complain(void *data, const char *format, va_list ap)
{
    MetricsHttp *self = data;
    int64_t now_us = g_get_monotonic_time();
    g_autofree char *text = g_strdup_vprintf(format, ap);

    g_strchomp(text);
    if (self->complained_us == 0 || now_us - self->complained_us > COMPLAIN_US) {
        self->complained_us = now_us;
        log_info(NULL, "metrics by HTTP: %s (no more of this for a minute)", text);
    } else {
        log_debug(NULL, "metrics by HTTP: %s", text);
    }
}

/* It cannot go on, and what it is going on with is our process. */
static void panic(void *data, const char *file, unsigned line, const char *reason)
{
    (void)data;
    log_error(NULL, "metrics by HTTP: the library has failed: %s (%s:%u); the daemon "
              "ends", reason ? reason : "no reason given", file, line);
    abort();
}

/* ---- life -------------------------------------------------------------------------- */

MetricsHttp *metrics_http_new(Daemon *daemon, int fd, GError **error)
{
    MetricsHttp *self = g_new0(MetricsHttp, 1);

    self->daemon = daemon;
    g_mutex_init(&self->lock);
    self->connections = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    MHD_set_panic_func(panic, NULL);
    self->server = MHD_start_daemon(
        MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_ERROR_LOG, 0, NULL, NULL, answer, self,
        MHD_OPTION_EXTERNAL_LOGGER, complain, self,
        MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)PER_IP_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SILENT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_MAX,
        MHD_OPTION_NOTIFY_CONNECTION, note_connection, self,
        MHD_OPTION_END);
    if (!self->server) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    "the HTTP server cannot be started: %s", g_strerror(errno));
        metrics_http_free(self);
        return NULL;
    }
    self->timer = g_timeout_add_seconds(1, cut_off_slow, self);
    return self;
}

void metrics_http_free(MetricsHttp *self)
{
    if (!self) {
        return;
    }
    g_clear_handle_id(&self->timer, g_source_remove);
    if (self->server) {
        MHD_stop_daemon(self->server);
    }
    g_clear_pointer(&self->text, g_bytes_unref);
    g_hash_table_unref(self->connections);
    g_mutex_clear(&self->lock);
    g_free(self);
}

#else

bool metrics_http_is_built_in(void)
{
    return false;
}

MetricsHttp *metrics_http_new(Daemon *daemon, int fd, GError **error)
{
    (void)daemon;
    close(fd);
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                "this multiferryd was built without HTTP (libmicrohttpd)");
    return NULL;
}

void metrics_http_free(MetricsHttp *self)
{
    (void)self;
}

#endif
