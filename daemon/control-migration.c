/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/control-migration.h"

#include "daemon/migration-managed.h"
#include "daemon/registry.h"
#include "daemon/units.h"
#include "qmp/error.h"
#include "qmp/message.h"
#include "wire/link-frame.h"

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

static bool get_handover(const Config *config, JsonObject *args, Handover *ret,
                         GError **error)
{
    const char *text = qmp_message_get_string(args, "handover");

    *ret = config->handover;
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

static bool get_targets(Config *config, JsonObject *args,
                        ManagedSetup *ret, GError **error)
{
    const char *vm = qmp_message_get_string(args, "vm");
    const char *peer = qmp_message_get_string(args, "peer");

    ret->config = config;
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

static JsonNode *start_managed(Daemon *daemon, const ManagedSetup *setup,
                               GError **error)
{
    g_autoptr(Migration) migration =
        migration_managed_start(daemon, setup, error);
    JsonObject *ret;

    if (!migration) {
        return NULL;
    }
    ret = json_object_new();
    json_object_set_string_member(ret, "id", migration_get_id(migration));
    return qmp_message_take_object(ret);
}

static JsonNode *do_migrate(QmpServerSession *session, JsonObject *args,
                            gpointer data, GError **error)
{
    Daemon *daemon = data;
    g_autoptr(Config) config = daemon_ref_config(daemon);
    ManagedSetup setup = { 0 };
    unsigned downtime_limit_ms;

    (void)session;
    if (!get_targets(config, args, &setup, error) ||
        !get_count(args, "channels", MULTIFD_CHANNELS_MAX, &setup.channels,
                   error) ||
        !get_count(args, "lanes", LINK_LANES_MAX, &setup.lanes, error) ||
        !get_count(args, "destination-channels", MULTIFD_CHANNELS_MAX,
                   &setup.destination_channels, error) ||
        !get_count(args, "downtime-limit", 2000 * 1000, &downtime_limit_ms,
                   error) ||
        !get_rate(args, &setup.rate, error) ||
        !get_count(args, "weight", CONFIG_WEIGHT_MAX, &setup.weight, error) ||
        !get_handover(config, args, &setup.handover, error) ||
        !get_convergence(args, &setup, error) ||
        !get_postcopy(args, &setup, error)) {
        return NULL;
    }
    setup.downtime_limit_ms = downtime_limit_ms;
    return start_managed(daemon, &setup, error);
}

static JsonNode *do_migrate_recover(QmpServerSession *session, JsonObject *args,
                                    gpointer data, GError **error)
{
    Daemon *daemon = data;
    g_autoptr(Config) config = daemon_ref_config(daemon);
    ManagedSetup setup = { .recover = true, .handover = HANDOVER_SAFE };

    (void)session;
    if (!get_targets(config, args, &setup, error)) {
        return NULL;
    }
    qmp_message_get_bool(args, "start", &setup.start);
    return start_managed(daemon, &setup, error);
}

static Migration *find_migration(Daemon *daemon, const char *id, GError **error)
{
    Migration *migration = registry_find(daemon->registry, id);

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

static Limiter *find_peer_limiter(Daemon *daemon, const char *name,
                                  GError **error)
{
    g_autoptr(Config) config = daemon_ref_config(daemon);
    const ConfigPeer *peer = config_find_peer(config, name);

    if (!peer) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_DEVICE_NOT_FOUND,
                    "argument 'peer': there is no [peer %s] in the "
                    "configuration", name);
        return NULL;
    }
    return daemon_get_limiter(daemon, peer);
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
    Daemon *daemon = data;
    const char *peer = qmp_message_get_string(args, "peer");
    const char *id = qmp_message_get_string(args, "migration");
    g_autoptr(Migration) migration = NULL;
    Limiter *limiter = daemon->limiter;
    Pace pace;

    (void)session;
    if (!get_pace(args, &pace, error)) {
        return NULL;
    }
    if (id) {
        migration = find_migration(daemon, id, error);
        if (migration) {
            pace_migration(migration, &pace, error);
        }
        return NULL;
    }
    limiter = peer ? find_peer_limiter(daemon, peer, error) : limiter;
    if (limiter) {
        pace_limiter(limiter, &pace);
    }
    return NULL;
}

/* ---- queries -------------------------------------------------------------------- */

static JsonNode *do_query_migrations(QmpServerSession *session,
                                     JsonObject *args, gpointer data,
                                     GError **error)
{
    Daemon *daemon = data;
    const char *id = qmp_message_get_string(args, "id");
    g_autoptr(GPtrArray) all = NULL;
    g_autoptr(Migration) one = NULL;
    JsonArray *ret;

    (void)session;
    if (id) {
        one = find_migration(daemon, id, error);
        if (!one) {
            return NULL;
        }
    }
    ret = json_array_new();
    all = registry_list(daemon->registry);
    for (unsigned i = 0; i < all->len; i++) {
        Migration *migration = g_ptr_array_index(all, i);

        if (!one || one == migration) {
            json_array_add_object_element(ret, migration_to_json(migration));
        }
    }
    return qmp_message_take_array(ret);
}

static JsonNode *do_query_traffic(QmpServerSession *session, JsonObject *args,
                                  gpointer data, GError **error)
{
    g_autoptr(Migration) migration =
        find_migration(data, qmp_message_get_string(args, "id"), error);

    (void)session;
    return migration
           ? qmp_message_take_object(migration_traffic_to_json(migration))
           : NULL;
}

/* ---- tables --------------------------------------------------------------------- */

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
    { "set-rate-limit", do_set_rate_limit, ARGS(rate_args), 0,
      "limit a migration, a peer, or the whole daemon, from now on; give one "
      "of the first two another weight" },
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

void control_migration_add(QmpServer *server, Daemon *daemon)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        qmp_server_add_command(server, &commands[i], daemon);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(events); i++) {
        qmp_server_add_event(server, &events[i]);
    }
}
