/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device sections by their description.  A source writes both, and is not
 * trusted: every byte is damaged once, in buffers of exactly their size.
 */
#include "daemon/vmdesc.h"

#include <string.h>

#define FIELDS \
    "\"fields\":[{\"name\":\"a\",\"type\":\"uint16\",\"size\":2}," \
    "{\"name\":\"b\",\"type\":\"int32\",\"size\":4}," \
    "{\"name\":\"c\",\"type\":\"uint8\",\"size\":1,\"array_len\":3}," \
    "{\"name\":\"s\",\"type\":\"struct\",\"size\":1,\"struct\":{\"fields\":" \
    "[{\"name\":\"in\",\"type\":\"bool\",\"size\":1}]}}]," \
    "\"subsections\":[{\"vmsd_name\":\"d/x\",\"version\":1,\"fields\":" \
    "[{\"name\":\"z\",\"type\":\"buffer\",\"size\":2}]}]"

static const char description[] =
    "{\"devices\":[{\"name\":\"d\",\"instance_id\":1," FIELDS "},"
    "{\"name\":\"gone\",\"instance_id\":0,\"fields\":[]},"
    "{\"name\":\"d\",\"instance_id\":2," FIELDS "}]}";

static void append_section(GByteArray *to, uint8_t instance)
{
    const uint8_t section[] = {
        0x04, 0, 0, 0, 5, 1, 'd', 0, 0, 0, instance, 0, 0, 0, 1,
        0x12, 0x34, 0xff, 0xff, 0xff, 0xfe, 7, 8, 9, 1,
        0x05, 3, 'd', '/', 'x', 0, 0, 0, 1, 0xca, 0xfe,
        0x7e, 0, 0, 0, 5,
    };

    g_byte_array_append(to, section, sizeof(section));
}

static GByteArray *sample(void)
{
    GByteArray *all = g_byte_array_new();
    uint8_t end[] = { 0x00, 0x06, 0, 0, 0, 0 };

    append_section(all, 1);
    /* Of a section that is not described. */
    g_byte_array_append(all, (const uint8_t *)"\x04\0\0\0\7what", 9);
    append_section(all, 2);
    end[4] = (sizeof(description) - 1) >> 8;
    end[5] = (sizeof(description) - 1) & 0xff;
    g_byte_array_append(all, end, sizeof(end));
    g_byte_array_append(all, (const uint8_t *)description,
                        sizeof(description) - 1);
    return all;
}

static void test_values(void)
{
    g_autoptr(GByteArray) all = sample();
    g_autoptr(Vmdesc) vmdesc = vmdesc_new(all->data, all->len, NULL);
    g_autoptr(JsonArray) values = vmdesc_list_values(vmdesc);
    JsonObject *device, *fields;

    g_assert_cmpuint(json_array_get_length(values), ==, 3);
    for (unsigned i = 0; i < 2; i++) {
        device = json_array_get_object_element(values, i);
        fields = json_object_get_object_member(device, "fields");
        g_assert_cmpint(json_object_get_int_member(device, "instance"), ==,
                        i + 1);
        g_assert_cmpint(json_object_get_int_member(device, "bytes"), ==, 41);
        g_assert_cmpint(json_object_get_int_member(fields, "a"), ==, 0x1234);
        g_assert_cmpint(json_object_get_int_member(fields, "b"), ==, -2);
        g_assert_cmpint(json_object_get_int_member(fields, "c[2]"), ==, 9);
        g_assert_true(json_object_get_boolean_member(
            json_object_get_object_member(fields, "s"), "in"));
        g_assert_cmpstr(json_object_get_string_member(
            json_object_get_object_member(fields, "d/x"), "z"), ==, "cafe");
    }
}

static void read_copy(const uint8_t *buf, size_t len)
{
    g_autofree uint8_t *copy = g_memdup2(buf, len);
    g_autoptr(GError) error = NULL;
    g_autoptr(Vmdesc) vmdesc = vmdesc_new(copy, len, &error);

    g_assert_true((vmdesc == NULL) == (error != NULL));
    if (vmdesc) {
        json_array_unref(vmdesc_list_values(vmdesc));
    }
}

static void test_every_byte(void)
{
    static const uint8_t values[] = { 0, '9', '"', '{', 0x7e, 0xff };
    g_autoptr(GByteArray) all = sample();

    for (size_t at = 0; at < all->len; at++) {
        uint8_t was = all->data[at];

        for (unsigned i = 0; i < G_N_ELEMENTS(values); i++) {
            all->data[at] = values[i];
            read_copy(all->data, all->len);
        }
        all->data[at] = was;
    }
}

static void test_every_cut(void)
{
    g_autoptr(GByteArray) all = sample();

    for (size_t cut = 1; cut < all->len; cut++) {
        read_copy(all->data + cut, all->len - cut);
        read_copy(all->data, cut);
    }
}

/* A description that names thousands that are not there costs a few searches. */
static void test_many_misses(void)
{
    g_autoptr(GString) text = g_string_new("{\"devices\":[");
    g_autoptr(GByteArray) all = g_byte_array_new();
    g_autofree uint8_t *filling = g_malloc0(1024 * 1024);
    g_autoptr(Vmdesc) vmdesc = NULL;
    g_autoptr(JsonArray) sections = NULL;
    uint8_t end[] = { 0x00, 0x06, 0, 0, 0, 0 };
    int64_t begin_us = g_get_monotonic_time();

    for (unsigned i = 0; i < 20000; i++) {
        g_string_append(text, "{\"name\":\"n\",\"fields\":[]},");
    }
    g_string_append(text, "{}]}");
    end[2] = text->len >> 24;
    end[3] = text->len >> 16;
    end[4] = text->len >> 8;
    end[5] = text->len;
    g_byte_array_append(all, filling, 1024 * 1024);
    g_byte_array_append(all, end, sizeof(end));
    g_byte_array_append(all, (const uint8_t *)text->str, text->len);
    vmdesc = vmdesc_new(all->data, all->len, NULL);
    g_assert_nonnull(vmdesc);
    sections = vmdesc_list_sections(vmdesc);
    g_assert_cmpuint(json_array_get_length(sections), ==, 1);
    g_test_message("%" G_GINT64_FORMAT " us",
                   g_get_monotonic_time() - begin_us);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/vmdesc/values", test_values);
    g_test_add_func("/daemon/vmdesc/every-byte", test_every_byte);
    g_test_add_func("/daemon/vmdesc/every-cut", test_every_cut);
    g_test_add_func("/daemon/vmdesc/many-misses", test_many_misses);
    return g_test_run();
}
