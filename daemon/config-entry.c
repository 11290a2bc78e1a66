/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/config-entry.h"

#include <string.h>
#include "daemon/config-scan.h"

GPtrArray *config_entry_get_list(const Config *self, const ConfigGroup *group)
{
    return *(GPtrArray *const *)((const char *)self + group->list_offset);
}

const char *config_entry_get_name(const void *object)
{
    return *(char *const *)object;
}

void *config_entry_find(const Config *self, const ConfigGroup *group,
                        const char *name)
{
    GPtrArray *list = config_entry_get_list(self, group);

    for (unsigned i = 0; i < list->len; i++) {
        void *object = g_ptr_array_index(list, i);

        if (strcmp(config_entry_get_name(object), name) == 0) {
            return object;
        }
    }
    return NULL;
}

static void set_initial_values(const ConfigGroup *group, void *object)
{
    for (size_t i = 0; i < group->n_keys; i++) {
        const ConfigKey *key = &group->keys[i];

        if (key->initial) {
            g_autoptr(GError) error = NULL;
            bool good = config_value_parse(key, key->initial, object, &error);

            g_assert_no_error(error);   /* the table is ours */
            g_assert(good);
        }
    }
}

static void *add_object(Config *self, const ConfigGroup *group,
                        const char *name)
{
    void *object = g_malloc0(group->size);

    *(char **)object = g_strdup(name);
    set_initial_values(group, object);
    g_ptr_array_add(config_entry_get_list(self, group), object);
    return object;
}

static void clear_values(const ConfigGroup *group, void *object)
{
    for (size_t i = 0; i < group->n_keys; i++) {
        config_value_clear(&group->keys[i], object);
    }
}

static void free_objects(Config *self, const ConfigGroup *group)
{
    GPtrArray *list = config_entry_get_list(self, group);

    for (unsigned i = 0; i < list->len; i++) {
        void *object = g_ptr_array_index(list, i);

        clear_values(group, object);
        g_free(*(char **)object);
        g_free(object);
    }
    g_ptr_array_unref(list);
}

Config *config_entry_new_config(void)
{
    Config *self = g_new0(Config, 1);

    g_atomic_ref_count_init(&self->refs);
    self->peers = g_ptr_array_new();
    self->vms = g_ptr_array_new();
    self->tunnels = g_ptr_array_new();
    self->tls.kind = TLS_X509;
    self->tls.verify_peer = true;       /* no key turns it off */
    for (size_t i = 0; i < config_table_n_groups; i++) {
        if (!config_table_groups[i].named) {
            set_initial_values(&config_table_groups[i], self);
        }
    }
    return self;
}

void config_entry_free_config(Config *self)
{
    for (size_t i = 0; i < config_table_n_groups; i++) {
        const ConfigGroup *group = &config_table_groups[i];

        if (group->named) {
            free_objects(self, group);
        } else {
            clear_values(group, self);
        }
    }
    g_free(self);
}

static bool complain_unknown_group(const char *text, const char *kind,
                                   GError **error)
{
    const char *nearest = config_table_suggest_group(kind);
    const ConfigGroup *group = nearest ? config_table_find_group(nearest) :
                                         NULL;

    if (!group) {
        return config_value_fail(error, "[%.100s]: unknown group, expected "
                                 "daemon, timeouts, tls, listen, peer NAME, vm "
                                 "NAME or tunnel NAME", text);
    }
    return config_value_fail(error, "[%.100s]: unknown group, did you mean "
                             "[%s%s]?", text, group->name,
                             group->named ? " NAME" : "");
}

bool config_entry_open(Config *self, const char *text,
                       const ConfigGroup **ret_group, void **ret_object,
                       GError **error)
{
    g_autofree char *kind = NULL, *name = NULL;
    const ConfigGroup *group;
    void *object = self;

    config_scan_split_group(text, &kind, &name);
    group = config_table_find_group(kind);
    if (!group) {
        return complain_unknown_group(text, kind, error);
    }
    if (!group->named && name) {
        return config_value_fail(error, "[%.100s]: got a name, expected [%s] "
                                 "alone", text, kind);
    }
    if (group->named && (!name || !config_value_is_name(name))) {
        return config_value_fail(error, "[%.100s]: got %s, expected [%s NAME] "
                                 "with %s", text,
                                 name ? "this name" : "no name", kind,
                                 CONFIG_VALUE_NAME_RULE);
    }
    if (group->named) {
        object = config_entry_find(self, group, name);
        if (!object && config_entry_get_list(self, group)->len >=
                       CONFIG_MAX_OBJECTS) {
            return config_value_fail(error, "[%.100s]: got one more, expected "
                                     "at most %u", text, CONFIG_MAX_OBJECTS);
        }
        object = object ? object : add_object(self, group, name);
    }
    *ret_group = group;
    *ret_object = object;
    return true;
}

bool config_entry_set(const ConfigGroup *group, void *object,
                      const char *text, const char *name, const char *value,
                      GError **error)
{
    const ConfigKey *key = config_table_find_key(group, name);
    g_autofree char *whole = NULL;

    if (!key) {
        const char *nearest = config_table_suggest_key(group, name);

        return config_value_fail(error, "[%.100s] %.100s: unknown key%s%s%s",
                                 text, name, nearest ? ", did you mean '" : "",
                                 nearest ? nearest : "", nearest ? "'?" : "");
    }
    if (key->type == CONFIG_VALUE_RATE_SCHEDULE) {
        /* The window stands in the name, behind what the table has. */
        whole = g_strconcat(name + strlen(key->name), "=", value, NULL);
        value = whole;
    }
    if (!config_value_parse(key, value, object, error)) {
        g_prefix_error(error, "[%.100s] %.100s: ", text, name);
        return false;
    }
    return true;
}
