/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What we ask of a QEMU: against a fake one that answers from a table, and
 * against the installed one, two of them, with a direct migration.
 */
#include "daemon/qemu.h"
#include "qmp/error.h"
#include "qmp/framer.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMEOUT_MS 10000u
#define UUID "c0ffee00-1234-4abc-8def-001122334455"

/* ---- a fake QEMU ----------------------------------------------------------- */

typedef struct {
    char *dir;
    char *path;
    int listener;
    int fd;
    GThread *thread;
    QmpClient *client;

    GMutex lock;            /* guards what is below */
    GHashTable *answers;    /* command -> GQueue of char *, the last one stays */
    GString *sent;          /* what came that sets something, one per line */
} Fake;

/* @answer as it is on the wire, without the id: "'return': {}", or "" to hang up. */
static void fake_answer(Fake *self, const char *command, const char *answer)
{
    GQueue *queue;

    g_mutex_lock(&self->lock);
    queue = g_hash_table_lookup(self->answers, command);
    if (!queue) {
        queue = g_queue_new();
        g_hash_table_insert(self->answers, g_strdup(command), queue);
    }
    g_queue_push_tail(queue, g_strdelimit(g_strdup(answer), "'", '"'));
    g_mutex_unlock(&self->lock);
}

/* Instead of all that was said for the command before. */
static void fake_replace(Fake *self, const char *command, const char *answer)
{
    g_mutex_lock(&self->lock);
    g_hash_table_remove(self->answers, command);
    g_mutex_unlock(&self->lock);
    fake_answer(self, command, answer);
}

static char *fake_take(Fake *self, JsonObject *request)
{
    const char *command = json_object_get_string_member(request, "execute");
    GQueue *queue;
    char *answer;

    g_mutex_lock(&self->lock);
    queue = g_hash_table_lookup(self->answers, command);
    if (!g_str_has_prefix(command, "q")) {
        JsonNode *arguments = json_object_get_member(request, "arguments");
        g_autofree char *text = arguments ? json_to_string(arguments, FALSE)
                                          : g_strdup("");

        g_string_append_printf(self->sent, "%s %s\n", command, text);
    }
    if (!queue) {
        answer = g_strdup("\"return\": {}");
    } else if (queue->length > 1) {
        answer = g_queue_pop_head(queue);
    } else {
        answer = g_strdup(g_queue_peek_head(queue));
    }
    g_mutex_unlock(&self->lock);
    return answer;
}

static void fake_say(Fake *self, const char *text)
{
    (void)!send(self->fd, text, strlen(text), MSG_NOSIGNAL);
}

/* False: hang up. */
static bool fake_serve(Fake *self, JsonObject *request)
{
    g_autofree char *answer = fake_take(self, request);
    g_autofree char *text = g_strdup_printf(
        "{%s, \"id\": %" G_GINT64_FORMAT "}\r\n", answer,
        json_object_get_int_member(request, "id"));

    if (*answer) {
        fake_say(self, text);
    }
    return *answer != '\0';
}

static gpointer fake_thread(gpointer data)
{
    Fake *self = data;
    g_autoptr(QmpFramer) framer = qmp_framer_new(QMP_FRAMER_CLIENT_MAX_BYTES);
    bool serving = true;
    char buf[4096];
    ssize_t n;

    self->fd = accept(self->listener, NULL, NULL);
    g_assert_cmpint(self->fd, >=, 0);
    fake_say(self, "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, "
             "\"minor\": 2, \"major\": 7}, \"package\": \"\"}, "
             "\"capabilities\": []}}\r\n");
    while (serving && (n = recv(self->fd, buf, sizeof(buf), 0)) > 0) {
        qmp_framer_feed(framer, buf, n);
        while (serving) {
            g_autoptr(JsonObject) request = NULL;
            g_autoptr(GError) error = NULL;

            g_assert_true(qmp_framer_next(framer, &request, &error));
            if (!request) {
                break;
            }
            serving = fake_serve(self, request);
        }
    }
    close(self->fd);
    return NULL;
}

static void queue_free(gpointer queue)
{
    g_queue_free_full(queue, g_free);
}

#define CAPABILITY(name, on) "{'capability': '" name "', 'state': " on "}"
#define CAPABILITIES(more) "'return': [" CAPABILITY("multifd", "false") ", " \
    CAPABILITY("return-path", "false") ", " CAPABILITY("events", "true") more "]"
#define PARAMETERS(tls) "'return': {'multifd-channels': 2, " \
    "'multifd-compression': 'zstd', 'max-bandwidth': 134217728, " \
    "'downtime-limit': 300, 'mode': 'normal', 'tls-creds': " tls "}"

/* As QEMU 7.2 answers with a guest that runs. */
static void fake_answer_all(Fake *self)
{
    static const char *const answers[][2] = {
        { "query-status", "'return': {'status': 'running', 'running': true}" },
        { "query-migrate", "'return': {}" },
        { "query-uuid",
          "'return': {'UUID': 'C0FFEE00-1234-4abc-8def-001122334455'}" },
        { "query-name", "'return': {'name': 'web1'}" },
        { "query-target", "'return': {'arch': 'x86_64'}" },
        { "qom-get", "'return': 'pc-i440fx-7.2-machine'" },
        { "query-memory-size-summary",
          "'return': {'base-memory': 67117056, 'plugged-memory': 4096}" },
        { "query-cpus-fast", "'return': [{}, {}]" },
        { "query-migrate-capabilities", CAPABILITIES("") },
        { "query-migrate-parameters", PARAMETERS("'tls0'") },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
        fake_answer(self, answers[i][0], answers[i][1]);
    }
}

static Fake *fake_new(void)
{
    Fake *self = g_new0(Fake, 1);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    g_autoptr(GError) error = NULL;

    self->dir = g_dir_make_tmp("test-qemu-XXXXXX", NULL);
    self->path = g_build_filename(self->dir, "qmp", NULL);
    self->answers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                          queue_free);
    self->sent = g_string_new(NULL);
    g_mutex_init(&self->lock);
    fake_answer_all(self);
    self->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(addr.sun_path, self->path, sizeof(addr.sun_path));
    g_assert_cmpint(bind(self->listener, (struct sockaddr *)&addr,
                         sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(self->listener, 1), ==, 0);
    self->thread = g_thread_new("fake-qemu", fake_thread, self);
    self->client = qmp_client_connect(self->path, TIMEOUT_MS, NULL, &error);
    g_assert_no_error(error);
    g_string_truncate(self->sent, 0);
    return self;
}

static void fake_free(Fake *self)
{
    qmp_client_free(self->client);
    g_thread_join(self->thread);
    close(self->listener);
    g_unlink(self->path);
    g_rmdir(self->dir);
    g_hash_table_unref(self->answers);
    g_string_free(self->sent, TRUE);
    g_mutex_clear(&self->lock);
    g_free(self->path);
    g_free(self->dir);
    g_free(self);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fake, fake_free)

