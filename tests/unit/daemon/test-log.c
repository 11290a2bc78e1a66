/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/log.h"

#include <unistd.h>

/* Standard error goes into a file while something is logged. */
typedef struct {
    int saved, file;
} Capture;

static void capture_begin(Capture *self)
{
    g_autofree char *path = g_strdup("/tmp/test-log-XXXXXX");

    self->file = g_mkstemp(path);
    g_assert_cmpint(self->file, >=, 0);
    unlink(path);
    self->saved = dup(STDERR_FILENO);
    g_assert_cmpint(dup2(self->file, STDERR_FILENO), >=, 0);
}

static char *capture_end(Capture *self)
{
    char text[4096];
    ssize_t len;

    g_assert_cmpint(dup2(self->saved, STDERR_FILENO), >=, 0);
    len = pread(self->file, text, sizeof(text), 0);
    g_assert_cmpint((int)len, >=, 0);
    close(self->saved);
    close(self->file);
    return g_strndup(text, (gsize)len);
}

static void test_a_line_per_message(void)
{
    const LogContext context = { .migration = "m1", .peer = "dc2" };
    g_autofree char *text = NULL;
    Capture capture;

    capture_begin(&capture);
    log_info(&context, "migration %s: state setup", "m1");
    log_error(NULL, "listener: got %d", 3);
    text = capture_end(&capture);
    g_assert_cmpstr(text, ==, "info: migration m1: state setup\n"
                    "error: listener: got 3\n");
}

static void test_level_hides_what_is_below(void)
{
    g_autofree char *text = NULL;
    Capture capture;

    capture_begin(&capture);
    log_debug(NULL, "unseen");
    log_init(LOG_LEVEL_DEBUG);
    log_debug(NULL, "seen");
    log_init(LOG_LEVEL_ERROR);
    log_warning(NULL, "unseen");
    log_init(LOG_LEVEL_INFO);
    text = capture_end(&capture);
    g_assert_cmpstr(text, ==, "debug: seen\n");
}

/* A peer's bytes in a message must not look like a message of ours. */
static void test_peers_cannot_forge_lines(void)
{
    g_autofree char *text = NULL;
    Capture capture;

    capture_begin(&capture);
    log_warning(NULL, "got '%s'", "a\nerror: forged\r\x1b[2J\xff");
    text = capture_end(&capture);
    g_assert_cmpstr(text, ==, "warning: got 'a\\x0aerror: forged\\x0d\\x1b[2J"
                    "\xef\xbf\xbd'\n");
}

static void test_glib_messages_come_too(void)
{
    g_autofree char *text = NULL;
    Capture capture;

    /* As in the daemon: GTest has a handler of its own, which in GLib 2.84 calls no writer. */
    g_log_set_default_handler(g_log_default_handler, NULL);
    capture_begin(&capture);
    g_log("GLib-GIO", G_LOG_LEVEL_MESSAGE, "something\nhappened");
    g_log_structured("Mine", G_LOG_LEVEL_INFO, "MESSAGE", "all %s", "is well");
    g_log("GLib", G_LOG_LEVEL_DEBUG, "unseen");
    text = capture_end(&capture);
    g_assert_cmpstr(text, ==, "info: GLib-GIO: something\\x0ahappened\n"
                    "info: Mine: all is well\n");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* As after "multiferryd 2>file" in a unit: set, but no longer true. */
    g_setenv("JOURNAL_STREAM", "1:1", TRUE);
    log_init(LOG_LEVEL_INFO);
    g_test_add_func("/daemon/log/a-line-per-message", test_a_line_per_message);
    g_test_add_func("/daemon/log/level-hides-what-is-below",
                    test_level_hides_what_is_below);
    g_test_add_func("/daemon/log/peers-cannot-forge-lines",
                    test_peers_cannot_forge_lines);
    g_test_add_func("/daemon/log/glib-messages-come-too",
                    test_glib_messages_come_too);
    return g_test_run();
}
