/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/control.h"

#include <stdio.h>
#include <unistd.h>

#include "daemon/control-recording.h"
#include "daemon/control-service.h"
#include "daemon/migration-managed.h"
#include "daemon/registry.h"
#include "daemon/service.h"
#include "daemon/tunnel.h"
#include "daemon/units.h"
#include "wire/link-frame.h"
#include "qmp/error.h"
#include "qmp/message.h"
#include "qmp/server.h"

struct Control {
    ControlSetup setup;
    QmpServer *server;
    int64_t start_us;
    unsigned tick;              /* GSource id */
    unsigned shown;             /* migrations, in the service's status */
};

/* json_node_init_object() would take a reference of its own. */
static JsonNode *take_object(JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, object);
    return node;
}

static JsonNode *take_array(JsonArray *array)
{
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);

    json_node_take_array(node, array);
    return node;
}

/* ---- migrate ------------------------------------------------------------------------ */

static bool get_count(JsonObject *args, const char *name, unsigned max,
                      unsigned *ret, GError **error)
{
    int64_t value;

    *ret = 0;
    if (!qmp_message_get_int(args, name, &value)) {
        return true;
    }
    if (value < 1 || value > max) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "argument '%s': got %" G_GINT64_FORMAT
                    ", expected 1 to %u", name, value, max);
        return false;
    }
    *ret = value;
    return true;
}

static bool get_rate(JsonObject *args, uint64_t *ret, GError **error)
{
    const char *text = qmp_message_get_string(args, "rate");

    *ret = 0;
    if (text && !units_parse_rate(text, ret, error)) {
        g_prefix_error(error, "argument 'rate': ");
        return false;
    }
    return true;
}

static bool get_handover(Control *self, JsonObject *args, Handover *ret,
                         GError **error)
{
    const char *text = qmp_message_get_string(args, "handover");

    *ret = self->setup.daemon->config->handover;
    if (!text) {
        return true;
    }
    if (strcmp(text, "safe") != 0 && strcmp(text, "fast") != 0) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "argument 'handover': got '%s', expected 'safe' or 'fast'",
                    text);
        return false;
    }
    *ret = strcmp(text, "safe") == 0 ? HANDOVER_SAFE : HANDOVER_FAST;
    return true;
}

static bool get_targets(Control *self, JsonObject *args, ManagedSetup *ret,
                        GError **error)
{
    const Config *config = self->setup.daemon->config;
    const char *vm = qmp_message_get_string(args, "vm");
    const char *peer = qmp_message_get_string(args, "peer");

    ret->vm = config_find_vm(config, vm);
    ret->peer = config_find_peer(config, peer);
    ret->as = qmp_message_get_string(args, "as");
    if (!ret->vm) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_DEVICE_NOT_FOUND,
                    "argument 'vm': there is no [vm %s] in the configuration",
                    vm);
        return false;
    }
    if (!ret->peer || !ret->peer->address) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_DEVICE_NOT_FOUND,
                    "argument 'peer': there is no [peer %s] with an address in "
                    "the configuration", peer);
        return false;
    }
    return true;
}

static bool get_convergence(JsonObject *args, ManagedSetup *setup,
                            GError **error)
{
    const char *text = qmp_message_get_string(args, "convergence");

    setup->convergence = setup->vm->convergence;
    if (text && !convergence_policy_parse(text, &setup->convergence)) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "argument 'convergence': got '%s', expected "
                    CONVERGENCE_POLICIES, text);
        return false;
    }
    return true;
}

static bool get_postcopy(JsonObject *args, ManagedSetup *setup, GError **error)
{
    qmp_message_get_bool(args, "postcopy", &setup->postcopy);
    qmp_message_get_bool(args, "postcopy-auto", &setup->postcopy_auto);
    if ((setup->postcopy || setup->postcopy_auto ||
         setup->convergence == CONVERGENCE_POSTCOPY) &&
        setup->handover != HANDOVER_SAFE) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "argument 'handover': got 'fast' with postcopy ('postcopy', "
                    "'postcopy-auto' or convergence 'postcopy'), expected "
                    "'safe'");
        return false;
    }
    return true;
}

static JsonNode *start_managed(Control *self, const ManagedSetup *setup,
                               GError **error)
{
    g_autoptr(Migration) migration =
        migration_managed_start(self->setup.daemon, setup, error);
    JsonObject *ret;

    if (!migration) {
        return NULL;
    }
    ret = json_object_new();
    json_object_set_string_member(ret, "id", migration_get_id(migration));
    return take_object(ret);
}

