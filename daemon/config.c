/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation: a Config starts with every field at its initial value
 * from the table.  The file, the overrides and the tunnels from options are
 * then applied in this order, one value at a time and by one function
 * (config_entry_set()), so that each error can say where its value came from.
 * At the end the whole is checked once.
 */
#include "daemon/config.h"

#include <string.h>
#include "daemon/config-check.h"
#include "daemon/config-entry.h"
#include "daemon/config-scan.h"
#include "daemon/config-table.h"

/* --- where values come from --- */

static bool apply_file_group(Config *self, GKeyFile *file, const char *text,
                             GError **error)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, text, NULL, NULL);
    const ConfigGroup *group;
    void *object;

    g_assert(keys);     /* the group exists */
    if (!config_entry_open(self, text, &group, &object, error)) {
        return false;
    }
    for (char **key = keys; *key; key++) {
        g_autoptr(GError) cause = NULL;
        g_autofree char *value = g_key_file_get_string(file, text, *key,
                                                       &cause);

        if (!value) {
            return config_value_fail(error, "[%.100s] %.100s: %s", text, *key,
                                     cause->message);
        }
        if (!config_entry_set(group, object, text, *key, g_strstrip(value),
                              error)) {
            return false;
        }
    }
    return true;
}

static bool apply_data(Config *self, const char *data, size_t len,
                       GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) cause = NULL;
    g_auto(GStrv) groups = NULL;

    if (len > CONFIG_MAX_FILE_BYTES) {
        return config_value_fail(error, "got %zu bytes, expected at most %u",
                                 len, CONFIG_MAX_FILE_BYTES);
    }
    if (len == 0) {
        return true;        /* GKeyFile insists on something */
    }
    if (!config_scan(data, len, error)) {
        return false;
    }
    if (!g_key_file_load_from_data(file, data, len, G_KEY_FILE_NONE,
                                   &cause)) {
        return config_value_fail(error, "%s", cause->message);
    }
    groups = g_key_file_get_groups(file, NULL);
    for (char **group = groups; *group; group++) {
        if (!apply_file_group(self, file, *group, error)) {
            return false;
        }
    }
    return true;
}

/* "peer dc2.lanes=8".  Names may have dots, keys have none. */
static bool apply_override(Config *self, const char *option, GError **error)
{
    g_autofree char *text = g_strdup(option);
    char *value = strchr(text, '='), *key;
    const ConfigGroup *group;
    void *object;

    if (value) {
        *value++ = '\0';
    }
    key = strrchr(text, '.');
    if (!value || !key) {
        return config_value_fail(error, "got '%.100s', expected "
                                 "GROUP.KEY=VALUE or 'GROUP NAME.KEY=VALUE'",
                                 option);
    }
    *key++ = '\0';
    return config_entry_open(self, text, &group, &object, error) &&
           config_entry_set(group, object, text, key, value, error);
}

/* "a=1,b=2,,3" to "a=1" and "b=2,3", as QEMU splits its options. */
static GPtrArray *split_options(const char *text)
{
    GPtrArray *parts = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GString) part = g_string_new(NULL);

    for (; *text; text++) {
        if (*text == ',' && text[1] != ',') {
            g_ptr_array_add(parts, g_strdup(part->str));
            g_string_truncate(part, 0);
            continue;
        }
        text += *text == ',';
        g_string_append_c(part, *text);
    }
    g_ptr_array_add(parts, g_strdup(part->str));
    return parts;
}

/* The first free one of cli0, cli1, … */
static char *choose_tunnel_name(const Config *self)
{
    for (unsigned i = 0;; i++) {
        g_autofree char *name = g_strdup_printf("cli%u", i);

        if (!config_find_tunnel(self, name)) {
            return g_steal_pointer(&name);
        }
    }
}

static char *take_tunnel_name(const Config *self, GPtrArray *parts,
                              GError **error)
{
    g_autofree char *name = NULL;

    for (unsigned i = 0; i < parts->len; i++) {
        const char *part = g_ptr_array_index(parts, i);

        if (g_str_has_prefix(part, "name=")) {
            name = g_strdup(part + strlen("name="));
            g_ptr_array_remove_index(parts, i);
            break;
        }
    }
    if (!name) {
        return choose_tunnel_name(self);
    }
    if (config_find_tunnel(self, name)) {
        config_value_fail(error, "[tunnel %.64s]: got it twice, expected it "
                          "once", name);
        return NULL;
    }
    return g_steal_pointer(&name);
}

static bool apply_tunnel(Config *self, const char *option, GError **error)
{
    g_autoptr(GPtrArray) parts = split_options(option);
    g_autofree char *name = take_tunnel_name(self, parts, error);
    g_autofree char *text = g_strconcat("tunnel ", name, NULL);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    const ConfigGroup *group;
    void *object;

    if (!name || !config_entry_open(self, text, &group, &object, error)) {
        return false;
    }
    for (unsigned i = 0; i < parts->len; i++) {
        char *key = g_ptr_array_index(parts, i);
        char *value = strchr(key, '=');

        if (!value) {
            return config_value_fail(error, "got '%.100s', expected KEY=VALUE",
                                     key);
        }
        *value++ = '\0';
        if (!g_hash_table_add(seen, key)) {
            return config_value_fail(error, "[%s] %.100s: got it twice, "
                                     "expected it once", text, key);
        }
        if (!config_entry_set(group, object, text, key, value, error)) {
            return false;
        }
    }
    return true;
}