/* What was set since the last time, in order. */
static void assert_sent(Fake *self, const char *expected)
{
    g_mutex_lock(&self->lock);
    g_assert_cmpstr(self->sent->str, ==, expected);
    g_string_truncate(self->sent, 0);
    g_mutex_unlock(&self->lock);
}

static QemuInfo *inspect_ok(QmpClient *client)
{
    g_autoptr(GError) error = NULL;
    QemuInfo *info = qemu_inspect(client, TIMEOUT_MS, NULL, &error);

    g_assert_no_error(error);
    g_assert_nonnull(info);
    return info;
}

/* ---- inspect --------------------------------------------------------------- */

static void test_inspect_tells_all(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuInfo) info = inspect_ok(fake->client);

    g_assert_cmpstr(info->version, ==, "7.2.22");
    g_assert_cmpstr(info->uuid, ==, UUID);
    g_assert_cmpstr(info->name, ==, "web1");
    g_assert_cmpstr(info->arch, ==, "x86_64");
    g_assert_cmpstr(info->machine, ==, "pc-i440fx-7.2");
    g_assert_cmpuint(info->ram_bytes, ==, 67117056 + 4096);
    g_assert_cmpuint(info->vcpus, ==, 2);
    g_assert_cmpstr(info->run_state, ==, "running");
    g_assert_true(info->running);
    g_assert_cmpstr(info->migration, ==, "none");
    g_assert_false(info->incoming_started);
    g_assert_null(info->blocked_reasons);
    g_assert_true(qemu_info_has_capability(info, "multifd"));
    g_assert_false(qemu_info_is_capability_on(info, "multifd"));
    g_assert_true(qemu_info_is_capability_on(info, "events"));
    g_assert_false(qemu_info_has_capability(info, "mapped-ram"));
    g_assert_true(qemu_info_is_version(info, 7, 2));
    g_assert_true(qemu_info_is_version(info, 6, 9));
    g_assert_false(qemu_info_is_version(info, 7, 3));
    g_assert_false(qemu_info_is_version(info, 10, 0));
    assert_sent(fake, "");      /* nothing was changed */
}

/* A question that fails or has an answer that makes no sense ends it. */
static void test_inspect_refuses_bad_answers(void)
{
    static const struct {
        const char *command, *answer, *message;
    } cases[] = {
        { "query-target", "'error': {'class': 'GenericError', 'desc': 'no'}",
          "QEMU: query-target: GenericError: no" },
        { "query-target", "'return': {}",
          "QEMU: query-target: got no 'arch', expected a string" },
        { "query-target", "'return': {'arch': 7}",
          "QEMU: query-target: got no 'arch', expected a string" },
        { "query-uuid", "'return': []", "QEMU: query-uuid: got an answer of "
          "type JsonArray, expected an object" },
        { "qom-get", "'return': {}", "QEMU: qom-get /machine type: got an "
          "answer of type JsonObject, expected a string" },
        { "query-status", "'return': {'running': true}",
          "QEMU: query-status: got no status, expected a string" },
        { "query-migrate-capabilities", "'return': {}",
          "QEMU: query-migrate-capabilities: got an answer of type "
          "JsonObject, expected a list" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Fake) fake = fake_new();
        g_autoptr(GError) error = NULL;

        fake_replace(fake, cases[i].command, cases[i].answer);
        g_assert_null(qemu_inspect(fake->client, TIMEOUT_MS, NULL, &error));
        g_assert_nonnull(error);
        g_assert_cmpstr(error->message, ==, cases[i].message);
    }
}

static void test_inspect_of_a_qemu_that_goes(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(GError) error = NULL;

    fake_replace(fake, "query-cpus-fast", "");
    g_assert_null(qemu_inspect(fake->client, TIMEOUT_MS, NULL, &error));
    g_assert_error(error, QMP_ERROR, QMP_ERROR_DISCONNECTED);
    g_assert_true(g_str_has_prefix(error->message, "QEMU: query-cpus-fast: "));
}

/* 7.2 that listens shows the address and no status. */
static void test_inspect_sees_a_listening_destination(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuInfo) info = NULL;

    fake_replace(fake, "query-migrate", "'return': {'socket-address': "
                 "[{'type': 'unix', 'path': '/x'}]}");
    info = inspect_ok(fake->client);
    g_assert_true(info->incoming_started);
    g_assert_cmpstr(info->migration, ==, "none");
}

/* ---- the form for the peer -------------------------------------------------- */

static JsonObject *parse(const char *text)
{
    g_autofree char *json = g_strdelimit(g_strdup(text), "'", '"');
    g_autoptr(JsonNode) node = json_from_string(json, NULL);

    g_assert_nonnull(node);
    return json_object_ref(json_node_get_object(node));
}

static void test_json_round_trip(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuInfo) info = inspect_ok(fake->client);
    g_autoptr(JsonObject) json = qemu_info_to_json(info);
    g_autoptr(QemuInfo) back = NULL;
    g_autoptr(GError) error = NULL;

    back = qemu_info_from_json(json, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(back->version, ==, info->version);
    g_assert_cmpstr(back->uuid, ==, info->uuid);
    g_assert_cmpstr(back->name, ==, info->name);
    g_assert_cmpstr(back->arch, ==, info->arch);
    g_assert_cmpstr(back->machine, ==, info->machine);
    g_assert_cmpuint(back->ram_bytes, ==, info->ram_bytes);
    g_assert_cmpuint(back->vcpus, ==, info->vcpus);
    g_assert_cmpstr(back->run_state, ==, info->run_state);
    g_assert_true(qemu_info_is_capability_on(back, "events"));
    g_assert_true(qemu_info_has_capability(back, "multifd"));
    g_assert_false(qemu_info_is_capability_on(back, "multifd"));
    g_assert_true(qemu_check_pair(info, back, &error));
    g_assert_no_error(error);
}

#define PEER(uuid, arch, machine, ram, vcpus, more) \
    "{'uuid': " uuid ", 'arch': " arch ", 'machine': " machine \
    ", 'ram-size': " ram ", 'vcpus': " vcpus more "}"

