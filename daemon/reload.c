/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/reload.c - one configuration after another
 *
 * What can fail comes first: reading the file, finding that nothing in it needs a
 * restart, and all that new tunnels need.  From there on nothing is refused.
 */
#include "daemon/reload.h"

#include "daemon/config-diff.h"
#include "daemon/log.h"
#include "daemon/migration-private.h"
#include "daemon/registry.h"
#include "daemon/worker.h"

/* Lines and members of an event, however much has changed. */
enum { CHANGES_TOLD = 100 };

/* ---- what has changed ------------------------------------------------------------- */

static char *describe_fixed(const ConfigChange *change)
{
    if (!change->key) {
        g_autofree char *text = config_change_to_string(change);

        return g_strdup_printf("%s, with mptcp, for which the link's socket has "
                               "to be made anew", text);
    }
    return g_strdup_printf("[%s] %s: got %s%s%s, the daemon runs with %s%s%s",
                           change->group, change->key, change->to ? "'" : "",
                           change->to ? change->to : "nothing",
                           change->to ? "'" : "", change->from ? "'" : "",
                           change->from ? change->from : "nothing",
                           change->from ? "'" : "");
}

static bool check_changes(const GPtrArray *changes, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < changes->len; i++) {
        const ConfigChange *change = g_ptr_array_index(changes, i);
        g_autofree char *one = change->needs_restart ? describe_fixed(change) : NULL;

        if (one) {
            g_string_append_printf(text, "%s%s", text->len ? "; " : "", one);
        }
    }
    if (text->len > 0) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "%s; that needs a restart", text->str);
        return false;
    }
    return true;
}

static void log_changes(const GPtrArray *changes)
{
    for (unsigned i = 0; i < MIN(changes->len, CHANGES_TOLD); i++) {
        g_autofree char *text =
            config_change_to_string(g_ptr_array_index(changes, i));

        log_info(LOG_ABOUT(LOG_EVENT_RELOADED), "reload: %s", text);
    }
    if (changes->len > CHANGES_TOLD) {
        log_info(LOG_ABOUT(LOG_EVENT_RELOADED), "reload: and %u more",
                 changes->len - CHANGES_TOLD);
    }
}

static void set_text(JsonObject *object, const char *member, const char *text)
{
    if (text) {
        json_object_set_string_member(object, member, text);
    }
}

static JsonArray *changes_to_json(const GPtrArray *changes)
{
    JsonArray *array = json_array_new();

    for (unsigned i = 0; i < MIN(changes->len, CHANGES_TOLD); i++) {
        const ConfigChange *change = g_ptr_array_index(changes, i);
        JsonObject *object = json_object_new();

        set_text(object, "group", change->group);
        set_text(object, "key", change->key);
        set_text(object, "from", change->from);
        set_text(object, "to", change->to);
        json_array_add_object_element(array, object);
    }
    return array;
}

/* ---- taking it over ---------------------------------------------------------------- */

/* The migration of a tunnel has the rate and weight that its tunnel has. */
static void pace(Migration *migration, const Config *old, const Config *new)
{
    const ConfigTunnel *from = config_find_tunnel(old, migration->name);
    const ConfigTunnel *to = config_find_tunnel(new, migration->name);
    g_autoptr(GError) over = NULL;

    if (!from || !to) {
        return;
    }
    if ((from->rate != to->rate &&
         !migration_set_rate(migration, to->rate, &over)) ||
        (from->weight != to->weight &&
         !migration_set_weight(migration, to->weight, &over))) {
        log_debug(NULL, "reload: %s", over->message);
    }
}

static void pace_tunnels(Registry *registry, const Config *old, const Config *new)
{
    g_autoptr(GPtrArray) all = registry_list(registry);

    for (unsigned i = 0; i < all->len; i++) {
        Migration *migration = g_ptr_array_index(all, i);

        if (migration->kind == MIGRATION_TUNNEL &&
            migration->role != MIGRATION_DESTINATION &&
            !migration_state_is_final(migration_get_state(migration))) {
            pace(migration, old, new);
        }
    }
}

static void apply(const ReloadSetup *self, Config *old, Config *new)
{
    daemon_set_config(self->daemon, new);
    daemon_want_credentials(self->daemon, new);
    registry_set_config(self->daemon->registry, new);
    rate_clock_set_config(self->rate_clock);
    drain_set_limit(self->drain, new->timeouts.drain_ms);
    if (self->link_server) {
        link_server_set_handshake(self->link_server, new->timeouts.handshake_ms);
    }
    worker_set_limits(new->nice, new->threads);
    tunnels_apply(self->tunnels);
    pace_tunnels(self->daemon->registry, old, new);
}

/* *ret_changes: what was taken over; NULL: nothing was. */
static bool reload_config(const ReloadSetup *self, GPtrArray **ret_changes,
                          GError **error)
{
    g_autoptr(Config) old = daemon_ref_config(self->daemon);
    g_autoptr(Config) new = self->load(self->data, error);
    g_autoptr(GPtrArray) changes = NULL;

    if (!new) {
        return false;
    }
    changes = config_diff(old, new);
    if (!check_changes(changes, error) ||
        (changes->len > 0 && !tunnels_prepare(self->tunnels, new, error))) {
        g_prefix_error(error, "%s: ", self->file ? self->file : "options");
        /* What was loaded for a tunnel that will not be is not asked for. */
        daemon_want_credentials(self->daemon, old);
        return false;
    }
    if (changes->len > 0) {
        apply(self, old, new);
    }
    *ret_changes = g_steal_pointer(&changes);
    return true;
}

/* ---- telling ------------------------------------------------------------------------- */

static const char *tell_refusal(const GError *error)
{
    log_error(LOG_ABOUT(LOG_EVENT_CONFIG_CHANGED), "reload: %s; nothing of the "
              "configuration was taken over", error->message);
    return "refused";
}

static const char *tell_changes(const GPtrArray *changes)
{
    if (changes->len == 0) {
        return "unchanged";
    }
    log_changes(changes);
    log_info(LOG_ABOUT(LOG_EVENT_RELOADED), "reloaded the configuration; running "
             "migrations keep what they began with, but for rates");
    return "changed";
}

static bool reload_credentials(const ReloadSetup *self, GError **error)
{
    if (!credentials_reload(self->daemon->credentials, error)) {
        log_error(LOG_ABOUT(LOG_EVENT_RELOAD_FAILED),
                  "reload: %s; all credentials stay as they were", (*error)->message);
        return false;
    }
    log_info(LOG_ABOUT(LOG_EVENT_RELOADED), "reloaded the TLS credentials; "
             "running migrations keep theirs");
    expiry_check(self->expiry, g_get_real_time() / G_USEC_PER_SEC);
    return true;
}

void reload_run(const ReloadSetup *self)
{
    g_autoptr(GError) refused = NULL;
    g_autoptr(GError) unread = NULL;
    g_autoptr(GPtrArray) changes = NULL;
    JsonObject *event = json_object_new();
    const char *config, *credentials;

    config = reload_config(self, &changes, &refused)
             ? tell_changes(changes) : tell_refusal(refused);
    credentials = reload_credentials(self, &unread) ? "read" : "refused";
    json_object_set_string_member(event, "configuration", config);
    json_object_set_string_member(event, "credentials", credentials);
    if (changes) {
        json_object_set_array_member(event, "changes", changes_to_json(changes));
    }
    if (refused || unread) {
        json_object_set_string_member(event, "error", refused ? refused->message
                                                              : unread->message);
    }
    registry_emit(self->daemon->registry, "RELOAD", event);
}
