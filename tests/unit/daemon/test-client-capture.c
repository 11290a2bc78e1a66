/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Real migrations, recorded (tests/captures), as inspect counts them; and what it
 * says of streams that no daemon would take.
 *
 * MULTIFERRY_CAPTURES names the directory; without it, tests/captures.
 */
#include "daemon/client-capture.h"

#include <glib/gstdio.h>
#include <string.h>
#include "daemon/client-inspect.h"

static const char *const names[] = {
    "qemu72-none-2ch", "qemu72-zlib-3ch", "qemu100-none-2ch",
    "qemu100-zlib-3ch", "qemu100-legacy72-zstd-2ch", "qemu111-zstd-4ch",
    "qemu111-none-2ch-manyrounds", "qemu111-zlib-2ch-postcopy",
};

static char *capture_path(const char *name, const char *file)
{
    const char *root = g_getenv("MULTIFERRY_CAPTURES");

    return g_build_filename(root ? root : "tests/captures", name, file, NULL);
}

static bool can_load(const char *name)
{
    g_autofree char *path = capture_path(name, "expect.json");
    g_autofree char *xz = g_find_program_in_path("xz");

    if (!xz || !g_file_test(path, G_FILE_TEST_EXISTS)) {
        g_test_skip(xz ? "there are no captures: real streams not read"
                       : "xz is not installed: real streams not read");
        return false;
    }
    return true;
}

static void check_channels(JsonObject *got, JsonObject *expect)
{
    JsonArray *channels = json_object_get_array_member(got, "channels");
    JsonObject *wanted = json_object_get_object_member(expect, "chans");

    g_assert_cmpuint(json_array_get_length(channels), ==,
                     json_object_get_size(wanted));
    for (unsigned i = 0; i < json_array_get_length(channels); i++) {
        JsonObject *channel = json_array_get_object_element(channels, i);
        g_autofree char *id = g_strdup_printf("%u", i);
        JsonObject *want = json_object_get_object_member(wanted, id);

        g_assert_cmpint(json_object_get_int_member(channel, "packets"), ==,
                        json_object_get_int_member(want, "packets"));
        g_assert_cmpint(json_object_get_int_member(channel, "normal-pages"), ==,
                        json_object_get_int_member(want, "normal"));
        g_assert_cmpint(json_object_get_int_member(channel, "zero-pages"), ==,
                        json_object_get_int_member(want, "zero"));
        g_assert_cmpint(json_object_get_int_member(channel, "syncs"), ==,
                        json_object_get_int_member(expect, "syncs"));
    }
}

static void check_main(JsonObject *got, JsonObject *expect)
{
    JsonObject *main = json_object_get_object_member(got, "main");
    JsonObject *records = json_object_get_object_member(expect, "mainrec");

    g_assert_cmpint(json_object_get_int_member(main, "flushes"), ==,
                    json_object_get_int_member(expect, "flush"));
    g_assert_cmpint(json_object_get_int_member(main, "zero-records"), ==,
                    json_object_get_int_member(records, "zero"));
    g_assert_cmpint(json_object_get_int_member(main, "page-records"), ==,
                    json_object_get_int_member(records, "page"));
    g_assert_cmpint(json_object_get_int_member(got, "pages-on-main"), ==,
                    json_object_get_int_member(records, "page") +
                    json_object_get_int_member(records, "zero"));
}

/* Every byte from the first device section to the end is somebody's. */
static void check_devices(JsonObject *got)
{
    JsonObject *main = json_object_get_object_member(got, "main");
    JsonArray *sections = json_object_get_array_member(main, "sections");
    JsonArray *devices = json_object_get_array_member(got, "devices");
    int64_t bytes = json_object_get_int_member(main, "device-bytes");
    bool found = false;

    g_assert_cmpuint(json_array_get_length(sections), >=, 20);
    for (unsigned i = 0; i < json_array_get_length(sections); i++) {
        JsonObject *section = json_array_get_object_element(sections, i);

        bytes -= json_object_get_int_member(section, "bytes");
    }
    g_assert_cmpint(bytes, ==, 1);      /* EOF */
    for (unsigned i = 0; i < json_array_get_length(devices); i++) {
        JsonObject *device = json_array_get_object_element(devices, i);

        if (strcmp(json_object_get_string_member(device, "name"),
                   "globalstate") == 0) {
            JsonObject *fields = json_object_get_object_member(device, "fields");

            /* "running", its length with the NUL */
            g_assert_cmpint(json_object_get_int_member(fields, "size"), ==, 8);
            g_assert_true(g_str_has_prefix(json_object_get_string_member(
                fields, "runstate"), "72756e6e696e6700"));
            found = true;
        }
    }
    g_assert_true(found);
}