static void test_json_takes_the_least(void)
{
    g_autoptr(JsonObject) json = parse(PEER(
        "'C0FFEE00-1234-4ABC-8DEF-001122334455'", "'x86_64'", "'q35'",
        "9223372036854775807", "65536", ", 'unknown': [1]"));
    g_autoptr(GError) error = NULL;
    g_autoptr(QemuInfo) info = qemu_info_from_json(json, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(info->uuid, ==, UUID);
    g_assert_cmpstr(info->name, ==, "");
    g_assert_cmpstr(info->run_state, ==, "");
    g_assert_false(qemu_info_is_version(info, 0, 0));
}

/* What a stream of such a target does not say; the others' streams do, or have 4096. */
static void test_page_size_follows_the_architecture(void)
{
    static const struct {
        const char *arch, *version;
        uint64_t page_size;
    } cases[] = {
        { "x86_64", "10.0.0", 0 }, { "s390x", "7.2.0", 0 },
        { "aarch64", "11.1.0", 1024 }, { "arm", "7.2.0", 1024 },
        { "alpha", "7.2.0", 8192 }, { "sparc64", "10.0.0", 8192 },
        { "tricore", "7.2.0", 16384 }, { "loongarch64", "8.1.5", 16384 },
        { "loongarch64", "10.0.0", 0 }, { "", "", 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        QemuInfo info = { .arch = (char *)cases[i].arch,
                          .version = (char *)cases[i].version };

        g_assert_cmpuint(qemu_info_get_page_size(&info), ==,
                         cases[i].page_size);
    }
}

static void test_json_refuses(void)
{
    static const char *const cases[][2] = {
        { "{}", "peer's QEMU: got no 'uuid', expected a string" },
        { PEER("7", "'a'", "'m'", "1", "1", ""),
          "peer's QEMU: got no 'uuid', expected a string" },
        { PEER("'c0ffee'", "'a'", "'m'", "1", "1", ""),
          "peer's QEMU: got uuid 'c0ffee', expected 36 characters as in RFC "
          "4122" },
        { PEER("'" UUID "'", "''", "'m'", "1", "1", ""),
          "peer's QEMU: got no 'arch', expected a string" },
        { PEER("'" UUID "'", "'a'", "'m\\u001b[2J'", "1", "1", ""),
          "peer's QEMU: got machine 'm\\033[2J' (5 bytes), allowed up to 255 "
          "letters, digits and ._+-" },
        { PEER("'" UUID "'", "'a'", "'m'", "0", "1", ""),
          "peer's QEMU: got ram-size 0, allowed 1 to 9223372036854775807" },
        { PEER("'" UUID "'", "'a'", "'m'", "-1", "1", ""),
          "peer's QEMU: got ram-size -1, allowed 1 to 9223372036854775807" },
        { PEER("'" UUID "'", "'a'", "'m'", "1", "65537", ""),
          "peer's QEMU: got vcpus 65537, allowed 1 to 65536" },
        { PEER("'" UUID "'", "'a'", "'m'", "1", "1.5", ""),
          "peer's QEMU: got vcpus 0, allowed 1 to 65536" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(JsonObject) json = parse(cases[i][0]);
        g_autoptr(GError) error = NULL;

        g_assert_null(qemu_info_from_json(json, &error));
        g_assert_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER);
        g_assert_cmpstr(error->message, ==, cases[i][1]);
    }
}

/* A peer picks these sizes: none may make us keep or print without bound. */
static void test_json_bounds_texts(void)
{
    g_autoptr(JsonObject) json = parse(PEER("'" UUID "'", "'a'", "'m'", "1",
                                            "1", ""));
    g_autofree char *long_text = g_strnfill(256, 'x');
    JsonObject *capabilities = json_object_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(QemuInfo) info = NULL;

    json_object_set_string_member(json, "name", "a\"\n\033");
    info = qemu_info_from_json(json, &error);
    g_assert_cmpstr(info->name, ==, "a\\\"\\n\\033");

    json_object_set_string_member(json, "name", long_text);
    g_assert_null(qemu_info_from_json(json, &error));
    g_assert_cmpstr(error->message, ==, "peer's QEMU: got a name of 256 bytes, "
                    "allowed up to 255");
    g_clear_error(&error);
    json_object_remove_member(json, "name");

    json_object_set_string_member(json, "machine", long_text);
    g_assert_null(qemu_info_from_json(json, &error));
    g_assert_nonnull(strstr(error->message, "(256 bytes)"));
    g_assert_cmpuint(strlen(error->message), <, 200);
    g_clear_error(&error);
    json_object_set_string_member(json, "machine", "m");

    for (int i = 0; i < 257; i++) {
        g_autofree char *name = g_strdup_printf("c%d", i);

        json_object_set_boolean_member(capabilities, name, TRUE);
    }
    json_object_set_object_member(json, "capabilities", capabilities);
    g_assert_null(qemu_info_from_json(json, &error));
    g_assert_cmpstr(error->message, ==, "peer's QEMU: got 257 capabilities, "
                    "allowed up to 256");
}

/* ---- checks ---------------------------------------------------------------- */

typedef bool (*Check)(const QemuInfo *, unsigned, GError **);

static void assert_unfit(Check check, const char *command, const char *answer,
                         const char *message)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuInfo) info = NULL;
    g_autoptr(GError) error = NULL;

    if (check == qemu_check_destination) {
        fake_replace(fake, "query-status",
                     "'return': {'status': 'inmigrate', 'running': false}");
    }
    fake_replace(fake, command, answer);
    info = inspect_ok(fake->client);
    if (!message) {
        g_assert_true(check(info, true, &error));
        g_assert_no_error(error);
        return;
    }
    g_assert_false(check(info, true, &error));
    g_assert_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT);
    g_assert_cmpstr(error->message, ==, message);
}

#define STATUS(status) "'return': {'status': '" status "', 'running': false}"

