/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/target-qemu.h"

#include <string.h>
#include <unistd.h>

#include "daemon/egress-qemu.h"
#include "daemon/registry.h"
#include "qmp/error.h"
#include "qmp/message.h"

enum {
    DEFAULT_CHANNELS = 4,
    RUNNING_MS = 10 * 1000,     /* for a continued guest to be running */
    POLL_MS = 5,
    PAUSED_MS = 10 * 1000,      /* for a destination to be postcopy-paused */
};

struct TargetQemu {
    Migration *migration;
    const ConfigVm *vm;
    QmpClient *client;
    QemuInfo *info;
    QemuSetup *setup;           /* what to put back; NULL: nothing */
    unsigned channels;
    bool multifd;
    bool safe;
    bool postcopy, preempt;
    bool recovering;            /* it is postcopy-paused, or should be */
    bool opened;                /* migrate-incoming or -recover was given */
    bool resumed;               /* `resume` came: the source is in postmigrate */
    bool left_paused;           /* ... and said that the guest was paused there */
    Address *address;           /* where the QEMU listens */
    char *socket_path;          /* ours to remove; NULL: the operator's choice */
};

static unsigned qmp_ms(const TargetQemu *self)
{
    return self->migration->config->timeouts.qmp_ms;
}

static GCancellable *cancellable(const TargetQemu *self)
{
    return self->migration->cancellable;
}

/* ---- prepare ---------------------------------------------------------------------------- */

static const ConfigVm *find_vm(Migration *migration, JsonObject *args,
                               GError **error)
{
    const char *name = qmp_message_get_string(args, "vm");
    const ConfigVm *vm = name ? config_find_vm(migration->config, name) : NULL;

    if (!vm) {
        g_autofree char *shown = ramblock_name_escape(
            name ? name : "", name ? MIN(strlen(name), 64) : 0);

        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "prepare: there is no [vm %s] here", shown);
    }
    return vm;
}

/* Of a migration that broke in postcopy one may be there still; see paused-qemus.h. */
static QmpClient *connect_monitor(TargetQemu *self, GError **error)
{
    PausedQemu kept = paused_qemus_take(
        registry_get_paused(self->migration->daemon->registry), self->vm->name,
        MIGRATION_DESTINATION);
    g_autoptr(GError) ended = kept.client ? qmp_client_get_error(kept.client)
                                          : NULL;

    if (kept.client && self->recovering && !ended) {
        self->setup = kept.setup;
        return kept.client;
    }
    qmp_client_free(kept.client);
    qemu_setup_free(kept.setup);
    return qmp_client_connect(self->vm->qmp->text, qmp_ms(self),
                              cancellable(self), error);
}

static bool inspect(TargetQemu *self, GError **error)
{
    self->client = connect_monitor(self, error);
    if (self->client && self->recovering) {
        return true;
    }
    if (self->client) {
        self->info = qemu_inspect(self->client, qmp_ms(self),
                                  cancellable(self), error);
    }
    if (!self->info) {
        g_prefix_error(error, "vm %s: QMP at %s: ", self->vm->name,
                       self->vm->qmp->text);
        return false;
    }
    return true;
}

static unsigned get_use(const TargetQemu *self)
{
    return (self->multifd ? QEMU_USE_MULTIFD : 0) |
           (self->postcopy ? QEMU_USE_POSTCOPY : 0);
}

/* What only both together can have. */
static void settle_postcopy(TargetQemu *self, const QemuInfo *source)
{
    self->multifd = !self->postcopy ||
                    (qemu_info_has_multifd_with_postcopy(source) &&
                     qemu_info_has_multifd_with_postcopy(self->info));
    self->preempt = self->postcopy &&
                    qemu_info_has_capability(source, "postcopy-preempt") &&
                    qemu_info_has_capability(self->info, "postcopy-preempt");
    if (!self->multifd) {
        self->channels = 0;
    }
}

static bool compare(TargetQemu *self, JsonObject *args, GError **error)
{
    JsonObject *object = qmp_message_get_object(args, "info");
    g_autoptr(QemuInfo) source = NULL;

    if (!object) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "prepare: 'info' is missing");
        return false;
    }
    source = qemu_info_from_json(object, error);
    if (source) {
        settle_postcopy(self, source);
    }
    if (!source || !qemu_check_destination(self->info, get_use(self), error) ||
        !qemu_check_pair(source, self->info, error)) {
        g_prefix_error(error, "vm %s: ", self->vm->name);
        return false;
    }
    migration_set_uuid(self->migration, source->uuid);
    return true;
}

