/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/vmdesc.c - the sections of the description are looked for one after the
 * other by name and instance: what lies between two (a section that is not
 * described) is passed over.
 */
#include "daemon/vmdesc.h"

#include <string.h>
#include "qmp/framer.h"
#include "qmp/message.h"
#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/ramblock.h"

enum {
    SECTION_EOF = 0x00,
    SECTION_SUBSECTION = 0x05,
    SECTION_VMDESCRIPTION = 0x06,
    SECTION_FOOTER = 0x7e,

    DESCRIPTION_MAX = 8 * 1024 * 1024,
    BEFORE_NAME = 6,        /* type, section id, length of the name */
    BEHIND_NAME = 8,        /* instance, version */
    FOOTER_SIZE = 5,
    SHOWN_MAX = 64,         /* bytes of a buffer that are shown */
    ELEMENTS_MAX = 256,     /* of an array, likewise */
    MISSES_MAX = 64,        /* sections that are not there: each costs a search */
};

struct Vmdesc {
    const uint8_t *buf;
    size_t devices_len;     /* bytes of buf before the description */
    size_t len;
    JsonObject *root;
};

typedef struct {
    const uint8_t *buf;
    size_t pos, len;
} Cursor;

/* ---- finding it --------------------------------------------------------------------- */

static bool find_description(const uint8_t *buf, size_t len, size_t *ret_pos)
{
    size_t most = MIN(len, (size_t)DESCRIPTION_MAX);

    for (size_t size = 2; size + 6 <= most; size++) {
        const uint8_t *p = buf + len - size - 6;

        if (p[0] == SECTION_EOF && p[1] == SECTION_VMDESCRIPTION &&
            bytes_get_be32(p + 2) == size && p[6] == '{') {
            *ret_pos = p - buf;
            return true;
        }
    }
    return false;
}

static JsonObject *parse(const uint8_t *text, size_t len, GError **error)
{
    g_autoptr(QmpFramer) framer = qmp_framer_new(len);
    JsonObject *object = NULL;

    qmp_framer_feed(framer, text, len);
    if (!qmp_framer_next(framer, &object, error)) {
        return NULL;
    }
    if (!object) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_TRUNCATED,
                    "got an unfinished object");
    }
    return object;
}

Vmdesc *vmdesc_new(const uint8_t *buf, size_t len, GError **error)
{
    Vmdesc *self;
    JsonObject *root;
    size_t pos;

    if (!find_description(buf, len, &pos)) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
                    "the stream has no description at its end");
        return NULL;
    }
    root = parse(buf + pos + 6, len - pos - 6, error);
    if (!root) {
        g_prefix_error(error, "the description at the stream's end: ");
        return NULL;
    }
    self = g_new0(Vmdesc, 1);
    self->buf = buf;
    self->devices_len = pos;
    self->len = len;
    self->root = root;
    return self;
}

void vmdesc_free(Vmdesc *self)
{
    if (self) {
        json_object_unref(self->root);
        g_free(self);
    }
}

/* ---- fields -------------------------------------------------------------------------- */

