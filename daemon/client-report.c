/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-report.h"

#include <inttypes.h>
#include <string.h>
#include "daemon/client-chart.h"
#include "daemon/client-format.h"
#include "daemon/client-summary.h"
#include "daemon/units.h"

enum { EPOCHS_SHOWN = 64, HISTORY_MAX = 4096 };

static const char style[] =
    "body{font:15px/1.45 sans-serif;color:#111;background:#fff;max-width:64em;"
    "margin:1.5em auto;padding:0 1em}\n"
    "h1{font-size:1.5em;margin-bottom:0}h2{font-size:1.15em;margin:1.6em 0 .4em;"
    "border-bottom:1px solid #bbb}h3{font-size:1em;margin:1em 0 .2em}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.15em .9em .15em 0;text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}th{font-weight:600}\n"
    "tbody tr{border-top:1px solid #ddd}.error{color:#a00000;font-weight:600}"
    ".note,.none{color:#444}\n"
    "svg{width:100%;height:auto;font:12px sans-serif;display:block}\n"
    "svg .y{text-anchor:end}svg .x{text-anchor:middle}\n"
    ".grid,.frame{stroke:#ccc;fill:none}.line{fill:none;stroke-width:1.6}\n"
    ".in{stroke:#0b57a4}.wire{stroke:#b34700}.limit{stroke:#666;"
    "stroke-dasharray:6 4}.dirty{stroke:#8a0f6a;stroke-dasharray:2 3}"
    ".again{stroke:#8a0f6a}.held{stroke:#2d6a1f}.span{fill:#0b57a4}\n"
    ".heat1{fill:#fde8c8}.heat2{fill:#fbd09a}.heat3{fill:#f7b267}"
    ".heat4{fill:#ef9040}.heat5{fill:#db6b22}.heat6{fill:#b84a12}"
    ".heat7{fill:#8a2f0c}.heat8{fill:#571a06}\n"
    "@media print{body{font-size:10.5pt;max-width:none;margin:0}"
    "h2{break-after:avoid}svg,table,h3{break-inside:avoid}h3{break-after:avoid}"
    "*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n"
    "@page{margin:15mm}\n";

/* ---- pieces ---------------------------------------------------------------------------- */

/* ASCII only: what is printed goes through the terminal's character set. */
static char *escape(const char *text)
{
    g_autofree char *plain = client_format_escape(text);
    g_autofree char *valid = g_utf8_make_valid(plain, -1);
    g_autofree char *markup = g_markup_escape_text(valid, -1);
    GString *ascii = g_string_new(NULL);

    for (const char *p = markup; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (c < 0x80) {
            g_string_append_c(ascii, (char)c);
        } else {
            g_string_append_printf(ascii, "&#%u;", c);
        }
    }
    return g_string_free(ascii, FALSE);
}

static void begin_section(GString *html, const char *title, const char *note)
{
    g_string_append_printf(html, "<section><h2>%s</h2>\n", title);
    if (note) {
        g_string_append_printf(html, "<p class=\"note\">%s</p>\n", note);
    }
}

static void end_section(GString *html)
{
    g_string_append(html, "</section>\n");
}

static void begin_table(GString *html, const char *const *titles)
{
    g_string_append(html, "<table><thead><tr>");
    for (unsigned i = 0; titles[i]; i++) {
        g_string_append_printf(html, "<th>%s</th>", titles[i]);
    }
    g_string_append(html, "</tr></thead><tbody>\n");
}

/* Takes @text, which is escaped. */
static void add_cell(GString *html, char *text)
{
    g_string_append_printf(html, "<td>%s</td>", text);
    g_free(text);
}

static void add_number(GString *html, JsonObject *object, const char *member)
{
    add_cell(html, client_format_has(object, member)
             ? g_strdup_printf("%" PRIu64, client_format_get_number(object,
                                                                    member))
             : g_strdup("-"));
}

