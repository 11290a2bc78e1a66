/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/config-diff.h"

#include "daemon/config-entry.h"
#include "daemon/link-path.h"

/* What others know us by, where they find us, and what was opened for good. */
static const struct {
    const char *group, *key;    /* NULL: all of the group's */
} fixed[] = {
    { "daemon", "name" },
    { "daemon", "control" },
    { "daemon", "control-group" },
    { "daemon", "metrics-http" },
    { "daemon", "runtime-directory" },
    { "daemon", "state-directory" },
    { "daemon", "history" },
    { "listen", NULL },
    { "tls", NULL },
};

static bool is_fixed(const char *group, const char *key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++) {
        if (strcmp(fixed[i].group, group) == 0 &&
            (!fixed[i].key || strcmp(fixed[i].key, key) == 0)) {
            return true;
        }
    }
    return false;
}

static void change_free(void *data)
{
    ConfigChange *self = data;

    g_free(self->group);
    g_free(self->key);
    g_free(self->from);
    g_free(self->to);
    g_free(self);
}

static ConfigChange *add(GPtrArray *list, const char *group, const char *name,
                         const char *key)
{
    ConfigChange *change = g_new0(ConfigChange, 1);

    change->group = name ? g_strconcat(group, " ", name, NULL) : g_strdup(group);
    change->key = g_strdup(key);
    g_ptr_array_add(list, change);
    return change;
}

/* All windows in one text: one of them alone says little. */
static char *describe_schedule(const ConfigKey *key, const void *object)
{
    const RateSchedule *schedule = *(RateSchedule *const *)
        ((const char *)object + key->offset);
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < rate_schedule_get_count(schedule); i++) {
        g_autofree char *window = NULL, *rate = NULL;

        rate_schedule_describe(schedule, i, &window, &rate);
        g_string_append_printf(text, "%s%s=%s", i ? ", " : "", window, rate);
    }
    return g_string_free(text, text->len == 0);
}

static char *describe(const ConfigKey *key, const void *object)
{
    return key->type == CONFIG_VALUE_RATE_SCHEDULE
           ? describe_schedule(key, object)
           : config_value_to_string(key, object);
}

static void compare_object(GPtrArray *list, const ConfigGroup *group,
                           const char *name, const void *from, const void *to)
{
    for (size_t i = 0; i < group->n_keys; i++) {
        const ConfigKey *key = &group->keys[i];
        g_autofree char *before = describe(key, from);
        g_autofree char *after = describe(key, to);

        if (g_strcmp0(before, after) != 0) {
            ConfigChange *change = add(list, group->name, name, key->name);

            change->from = g_steal_pointer(&before);
            change->to = g_steal_pointer(&after);
            change->needs_restart = is_fixed(group->name, key->name);
        }
    }
}

static void compare_named(GPtrArray *list, const ConfigGroup *group,
                          const Config *from, const Config *to)
{
    GPtrArray *before = config_entry_get_list(from, group);
    GPtrArray *after = config_entry_get_list(to, group);

    for (unsigned i = 0; i < before->len; i++) {
        const void *old = g_ptr_array_index(before, i);
        const char *name = config_entry_get_name(old);
        const void *new = config_entry_find(to, group, name);

        if (new) {
            compare_object(list, group, name, old, new);
        } else {
            add(list, group->name, name, NULL)->from = g_strdup(name);
        }
    }
    for (unsigned i = 0; i < after->len; i++) {
        const char *name = config_entry_get_name(g_ptr_array_index(after, i));

        if (!config_entry_find(from, group, name)) {
            add(list, group->name, name, NULL)->to = g_strdup(name);
        }
    }
}

/* The link's socket was made for Multipath TCP, or not. */
static void fix_mptcp(GPtrArray *list, const Config *from, const Config *to)
{
    if (!to->listen_link ||
        link_path_wants_mptcp(from->peers) == link_path_wants_mptcp(to->peers)) {
        return;
    }
    for (unsigned i = 0; i < list->len; i++) {
        ConfigChange *change = g_ptr_array_index(list, i);

        if (g_str_has_prefix(change->group, "peer ") &&
            (!change->key || strcmp(change->key, "mptcp") == 0)) {
            change->needs_restart = true;
        }
    }
}

GPtrArray *config_diff(const Config *from, const Config *to)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(change_free);

    for (size_t i = 0; i < config_table_n_groups; i++) {
        const ConfigGroup *group = &config_table_groups[i];

        if (group->named) {
            compare_named(list, group, from, to);
        } else {
            compare_object(list, group, NULL, from, to);
        }
    }
    fix_mptcp(list, from, to);
    return list;
}

static char *quote(const char *value)
{
    return value ? g_strdup_printf("'%s'", value) : g_strdup("nothing");
}

char *config_change_to_string(const ConfigChange *self)
{
    g_autofree char *from = quote(self->from);
    g_autofree char *to = quote(self->to);

    return self->key
           ? g_strdup_printf("[%s] %s: from %s to %s", self->group, self->key,
                             from, to)
           : g_strdup_printf("[%s] was %s", self->group,
                             self->to ? "added" : "removed");
}
