/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-target.c - the body at the destination's site
 *
 * Does what the source's daemon asks for on the main lane, one request after the
 * other, and follows the flow meanwhile.  What concerns a managed QEMU is in
 * target-qemu.c.
 */
#include "daemon/migration-target.h"

#include "daemon/ingress-link.h"
#include "daemon/link-lane.h"
#include "daemon/migration-link.h"
#include "daemon/migration-outage.h"
#include "daemon/migration-tunnel.h"
#include "daemon/registry.h"
#include "daemon/target-qemu.h"
#include "daemon/uuid.h"
#include "qmp/message.h"

enum {
    TICK_MS = 200,
    POSTCOPY_GIVEN_MS = 10 * 1000,
    FINISH_MS = 120 * 1000,     /* for the source's side to say `finish`; a peer
                                   that is gone is noticed by its heartbeats */
};

typedef struct {
    Migration *migration;
    Stream *stream;             /* the main lane until the thread has it */
    TargetQemu *qemu;           /* NULL: a tunnel, or not prepared */
    bool prepared;
    bool finished;              /* the source side needs nothing more */
    bool link_ended;
    GError *refusal;            /* why prepare was refused */
    char *abort_reason;         /* of the source side, after SHUT 0 */
    LinkPacking packing;        /* as agreed */
} Target;

/* ---- prepare ------------------------------------------------------------------------ */

/* Half the share for what the peer may send ahead, half for packing it anew. */
static uint64_t get_window(const Migration *migration)
{
    return migration->memory / 2;
}

static void begin_flow(Target *self, uint64_t return_window)
{
    Migration *migration = self->migration;
    ExchangeSetup exchange = {
        .memory = get_window(migration),
        .main_ring = MIGRATION_MAIN_WINDOW,
        .link_fed = true,
    };
    IngressLinkSetup ingress = {
        .window = get_window(migration),
        .packed = self->packing.packed,
        .history = self->packing.history,
    };
    LinkMainFlow flow = {
        .send_window = MIN(return_window, MIGRATION_RETURN_WINDOW),
        .receive_window = MIGRATION_MAIN_WINDOW,
        .preempt_window = EXCHANGE_PREEMPT_RING,
    };

    migration_create_exchange(migration, exchange);
    ingress.exchange = migration->exchange;
    ingress.main = migration->link;
    migration_set_ingress(migration, ingress_link_new(&ingress));
    flow.exchange = migration->exchange;
    link_main_attach(migration->link, &flow);
    migration_outage_check(migration);
    migration_begin_flow(migration);
}

static bool prepare_tunnel(Target *self, JsonObject *args,
                           uint64_t return_window, unsigned *ret_channels,
                           GError **error)
{
    Migration *migration = self->migration;
    const char *name = qmp_message_get_string(args, "tunnel");
    const ConfigTunnel *tunnel =
        name ? config_find_tunnel(migration->config, name) : NULL;

    if (name) {
        migration_set_name(migration, MIGRATION_TUNNEL, name);
    }
    if (!tunnel || !tunnel->connect || !tunnel->peer ||
        strcmp(tunnel->peer, migration->peer->name) != 0) {
        g_autofree char *shown = ramblock_name_escape(
            name ? name : "", name ? MIN(strlen(name), 64) : 0);

        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "prepare: there is no [tunnel %s] with peer=%s and connect= "
                    "here", shown, migration->peer->name);
        return false;
    }
    if (!registry_claim(migration->daemon->registry, migration,
                        MIGRATION_TUNNEL, tunnel->name, error)) {
        return false;
    }
    begin_flow(self, return_window);
    *ret_channels = tunnel->channels;
    return migration_tunnel_connect(migration, tunnel, NULL, error);
}

static bool prepare_managed(Target *self, JsonObject *args,
                            uint64_t return_window, unsigned *ret_channels,
                            GError **error)
{
    self->qemu = target_qemu_prepare(self->migration, args, ret_channels, error);
    if (!self->qemu) {
        return false;
    }
    begin_flow(self, return_window);
    return true;
}

