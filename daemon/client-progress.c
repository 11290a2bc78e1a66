/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-progress.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "daemon/client-format.h"
#include "daemon/units.h"

#define DEFAULT_WIDTH 80u
#define MIN_BAR 8u
#define USUAL_BAR 20u       /* kept free before less important text */
#define MAX_BAR 30u
#define BAR_FRAME 3u        /* brackets and a space */
#define LINE_INTERVAL_US (5 * G_USEC_PER_SEC)

static bool get_share(JsonObject *migration, double *ret)
{
    JsonObject *qemu = client_format_get_object(migration, "qemu");
    double total = (double)client_format_get_number(qemu, "ram-total");
    double remaining = (double)client_format_get_number(qemu,
                                                        "ram-remaining");

    if (total <= 0) {
        return false;
    }
    *ret = CLAMP(1 - remaining / total, 0, 1);
    return true;
}

bool client_progress_estimate(JsonObject *migration, uint64_t *ret_ms)
{
    JsonObject *qemu = client_format_get_object(migration, "qemu");
    double remaining = (double)client_format_get_number(qemu, "ram-remaining");
    double rate = (double)client_format_get_number(migration, "rate");
    double dirtied =
        (double)client_format_get_number(qemu, "dirty-pages-rate") *
        (double)client_format_get_number(qemu, "page-size");
    double seconds;

    if (remaining <= 0 || rate <= dirtied) {
        return false;
    }
    seconds = remaining / (rate - dirtied);
    if (seconds > 99 * 3600) {
        return false;       /* that is "never", to everybody who waits */
    }
    *ret_ms = (uint64_t)(seconds * 1000);
    return true;
}

static char *format_bar(double share, unsigned width)
{
    GString *bar = g_string_new("[");

    for (unsigned i = 0; i < width; i++) {
        g_string_append_c(bar, i < share * width ? '#' : '.');
    }
    g_string_append_c(bar, ']');
    return g_string_free(bar, FALSE);
}

static void add(GPtrArray *parts, char *text)
{
    g_ptr_array_add(parts, text);
}

static void add_size(GPtrArray *parts, const char *before,
                     uint64_t bytes, const char *after)
{
    g_autofree char *size = units_format_size(bytes);

    add(parts, g_strconcat(before, size, after, NULL));
}

/* While nothing moves: why, and for how long it may last. */
static void add_outage(GPtrArray *parts, JsonObject *migration)
{
    JsonObject *link = client_format_get_object(migration, "link");
    uint64_t down_ms = client_format_get_number(link, "down-ms");
    uint64_t budget_ms = client_format_get_number(link, "budget-ms");
    g_autofree char *down = units_format_time(down_ms);
    g_autofree char *left = units_format_time(budget_ms - MIN(down_ms, budget_ms));

    if (g_strcmp0(client_format_get_string(link, "state"), "down") != 0) {
        return;
    }
    add(parts, budget_ms > 0
        ? g_strdup_printf("link down for %s (gives up in %s)", down, left)
        : g_strdup_printf("link down for %s", down));
}

/* What would go on for ever, and why. */
static void add_convergence(GPtrArray *parts, JsonObject *migration)
{
    JsonObject *convergence = client_format_get_object(migration,
                                                       "convergence");
    g_autofree char *written = units_format_rate(
        client_format_get_number(convergence, "dirty-rate"));
    g_autofree char *left = units_format_rate(
        client_format_get_number(convergence, "rate"));

    if (client_format_has(convergence, "converging") &&
        !client_format_get_flag(convergence, "converging") &&
        g_strcmp0(client_format_get_string(migration, "state"),
                  "active") == 0) {
        add(parts, g_strdup_printf("guest writes %s, %s leave: will not end",
                                   written, left));
    }
}

