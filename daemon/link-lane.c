/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-lane.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "daemon/link-lane-json.h"
#include "daemon/link-path.h"
#include "daemon/log.h"
#include "daemon/paced-write.h"
#include "qmp/error.h"
#include "qmp/message.h"
#include "wire/error.h"

enum {
    PIECES_MAX = 8,                 /* of one frame, with the header */
    UNSENT_MAX = 256 * 1024,        /* bytes that wait in the kernel, not sent */
    KEEPALIVE_PROBES = 3,
    RETRY_MIN_MS = 50,
    RETRY_MAX_MS = 1000,            /* between the beginnings of two attempts */
    PATH_MAX_MS = 3000,
    RTO_MAX_MS = 1000,              /* the least that the kernel takes */
};

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44           /* linux/tcp.h */
#endif

/* ---- frames ---------------------------------------------------------------- */

bool link_lane_write(Stream *stream, Limiter *limiter, const LinkFrame *frame,
                     const struct iovec *pieces, unsigned n_pieces,
                     GError **error)
{
    uint8_t header[LINK_HEADER_SIZE];
    struct iovec iov[PIECES_MAX] = { { header, sizeof(header) } };

    g_assert(n_pieces < PIECES_MAX);
    link_frame_encode(frame, header);
    if (n_pieces > 0) {
        memcpy(iov + 1, pieces, n_pieces * sizeof(*pieces));
    }
    return paced_write(stream, limiter, iov, n_pieces + 1, error);
}

bool link_lane_read(Stream *stream, LinkFrame *ret, bool *ret_eof,
                    GError **error)
{
    uint8_t header[LINK_HEADER_SIZE];

    if (!stream_read_full(stream, header, sizeof(header), ret_eof, error)) {
        return false;
    }
    return (ret_eof && *ret_eof) || link_frame_decode(header, ret, error);
}

/* ---- hello ----------------------------------------------------------------- */

static const char *const role_names[] = {
    [LINK_ROLE_MAIN] = "main",
    [LINK_ROLE_BULK] = "bulk",
    [LINK_ROLE_TEST] = "test",
    [LINK_ROLE_TEST_BULK] = "test-bulk",
};
G_STATIC_ASSERT(G_N_ELEMENTS(role_names) == LINK_ROLE_TEST_BULK + 1);

const char *link_lane_role_to_string(LinkRole role)
{
    return role_names[role];
}

bool link_lane_role_is_test(LinkRole role)
{
    return role == LINK_ROLE_TEST || role == LINK_ROLE_TEST_BULK;
}

static bool is_bulk(LinkRole role)
{
    return role == LINK_ROLE_BULK || role == LINK_ROLE_TEST_BULK;
}

static bool write_hello(Stream *stream, JsonObject *object, GError **error)
{
    g_autoptr(GBytes) text = qmp_message_encode(object);
    gsize len;
    const void *data = g_bytes_get_data(text, &len);
    struct iovec piece = { (void *)data, len };
    LinkFrame frame = { .type = LINK_HELLO, .length = len };

    g_assert(len <= LINK_HELLO_MAX);
    return link_lane_write(stream, NULL, &frame, &piece, 1, error);
}

static JsonObject *read_hello(Stream *stream, GError **error)
{
    g_autofree uint8_t *buf = NULL;
    LinkFrame frame;

    if (!link_lane_read(stream, &frame, NULL, error)) {
        return NULL;
    }
    if (frame.type != LINK_HELLO) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link: got a %s frame first, expected HELLO",
                    link_frame_type_name(frame.type));
        return NULL;
    }
    buf = g_malloc(frame.length);
    if (!stream_read_full(stream, buf, frame.length, NULL, error)) {
        return NULL;
    }
    return link_lane_json_parse("HELLO", buf, frame.length, error);
}

static bool refuse_member(const char *name, const char *allowed, GError **error)
{
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "link HELLO: got no usable '%s', expected %s", name, allowed);
    return false;
}

