/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-events.h"

#include <stdio.h>
#include "daemon/client-format.h"
#include "daemon/client-progress.h"
#include "daemon/client-summary.h"

struct ClientEvents {
    ClientSession *session;
    ClientEventsHandler handler;    /* main thread */
    gpointer user_data;
    struct Shared *shared;
};

/* Outlives the ClientEvents while an event is on its way. */
typedef struct Shared {
    gint references;                /* atomic */
    ClientEvents *events;           /* main thread; NULL: gone */
} Shared;

typedef struct {
    Shared *shared;
    char *name;
    /* As text: JsonObject promises nothing about threads. */
    char *data;
    int64_t timestamp_us;
} Delivery;

static void shared_unref(gpointer data)
{
    Shared *shared = data;

    if (g_atomic_int_dec_and_test(&shared->references)) {
        g_free(shared);
    }
}

static void delivery_free(gpointer data)
{
    Delivery *delivery = data;

    shared_unref(delivery->shared);
    g_free(delivery->name);
    g_free(delivery->data);
    g_free(delivery);
}

/* Main thread. */
static gboolean deliver(gpointer user_data)
{
    Delivery *delivery = user_data;
    ClientEvents *self = delivery->shared->events;
    g_autoptr(JsonNode) node = json_from_string(delivery->data, NULL);
    g_autoptr(JsonObject) empty = json_object_new();

    if (self) {
        self->handler(delivery->name,
                      node && JSON_NODE_HOLDS_OBJECT(node) ?
                      json_node_get_object(node) : empty,
                      delivery->timestamp_us, self->user_data);
    }
    return G_SOURCE_REMOVE;
}

/* The QMP client's thread. */
static void on_event(const char *name, JsonObject *data, int64_t timestamp_us,
                     gpointer user_data)
{
    Delivery *delivery = g_new0(Delivery, 1);

    delivery->shared = user_data;
    g_atomic_int_inc(&delivery->shared->references);
    delivery->name = g_strdup(name);
    delivery->timestamp_us = timestamp_us;
    if (data) {
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(),
                                                         data);

        delivery->data = json_to_string(node, FALSE);
    } else {
        delivery->data = g_strdup("{}");
    }
    g_idle_add_full(G_PRIORITY_DEFAULT, deliver, delivery, delivery_free);
}

ClientEvents *client_events_new(ClientSession *session,
                                ClientEventsHandler handler,
                                gpointer user_data)
{
    ClientEvents *self = g_new0(ClientEvents, 1);

    self->session = session;
    self->handler = handler;
    self->user_data = user_data;
    self->shared = g_new0(Shared, 1);
    self->shared->events = self;
    self->shared->references = 2;   /* ours and the QMP client's */
    qmp_client_set_event_handler(session->qmp, on_event, self->shared,
                                 shared_unref);
    return self;
}

void client_events_free(ClientEvents *self)
{
    if (!self) {
        return;
    }
    qmp_client_set_event_handler(self->session->qmp, NULL, NULL, NULL);
    self->shared->events = NULL;
    shared_unref(self->shared);
    g_free(self);
}

static char *format_timestamp(int64_t timestamp_us)
{
    g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(
        timestamp_us / G_USEC_PER_SEC);
    g_autoptr(GDateTime) local = utc ? g_date_time_to_local(utc) : NULL;

    return local ? g_date_time_format(local, "%F %T") : g_strdup("-");
}

/* It is about the daemon, and no migration. */
static char *describe_reload(JsonObject *data)
{
    g_autofree char *configuration = client_format_escape(
        client_format_get_string(data, "configuration"));
    g_autofree char *credentials = client_format_escape(
        client_format_get_string(data, "credentials"));
    const char *error = client_format_get_string(data, "error");
    g_autofree char *why = client_format_escape(error ? error : "");

    return g_strdup_printf("configuration %s, credentials %s%s%s", configuration,
                           credentials, error ? ": " : "", why);
}

char *client_events_to_string(const char *name, JsonObject *data,
                              int64_t timestamp_us)
{
    g_autofree char *when = format_timestamp(timestamp_us);
    g_autofree char *what = client_format_escape(name);
    g_autofree char *id = client_format_escape(
        client_format_get_string(data, "id"));
    g_autofree char *subject = client_format_escape(
        client_summary_get_subject(data));
    const char *state = client_format_get_string(data, "state");
    const char *error = client_format_get_string(data, "error");
    const char *message = client_format_get_string(data, "message");
    g_autofree char *detail = NULL;

    if (g_strcmp0(name, "MIGRATION_PROGRESS") == 0) {
        detail = client_progress_to_string(data, 120);
    } else if (g_strcmp0(name, "RELOAD") == 0) {
        detail = describe_reload(data);
    } else {
        g_autofree char *all = g_strjoin(": ", state ? state : message,
                                         state && error ? error : NULL, NULL);

        detail = client_format_escape(all);
    }
    return g_strdup_printf("%s %s %s %s: %s", when, what, id, subject, detail);
}

typedef struct {
    ClientSession *session;
    GMainLoop *loop;
} Follow;

/* As it came over the wire, one to a line. */
static void print_event_json(const char *name, JsonObject *data,
                             int64_t timestamp_us)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *event = json_object_new();
    JsonObject *timestamp = json_object_new();
    g_autofree char *text = NULL;

    json_object_set_int_member(timestamp, "seconds",
                               timestamp_us / G_USEC_PER_SEC);
    json_object_set_int_member(timestamp, "microseconds",
                               timestamp_us % G_USEC_PER_SEC);
    json_object_set_string_member(event, "event", name);
    json_object_set_object_member(event, "data", json_object_ref(data));
    json_object_set_object_member(event, "timestamp", timestamp);
    json_node_take_object(node, event);
    text = client_format_json(node, false);
    g_print("%s\n", text);
}

static void print_event(const char *name, JsonObject *data,
                        int64_t timestamp_us, gpointer user_data)
{
    Follow *follow = user_data;

    if (!name) {
        client_session_complain("lost the connection to multiferryd");
        g_main_loop_quit(follow->loop);
        return;
    }
    if (follow->session->json) {
        print_event_json(name, data, timestamp_us);
    } else {
        g_autofree char *line = client_events_to_string(name, data,
                                                        timestamp_us);

        g_print("%s\n", line);
    }
    /* Into a pipe, too, an event is of interest when it happens. */
    fflush(stdout);
}

ClientSessionExit client_events_run(ClientSession *session, char **args)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(ClientEvents) events = NULL;
    Follow follow = { .session = session, .loop = loop };
    ClientSessionExit code = client_session_connect(session);

    (void)args;
    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    events = client_events_new(session, print_event, &follow);
    g_main_loop_run(loop);
    return CLIENT_SESSION_UNREACHABLE;
}
