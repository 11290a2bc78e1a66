/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/control-service.h"

#include "daemon/history.h"
#include "daemon/metrics.h"
#include "daemon/tls-expiry.h"
#include "qmp/error.h"
#include "qmp/message.h"

enum { HISTORY_LIMIT = 100 };

static bool get_format(JsonObject *args, MetricsFormat *ret, GError **error)
{
    const char *text = qmp_message_get_string(args, "format");

    *ret = METRICS_OPENMETRICS;
    if (!text || strcmp(text, "openmetrics") == 0) {
        return true;
    }
    if (strcmp(text, "prometheus") == 0) {
        *ret = METRICS_PROMETHEUS;
        return true;
    }
    g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                "argument 'format': got '%s', expected 'openmetrics' or "
                "'prometheus'", text);
    return false;
}

static JsonNode *do_query_metrics(QmpServerSession *session, JsonObject *args,
                                  gpointer data, GError **error)
{
    g_autofree char *text = NULL;
    MetricsFormat format;
    JsonObject *ret;

    (void)session;
    if (!get_format(args, &format, error)) {
        return NULL;
    }
    ret = json_object_new();
    text = metrics_to_text(data, format);
    json_object_set_string_member(ret, "content-type",
                                  metrics_get_content_type(format));
    json_object_set_string_member(ret, "text", text);
    return qmp_message_take_object(ret);
}

static JsonNode *do_query_history(QmpServerSession *session, JsonObject *args,
                                  gpointer data, GError **error)
{
    const Daemon *daemon = data;
    int64_t limit = HISTORY_LIMIT;

    (void)session;
    if (qmp_message_get_int(args, "limit", &limit) &&
        (limit < 1 || limit > HISTORY_LIMIT_MAX)) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "argument 'limit': got %" G_GINT64_FORMAT
                    ", expected 1 to %u", limit, HISTORY_LIMIT_MAX);
        return NULL;
    }
    if (!daemon->history) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "no history is kept: [daemon] state-directory is not set");
        return NULL;
    }
    return qmp_message_take_array(history_read(
        daemon->history, qmp_message_get_string(args, "name"),
        (unsigned)limit));
}

static const QmpArg metrics_args[] = { { "format", QMP_TYPE_STRING, true } };
static const QmpArg history_args[] = {
    { "name", QMP_TYPE_STRING, true },
    { "limit", QMP_TYPE_INT, true },
};

static const QmpCommand commands[] = {
    { "query-metrics", do_query_metrics, metrics_args,
      G_N_ELEMENTS(metrics_args), 0, "the daemon's numbers, for monitoring" },
    { "query-history", do_query_history, history_args,
      G_N_ELEMENTS(history_args), 0,
      "migrations that have ended, also before the daemon was started" },
};

static const QmpArg reload_event[] = {
    { "configuration", QMP_TYPE_STRING, false },
    { "credentials", QMP_TYPE_STRING, false },
    { "changes", QMP_TYPE_ANY, true },
    { "error", QMP_TYPE_STRING, true },
};

static const QmpEvent reload = {
    "RELOAD", reload_event, G_N_ELEMENTS(reload_event), 0,
    "the configuration and the credentials were read again",
};

void control_service_add(QmpServer *server, Daemon *daemon)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        qmp_server_add_command(server, &commands[i], daemon);
    }
    qmp_server_add_event(server, &reload);
}

JsonArray *control_service_certificates(Daemon *daemon)
{
    g_autoptr(GPtrArray) list = credentials_list_expiry(daemon->credentials);
    JsonArray *ret = json_array_new();

    for (unsigned i = 0; i < list->len; i++) {
        const TlsExpiry *expiry = g_ptr_array_index(list, i);
        g_autoptr(GDateTime) when =
            g_date_time_new_from_unix_utc(expiry->until);
        g_autofree char *text = g_date_time_format_iso8601(when);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "file", expiry->file);
        json_object_set_string_member(object, "expires", text);
        json_array_add_object_element(ret, object);
    }
    return ret;
}
