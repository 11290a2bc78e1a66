/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-managed.c - the driver of a managed migration, source side
 *
 * Reads from top to bottom like the table in docs/architecture.md: inspect,
 * prepare here and there, migrate; then managed-follow.c, and managed-end.c: hand
 * over, put back.  What it set it puts back on every way out.
 */
#include "daemon/migration-managed.h"

#include <unistd.h>

#include "daemon/ingress-qemu.h"
#include "daemon/managed-driver.h"
#include "daemon/migration-link.h"
#include "daemon/registry.h"
#include "qmp/peer.h"

enum {
    DEFAULT_CHANNELS = 4,
    BACKLOG = 512,
};

static GCancellable *cancellable(const ManagedDriver *self)
{
    return self->migration->cancellable;
}

static bool explain(ManagedDriver *self, GError **error)
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

static bool check_uuid(ManagedDriver *self, GError **error)
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
static bool tell_page_size(ManagedDriver *self, GError **error)
{
    uint64_t page_size = qemu_info_get_page_size(self->info);

    return page_size == 0 ||
           exchange_set_page_size(self->migration->exchange, page_size, error);
}

/* Half of the guest is here, and QEMU waits for a way to the other half. */
static bool check_paused(ManagedDriver *self, GError **error)
{
    if (strcmp(self->info->migration, "postcopy-paused") != 0) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "source QEMU: got a migration with status '%s', allowed "
                    "is postcopy-paused", self->info->migration);
        return false;
    }
    return true;
}

static bool check_fit(ManagedDriver *self, GError **error)
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

static bool inspect(ManagedDriver *self, GError **error)
{
    self->client = qmp_client_connect(self->vm->qmp->text, managed_qmp_ms(self),
                                      cancellable(self), error);
    if (!self->client) {
        g_prefix_error(error, "QMP at %s: ", self->vm->qmp->text);
        return explain(self, error);
    }
    qmp_client_set_event_handler(self->client, post_qmp_event, self->migration,
                                 NULL);
    self->info = qemu_inspect(self->client, managed_qmp_ms(self),
                              cancellable(self), error);
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
static bool take_grant(ManagedDriver *self, const LinkGrant *grant,
                       GError **error)
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

static bool create_exchange(ManagedDriver *self, GError **error)
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

static bool prepare_peer(ManagedDriver *self, GError **error)
{
    JsonObject *arguments = json_object_new();

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
    return migration_link_prepare(self->migration, self->lanes, arguments,
                                  &self->grant, error) &&
           take_grant(self, &self->grant, error) &&
           create_exchange(self, error);
}

/* ---- 4: our own side ------------------------------------------------------------------------------ */

/* Only the QEMU whose QMP we hold may connect, as far as the kernel can say. */
static bool check_sender(ManagedDriver *self, const Stream *stream,
                         GError **error)
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
    ManagedDriver *self = data;

    return check_sender(self, arrival->stream, error) &&
           migration_take_arrival(self->migration, arrival, error);
}

static void refuse_connection(const GError *error, void *data)
{
    ManagedDriver *self = data;

    migration_refuse_connection(self->migration, error);
}

static bool may_be_preempt(void *data)
{
    ManagedDriver *self = data;

    return migration_may_be_preempt(self->migration);
}

static bool listen_for_source(ManagedDriver *self, GError **error)
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

static bool set_up_source(ManagedDriver *self, GError **error)
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

    self->setup = qemu_prepare(self->client, self->info, &wanted,
                               managed_qmp_ms(self), cancellable(self), error);
    return self->setup != NULL || explain(self, error);
}

static bool start_migrate(ManagedDriver *self, GError **error)
{
    g_autofree char *uri = g_strdup_printf("unix:%s", self->socket_path);

    self->migrate_given = true;
    if (self->recovering) {
        return qemu_migrate_resume(self->client, uri, managed_qmp_ms(self),
                                   cancellable(self), error) ||
               explain(self, error);
    }
    migration_set_takes_postcopy(self->migration, self->postcopy.allowed);
    return qemu_migrate(self->client, uri, managed_qmp_ms(self),
                        cancellable(self), error) || explain(self, error);
}

/* Of a migration that broke in postcopy: what it had set is ours to put back. */
static void take_kept(ManagedDriver *self)
{
    PausedQemu kept = paused_qemus_take(
        registry_get_paused(self->migration->daemon->registry), self->vm->name,
        MIGRATION_SOURCE);

    if (self->recovering) {
        self->setup = kept.setup;
    } else {
        qemu_setup_free(kept.setup);
    }
}

/* The bulk lanes connect from prepare on; what the source sends first waits for them. */
static bool begin(ManagedDriver *self, GError **error)
{
    take_kept(self);
    return inspect(self, error) && prepare_peer(self, error) &&
           listen_for_source(self, error) &&
           (self->recovering || set_up_source(self, error)) &&
           migration_link_call(self->migration, "open", NULL, cancellable(self),
                               error) &&
           start_migrate(self, error) &&
           migration_link_open(self->migration, self->lanes, &self->grant,
                               error);
}

/* ---- the body ------------------------------------------------------------------------------------------ */

static bool run(Migration *migration, void *data, GError **error)
{
    ManagedDriver *self = data;
    bool ok;

    self->migration = migration;
    migration->safe_handover = self->handover == HANDOVER_SAFE;
    ok = begin(self, error) && managed_follow(self, error) &&
         managed_end_hand_over(self, error);
    if (ok) {
        migration_wait_source_closed(migration);
        managed_follow_poll(self);  /* its downtime comes after `completed` */
        managed_end_finish(self);
        migration_tear_down(migration);
    } else {
        managed_end_give_up(self, error);
    }
    g_clear_pointer(&self->listener, listener_free);
    return ok;
}

static void free_driver(void *data)
{
    ManagedDriver *self = data;

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
    ManagedDriver *driver = g_new0(ManagedDriver, 1);
    MigrationSetup setup = {
        .daemon = daemon,
        .config = managed->config,
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
