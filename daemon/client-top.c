/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-top.h"

#include <inttypes.h>
#include <string.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "daemon/client-format.h"
#include "daemon/client-summary.h"
#include "daemon/client-table.h"
#include "daemon/units.h"

#define INTERVAL_US G_USEC_PER_SEC

static gboolean once;

const GOptionEntry client_top_entries[] = {
    { "once", 0, 0, G_OPTION_ARG_NONE, &once, "Show it once and end", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
};

/* ---- the text ---------------------------------------------------------------------- */

static bool runs(JsonObject *migration)
{
    return migration && !client_format_has(migration, "total-time-ms");
}

/* A daemon that is its own peer has an id twice: the roles differ. */
static JsonObject *find_same(JsonArray *before, JsonObject *migration)
{
    for (unsigned i = 0; i < client_format_get_length(before); i++) {
        JsonObject *other = client_format_object_at(before, i);

        if (other &&
            g_strcmp0(client_format_get_string(other, "id"),
                      client_format_get_string(migration, "id")) == 0 &&
            g_strcmp0(client_format_get_string(other, "role"),
                      client_format_get_string(migration, "role")) == 0) {
            return other;
        }
    }
    return NULL;
}

static char *format_share(JsonObject *migration)
{
    JsonObject *qemu = client_format_get_object(migration, "qemu");
    double total = (double)client_format_get_number(qemu, "ram-total");
    double left = (double)client_format_get_number(qemu, "ram-remaining");

    return total <= 0 ? g_strdup("-")
           : g_strdup_printf("%d %%", (int)(CLAMP(1 - left / total, 0, 1) * 100));
}

static char *format_ms(JsonObject *object, const char *member)
{
    JsonNode *node = client_format_has(object, member)
                     ? json_object_get_member(object, member) : NULL;

    return node && JSON_NODE_HOLDS_VALUE(node)
           ? g_strdup_printf("%.1f ms", json_node_get_double(node))
           : g_strdup("-");
}

static void add_migration(ClientTable *table, JsonObject *migration)
{
    g_autofree char *id = client_format_escape(client_format_get_string(
        migration, "id"));

    client_table_add(table, g_strndup(id, 8));
    client_table_add(table, client_format_escape(client_summary_get_subject(
        migration)));
    client_table_add_text(table, migration, "peer");
    client_table_add_text(table, migration, "state");
    client_table_add(table, format_share(migration));
    client_table_add_rate(table, migration, "rate");
    client_table_add(table, client_format_limit(client_format_get_number(
        migration, "rate-limit")));
    client_table_add_number(table, migration, "epochs");
    client_table_add_size(table, migration, "held-bytes");
    client_table_add_size(table, migration, "bytes-in");
    client_table_add_size(table, migration, "wire-bytes-out");
    client_table_add(table, format_ms(migration, "rtt-ms"));
    client_table_add(table, units_format_time(client_format_get_number(
        migration, "elapsed-ms")));
    client_table_end_row(table);
}

static char *format_growth(JsonObject *now, JsonObject *before,
                           int64_t elapsed_us)
{
    uint64_t new = client_format_get_number(now, "bytes");
    uint64_t old = client_format_get_number(before, "bytes");

    if (!before || elapsed_us <= 0 || new < old) {
        return g_strdup("-");
    }
    return units_format_rate((uint64_t)((double)(new - old) * G_USEC_PER_SEC /
                                        (double)elapsed_us));
}

static void add_channels(ClientTable *table, const char *kind, JsonArray *now,
                         JsonArray *before, int64_t elapsed_us)
{
    for (unsigned i = 0; i < client_format_get_length(now); i++) {
        JsonObject *channel = client_format_object_at(now, i);

        if (!channel) {
            continue;
        }
        client_table_add(table, g_strdup(kind));
        client_table_add_number(table, channel, "channel");
        client_table_add_number(table, channel, "packets");
        client_table_add_number(table, channel, "syncs");
        client_table_add_size(table, channel, "bytes");
        client_table_add(table, format_growth(channel, client_format_object_at(before, i),
                                              elapsed_us));
        client_table_add(table, format_ms(channel, "rtt-ms"));
        client_table_add_number(table, channel, "retransmits");
        client_table_add(table, g_strdup(!client_format_has(channel, "up") ? "-"
                                         : client_format_get_flag(channel, "up")
                                         ? "up" : "down"));
        client_table_end_row(table);
    }
}

static bool sends_lanes(JsonObject *migration)
{
    JsonObject *egress = client_format_get_object(migration, "egress");

    return g_strcmp0(client_format_get_string(egress, "kind"), "link") == 0;
}

static void append_preempt(GString *text, JsonObject *migration)
{
    uint64_t bytes = client_format_get_number(migration, "preempt-bytes");
    g_autofree char *size = units_format_size(bytes);

    if (bytes > 0) {
        g_string_append_printf(text, "preempt channel: %" PRIu64 " pages, %s\n",
                               client_format_get_number(migration, "preempt-pages"),
                               size);
    }
}

static void append_channels(GString *text, JsonObject *migration,
                            JsonObject *before, int64_t elapsed_us)
{
    static const char *const titles[] = {
        "", "CHANNEL", "PACKETS", "SYNCS", "BYTES", "RATE", "RTT",
        "RETRANSMITS", "STATE", NULL
    };
    g_autofree char *name = client_format_escape(client_summary_get_subject(
        migration));
    g_autofree char *title = g_strdup_printf("\n%s\n", name);
    ClientTable table;

    client_table_init(&table);
    add_channels(&table, "in", client_format_get_array(migration, "channels-in"),
                 before ? client_format_get_array(before, "channels-in") : NULL,
                 elapsed_us);
    add_channels(&table, sends_lanes(migration) ? "lane" : "out",
                 client_format_get_array(migration, "channels-out"),
                 before ? client_format_get_array(before, "channels-out") : NULL,
                 elapsed_us);
    client_table_append(&table, text, title, titles);
    append_preempt(text, migration);
}

char *client_top_to_string(JsonArray *now, JsonArray *before,
                           int64_t elapsed_us)
{
    static const char *const titles[] = {
        "ID", "VM/TUNNEL", "PEER", "STATE", "RAM", "RATE", "LIMIT", "EPOCH",
        "HELD", "IN", "OUT", "RTT", "TIME", NULL
    };
    GString *text = g_string_new(NULL);
    ClientTable table;
    unsigned n = 0;

    client_table_init(&table);
    for (unsigned i = 0; i < client_format_get_length(now); i++) {
        if (runs(client_format_object_at(now, i))) {
            add_migration(&table, client_format_object_at(now, i));
            n++;
        }
    }
    client_table_append(&table, text, "", titles);
    for (unsigned i = 0; i < client_format_get_length(now); i++) {
        JsonObject *migration = client_format_object_at(now, i);

        if (runs(migration)) {
            append_channels(text, migration, find_same(before, migration),
                            elapsed_us);
        }
    }
    if (n == 0) {
        g_string_append(text, "no migration runs\n");
    }
    return g_string_free(text, FALSE);
}

/* ---- the screen ---------------------------------------------------------------------- */

static bool is_terminal(void)
{
    const char *term = g_getenv("TERM");

    return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
}

/* As many lines and columns as there are, over what was there. */
static void redraw(const char *text)
{
    struct winsize size = { .ws_row = 24, .ws_col = 80 };
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < 2 ||
        size.ws_col < 2) {
        size = (struct winsize) { .ws_row = 24, .ws_col = 80 };
    }
    g_print("\033[H");
    for (unsigned i = 0; lines[i] && i + 1u < size.ws_row; i++) {
        g_autofree char *line = g_utf8_substring(lines[i], 0, MIN(
            g_utf8_strlen(lines[i], -1), size.ws_col - 1));

        g_print("%s\033[K\n", line);
    }
    g_print("\033[J");
}

