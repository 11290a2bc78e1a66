/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files and directories of recorded streams; xz(1) unpacks what is packed. */
#include "daemon/client-capture-private.h"

#include <gio/gio.h>
#include <string.h>
#include "wire/multifd.h"

static void free_channel(void *data)
{
    CaptureChannel *channel = data;

    g_bytes_unref(channel->bytes);
    g_free(channel);
}

void client_capture_unload(CaptureFiles *files)
{
    g_clear_pointer(&files->main, g_bytes_unref);
    g_ptr_array_unref(files->channels);
    g_free(files);
}

void client_capture_add_channel(CaptureFiles *files, CaptureChannel channel)
{
    g_ptr_array_add(files->channels, g_memdup2(&channel, sizeof(channel)));
}

static GBytes *unpack(const char *path, GError **error)
{
    g_autoptr(GSubprocess) xz = g_subprocess_new(
        G_SUBPROCESS_FLAGS_STDOUT_PIPE, error, "xz", "-dc", "--", path, NULL);
    g_autoptr(GBytes) bytes = NULL;

    if (!xz || !g_subprocess_communicate(xz, NULL, NULL, &bytes, NULL, error)) {
        return NULL;
    }
    if (!g_subprocess_get_successful(xz)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "%s: xz cannot unpack it", path);
        return NULL;
    }
    return g_steal_pointer(&bytes);
}

static GBytes *load(const char *path, GError **error)
{
    GMappedFile *file;
    GBytes *bytes;

    if (g_str_has_suffix(path, ".xz")) {
        return unpack(path, error);
    }
    file = g_mapped_file_new(path, FALSE, error);
    if (!file) {
        return NULL;
    }
    bytes = g_mapped_file_get_bytes(file);
    g_mapped_file_unref(file);
    return bytes;
}

/* *ret NULL without an error: there is no such file. */
static bool load_member(const char *directory, const char *name, GBytes **ret,
                        GError **error)
{
    g_autofree char *plain = g_build_filename(directory, name, NULL);
    g_autofree char *packed = g_strconcat(plain, ".xz", NULL);
    bool is_plain = g_file_test(plain, G_FILE_TEST_EXISTS);

    *ret = NULL;
    if (!is_plain && !g_file_test(packed, G_FILE_TEST_EXISTS)) {
        return true;
    }
    *ret = load(is_plain ? plain : packed, error);
    return *ret != NULL;
}

static bool load_directory(CaptureFiles *files, const char *path, GError **error)
{
    if (!load_member(path, "main.c2s", &files->main, error)) {
        return false;
    }
    if (!files->main) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    "%s: got a directory without main.c2s, expected a capture",
                    path);
        return false;
    }
    for (unsigned id = 0; id < MULTIFD_CHANNELS_MAX; id++) {
        g_autofree char *name = g_strdup_printf("mfd%u.c2s", id);
        GBytes *bytes;

        if (!load_member(path, name, &bytes, error)) {
            return false;
        }
        if (bytes) {
            client_capture_add_channel(files, (CaptureChannel) {
                .id = id, .bytes = bytes, .has_init = true,
            });
        }
    }
    return true;
}

static bool is_recording(GBytes *bytes)
{
    static const uint8_t magic[] = { 0x0a, 0x0d, 0x0d, 0x0a };
    gsize len;
    const uint8_t *data = g_bytes_get_data(bytes, &len);

    return len >= sizeof(magic) && memcmp(data, magic, sizeof(magic)) == 0;
}

static bool load_file(CaptureFiles *files, const char *path, GError **error)
{
    g_autoptr(GBytes) bytes = load(path, error);

    if (!bytes) {
        return false;
    }
    if (is_recording(bytes)) {
        return client_capture_load_recording(files, bytes, error);
    }
    files->main = g_steal_pointer(&bytes);
    return true;
}

CaptureFiles *client_capture_load(const char *path, GError **error)
{
    g_autoptr(CaptureFiles) files = g_new0(CaptureFiles, 1);

    files->channels = g_ptr_array_new_with_free_func(free_channel);
    if (!(g_file_test(path, G_FILE_TEST_IS_DIR)
          ? load_directory(files, path, error)
          : load_file(files, path, error))) {
        return NULL;
    }
    return g_steal_pointer(&files);
}