static bool get_version(JsonObject *object, unsigned *ret, GError **error)
{
    int64_t version;

    if (!qmp_message_get_uint(object, "version", G_MAXINT32, &version) ||
        version == 0) {
        return refuse_member("version", "a number above 0", error);
    }
    *ret = version;
    return true;
}

static bool get_daemon(JsonObject *object, char ret[64], GError **error)
{
    const char *name = qmp_message_get_string(object, "daemon");

    if (!name || !*name || strlen(name) >= 64) {
        return refuse_member("daemon", "1 to 63 bytes", error);
    }
    g_strlcpy(ret, name, 64);
    return true;
}

static bool get_role(JsonObject *object, LinkRole *ret, GError **error)
{
    const char *role = qmp_message_get_string(object, "role");

    for (unsigned i = 0; i < G_N_ELEMENTS(role_names); i++) {
        if (g_strcmp0(role, role_names[i]) == 0) {
            *ret = i;
            return true;
        }
    }
    return refuse_member("role", "'main', 'bulk', 'test' or 'test-bulk'",
                         error);
}

static bool get_migration(JsonObject *object,
                          char ret[LINK_MIGRATION_ID_LEN + 1], GError **error)
{
    const char *id = qmp_message_get_string(object, "migration");

    if (!id || strlen(id) != LINK_MIGRATION_ID_LEN ||
        strspn(id, "0123456789abcdef") != LINK_MIGRATION_ID_LEN) {
        return refuse_member("migration", "32 lower case hex digits", error);
    }
    memcpy(ret, id, LINK_MIGRATION_ID_LEN + 1);
    return true;
}

static bool get_lane(JsonObject *object, LinkRole role, unsigned *ret,
                     GError **error)
{
    int64_t lane;

    if (!qmp_message_get_uint(object, "lane", is_bulk(role)
                              ? LINK_LANES_MAX - 1 : 0, &lane)) {
        return refuse_member("lane", is_bulk(role)
                             ? "0 to 63" : "0 for the main lane", error);
    }
    *ret = lane;
    return true;
}

/* Both may be missing: a lane's first connection. */
static bool get_resume(JsonObject *object, LinkHello *ret, GError **error)
{
    int64_t generation = 0;

    if (json_object_has_member(object, "resume") &&
        !qmp_message_get_bool(object, "resume", &ret->resume)) {
        return refuse_member("resume", "true or false", error);
    }
    if (json_object_has_member(object, "generation") &&
        !qmp_message_get_uint(object, "generation", G_MAXINT32, &generation)) {
        return refuse_member("generation", "a number from 0 to 2147483647",
                             error);
    }
    ret->generation = generation;
    return true;
}

/* The last word of a migration whose abort could not be said in time. */
static bool get_abort(JsonObject *object, LinkHello *ret, GError **error)
{
    JsonObject *abort = qmp_message_get_object(object, "abort");
    const char *reason = abort ? qmp_message_get_string(abort, "reason") : NULL;

    if (!json_object_has_member(object, "abort")) {
        return true;
    }
    if (!reason || strlen(reason) > LINK_REASON_MAX || !ret->resume ||
        ret->role != LINK_ROLE_MAIN ||
        !qmp_message_get_bool(abort, "cancelled", &ret->cancelled)) {
        return refuse_member("abort", "of a main lane that resumes, with a "
                             "'reason' of up to 400 bytes and 'cancelled'", error);
    }
    g_strlcpy(ret->reason, reason, sizeof(ret->reason));
    ret->abort = true;
    return true;
}

