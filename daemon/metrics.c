/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/metrics.c - families, one after the other
 *
 * The two formats differ in three things that are all in begin_family() and at the
 * end: the older one says "# TYPE x_total counter" where OpenMetrics says
 * "# TYPE x counter", knows no "# UNIT", and has no "# EOF".
 *
 * Labels are names of the configuration and words of ours.  A migration's id never
 * is one: each would make a time series that is kept for ever.
 */
#include "daemon/metrics.h"

#include <inttypes.h>
#include "daemon/migration-private.h"
#include "daemon/registry.h"
#include "daemon/tls-expiry.h"

typedef struct {
    GString *text;
    MetricsFormat format;
    const char *name;           /* of the family that is being written */
    bool is_counter;
} Writer;

const char *metrics_get_content_type(MetricsFormat format)
{
    return format == METRICS_OPENMETRICS
           ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
           : "text/plain; version=0.0.4; charset=utf-8";
}

/* ---- writing ----------------------------------------------------------------------- */

static void begin_family(Writer *self, const char *name, const char *type,
                         const char *unit, const char *help)
{
    bool open = self->format == METRICS_OPENMETRICS;

    self->name = name;
    self->is_counter = strcmp(type, "counter") == 0;
    g_string_append_printf(self->text, "# TYPE %s%s %s\n", name,
                           self->is_counter && !open ? "_total" : "", type);
    if (unit && open) {
        g_string_append_printf(self->text, "# UNIT %s %s\n", name, unit);
    }
    g_string_append_printf(self->text, "# HELP %s%s %s\n", name,
                           self->is_counter && !open ? "_total" : "", help);
}

/* @labels: "name", value, ..., NULL. */
static void append_labels(Writer *self, const char *const *labels)
{
    for (unsigned i = 0; labels && labels[i]; i += 2) {
        g_string_append_printf(self->text, "%s%s=\"", i ? "," : "{",
                               labels[i]);
        for (const char *p = labels[i + 1]; *p; p++) {
            if (*p == '\\' || *p == '"' || *p == '\n') {
                g_string_append_c(self->text, '\\');
            }
            g_string_append_c(self->text, *p == '\n' ? 'n' : *p);
        }
        g_string_append_c(self->text, '"');
    }
    if (labels && labels[0]) {
        g_string_append_c(self->text, '}');
    }
}

static void add_text(Writer *self, const char *suffix,
                     const char *const *labels, const char *value)
{
    g_string_append_printf(self->text, "%s%s", self->name, suffix);
    append_labels(self, labels);
    g_string_append_printf(self->text, " %s\n", value);
}

static void add_number(Writer *self, const char *const *labels, uint64_t value)
{
    char text[32];

    g_snprintf(text, sizeof(text), "%" PRIu64, value);
    add_text(self, self->is_counter ? "_total" : "", labels, text);
}

/* Base units are seconds; we count in milliseconds. */
static char *format_seconds(uint64_t ms)
{
    return g_strdup_printf("%" PRIu64 ".%03" PRIu64, ms / 1000, ms % 1000);
}

static void add_seconds(Writer *self, const char *suffix,
                        const char *const *labels, uint64_t ms)
{
    g_autofree char *text = format_seconds(ms);

    add_text(self, suffix, labels, text);
}

#define LABELS(...) ((const char *const[]) { __VA_ARGS__, NULL })

/* ---- the daemon ---------------------------------------------------------------------- */

static void add_daemon(Writer *self, const Daemon *daemon, const Config *config)
{
    begin_family(self, "multiferry_build_info", "gauge", NULL,
                 "Always 1; the version is a label.");
    add_number(self, LABELS("version", MULTIFERRY_VERSION, "name",
                            config->name), 1);
    begin_family(self, "multiferry_start_time_seconds", "gauge", "seconds",
                 "When the daemon was started, since 1970.");
    add_seconds(self, "", NULL, (uint64_t)daemon->start_us / 1000);
    begin_family(self, "multiferry_memory_bytes", "gauge", "bytes",
                 "Memory that running migrations were granted.");
    add_number(self, NULL, registry_get_memory(daemon->registry));
    begin_family(self, "multiferry_memory_limit_bytes", "gauge", "bytes",
                 "The most that may be granted ([daemon] memory).");
    add_number(self, NULL, config->memory);
    begin_family(self, "multiferry_migrations_limit", "gauge", NULL,
                 "Migrations that may run at once ([daemon] max-migrations).");
    add_number(self, NULL, config->max_migrations);
}

