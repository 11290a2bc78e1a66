/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/qemu-info.c - what is known of a QEMU, and its form for the peer
 *
 * A peer is authenticated but not trusted: what it says ends up in messages
 * and comparisons, so its strings are bounded and plain before they are kept.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/qemu.h"
#include "daemon/qemu-json.h"

enum {
    TEXT_MAX = 255,             /* bytes of any string */
    CAPABILITIES_MAX = 256,     /* 11.1 has about 25 */
    VCPUS_MAX = 65536,
};

void qemu_info_free(QemuInfo *self)
{
    if (!self) {
        return;
    }
    g_free(self->version);
    g_free(self->uuid);
    g_free(self->name);
    g_free(self->arch);
    g_free(self->machine);
    g_free(self->run_state);
    g_free(self->migration);
    g_free(self->blocked_reasons);
    g_clear_pointer(&self->capabilities, g_hash_table_unref);
    g_clear_pointer(&self->parameters, json_object_unref);
    g_free(self);
}

bool qemu_info_is_version(const QemuInfo *self, unsigned major, unsigned minor)
{
    unsigned has_major, has_minor;

    if (sscanf(self->version, "%u.%u", &has_major, &has_minor) != 2) {
        return false;
    }
    return has_major > major || (has_major == major && has_minor >= minor);
}

bool qemu_info_has_capability(const QemuInfo *self, const char *name)
{
    return g_hash_table_contains(self->capabilities, name);
}

bool qemu_info_is_capability_on(const QemuInfo *self, const char *name)
{
    return g_hash_table_lookup(self->capabilities, name) != NULL;
}

uint64_t qemu_info_get_page_size(const QemuInfo *self)
{
    /*
     * query-migrate's page-size in 7.2; target/.../cpu-param.h, TARGET_PAGE_BITS and
     * where it varies TARGET_PAGE_BITS_MIN.  What is more than that minimum is in
     * the stream (aarch64's virt machine has 4096).  loongarch64 has 16384 up to 8.1;
     * what it has later was not looked at, and an error of the reader will say it.
     */
    static const struct {
        const char *arch;
        uint64_t page_size;
    } others[] = {
        { "aarch64", 1024 }, { "arm", 1024 }, { "alpha", 8192 },
        { "cris", 8192 }, { "or1k", 8192 }, { "sparc64", 8192 },
        { "tricore", 16384 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        if (g_str_equal(self->arch, others[i].arch)) {
            return others[i].page_size;
        }
    }
    return g_str_equal(self->arch, "loongarch64") &&
           !qemu_info_is_version(self, 8, 2) ? 16384 : 0;
}

JsonObject *qemu_info_to_json(const QemuInfo *self)
{
    JsonObject *object = json_object_new();
    JsonObject *capabilities = json_object_new();
    GHashTableIter iter;
    gpointer name, on;

    g_hash_table_iter_init(&iter, self->capabilities);
    while (g_hash_table_iter_next(&iter, &name, &on)) {
        json_object_set_boolean_member(capabilities, name, on != NULL);
    }
    json_object_set_string_member(object, "uuid", self->uuid);
    json_object_set_string_member(object, "arch", self->arch);
    json_object_set_string_member(object, "machine", self->machine);
    json_object_set_int_member(object, "ram-size", self->ram_bytes);
    json_object_set_int_member(object, "vcpus", self->vcpus);
    json_object_set_string_member(object, "version", self->version);
    json_object_set_string_member(object, "name", self->name);
    json_object_set_string_member(object, "run-state", self->run_state);
    json_object_set_object_member(object, "capabilities", capabilities);
    return object;
}

/* ---- from a peer ----------------------------------------------------------- */

static bool is_plain(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (!g_ascii_isalnum(*p) && !strchr("._+-", *p)) {
            return false;
        }
    }
    return true;
}