static void add_ms(GString *html, JsonObject *object, const char *member)
{
    add_cell(html, client_format_has(object, member)
             ? g_strdup_printf("%.1f ms", client_format_get_double(object,
                                                                   member))
             : g_strdup("-"));
}

static void add_size(GString *html, JsonObject *object, const char *member)
{
    add_cell(html, units_format_size(client_format_get_number(object, member)));
}

static void end_table(GString *html)
{
    g_string_append(html, "</tbody></table>\n");
}

static void add_fact(GString *html, const char *name, char *value)
{
    g_string_append_printf(html, "<tr><td>%s</td>", name);
    add_cell(html, value);
    g_string_append(html, "</tr>\n");
}

/* ---- sections --------------------------------------------------------------------------- */

static void add_error(GString *html, JsonObject *migration, const char *member)
{
    const char *text = client_format_get_string(migration, member);

    if (text) {
        g_autofree char *plain = escape(text);

        g_string_append_printf(html, "<p class=\"error\">%s: %s</p>\n", member,
                               plain);
    }
}

static void add_head(GString *html, JsonObject *migration)
{
    g_autofree char *subject = escape(client_summary_get_subject(migration));
    g_autofree char *id = escape(client_format_get_string(migration, "id"));
    g_autofree char *state = escape(client_format_get_string(migration,
                                                             "state"));
    g_autofree char *role = escape(client_format_get_string(migration, "role"));
    g_autofree char *peer = escape(client_format_get_string(migration, "peer"));
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *date = g_date_time_format(now, "%F %T %z");

    g_string_append_printf(
        html, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
        "\n<title>Migration of %s</title>\n<style>\n%s</style></head>\n<body>\n"
        "<h1>Migration of %s: %s</h1>\n<p class=\"note\">%s, seen at the %s, "
        "peer %s; written on %s</p>\n", subject, style, subject, state, id, role,
        peer, date);
    add_error(html, migration, "error");
    add_error(html, migration, "warning");
}

static void add_times(GString *html, JsonObject *migration)
{
    bool ended = client_format_has(migration, "total-time-ms");

    add_fact(html, ended ? "total time" : "elapsed so far", units_format_time(
        client_format_get_number(migration, ended ? "total-time-ms"
                                                  : "elapsed-ms")));
    if (client_format_has(migration, "downtime-ms")) {
        add_fact(html, "downtime", units_format_time(client_format_get_number(
            migration, "downtime-ms")));
    }
    if (client_format_has(migration, "qemu-downtime-ms")) {
        add_fact(html, "downtime, says QEMU", units_format_time(
            client_format_get_number(migration, "qemu-downtime-ms")));
    }
}

static void add_summary(GString *html, JsonObject *migration,
                        JsonObject *traffic)
{
    static const char *const titles[] = { "", "", NULL };

    begin_section(html, "Summary", NULL);
    begin_table(html, titles);
    add_times(html, migration);
    add_fact(html, "guest memory", units_format_size(client_format_get_number(
        traffic, "total-length")));
    add_fact(html, "normal pages", g_strdup_printf(
        "%" PRIu64, client_format_get_number(traffic, "normal-pages")));
    add_fact(html, "zero pages", g_strdup_printf(
        "%" PRIu64, client_format_get_number(traffic, "zero-pages")));
    add_fact(html, "pages sent again", g_strdup_printf(
        "%" PRIu64, client_format_get_number(traffic, "pages-again")));
    add_fact(html, "pages on the main channel", g_strdup_printf(
        "%" PRIu64, client_format_get_number(traffic, "pages-on-main")));
    add_fact(html, "pages on the preempt channel", g_strdup_printf(
        "%" PRIu64, client_format_get_number(traffic, "pages-on-preempt")));
    add_fact(html, "in", units_format_size(client_format_get_number(
        migration, "bytes-in")));
    add_fact(html, "out, on the wire", units_format_size(
        client_format_get_number(migration, "wire-bytes-out")));
    add_fact(html, "limit", client_format_limit(client_format_get_number(
        migration, "rate-limit")));
    end_table(html);
    end_section(html);
}

