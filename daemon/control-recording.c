/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/control-recording.h"

#include "daemon/log.h"
#include "daemon/registry.h"
#include "qmp/error.h"
#include "qmp/message.h"

/* Of an answer: base64 makes a third more, and a client may have 1 MiB waiting. */
enum { READ_MAX = 384 * 1024 };

static bool check_payload(Daemon *daemon, Recorder *recorder, bool payload,
                          GError **error)
{
    g_autoptr(Config) config = daemon_ref_config(daemon);

    if (!config->record_payload) {
        /* It may have been permitted before a reload. */
        recorder_stop_payload(recorder);
    }
    if (payload && !config->record_payload) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "argument 'payload': got true, allowed only with [daemon] "
                    "record-payload=yes: payloads are the guest's memory");
        return false;
    }
    return true;
}

/* That somebody takes the guest's memory is to be known later. */
static void log_begin(const Migration *migration)
{
    LogContext context = { .migration = migration_get_id(migration) };

    log_warning(&context, "migration %s: the guest's memory is being recorded "
                "for a client of the control socket", context.migration);
}

static bool get_from(JsonObject *args, int64_t *ret, GError **error)
{
    *ret = RECORDER_FROM_NOW;
    if (!qmp_message_get_int(args, "from", ret)) {
        return true;
    }
    if (*ret < 0) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "argument 'from': got %" G_GINT64_FORMAT ", expected what "
                    "the last answer says as next", *ret);
        return false;
    }
    return true;
}

static JsonNode *read_to_json(const char *id, const RecorderRead *read)
{
    JsonObject *ret = json_object_new();
    g_autofree char *text = g_base64_encode(read->data->data, read->data->len);

    json_object_set_string_member(ret, "id", id);
    json_object_set_string_member(ret, "data", text);
    json_object_set_int_member(ret, "next", read->next);
    json_object_set_int_member(ret, "dropped", read->dropped);
    json_object_set_boolean_member(ret, "ended", read->ended);
    return qmp_message_take_object(ret);
}

static JsonNode *do_read_recording(QmpServerSession *session, JsonObject *args,
                                   gpointer data, GError **error)
{
    Daemon *daemon = data;
    const char *id = qmp_message_get_string(args, "id");
    g_autoptr(Migration) migration = registry_find(daemon->registry, id);
    bool payload = false;
    Recorder *recorder;
    RecorderRead read;
    JsonNode *node;
    int64_t from;

    (void)session;
    if (!migration) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_DEVICE_NOT_FOUND,
                    "there is no migration '%s'", id);
        return NULL;
    }
    qmp_message_get_bool(args, "payload", &payload);
    recorder = migration_get_recorder(migration);
    if (!check_payload(daemon, recorder, payload, error) ||
        !get_from(args, &from, error)) {
        return NULL;
    }
    read = recorder_read(recorder, from, payload, READ_MAX);
    if (read.payload_begun || (payload && from == RECORDER_FROM_NOW)) {
        /* A client need not begin at the beginning; or it joins another. */
        log_begin(migration);
    }
    node = read_to_json(migration_get_id(migration), &read);
    g_byte_array_unref(read.data);
    return node;
}

static const QmpArg args_table[] = {
    { "id", QMP_TYPE_STRING, false },
    { "from", QMP_TYPE_INT, true },
    { "payload", QMP_TYPE_BOOL, true },
};

static const QmpCommand command = {
    "read-recording", do_read_recording, args_table, G_N_ELEMENTS(args_table),
    0, "begin to record the headers of a migration, or read on"
};

void control_recording_add(QmpServer *server, Daemon *daemon)
{
    qmp_server_add_command(server, &command, daemon);
}
