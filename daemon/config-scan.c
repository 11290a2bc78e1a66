/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/config-scan.h"

#include <string.h>
#include "daemon/config-value.h"

typedef struct {
    GHashTable *groups;     /* "kind name" */
    GHashTable *keys;       /* of the present group */
    char *group;            /* the present one; NULL before the first */
} Scan;

void config_scan_split_group(const char *text, char **ret_kind,
                             char **ret_name)
{
    g_autofree char *copy = g_strstrip(g_strdup(text));
    size_t len = strcspn(copy, " \t");

    *ret_kind = g_strndup(copy, len);
    *ret_name = copy[len] ? g_strdup(g_strchug(copy + len)) : NULL;
}

static bool scan_group(Scan *self, const char *line, GError **error)
{
    g_autofree char *text = NULL, *kind = NULL, *name = NULL;
    const char *end = strchr(line, ']');

    if (!end) {
        return config_value_fail(error, "got a group without its ']'");
    }
    text = g_strndup(line + 1, (size_t)(end - line - 1));
    config_scan_split_group(text, &kind, &name);
    g_free(self->group);
    self->group = g_strjoin(name ? " " : "", kind, name ? name : "", NULL);
    g_hash_table_remove_all(self->keys);
    if (!g_hash_table_add(self->groups, g_strdup(self->group))) {
        return config_value_fail(error, "got [%s] twice, expected it once",
                                 self->group);
    }
    return true;
}

static bool scan_key(Scan *self, const char *line, GError **error)
{
    const char *end = strchr(line, '=');
    g_autofree char *key = NULL;

    if (!end) {
        return config_value_fail(error, "got neither a [group], a key=value "
                                 "nor a # comment");
    }
    if (!self->group) {
        return config_value_fail(error, "got a key before the first [group]");
    }
    key = g_strstrip(g_strndup(line, (size_t)(end - line)));
    if (g_hash_table_contains(self->keys, key)) {
        return config_value_fail(error, "[%s]: got '%.80s' twice, expected it "
                                 "once", self->group, key);
    }
    g_hash_table_add(self->keys, g_steal_pointer(&key));
    return true;
}

static bool scan_line(Scan *self, const char *start, size_t len,
                      GError **error)
{
    g_autofree char *line = NULL;

    if (memchr(start, '\0', len)) {
        return config_value_fail(error, "got a NUL byte, expected text");
    }
    line = g_strstrip(g_strndup(start, len));
    if (line[0] == '\0' || line[0] == '#') {
        return true;
    }
    if (!g_utf8_validate(line, -1, NULL)) {
        return config_value_fail(error, "got bytes that are not UTF-8");
    }
    return line[0] == '[' ? scan_group(self, line, error) :
                            scan_key(self, line, error);
}

bool config_scan(const char *data, size_t len, GError **error)
{
    g_autoptr(GHashTable) groups = g_hash_table_new_full(g_str_hash,
                                                         g_str_equal, g_free,
                                                         NULL);
    g_autoptr(GHashTable) keys = g_hash_table_new_full(g_str_hash, g_str_equal,
                                                       g_free, NULL);
    Scan self = { .groups = groups, .keys = keys };
    bool good = true;

    for (unsigned number = 1; good && len > 0; number++) {
        const char *end = memchr(data, '\n', len);
        size_t line_len = end ? (size_t)(end - data) : len;

        good = scan_line(&self, data, line_len, error);
        if (!good) {
            g_prefix_error(error, "line %u: ", number);
        }
        data += end ? line_len + 1 : line_len;
        len -= end ? line_len + 1 : line_len;
    }
    g_free(self.group);
    return good;
}