static void add_certificates(Writer *self, const Daemon *daemon)
{
    g_autoptr(GPtrArray) list = credentials_list_expiry(daemon->credentials);

    begin_family(self, "multiferry_certificate_expiry_timestamp_seconds",
                 "gauge", "seconds",
                 "When a certificate in use expires, since 1970.");
    for (unsigned i = 0; i < list->len; i++) {
        const TlsExpiry *expiry = g_ptr_array_index(list, i);

        add_number(self, LABELS("file", expiry->file),
                   (uint64_t)MAX(expiry->until, 0));
    }
}

/* ---- peers -------------------------------------------------------------------------- */

static void add_peers(Writer *self, Daemon *daemon, const Config *config)
{
    const GPtrArray *peers = config->peers;

    begin_family(self, "multiferry_peer_up", "gauge", NULL,
                 "1 if the last link with the peer came up, 0 if it could not "
                 "be reached; missing before the first try.");
    for (unsigned i = 0; i < peers->len; i++) {
        const ConfigPeer *peer = g_ptr_array_index(peers, i);
        g_autoptr(JsonObject) known = json_object_new();

        peer_status_add_to_json(daemon->peer_status, peer->name, known);
        if (json_object_has_member(known, "reachable")) {
            add_number(self, LABELS("peer", peer->name),
                       json_object_get_boolean_member(known, "reachable"));
        }
    }
    begin_family(self, "multiferry_rate_limit_bytes_per_second", "gauge",
                 "bytes_per_second",
                 "Rate limits as they are now; missing without one. The daemon's "
                 "own has an empty peer.");
    for (unsigned i = 0; i <= peers->len; i++) {
        const ConfigPeer *peer = i < peers->len ? g_ptr_array_index(peers, i)
                                                : NULL;
        uint64_t rate = limiter_get_rate(daemon_get_limiter(daemon, peer));

        if (rate > 0) {
            add_number(self, LABELS("peer", peer ? peer->name : ""), rate);
        }
    }
}

/* ---- totals ------------------------------------------------------------------------- */

static const struct {
    const char *name, *unit, *help, *label, *value;
    TotalsCounter counter;
} counters[] = {
    { "multiferry_received_bytes", "bytes",
      "Bytes of migrations received, from a QEMU or a peer, as QEMU counts them.",
      NULL, NULL, TOTALS_BYTES_IN },
    { "multiferry_sent_bytes", "bytes",
      "Bytes of migrations sent, to a QEMU or a peer, as QEMU counts them.",
      NULL, NULL, TOTALS_BYTES_OUT },
    { "multiferry_wire_sent_bytes", "bytes",
      "Bytes sent as the line carries them, TLS and framing included.",
      NULL, NULL, TOTALS_WIRE_BYTES_OUT },
    { "multiferry_packets", NULL, "Multifd packets with pages.",
      NULL, NULL, TOTALS_PACKETS },
    { "multiferry_pages", NULL, "Pages of guest memory in multifd packets.",
      "kind", "normal", TOTALS_NORMAL_PAGES },
    { NULL, NULL, NULL, "kind", "zero", TOTALS_ZERO_PAGES },
    { "multiferry_main_pages", NULL,
      "Pages of guest memory on the main channel: without multifd, and in postcopy.",
      NULL, NULL, TOTALS_MAIN_PAGES },
    { "multiferry_preempt_pages", NULL,
      "Pages of guest memory on the preempt channel, which a destination waited for.",
      NULL, NULL, TOTALS_PREEMPT_PAGES },
    { "multiferry_cpu_seconds", "seconds",
      "Processor time of the threads of migrations.", NULL, NULL,
      TOTALS_CPU_MS },
    { "multiferry_migrations_finished", NULL, "Migrations that have ended.",
      "result", "completed", TOTALS_COMPLETED },
    { NULL, NULL, NULL, "result", "failed", TOTALS_FAILED },
    { NULL, NULL, NULL, "result", "cancelled", TOTALS_CANCELLED },
};