static bool apply_options(Config *self, const char *const *overrides,
                          const char *const *tunnels, GError **error)
{
    for (; overrides && *overrides; overrides++) {
        if (!apply_override(self, *overrides, error)) {
            g_prefix_error(error, "option: ");
            return false;
        }
    }
    for (; tunnels && *tunnels; tunnels++) {
        if (!apply_tunnel(self, *tunnels, error)) {
            g_prefix_error(error, "--tunnel: ");
            return false;
        }
    }
    return true;
}

/* --- the whole --- */

Config *config_ref(Config *self)
{
    g_atomic_ref_count_inc(&self->refs);
    return self;
}

void config_unref(Config *self)
{
    if (self && g_atomic_ref_count_dec(&self->refs)) {
        config_entry_free_config(self);
    }
}

static void set_default_name(Config *self)
{
    const char *host = g_get_host_name();

    if (!self->name) {
        self->name = g_strdup(config_value_is_name(host) ? host :
                                                           "multiferry");
    }
}

/* @where NULL: there is no file. */
static Config *load(const char *data, size_t len, const char *where,
                    const char *const *overrides, const char *const *tunnels,
                    GError **error)
{
    g_autoptr(Config) self = config_entry_new_config();

    if (where && !apply_data(self, data, len, error)) {
        g_prefix_error(error, "%s: ", where);
        return NULL;
    }
    if (!apply_options(self, overrides, tunnels, error)) {
        return NULL;
    }
    set_default_name(self);
    self->has_tls = self->tls.directory != NULL;
    if (!config_check(self, error)) {
        g_prefix_error(error, "%s: ", where ? where : "options");
        return NULL;
    }
    return g_steal_pointer(&self);
}

Config *config_load_from_data(const char *data, size_t len, const char *where,
                              const char *const *overrides,
                              const char *const *tunnels, GError **error)
{
    return load(data, len, where, overrides, tunnels, error);
}

Config *config_load(const char *file, const char *const *overrides,
                    const char *const *tunnels, GError **error)
{
    g_autofree char *data = NULL;
    size_t len = 0;

    /* The message names the file. */
    if (file && !g_file_get_contents(file, &data, &len, error)) {
        return NULL;
    }
    return load(data, len, file, overrides, tunnels, error);
}

const ConfigPeer *config_find_peer(const Config *self, const char *name)
{
    return config_entry_find(self, config_table_find_group("peer"), name);
}

const ConfigVm *config_find_vm(const Config *self, const char *name)
{
    return config_entry_find(self, config_table_find_group("vm"), name);
}

const ConfigTunnel *config_find_tunnel(const Config *self, const char *name)
{
    return config_entry_find(self, config_table_find_group("tunnel"), name);
}

static void print_schedule(GKeyFile *file, const char *text,
                           const ConfigKey *key, const void *object)
{
    const RateSchedule *schedule = *(RateSchedule *const *)
        ((const char *)object + key->offset);

    for (unsigned i = 0; i < rate_schedule_get_count(schedule); i++) {
        g_autofree char *window = NULL, *rate = NULL, *name = NULL;

        rate_schedule_describe(schedule, i, &window, &rate);
        name = g_strconcat(key->name, window, NULL);
        g_key_file_set_string(file, text, name, rate);
    }
}

static void print_group(GKeyFile *file, const ConfigGroup *group,
                        const char *text, const void *object)
{
    for (size_t i = 0; i < group->n_keys; i++) {
        g_autofree char *value = config_value_to_string(&group->keys[i],
                                                        object);

        if (value) {
            g_key_file_set_string(file, text, group->keys[i].name, value);
        } else if (group->keys[i].type == CONFIG_VALUE_RATE_SCHEDULE) {
            print_schedule(file, text, &group->keys[i], object);
        }
    }
}

static void print_objects(GKeyFile *file, const ConfigGroup *group,
                          const GPtrArray *list)
{
    for (unsigned i = 0; i < list->len; i++) {
        const void *object = g_ptr_array_index(list, i);
        g_autofree char *text = g_strconcat(group->name, " ",
                                            config_entry_get_name(object),
                                            NULL);

        print_group(file, group, text, object);
    }
}

char *config_to_string(const Config *self)
{
    g_autoptr(GKeyFile) file = g_key_file_new();

    for (size_t i = 0; i < config_table_n_groups; i++) {
        const ConfigGroup *group = &config_table_groups[i];

        if (group->named) {
            print_objects(file, group, config_entry_get_list(self, group));
        } else if (self->has_tls || strcmp(group->name, "tls") != 0) {
            print_group(file, group, group->name, self);
        }
    }
    return g_key_file_to_data(file, NULL, NULL);
}
