/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-managed.c - the driver of a managed migration, source side
 *
 * Reads from top to bottom like the table in docs/architecture.md: inspect,
 * prepare here and there, migrate, follow, hand over, put back.  What it set it
 * puts back on every way out.
 */
#include "daemon/migration-managed.h"

#include <unistd.h>

#include "daemon/ingress-qemu.h"
#include "daemon/listener.h"
#include "daemon/managed-convergence.h"
#include "daemon/managed-postcopy.h"
#include "daemon/migration-link.h"
#include "qmp/error.h"
#include "qmp/peer.h"

enum {
    DEFAULT_CHANNELS = 4,
    TICK_MS = 100,
    POLL_US = 500 * 1000,       /* query-migrate while it runs */
    SETTLE_MS = 15 * 1000,      /* for QEMU to reach a final state */
    RESTORE_MS = 3000,
    CANCEL_US = 5 * 1000 * 1000,
    BACKLOG = 512,
};

typedef struct {
    Migration *migration;
    const ConfigVm *vm;
    char *as;
    unsigned channels, lanes, destination_channels;
    unsigned downtime_limit_ms;
    Handover handover;
    ManagedPostcopy postcopy;
    ManagedConvergence convergence;
    bool recovering, recover_start;

    QmpClient *client;
    QemuInfo *info;
    QemuSetup *setup;           /* what to put back; NULL: nothing */
    Listener *listener;
    char *socket_path;
    bool migrate_given;
    int64_t cancelled_us;       /* migrate_cancel was given; 0: not */
    char *cancel_reason;        /* our own; NULL: by request */
    bool preempt;               /* postcopy's, at both ends */
    bool legacy_zero_pages;     /* the destination is older than 9.0 */
    bool was_running;           /* the guest, when it was stopped for good */
    int64_t stopped_us;         /* monotonic; 0: not yet */
    int64_t next_poll_us;
} Driver;

static unsigned qmp_ms(const Driver *self)
{
    return self->migration->config->timeouts.qmp_ms;
}

static GCancellable *cancellable(const Driver *self)
{
    return self->migration->cancellable;
}

static bool explain(Driver *self, GError **error)
{
    g_prefix_error(error, "vm %s: ", self->vm->name);
    return false;
}

/* ---- 1: inspect ------------------------------------------------------------------------------ */

static void post_qmp_event(const char *name, JsonObject *data,
                           int64_t timestamp_us, gpointer user_data)
{
    Message *message = g_new0(Message, 1);

    (void)data;     /* only which event it was matters here */
    (void)timestamp_us;
    message->kind = MESSAGE_QMP;
    message->name = g_strdup(name);
    message->received_us = g_get_monotonic_time();
    migration_post(user_data, message);
}

static bool check_uuid(Driver *self, GError **error)
{
    if (self->vm->uuid &&
        g_ascii_strcasecmp(self->vm->uuid, self->info->uuid) != 0) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "got uuid %s, allowed is %s ([vm %s] uuid)",
                    self->info->uuid, self->vm->uuid, self->vm->name);
        return false;
    }
    return true;
}

/* What is fixed for an architecture its streams do not say. */
static bool tell_page_size(Driver *self, GError **error)
{
    uint64_t page_size = qemu_info_get_page_size(self->info);

    return page_size == 0 ||
           exchange_set_page_size(self->migration->exchange, page_size, error);
}

/* Half of the guest is here, and QEMU waits for a way to the other half. */
static bool check_paused(Driver *self, GError **error)
{
    if (strcmp(self->info->migration, "postcopy-paused") != 0) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "source QEMU: got a migration with status '%s', allowed "
                    "is postcopy-paused", self->info->migration);
        return false;
    }
    return true;
}

static bool check_fit(Driver *self, GError **error)
{
    unsigned use = self->postcopy.multifd ? QEMU_USE_MULTIFD : 0;

    if (self->recovering) {
        return check_paused(self, error);
    }
    if (self->postcopy.allowed) {
        use |= QEMU_USE_POSTCOPY;
    }
    return qemu_check_source(self->info, use, error);
}