/* A column of history.  @per_s: as a rate; the last row has not lasted its time. */
static double *get_column(JsonObject *traffic, const char *name, bool per_s)
{
    JsonArray *names = client_format_get_array(traffic, "history-columns");
    JsonArray *rows = client_format_get_array(traffic, "history");
    double step_ms = client_format_get_double(traffic, "history-ms");
    unsigned n = MIN(client_format_get_length(rows), HISTORY_MAX), column = 0;
    double *values = g_new0(double, n + 1);

    while (column < client_format_get_length(names) &&
           g_strcmp0(client_format_string_at(names, column), name) != 0) {
        column++;
    }
    for (unsigned i = 0; i < n && column < client_format_get_length(names); i++) {
        double lasted_ms = client_format_get_double(traffic, "now-ms") - i * step_ms;

        values[i] = (double)client_format_number_at(
            client_format_array_at(rows, i), column);
        if (per_s) {
            values[i] *= 1000 / CLAMP(lasted_ms, step_ms / 4, step_ms);
        }
    }
    return values;
}

static void add_rates(GString *html, JsonObject *traffic)
{
    unsigned n = MIN(client_format_get_length(client_format_get_array(traffic, "history")),
                     HISTORY_MAX);
    double step_ms = client_format_get_double(traffic, "history-ms");
    g_autofree double *in = get_column(traffic, "payload-in", true);
    g_autofree double *wire = get_column(traffic, "wire-out", true);
    g_autofree double *limit = get_column(traffic, "rate-limit", false);
    g_autofree double *dirty = get_column(traffic, "dirty-rate", false);
    g_autofree double *again = get_column(traffic, "again", true);
    double page_size = client_format_get_double(traffic, "page-size");
    const ClientChartSeries throughput[] = {
        { "pages that came in", "in", in },
        { "on the wire", "wire", wire },
        { "limit", "limit", limit },
    };
    const ClientChartSeries dirtied[] = {
        { "dirtied, says QEMU", "dirty", dirty },
        { "pages sent again", "again", again },
        { "on the wire", "wire", wire },
    };

    for (unsigned i = 0; i < n; i++) {
        again[i] *= page_size;
    }
    begin_section(html, "Throughput", NULL);
    client_chart_append_lines(html, throughput, G_N_ELEMENTS(throughput), n,
                              step_ms, units_format_rate);
    end_section(html);
    begin_section(html, "Dirty rate and link rate", "A migration comes to its "
                  "end when the guest dirties memory more slowly than the link "
                  "carries it.");
    client_chart_append_lines(html, dirtied, G_N_ELEMENTS(dirtied), n, step_ms,
                              units_format_rate);
    end_section(html);
}

static void add_pages(GString *html, JsonObject *object)
{
    add_number(html, object, "normal-pages");
    add_number(html, object, "zero-pages");
    add_number(html, object, "pages-again");
    add_size(html, object, "payload-bytes");
}

static char *format_span(JsonObject *epoch)
{
    double from = client_format_get_double(epoch, "first-ms"), to = client_format_get_double(epoch, "last-ms");
    g_autofree char *begin = units_format_time((uint64_t)from);
    g_autofree char *length = units_format_time((uint64_t)(to - from));

    return g_strdup_printf("%s + %s", begin, length);
}

static bool has_pages(JsonObject *epoch)
{
    return epoch && (client_format_get_number(epoch, "normal-pages") > 0 ||
                     client_format_get_number(epoch, "zero-pages") > 0);
}

