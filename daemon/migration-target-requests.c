/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-target-requests.c - what the source's daemon asks for
 *
 * `prepare`, then in a managed migration `open`, `resume`, and `finish` at the end.
 * What concerns a managed QEMU is in target-qemu.c.
 */
#include "daemon/migration-target-private.h"

#include "daemon/ingress-link.h"
#include "daemon/migration-link.h"
#include "daemon/migration-outage.h"
#include "daemon/migration-tunnel.h"
#include "daemon/registry.h"
#include "qmp/message.h"

enum { POSTCOPY_GIVEN_MS = 2 * 1000 };

/* ---- prepare ------------------------------------------------------------------------ */

/* Half the share for what the peer may send ahead, half for packing it anew. */
static uint64_t get_window(const Migration *migration)
{
    return migration->memory / 2;
}

static void begin_flow(MigrationTarget *self, uint64_t return_window)
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

static bool prepare_tunnel(MigrationTarget *self, JsonObject *args,
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

static bool prepare_managed(MigrationTarget *self, JsonObject *args,
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

static bool prepare_kind(MigrationTarget *self, JsonObject *args,
                         unsigned *ret_channels, GError **error)
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

static JsonObject *do_prepare(MigrationTarget *self, JsonObject *args,
                              GError **error)
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

static bool check_managed(MigrationTarget *self, const char *request,
                          GError **error)
{
    if (self->qemu) {
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                "%s: allowed only in a managed migration, after prepare",
                request);
    return false;
}

static JsonObject *do_open(MigrationTarget *self, JsonObject *args,
                           GError **error)
{
    (void)args;
    return check_managed(self, "open", error) &&
           target_qemu_open(self->qemu, error) ? json_object_new() : NULL;
}

/* A `cont` before the guest is complete would let it start by itself. */
static bool check_arrived(MigrationTarget *self, const char *request,
                          GError **error)
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

/* In postcopy its half is enough, once the QEMU has been told to run it. */
static bool is_given(const MigrationTarget *self)
{
    ExchangeSnapshot now;

    exchange_get_snapshot(self->migration->exchange, &now);
    return now.postcopy_given || (now.shut && now.shut_value == 0);
}

/* What is under way to the destination QEMU gets a moment to arrive. */
static bool wait_given(const MigrationTarget *self)
{
    int64_t deadline_us = g_get_monotonic_time() + POSTCOPY_GIVEN_MS * 1000LL;

    while (!is_given(self)) {
        g_autoptr(GError) over = exchange_get_error(self->migration->exchange);

        if (over || g_get_monotonic_time() > deadline_us) {
            return false;
        }
        g_usleep(5 * 1000);
    }
    return true;
}

void migration_target_catch_up(MigrationTarget *self)
{
    GError *error = NULL;
    JsonObject *answer;

    if (!self->resume_due || !is_given(self)) {
        return;
    }
    self->resume_due = false;
    answer = target_qemu_resume(self->qemu, self->resume_start, true, &error);
    if (answer) {
        json_object_unref(answer);
    } else {
        exchange_fail(self->migration->exchange, error);
    }
}

static JsonObject *resume_postcopy(MigrationTarget *self, bool start,
                                   GError **error)
{
    JsonObject *answer;

    if (wait_given(self)) {
        return target_qemu_resume(self->qemu, start, true, error);
    }
    self->resume_due = true;
    self->resume_start = start;
    answer = json_object_new();
    json_object_set_string_member(answer, "status", "inmigrate");
    return answer;
}

static JsonObject *do_resume(MigrationTarget *self, JsonObject *args,
                             GError **error)
{
    bool start = true, postcopy = false;

    qmp_message_get_bool(args, "start", &start);
    qmp_message_get_bool(args, "postcopy", &postcopy);
    if (!check_managed(self, "resume", error)) {
        return NULL;
    }
    if (postcopy && self->migration->exchange) {
        return resume_postcopy(self, start, error);
    }
    return check_arrived(self, "resume", error)
           ? target_qemu_resume(self->qemu, start, false, error) : NULL;
}

static JsonObject *do_finish(MigrationTarget *self, JsonObject *args,
                             GError **error)
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
    JsonObject *(*handler)(MigrationTarget *self, JsonObject *args,
                           GError **error);
} Request;

static const Request requests[] = {
    { "prepare", do_prepare },
    { "open", do_open },
    { "resume", do_resume },
    { "finish", do_finish },
};

void migration_target_answer(MigrationTarget *self, const char *name,
                             JsonObject *message)
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