static bool inspect(Driver *self, GError **error)
{
    self->client = qmp_client_connect(self->vm->qmp->text, qmp_ms(self),
                                      cancellable(self), error);
    if (!self->client) {
        g_prefix_error(error, "QMP at %s: ", self->vm->qmp->text);
        return explain(self, error);
    }
    qmp_client_set_event_handler(self->client, post_qmp_event, self->migration,
                                 NULL);
    self->info = qemu_inspect(self->client, qmp_ms(self), cancellable(self),
                              error);
    if (self->info) {
        self->postcopy.multifd = !self->postcopy.allowed ||
            qemu_info_has_multifd_with_postcopy(self->info);
    }
    if (!self->info || !check_fit(self, error) || !check_uuid(self, error)) {
        return explain(self, error);
    }
    self->was_running = self->info->running;
    migration_set_uuid(self->migration, self->info->uuid);
    return true;
}

/* ---- 2, 3: the peer ---------------------------------------------------------------------------- */

/* What both ends together can have. */
static bool take_grant(Driver *self, const LinkGrant *grant, GError **error)
{
    self->legacy_zero_pages = !grant->knows_zero_pages;
    self->postcopy.multifd = self->postcopy.multifd && !grant->no_multifd;
    self->preempt = grant->preempt;
    if (self->postcopy.allowed && !grant->postcopy) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "peer %s: its daemon does not know postcopy",
                    self->migration->peer->name);
        return false;
    }
    return true;
}

static bool create_exchange(Driver *self, GError **error)
{
    ExchangeSetup exchange = {
        .memory = migration_queue_memory(self->migration),
        .main_ring = MIGRATION_MAIN_RING,
        .channels_in = self->postcopy.multifd && !self->recovering
                       ? self->channels : 0,
    };

    migration_create_exchange(self->migration, exchange);
    return tell_page_size(self, error) || explain(self, error);
}

static bool prepare_peer(Driver *self, GError **error)
{
    JsonObject *arguments = json_object_new();
    LinkGrant grant;

    json_object_set_string_member(arguments, "kind",
                                  self->recovering ? "recover" : "managed");
    json_object_set_boolean_member(arguments, "postcopy",
                                   self->postcopy.allowed);
    json_object_set_string_member(arguments, "vm", self->as);
    json_object_set_object_member(arguments, "info",
                                  qemu_info_to_json(self->info));
    json_object_set_string_member(arguments, "handover",
                                  self->handover == HANDOVER_SAFE ? "safe"
                                                                  : "fast");
    if (self->destination_channels > 0) {
        json_object_set_int_member(arguments, "destination-channels",
                                   self->destination_channels);
    }
    if (!migration_link_prepare(self->migration, self->lanes, arguments,
                                &grant, error) ||
        !take_grant(self, &grant, error) || !create_exchange(self, error)) {
        return false;
    }
    return migration_link_open(self->migration, self->lanes, &grant, error);
}

/* ---- 4: our own side ------------------------------------------------------------------------------ */

/* Only the QEMU whose QMP we hold may connect, as far as the kernel can say. */
static bool check_sender(Driver *self, const Stream *stream, GError **error)
{
    QmpPeer monitor, sender;

    if (!qmp_client_get_peer_credentials(self->client, &monitor) ||
        !qmp_peer_get_credentials(stream_get_fd(stream), &sender) ||
        monitor.uid == sender.uid) {
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                "got a connection of user %u, allowed is the QEMU's, %u",
                sender.uid, monitor.uid);
    return false;
}

static bool take_arrival(Arrival *arrival, void *data, GError **error)
{
    Driver *self = data;

    return check_sender(self, arrival->stream, error) &&
           migration_take_arrival(self->migration, arrival, error);
}

static void refuse_connection(const GError *error, void *data)
{
    Driver *self = data;

    migration_refuse_connection(self->migration, error);
}

static bool may_be_preempt(void *data)
{
    Driver *self = data;

    return migration_may_be_preempt(self->migration);
}

static bool listen_for_source(Driver *self, GError **error)
{
    Migration *migration = self->migration;
    g_autofree char *name = g_strdup_printf("vm %s", self->vm->name);
    g_autofree char *text = NULL;
    g_autoptr(Address) address = NULL;
    ListenerSetup setup = {
        .name = name,
        .handshake_ms = migration->config->timeouts.handshake_ms,
        .first_bytes_ms = migration->config->timeouts.first_bytes_ms,
        .handler = take_arrival,
        .refused = refuse_connection,
        .may_be_preempt = may_be_preempt,
        .data = self,
    };
    int fd;

    self->socket_path = g_strdup_printf("%s/%.12s-in.sock",
                                        migration->config->runtime_directory,
                                        migration->id);
    text = g_strdup_printf("unix:%s", self->socket_path);
    address = address_parse(text, error);
    fd = address ? address_listen(address, BACKLOG, 0660, error) : -1;
    if (fd < 0) {
        return false;
    }
    self->listener = listener_new(fd, &setup);
    migration_set_ingress(migration, ingress_qemu_new(migration->exchange,
                                                      self->listener));
    return true;
}