static JsonNode *do_migrate(QmpServerSession *session, JsonObject *args,
                            gpointer data, GError **error)
{
    Control *self = data;
    ManagedSetup setup = { 0 };
    unsigned downtime_limit_ms;

    (void)session;
    if (!get_targets(self, args, &setup, error) ||
        !get_count(args, "channels", MULTIFD_CHANNELS_MAX, &setup.channels,
                   error) ||
        !get_count(args, "lanes", LINK_LANES_MAX, &setup.lanes, error) ||
        !get_count(args, "destination-channels", MULTIFD_CHANNELS_MAX,
                   &setup.destination_channels, error) ||
        !get_count(args, "downtime-limit", 2000 * 1000, &downtime_limit_ms,
                   error) ||
        !get_rate(args, &setup.rate, error) ||
        !get_count(args, "weight", CONFIG_WEIGHT_MAX, &setup.weight, error) ||
        !get_handover(self, args, &setup.handover, error) ||
        !get_convergence(args, &setup, error) ||
        !get_postcopy(args, &setup, error)) {
        return NULL;
    }
    setup.downtime_limit_ms = downtime_limit_ms;
    return start_managed(self, &setup, error);
}

static JsonNode *do_migrate_recover(QmpServerSession *session, JsonObject *args,
                                    gpointer data, GError **error)
{
    Control *self = data;
    ManagedSetup setup = { .recover = true, .handover = HANDOVER_SAFE };

    (void)session;
    if (!get_targets(self, args, &setup, error)) {
        return NULL;
    }
    qmp_message_get_bool(args, "start", &setup.start);
    return start_managed(self, &setup, error);
}

static Migration *find_migration(Control *self, const char *id, GError **error)
{
    Migration *migration = registry_find(self->setup.daemon->registry, id);

    if (!migration) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_DEVICE_NOT_FOUND,
                    "there is no migration '%s'", id);
    }
    return migration;
}

static JsonNode *do_migrate_cancel(QmpServerSession *session, JsonObject *args,
                                   gpointer data, GError **error)
{
    g_autoptr(Migration) migration =
        find_migration(data, qmp_message_get_string(args, "id"), error);

    (void)session;
    if (migration && !migration_cancel(migration, error)) {
        return NULL;
    }
    return NULL;
}

static JsonNode *do_start_postcopy(QmpServerSession *session, JsonObject *args,
                                   gpointer data, GError **error)
{
    g_autoptr(Migration) migration =
        find_migration(data, qmp_message_get_string(args, "id"), error);

    (void)session;
    if (migration && !migration_start_postcopy(migration, error)) {
        return NULL;
    }
    return NULL;
}

/* ---- set-rate-limit --------------------------------------------------------------- */

typedef struct {
    bool has_rate;
    uint64_t rate;              /* bytes/s; 0: no limit */
    unsigned weight;            /* 0: as it is */
} Pace;

static Limiter *find_peer_limiter(Control *self, const char *name,
                                  GError **error)
{
    Limiter *limiter = g_hash_table_lookup(self->setup.daemon->peer_limiters,
                                           name);

    if (!limiter) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_DEVICE_NOT_FOUND,
                    "argument 'peer': there is no [peer %s] in the "
                    "configuration", name);
    }
    return limiter;
}

/* What is to change; false: the arguments contradict each other. */
static bool get_pace(JsonObject *args, Pace *ret, GError **error)
{
    const char *peer = qmp_message_get_string(args, "peer");
    const char *id = qmp_message_get_string(args, "migration");

    ret->has_rate = json_object_has_member(args, "rate");
    if (!get_rate(args, &ret->rate, error) ||
        !get_count(args, "weight", CONFIG_WEIGHT_MAX, &ret->weight, error)) {
        return false;
    }
    if (peer && id) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "got 'peer' and 'migration', expected at most one of them");
        return false;
    }
    if (!ret->has_rate && !ret->weight) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "got neither 'rate' nor 'weight', expected at least one");
        return false;
    }
    if (ret->weight && !peer && !id) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "argument 'weight': expected 'peer' or 'migration' with it");
        return false;
    }
    return true;
}

static void pace_migration(Migration *migration, const Pace *pace,
                           GError **error)
{
    if ((!pace->has_rate ||
         migration_set_rate(migration, pace->rate, error)) && pace->weight) {
        migration_set_weight(migration, pace->weight, error);
    }
}

