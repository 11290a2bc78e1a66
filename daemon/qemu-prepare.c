/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/qemu-prepare.c - set a QEMU for a migration, and put it back
 *
 * Theory of operation.  What is wanted is compared with what was inspected; the
 * difference is one call for capabilities and one for parameters, and each of
 * them QEMU does in full or not at all.  Old values are noted before a call is
 * made, for a call that timed out may still be carried out.
 *
 * Putting back asks first what the values are now: one that is no longer ours
 * was set by somebody else in the meantime (a downtime-limit raised during a
 * migration that would not converge, say) and is left alone.
 */
#include "daemon/qemu.h"
#include "daemon/qemu-json.h"
#include "qmp/error.h"

struct QemuSetup {
    GHashTable *capabilities;   /* switched by us: name -> was on */
    JsonObject *parameters;     /* as they were */
    JsonObject *new_parameters; /* as we made them */
};

enum { RETRY_MS = 50 };

static QemuSetup *setup_new(void)
{
    QemuSetup *self = g_new0(QemuSetup, 1);

    self->capabilities = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                               NULL);
    self->parameters = json_object_new();
    self->new_parameters = json_object_new();
    return self;
}

void qemu_setup_free(QemuSetup *self)
{
    if (!self) {
        return;
    }
    g_clear_pointer(&self->capabilities, g_hash_table_unref);
    g_clear_pointer(&self->parameters, json_object_unref);
    g_clear_pointer(&self->new_parameters, json_object_unref);
    g_free(self);
}

/* ---- what to set ----------------------------------------------------------- */

/* Where the QEMU has it and it is not so already. */
static void want_capability(QemuSetup *self, const QemuInfo *info,
                            const char *name, bool on)
{
    bool is_on = qemu_info_is_capability_on(info, name);

    if (!qemu_info_has_capability(info, name) || is_on == on) {
        return;
    }
    g_hash_table_insert(self->capabilities, g_strdup(name),
                        GINT_TO_POINTER(is_on));
}

/*
 * The value of a parameter as QEMU takes it back.  No value is "" for the
 * strings, tls-creds and its like: null in 11.1, where 7.2 says "".
 */
static JsonNode *current_value(JsonObject *parameters, const char *name)
{
    JsonNode *node = json_object_get_member(parameters, name);

    if (!node || JSON_NODE_HOLDS_NULL(node)) {
        return json_node_init_string(json_node_alloc(), "");
    }
    return json_node_copy(node);
}

static void want_parameter(QemuSetup *self, const QemuInfo *info,
                           const char *name, JsonNode *value)
{
    g_autoptr(JsonNode) wanted = value;
    g_autoptr(JsonNode) is = current_value(info->parameters, name);

    if (!json_object_has_member(info->parameters, name) ||
        json_node_equal(is, wanted)) {
        return;
    }
    json_object_set_member(self->parameters, name, g_steal_pointer(&is));
    json_object_set_member(self->new_parameters, name,
                           g_steal_pointer(&wanted));
}

/* 0 leaves it as it is. */
static void want_int(QemuSetup *self, const QemuInfo *info, const char *name,
                     uint64_t value)
{
    if (value > 0) {
        want_parameter(self, info, name,
                       json_node_init_int(json_node_alloc(),
                                          MIN(value, G_MAXINT64)));
    }
}

static void want_string(QemuSetup *self, const QemuInfo *info,
                        const char *name, const char *value)
{
    want_parameter(self, info, name,
                   json_node_init_string(json_node_alloc(), value));
}

static void want_all(QemuSetup *self, const QemuInfo *info,
                     const QemuWanted *wanted)
{
    want_capability(self, info, "multifd", wanted->multifd);
    want_capability(self, info, "return-path", true);
    want_capability(self, info, "events", true);
    if (wanted->postcopy) {
        want_capability(self, info, "postcopy-ram", true);
        want_capability(self, info, "postcopy-preempt", wanted->preempt);
    }
    if (wanted->auto_converge) {
        want_capability(self, info, "auto-converge", true);
    }
    if (wanted->late_block_activate) {
        want_capability(self, info, "late-block-activate", true);
    }

    if (wanted->multifd) {
        g_assert(wanted->channels >= 1 && wanted->channels <= 255);
        want_int(self, info, "multifd-channels", wanted->channels);
        want_string(self, info, "multifd-compression",
                    wanted->compression ? wanted->compression : "none");
    }
    want_string(self, info, "tls-creds", "");
    if (wanted->destination) {
        return;
    }
    want_int(self, info, "max-bandwidth", wanted->max_bandwidth);
    want_int(self, info, "downtime-limit", wanted->downtime_limit_ms);
    want_int(self, info, "avail-switchover-bandwidth",
             wanted->switchover_bandwidth);
    if (wanted->legacy_zero_pages) {
        want_string(self, info, "zero-page-detection", "legacy");
    }
}