static bool set_up_source(Driver *self, GError **error)
{
    QemuWanted wanted = {
        .multifd = self->postcopy.multifd,
        .channels = self->channels,
        .postcopy = self->postcopy.allowed,
        .preempt = self->preempt,
        .max_bandwidth = QEMU_BANDWIDTH_UNLIMITED,
        .downtime_limit_ms = self->downtime_limit_ms,
        .legacy_zero_pages = self->legacy_zero_pages,
        .auto_converge = self->convergence.policy == CONVERGENCE_THROTTLE,
        /* What we take in looks sent to QEMU: tell it what really leaves. */
        .switchover_bandwidth =
            migration_get_switchover_rate_limit(self->migration),
    };

    self->setup = qemu_prepare(self->client, self->info, &wanted, qmp_ms(self),
                               cancellable(self), error);
    return self->setup != NULL || explain(self, error);
}

static bool start_migrate(Driver *self, GError **error)
{
    g_autofree char *uri = g_strdup_printf("unix:%s", self->socket_path);

    self->migrate_given = true;
    if (self->recovering) {
        return qemu_migrate_resume(self->client, uri, qmp_ms(self),
                                   cancellable(self), error) ||
               explain(self, error);
    }
    migration_set_takes_postcopy(self->migration, self->postcopy.allowed);
    return qemu_migrate(self->client, uri, qmp_ms(self), cancellable(self),
                        error) || explain(self, error);
}

static bool begin(Driver *self, GError **error)
{
    return inspect(self, error) && prepare_peer(self, error) &&
           listen_for_source(self, error) &&
           (self->recovering || set_up_source(self, error)) &&
           migration_link_call(self->migration, "open", NULL, cancellable(self),
                               error) &&
           start_migrate(self, error);
}

/* ---- 5: follow --------------------------------------------------------------------------------------- */

/* Stopped for the switchover, or paused by somebody: the run state tells. */
static void note_stop(Driver *self, int64_t when_us)
{
    g_autofree char *status = NULL;
    bool running;

    if (qemu_query_status(self->client, &running, &status, qmp_ms(self), NULL,
                          NULL) && strcmp(status, "paused") == 0) {
        self->was_running = false;
        return;
    }
    self->stopped_us = when_us;
    traffic_touch_at(self->migration->traffic, TRAFFIC_STOPPED, when_us);
    migration_set_state(self->migration, MIGRATION_SWITCHOVER);
}

static void note_qmp_event(Driver *self, const char *name, int64_t when_us)
{
    if (g_strcmp0(name, "STOP") == 0) {
        note_stop(self, when_us);
    } else if (g_strcmp0(name, "MIGRATION") == 0) {
        self->next_poll_us = 0;
    } else if (g_strcmp0(name, "RESUME") == 0) {
        self->stopped_us = 0;
        self->was_running = true;
    } else if (!name) {
        exchange_fail(self->migration->exchange, g_error_new(
            MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
            "vm %s: the source QEMU closed its QMP connection",
            self->vm->name));
    }
}

/* A guest that an operator pauses meanwhile arrives paused, and stays so. */
static void note_run_state(Driver *self, const char *migrate_status)
{
    g_autofree char *status = NULL;
    bool running;

    if (strcmp(migrate_status, "active") == 0 && self->stopped_us == 0 &&
        qemu_query_status(self->client, &running, &status, qmp_ms(self), NULL,
                          NULL) &&
        (running || strcmp(status, "paused") == 0)) {
        self->was_running = running;
    }
}

static void fail_by_status(Driver *self, const QemuMigrateStatus *status)
{
    exchange_fail(self->migration->exchange, g_error_new(
        MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
        "vm %s: the source QEMU says %s%s%s", self->vm->name, status->status,
        status->error_desc ? ": " : "",
        status->error_desc ? status->error_desc : ""));
}

