/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/history.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "daemon/log.h"

typedef struct {
    char *directory, *path, *old_path;
    History *history;
} Fixture;

static void begin(Fixture *self, uint64_t max_bytes)
{
    g_autoptr(GError) error = NULL;

    self->directory = g_dir_make_tmp("test-history-XXXXXX", NULL);
    self->path = g_build_filename(self->directory, "migrations.jsonl", NULL);
    self->old_path = g_build_filename(self->directory, "migrations.1.jsonl",
                                      NULL);
    self->history = history_new(self->directory, max_bytes, &error);
    g_assert_no_error(error);
}

static void end(Fixture *self)
{
    history_free(self->history);
    g_unlink(self->path);
    g_unlink(self->old_path);
    g_assert_cmpint(g_rmdir(self->directory), ==, 0);
    g_free(self->path);
    g_free(self->old_path);
    g_free(self->directory);
}

static void add(Fixture *self, unsigned number, const char *vm)
{
    g_autofree char *id = g_strdup_printf("m%u", number);
    JsonObject *migration = json_object_new();

    json_object_set_string_member(migration, "id", id);
    json_object_set_string_member(migration, "vm", vm);
    json_object_set_int_member(migration, "total-time-ms", 1500);
    json_object_set_array_member(migration, "channels-in", json_array_new());
    history_add(self->history, migration);
}

/* Ids, as "m3 m4". */
static char *read_ids(Fixture *self, const char *name, unsigned limit)
{
    JsonArray *found = history_read(self->history, name, limit);
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < json_array_get_length(found); i++) {
        JsonObject *entry = json_array_get_object_element(found, i);

        g_assert_false(json_object_has_member(entry, "channels-in"));
        g_assert_true(json_object_has_member(entry, "started"));
        g_string_append_printf(text, "%s%s", i ? " " : "",
                               json_object_get_string_member(entry, "id"));
    }
    json_array_unref(found);
    return g_string_free(text, FALSE);
}

static void assert_ids(Fixture *self, const char *name, unsigned limit,
                       const char *expected)
{
    g_autofree char *ids = read_ids(self, name, limit);

    g_assert_cmpstr(ids, ==, expected);
}

static void test_finds_by_name_and_number(void)
{
    Fixture f;

    begin(&f, 1 << 20);
    for (unsigned i = 0; i < 6; i++) {
        add(&f, i, i % 2 ? "web1" : "db1");
    }
    assert_ids(&f, NULL, 100, "m0 m1 m2 m3 m4 m5");
    assert_ids(&f, NULL, 2, "m4 m5");
    assert_ids(&f, "db1", 2, "m2 m4");
    assert_ids(&f, "m3", 100, "m3");
    assert_ids(&f, "web", 100, "");     /* a name, not the beginning of one */
    end(&f);
}

/* Never more than was asked for, and about half of it once it was full. */
static void test_keeps_between_half_and_all(void)
{
    enum { MAX = 4096 };
    GStatBuf now, old;
    Fixture f;

    begin(&f, MAX);
    for (unsigned i = 0; i < 200; i++) {
        uint64_t size = 0;

        add(&f, i, "web1");
        size += g_stat(f.path, &now) == 0 ? (uint64_t)now.st_size : 0;
        size += g_stat(f.old_path, &old) == 0 ? (uint64_t)old.st_size : 0;
        g_assert_cmpuint(size, <=, MAX);
        if (i > 50) {
            g_assert_cmpuint(size, >=, MAX / 2 - 256);
        }
    }
    assert_ids(&f, NULL, 2, "m198 m199");
    end(&f);
}

/* A crash, or a full disk, in the middle of a line: that one alone is lost. */
static void test_passes_over_cut_lines(void)
{
    g_autofree char *text = NULL;
    Fixture f;
    gsize len;

    begin(&f, 1 << 20);
    add(&f, 0, "web1");
    add(&f, 1, "web1");
    g_assert_true(g_file_get_contents(f.path, &text, &len, NULL));
    g_assert_cmpint(truncate(f.path, (off_t)len - 20), ==, 0);
    add(&f, 2, "web1");
    assert_ids(&f, NULL, 100, "m0 m2");
    end(&f);
}

static void test_survives_garbage(void)
{
    static const char garbage[] = "\n[]\n\"m0\"\n{\"id\": 7}\n\xff\xfe\n{{{\n";
    Fixture f;

    begin(&f, 1 << 20);
    g_assert_true(g_file_set_contents(f.path, garbage, sizeof(garbage) - 1,
                                      NULL));
    add(&f, 0, "web1");
    assert_ids(&f, "web1", 100, "m0");
    end(&f);
}

/* Somebody else's link must not make us write elsewhere; and once it is gone all
 * is well again. */
static void test_follows_no_link(void)
{
    Fixture f;

    begin(&f, 1 << 20);
    g_unlink(f.path);
    g_assert_cmpint(symlink("/nonexistent/target", f.path), ==, 0);
    add(&f, 0, "web1");
    g_unlink(f.path);
    add(&f, 1, "web1");
    assert_ids(&f, NULL, 100, "m1");
    end(&f);
}

static void test_says_when_there_is_no_place(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(history_new("/proc/none/such", 1 << 20, &error));
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, "/proc/none/such"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init(LOG_LEVEL_ERROR);
    g_test_add_func("/daemon/history/finds-by-name-and-number",
                    test_finds_by_name_and_number);
    g_test_add_func("/daemon/history/keeps-between-half-and-all",
                    test_keeps_between_half_and_all);
    g_test_add_func("/daemon/history/passes-over-cut-lines",
                    test_passes_over_cut_lines);
    g_test_add_func("/daemon/history/survives-garbage", test_survives_garbage);
    g_test_add_func("/daemon/history/follows-no-link", test_follows_no_link);
    g_test_add_func("/daemon/history/says-when-there-is-no-place",
                    test_says_when_there_is_no_place);
    return g_test_run();
}