static void read_wishes(TargetQemu *self, JsonObject *args)
{
    const char *handover = qmp_message_get_string(args, "handover");
    int64_t channels = 0;

    self->recovering = g_strcmp0(qmp_message_get_string(args, "kind"),
                                 "recover") == 0;
    qmp_message_get_uint(args, "destination-channels", MULTIFD_CHANNELS_MAX,
                         &channels);
    self->channels = channels ? channels
                     : self->vm->channels ? self->vm->channels
                     : DEFAULT_CHANNELS;
    qmp_message_get_bool(args, "postcopy", &self->postcopy);
    self->safe = g_strcmp0(handover, "fast") != 0;
}

static bool set_up(TargetQemu *self, GError **error)
{
    QemuWanted wanted = {
        .destination = true,
        .multifd = self->multifd,
        .channels = self->channels,
        .postcopy = self->postcopy,
        .preempt = self->preempt,
        .late_block_activate = self->safe,
    };

    self->setup = qemu_prepare(self->client, self->info, &wanted, qmp_ms(self),
                               cancellable(self), error);
    if (!self->setup) {
        g_prefix_error(error, "vm %s: ", self->vm->name);
    }
    return self->setup != NULL;
}

TargetQemu *target_qemu_prepare(Migration *migration, JsonObject *args,
                                unsigned *ret_channels, GError **error)
{
    const ConfigVm *vm = find_vm(migration, args, error);
    TargetQemu *self;

    if (vm) {
        migration_set_name(migration, MIGRATION_MANAGED, vm->name);
    }

    if (!vm || !registry_claim(migration->daemon->registry, migration,
                               MIGRATION_MANAGED, vm->name, error)) {
        return NULL;
    }
    self = g_new0(TargetQemu, 1);
    self->migration = migration;
    self->vm = vm;
    read_wishes(self, args);
    if (!inspect(self, error) ||
        (!self->recovering && (!compare(self, args, error) ||
                               !set_up(self, error)))) {
        target_qemu_free(self);
        return NULL;
    }
    *ret_channels = self->channels;
    return self;
}

void target_qemu_describe(TargetQemu *self, JsonObject *answer)
{
    json_object_set_boolean_member(answer, "no-multifd", !self->multifd);
    json_object_set_boolean_member(answer, "postcopy", self->postcopy);
    json_object_set_boolean_member(answer, "preempt", self->preempt);
    if (self->info) {
        json_object_set_object_member(answer, "info",
                                      qemu_info_to_json(self->info));
    }
}

/* ---- open ------------------------------------------------------------------------------------ */

static bool choose_address(TargetQemu *self, GError **error)
{
    g_autofree char *text = NULL;

    if (self->vm->incoming) {
        self->address = address_copy(self->vm->incoming);
        return true;
    }
    self->socket_path = g_strdup_printf(
        "%s/%.12s-out.sock", self->migration->config->runtime_directory,
        self->migration->id);
    text = g_strdup_printf("unix:%s", self->socket_path);
    self->address = address_parse(text, error);
    return self->address != NULL;
}

/* `stop` would pause a guest that has begun to run since it was inspected. */
static bool check_still_waiting(TargetQemu *self, GError **error)
{
    g_autofree char *status = NULL;
    bool running;

    if (!qemu_query_status(self->client, &running, &status, qmp_ms(self),
                           cancellable(self), error)) {
        return false;
    }
    if (strcmp(status, "inmigrate") != 0) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "destination QEMU: got run state '%s', expected "
                    "'inmigrate'", status);
        return false;
    }
    return true;
}

/*
 * It notices that its connection has gone a moment after we know of it.  A QEMU says
 * in words alone why it refuses, so any refusal is taken for that; trying again does
 * no harm.
 */
static bool let_listen_again(TargetQemu *self, GError **error)
{
    int64_t deadline_us = g_get_monotonic_time() + PAUSED_MS * 1000LL;
    g_autoptr(GError) failure = NULL;

    if (!qmp_client_has_oob(self->client)) {
        g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED,
                    "destination QEMU: its QMP takes no commands out of band, "
                    "as migrate-recover needs");
        return false;
    }
    do {
        g_clear_error(&failure);
        if (qemu_migrate_recover(self->client, self->address->text,
                                 qmp_ms(self), cancellable(self), &failure)) {
            self->opened = true;
            return true;
        }
        g_usleep(POLL_MS * 10 * 1000);
    } while (g_error_matches(failure, QMP_ERROR, QMP_ERROR_COMMAND) &&
             g_get_monotonic_time() < deadline_us);
    g_propagate_error(error, g_steal_pointer(&failure));
    return false;
}

static bool let_listen(TargetQemu *self, GError **error)
{
    if (self->safe && !qemu_stop(self->client, qmp_ms(self), cancellable(self),
                                 error)) {
        return false;
    }
    self->opened = qemu_migrate_incoming(self->client, self->address->text,
                                         qmp_ms(self), cancellable(self), error);
    return self->opened;
}