static void test_check_source(void)
{
    static const char *const cases[][3] = {
        { "query-name", "'return': {}", NULL },
        { "query-status", STATUS("paused"), NULL },
        { "query-status", STATUS("prelaunch"), NULL },
        { "query-status", STATUS("postmigrate"), "source QEMU: got run state "
          "'postmigrate', allowed running, paused or prelaunch" },
        { "query-status", STATUS("inmigrate"), "source QEMU: got run state "
          "'inmigrate', allowed running, paused or prelaunch" },
        { "query-status", STATUS("finish-migrate"), "source QEMU: got run "
          "state 'finish-migrate', allowed running, paused or prelaunch" },
        { "query-migrate", "'return': {'status': 'active'}", "source QEMU: got "
          "a migration with status 'active' already, allowed none under way" },
        { "query-migrate", "'return': {'status': 'failed'}", NULL },
        { "query-migrate", "'return': {'status': 'cancelled'}", NULL },
        { "query-migrate", "'return': {'blocked-reasons': ['disk x', 'y']}",
          "source QEMU: got blocked-reasons 'disk x; y', allowed none" },
        { "query-migrate-capabilities", "'return': []", "source QEMU: got "
          "version '7.2.22' without capability 'multifd', expected one that "
          "has it" },
        { "query-migrate-capabilities",
          "'return': [" CAPABILITY("multifd", "true") "]", "source QEMU: got "
          "version '7.2.22' without capability 'return-path', expected one "
          "that has it" },
        { "query-migrate-capabilities",
          CAPABILITIES(", " CAPABILITY("postcopy-ram", "true")),
          "source QEMU: got capability 'postcopy-ram' on, allowed only off: "
          "the migration was asked for without 'postcopy'" },
        { "query-migrate-capabilities",
          CAPABILITIES(", " CAPABILITY("xbzrle", "true")),
          "source QEMU: got capability 'xbzrle' on, allowed only off: multifd "
          "replaces it" },
        { "query-migrate-capabilities",
          CAPABILITIES(", " CAPABILITY("release-ram", "true")), NULL },
        { "query-migrate-parameters", "'return': {'mode': 'cpr-reboot'}",
          "source QEMU: got migration mode 'cpr-reboot', allowed 'normal'" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_unfit(qemu_check_source, cases[i][0], cases[i][1], cases[i][2]);
    }
}

/* Asked for it, nobody minds that it is on; but it must be there. */
static void test_check_postcopy(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuInfo) with = NULL, without = NULL;
    g_autoptr(GError) error = NULL;

    without = inspect_ok(fake->client);
    fake_replace(fake, "query-migrate-capabilities",
                 CAPABILITIES(", " CAPABILITY("postcopy-ram", "true")));
    with = inspect_ok(fake->client);
    g_assert_true(qemu_check_source(with, QEMU_USE_MULTIFD | QEMU_USE_POSTCOPY,
                                    &error));
    g_assert_no_error(error);
    g_assert_false(qemu_check_source(without, QEMU_USE_POSTCOPY, &error));
    g_assert_cmpstr(error->message, ==, "source QEMU: got version '7.2.22' "
                    "without capability 'postcopy-ram', expected one that has "
                    "it");
    g_assert_false(qemu_info_has_multifd_with_postcopy(with));
}

static void test_check_destination(void)
{
    static const char *const cases[][3] = {
        { "query-name", "'return': {}", NULL },
        { "query-status", STATUS("paused"), "destination QEMU: got run state "
          "'paused', allowed inmigrate; start it with -incoming defer" },
        { "query-migrate", "'return': {'status': 'setup'}", "destination QEMU: "
          "got an incoming migration started already (status 'setup'), "
          "allowed none; start it anew with -incoming defer" },
        { "query-migrate-capabilities",
          CAPABILITIES(", " CAPABILITY("mapped-ram", "true")),
          "destination QEMU: got capability 'mapped-ram' on, allowed only "
          "off: it is for files" },
        { "query-migrate-capabilities",
          CAPABILITIES(", " CAPABILITY("pause-before-switchover", "true")),
          NULL },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_unfit(qemu_check_destination, cases[i][0], cases[i][1],
                     cases[i][2]);
    }
}

static void assert_pair_unfit(const char *destination, const char *message)
{
    g_autoptr(JsonObject) source_json = parse(PEER(
        "'" UUID "'", "'x86_64'", "'pc-q35-7.2'", "1024", "2",
        ", 'capabilities': {'switchover-ack': true}"));
    g_autoptr(JsonObject) json = parse(destination);
    g_autoptr(QemuInfo) a = qemu_info_from_json(source_json, NULL);
    g_autoptr(QemuInfo) b = qemu_info_from_json(json, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_false(qemu_check_pair(a, b, &error));
    g_assert_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT);
    g_assert_cmpstr(error->message, ==, message);
}

static void test_check_pair(void)
{
    assert_pair_unfit(
        PEER("'00000000-0000-0000-0000-000000000000'", "'x86_64'",
             "'pc-q35-7.2'", "1024", "2", ""),
        "destination QEMU: got uuid '00000000-0000-0000-0000-000000000000', "
        "expected the source's '" UUID "'");
    assert_pair_unfit(
        PEER("'" UUID "'", "'aarch64'", "'pc-q35-7.2'", "1024", "2", ""),
        "destination QEMU: got arch 'aarch64', expected the source's 'x86_64'");
    assert_pair_unfit(
        PEER("'" UUID "'", "'x86_64'", "'pc-q35-8.0'", "1024", "2", ""),
        "destination QEMU: got machine type 'pc-q35-8.0', expected the "
        "source's 'pc-q35-7.2'");
    assert_pair_unfit(
        PEER("'" UUID "'", "'x86_64'", "'pc-q35-7.2'", "1025", "2", ""),
        "destination QEMU: got RAM size 1025, expected the source's 1024");
    assert_pair_unfit(
        PEER("'" UUID "'", "'x86_64'", "'pc-q35-7.2'", "1024", "1", ""),
        "destination QEMU: got vcpus 1, expected the source's 2");
    assert_pair_unfit(
        PEER("'" UUID "'", "'x86_64'", "'pc-q35-7.2'", "1024", "2", ""),
        "destination QEMU: got capability 'switchover-ack' off, expected on as "
        "at the source");
}

/* ---- prepare and restore --------------------------------------------------- */

static const QemuWanted source_wanted = {
    .multifd = true,
    .channels = 4,
    .max_bandwidth = QEMU_BANDWIDTH_UNLIMITED,
    .downtime_limit_ms = 300,           /* as it is */
    .switchover_bandwidth = 1000000,    /* unknown to this QEMU */
    .legacy_zero_pages = true,          /* likewise */
};

#define SET_PARAMETERS "migrate-set-parameters {\"multifd-channels\":4," \
    "\"multifd-compression\":\"none\",\"tls-creds\":\"\"," \
    "\"max-bandwidth\":1125899906842624}\n"
#define PREPARED_PARAMETERS "'return': {'multifd-channels': 4, " \
    "'multifd-compression': 'none', 'max-bandwidth': 1125899906842624, " \
    "'downtime-limit': 300, 'tls-creds': ''}"

/* The order among capabilities is the hash table's. */
static void assert_sent_capabilities(Fake *fake, const char *state,
                                     const char *rest)
{
    const char *const names[] = { "multifd", "return-path" };
    g_autofree char *sent = g_strdup(fake->sent->str);
    char *line_end = strchr(sent, '\n');

    g_assert_nonnull(line_end);
    *line_end = '\0';
    g_assert_true(g_str_has_prefix(sent, "migrate-set-capabilities "));
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *part = g_strdup_printf(
            "{\"capability\":\"%s\",\"state\":%s}", names[i], state);

        g_assert_nonnull(strstr(sent, part));
    }
    g_assert_null(strstr(sent, "events"));
    g_assert_cmpstr(line_end + 1, ==, rest);
    g_string_truncate(fake->sent, 0);
}

static QemuSetup *prepare_ok(Fake *fake, const QemuWanted *wanted)
{
    g_autoptr(QemuInfo) info = inspect_ok(fake->client);
    g_autoptr(GError) error = NULL;
    QemuSetup *setup;

    g_string_truncate(fake->sent, 0);
    setup = qemu_prepare(fake->client, info, wanted, TIMEOUT_MS, NULL, &error);
    g_assert_no_error(error);
    g_assert_nonnull(setup);
    return setup;
}