/* A word such as 'pc-i440fx-7.2'; without @required it may be absent or "". */
static bool parse_word(JsonObject *object, const char *member, bool required,
                       char **ret, GError **error)
{
    const char *value = qemu_json_find_string(object, member);

    if (!value || !*value) {
        if (!required) {
            *ret = g_strdup("");
            return true;
        }
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER,
                    "peer's QEMU: got no '%s', expected a string", member);
        return false;
    }
    if (strlen(value) > TEXT_MAX || !is_plain(value)) {
        g_autofree char *shown = g_strndup(value, 64);
        g_autofree char *escaped = g_strescape(shown, NULL);

        g_set_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER,
                    "peer's QEMU: got %s '%s' (%zu bytes), allowed up to %d "
                    "letters, digits and ._+-", member, escaped, strlen(value),
                    TEXT_MAX);
        return false;
    }
    *ret = g_strdup(value);
    return true;
}

static bool parse_uuid(JsonObject *object, char **ret, GError **error)
{
    g_autofree char *text = NULL;

    if (!parse_word(object, "uuid", true, &text, error)) {
        return false;
    }
    if (!g_uuid_string_is_valid(text)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER,
                    "peer's QEMU: got uuid '%s', expected 36 characters as in "
                    "RFC 4122", text);
        return false;
    }
    *ret = g_ascii_strdown(text, -1);
    return true;
}

/* Free text of the operator: any, but bounded, and escaped at once. */
static bool parse_name(JsonObject *object, char **ret, GError **error)
{
    const char *value = qemu_json_find_string(object, "name");

    if (value && strlen(value) > TEXT_MAX) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER,
                    "peer's QEMU: got a name of %zu bytes, allowed up to %d",
                    strlen(value), TEXT_MAX);
        return false;
    }
    *ret = value ? g_strescape(value, NULL) : g_strdup("");
    return true;
}

static bool parse_number(JsonObject *object, const char *member, int64_t max,
                         int64_t *ret, GError **error)
{
    int64_t value = qemu_json_get_int(object, member);

    if (value < 1 || value > max) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER,
                    "peer's QEMU: got %s %" G_GINT64_FORMAT ", allowed 1 to %"
                    G_GINT64_FORMAT, member, value, max);
        return false;
    }
    *ret = value;
    return true;
}

static bool parse_capabilities(JsonObject *object, GHashTable *ret,
                               GError **error)
{
    JsonObject *list = qemu_json_find_object(object, "capabilities");
    JsonObjectIter iter;
    const char *name;

    if (!list) {
        return true;
    }
    if (json_object_get_size(list) > CAPABILITIES_MAX) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_ANSWER,
                    "peer's QEMU: got %u capabilities, allowed up to %d",
                    json_object_get_size(list), CAPABILITIES_MAX);
        return false;
    }
    json_object_iter_init(&iter, list);
    while (json_object_iter_next(&iter, &name, NULL)) {
        /* A name that we cannot know does not matter to us. */
        if (strlen(name) <= TEXT_MAX && is_plain(name)) {
            g_hash_table_insert(ret, g_strdup(name),
                                GINT_TO_POINTER(qemu_json_get_bool(list,
                                                                   name)));
        }
    }
    return true;
}

QemuInfo *qemu_info_from_json(JsonObject *object, GError **error)
{
    g_autoptr(QemuInfo) self = g_new0(QemuInfo, 1);
    int64_t ram_bytes, vcpus;

    self->capabilities = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                               NULL);
    self->parameters = json_object_new();
    self->migration = g_strdup("none");
    if (!parse_uuid(object, &self->uuid, error) ||
        !parse_word(object, "arch", true, &self->arch, error) ||
        !parse_word(object, "machine", true, &self->machine, error) ||
        !parse_word(object, "version", false, &self->version, error) ||
        !parse_word(object, "run-state", false, &self->run_state, error) ||
        !parse_name(object, &self->name, error) ||
        !parse_number(object, "ram-size", G_MAXINT64, &ram_bytes, error) ||
        !parse_number(object, "vcpus", VCPUS_MAX, &vcpus, error) ||
        !parse_capabilities(object, self->capabilities, error)) {
        return NULL;
    }
    self->ram_bytes = ram_bytes;
    self->vcpus = vcpus;
    self->running = g_str_equal(self->run_state, "running");
    return g_steal_pointer(&self);
}