static void pace_limiter(Limiter *limiter, const Pace *pace)
{
    if (pace->has_rate) {
        limiter_set_rate(limiter, pace->rate);
    }
    if (pace->weight) {
        limiter_set_weight(limiter, pace->weight);
    }
}

static JsonNode *do_set_rate_limit(QmpServerSession *session, JsonObject *args,
                                   gpointer data, GError **error)
{
    Control *self = data;
    const char *peer = qmp_message_get_string(args, "peer");
    const char *id = qmp_message_get_string(args, "migration");
    g_autoptr(Migration) migration = NULL;
    Limiter *limiter = self->setup.daemon->limiter;
    Pace pace;

    (void)session;
    if (!get_pace(args, &pace, error)) {
        return NULL;
    }
    if (id) {
        migration = find_migration(self, id, error);
        if (migration) {
            pace_migration(migration, &pace, error);
        }
        return NULL;
    }
    limiter = peer ? find_peer_limiter(self, peer, error) : limiter;
    if (limiter) {
        pace_limiter(limiter, &pace);
    }
    return NULL;
}

/* ---- queries -------------------------------------------------------------------------- */

static JsonObject *tunnel_to_json(const Tunnel *tunnel)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "name", tunnel_get_name(tunnel));
    json_object_set_string_member(object, "address",
                                  tunnel_get_address(tunnel)->text);
    return object;
}

static void add_listeners(Control *self, JsonObject *ret)
{
    JsonArray *tunnels = json_array_new();
    JsonObject *link;

    if (self->setup.link_address) {
        link = json_object_new();
        json_object_set_string_member(link, "address",
                                      self->setup.link_address);
        json_object_set_object_member(ret, "link", link);
    }
    for (unsigned i = 0; i < self->setup.tunnels->len; i++) {
        json_array_add_object_element(tunnels, tunnel_to_json(
            g_ptr_array_index(self->setup.tunnels, i)));
    }
    json_object_set_array_member(ret, "tunnels", tunnels);
}

static JsonNode *do_query_status(QmpServerSession *session, JsonObject *args,
                                 gpointer data, GError **error)
{
    Control *self = data;
    const Daemon *daemon = self->setup.daemon;
    JsonObject *ret = json_object_new();

    (void)session;
    (void)args;
    (void)error;
    json_object_set_string_member(ret, "name", daemon->config->name);
    json_object_set_boolean_member(ret, "running", TRUE);
    json_object_set_string_member(ret, "version", MULTIFERRY_VERSION);
    json_object_set_string_member(ret, "control",
                                  daemon->config->control->text);
    json_object_set_boolean_member(ret, "draining",
                                   drain_is_active(self->setup.drain));
    json_object_set_int_member(ret, "migrations",
                               registry_count_running(daemon->registry));
    json_object_set_int_member(ret, "uptime-ms",
                               (g_get_monotonic_time() - self->start_us) / 1000);
    json_object_set_int_member(ret, "rate-limit",
                               limiter_get_rate(daemon->limiter));
    add_listeners(self, ret);
    json_object_set_array_member(ret, "certificates",
                                 control_service_certificates(daemon));
    return take_object(ret);
}

static JsonNode *do_query_migrations(QmpServerSession *session,
                                     JsonObject *args, gpointer data,
                                     GError **error)
{
    Control *self = data;
    const char *id = qmp_message_get_string(args, "id");
    g_autoptr(GPtrArray) all = NULL;
    g_autoptr(Migration) one = NULL;
    JsonArray *ret;

    (void)session;
    if (id) {
        one = find_migration(self, id, error);
        if (!one) {
            return NULL;
        }
    }
    ret = json_array_new();
    all = registry_list(self->setup.daemon->registry);
    for (unsigned i = 0; i < all->len; i++) {
        Migration *migration = g_ptr_array_index(all, i);

        if (!one || one == migration) {
            json_array_add_object_element(ret, migration_to_json(migration));
        }
    }
    return take_array(ret);
}

static JsonNode *do_query_traffic(QmpServerSession *session, JsonObject *args,
                                  gpointer data, GError **error)
{
    g_autoptr(Migration) migration =
        find_migration(data, qmp_message_get_string(args, "id"), error);

    (void)session;
    return migration ? take_object(migration_traffic_to_json(migration)) : NULL;
}