/* How it ended is what is asked for: of too many, the last. */
static void add_epochs(GString *html, JsonObject *traffic)
{
    static const char *const titles[] = {
        "epoch", "packets", "normal", "zero", "again", "payload", "time", NULL
    };
    JsonArray *epochs = client_format_get_array(traffic, "epochs");
    unsigned n = 0, skip;

    for (unsigned i = 0; i < client_format_get_length(epochs); i++) {
        n += has_pages(client_format_object_at(epochs, i));
    }
    skip = n > EPOCHS_SHOWN ? n - EPOCHS_SHOWN : 0;
    begin_section(html, "Epochs", "What lies between two SYNCs of all channels; "
                  "those without pages are left out.");
    if (skip > 0) {
        g_string_append_printf(html, "<p class=\"note\">The last %u of %u.</p>\n", n - skip, n);
    }
    begin_table(html, titles);
    for (unsigned i = 0; i < client_format_get_length(epochs); i++) {
        JsonObject *epoch = client_format_object_at(epochs, i);

        if (!has_pages(epoch)) {
            continue;
        }
        if (skip > 0) {
            skip--;
            continue;
        }
        g_string_append(html, "<tr>");
        add_number(html, epoch, "epoch");
        add_number(html, epoch, "packets");
        add_pages(html, epoch);
        add_cell(html, format_span(epoch));
        g_string_append(html, "</tr>\n");
    }
    end_table(html);
    end_section(html);
}

static void add_block(GString *html, JsonObject *block)
{
    g_string_append(html, "<tr>");
    add_cell(html, escape(client_format_get_string(block, "name")));
    add_size(html, block, "used-length");
    add_pages(html, block);
    g_string_append(html, "</tr>\n");
}

static void add_blocks(GString *html, JsonObject *traffic)
{
    static const char *const titles[] = {
        "RAM block", "length", "normal", "zero", "again", "payload", NULL
    };
    JsonArray *blocks = client_format_get_array(traffic, "ramblocks");

    begin_section(html, "Memory", "Below: where in a block pages came from "
                  "(to the right), and when (downwards); the darker, the more.");
    begin_table(html, titles);
    for (unsigned i = 0; i < client_format_get_length(blocks); i++) {
        add_block(html, client_format_object_at(blocks, i));
    }
    end_table(html);
    for (unsigned i = 0; i < client_format_get_length(blocks); i++) {
        JsonObject *block = client_format_object_at(blocks, i);
        JsonArray *heat = client_format_get_array(block, "heat");

        if (heat && client_format_get_number(block, "normal-pages") > 0) {
            g_autofree char *name = escape(client_format_get_string(block,
                                                                    "name"));

            g_string_append_printf(html, "<h3>%s</h3>\n", name);
            client_chart_append_heat(html, heat, client_format_get_double(traffic, "slice-ms"),
                                     client_format_get_number(block,
                                                              "part-bytes"));
        }
    }
    end_section(html);
}

/* From one moment to another, where both are known. */
static const struct {
    const char *name, *from, *to;
} steps[] = {
    { "guest stopped &rarr; end of RAM", "stopped", "ram-end" },
    { "end of RAM &rarr; last page packet in", "ram-end", "last-packet-in" },
    { "last page packet in &rarr; out", "last-packet-in", "last-packet-out" },
    { "device state, in", "devices", "last-main-in" },
    { "device state, in &rarr; out", "last-main-in", "last-main-out" },
    { "destination loads, until its SHUT", "last-main-out", "shut" },
    { "SHUT, back to the source", "shut", "shut-delivered" },
    { "source settles", "shut-delivered", "resume" },
    { "guest is started", "resume", "resumed" },
    { "guest stopped &rarr; started", "stopped", "resumed" },
};

static void add_downtime(GString *html, JsonObject *traffic)
{
    JsonObject *moments = client_format_get_object(traffic, "moments");
    ClientChartSpan spans[G_N_ELEMENTS(steps)];
    unsigned n = 0;

    for (unsigned i = 0; moments && i < G_N_ELEMENTS(steps); i++) {
        double from = client_format_get_double(moments, steps[i].from);
        double to = client_format_get_double(moments, steps[i].to);

        if (json_object_has_member(moments, steps[i].from) &&
            json_object_has_member(moments, steps[i].to) && to >= from) {
            spans[n++] = (ClientChartSpan) { steps[i].name, from, to };
        }
    }
    begin_section(html, "Anatomy of the downtime", "As this daemon saw it.");
    client_chart_append_spans(html, spans, n);
    end_section(html);
}

