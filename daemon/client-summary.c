/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-summary.h"

#include <inttypes.h>
#include "daemon/client-format.h"
#include "daemon/units.h"

static void add(GString *text, const char *title, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static void add(GString *text, const char *title, const char *format, ...)
{
    va_list ap;

    g_string_append_printf(text, "  %-13s ", title);
    va_start(ap, format);
    g_string_append_vprintf(text, format, ap);
    va_end(ap);
    g_string_append_c(text, '\n');
}

const char *client_summary_get_subject(JsonObject *migration)
{
    const char *vm = client_format_get_string(migration, "vm");
    const char *tunnel = client_format_get_string(migration, "tunnel");

    return vm ? vm : tunnel ? tunnel : "-";
}

static void add_escaped(GString *text, const char *title,
                        JsonObject *migration, const char *member)
{
    const char *value = client_format_get_string(migration, member);

    if (value) {
        g_autofree char *escaped = client_format_escape(value);

        add(text, title, "%s", escaped);
    }
}

static void add_times(GString *text, JsonObject *migration)
{
    bool ended = client_format_has(migration, "total-time-ms");
    g_autofree char *total = units_format_time(client_format_get_number(
        migration, ended ? "total-time-ms" : "elapsed-ms"));
    g_autofree char *downtime = units_format_time(
        client_format_get_number(migration, "downtime-ms"));
    g_autofree char *qemu = units_format_time(
        client_format_get_number(migration, "qemu-downtime-ms"));

    add(text, ended ? "total time" : "elapsed", "%s", total);
    if (client_format_has(migration, "downtime-ms")) {
        bool both = client_format_has(migration, "qemu-downtime-ms");

        add(text, "downtime", "%s%s%s%s", downtime,
            both ? " (QEMU says " : "", both ? qemu : "", both ? ")" : "");
    } else if (client_format_has(migration, "qemu-downtime-ms")) {
        add(text, "downtime", "%s, says QEMU", qemu);
    }
}

/* Over the whole time when it has ended, else now. */
static void add_rate(GString *text, JsonObject *migration)
{
    uint64_t total_ms = client_format_get_number(migration, "total-time-ms");
    double bytes = (double)client_format_get_number(migration,
                                                    "wire-bytes-out");
    g_autofree char *average = units_format_rate(
        total_ms > 0 ? (uint64_t)(bytes * 1000 / (double)total_ms) : 0);
    g_autofree char *now = units_format_rate(
        client_format_get_number(migration, "rate"));
    uint64_t bytes_per_s = client_format_get_number(migration, "rate-limit");
    g_autofree char *limit = units_format_rate(bytes_per_s);

    add(text, total_ms > 0 ? "average rate" : "rate", "%s (%s%s)",
        total_ms > 0 ? average : now, bytes_per_s > 0 ? "limit " : "no limit",
        bytes_per_s > 0 ? limit : "");
}

/* Pages that were not in packets: in postcopy, and of a source without multifd. */
static void add_postcopy(GString *text, JsonObject *migration)
{
    uint64_t on_main = client_format_get_number(migration, "main-pages");
    uint64_t on_preempt = client_format_get_number(migration, "preempt-pages");

    if (on_main + on_preempt > 0) {
        add(text, "other pages", "%" PRIu64 " on the main channel, %" PRIu64
            " on the preempt channel", on_main, on_preempt);
    }
}

static void add_bytes(GString *text, JsonObject *migration)
{
    g_autofree char *in = units_format_size(
        client_format_get_number(migration, "bytes-in"));
    g_autofree char *out = units_format_size(
        client_format_get_number(migration, "bytes-out"));
    g_autofree char *wire = units_format_size(
        client_format_get_number(migration, "wire-bytes-out"));
    g_autofree char *main_bytes = units_format_size(
        client_format_get_number(migration, "main-bytes"));

    add(text, "bytes in", "%s (%s on the main channel)", in, main_bytes);
    add(text, "bytes out", "%s (%s on the wire)", out, wire);
    add_rate(text, migration);
    add(text, "epochs", "%" PRIu64,
        client_format_get_number(migration, "epochs"));
    add(text, "packets", "%" PRIu64 " (%" PRIu64 " normal and %" PRIu64
        " zero pages)", client_format_get_number(migration, "packets"),
        client_format_get_number(migration, "normal-pages"),
        client_format_get_number(migration, "zero-pages"));
    add_postcopy(text, migration);
}

static void add_cpu(GString *text, JsonObject *migration)
{
    char seconds[G_ASCII_DTOSTR_BUF_SIZE], per_gib[G_ASCII_DTOSTR_BUF_SIZE];
    double ms = (double)client_format_get_number(migration, "cpu-ms");

    if (!client_format_has(migration, "cpu-seconds-per-gib")) {
        return;
    }
    g_ascii_formatd(seconds, sizeof(seconds), "%.2f", ms / 1000);
    g_ascii_formatd(per_gib, sizeof(per_gib), "%.2f",
                    json_object_get_double_member(migration,
                                                  "cpu-seconds-per-gib"));
    add(text, "cpu", "%s s here (%s s for a GiB)", seconds, per_gib);
}

static void add_channels(GString *text, const char *title,
                         JsonObject *migration, const char *member)
{
    JsonArray *channels = client_format_get_array(migration, member);
    unsigned n = channels ? json_array_get_length(channels) : 0;
    g_autoptr(GString) counts = g_string_new(NULL);

    if (n == 0) {
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        JsonNode *node = json_array_get_element(channels, i);
        JsonObject *channel = JSON_NODE_HOLDS_OBJECT(node) ?
                              json_node_get_object(node) : NULL;

        g_string_append_printf(counts, " %" PRIu64,
                               client_format_get_number(channel, "packets"));
    }
    add(text, title, "%u with%s packets", n, counts->str);
}

/* How pages come in or go out: "qemu, 4 channels", "link, 8 lanes". */
static void add_end(GString *text, const char *title, JsonObject *migration)
{
    JsonObject *end = client_format_get_object(migration, title);
    g_autofree char *kind = NULL;
    uint64_t channels, lanes;
    g_autoptr(GString) counts = g_string_new(NULL);

    if (!end) {
        return;
    }
    kind = client_format_escape(client_format_get_string(end, "kind"));
    channels = client_format_get_number(end, "channels");
    lanes = client_format_get_number(end, "lanes");
    if (channels > 0) {
        g_string_append_printf(counts, ", %" PRIu64 " channel%s", channels,
                               channels == 1 ? "" : "s");
    }
    if (lanes > 0) {
        g_string_append_printf(counts, ", %" PRIu64 " lane%s", lanes,
                               lanes == 1 ? "" : "s");
    }
    add(text, title, "%s%s", kind, counts->str);
}

char *client_summary_to_string(JsonObject *migration)
{
    GString *text = g_string_new(NULL);
    g_autofree char *id = client_format_escape(
        client_format_get_string(migration, "id"));
    g_autofree char *subject = client_format_escape(
        client_summary_get_subject(migration));
    g_autofree char *state = client_format_escape(
        client_format_get_string(migration, "state"));
    const char *peer = client_format_get_string(migration, "peer");
    const char *role = client_format_get_string(migration, "role");
    g_autofree char *other = client_format_escape(peer);

    g_string_append_printf(text, "migration %s: %s%s%s: %s\n", id, subject,
                           !peer ? "" : g_strcmp0(role, "destination") == 0 ?
                           " from " : " to ", peer ? other : "", state);
    add_escaped(text, "error", migration, "error");
    add_escaped(text, "warning", migration, "warning");
    add_escaped(text, "uuid", migration, "uuid");
    add_times(text, migration);
    add_bytes(text, migration);
    add_cpu(text, migration);
    add_end(text, "ingress", migration);
    add_end(text, "egress", migration);
    add_channels(text, "channels in", migration, "channels-in");
    add_channels(text, "channels out", migration, "channels-out");
    return g_string_free(text, FALSE);
}