bool link_lane_read_hello(Stream *stream, LinkHello *ret, GError **error)
{
    g_autoptr(JsonObject) object = read_hello(stream, error);
    LinkHello hello = { 0 };

    if (!object || !get_version(object, &hello.version, error) ||
        !get_daemon(object, hello.daemon, error) ||
        !get_role(object, &hello.role, error) ||
        !get_migration(object, hello.migration, error) ||
        !get_lane(object, hello.role, &hello.lane, error) ||
        !get_resume(object, &hello, error) ||
        !get_abort(object, &hello, error) ||
        !link_instance_read(object, "instance", hello.instance, error) ||
        !link_instance_read(object, "expected-instance", hello.expected,
                            error)) {
        return false;
    }
    /* A newer peer speaks what we speak, and our answer says what that is. */
    hello.version = MIN(hello.version, (unsigned)LINK_VERSION);
    *ret = hello;
    return true;
}

bool link_lane_accept(Stream *stream, const char *daemon_name,
                      const LinkInstance instance, GError **error)
{
    g_autoptr(JsonObject) object = json_object_new();

    json_object_set_int_member(object, "version", LINK_VERSION);
    json_object_set_string_member(object, "daemon", daemon_name);
    link_instance_add(object, "instance", instance);
    if (!write_hello(stream, object, error)) {
        return false;
    }
    stream_set_timeouts(stream, 0, 0);
    return true;
}

void link_lane_refuse(Stream *stream, const GError *reason)
{
    g_autoptr(JsonObject) object = json_object_new();
    JsonObject *error = link_lane_json_from_error(reason);
    g_autofree char *text = NULL;

    if (strlen(reason->message) > LINK_HELLO_MAX / 8) {     /* \u00xx is six */
        text = g_strndup(reason->message, LINK_HELLO_MAX / 8);
        json_object_set_string_member(error, "desc", text);
    }
    json_object_set_object_member(object, "error", error);
    if (write_hello(stream, object, NULL)) {
        stream_finish(stream);
    }
}

GError *link_lane_unknown_error(const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    return qmp_error_new_command(qmp_class_to_string(QMP_CLASS_DEVICE_NOT_FOUND),
                                 text);
}

bool link_lane_is_unknown(const GError *error)
{
    return g_error_matches(error, QMP_ERROR, QMP_ERROR_COMMAND) &&
           qmp_error_get_class(error) == QMP_CLASS_DEVICE_NOT_FOUND;
}

static bool check_answer(JsonObject *object, LinkAnswer *ret_answer, GError **error)
{
    JsonObject *refusal = qmp_message_get_object(object, "error");
    LinkAnswer said = { 0 };
    unsigned version;

    if (refusal) {
        g_propagate_prefixed_error(error, link_lane_json_to_error(refusal),
                                   "the peer refused: ");
        return false;
    }
    if (!get_version(object, &version, error) ||
        !get_daemon(object, said.daemon, error) ||
        !link_instance_read(object, "instance", said.instance, error)) {
        return false;
    }
    if (version != LINK_VERSION) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
                    "link HELLO: got version %u, allowed %d", version,
                    LINK_VERSION);
        return false;
    }
    if (ret_answer) {
        *ret_answer = said;
    }
    return true;
}

static void add_abort(JsonObject *object, const LinkHello *hello)
{
    JsonObject *abort = json_object_new();

    json_object_set_string_member(abort, "reason", hello->reason);
    json_object_set_boolean_member(abort, "cancelled", hello->cancelled);
    json_object_set_object_member(object, "abort", abort);
}

static JsonObject *describe_hello(const LinkHello *hello)
{
    JsonObject *object = json_object_new();

    json_object_set_int_member(object, "version", LINK_VERSION);
    json_object_set_string_member(object, "daemon", hello->daemon);
    json_object_set_string_member(object, "role",
                                  link_lane_role_to_string(hello->role));
    json_object_set_string_member(object, "migration", hello->migration);
    json_object_set_int_member(object, "lane", hello->lane);
    if (hello->resume) {
        json_object_set_boolean_member(object, "resume", true);
    }
    if (hello->generation > 0) {
        json_object_set_int_member(object, "generation", hello->generation);
    }
    link_instance_add(object, "instance", hello->instance);
    link_instance_add(object, "expected-instance", hello->expected);
    if (hello->abort) {
        add_abort(object, hello);
    }
    return object;
}