static void add_channels(GString *html, const char *kind, JsonArray *channels)
{
    for (unsigned i = 0; i < client_format_get_length(channels); i++) {
        JsonObject *channel = client_format_object_at(channels, i);

        g_string_append_printf(html, "<tr><td>%s %" PRIu64 "</td>", kind,
                               client_format_get_number(channel, "channel"));
        add_number(html, channel, "packets");
        add_number(html, channel, "syncs");
        add_size(html, channel, "bytes");
        add_ms(html, channel, "rtt-ms");
        add_number(html, channel, "retransmits");
        add_number(html, channel, "resumes");
        add_number(html, channel, "resent");
        g_string_append(html, "</tr>\n");
    }
}

static void add_lanes(GString *html, JsonObject *migration)
{
    static const char *const titles[] = {
        "", "packets", "SYNCs", "payload", "RTT", "retransmits",
        "connected anew", "sent again", NULL
    };
    JsonObject *egress = client_format_get_object(migration, "egress");
    bool link = g_strcmp0(client_format_get_string(egress, "kind"), "link") == 0;

    begin_section(html, "Channels and lanes", NULL);
    begin_table(html, titles);
    add_channels(html, "channel in", client_format_get_array(migration,
                                                             "channels-in"));
    add_channels(html, link ? "lane" : "channel out",
                 client_format_get_array(migration, "channels-out"));
    end_table(html);
    end_section(html);
}

static void add_sections(GString *html, JsonObject *traffic)
{
    static const char *const titles[] = { "section", "instance", "bytes", NULL };
    JsonArray *sections = client_format_get_array(
        client_format_get_object(traffic, "main"), "sections");

    if (!sections) {
        return;
    }
    begin_section(html, "Device state", NULL);
    begin_table(html, titles);
    for (unsigned i = 0; i < client_format_get_length(sections); i++) {
        JsonObject *section = client_format_object_at(sections, i);

        g_string_append(html, "<tr>");
        add_cell(html, escape(client_format_get_string(section, "name")));
        add_number(html, section, "instance");
        add_number(html, section, "bytes");
        g_string_append(html, "</tr>\n");
    }
    end_table(html);
    end_section(html);
}

char *client_report_to_html(JsonObject *migration, JsonObject *traffic)
{
    GString *html = g_string_new(NULL);

    add_head(html, migration);
    add_summary(html, migration, traffic);
    add_rates(html, traffic);
    add_epochs(html, traffic);
    add_downtime(html, traffic);
    add_blocks(html, traffic);
    add_lanes(html, migration);
    add_sections(html, traffic);
    g_string_append(html, "</body></html>\n");
    return g_string_free(html, FALSE);
}

/* ---- the command -------------------------------------------------------------------------- */

static JsonObject *id_argument(const char *id)
{
    JsonObject *arguments = json_object_new();

    json_object_set_string_member(arguments, "id", id);
    return arguments;
}

ClientSessionExit client_report_run(ClientSession *session, char **args)
{
    g_autoptr(JsonNode) traffic = NULL, migrations = NULL;
    g_autofree char *html = NULL;
    JsonObject *migration;
    ClientSessionExit code;

    code = client_session_query(session, "query-traffic", id_argument(args[0]),
                                JSON_NODE_OBJECT, &traffic);
    if (code == CLIENT_SESSION_OK) {
        code = client_session_query(session, "query-migrations",
                                    id_argument(args[0]), JSON_NODE_ARRAY,
                                    &migrations);
    }
    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    migration = client_format_object_at(json_node_get_array(migrations), 0);
    if (!migration) {
        client_session_complain("report: the migration '%s' is not listed any "
                                "more", args[0]);
        return CLIENT_SESSION_REFUSED;
    }
    html = client_report_to_html(migration, json_node_get_object(traffic));
    g_print("%s", html);
    return CLIENT_SESSION_OK;
}