/* With port 0 only QEMU knows where it listens. */
static bool find_port(TargetQemu *self, GError **error)
{
    g_autoptr(QemuMigrateStatus) status = NULL;

    if (self->address->kind != ADDRESS_TCP || self->address->port != 0) {
        return true;
    }
    status = qemu_query_migrate(self->client, qmp_ms(self), cancellable(self),
                                error);
    if (!status) {
        return false;
    }
    address_free(g_steal_pointer(&self->address));
    self->address = address_parse(status->socket_address
                                  ? status->socket_address : "", error);
    return self->address != NULL;
}

bool target_qemu_open(TargetQemu *self, GError **error)
{
    const ConfigTimeouts *timeouts = &self->migration->config->timeouts;
    EgressQemuSetup setup = {
        .exchange = self->migration->exchange,
        .channels = self->channels,
        .multifd_expected = self->multifd,
        /* The source does not name any to it, if it heeds what it was set to. */
        .payload = {
            .write_zero_pages = self->info &&
                                !qemu_info_is_version(self->info, 9, 0),
        },
        .connect_ms = timeouts->connect_ms,
        .handshake_ms = timeouts->handshake_ms,
    };

    if (self->opened) {
        return true;
    }
    if (!choose_address(self, error) ||
        !(self->recovering ? let_listen_again(self, error)
                           : check_still_waiting(self, error) &&
                             let_listen(self, error)) ||
        !find_port(self, error)) {
        g_prefix_error(error, "vm %s: ", self->vm->name);
        return false;
    }
    setup.address = self->address;
    migration_set_egress(self->migration, egress_qemu_new(&setup));
    return true;
}

/* ---- resume ------------------------------------------------------------------------------------ */

/* With handover=fast it starts by itself, unless it was started with -S. */
static bool continue_paused(TargetQemu *self, const char *status,
                            bool *continued, GError **error)
{
    if (*continued || strcmp(status, "paused") != 0) {
        return true;
    }
    *continued = true;
    return qemu_cont(self->client, qmp_ms(self), NULL, error);
}

/*
 * In postcopy the pages that it needs to load come over the link, and for want of one
 * its whole main loop may stand still: no answer from it is no failure then, for the
 * guest cannot go back and will run as it was told.
 */
static bool is_waiting(bool postcopy, GError **error)
{
    if (!postcopy || !g_error_matches(*error, QMP_ERROR, QMP_ERROR_TIMEOUT)) {
        return false;
    }
    g_clear_error(error);
    return true;
}

/* *ret_done: it is as it should be. */
static bool ask_status(TargetQemu *self, bool start, bool *continued,
                       char **ret_status, bool *ret_done, GError **error)
{
    bool running;

    g_clear_pointer(ret_status, g_free);
    if (!qemu_query_status(self->client, &running, ret_status, qmp_ms(self),
                           NULL, error) ||
        (start && !continue_paused(self, *ret_status, continued, error))) {
        return false;
    }
    *ret_done = strcmp(*ret_status, "inmigrate") != 0 && (running || !start);
    return true;
}

/* Less than the source's side waits for the answer. */
static int64_t get_running_us(const TargetQemu *self, bool postcopy)
{
    return 1000LL * (postcopy
                     ? self->migration->config->timeouts.handshake_ms + qmp_ms(self)
                     : RUNNING_MS);
}

/* Time without a link does not count.  False: the migration is over. */
static bool judge_link(const TargetQemu *self, int64_t *deadline_us, GError **error)
{
    GError *over = exchange_get_error(self->migration->exchange);
    LinkMainOutage outage;

    link_main_get_outage(self->migration->link, &outage);
    if (outage.down) {
        *deadline_us = g_get_monotonic_time() + get_running_us(self, true);
    }
    if (over) {
        g_propagate_error(error, over);
    }
    return !over;
}

/* What it will be, once it has loaded: it was told to run. */
static void note_not_yet(TargetQemu *self, char **ret_status)
{
    migration_add_warning(self->migration, "vm %s: the destination QEMU was told to "
                          "run the guest, and has not loaded it yet",
                          self->vm->name);
    g_free(*ret_status);
    *ret_status = g_strdup("inmigrate");
}

/* In postcopy, and then only, the last status may be "inmigrate". */
static bool wait_status(TargetQemu *self, bool start, bool postcopy,
                        char **ret_status, GError **error)
{
    int64_t deadline_us = g_get_monotonic_time() +
                          get_running_us(self, postcopy);
    bool continued = self->safe, done = false;

    do {
        g_autoptr(GError) failure = NULL;

        if (!ask_status(self, start, &continued, ret_status, &done, &failure) &&
            !is_waiting(postcopy, &failure)) {
            g_propagate_error(error, g_steal_pointer(&failure));
            return false;
        }
        if (done) {
            return true;
        }
        g_usleep(POLL_MS * 1000);
        if (postcopy && !judge_link(self, &deadline_us, error)) {
            return false;
        }
    } while (g_get_monotonic_time() < deadline_us);
    if (postcopy && (!*ret_status || strcmp(*ret_status, "inmigrate") == 0)) {
        note_not_yet(self, ret_status);
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                "got run state '%s', expected %s", *ret_status,
                start ? "'running'" : "an end of the incoming migration");
    return false;
}