static bool exchange_hellos(Stream *stream, const LinkHello *hello,
                            LinkAnswer *ret_answer, GError **error)
{
    g_autoptr(JsonObject) object = describe_hello(hello);
    g_autoptr(JsonObject) answer = NULL;

    if (!write_hello(stream, object, error)) {
        return false;
    }
    answer = read_hello(stream, error);
    return answer && check_answer(answer, ret_answer, error);
}

/* ---- connecting -------------------------------------------------------------- */

static void on_cancelled(GCancellable *cancellable G_GNUC_UNUSED, void *stream)
{
    stream_shutdown(stream);
}

static bool introduce(Stream *stream, const ConfigPeer *peer,
                      TlsCredentials *credentials,
                      const ConfigTimeouts *timeouts, const LinkHello *hello,
                      LinkAnswer *ret_answer, GError **error)
{
    TlsPeerRules rules = {
        .alpn = LINK_ALPN,
        .certificate_name = peer->certificate_name,
        .fingerprint = peer->fingerprint,
        .tls13_only = true,
    };

    stream_set_timeouts(stream, timeouts->handshake_ms, timeouts->handshake_ms);
    if (!stream_start_tls(stream, credentials, false, &rules,
                          timeouts->handshake_ms, error) ||
        !exchange_hellos(stream, hello, ret_answer, error)) {
        return false;
    }
    stream_set_timeouts(stream, 0, 0);
    return true;
}

static Stream *connect_stream(const ConfigPeer *peer, unsigned path,
                              const ConfigTimeouts *timeouts,
                              GCancellable *cancellable, GError **error)
{
    g_autofree char *name = g_strdup_printf(
        "peer %s (%s)", peer->name, link_path_get_address(peer, path)->text);
    int fd = link_path_connect(peer, path, timeouts->connect_ms, cancellable,
                               error);
    Stream *stream;

    if (fd < 0) {
        return NULL;
    }
    stream = stream_new(fd, name);
    stream_set_path(stream, path);
    link_lane_tune(stream, timeouts->link_dead_ms);
    return stream;
}

/* All that connecting along one path needs. */
typedef struct {
    const ConfigPeer *peer;
    TlsCredentials *credentials;
    const ConfigTimeouts *timeouts;
    const LinkHello *hello;
    PeerStatus *status;
    GCancellable *cancellable;
} Connection;

static Stream *try_path(const Connection *self, unsigned path, LinkAnswer *ret_answer,
                        GError **error)
{
    g_autoptr(Stream) stream = connect_stream(self->peer, path, self->timeouts,
                                              self->cancellable, error);
    bool ok = false;

    if (stream) {
        gulong id = self->cancellable ? g_cancellable_connect(
            self->cancellable, G_CALLBACK(on_cancelled), stream, NULL) : 0;

        ok = introduce(stream, self->peer, self->credentials, self->timeouts,
                       self->hello, ret_answer, error);
        g_cancellable_disconnect(self->cancellable, id);
    }
    return ok ? g_steal_pointer(&stream) : NULL;
}

/* What the peer itself said it would say on every path. */
static bool may_be_path(const GError *error)
{
    return error->domain != QMP_ERROR &&
           !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
}

static void note_path(const Connection *self, unsigned path, Stream *stream,
                      const GError *error)
{
    g_autofree char *text = link_path_to_string(self->peer, path);

    if (stream) {
        peer_status_note_lane(self->status, self->peer->name, text, stream);
    } else if (may_be_path(error) &&
               !g_cancellable_is_cancelled(self->cancellable)) {
        peer_status_note_path_failed(self->status, self->peer->name, text,
                                     error);
    }
}

static Stream *connect_path(const Connection *self, unsigned path,
                            LinkAnswer *ret_answer, GError **error)
{
    g_autoptr(GError) failed = NULL;
    Stream *stream = try_path(self, path, ret_answer, &failed);

    if (self->status) {
        note_path(self, path, stream, failed);
    }
    if (!stream) {
        g_propagate_error(error, g_steal_pointer(&failed));
    }
    return stream;
}