static void test_prepare_touches_what_differs(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuSetup) setup = prepare_ok(fake, &source_wanted);
    g_autofree char *failed = NULL;

    assert_sent_capabilities(fake, "true", SET_PARAMETERS);

    fake_replace(fake, "query-migrate-parameters", PREPARED_PARAMETERS);
    failed = qemu_restore(fake->client, setup, TIMEOUT_MS, 0, NULL);
    g_assert_cmpstr(failed, ==, NULL);
    assert_sent_capabilities(fake, "false",
        "migrate-set-parameters {\"multifd-channels\":2}\n"
        "migrate-set-parameters {\"multifd-compression\":\"zstd\"}\n"
        "migrate-set-parameters {\"tls-creds\":\"tls0\"}\n"
        "migrate-set-parameters {\"max-bandwidth\":134217728}\n");
}

/* One more while it migrates: set, set again, and put back with the others; but what
 * somebody else has set is his. */
static void test_prepare_changes_what_is_ours(void)
{
    const QemuWanted wanted = { .destination = true };
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuInfo) info = inspect_ok(fake->client);
    g_autoptr(QemuSetup) setup = prepare_ok(fake, &wanted);
    g_autoptr(GError) error = NULL;
    g_autofree char *failed = NULL;

    json_object_set_int_member(info->parameters, "x", 0);
    g_string_truncate(fake->sent, 0);
    g_assert_false(qemu_setup_change(setup, fake->client, info, "unknown", 7,
                                     TIMEOUT_MS, &error));
    fake_replace(fake, "query-migrate-parameters", "'return': {'x': 5}");
    g_assert_false(qemu_setup_change(setup, fake->client, info, "x", 7,
                                     TIMEOUT_MS, &error));
    g_assert_no_error(error);
    assert_sent(fake, "");

    fake_replace(fake, "query-migrate-parameters", "'return': {'x': 0}");
    g_assert_true(qemu_setup_change(setup, fake->client, info, "x", 7,
                                    TIMEOUT_MS, &error));
    fake_replace(fake, "query-migrate-parameters", "'return': {'x': 7}");
    g_assert_true(qemu_setup_change(setup, fake->client, info, "x", 8,
                                    TIMEOUT_MS, &error));
    fake_replace(fake, "query-migrate-parameters", "'return': {'x': 9}");
    g_assert_false(qemu_setup_change(setup, fake->client, info, "x", 10,
                                     TIMEOUT_MS, &error));
    g_assert_no_error(error);
    assert_sent(fake, "migrate-set-parameters {\"x\":7}\n"
                      "migrate-set-parameters {\"x\":8}\n");

    fake_replace(fake, "query-migrate-parameters", "'return': {'x': 8}");
    failed = qemu_restore(fake->client, setup, TIMEOUT_MS, 0, NULL);
    g_assert_cmpstr(failed, ==, NULL);
    g_assert_nonnull(strstr(fake->sent->str,
                            "migrate-set-parameters {\"x\":0}\n"));
}

/* A destination keeps its bandwidth; without multifd its knobs are left. */
static void test_prepare_without_multifd(void)
{
    const QemuWanted wanted = { .destination = true, .max_bandwidth = 1 };
    g_autoptr(Fake) fake = fake_new();
    QemuSetup *setup = prepare_ok(fake, &wanted);

    qemu_setup_free(setup);
    assert_sent(fake,
        "migrate-set-capabilities {\"capabilities\":[{\"capability\":"
        "\"return-path\",\"state\":true}]}\n"
        "migrate-set-parameters {\"tls-creds\":\"\"}\n");
}

/* null is how 11.1 may say that there is none, and "" what it takes. */
static void test_prepare_leaves_absent_tls_creds(void)
{
    const QemuWanted wanted = { .destination = true };
    static const char *const values[] = {
        PARAMETERS("null"), PARAMETERS("''"), "'return': {}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autoptr(Fake) fake = fake_new();
        g_autoptr(QemuSetup) setup = NULL;

        fake_replace(fake, "query-migrate-parameters", values[i]);
        setup = prepare_ok(fake, &wanted);
        assert_sent(fake,
            "migrate-set-capabilities {\"capabilities\":[{\"capability\":"
            "\"return-path\",\"state\":true}]}\n");
    }
}

#define REFUSED "'error': {'class': 'GenericError', 'desc': 'not now'}"

static void test_prepare_puts_back_after_a_refusal(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuInfo) info = inspect_ok(fake->client);
    g_autoptr(GError) error = NULL;

    g_string_truncate(fake->sent, 0);
    fake_answer(fake, "migrate-set-parameters", REFUSED);
    g_assert_null(qemu_prepare(fake->client, info, &source_wanted, TIMEOUT_MS,
                               NULL, &error));
    g_assert_error(error, QMP_ERROR, QMP_ERROR_COMMAND);
    g_assert_cmpstr(error->message, ==,
                    "QEMU: migrate-set-parameters: GenericError: not now");
    g_assert_nonnull(strstr(fake->sent->str, SET_PARAMETERS
                            "migrate-set-capabilities"));
    g_assert_true(g_str_has_suffix(fake->sent->str, "\"state\":false}]}\n"));
}

static void test_prepare_tells_what_it_could_not_put_back(void)
{
    const QemuWanted wanted = { .multifd = true, .channels = 2 };
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuInfo) info = NULL;
    g_autoptr(GError) error = NULL;

    fake_replace(fake, "query-migrate-capabilities", "'return': ["
                 CAPABILITY("multifd", "false") "]");
    info = inspect_ok(fake->client);
    fake_answer(fake, "migrate-set-capabilities", "'return': {}");
    fake_answer(fake, "migrate-set-capabilities", REFUSED);
    fake_answer(fake, "migrate-set-parameters", REFUSED);
    g_assert_null(qemu_prepare(fake->client, info, &wanted, TIMEOUT_MS, NULL,
                               &error));
    g_assert_cmpstr(error->message, ==,
                    "QEMU: migrate-set-parameters: GenericError: not now; "
                    "could not put back: capabilities multifd: QEMU: "
                    "migrate-set-capabilities: GenericError: not now");
}

/* An operator may raise the downtime limit meanwhile: that stays. */
static void test_restore_leaves_what_others_set(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuSetup) setup = prepare_ok(fake, &source_wanted);
    g_autofree char *failed = NULL;

    assert_sent_capabilities(fake, "true", SET_PARAMETERS);
    fake_replace(fake, "query-migrate-parameters", "'return': {"
                 "'multifd-channels': 4, 'multifd-compression': 'zlib', "
                 "'max-bandwidth': 5, 'tls-creds': null}");
    failed = qemu_restore(fake->client, setup, TIMEOUT_MS, 0, NULL);
    g_assert_cmpstr(failed, ==, NULL);
    assert_sent_capabilities(fake, "false",
        "migrate-set-parameters {\"multifd-channels\":2}\n"
        "migrate-set-parameters {\"tls-creds\":\"tls0\"}\n");
}