static JsonObject *get_element(JsonArray *array, unsigned i)
{
    JsonNode *node = json_array_get_element(array, i);

    return JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static char *get_name(JsonObject *object, const char *member)
{
    const char *name = qmp_message_get_string(object, member);

    return ramblock_name_escape(name ? name : "?", name ? strlen(name) : 1);
}

static uint64_t get_be(const uint8_t *p, size_t size)
{
    uint64_t value = 0;

    for (size_t i = 0; i < size; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

static JsonNode *number_node(const char *type, const uint8_t *p, size_t size)
{
    JsonNode *node = json_node_new(JSON_NODE_VALUE);
    uint64_t value = get_be(p, size);

    if (strcmp(type, "bool") == 0) {
        json_node_set_boolean(node, value != 0);
    } else if (g_str_has_prefix(type, "int") && size < 8 &&
               value >> (8 * size - 1)) {
        json_node_set_int(node, (int64_t)(value | UINT64_MAX << (8 * size)));
    } else {
        json_node_set_int(node, (int64_t)value);
    }
    return node;
}

static JsonNode *bytes_node(const uint8_t *p, size_t size)
{
    g_autoptr(GString) text = g_string_new(NULL);
    JsonNode *node = json_node_new(JSON_NODE_VALUE);

    for (size_t i = 0; i < MIN(size, (size_t)SHOWN_MAX); i++) {
        g_string_append_printf(text, "%02x", p[i]);
    }
    if (size > SHOWN_MAX) {
        g_string_append_printf(text, "... (%zu bytes)", size);
    }
    json_node_set_string(node, text->str);
    return node;
}

static bool is_number(const char *type, size_t size)
{
    return size > 0 && size <= 8 &&
           (g_str_has_prefix(type, "int") || g_str_has_prefix(type, "uint") ||
            strcmp(type, "bool") == 0 || strcmp(type, "timer") == 0);
}

static bool walk_fields(Cursor *cursor, JsonObject *desc, JsonObject *values);

static JsonNode *struct_node(const Cursor *at, size_t size, JsonObject *desc)
{
    Cursor inner = { at->buf, at->pos, at->pos + size };
    JsonObject *values = json_object_new();
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    /* What does not fit its own description shows up to there. */
    (void)!walk_fields(&inner, desc, values);
    json_node_take_object(node, values);
    return node;
}

static JsonNode *value_node(const Cursor *at, size_t size, JsonObject *field)
{
    const char *type = qmp_message_get_string(field, "type");
    JsonObject *inner = qmp_message_get_object(field, "struct");

    if (inner) {
        return struct_node(at, size, inner);
    }
    return type && is_number(type, size)
           ? number_node(type, at->buf + at->pos, size)
           : bytes_node(at->buf + at->pos, size);
}

/* Elements of an array have one entry each, which `index` numbers, or one for all. */
static char *name_value(JsonObject *field, int64_t element, int64_t n)
{
    g_autofree char *name = get_name(field, "name");
    int64_t index;

    if (qmp_message_get_int(field, "index", &index)) {
        return g_strdup_printf("%s[%" G_GINT64_FORMAT "]", name, index);
    }
    return n > 1 ? g_strdup_printf("%s[%" G_GINT64_FORMAT "]", name, element)
                 : g_steal_pointer(&name);
}

static bool walk_field(Cursor *cursor, JsonObject *field, JsonObject *values)
{
    int64_t size = 0, n = 1;

    if (!qmp_message_get_int(field, "size", &size)) {
        return false;
    }
    qmp_message_get_int(field, "array_len", &n);
    if (size < 0 || n < 0 ||
        (size > 0 && n > (int64_t)(cursor->len - cursor->pos) / size)) {
        return false;
    }
    for (int64_t i = 0; values && size > 0 && i < MIN(n, ELEMENTS_MAX); i++) {
        g_autofree char *name = name_value(field, i, n);
        Cursor at = { cursor->buf, cursor->pos + i * size, cursor->len };

        json_object_set_member(values, name, value_node(&at, size, field));
    }
    cursor->pos += size * n;
    return true;
}

static bool walk_subsection(Cursor *cursor, JsonObject *desc,
                            JsonObject *values)
{
    const char *name = qmp_message_get_string(desc, "vmsd_name");
    size_t len = name ? strlen(name) : 0;
    const uint8_t *p = cursor->buf + cursor->pos;
    JsonObject *inner = NULL;

    if (len == 0 || cursor->len - cursor->pos < 6 + len ||
        p[0] != SECTION_SUBSECTION || p[1] != len ||
        memcmp(p + 2, name, len) != 0) {
        return false;
    }
    cursor->pos += 6 + len;
    if (values) {
        g_autofree char *plain = get_name(desc, "vmsd_name");

        inner = json_object_new();
        json_object_set_object_member(values, plain, inner);
    }
    return walk_fields(cursor, desc, inner);
}

/* Move over what @desc describes; false: it is not that. */
static bool walk_fields(Cursor *cursor, JsonObject *desc, JsonObject *values)
{
    JsonArray *fields = qmp_message_get_array(desc, "fields");
    JsonArray *subsections = qmp_message_get_array(desc, "subsections");

    for (unsigned i = 0; fields && i < json_array_get_length(fields); i++) {
        JsonObject *field = get_element(fields, i);

        if (!field || !walk_field(cursor, field, values)) {
            return false;
        }
    }
    for (unsigned i = 0;
         subsections && i < json_array_get_length(subsections); i++) {
        JsonObject *subsection = get_element(subsections, i);

        if (!subsection || !walk_subsection(cursor, subsection, values)) {
            return false;
        }
    }
    return true;
}

/* ---- sections ------------------------------------------------------------------------ */

/* The name of the section of @device, from @pos on. */
static const uint8_t *find_section(const Vmdesc *self, size_t pos,
                                   JsonObject *device)
{
    const char *name = qmp_message_get_string(device, "name");
    size_t len = name ? strlen(name) : 0;
    const uint8_t *p = self->buf + pos, *end = self->buf + self->devices_len;
    int64_t instance = 0;

    qmp_message_get_int(device, "instance_id", &instance);
    while (len > 0 && len < 256 && (size_t)(end - p) >= len + BEHIND_NAME &&
           (p = memmem(p, end - p, name, len))) {
        if ((size_t)(end - p) >= len + BEHIND_NAME &&
            bytes_get_be32(p + len) == (uint32_t)instance &&
            (p == self->buf || p[-1] == len)) {
            return p;
        }
        p++;
    }
    return NULL;
}

static void add_section(JsonArray *list, JsonObject *device, uint64_t bytes,
                        JsonObject *values)
{
    g_autofree char *name = get_name(device, "name");
    JsonObject *section = json_object_new();
    int64_t instance = 0;

    qmp_message_get_int(device, "instance_id", &instance);
    json_object_set_string_member(section, "name", name);
    json_object_set_int_member(section, "instance", instance);
    json_object_set_int_member(section, "bytes", bytes);
    if (values) {
        json_object_set_object_member(section, "fields", values);
    }
    json_array_add_object_element(list, section);
}

/* False: it is not there, or is not what is described.  *@pos: where the next
 * may begin. */
static bool list_section(const Vmdesc *self, size_t *pos, JsonObject *device,
                         bool with_values, JsonArray *list)
{
    const uint8_t *name = find_section(self, *pos, device);
    JsonObject *values = with_values ? json_object_new() : NULL;
    size_t begin, len;
    Cursor cursor;

    if (!name) {
        g_clear_pointer(&values, json_object_unref);
        return false;
    }
    len = strlen(qmp_message_get_string(device, "name"));
    begin = name - self->buf;
    cursor = (Cursor) { self->buf, begin + len + BEHIND_NAME,
                        self->devices_len };
    begin -= MIN(begin - *pos, (size_t)BEFORE_NAME);
    *pos = begin + len;
    if (!walk_fields(&cursor, device, values)) {
        g_clear_pointer(&values, json_object_unref);
        return false;
    }
    if (cursor.len - cursor.pos >= FOOTER_SIZE &&
        cursor.buf[cursor.pos] == SECTION_FOOTER) {
        cursor.pos += FOOTER_SIZE;
    }
    add_section(list, device, cursor.pos - begin, values);
    *pos = cursor.pos;
    return true;
}

static JsonArray *list(const Vmdesc *self, bool with_values)
{
    JsonArray *devices = qmp_message_get_array(self->root, "devices");
    JsonArray *sections = json_array_new();
    JsonObject *last = json_object_new();
    unsigned misses = 0;
    size_t pos = 0;

    for (unsigned i = 0; devices && misses < MISSES_MAX &&
                         i < json_array_get_length(devices); i++) {
        JsonObject *device = get_element(devices, i);

        if (!device ||
            !list_section(self, &pos, device, with_values, sections)) {
            misses++;
        }
    }
    json_object_set_string_member(last, "name", "vmdesc");
    json_object_set_int_member(last, "instance", 0);
    json_object_set_int_member(last, "bytes", self->len - self->devices_len - 1);
    json_array_add_object_element(sections, last);
    return sections;
}

JsonArray *vmdesc_list_sections(const Vmdesc *self)
{
    return list(self, false);
}

JsonArray *vmdesc_list_values(const Vmdesc *self)
{
    return list(self, true);
}