/* Of time we count milliseconds. */
static void add_counter(Writer *self, const char *const *labels,
                        TotalsCounter counter, const TotalsRow *row)
{
    if (counter == TOTALS_CPU_MS) {
        add_seconds(self, "_total", labels, row->counters[counter]);
    } else {
        add_number(self, labels, row->counters[counter]);
    }
}

static void add_counters(Writer *self, const Totals *totals)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(counters); i++) {
        /* Those without a name go on with the family before. */
        if (counters[i].name) {
            begin_family(self, counters[i].name, "counter", counters[i].unit,
                         counters[i].help);
        }
        for (unsigned j = 0; j < totals->rows->len; j++) {
            const TotalsRow *row = g_ptr_array_index(totals->rows, j);

            add_counter(self, LABELS("peer", row->peer, "role", row->role,
                                     counters[i].label, counters[i].value),
                        counters[i].counter, row);
        }
    }
}

static void add_reasons(Writer *self, const Totals *totals)
{
    GHashTableIter iter;
    gpointer reason, count;

    begin_family(self, "multiferry_migrations_failed", "counter", NULL,
                 "Migrations that have failed, by the part that said so first.");
    g_hash_table_iter_init(&iter, totals->reasons);
    while (g_hash_table_iter_next(&iter, &reason, &count)) {
        add_number(self, LABELS("reason", reason), *(uint64_t *)count);
    }
}

static void add_histogram(Writer *self, const TotalsRow *row,
                          const TotalsHistogram *histogram,
                          const uint64_t *ends_ms)
{
    char count[32];

    for (unsigned i = 0; i <= TOTALS_DURATION_BUCKETS; i++) {
        bool last = i == TOTALS_DURATION_BUCKETS;
        g_autofree char *end = last ? g_strdup("+Inf")
                                    : format_seconds(ends_ms[i]);

        g_snprintf(count, sizeof(count), "%" PRIu64,
                   last ? histogram->n : histogram->at_most[i]);
        add_text(self, "_bucket", LABELS("peer", row->peer, "role", row->role,
                                         "le", end), count);
    }
    add_seconds(self, "_sum", LABELS("peer", row->peer, "role", row->role),
                histogram->sum_ms);
    add_text(self, "_count", LABELS("peer", row->peer, "role", row->role),
             count);
}

static void add_histograms(Writer *self, const Totals *totals)
{
    begin_family(self, "multiferry_migration_downtime_seconds", "histogram",
                 "seconds", "How long guests ran nowhere, of completed "
                 "migrations where it was seen.");
    for (unsigned i = 0; i < totals->rows->len; i++) {
        const TotalsRow *row = g_ptr_array_index(totals->rows, i);

        add_histogram(self, row, &row->downtime, totals_downtime_ms);
    }
    begin_family(self, "multiferry_migration_duration_seconds", "histogram",
                 "seconds", "How long completed migrations took.");
    for (unsigned i = 0; i < totals->rows->len; i++) {
        const TotalsRow *row = g_ptr_array_index(totals->rows, i);

        add_histogram(self, row, &row->duration, totals_duration_ms);
    }
}

/* ---- running migrations ------------------------------------------------------------ */

/* @value_of: false where this migration has no such number. */
static void add_running(Writer *self, const GPtrArray *running,
                        bool (*value_of)(JsonObject *migration, double *ret))
{
    for (unsigned i = 0; i < running->len; i++) {
        JsonObject *migration = g_ptr_array_index(running, i);
        bool managed = json_object_has_member(migration, "vm");
        char text[G_ASCII_DTOSTR_BUF_SIZE];
        double value;

        if (!value_of(migration, &value)) {
            continue;
        }
        g_ascii_dtostr(text, sizeof(text), value);
        add_text(self, "", LABELS(
            "kind", managed ? "managed" : "tunnel",
            "name", json_object_get_string_member(migration,
                                                  managed ? "vm" : "tunnel"),
            "peer", json_object_get_string_member_with_default(migration,
                                                               "peer", ""),
            "role", json_object_get_string_member(migration, "role")), text);
    }
}