static bool prepare_kind(Target *self, JsonObject *args, unsigned *ret_channels,
                         GError **error)
{
    const char *kind = qmp_message_get_string(args, "kind");
    int64_t return_window;

    if (!qmp_message_get_uint(args, "return-window", G_MAXINT64,
                              &return_window)) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "prepare: 'return-window' is missing");
        return false;
    }
    migration_outage_learn(self->migration, args);
    if (g_strcmp0(kind, "tunnel") == 0) {
        return prepare_tunnel(self, args, return_window, ret_channels, error);
    }
    if (g_strcmp0(kind, "managed") == 0 || g_strcmp0(kind, "recover") == 0) {
        return prepare_managed(self, args, return_window, ret_channels, error);
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                "prepare: 'kind' is none of 'tunnel', 'managed', 'recover'");
    return false;
}

static JsonObject *do_prepare(Target *self, JsonObject *args, GError **error)
{
    unsigned channels = 0;
    JsonObject *answer;

    if (self->prepared) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "prepare: got it twice, allowed once");
        return NULL;
    }
    self->prepared = true;
    self->packing = migration_link_agree_packing(self->migration, args);
    if (!prepare_kind(self, args, &channels, &self->refusal)) {
        g_propagate_error(error, g_error_copy(self->refusal));
        return NULL;
    }
    answer = json_object_new();
    json_object_set_int_member(answer, "window", get_window(self->migration));
    json_object_set_int_member(answer, "main-window", MIGRATION_MAIN_WINDOW);
    json_object_set_int_member(answer, "preempt-window",
                               EXCHANGE_PREEMPT_RING);
    json_object_set_int_member(answer, "channels", channels);
    migration_link_tell_packing(&self->packing, answer);
    if (self->qemu) {
        target_qemu_describe(self->qemu, answer);
    }
    return answer;
}

/* ---- the other requests ---------------------------------------------------------------- */

static bool check_managed(Target *self, const char *request, GError **error)
{
    if (self->qemu) {
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                "%s: allowed only in a managed migration, after prepare",
                request);
    return false;
}

static JsonObject *do_open(Target *self, JsonObject *args, GError **error)
{
    (void)args;
    return check_managed(self, "open", error) &&
           target_qemu_open(self->qemu, error) ? json_object_new() : NULL;
}

/* A `cont` before the guest is complete would let it start by itself. */
static bool check_arrived(Target *self, const char *request, GError **error)
{
    ExchangeSnapshot now = { 0 };

    if (self->migration->exchange) {
        exchange_get_snapshot(self->migration->exchange, &now);
    }
    if ((now.shut && now.shut_value == 0) ||
        (now.return_ended && !now.return_path && now.main_drained)) {
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                "%s: allowed only once the destination has taken over",
                request);
    return false;
}

/* What is under way to the destination QEMU gets a moment to arrive. */
static void wait_postcopy_given(Exchange *exchange, ExchangeSnapshot *now)
{
    int64_t deadline_us = g_get_monotonic_time() + POSTCOPY_GIVEN_MS * 1000LL;

    exchange_get_snapshot(exchange, now);
    while (!now->postcopy_given && !now->shut &&
           g_get_monotonic_time() < deadline_us) {
        g_autoptr(GError) over = exchange_get_error(exchange);

        if (over) {
            return;
        }
        g_usleep(5 * 1000);
        exchange_get_snapshot(exchange, now);
    }
}

/* In postcopy its half is enough, once it has been told to run it. */
static bool check_resumable(Target *self, bool postcopy, GError **error)
{
    ExchangeSnapshot now = { 0 };

    if (!postcopy || !self->migration->exchange) {
        return check_arrived(self, "resume", error);
    }
    wait_postcopy_given(self->migration->exchange, &now);
    if (now.postcopy_given || (now.shut && now.shut_value == 0)) {
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                "resume: allowed in postcopy only once the destination QEMU was "
                "told to run the guest");
    return false;
}

static JsonObject *do_resume(Target *self, JsonObject *args, GError **error)
{
    bool start = true, postcopy = false;

    qmp_message_get_bool(args, "start", &start);
    qmp_message_get_bool(args, "postcopy", &postcopy);
    return check_managed(self, "resume", error) &&
           check_resumable(self, postcopy, error)
           ? target_qemu_resume(self->qemu, start, error) : NULL;
}