/* After migrate_cancel QEMU refuses until the migration is gone. */
static void test_restore_waits_for_the_end(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuSetup) setup = prepare_ok(fake, &source_wanted);
    g_autofree char *failed = NULL;

    fake_replace(fake, "query-migrate-parameters", PREPARED_PARAMETERS);
    fake_replace(fake, "query-migrate", "'return': {'status': 'cancelling'}");
    fake_answer(fake, "migrate-set-capabilities", REFUSED);
    fake_answer(fake, "migrate-set-capabilities", REFUSED);
    fake_answer(fake, "migrate-set-capabilities", "'return': {}");
    failed = qemu_restore(fake->client, setup, TIMEOUT_MS, TIMEOUT_MS, NULL);
    g_assert_cmpstr(failed, ==, NULL);
}

/* Refused without a migration: it would not change by waiting. */
static void test_restore_collects_failures(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuSetup) setup = prepare_ok(fake, &source_wanted);
    g_autofree char *failed = NULL;

    fake_replace(fake, "query-migrate-parameters", PREPARED_PARAMETERS);
    fake_answer(fake, "migrate-set-capabilities", REFUSED);
    fake_answer(fake, "migrate-set-parameters", "'return': {}");
    fake_answer(fake, "migrate-set-parameters", REFUSED);
    failed = qemu_restore(fake->client, setup, TIMEOUT_MS, TIMEOUT_MS, NULL);
    g_assert_nonnull(strstr(failed, "QEMU: migrate-set-capabilities: "
                            "GenericError: not now; multifd-compression: QEMU: "
                            "migrate-set-parameters: GenericError: not now; "
                            "tls-creds: "));
}

static void test_restore_of_a_qemu_that_is_gone(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuSetup) setup = prepare_ok(fake, &source_wanted);
    g_autofree char *failed = NULL;

    fake_answer(fake, "migrate-set-capabilities", "");
    failed = qemu_restore(fake->client, setup, TIMEOUT_MS, TIMEOUT_MS, NULL);
    g_assert_cmpstr(failed, ==, NULL);
}

/* ---- query-migrate --------------------------------------------------------- */

static void test_migrate_status(void)
{
    g_autoptr(Fake) fake = fake_new();
    g_autoptr(QemuMigrateStatus) status = NULL;
    g_autoptr(GError) error = NULL;

    fake_replace(fake, "query-migrate",
        "'return': {'status': 'completed', 'setup-time': 3, 'downtime': 4, "
        "'total-time': 89, 'expected-downtime': 300, 'error-desc': 'x', "
        "'socket-address': [{'host': '::1', 'port': '44', 'type': 'inet'}], "
        "'ram': {'total': 67649536, 'dirty-sync-count': 2, 'remaining': 5, "
        "'page-size': 4096, 'mbps': 3619.5, 'transferred': 38793198, "
        "'duplicate': 7195, 'dirty-pages-rate': 6, 'normal': 9420}}");
    status = qemu_query_migrate(fake->client, TIMEOUT_MS, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(status->status, ==, "completed");
    g_assert_cmpstr(status->error_desc, ==, "x");
    g_assert_cmpstr(status->socket_address, ==, "tcp:[::1]:44");
    g_assert_cmpuint(status->ram_total, ==, 67649536);
    g_assert_cmpuint(status->ram_remaining, ==, 5);
    g_assert_cmpuint(status->ram_transferred, ==, 38793198);
    g_assert_cmpuint(status->duplicate, ==, 7195);
    g_assert_cmpuint(status->normal, ==, 9420);
    g_assert_cmpuint(status->dirty_pages_rate, ==, 6);
    g_assert_cmpuint(status->dirty_sync_count, ==, 2);
    g_assert_cmpuint(status->page_size, ==, 4096);
    g_assert_cmpfloat(status->mbps, ==, 3619.5);
    g_assert_cmpuint(status->expected_downtime_ms, ==, 300);
    g_assert_cmpuint(status->downtime_ms, ==, 4);
    g_assert_cmpuint(status->total_time_ms, ==, 89);
    g_assert_cmpuint(status->setup_time_ms, ==, 3);
}

#define NONSENSE "'return': {'status': 1, 'ram': 7, 'socket-address': {}, " \
    "'error-desc': null, 'downtime': -5, 'blocked-reasons': 3}"

static void test_migrate_status_of_nothing(void)
{
    static const char *const answers[] = {
        "'return': {}",
        NONSENSE,
        "'return': {'socket-address': [], 'ram': {'mbps': 'x'}}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
        g_autoptr(Fake) fake = fake_new();
        g_autoptr(QemuMigrateStatus) status = NULL;

        fake_replace(fake, "query-migrate", answers[i]);
        status = qemu_query_migrate(fake->client, TIMEOUT_MS, NULL, NULL);
        g_assert_cmpstr(status->status, ==, "none");
        g_assert_null(status->error_desc);
        g_assert_null(status->socket_address);
        g_assert_null(status->blocked_reasons);
        g_assert_cmpuint(status->downtime_ms, ==, 0);
        g_assert_cmpfloat(status->mbps, ==, 0);
    }
}

static void test_migrate_status_is_active(void)
{
    static const char *const active[] = {
        "setup", "active", "cancelling", "device", "pre-switchover",
        "failing", "some-new-one",
    };
    static const char *const over[] = {
        "none", "completed", "failed", "cancelled",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(active); i++) {
        g_assert_true(qemu_migrate_status_is_active(active[i]));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(over); i++) {
        g_assert_false(qemu_migrate_status_is_active(over[i]));
    }
}

/* ---- two real QEMUs -------------------------------------------------------- */

typedef struct {
    GPid pid;
    char *path;     /* of its QMP socket */
    QmpClient *client;
} Real;

static void real_clear(Real *self)
{
    qmp_client_free(self->client);
    if (self->pid) {
        kill(self->pid, SIGKILL);
        waitpid(self->pid, NULL, 0);
    }
    if (self->path) {
        g_unlink(self->path);
    }
    g_free(self->path);
}

/* In the child: a test that aborts takes its QEMUs along. */
static void die_with_parent(G_GNUC_UNUSED gpointer user_data)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void real_start(Real *self, const char *dir, const char *name,
                       const char *const *extra)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *qmp = NULL;
    g_autoptr(GError) error = NULL;
    gint64 deadline_us = g_get_monotonic_time() + TIMEOUT_MS * 1000ll;

    self->path = g_strdup_printf("%s/%s.qmp", dir, name);
    qmp = g_strdup_printf("unix:%s,server=on,wait=off", self->path);
    for (const char *const *a = (const char *const[]) {
             "qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-m",
             "65544k", "-nodefaults", "-vga", "none", "-display", "none",
             "-uuid", UUID, "-name", "web1", "-qmp", NULL }; *a; a++) {
        g_ptr_array_add(argv, (gpointer)*a);
    }
    g_ptr_array_add(argv, qmp);
    for (; *extra; extra++) {
        g_ptr_array_add(argv, (gpointer)*extra);
    }
    g_ptr_array_add(argv, NULL);
    g_spawn_async(NULL, (char **)argv->pdata, NULL,
                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                  G_SPAWN_STDOUT_TO_DEV_NULL,
                  die_with_parent, NULL, &self->pid, &error);
    g_assert_no_error(error);
    while (!self->client && g_get_monotonic_time() < deadline_us) {
        g_clear_error(&error);
        self->client = qmp_client_connect(self->path, TIMEOUT_MS, NULL,
                                          &error);
        if (!self->client) {
            g_usleep(10000);    /* the socket is not there yet */
        }
    }
    g_assert_no_error(error);
}