/* The last that QEMU said, also kept for the views; NULL when it does not answer. */
static const QemuMigrateStatus *poll_status(Driver *self)
{
    QemuMigrateStatus *status = qemu_query_migrate(self->client, qmp_ms(self),
                                                   NULL, NULL);

    self->next_poll_us = g_get_monotonic_time() + POLL_US;
    if (status) {
        migration_set_qemu_status(self->migration, status);
    }
    return status;
}

static void measure_downtime(Driver *self)
{
    int64_t now_us = g_get_monotonic_time();
    int64_t half_rtt_us = link_main_get_rtt_us(self->migration->link) / 2;

    if (self->stopped_us > 0) {
        migration_set_downtime(self->migration,
                               (now_us - half_rtt_us - self->stopped_us) / 1000);
    }
}

/*
 * The source never runs the guest again: let it run at the destination.  Its other
 * half follows.  Who recovers says whether it ran.
 */
static void let_run(Driver *self)
{
    JsonObject *arguments = json_object_new();
    bool start = self->recovering ? self->recover_start : self->was_running;
    GError *error = NULL;

    json_object_set_boolean_member(arguments, "start", start);
    json_object_set_boolean_member(arguments, "postcopy", TRUE);
    if (!migration_link_call(self->migration, "resume", arguments, NULL,
                             &error)) {
        exchange_fail(self->migration->exchange, error);
    } else if (start && !self->recovering) {
        measure_downtime(self);
    }
}

/* A resumed migration is paused until QEMU has found its feet again. */
static bool is_ended(const Driver *self, const char *status)
{
    return strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0 ||
           (!self->recovering && strcmp(status, "postcopy-paused") == 0);
}

/* Asked of QEMU, which knows whether it is too late; what it does then shows. */
static void cancel_source(Driver *self)
{
    g_autoptr(GError) error = NULL;

    migration_set_state(self->migration, MIGRATION_CANCELLING);
    self->cancelled_us = g_get_monotonic_time();
    if (!qemu_migrate_cancel(self->client, qmp_ms(self), NULL, &error)) {
        exchange_fail(self->migration->exchange, g_error_copy(error));
    }
}

/* While it could still be otherwise. */
static void judge_convergence(Driver *self, const QemuMigrateStatus *status)
{
    if (strcmp(status->status, "active") != 0 || self->stopped_us > 0 ||
        self->cancelled_us > 0 || self->postcopy.given ||
        !managed_convergence_step(&self->convergence, self->migration,
                                  status)) {
        return;
    }
    if (self->convergence.policy == CONVERGENCE_CANCEL) {
        self->cancel_reason = managed_convergence_explain(&self->convergence);
        cancel_source(self);
    } else if (self->convergence.policy == CONVERGENCE_POSTCOPY) {
        self->postcopy.wanted = true;
    }
}

static void poll_source(Driver *self)
{
    const QemuMigrateStatus *status = poll_status(self);

    if (!status) {
        return;
    }
    note_run_state(self, status->status);
    judge_convergence(self, status);
    if (is_ended(self, status->status)) {
        fail_by_status(self, status);
    } else if (managed_postcopy_step(&self->postcopy, self->migration,
                                     self->client, status, qmp_ms(self))) {
        let_run(self);
    }
}

static Flow handle_message(Driver *self, const Message *message, GError **error)
{
    switch (message->kind) {
    case MESSAGE_CANCEL:
        cancel_source(self);
        return migration_judge_flow(self->migration, error);
    case MESSAGE_START_POSTCOPY:
        self->postcopy.wanted = true;
        self->next_poll_us = 0;
        break;
    case MESSAGE_EXCHANGE:
        /* The guest stands still until its half may run. */
        if (message->event == EXCHANGE_EVENT_POSTCOPY) {
            self->next_poll_us = 0;
        }
        break;
    case MESSAGE_QMP:
        note_qmp_event(self, message->name, message->received_us);
        break;
    default:
        break;
    }
    return migration_follow(self->migration, message, error);
}

static void check_cancel(Driver *self)
{
    if (self->cancelled_us > 0 &&
        g_get_monotonic_time() - self->cancelled_us > CANCEL_US) {
        exchange_fail(self->migration->exchange, g_error_new(
            MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED,
            "vm %s: the source QEMU did not end its migration",
            self->vm->name));
    }
}