static JsonObject *do_finish(Target *self, JsonObject *args, GError **error)
{
    (void)args;
    if (!check_arrived(self, "finish", error)) {
        return NULL;
    }
    self->finished = true;
    if (self->qemu) {
        target_qemu_put_back(self->qemu);
    }
    return json_object_new();
}

typedef struct {
    const char *name;
    JsonObject *(*handler)(Target *self, JsonObject *args, GError **error);
} Request;

static const Request requests[] = {
    { "prepare", do_prepare },
    { "open", do_open },
    { "resume", do_resume },
    { "finish", do_finish },
};

static void handle_request(Target *self, const char *name, JsonObject *message)
{
    g_autoptr(JsonObject) none = json_object_new();
    JsonObject *args = qmp_message_get_object(message, "arguments");
    JsonObject *answer = NULL;
    g_autoptr(GError) error = NULL;
    int64_t id = 0;
    unsigned i = 0;

    qmp_message_get_int(message, "id", &id);
    while (i < G_N_ELEMENTS(requests) &&
           strcmp(requests[i].name, name) != 0) {
        i++;
    }
    if (i < G_N_ELEMENTS(requests)) {
        answer = requests[i].handler(self, args ? args : none, &error);
    } else {
        g_set_error(&error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "there is no such request here");
    }
    link_main_answer(self->migration->link, id, answer, error);
}

/* ---- events ------------------------------------------------------------------------------ */

/* What is missing or of another type says nothing, and may not mean no or 0. */
static bool check_channels(JsonObject *data, GError **error)
{
    const char *text = qmp_message_get_string(data, "uuid");
    const char *bad = NULL, *allowed = NULL;
    uint8_t uuid[UUID_SIZE];
    bool multifd;
    int64_t count;

    if (!qmp_message_get_bool(data, "multifd", &multifd)) {
        bad = "multifd";
        allowed = "true or false";
    } else if (!qmp_message_get_uint(data, "count", MULTIFD_CHANNELS_MAX,
                                     &count)) {
        bad = "count";
        allowed = "0 to 255";
    } else if (!text || !uuid_from_string(text, uuid)) {
        bad = "uuid";
        allowed = "36 characters as in RFC 4122";
    }
    if (bad) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                    "channels: got no usable '%s', expected %s", bad, allowed);
    }
    return !bad;
}

/* N, and that there is multifd at all: the main stream comes ahead of it. */
static bool handle_channels(Target *self, JsonObject *data, GError **error)
{
    uint8_t uuid[UUID_SIZE] = { 0 };
    const char *text = qmp_message_get_string(data, "uuid");
    bool multifd = false;
    int64_t count = 0, page_size;

    qmp_message_get_bool(data, "multifd", &multifd);
    qmp_message_get_uint(data, "count", MULTIFD_CHANNELS_MAX, &count);
    if (text) {
        uuid_from_string(text, uuid);
    }
    if (qmp_message_get_uint(data, "page-size", G_MAXINT64, &page_size) &&
        !exchange_set_page_size(self->migration->exchange, page_size, error)) {
        return false;
    }
    return exchange_decide(self->migration->exchange, multifd, count, uuid,
                           error);
}

static bool handle_event(Target *self, const char *name, JsonObject *message,
                         GError **error)
{
    JsonObject *data = qmp_message_get_object(message, "data");

    if (strcmp(name, "abort") == 0 && !self->migration->exchange) {
        g_propagate_error(error, migration_link_abort_error(self->migration,
                                                            message));
        return false;
    }
    /* The source has a preempt channel: the destination needs it too. */
    if (strcmp(name, "preempt") == 0 && self->migration->exchange) {
        exchange_preempt_expect(self->migration->exchange);
    }
    if (strcmp(name, "channels") == 0 && data && self->migration->exchange) {
        return check_channels(data, error) &&
               handle_channels(self, data, error);
    }
    return true;
}

static bool handle_control(Target *self, JsonObject *message, GError **error)
{
    const char *execute = qmp_message_get_string(message, "execute");
    const char *event = qmp_message_get_string(message, "event");

    if (execute) {
        handle_request(self, execute, message);
    }
    return !event || handle_event(self, event, message, error);
}

/* ---- the body ------------------------------------------------------------------------------ */

static GError *link_error(Migration *self)
{
    GError *error = link_main_get_error(self->link);

    return error ? error
                 : g_error_new(MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                               "link to %s: the peer closed it",
                               self->peer->name);
}