static bool get_member(JsonObject *object, const char *member, double scale,
                       double *ret)
{
    JsonNode *node = object ? json_object_get_member(object, member) : NULL;

    if (!node) {
        return false;
    }
    *ret = scale * (json_node_get_value_type(node) == G_TYPE_INT64
                    ? (double)json_node_get_int(node)
                    : json_node_get_double(node));
    return true;
}

static JsonObject *get_qemu(JsonObject *migration)
{
    return json_object_has_member(migration, "qemu")
           ? json_object_get_object_member(migration, "qemu") : NULL;
}

static bool get_one(JsonObject *migration, double *ret)
{
    (void)migration;
    *ret = 1;
    return true;
}

static bool get_held(JsonObject *migration, double *ret)
{
    return get_member(migration, "held-bytes", 1, ret);
}

static bool get_rtt(JsonObject *migration, double *ret)
{
    return get_member(migration, "rtt-ms", 0.001, ret);
}

static bool get_remaining(JsonObject *migration, double *ret)
{
    return get_member(get_qemu(migration), "ram-remaining", 1, ret);
}

static bool get_dirty(JsonObject *migration, double *ret)
{
    double page = 0;

    return get_member(get_qemu(migration), "page-size", 1, &page) &&
           get_member(get_qemu(migration), "dirty-pages-rate", page, ret);
}

static bool get_converging(JsonObject *migration, double *ret)
{
    if (!json_object_has_member(migration, "convergence")) {
        return false;
    }
    *ret = json_object_get_boolean_member(
        json_object_get_object_member(migration, "convergence"), "converging");
    return true;
}

static bool get_epochs(JsonObject *migration, double *ret)
{
    return get_member(migration, "epochs", 1, ret);
}

static const struct {
    const char *name, *unit, *help;
    bool (*value_of)(JsonObject *migration, double *ret);
} gauges[] = {
    { "multiferry_migration_running", NULL, "1 for each that runs.", get_one },
    { "multiferry_migration_held_bytes", "bytes",
      "Guest memory that the daemon holds now.", get_held },
    { "multiferry_migration_rtt_seconds", "seconds",
      "Round trip time of its link.", get_rtt },
    { "multiferry_migration_epochs", NULL,
      "Rounds over the guest's memory that have begun.", get_epochs },
    { "multiferry_migration_remaining_bytes", "bytes",
      "Guest memory still to be sent, as the source QEMU says.",
      get_remaining },
    { "multiferry_migration_dirty_bytes_per_second", "bytes_per_second",
      "How fast the guest writes to its memory, as the source QEMU says.",
      get_dirty },
    { "multiferry_migration_converging", NULL,
      "0 while the guest writes too fast for it to end, else 1.",
      get_converging },
};

static void add_gauges(Writer *self, const Daemon *daemon)
{
    g_autoptr(GPtrArray) all = registry_list(daemon->registry);
    g_autoptr(GPtrArray) running =
        g_ptr_array_new_with_free_func((GDestroyNotify)json_object_unref);

    for (unsigned i = 0; i < all->len; i++) {
        Migration *migration = g_ptr_array_index(all, i);

        if (!migration_state_is_final(migration_get_state(migration))) {
            g_ptr_array_add(running, migration_to_json(migration));
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(gauges); i++) {
        begin_family(self, gauges[i].name, "gauge", gauges[i].unit,
                     gauges[i].help);
        add_running(self, running, gauges[i].value_of);
    }
}

char *metrics_to_text(Daemon *daemon, MetricsFormat format)
{
    Writer self = { g_string_new(NULL), format, NULL, false };
    g_autoptr(Config) config = daemon_ref_config(daemon);
    g_autoptr(Totals) totals = registry_get_totals(daemon->registry);

    add_daemon(&self, daemon, config);
    add_certificates(&self, daemon);
    add_peers(&self, daemon, config);
    add_counters(&self, totals);
    add_reasons(&self, totals);
    add_histograms(&self, totals);
    add_gauges(&self, daemon);
    if (format == METRICS_OPENMETRICS) {
        g_string_append(self.text, "# EOF\n");
    }
    return g_string_free(self.text, FALSE);
}