/* ---- setting it ------------------------------------------------------------ */

/* Switch them, or switch them @back. */
static bool set_capabilities(QmpClient *client, const QemuSetup *self,
                             bool back, unsigned timeout_ms,
                             GCancellable *cancellable, GError **error)
{
    JsonObject *arguments = json_object_new();
    JsonArray *list = json_array_new();
    g_autoptr(JsonNode) answer = NULL;
    GHashTableIter iter;
    gpointer name, was_on;

    g_hash_table_iter_init(&iter, self->capabilities);
    while (g_hash_table_iter_next(&iter, &name, &was_on)) {
        JsonObject *one = json_object_new();

        json_object_set_string_member(one, "capability", name);
        json_object_set_boolean_member(one, "state",
                                       (was_on != NULL) == back);
        json_array_add_object_element(list, one);
    }
    json_object_set_array_member(arguments, "capabilities", list);
    answer = qemu_call(client, "migrate-set-capabilities", arguments,
                       timeout_ms, cancellable, error);
    return answer != NULL;
}

static bool set_parameters(QmpClient *client, JsonObject *parameters,
                           unsigned timeout_ms, GCancellable *cancellable,
                           GError **error)
{
    g_autoptr(JsonNode) answer = qemu_call(
        client, "migrate-set-parameters", json_object_ref(parameters),
        timeout_ms, cancellable, error);

    return answer != NULL;
}

static bool apply(QmpClient *client, const QemuSetup *self,
                  unsigned timeout_ms, GCancellable *cancellable,
                  GError **error)
{
    if (g_hash_table_size(self->capabilities) > 0 &&
        !set_capabilities(client, self, false, timeout_ms, cancellable,
                          error)) {
        return false;
    }
    return json_object_get_size(self->new_parameters) == 0 ||
           set_parameters(client, self->new_parameters, timeout_ms,
                          cancellable, error);
}

QemuSetup *qemu_prepare(QmpClient *client, const QemuInfo *info,
                        const QemuWanted *wanted, unsigned timeout_ms,
                        GCancellable *cancellable, GError **error)
{
    g_autoptr(QemuSetup) self = setup_new();
    g_autofree char *not_put_back = NULL;

    want_all(self, info, wanted);
    if (apply(client, self, timeout_ms, cancellable, error)) {
        return g_steal_pointer(&self);
    }
    /* Even when cancelled: that is no reason to leave it half set. */
    not_put_back = qemu_restore(client, self, timeout_ms, 0, NULL);
    if (not_put_back && error) {
        g_autofree char *first = g_steal_pointer(&(*error)->message);

        (*error)->message = g_strdup_printf("%s; could not put back: %s",
                                            first, not_put_back);
    }
    return NULL;
}

/* ---- changing it ------------------------------------------------------------ */

/* What it should be now, if nobody else has touched it: of ours, or 0 and the like. */
static bool is_ours(const QemuSetup *self, const char *name, JsonNode *now)
{
    JsonNode *ours = json_object_get_member(self->new_parameters, name);

    return ours ? json_node_equal(ours, now)
                : JSON_NODE_HOLDS_VALUE(now) && json_node_get_int(now) == 0;
}

bool qemu_setup_change(QemuSetup *self, QmpClient *client, const QemuInfo *info,
                       const char *name, uint64_t value, unsigned timeout_ms,
                       GError **error)
{
    g_autoptr(JsonObject) parameters = json_object_new();
    g_autoptr(JsonObject) now = NULL;
    g_autoptr(JsonNode) is = NULL;

    if (!json_object_has_member(info->parameters, name)) {
        return false;
    }
    now = qemu_call_object(client, "query-migrate-parameters", timeout_ms, NULL,
                           error);
    if (!now) {
        return false;
    }
    is = current_value(now, name);
    if (!is_ours(self, name, is)) {
        return false;
    }
    /* Before the call, which may time out and be carried out all the same. */
    if (!json_object_has_member(self->parameters, name)) {
        json_object_set_member(self->parameters, name, g_steal_pointer(&is));
    }
    json_object_set_int_member(parameters, name, value);
    json_object_set_int_member(self->new_parameters, name, value);
    return set_parameters(client, parameters, timeout_ms, NULL, error);
}