/* A path that is not the last gets its part of the time, and no more than this: with
 * two of them one dead path must not double the time that a migration takes to begin. */
static ConfigTimeouts get_path_timeouts(const ConfigTimeouts *all, unsigned left)
{
    ConfigTimeouts timeouts = *all;

    if (left > 1) {
        timeouts.connect_ms = MIN(timeouts.connect_ms / left, PATH_MAX_MS);
    }
    return timeouts;
}

/* A lane's first connection: any path will do.  The error is the first path's, with
 * what the others said after it. */
static Stream *connect_any(const Connection *self, LinkAnswer *ret_answer,
                           GError **error)
{
    const ConfigPeer *peer = self->peer;
    g_autoptr(GError) failed = NULL;
    unsigned n = link_path_get_count(peer);

    for (unsigned turn = 0; turn < n; turn++) {
        ConfigTimeouts timeouts = get_path_timeouts(self->timeouts, n - turn);
        unsigned path = link_path_choose(peer, self->hello->lane, turn);
        g_autoptr(GError) cause = NULL;
        Connection attempt = *self;
        Stream *stream;

        attempt.timeouts = &timeouts;
        stream = connect_path(&attempt, path, ret_answer, &cause);
        if (stream) {
            return stream;
        }
        if (failed) {
            g_autofree char *both = g_strdup_printf("%s; %s", failed->message,
                                                    cause->message);
            g_free(failed->message);
            failed->message = g_steal_pointer(&both);
        } else {
            failed = g_error_copy(cause);
        }
        if (!may_be_path(cause)) {
            g_clear_error(&failed);
            failed = g_steal_pointer(&cause);
            break;
        }
        if (n > 1) {
            log_info(NULL, "link to %s, path %u of %u: %s", peer->name,
                     path + 1, n, cause->message);
        }
    }
    g_propagate_error(error, g_steal_pointer(&failed));
    return NULL;
}

Stream *link_lane_connect(const ConfigPeer *peer, TlsCredentials *credentials,
                          const ConfigTimeouts *timeouts,
                          const LinkHello *hello, PeerStatus *status,
                          GCancellable *cancellable, LinkAnswer *ret_answer,
                          GError **error)
{
    Connection connection = {
        peer, credentials, timeouts, hello, status, cancellable,
    };
    Stream *stream = hello->generation == 0
        ? connect_any(&connection, ret_answer, error)
        : connect_path(&connection, link_path_choose(peer, hello->lane,
                                                     hello->generation),
                       ret_answer, error);

    if (!stream) {
        g_prefix_error(error, "link to %s, %s lane %u: ", peer->name,
                       link_lane_role_to_string(hello->role), hello->lane);
    }
    return stream;
}

/* Not all at once when many lanes come back: a quarter more or less. */
int64_t link_lane_get_retry_us(unsigned attempt)
{
    unsigned ms = RETRY_MIN_MS << MIN(attempt, 5);

    ms = MIN(ms, RETRY_MAX_MS * 4 / 5);
    return g_random_int_range(ms * 3 / 4, ms * 5 / 4 + 1) * 1000LL;
}

/* What is no TCP socket takes none of these, and needs none. */
void link_lane_tune(Stream *stream, unsigned dead_ms)
{
    int fd = stream_get_fd(stream);
    int on = 1, unsent = UNSENT_MAX, probes = KEEPALIVE_PROBES;
    int rto_max_ms = RTO_MAX_MS;
    int seconds = MAX(1, dead_ms / 1000 / (KEEPALIVE_PROBES + 1));

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
    /* Linux 6.15 on; without it link-watch does what it can.  Tests look at that. */
    if (!g_getenv("MULTIFERRY_TEST_NO_RTO_MAX")) {
        setsockopt(fd, IPPROTO_TCP, TCP_RTO_MAX_MS, &rto_max_ms,
                   sizeof(rto_max_ms));
    }
}