static void test_capture(const void *data)
{
    const char *name = data;
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(JsonObject) got = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL, *expect_path = NULL, *invalid = NULL;
    g_autofree char *text = NULL;
    JsonObject *expect;

    if (!can_load(name)) {
        return;
    }
    path = capture_path(name, NULL);
    expect_path = capture_path(name, "expect.json");
    g_assert_true(json_parser_load_from_file(parser, expect_path, &error));
    expect = json_node_get_object(json_parser_get_root(parser));
    got = client_capture_read(path, &invalid, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(invalid, ==, NULL);
    check_channels(got, expect);
    check_main(got, expect);
    if (!g_str_has_suffix(name, "postcopy")) {
        check_devices(got);
    }
    text = client_inspect_to_string(got, json_object_get_array_member(
        got, "channels"));
    g_assert_nonnull(strstr(text, "pc.ram"));
}

/* ---- what is wrong with it ------------------------------------------------------------ */

/* A capture unpacked into a directory of its own, where it may be damaged. */
static char *unpack(const char *name)
{
    static const char *const files[] = { "main.c2s", "mfd0.c2s", "mfd1.c2s" };
    char *to = g_dir_make_tmp("multiferry-capture-XXXXXX", NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *packed = g_strconcat(files[i], ".xz", NULL);
        g_autofree char *from = capture_path(name, packed);
        g_autofree char *command = g_strdup_printf("sh -c 'xz -dc %s > %s/%s'",
                                                   from, to, files[i]);
        int status;

        g_assert_true(g_spawn_command_line_sync(command, NULL, NULL, &status,
                                                NULL));
        g_assert_cmpint(status, ==, 0);
    }
    return to;
}

static void remove_all(const char *directory)
{
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(directory, name, NULL);

        g_assert_cmpint(g_unlink(path), ==, 0);
    }
    g_assert_cmpint(g_rmdir(directory), ==, 0);
}

static void damage(const char *directory, const char *file, size_t offset,
                   size_t keep)
{
    g_autofree char *path = g_build_filename(directory, file, NULL);
    g_autofree char *bytes = NULL;
    gsize len;

    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    bytes[offset] ^= 0x40;
    g_assert_true(g_file_set_contents(path, bytes, keep ? keep : len, NULL));
}

static char *get_invalid(const char *directory)
{
    g_autoptr(GError) error = NULL;
    char *invalid = NULL;
    JsonObject *got = client_capture_read(directory, &invalid, &error);

    g_assert_no_error(error);
    g_assert_nonnull(invalid);
    json_object_unref(got);
    return invalid;
}

/* A replay says what a daemon would have said. */
static void test_refuses(void)
{
    g_autofree char *directory = NULL, *magic = NULL, *cut = NULL;

    if (!can_load("qemu100-none-2ch")) {
        return;
    }
    directory = unpack("qemu100-none-2ch");
    damage(directory, "mfd1.c2s", 64, 0);
    magic = get_invalid(directory);
    g_assert_nonnull(strstr(magic, "channel 1 packet 0"));
    g_assert_nonnull(strstr(magic, "magic"));
    damage(directory, "mfd1.c2s", 64, 700);
    cut = get_invalid(directory);
    g_assert_nonnull(strstr(cut, "ends within a packet"));
    remove_all(directory);
}

static void test_no_stream(void)
{
    g_autofree char *directory = g_dir_make_tmp("multiferry-capture-XXXXXX",
                                                NULL);
    g_autofree char *file = g_build_filename(directory, "file", NULL);
    g_autofree char *invalid = NULL;
    g_autoptr(GError) error = NULL, missing = NULL;
    g_autoptr(JsonObject) got = NULL;

    g_assert_null(client_capture_read(directory, &invalid, &error));
    g_assert_nonnull(strstr(error->message, "main.c2s"));
    g_assert_null(client_capture_read(file, &invalid, &missing));
    g_assert_nonnull(missing);
    g_assert_true(g_file_set_contents(file, "no stream at all", -1, NULL));
    got = client_capture_read(file, &invalid, NULL);
    g_assert_nonnull(got);
    g_assert_nonnull(strstr(invalid, "QEVM"));
    remove_all(directory);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_strconcat("/daemon/client-capture/", names[i],
                                            NULL);

        g_test_add_data_func(path, names[i], test_capture);
    }
    g_test_add_func("/daemon/client-capture/refuses", test_refuses);
    g_test_add_func("/daemon/client-capture/no-stream", test_no_stream);
    return g_test_run();
}