/* ---- putting it back ------------------------------------------------------- */

typedef struct {
    QmpClient *client;
    unsigned timeout_ms;
    GCancellable *cancellable;
    GString *failed;    /* what and why */
    bool gone;          /* QEMU is; nothing more to put back */
} Restoring;

static void note_failure(Restoring *r, const char *what, const GError *error)
{
    if (g_error_matches(error, QMP_ERROR, QMP_ERROR_DISCONNECTED)) {
        r->gone = true;
        return;
    }
    g_string_append_printf(r->failed, "%s%s: %s", r->failed->len ? "; " : "",
                           what, error->message);
}

/* Whether a migration is still what makes QEMU refuse. */
static bool is_busy(Restoring *r)
{
    g_autoptr(QemuMigrateStatus) status =
        qemu_query_migrate(r->client, r->timeout_ms, r->cancellable, NULL);

    return status && qemu_migrate_status_is_active(status->status);
}

/* "capabilities multifd, events" */
static char *name_capabilities(const QemuSetup *self)
{
    g_autofree char **names =
        (char **)g_hash_table_get_keys_as_array(self->capabilities, NULL);
    g_autofree char *joined = g_strjoinv(", ", names);

    return g_strdup_printf("capabilities %s", joined);
}

static void restore_capabilities(Restoring *r, const QemuSetup *self,
                                 unsigned wait_ms)
{
    int64_t deadline_us = g_get_monotonic_time() + (int64_t)wait_ms * 1000;
    g_autofree char *names = name_capabilities(self);
    g_autoptr(GError) error = NULL;

    while (!set_capabilities(r->client, self, true, r->timeout_ms,
                             r->cancellable, &error)) {
        if (!g_error_matches(error, QMP_ERROR, QMP_ERROR_COMMAND) ||
            g_get_monotonic_time() >= deadline_us || !is_busy(r)) {
            note_failure(r, names, error);
            return;
        }
        g_clear_error(&error);
        g_usleep(RETRY_MS * 1000);
    }
}

/* Those that are still as we made them, with the value they had. */
static JsonObject *parameters_to_restore(const QemuSetup *self,
                                         JsonObject *now)
{
    JsonObject *restore = json_object_new();
    JsonObjectIter iter;
    const char *name;
    JsonNode *was;

    json_object_iter_init_ordered(&iter, self->parameters);
    while (json_object_iter_next_ordered(&iter, &name, &was)) {
        JsonNode *ours = json_object_get_member(self->new_parameters, name);
        g_autoptr(JsonNode) is = current_value(now, name);

        if (json_node_equal(is, ours)) {
            json_object_set_member(restore, name, json_node_copy(was));
        }
    }
    return restore;
}

/*
 * One by one, so that a value which is refused does not keep the others from
 * going back.
 */
static void restore_parameters(Restoring *r, const QemuSetup *self)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) now = qemu_call_object(
        r->client, "query-migrate-parameters", r->timeout_ms, r->cancellable,
        &error);
    g_autoptr(JsonObject) restore = NULL;
    JsonObjectIter iter;
    const char *name;
    JsonNode *was;

    if (!now) {
        note_failure(r, "parameters", error);
        return;
    }
    restore = parameters_to_restore(self, now);
    json_object_iter_init_ordered(&iter, restore);
    while (!r->gone && json_object_iter_next_ordered(&iter, &name, &was)) {
        g_autoptr(JsonObject) one = json_object_new();
        g_autoptr(GError) refused = NULL;

        json_object_set_member(one, name, json_node_copy(was));
        if (!set_parameters(r->client, one, r->timeout_ms, r->cancellable,
                            &refused)) {
            note_failure(r, name, refused);
        }
    }
}

char *qemu_restore(QmpClient *client, const QemuSetup *setup,
                   unsigned timeout_ms, unsigned wait_ms,
                   GCancellable *cancellable)
{
    Restoring r = {
        .client = client,
        .timeout_ms = timeout_ms,
        .cancellable = cancellable,
        .failed = g_string_new(NULL),
    };

    if (g_hash_table_size(setup->capabilities) > 0) {
        restore_capabilities(&r, setup, wait_ms);
    }
    if (json_object_get_size(setup->parameters) > 0 && !r.gone) {
        restore_parameters(&r, setup);
    }
    return g_string_free(r.failed, r.gone || r.failed->len == 0);
}
