/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/control-link-test.h"

#include "daemon/link-test-lanes.h"
#include "daemon/link-tests.h"
#include "daemon/units.h"
#include "qmp/error.h"
#include "qmp/message.h"

enum { TIME_MS = 3000 };

static bool get_number(JsonObject *args, const char *name, int64_t min,
                       int64_t max, unsigned *ret, GError **error)
{
    int64_t value;

    if (!qmp_message_get_int(args, name, &value)) {
        return true;
    }
    if (value < min || value > max) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "argument '%s': got %" G_GINT64_FORMAT ", expected %"
                    G_GINT64_FORMAT " to %" G_GINT64_FORMAT, name, value, min,
                    max);
        return false;
    }
    *ret = value;
    return true;
}

static bool get_peer(JsonObject *args, LinkTestRequest *ret, GError **error)
{
    const char *name = qmp_message_get_string(args, "peer");

    ret->peer = config_find_peer(ret->config, name);
    if (!ret->peer || !ret->peer->address) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_DEVICE_NOT_FOUND,
                    "argument 'peer': there is no [peer %s] with an address in "
                    "the configuration", name);
        return false;
    }
    return true;
}

static bool get_rate(JsonObject *args, LinkTestRequest *ret, GError **error)
{
    const char *text = qmp_message_get_string(args, "rate");

    if (text && !units_parse_rate(text, &ret->rate, error)) {
        g_prefix_error(error, "argument 'rate': ");
        return false;
    }
    return true;
}

static JsonNode *do_link_test(QmpServerSession *session, JsonObject *args,
                              gpointer data, GError **error)
{
    Daemon *daemon = data;
    g_autoptr(Config) config = daemon_ref_config(daemon);
    LinkTestRequest request = { .config = config, .time_ms = TIME_MS };
    JsonObject *ret;
    char *id;

    (void)session;
    qmp_message_get_bool(args, "reverse", &request.reverse);
    qmp_message_get_bool(args, "ignore-limit", &request.ignore_limit);
    if (!get_peer(args, &request, error) ||
        !get_number(args, "lanes", 1, LINK_LANES_MAX, &request.lanes_max,
                    error) ||
        !get_number(args, "time", LINK_TEST_TIME_MIN_MS, LINK_TEST_TIME_MAX_MS,
                    &request.time_ms, error) ||
        !get_rate(args, &request, error)) {
        return NULL;
    }
    id = link_tests_start(daemon->link_tests, &request, error);
    if (!id) {
        return NULL;
    }
    ret = json_object_new();
    json_object_set_string_member(ret, "id", id);
    g_free(id);
    return qmp_message_take_object(ret);
}

static JsonNode *do_link_test_cancel(QmpServerSession *session,
                                     JsonObject *args, gpointer data,
                                     GError **error)
{
    Daemon *daemon = data;

    (void)session;
    if (!link_tests_cancel(daemon->link_tests,
                           qmp_message_get_string(args, "id"), error)) {
        return NULL;
    }
    return NULL;
}

static JsonNode *do_query_link_tests(QmpServerSession *session,
                                     JsonObject *args, gpointer data,
                                     GError **error)
{
    Daemon *daemon = data;
    JsonArray *ret = link_tests_to_json(daemon->link_tests,
                                        qmp_message_get_string(args, "id"),
                                        error);

    (void)session;
    return ret ? qmp_message_take_array(ret) : NULL;
}

static const QmpArg test_args[] = {
    { "peer", QMP_TYPE_STRING, false },
    { "reverse", QMP_TYPE_BOOL, true },
    { "lanes", QMP_TYPE_INT, true },
    { "time", QMP_TYPE_INT, true },
    { "rate", QMP_TYPE_STRING, true },
    { "ignore-limit", QMP_TYPE_BOOL, true },
};
static const QmpArg id_args[] = { { "id", QMP_TYPE_STRING, false } };
static const QmpArg maybe_id_args[] = { { "id", QMP_TYPE_STRING, true } };

#define ARGS(table) table, G_N_ELEMENTS(table)

static const QmpCommand commands[] = {
    { "link-test", do_link_test, ARGS(test_args), 0,
      "measure the link to a peer: round trips, rates, loss, TLS" },
    { "link-test-cancel", do_link_test_cancel, ARGS(id_args), 0,
      "end a link test that runs" },
    { "query-link-tests", do_query_link_tests, ARGS(maybe_id_args), 0,
      "link tests that run or have ended lately, and what they found" },
};

static const QmpArg test_event[] = {
    { "id", QMP_TYPE_STRING, false },
    { "peer", QMP_TYPE_STRING, false },
    { "state", QMP_TYPE_STRING, false },
    { "error", QMP_TYPE_STRING, true },
};

static const QmpEvent event = {
    "LINK_TEST", ARGS(test_event), 0, "a link test goes on to its next part"
};

void control_link_test_add(QmpServer *server, Daemon *daemon)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        qmp_server_add_command(server, &commands[i], daemon);
    }
    qmp_server_add_event(server, &event);
}