static JsonObject *peer_to_json(Control *self, const ConfigPeer *peer)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "name", peer->name);
    if (peer->address) {
        json_object_set_string_member(object, "address", peer->address->text);
    }
    if (peer->certificate_name) {
        json_object_set_string_member(object, "certificate-name",
                                      peer->certificate_name);
    }
    if (peer->fingerprint) {
        json_object_set_string_member(object, "fingerprint",
                                      peer->fingerprint);
    }
    if (peer->psk_identity) {
        json_object_set_string_member(object, "psk-identity",
                                      peer->psk_identity);
    }
    json_object_set_int_member(object, "lanes", peer->lanes);
    json_object_set_int_member(object, "weight", peer->weight);
    json_object_set_int_member(object, "rate", limiter_get_rate(
        daemon_get_limiter(self->setup.daemon, peer)));
    json_object_set_int_member(object, "migrations", registry_count_of_peer(
        self->setup.daemon->registry, peer));
    peer_status_add_to_json(self->setup.daemon->peer_status, peer->name,
                            object);
    return object;
}

static JsonNode *do_query_peers(QmpServerSession *session, JsonObject *args,
                                gpointer data, GError **error)
{
    Control *self = data;
    GPtrArray *peers = self->setup.daemon->config->peers;
    JsonArray *ret = json_array_new();

    (void)session;
    (void)args;
    (void)error;
    for (unsigned i = 0; i < peers->len; i++) {
        json_array_add_object_element(ret, peer_to_json(
            self, g_ptr_array_index(peers, i)));
    }
    return take_array(ret);
}

static JsonNode *do_quit(QmpServerSession *session, JsonObject *args,
                         gpointer data, GError **error)
{
    Control *self = data;
    bool now = false;

    (void)session;
    (void)error;
    if (qmp_message_get_bool(args, "now", &now) && now) {
        drain_end_now(self->setup.drain);
    } else {
        drain_begin(self->setup.drain);
    }
    return NULL;
}

/* ---- tables --------------------------------------------------------------------------- */

static const QmpArg migrate_args[] = {
    { "vm", QMP_TYPE_STRING, false },
    { "peer", QMP_TYPE_STRING, false },
    { "as", QMP_TYPE_STRING, true },
    { "channels", QMP_TYPE_INT, true },
    { "lanes", QMP_TYPE_INT, true },
    { "destination-channels", QMP_TYPE_INT, true },
    { "rate", QMP_TYPE_STRING, true },
    { "handover", QMP_TYPE_STRING, true },
    { "downtime-limit", QMP_TYPE_INT, true },
    { "weight", QMP_TYPE_INT, true },
    { "postcopy", QMP_TYPE_BOOL, true },
    { "postcopy-auto", QMP_TYPE_BOOL, true },
    { "convergence", QMP_TYPE_STRING, true },
};
static const QmpArg recover_args[] = {
    { "vm", QMP_TYPE_STRING, false },
    { "peer", QMP_TYPE_STRING, false },
    { "as", QMP_TYPE_STRING, true },
    { "start", QMP_TYPE_BOOL, true },
};
static const QmpArg id_args[] = { { "id", QMP_TYPE_STRING, false } };
static const QmpArg maybe_id_args[] = { { "id", QMP_TYPE_STRING, true } };
static const QmpArg rate_args[] = {
    { "peer", QMP_TYPE_STRING, true },
    { "migration", QMP_TYPE_STRING, true },
    { "rate", QMP_TYPE_STRING, true },
    { "weight", QMP_TYPE_INT, true },
};
static const QmpArg quit_args[] = { { "now", QMP_TYPE_BOOL, true } };

#define ARGS(table) table, G_N_ELEMENTS(table)

static const QmpCommand commands[] = {
    { "migrate", do_migrate, ARGS(migrate_args), 0,
      "begin a managed migration of a VM to a peer" },
    { "migrate-cancel", do_migrate_cancel, ARGS(id_args), 0,
      "cancel a migration; the guest runs on at its source" },
    { "migrate-start-postcopy", do_start_postcopy, ARGS(id_args), 0,
      "run the guest at the destination now, and send the rest of it after" },
    { "migrate-recover", do_migrate_recover, ARGS(recover_args), 0,
      "go on with a VM that is postcopy-paused at both ends" },
    { "query-migrations", do_query_migrations, ARGS(maybe_id_args), 0,
      "running migrations and the last finished ones" },
    { "query-traffic", do_query_traffic, ARGS(id_args), 0,
      "what went by in a migration: RAM blocks, epochs, heat, moments" },
    { "query-peers", do_query_peers, NULL, 0, 0, "the configured peers" },
    { "query-status", do_query_status, NULL, 0, 0, "the daemon itself" },
    { "set-rate-limit", do_set_rate_limit, ARGS(rate_args), 0,
      "limit a migration, a peer, or the whole daemon, from now on; give one "
      "of the first two another weight" },
    { "quit", do_quit, ARGS(quit_args), 0,
      "take no new migration, and end when none runs any more" },
};