static void show_text(JsonArray *now, JsonArray *before, int64_t elapsed_us)
{
    g_autoptr(GDateTime) time = g_date_time_new_now_local();
    g_autofree char *clock = g_date_time_format(time, "%T");
    g_autofree char *body = client_top_to_string(now, before, elapsed_us);
    g_autofree char *text = g_strdup_printf("%s  %s", clock, body);

    if (once) {
        g_print("%s", body);
    } else if (is_terminal()) {
        redraw(text);
    } else {
        g_print("%s\n%s\n", clock, body);
    }
}

static void show(ClientSession *session, JsonNode *now, JsonNode *before,
                 int64_t elapsed_us)
{
    if (session->json) {
        g_autofree char *line = client_format_json(now, once);

        g_print("%s\n", line);
    } else {
        show_text(json_node_get_array(now),
                  before ? json_node_get_array(before) : NULL, elapsed_us);
    }
    fflush(stdout);
}

ClientSessionExit client_top_run(ClientSession *session, char **args)
{
    g_autoptr(JsonNode) before = NULL;
    int64_t before_us = 0;
    bool more = true;

    (void)args;
    while (more) {
        g_autoptr(JsonNode) now = NULL;
        ClientSessionExit code = client_session_query(
            session, "query-migrations", NULL, JSON_NODE_ARRAY, &now);
        int64_t now_us = g_get_monotonic_time();

        if (code != CLIENT_SESSION_OK) {
            once = FALSE;
            return code;
        }
        show(session, now, before, now_us - before_us);
        g_clear_pointer(&before, json_node_unref);
        before = g_steal_pointer(&now);
        before_us = now_us;
        more = !once;
        if (more) {
            g_usleep(INTERVAL_US);
        }
    }
    once = FALSE;
    return CLIENT_SESSION_OK;
}