static void assert_run_state(Real *self, const char *expected)
{
    g_autofree char *state = NULL;
    g_autoptr(GError) error = NULL;
    bool running;

    g_assert_true(qemu_query_status(self->client, &running, &state, TIMEOUT_MS,
                                    NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(state, ==, expected);
    g_assert_true(running == g_str_equal(expected, "running"));
}

static void wait_migration(Real *self, const char *expected)
{
    gint64 deadline_us = g_get_monotonic_time() + 3 * TIMEOUT_MS * 1000ll;

    for (;;) {
        g_autoptr(QemuMigrateStatus) status =
            qemu_query_migrate(self->client, TIMEOUT_MS, NULL, NULL);

        g_assert_nonnull(status);
        if (g_str_equal(status->status, expected)) {
            return;
        }
        g_assert_cmpstr(status->status, !=, "failed");
        g_assert_cmpint(g_get_monotonic_time(), <, deadline_us);
        g_usleep(10000);
    }
}

/* All that a QEMU says of its migration settings, to compare later. */
static char *settings(Real *self)
{
    g_autoptr(QemuInfo) info = inspect_ok(self->client);
    g_autoptr(JsonObject) json = qemu_info_to_json(info);
    JsonObject *capabilities = json_object_get_object_member(json,
                                                             "capabilities");
    g_autoptr(GList) names =
        g_list_sort(json_object_get_members(capabilities),
                    (GCompareFunc)strcmp);
    g_autoptr(GList) parameters =
        g_list_sort(json_object_get_members(info->parameters),
                    (GCompareFunc)strcmp);
    GString *text = g_string_new(NULL);

    for (GList *l = names; l; l = l->next) {
        g_string_append_printf(text, "%s=%d\n", (char *)l->data,
                               json_object_get_boolean_member(capabilities,
                                                              l->data));
    }
    for (GList *l = parameters; l; l = l->next) {
        g_autofree char *value = json_to_string(
            json_object_get_member(info->parameters, l->data), FALSE);

        g_string_append_printf(text, "%s=%s\n", (char *)l->data, value);
    }
    return g_string_free(text, FALSE);
}

typedef struct {
    Real source, destination;
    char *dir;
    char *socket_path;
    char *uri;
    char *before[2];
    QemuSetup *setups[2];
} Pair;

static void pair_clear(Pair *self)
{
    for (int i = 0; i < 2; i++) {
        g_free(self->before[i]);
        qemu_setup_free(self->setups[i]);
    }
    real_clear(&self->source);
    real_clear(&self->destination);
    g_unlink(self->socket_path);
    g_rmdir(self->dir);
    g_free(self->dir);
    g_free(self->socket_path);
    g_free(self->uri);
}

/* Two QEMUs that have been inspected, checked and prepared; NULL @arg: none. */
static bool pair_init(Pair *self, const char *source_arg)
{
    const char *source_args[] = { source_arg, NULL };
    const char *destination_args[] = { "-incoming", "defer", NULL };
    g_autofree char *program = g_find_program_in_path("qemu-system-x86_64");
    QemuWanted wanted = source_wanted;
    Real *ends[2] = { &self->source, &self->destination };
    g_autoptr(QemuInfo) source = NULL;
    g_autoptr(QemuInfo) destination = NULL;
    g_autoptr(GError) error = NULL;

    *self = (Pair) { 0 };
    if (!program) {
        g_test_skip("needs qemu-system-x86_64");
        return false;
    }
    self->dir = g_dir_make_tmp("test-qemu-XXXXXX", NULL);
    self->socket_path = g_build_filename(self->dir, "migration", NULL);
    self->uri = g_strdup_printf("unix:%s", self->socket_path);
    real_start(&self->source, self->dir, "source", source_args);
    real_start(&self->destination, self->dir, "destination", destination_args);

    source = inspect_ok(self->source.client);
    destination = inspect_ok(self->destination.client);
    g_assert_cmpstr(source->uuid, ==, UUID);
    g_assert_cmpstr(source->name, ==, "web1");
    g_assert_cmpstr(source->arch, ==, "x86_64");
    g_assert_true(g_str_has_prefix(source->machine, "pc-i440fx-"));
    g_assert_cmpuint(source->ram_bytes, ==, 65544 * 1024);
    g_assert_cmpuint(source->vcpus, ==, 1);
    g_assert_true(qemu_check_source(source, true, &error));
    g_assert_true(qemu_check_destination(destination, true, &error));
    g_assert_true(qemu_check_pair(source, destination, &error));
    g_assert_no_error(error);

    for (int i = 0; i < 2; i++) {
        wanted.destination = i == 1;
        self->before[i] = settings(ends[i]);
        self->setups[i] = qemu_prepare(ends[i]->client,
                                       i ? destination : source, &wanted,
                                       TIMEOUT_MS, NULL, &error);
        g_assert_no_error(error);
    }
    return true;
}

static void assert_restored(Real *end, QemuSetup *setup, const char *before)
{
    g_autofree char *failed = qemu_restore(end->client, setup, TIMEOUT_MS,
                                           TIMEOUT_MS, NULL);
    g_autofree char *after = settings(end);

    g_assert_cmpstr(failed, ==, NULL);
    g_assert_cmpstr(after, ==, before);
}

static void pair_listen(Pair *self)
{
    g_autoptr(QemuInfo) info = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(qemu_stop(self->destination.client, TIMEOUT_MS, NULL,
                            &error));
    g_assert_no_error(error);
    assert_run_state(&self->destination, "inmigrate");
    g_assert_true(qemu_migrate_incoming(self->destination.client, self->uri,
                                        TIMEOUT_MS, NULL, &error));
    g_assert_no_error(error);
    info = inspect_ok(self->destination.client);
    g_assert_false(qemu_check_destination(info, true, &error));
    g_assert_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT);
}

/* After stop in inmigrate, the guest is ours to start, as @state. */
static void check_handover(const char *source_arg, const char *state)
{
    g_autoptr(QemuInfo) info = NULL;
    g_autoptr(GError) error = NULL;
    Pair pair;

    if (!pair_init(&pair, source_arg)) {
        return;
    }
    pair_listen(&pair);
    g_assert_true(qemu_migrate(pair.source.client, pair.uri, TIMEOUT_MS, NULL,
                               &error));
    g_assert_no_error(error);
    wait_migration(&pair.source, "completed");
    wait_migration(&pair.destination, "completed");
    assert_run_state(&pair.source, "postmigrate");
    assert_run_state(&pair.destination, state);
    assert_restored(&pair.source, pair.setups[0], pair.before[0]);
    assert_restored(&pair.destination, pair.setups[1], pair.before[1]);

    /* The source will not do it again as it is. */
    info = inspect_ok(pair.source.client);
    g_assert_false(qemu_check_source(info, true, &error));
    g_assert_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT);
    g_clear_error(&error);

    g_assert_true(qemu_cont(pair.destination.client, TIMEOUT_MS, NULL,
                            &error));
    g_assert_no_error(error);
    assert_run_state(&pair.destination, "running");
    pair_clear(&pair);
}