/* What there is to say, the most important first. */
static GPtrArray *collect(JsonObject *migration)
{
    GPtrArray *parts = g_ptr_array_new_with_free_func(g_free);
    JsonObject *qemu = client_format_get_object(migration, "qemu");
    const char *state = client_format_get_string(migration, "state");
    uint64_t lanes = client_format_get_number(
        client_format_get_object(migration, "link"), "lanes-used");
    uint64_t rounds = client_format_get_number(qemu, "dirty-sync-count");
    uint64_t ms;
    double share;

    if (get_share(migration, &share)) {
        /* Cut: 100 % is not said of what is not there. */
        add(parts, g_strdup_printf("%3d %%", (int)(share * 100)));
    }
    if (g_strcmp0(state, "active") != 0) {
        add(parts, client_format_escape(state));
    }
    add_outage(parts, migration);
    add_convergence(parts, migration);
    add(parts, units_format_rate(client_format_get_number(migration,
                                                          "rate")));
    /* Before QEMU knows how much there is, nothing being left says nothing. */
    if (client_format_get_number(qemu, "ram-total") > 0 &&
        client_format_has(qemu, "ram-remaining")) {
        add_size(parts, "", client_format_get_number(qemu, "ram-remaining"),
                 " left");
    }
    if (client_progress_estimate(migration, &ms)) {
        g_autofree char *time = units_format_time(ms);

        add(parts, g_strconcat("ETA ", time, NULL));
    }
    if (rounds > 0) {
        add(parts, g_strdup_printf("round %" PRIu64, rounds));
    }
    add_size(parts, "sent ", client_format_get_number(migration,
                                                      "wire-bytes-out"), "");
    if (lanes > 0) {
        add(parts, g_strdup_printf("on %" PRIu64 " lane%s", lanes,
                                   lanes == 1 ? "" : "s"));
    }
    add(parts, g_strdup_printf("epoch %" PRIu64,
                               client_format_get_number(migration,
                                                        "epochs")));
    return parts;
}

/* Append as many parts as fit; columns used. */
static unsigned join(GString *line, const GPtrArray *parts, unsigned width)
{
    unsigned used = 0;

    for (unsigned i = 0; i < parts->len; i++) {
        const char *part = g_ptr_array_index(parts, i);
        unsigned len = (unsigned)g_utf8_strlen(part, -1) + (i > 0 ? 2 : 0);

        if (i > 0 && used + len > width) {
            break;
        }
        g_string_append_printf(line, "%s%s", i > 0 ? "  " : "", part);
        used += len;
    }
    return used;
}

char *client_progress_to_string(JsonObject *migration, unsigned width)
{
    g_autoptr(GPtrArray) parts = collect(migration);
    g_autoptr(GString) line = g_string_new(NULL);
    g_autofree char *bar = NULL;
    unsigned reserved, used;
    double share;

    if (!get_share(migration, &share)) {
        join(line, parts, width);
        return g_strdup(line->str);
    }
    reserved = width >= 3 * USUAL_BAR ? USUAL_BAR + BAR_FRAME : 0;
    used = join(line, parts, width - reserved);
    if (used + BAR_FRAME + MIN_BAR > width) {
        return g_strdup(line->str);
    }
    bar = format_bar(share, MIN(width - used - BAR_FRAME, MAX_BAR));
    return g_strconcat(bar, " ", line->str, NULL);
}

static unsigned get_terminal_width(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) {
        return size.ws_col - 1u;    /* the last column may wrap */
    }
    return DEFAULT_WIDTH - 1;
}

void client_progress_init(ClientProgress *self, bool quiet)
{
    const char *term = g_getenv("TERM");

    *self = (ClientProgress) {
        .quiet = quiet,
        .terminal = isatty(STDERR_FILENO) && term &&
                    strcmp(term, "dumb") != 0,
    };
}

void client_progress_clear(ClientProgress *self)
{
    client_progress_erase(self);
    g_clear_pointer(&self->last_state, g_free);
}

/* Not on a terminal: a line when the state changes, and every few seconds. */
static void draw_line(ClientProgress *self, JsonObject *migration)
{
    const char *state = client_format_get_string(migration, "state");
    int64_t now_us = g_get_monotonic_time();
    g_autofree char *line = NULL;

    if (g_strcmp0(state, self->last_state) == 0 &&
        now_us - self->last_us < LINE_INTERVAL_US) {
        return;
    }
    g_free(self->last_state);
    self->last_state = g_strdup(state);
    self->last_us = now_us;
    line = client_progress_to_string(migration, 200);
    g_printerr("%s\n", line);
}

void client_progress_draw(ClientProgress *self, JsonObject *migration)
{
    g_autofree char *line = NULL;

    if (self->quiet) {
        return;
    }
    if (!self->terminal) {
        draw_line(self, migration);
        return;
    }
    line = client_progress_to_string(migration, get_terminal_width());
    g_printerr("\r%s\033[K", line);
    self->drawn = true;
}

void client_progress_erase(ClientProgress *self)
{
    if (self->drawn) {
        g_printerr("\r\033[K");
        self->drawn = false;
    }
}
