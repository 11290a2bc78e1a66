/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/totals.h"

#include <string.h>

const uint64_t totals_downtime_ms[TOTALS_DOWNTIME_BUCKETS] = {
    30, 100, 300, 1000, 3000, 10000, 30000,
};
const uint64_t totals_duration_ms[TOTALS_DURATION_BUCKETS] = {
    10000, 30000, 60000, 300000, 1800000, 7200000, 28800000,
};
G_STATIC_ASSERT(TOTALS_DOWNTIME_BUCKETS == TOTALS_DURATION_BUCKETS);

/* Members of query-migrations; those without one are counted at the end. */
static const char *const members[TOTALS_COMPLETED] = {
    [TOTALS_BYTES_IN] = "bytes-in",
    [TOTALS_BYTES_OUT] = "bytes-out",
    [TOTALS_WIRE_BYTES_OUT] = "wire-bytes-out",
    [TOTALS_PACKETS] = "packets",
    [TOTALS_NORMAL_PAGES] = "normal-pages",
    [TOTALS_ZERO_PAGES] = "zero-pages",
    [TOTALS_MAIN_PAGES] = "main-pages",
    [TOTALS_PREEMPT_PAGES] = "preempt-pages",
    [TOTALS_CPU_MS] = "cpu-ms",
};

static void free_row(void *data)
{
    TotalsRow *row = data;

    g_free(row->peer);
    g_free(row->role);
    g_free(row);
}

Totals *totals_new(void)
{
    Totals *self = g_new0(Totals, 1);

    self->rows = g_ptr_array_new_with_free_func(free_row);
    self->reasons = g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
                                          g_free);
    return self;
}

void totals_free(Totals *self)
{
    if (!self) {
        return;
    }
    g_ptr_array_unref(self->rows);
    g_hash_table_unref(self->reasons);
    g_free(self);
}

static TotalsRow *get_row(Totals *self, const char *peer, const char *role)
{
    TotalsRow *row;

    for (unsigned i = 0; i < self->rows->len; i++) {
        row = g_ptr_array_index(self->rows, i);
        if (strcmp(row->peer, peer) == 0 && strcmp(row->role, role) == 0) {
            return row;
        }
    }
    row = g_new0(TotalsRow, 1);
    row->peer = g_strdup(peer);
    row->role = g_strdup(role);
    g_ptr_array_add(self->rows, row);
    return row;
}

static uint64_t *get_reason(Totals *self, const char *reason)
{
    uint64_t *count = g_hash_table_lookup(self->reasons, reason);

    if (!count) {
        count = g_new0(uint64_t, 1);
        g_hash_table_insert(self->reasons, (char *)reason, count);
    }
    return count;
}

Totals *totals_copy(const Totals *self)
{
    Totals *copy = totals_new();
    GHashTableIter iter;
    gpointer reason, count;

    for (unsigned i = 0; i < self->rows->len; i++) {
        const TotalsRow *from = g_ptr_array_index(self->rows, i);
        TotalsRow *to = g_memdup2(from, sizeof(*from));

        to->peer = g_strdup(from->peer);
        to->role = g_strdup(from->role);
        g_ptr_array_add(copy->rows, to);
    }
    g_hash_table_iter_init(&iter, self->reasons);
    while (g_hash_table_iter_next(&iter, &reason, &count)) {
        *get_reason(copy, reason) = *(uint64_t *)count;
    }
    return copy;
}

/* ---- adding ---------------------------------------------------------------------- */

static void observe(TotalsHistogram *self, const uint64_t *ends, uint64_t ms)
{
    self->n++;
    self->sum_ms += ms;
    for (unsigned i = 0; i < TOTALS_DURATION_BUCKETS; i++) {
        self->at_most[i] += ms <= ends[i];
    }
}

static uint64_t get(JsonObject *migration, const char *member)
{
    return (uint64_t)MAX(json_object_get_int_member_with_default(
        migration, member, 0), 0);
}

static void add_end(TotalsRow *row, JsonObject *migration, const char *state)
{
    if (strcmp(state, "failed") == 0) {
        row->counters[TOTALS_FAILED]++;
    } else if (strcmp(state, "cancelled") == 0) {
        row->counters[TOTALS_CANCELLED]++;
    } else if (strcmp(state, "completed") == 0) {
        row->counters[TOTALS_COMPLETED]++;
        observe(&row->duration, totals_duration_ms,
                get(migration, "total-time-ms"));
        if (json_object_has_member(migration, "downtime-ms")) {
            observe(&row->downtime, totals_downtime_ms,
                    get(migration, "downtime-ms"));
        }
    }
}

void totals_add(Totals *self, JsonObject *migration)
{
    TotalsRow *row = get_row(self,
        json_object_get_string_member_with_default(migration, "peer", ""),
        json_object_get_string_member_with_default(migration, "role", ""));

    for (unsigned i = 0; i < G_N_ELEMENTS(members); i++) {
        row->counters[i] += get(migration, members[i]);
    }
    add_end(row, migration, json_object_get_string_member_with_default(
        migration, "state", ""));
}

void totals_add_reason(Totals *self, const char *reason)
{
    (*get_reason(self, reason))++;
}

void totals_keep_growing(Totals *self, const Totals *before)
{
    for (unsigned i = 0; i < before->rows->len; i++) {
        const TotalsRow *old = g_ptr_array_index(before->rows, i);
        TotalsRow *row = get_row(self, old->peer, old->role);

        for (unsigned j = 0; j < TOTALS_N_COUNTERS; j++) {
            row->counters[j] = MAX(row->counters[j], old->counters[j]);
        }
    }
}