/* What one message means before there is an exchange: all errors are final. */
static bool handle_early(Target *self, const Message *message, GError **error)
{
    if (message->kind == MESSAGE_CANCEL) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED,
                    "cancelled by request");
        return false;
    }
    if (message->kind == MESSAGE_LINK_ENDED) {
        g_propagate_error(error, link_error(self->migration));
        return false;
    }
    return message->kind != MESSAGE_CONTROL ||
           handle_control(self, message->object, error);
}

static bool wait_prepared(Target *self, GError **error)
{
    Migration *migration = self->migration;
    int64_t deadline_us = g_get_monotonic_time() +
                          migration->config->timeouts.handshake_ms * 1000LL;

    while (!migration->exchange) {
        g_autoptr(Message) message = migration_wait(migration, TICK_MS);

        if (!handle_early(self, message, error)) {
            return false;
        }
        if (self->prepared && !migration->exchange) {
            g_propagate_prefixed_error(error,
                                       g_steal_pointer(&self->refusal),
                                       "refused peer %s: ",
                                       migration->peer->name);
            return false;
        }
        if (!self->prepared && g_get_monotonic_time() > deadline_us) {
            g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                        "link to %s: got no prepare within %u ms",
                        migration->peer->name,
                        migration->config->timeouts.handshake_ms);
            return false;
        }
    }
    return true;
}

static Flow handle_message(Target *self, const Message *message, GError **error)
{
    GError *failure = NULL;

    if (message->kind == MESSAGE_CONTROL &&
        !handle_control(self, message->object, &failure)) {
        exchange_fail(self->migration->exchange, failure);
    }
    self->link_ended |= message->kind == MESSAGE_LINK_ENDED;
    /* The source side says so only once its QEMU has been told: that counts even
     * if the lane ends before its last ACK is seen here. */
    if (self->finished) {
        return FLOW_TAKEN_OVER;
    }
    return migration_follow(self->migration, message, error);
}

/* The source side gives up although the destination has the guest. */
static void note_late_abort(Target *self, JsonObject *message)
{
    g_autoptr(GError) reason = NULL;

    if (g_strcmp0(qmp_message_get_string(message, "event"), "abort") == 0 &&
        !self->abort_reason) {
        reason = migration_link_abort_error(self->migration, message);
        self->abort_reason = g_strdup(reason->message);
        self->link_ended = true;
    }
}

/* Time without a link does not count. */
static void check_outage(Target *self, int64_t *deadline_us)
{
    LinkMainOutage outage;

    migration_outage_check(self->migration);
    link_main_get_outage(self->migration->link, &outage);
    if (outage.down) {
        *deadline_us = g_get_monotonic_time() + FINISH_MS * 1000LL;
    }
}

/* The destination has the guest; now the source side has something to ask. */
static bool wait_finished(Target *self, GError **error)
{
    int64_t deadline_us = g_get_monotonic_time() + FINISH_MS * 1000LL;

    while (!self->finished && !self->link_ended &&
           g_get_monotonic_time() < deadline_us) {
        g_autoptr(Message) message = migration_wait(self->migration, TICK_MS);

        check_outage(self, &deadline_us);
        self->link_ended |= message->kind == MESSAGE_LINK_ENDED;
        if (message->kind == MESSAGE_CONTROL) {
            note_late_abort(self, message->object);
            if (!handle_control(self, message->object, error)) {
                return false;
            }
        }
    }
    return self->finished || !self->qemu ||
           target_qemu_check_unfinished(self->qemu, self->abort_reason, error);
}

static bool follow(Target *self, GError **error)
{
    Flow flow = FLOW_RUNNING;

    while (flow == FLOW_RUNNING) {
        g_autoptr(Message) message = migration_wait(self->migration, TICK_MS);

        flow = handle_message(self, message, error);
    }
    return flow == FLOW_TAKEN_OVER && wait_finished(self, error);
}

