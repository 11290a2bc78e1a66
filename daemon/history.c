/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/log.h"

#define FILE_NAME "migrations.jsonl"
#define OLD_FILE_NAME "migrations.1.jsonl"

/* A control client's queue has a bound; an answer must leave room in it. */
#define ANSWER_BYTES_MAX (512u * 1024)

struct History {
    char *path, *old_path;
    uint64_t max_bytes;

    GMutex lock;                /* guards the files too; held while they are
                                   read and written, never with another lock */
    bool failed;
};

/* ---- writing --------------------------------------------------------------------- */

static bool fail(const char *path, GError **error)
{
    int code = errno;

    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(code), "%s: %s",
                path, g_strerror(code));
    return false;
}

/* *ret_size: of the file; *ret_torn: its last line has no end. */
static int open_file(History *self, off_t *ret_size, bool *ret_torn,
                     GError **error)
{
    struct stat st;
    char last = '\n';
    int fd = open(self->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC |
                  O_NOFOLLOW, 0640);

    if (fd < 0 || fstat(fd, &st) < 0 ||
        (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) != 1)) {
        fail(self->path, error);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    *ret_size = st.st_size;
    *ret_torn = last != '\n';
    return fd;
}

static bool write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        text += n;
        len -= (size_t)n;
    }
    return true;
}

/* The file that is to have @len bytes more, at its end. */
static int open_for(History *self, size_t len, bool *ret_torn, GError **error)
{
    off_t size;
    int fd = open_file(self, &size, ret_torn, error);

    if (fd < 0 || size == 0 || (uint64_t)size + len <= self->max_bytes / 2) {
        return fd;
    }
    close(fd);
    if (rename(self->path, self->old_path) < 0) {
        fail(self->old_path, error);
        return -1;
    }
    return open_file(self, &size, ret_torn, error);
}

static bool write_line(History *self, const char *line, GError **error)
{
    g_autofree char *with_end = NULL;
    bool torn, ok;
    int fd = open_for(self, strlen(line) + 2, &torn, error);

    if (fd < 0) {
        return false;
    }
    with_end = g_strdup_printf("%s%s\n", torn ? "\n" : "", line);
    ok = write_all(fd, with_end, strlen(with_end)) || fail(self->path, error);
    close(fd);
    return ok;
}

static char *format_time(int64_t real_us)
{
    g_autoptr(GDateTime) when =
        g_date_time_new_from_unix_utc(real_us / G_USEC_PER_SEC);

    return g_date_time_format_iso8601(when);
}

/* What is only of use while it runs, or too much to keep. */
static void trim(JsonObject *migration)
{
    static const char *const members[] = {
        "channels-in", "channels-out", "held-bytes", "rate", "elapsed-ms",
        "memory-limit",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(members); i++) {
        if (json_object_has_member(migration, members[i])) {
            json_object_remove_member(migration, members[i]);
        }
    }
}

static void add_dates(JsonObject *migration)
{
    int64_t now_us = g_get_real_time();
    int64_t total_us = 1000 * json_object_get_int_member_with_default(
        migration, "total-time-ms", 0);
    g_autofree char *started = format_time(now_us - total_us);
    g_autofree char *ended = format_time(now_us);

    json_object_set_string_member(migration, "started", started);
    json_object_set_string_member(migration, "ended", ended);
    json_object_set_string_member(migration, "version", MULTIFERRY_VERSION);
}

void history_add(History *self, JsonObject *migration)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    g_autoptr(GError) error = NULL;
    g_autofree char *line = NULL;
    bool ok, news;

    trim(migration);
    add_dates(migration);
    json_node_take_object(node, migration);
    line = json_to_string(node, FALSE);

    g_mutex_lock(&self->lock);
    ok = write_line(self, line, &error);
    news = ok == self->failed;
    self->failed = !ok;
    g_mutex_unlock(&self->lock);
    if (!ok && news) {
        log_error(LOG_ABOUT(LOG_EVENT_HISTORY_FAILED), "history: %s; finished "
                  "migrations are not kept until this works again",
                  error->message);
    } else if (news) {
        log_info(LOG_ABOUT(LOG_EVENT_HISTORY_FAILED), "history: %s is written "
                 "again", self->path);
    }
}

/* ---- reading -------------------------------------------------------------------- */

static bool matches(JsonObject *migration, const char *name)
{
    static const char *const members[] = { "id", "vm", "tunnel" };

    for (unsigned i = 0; name && i < G_N_ELEMENTS(members); i++) {
        if (g_strcmp0(json_object_get_string_member_with_default(
                          migration, members[i], NULL), name) == 0) {
            return true;
        }
    }
    return !name;
}

static JsonNode *parse(const char *line, const char *name)
{
    /* Other lines need not be parsed. */
    JsonNode *node = !name || strstr(line, name)
                     ? json_from_string(line, NULL) : NULL;

    if (node && (!JSON_NODE_HOLDS_OBJECT(node) ||
                 !matches(json_node_get_object(node), name))) {
        g_clear_pointer(&node, json_node_unref);
    }
    return node;
}

/* Newest first, into @found, until it is enough. */
static void collect(const char *path, const char *name, unsigned limit,
                    GPtrArray *found, size_t *bytes)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return;
    }
    lines = g_strsplit(text, "\n", -1);
    for (unsigned i = g_strv_length(lines); i > 0 && found->len < limit; i--) {
        JsonNode *node = *lines[i - 1] ? parse(lines[i - 1], name) : NULL;

        if (!node) {
            continue;
        }
        *bytes += strlen(lines[i - 1]);
        if (*bytes > ANSWER_BYTES_MAX) {
            json_node_unref(node);
            return;
        }
        g_ptr_array_add(found, node);
    }
}

JsonArray *history_read(History *self, const char *name, unsigned limit)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new();
    JsonArray *ret = json_array_new();
    size_t bytes = 0;

    g_mutex_lock(&self->lock);
    collect(self->path, name, limit, found, &bytes);
    collect(self->old_path, name, limit, found, &bytes);
    g_mutex_unlock(&self->lock);
    for (unsigned i = found->len; i > 0; i--) {
        json_array_add_element(ret, g_ptr_array_index(found, i - 1));
    }
    return ret;
}

/* ---- life ----------------------------------------------------------------------- */

History *history_new(const char *directory, uint64_t max_bytes, GError **error)
{
    History *self;
    off_t size;
    bool torn;
    int fd;

    if (g_mkdir_with_parents(directory, 0750) < 0) {
        fail(directory, error);
        return NULL;
    }
    self = g_new0(History, 1);
    self->path = g_build_filename(directory, FILE_NAME, NULL);
    self->old_path = g_build_filename(directory, OLD_FILE_NAME, NULL);
    self->max_bytes = max_bytes;
    g_mutex_init(&self->lock);
    fd = open_file(self, &size, &torn, error);
    if (fd < 0) {
        history_free(self);
        return NULL;
    }
    close(fd);
    return self;
}

void history_free(History *self)
{
    if (!self) {
        return;
    }
    g_mutex_clear(&self->lock);
    g_free(self->path);
    g_free(self->old_path);
    g_free(self);
}