static bool follow(Driver *self, GError **error)
{
    Flow flow = FLOW_RUNNING;

    migration_begin_flow(self->migration);
    while (flow == FLOW_RUNNING) {
        g_autoptr(Message) message = migration_wait(self->migration, TICK_MS);

        flow = handle_message(self, message, error);
        if (flow == FLOW_RUNNING &&
            g_get_monotonic_time() >= self->next_poll_us) {
            poll_source(self);
            check_cancel(self);
        }
    }
    return flow == FLOW_TAKEN_OVER;
}

/* ---- 6, 7: hand over ------------------------------------------------------------------------------- */

/* QEMU says completed a moment before it leaves the guest for good. */
static bool wait_postmigrate(Driver *self, int64_t deadline_us)
{
    g_autofree char *status = NULL;
    bool running, asked;

    do {
        g_autoptr(GError) error = NULL;

        g_clear_pointer(&status, g_free);
        asked = qemu_query_status(self->client, &running, &status,
                                  qmp_ms(self), NULL, &error);
        if (asked && strcmp(status, "postmigrate") == 0) {
            return true;
        }
        if (g_error_matches(error, QMP_ERROR, QMP_ERROR_DISCONNECTED)) {
            return false;
        }
        g_usleep(asked ? 1000 : 10 * 1000);
    } while (g_get_monotonic_time() < deadline_us);
    return false;
}

/* Until the source QEMU has ended its migration, one way or the other. */
static bool wait_source_settled(Driver *self, GError **error)
{
    int64_t deadline_us = g_get_monotonic_time() + SETTLE_MS * 1000LL;
    const QemuMigrateStatus *status = poll_status(self);
    bool connected = true;

    while (connected && g_get_monotonic_time() < deadline_us &&
           (!status || qemu_migrate_status_is_active(status->status))) {
        g_autoptr(Message) message = migration_wait(self->migration, 10);

        connected = message->kind != MESSAGE_QMP || message->name;
        status = poll_status(self);
    }
    if (status && strcmp(status->status, "completed") == 0 &&
        wait_postmigrate(self, deadline_us)) {
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                "the destination has the whole guest, but the source QEMU says "
                "%s. The guest at the destination is left paused: `quit` it "
                "there if QMP `query-status` at the source says running; start "
                "it there with `cont` only if the source says postmigrate or is "
                "gone for good", status ? status->status
                                        : "nothing over QMP any more");
    return false;
}

static bool hand_over(Driver *self, GError **error)
{
    JsonObject *arguments = json_object_new();

    migration_set_state(self->migration, MIGRATION_HANDOVER);
    if (!wait_source_settled(self, error)) {
        json_object_unref(arguments);
        return false;
    }
    if (self->postcopy.committed) {
        json_object_unref(arguments);
        return true;        /* it runs there already */
    }
    json_object_set_boolean_member(arguments, "start", self->was_running);
    traffic_mark(self->migration->traffic, TRAFFIC_RESUME);
    if (!migration_link_call(self->migration, "resume", arguments, NULL,
                             error)) {
        g_prefix_error(error, "the guest has left the source (postmigrate) and "
                       "is complete at the destination; ask the QEMU there with "
                       "QMP `query-status` and, if it is paused, start it there "
                       "with `cont`, never at the source: ");
        return false;
    }
    traffic_mark(self->migration->traffic, TRAFFIC_RESUMED);
    if (self->was_running) {
        measure_downtime(self);
    }
    return true;
}

/* ---- 8: put back ------------------------------------------------------------------------------------- */

static void put_back(Driver *self)
{
    g_autofree char *warning = NULL;

    if (self->setup) {
        warning = qemu_restore(self->client, self->setup, qmp_ms(self),
                               RESTORE_MS, NULL);
        g_clear_pointer(&self->setup, qemu_setup_free);
    }
    if (warning) {
        migration_add_warning(self->migration, "source QEMU: %s", warning);
    }
}

static void finish(Driver *self)
{
    g_autoptr(GError) error = NULL;

    if (!migration_link_call(self->migration, "finish", NULL, NULL, &error)) {
        migration_add_warning(self->migration, "%s", error->message);
    }
    put_back(self);
}