static const QmpArg migration_event[] = {
    { "id", QMP_TYPE_STRING, false },
    { "vm", QMP_TYPE_STRING, true },
    { "tunnel", QMP_TYPE_STRING, true },
    { "state", QMP_TYPE_STRING, false },
    { "error", QMP_TYPE_STRING, true },
};
static const QmpArg progress_event[] = {
    { "id", QMP_TYPE_STRING, false },
    { "state", QMP_TYPE_STRING, false },
    { "bytes-in", QMP_TYPE_INT, false },
    { "bytes-out", QMP_TYPE_INT, false },
    { "rate", QMP_TYPE_INT, false },
};
static const QmpArg rejected_event[] = {
    { "id", QMP_TYPE_STRING, false },
    { "channel", QMP_TYPE_INT, false },
    { "packet", QMP_TYPE_INT, false },
    { "message", QMP_TYPE_STRING, false },
};

static const QmpArg link_event[] = {
    { "id", QMP_TYPE_STRING, false },
    { "peer", QMP_TYPE_STRING, false },
    { "up", QMP_TYPE_BOOL, false },
    { "reason", QMP_TYPE_STRING, true },
    { "down-ms", QMP_TYPE_INT, true },
};

static const QmpArg convergence_event[] = {
    { "id", QMP_TYPE_STRING, false },
    { "vm", QMP_TYPE_STRING, false },
    { "converging", QMP_TYPE_BOOL, false },
    { "dirty-rate", QMP_TYPE_INT, false },
    { "rate", QMP_TYPE_INT, false },
};

static const QmpEvent events[] = {
    { "LINK", ARGS(link_event), 0,
      "the link of a migration broke, or is there again" },
    { "MIGRATION", ARGS(migration_event), 0, "a migration changed its state" },
    { "MIGRATION_CONVERGENCE", ARGS(convergence_event), 0,
      "a migration will not end as things are, or will again" },
    { "MIGRATION_PROGRESS", ARGS(progress_event), QMP_EVENT_DROPPABLE,
      "once a second for each running migration, as query-migrations" },
    { "PACKET_REJECTED", ARGS(rejected_event), 0,
      "a packet failed a check, and its migration with it" },
};

/* ---- life ------------------------------------------------------------------------------- */

static void broadcast(const char *event, JsonObject *data, void *sink_data)
{
    Control *self = sink_data;

    qmp_server_broadcast(self->server, event, data);
}

static gboolean tick(void *data)
{
    Control *self = data;

    unsigned running = registry_count_running(self->setup.daemon->registry);

    registry_tick(self->setup.daemon->registry);
    if (running != self->shown && !drain_is_active(self->setup.drain)) {
        self->shown = running;
        service_status("%u migrations running", running);
    }
    return G_SOURCE_CONTINUE;
}

static QmpServer *make_server(Control *self)
{
    unsigned major = 0, minor = 0, micro = 0;
    QmpServerInfo info = { .name = "multiferry", .package = "" };
    QmpServer *server;

    sscanf(MULTIFERRY_VERSION, "%u.%u.%u", &major, &minor, &micro);
    info.major = major;
    info.minor = minor;
    info.micro = micro;
    server = qmp_server_new(&info);
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        qmp_server_add_command(server, &commands[i], self);
    }
    qmp_server_set_access_check(server, access_check, self->setup.access);
    control_service_add(server, self->setup.daemon);
    control_recording_add(server, self->setup.daemon);
    for (unsigned i = 0; i < G_N_ELEMENTS(events); i++) {
        qmp_server_add_event(server, &events[i]);
    }
    return server;
}

Control *control_new(const ControlSetup *setup, int fd, GError **error)
{
    Control *self = g_new0(Control, 1);

    self->setup = *setup;
    self->start_us = g_get_monotonic_time();
    self->server = make_server(self);
    if (!qmp_server_listen_fd(self->server, fd, error)) {
        close(fd);
        control_free(self);
        return NULL;
    }
    registry_set_sink(setup->daemon->registry, broadcast, self);
    self->tick = g_timeout_add_seconds(1, tick, self);
    return self;
}

void control_free(Control *self)
{
    if (!self) {
        return;
    }
    if (self->tick) {
        g_source_remove(self->tick);
    }
    registry_set_sink(self->setup.daemon->registry, NULL, NULL);
    qmp_server_free(self->server);
    g_free(self);
}
