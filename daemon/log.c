/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

/* Our callers' lines would all be this file's. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define MAX_FIELDS 10u

static const struct {
    const char *name;
    int priority;           /* syslog's */
} levels[] = {
    [LOG_LEVEL_ERROR]   = { "error", LOG_ERR },
    [LOG_LEVEL_WARNING] = { "warning", LOG_WARNING },
    [LOG_LEVEL_INFO]    = { "info", LOG_INFO },
    [LOG_LEVEL_DEBUG]   = { "debug", LOG_DEBUG },
};
static_assert(G_N_ELEMENTS(levels) == LOG_LEVEL_DEBUG + 1,
              "a log level has no name");

static gint max_level = LOG_LEVEL_INFO;     /* atomic */
static bool to_journal;                     /* set once by log_init() */

/* systemd says which device and inode it connected us to; after a redirection
 * standard error is something else, and the variable is still there. */
static bool stderr_is_journal(void)
{
    const char *text = g_getenv("JOURNAL_STREAM");
    uint64_t device, inode;
    struct stat st;

    return text &&
           sscanf(text, "%" SCNu64 ":%" SCNu64, &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device &&
           st.st_ino == inode &&
           /* sd_journal_sendv() succeeds without a journal. */
           access(JOURNAL_SOCKET, W_OK) == 0;
}

static char *escape(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *line = g_string_sized_new(strlen(valid));

    for (const char *p = valid; *p; p++) {
        if (g_ascii_iscntrl(*p) && *p != '\t') {
            g_string_append_printf(line, "\\x%02x", (unsigned char)*p);
        } else {
            g_string_append_c(line, *p);
        }
    }
    return g_string_free(line, FALSE);
}

static void write_stderr(LogLevel level, const char *message)
{
    g_autofree char *line = g_strdup_printf("%s: %s\n", levels[level].name,
                                            message);
    const char *p = line;
    size_t left = strlen(line);

    /* One write, so that threads' lines do not mix; more only if it is cut. */
    while (left > 0) {
        ssize_t n = write(STDERR_FILENO, p, left);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        p += n;
        left -= (size_t)n;
    }
}

static bool write_journal(LogLevel level, const LogContext *context,
                          const char *message)
{
    const struct { const char *field, *value; } optional[] = {
        { "MULTIFERRY_MIGRATION", context ? context->migration : NULL },
        { "MULTIFERRY_VM", context ? context->vm : NULL },
        { "MULTIFERRY_UUID", context ? context->uuid : NULL },
        { "MULTIFERRY_PEER", context ? context->peer : NULL },
        { "MULTIFERRY_PHASE", context ? context->state : NULL },
        { "MULTIFERRY_CHANNEL", context ? context->channel : NULL },
        { "MESSAGE_ID", context ? log_event_get_id(context->event) : NULL },
    };
    char *fields[MAX_FIELDS];
    struct iovec iov[MAX_FIELDS];
    unsigned n = 0;
    int r;

    G_STATIC_ASSERT(G_N_ELEMENTS(optional) + 2 <= MAX_FIELDS);
    fields[n++] = g_strdup_printf("MESSAGE=%s", message);
    fields[n++] = g_strdup_printf("PRIORITY=%d", levels[level].priority);
    for (size_t i = 0; i < G_N_ELEMENTS(optional); i++) {
        if (optional[i].value) {
            g_autofree char *value = escape(optional[i].value);

            fields[n++] = g_strdup_printf("%s=%s", optional[i].field, value);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        iov[i] = (struct iovec){ fields[i], strlen(fields[i]) };
    }
    r = sd_journal_sendv(iov, (int)n);
    for (unsigned i = 0; i < n; i++) {
        g_free(fields[i]);
    }
    return r == 0;
}

static void emit(LogLevel level, const LogContext *context, const char *text)
{
    g_autofree char *message = escape(text);

    if (!to_journal || !write_journal(level, context, message)) {
        write_stderr(level, message);
    }
}

void log_message(LogLevel level, const LogContext *context,
                 const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    if ((gint)level > g_atomic_int_get(&max_level)) {
        return;
    }
    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    emit(level, context, text);
}

static LogLevel level_of_glib(GLogLevelFlags flags)
{
    if (flags & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL)) {
        return LOG_LEVEL_ERROR;
    }
    if (flags & G_LOG_LEVEL_WARNING) {
        return LOG_LEVEL_WARNING;
    }
    return flags & (G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO) ? LOG_LEVEL_INFO :
                                                              LOG_LEVEL_DEBUG;
}

/* A structured field's value is a string when its length is negative. */
static char *dup_field(const GLogField *field)
{
    return field->length < 0 ? g_strdup(field->value) :
                               g_strndup(field->value, (gsize)field->length);
}

static GLogWriterOutput write_glib(GLogLevelFlags flags,
                                   const GLogField *fields, gsize n_fields,
                                   gpointer user_data)
{
    g_autofree char *message = NULL, *domain = NULL;

    (void)user_data;
    for (gsize i = 0; i < n_fields; i++) {
        if (strcmp(fields[i].key, "MESSAGE") == 0 && !message) {
            message = dup_field(&fields[i]);
        } else if (strcmp(fields[i].key, "GLIB_DOMAIN") == 0 && !domain) {
            domain = dup_field(&fields[i]);
        }
    }
    log_message(level_of_glib(flags), NULL, "%s%s%s", domain ? domain : "",
                domain ? ": " : "", message ? message : "(no message)");
    return G_LOG_WRITER_HANDLED;
}

void log_init(LogLevel level)
{
    static gsize initialised;

    g_atomic_int_set(&max_level, (gint)level);
    if (g_once_init_enter(&initialised)) {
        to_journal = stderr_is_journal();
        /* GLib takes a writer only once in a process. */
        g_log_set_writer_func(write_glib, NULL, NULL);
        g_once_init_leave(&initialised, 1);
    }
}