/* Where the guest is, after a failure before the destination took over. */
static void report_source(Driver *self, GError **error)
{
    g_autofree char *status = NULL;
    char *text;
    bool running;

    if (!self->client ||
        !qemu_query_status(self->client, &running, &status, qmp_ms(self), NULL,
                           NULL)) {
        return;
    }
    text = g_strdup_printf("%s (run state of the source QEMU: %s)",
                           (*error)->message, status);
    g_free((*error)->message);
    (*error)->message = text;
}

static void give_up(Driver *self, GError **error)
{
    Migration *migration = self->migration;
    const QemuMigrateStatus *status = NULL;
    int64_t deadline_us = g_get_monotonic_time() + SETTLE_MS * 1000LL;

    if (migration_is_cancelled(migration)) {
        g_clear_error(error);
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED,
                    "cancelled by request");
    } else if (self->cancel_reason && !migration->taken_over) {
        g_clear_error(error);
        g_set_error_literal(error, MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED,
                            self->cancel_reason);
    }
    migration_explain_postcopy(migration, error);
    migration_link_abort(migration, *error);
    migration_tear_down(migration);
    if (self->client && self->migrate_given) {
        do {
            g_usleep(status ? 10 * 1000 : 0);
            status = poll_status(self);
        } while (status && qemu_migrate_status_is_active(status->status) &&
                 strcmp(status->status, "postcopy-paused") != 0 &&
                 g_get_monotonic_time() < deadline_us);
    }
    if (status && strcmp(status->status, "postcopy-paused") == 0) {
        return;     /* it goes on with what is set, once it is recovered */
    }
    put_back(self);
    if (!migration->taken_over) {
        report_source(self, error);
    }
}

/* ---- the body ------------------------------------------------------------------------------------------ */

static bool run(Migration *migration, void *data, GError **error)
{
    Driver *self = data;
    bool ok;

    self->migration = migration;
    migration->safe_handover = self->handover == HANDOVER_SAFE;
    ok = begin(self, error) && follow(self, error) && hand_over(self, error);
    if (ok) {
        migration_wait_source_closed(migration);
        poll_status(self);      /* its downtime comes after `completed` */
        finish(self);
        migration_tear_down(migration);
    } else {
        give_up(self, error);
    }
    g_clear_pointer(&self->listener, listener_free);
    return ok;
}

static void free_driver(void *data)
{
    Driver *self = data;

    listener_free(self->listener);
    qmp_client_free(self->client);
    qemu_info_free(self->info);
    qemu_setup_free(self->setup);
    if (self->socket_path) {
        unlink(self->socket_path);
    }
    g_free(self->socket_path);
    g_free(self->cancel_reason);
    g_free(self->as);
    g_free(self);
}

static unsigned first_of(unsigned a, unsigned b, unsigned c)
{
    return a ? a : b ? b : c;
}

Migration *migration_managed_start(Daemon *daemon, const ManagedSetup *managed,
                                   GError **error)
{
    Driver *driver = g_new0(Driver, 1);
    MigrationSetup setup = {
        .daemon = daemon,
        .kind = MIGRATION_MANAGED,
        .role = MIGRATION_SOURCE,
        .name = managed->vm->name,
        .peer = managed->peer,
        .rate = managed->rate,
        .weight = managed->weight ? managed->weight : managed->vm->weight,
        .body = run,
        .data = driver,
        .destroy = free_driver,
    };
    g_autoptr(Migration) self = NULL;

    driver->vm = managed->vm;
    driver->as = g_strdup(managed->as ? managed->as : managed->vm->name);
    driver->channels = first_of(managed->channels, managed->vm->channels,
                                DEFAULT_CHANNELS);
    driver->lanes = first_of(managed->lanes, managed->peer->lanes, 1);
    driver->destination_channels = managed->destination_channels;
    driver->downtime_limit_ms = managed->downtime_limit_ms;
    driver->handover = managed->handover;
    managed_convergence_init(&driver->convergence, managed->convergence,
                             managed->vm->convergence_patience_ms);
    driver->postcopy.allowed = managed->postcopy || managed->postcopy_auto ||
                               managed->convergence == CONVERGENCE_POSTCOPY;
    driver->postcopy.automatic = managed->postcopy_auto;
    driver->recovering = managed->recover;
    driver->recover_start = managed->start;
    self = migration_new(&setup);
    if (!migration_start(self, error)) {
        free_driver(driver);
        return NULL;
    }
    return g_steal_pointer(&self);
}