/* Asked before `cont`, because afterwards nobody can tell whether it ran. */
static bool check_reachable(TargetQemu *self, GError **error)
{
    g_autofree char *status = NULL;
    bool running;

    if (!qemu_query_status(self->client, &running, &status, qmp_ms(self), NULL,
                           error)) {
        g_prefix_error(error, "vm %s: the guest never ran at the destination: ",
                       self->vm->name);
        return false;
    }
    return true;
}

static bool let_run(TargetQemu *self, bool postcopy, GError **error)
{
    g_autoptr(GError) failure = NULL;

    if (qemu_cont(self->client, qmp_ms(self), NULL, &failure) ||
        is_waiting(postcopy, &failure)) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&failure));
    return false;
}

JsonObject *target_qemu_resume(TargetQemu *self, bool start, bool postcopy,
                               GError **error)
{
    g_autofree char *status = NULL;
    JsonObject *answer;

    self->resumed = true;
    if (!self->postcopy && !self->recovering) {
        migration_set_state(self->migration, MIGRATION_HANDOVER);
    }
    if (self->safe && !postcopy && !check_reachable(self, error)) {
        return NULL;
    }
    self->left_paused = !start;
    if ((start && self->safe && !let_run(self, postcopy, error)) ||
        !wait_status(self, start, postcopy, &status, error)) {
        g_prefix_error(error, "vm %s: the guest has arrived but could not be "
                       "continued: ", self->vm->name);
        return NULL;
    }
    answer = json_object_new();
    json_object_set_string_member(answer, "status", status);
    return answer;
}

/* ---- the end ------------------------------------------------------------------------------------- */

void target_qemu_put_back(TargetQemu *self)
{
    g_autofree char *warning = NULL;

    if (self->setup) {
        warning = qemu_restore(self->client, self->setup, qmp_ms(self), 2000,
                               NULL);
        g_clear_pointer(&self->setup, qemu_setup_free);
    }
    if (warning) {
        migration_add_warning(self->migration, "destination QEMU: %s", warning);
    }
}

bool target_qemu_check_unfinished(TargetQemu *self, const char *reason,
                                  GError **error)
{
    g_autofree char *status = NULL;
    g_autofree char *silent = g_strdup_printf("peer %s went silent",
                                              self->migration->peer->name);
    bool running = false;

    target_qemu_put_back(self);
    if (qemu_query_status(self->client, &running, &status, qmp_ms(self), NULL,
                          NULL) && (running || self->left_paused)) {
        migration_add_warning(self->migration, "%s after the guest was %s here",
                              reason ? reason : silent, running ? "started" : "left paused, as it was,");
        return true;
    }
    g_set_error(error, MIGRATION_ERROR, MIGRATION_ERROR_FAILED,
                "%s in the hand-over; the guest is here, complete and paused "
                "(%s). %s", reason ? reason : silent, status ? status : "QMP does not answer",
                self->resumed
                ? "Its source has let go of it: start it here with QMP `cont`"
                : "Ask the source QEMU with QMP `query-status`: if it says "
                  "postmigrate, or is gone for good, start the guest here with "
                  "`cont`; if it says anything else, continue it there and "
                  "`quit` the QEMU here");
    return false;
}

/* A destination that has begun to load ends or fails by itself.  One that has not
 * been sent a byte waits on, and takes migrate-incoming once only. */
void target_qemu_give_up(TargetQemu *self, bool begun, bool postcopy)
{
    if (postcopy || self->recovering) {
        /* It waits on, postcopy-paused. */
        paused_qemus_keep(
            registry_get_paused(self->migration->daemon->registry),
            self->vm->name, MIGRATION_DESTINATION, (PausedQemu) {
                .client = g_steal_pointer(&self->client),
                .setup = g_steal_pointer(&self->setup),
            });
        return;
    }
    if (!self->opened) {
        target_qemu_put_back(self);
    } else if (!begun) {
        migration_add_warning(self->migration, "vm %s: the destination QEMU "
                              "listens for a migration that did not begin; start "
                              "it anew before the next try", self->vm->name);
    }
}

void target_qemu_free(TargetQemu *self)
{
    if (!self) {
        return;
    }
    qmp_client_free(self->client);
    qemu_info_free(self->info);
    qemu_setup_free(self->setup);
    address_free(self->address);
    if (self->socket_path) {
        unlink(self->socket_path);
    }
    g_free(self->socket_path);
    g_free(self);
}