static bool run(Migration *migration, void *data, GError **error)
{
    Target *self = data;
    GError *failure = NULL;
    ExchangeSnapshot last = { 0 };

    self->migration = migration;
    migration_link_take_main(migration, g_steal_pointer(&self->stream));
    if (!wait_prepared(self, &failure) || !follow(self, &failure)) {
        if (migration->exchange) {
            exchange_get_snapshot(migration->exchange, &last);
        }
        migration_explain_postcopy(migration, &failure);
        migration_link_abort(migration, failure);
        migration_tear_down(migration);
        if (self->qemu) {
            target_qemu_give_up(self->qemu, last.main_out > 0,
                                last.postcopy);
        }
        g_propagate_error(error, failure);
        return false;
    }
    return true;
}

static void free_target(void *data)
{
    Target *self = data;

    stream_free(self->stream);
    target_qemu_free(self->qemu);
    g_clear_error(&self->refusal);
    g_free(self->abort_reason);
    g_free(self);
}

/* ---- lanes ------------------------------------------------------------------------------------ */

static bool take_main_lane(Daemon *daemon, Stream **stream,
                           const LinkHello *hello, const ConfigPeer *peer,
                           GError **error)
{
    Target *target = g_new0(Target, 1);
    MigrationSetup setup = {
        .daemon = daemon,
        .id = hello->migration,
        .kind = MIGRATION_TUNNEL,
        .role = MIGRATION_DESTINATION,
        .name = hello->migration,
        .peer = peer,
        .body = run,
        .data = target,
        .destroy = free_target,
    };
    g_autoptr(Migration) migration = migration_new(&setup);

    /* Refuse before the hello is answered, so that the reason gets through. */
    if (!migration_enter(migration, error)) {
        free_target(target);
        return false;
    }
    if (!link_lane_accept(*stream, daemon->config->name, error)) {
        migration_leave(migration);
        free_target(target);
        return false;
    }
    peer_status_note_reached(daemon->peer_status, peer->name);
    target->stream = g_steal_pointer(stream);
    /* Without a thread nobody takes the lane: free it with the target. */
    if (!migration_launch(migration, error)) {
        free_target(target);
        return false;
    }
    return true;
}

/* To a stranger it is unknown too: a peer learns nothing of others' migrations. */
static GError *unknown_error(Daemon *daemon, const LinkHello *hello,
                             const ConfigPeer *peer)
{
    g_autoptr(Migration) ended = registry_find(daemon->registry,
                                               hello->migration);
    g_autofree char *end = ended ? migration_describe_end(ended, peer) : NULL;

    return link_lane_unknown_error("there is no migration %s here%s%s",
                                   hello->migration, end ? " any more: " : "",
                                   end ? end : "");
}

/* The connection of a main lane has broken, and this is the next. */
static bool resume_main_lane(Daemon *daemon, Stream **stream,
                             const LinkHello *hello, const ConfigPeer *peer,
                             GError **error)
{
    g_autoptr(Migration) migration =
        registry_find_destination(daemon->registry, hello->migration);
    g_autoptr(GError) refusal = NULL;

    if (!migration ||
        !migration_check_main(migration, hello->generation, peer, &refusal)) {
        if (!refusal ||
            g_error_matches(refusal, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED)) {
            g_clear_error(&refusal);
            refusal = unknown_error(daemon, hello, peer);
        }
        g_propagate_error(error, g_steal_pointer(&refusal));
        return false;
    }
    return link_lane_accept(*stream, daemon->config->name, error) &&
           migration_take_main(migration, stream, hello->generation, peer,
                               error);
}

bool migration_target_take_lane(Daemon *daemon, Stream **stream,
                                const LinkHello *hello, const ConfigPeer *peer,
                                GError **error)
{
    g_autoptr(Migration) migration = NULL;

    if (hello->role == LINK_ROLE_MAIN && hello->resume) {
        return resume_main_lane(daemon, stream, hello, peer, error);
    }
    if (hello->role == LINK_ROLE_MAIN) {
        return take_main_lane(daemon, stream, hello, peer, error);
    }
    migration = registry_find_destination(daemon->registry, hello->migration);
    if (!migration) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "lane %u: there is no migration %s here", hello->lane,
                    hello->migration);
        return false;
    }
    return migration_check_lane(migration, hello->lane, peer, error) &&
           link_lane_accept(*stream, daemon->config->name, error) &&
           migration_take_lane(migration, stream, hello->lane,
                               hello->generation, peer, error);
}