static void test_real_handover(void)
{
    check_handover(NULL, "paused");
}

static void test_real_handover_of_a_guest_not_started(void)
{
    check_handover("-S", "prelaunch");
}

/* Bytes/s; an empty guest takes some 10 s.  Below 10 would be no limit at all:
 * QEMU divides it by ten, and takes 0 for none (10.0). */
#define SLOW 20000

/* Cancelled while it is active: QEMU refuses for a while, then all is back. */
static void test_real_cancel(void)
{
    JsonObject *slow = json_object_new();
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GError) error = NULL;
    Pair pair;

    if (!pair_init(&pair, NULL)) {
        json_object_unref(slow);
        return;
    }
    pair_listen(&pair);
    json_object_set_int_member(slow, "max-bandwidth", SLOW);
    answer = qmp_client_execute(pair.source.client, "migrate-set-parameters",
                                slow, TIMEOUT_MS, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(qemu_migrate(pair.source.client, pair.uri, TIMEOUT_MS, NULL,
                               &error));
    wait_migration(&pair.source, "active");
    g_assert_true(qemu_migrate_cancel(pair.source.client, TIMEOUT_MS, NULL,
                                      &error));
    g_assert_no_error(error);
    {
        g_autofree char *failed = qemu_restore(
            pair.source.client, pair.setups[0], TIMEOUT_MS, TIMEOUT_MS, NULL);
        g_autoptr(QemuInfo) info = inspect_ok(pair.source.client);

        g_assert_cmpstr(failed, ==, NULL);
        g_assert_false(qemu_info_is_capability_on(info, "multifd"));
        g_assert_false(qemu_info_is_capability_on(info, "return-path"));
        /* what somebody else set stays */
        g_assert_cmpint(json_object_get_int_member(info->parameters,
                                                   "max-bandwidth"), ==, SLOW);
    }
    assert_run_state(&pair.source, "running");
    pair_clear(&pair);
}

/* No one listens: the source says so in its status, and is as before. */
static void test_real_connect_failure(void)
{
    g_autoptr(GError) error = NULL;
    Pair pair;

    if (!pair_init(&pair, NULL)) {
        return;
    }
    g_assert_true(qemu_migrate(pair.source.client, pair.uri, TIMEOUT_MS, NULL,
                               &error));
    for (;;) {
        g_autoptr(QemuMigrateStatus) status =
            qemu_query_migrate(pair.source.client, TIMEOUT_MS, NULL, &error);

        g_assert_no_error(error);
        if (g_str_equal(status->status, "failed")) {
            g_assert_nonnull(strstr(status->error_desc, "Failed to connect"));
            break;
        }
        g_usleep(10000);
    }
    assert_restored(&pair.source, pair.setups[0], pair.before[0]);
    assert_restored(&pair.destination, pair.setups[1], pair.before[1]);
    assert_run_state(&pair.source, "running");
    pair_clear(&pair);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add_func("/daemon/qemu/" path, test)
    ADD("info/page-size-follows-the-architecture",
        test_page_size_follows_the_architecture);
    ADD("inspect/tells-all", test_inspect_tells_all);
    ADD("inspect/refuses-bad-answers", test_inspect_refuses_bad_answers);
    ADD("inspect/of-a-qemu-that-goes", test_inspect_of_a_qemu_that_goes);
    ADD("inspect/sees-a-listening-destination",
        test_inspect_sees_a_listening_destination);
    ADD("json/round-trip", test_json_round_trip);
    ADD("json/takes-the-least", test_json_takes_the_least);
    ADD("json/refuses", test_json_refuses);
    ADD("json/bounds-texts", test_json_bounds_texts);
    ADD("check/source", test_check_source);
    ADD("check/postcopy", test_check_postcopy);
    ADD("check/destination", test_check_destination);
    ADD("check/pair", test_check_pair);
    ADD("prepare/touches-what-differs", test_prepare_touches_what_differs);
    ADD("prepare/without-multifd", test_prepare_without_multifd);
    ADD("prepare/changes-what-is-ours", test_prepare_changes_what_is_ours);
    ADD("prepare/leaves-absent-tls-creds",
        test_prepare_leaves_absent_tls_creds);
    ADD("prepare/puts-back-after-a-refusal",
        test_prepare_puts_back_after_a_refusal);
    ADD("prepare/tells-what-it-could-not-put-back",
        test_prepare_tells_what_it_could_not_put_back);
    ADD("restore/leaves-what-others-set", test_restore_leaves_what_others_set);
    ADD("restore/waits-for-the-end", test_restore_waits_for_the_end);
    ADD("restore/collects-failures", test_restore_collects_failures);
    ADD("restore/of-a-qemu-that-is-gone", test_restore_of_a_qemu_that_is_gone);
    ADD("migrate-status/all", test_migrate_status);
    ADD("migrate-status/of-nothing", test_migrate_status_of_nothing);
    ADD("migrate-status/is-active", test_migrate_status_is_active);
    ADD("real/handover", test_real_handover);
    ADD("real/handover-of-a-guest-not-started",
        test_real_handover_of_a_guest_not_started);
    ADD("real/cancel", test_real_cancel);
    ADD("real/connect-failure", test_real_connect_failure);
    return g_test_run();
}
