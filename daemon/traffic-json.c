/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/traffic-json.c - a record as query-traffic shows it
 *
 * From a copy, so that nobody who counts waits.  Rows are arrays of numbers,
 * not objects, where there are many of them.
 */
#include "daemon/traffic-private.h"

#include <string.h>

static const char *const moment_names[] = {
    [TRAFFIC_FIRST_BYTE] = "first-byte",
    [TRAFFIC_RAMBLOCKS] = "ramblocks",
    [TRAFFIC_STOPPED] = "stopped",
    [TRAFFIC_SWITCHOVER] = "switchover",
    [TRAFFIC_RAM_END] = "ram-end",
    [TRAFFIC_LAST_PACKET_IN] = "last-packet-in",
    [TRAFFIC_LAST_PACKET_OUT] = "last-packet-out",
    [TRAFFIC_DEVICES] = "devices",
    [TRAFFIC_LAST_MAIN_IN] = "last-main-in",
    [TRAFFIC_LAST_MAIN_OUT] = "last-main-out",
    [TRAFFIC_SHUT] = "shut",
    [TRAFFIC_SHUT_DELIVERED] = "shut-delivered",
    [TRAFFIC_RESUME] = "resume",
    [TRAFFIC_RESUMED] = "resumed",
};
G_STATIC_ASSERT(G_N_ELEMENTS(moment_names) == TRAFFIC_MOMENTS);

/* ---- pages ------------------------------------------------------------------------- */

static void add_pages(JsonObject *object, const TrafficPages *pages)
{
    json_object_set_int_member(object, "normal-pages", pages->normal);
    json_object_set_int_member(object, "zero-pages", pages->zero);
    json_object_set_int_member(object, "pages-again", pages->again);
    json_object_set_int_member(object, "payload-bytes", pages->bytes);
}

static JsonArray *parts_to_json(const TrafficBlock *block, bool again)
{
    JsonArray *list = json_array_sized_new(block->n_parts);

    for (unsigned i = 0; i < block->n_parts; i++) {
        json_array_add_int_element(list, again ? block->parts[i].again
                                               : block->parts[i].sent);
    }
    return list;
}

static JsonArray *heat_to_json(const TrafficBlock *block, unsigned n_slices)
{
    JsonArray *slices = json_array_sized_new(n_slices);

    for (unsigned i = 0; i < n_slices; i++) {
        JsonArray *parts = json_array_sized_new(block->n_parts);

        for (unsigned part = 0; part < block->n_parts; part++) {
            json_array_add_int_element(parts, block->heat->slices[i][part]);
        }
        json_array_add_array_element(slices, parts);
    }
    return slices;
}

static JsonObject *block_to_json(const TrafficCounts *counts,
                                 const TrafficBlock *block)
{
    JsonObject *object = json_object_new();
    g_autofree char *name = ramblock_name_escape(block->name,
                                                 strlen(block->name));

    json_object_set_string_member(object, "name", name);
    json_object_set_int_member(object, "used-length", block->used_length);
    add_pages(object, &block->pages);
    json_object_set_boolean_member(object, "again-exact", block->exact);
    json_object_set_int_member(object, "part-bytes",
                               counts->page_size << block->part_shift);
    json_object_set_array_member(object, "parts", parts_to_json(block, false));
    json_object_set_array_member(object, "parts-again",
                                 parts_to_json(block, true));
    if (block->heat) {
        json_object_set_array_member(object, "heat", heat_to_json(
            block, counts->slice_scale.used));
    }
    return object;
}

static void add_blocks(const TrafficCounts *counts, JsonObject *ret)
{
    JsonArray *blocks = json_array_new();

    for (unsigned i = 0; i < counts->n_blocks; i++) {
        json_array_add_object_element(blocks,
                                      block_to_json(counts, &counts->blocks[i]));
    }
    json_object_set_int_member(ret, "page-size", counts->page_size);
    json_object_set_int_member(ret, "total-length", counts->total_length);
    json_object_set_int_member(ret, "ramblock-count", counts->n_blocks_total);
    json_object_set_double_member(ret, "slice-ms",
                                  counts->slice_scale.unit / 1000.0);
    json_object_set_array_member(ret, "ramblocks", blocks);
}

/* ---- rows over time ------------------------------------------------------------------- */

/* Up to the last channel that had one. */
static JsonArray *by_channel_to_json(const TrafficEpoch *epoch)
{
    JsonArray *list = json_array_new();
    unsigned n = TRAFFIC_CHANNELS;

    while (n > 0 && epoch->by_channel[n - 1] == 0) {
        n--;
    }
    for (unsigned i = 0; i < n; i++) {
        json_array_add_int_element(list, epoch->by_channel[i]);
    }
    return list;
}

static void add_epoch(JsonArray *list, const TrafficEpoch *epoch,
                      uint64_t number)
{
    JsonObject *object = json_object_new();

    json_object_set_int_member(object, "epoch", number);
    json_object_set_int_member(object, "packets", epoch->packets);
    json_object_set_int_member(object, "device-packets", epoch->device_packets);
    json_object_set_array_member(object, "by-channel",
                                 by_channel_to_json(epoch));
    add_pages(object, &epoch->pages);
    json_object_set_double_member(object, "first-ms", epoch->first_us / 1000.0);
    json_object_set_double_member(object, "last-ms", epoch->last_us / 1000.0);
    json_array_add_object_element(list, object);
}

static void add_epochs(const TrafficCounts *counts, JsonObject *ret)
{
    JsonArray *epochs = json_array_new();

    for (unsigned i = 0; i < counts->epoch_scale.used; i++) {
        add_epoch(epochs, &counts->epochs[i], i * counts->epoch_scale.unit);
    }
    json_object_set_int_member(ret, "epochs-closed", counts->epochs_closed);
    json_object_set_int_member(ret, "epochs-per-row", counts->epoch_scale.unit);
    json_object_set_array_member(ret, "epochs", epochs);
}

static JsonArray *history_row(const TrafficHistory *row)
{
    JsonArray *list = json_array_new();

    json_array_add_int_element(list, row->in_bytes);
    json_array_add_int_element(list, row->main_bytes);
    json_array_add_int_element(list, row->wire_bytes);
    json_array_add_int_element(list, row->pages);
    json_array_add_int_element(list, row->again);
    json_array_add_int_element(list, row->rate_limit);
    json_array_add_int_element(list, row->dirty);
    json_array_add_int_element(list, row->remaining);
    json_array_add_int_element(list, row->held);
    json_array_add_int_element(list, row->rtt_us);
    return list;
}

static void add_history(const TrafficCounts *counts, JsonObject *ret)
{
    static const char *const columns[] = {
        "payload-in", "main-in", "wire-out", "pages", "again", "rate-limit",
        "dirty-rate", "remaining", "held", "rtt-us",
    };
    JsonArray *names = json_array_new(), *rows = json_array_new();

    for (unsigned i = 0; i < G_N_ELEMENTS(columns); i++) {
        json_array_add_string_element(names, columns[i]);
    }
    for (unsigned i = 0; i < counts->history_scale.used; i++) {
        json_array_add_array_element(rows, history_row(&counts->history[i]));
    }
    json_object_set_double_member(ret, "history-ms",
                                  counts->history_scale.unit / 1000.0);
    json_object_set_array_member(ret, "history-columns", names);
    json_object_set_array_member(ret, "history", rows);
}

static void add_moments(const TrafficCounts *counts, JsonObject *ret)
{
    JsonObject *moments = json_object_new();

    for (unsigned i = 0; i < TRAFFIC_MOMENTS; i++) {
        if (counts->moments[i] >= 0) {
            json_object_set_double_member(moments, moment_names[i],
                                          counts->moments[i] / 1000.0);
        }
    }
    json_object_set_object_member(ret, "moments", moments);
}

/* ---- all of it ------------------------------------------------------------------------ */

static JsonObject *main_to_json(Traffic *self, const TrafficCounts *counts)
{
    JsonObject *object = json_object_new();
    JsonArray *sections = NULL;

    g_mutex_lock(&self->lock);
    if (self->sections) {
        sections = json_array_ref(self->sections);
    }
    g_mutex_unlock(&self->lock);
    json_object_set_int_member(object, "bytes", counts->main_bytes);
    json_object_set_int_member(object, "device-bytes",
                               counts->device_stream_bytes);
    json_object_set_int_member(object, "flushes", counts->main_counts.flushes);
    json_object_set_int_member(object, "eos", counts->main_counts.eos);
    json_object_set_int_member(object, "zero-records",
                               counts->main_counts.zero_records);
    json_object_set_int_member(object, "page-records",
                               counts->main_counts.page_records);
    if (sections) {
        json_object_set_array_member(object, "sections", sections);
    }
    return object;
}

JsonObject *traffic_to_json(Traffic *self)
{
    g_autoptr(TrafficCounts) counts = traffic_copy_counts(self);
    JsonObject *ret = json_object_new();

    json_object_set_string_member(ret, "clock", counts->live ? "time"
                                                             : "epochs");
    json_object_set_double_member(ret, "now-ms", counts->now_us / 1000.0);
    add_pages(ret, &counts->all);
    json_object_set_int_member(ret, "packets", counts->packets);
    json_object_set_int_member(ret, "device-packets", counts->device_packets);
    json_object_set_int_member(ret, "device-payload-bytes",
                               counts->device_bytes);
    json_object_set_int_member(ret, "pages-on-main", counts->on_main);
    json_object_set_int_member(ret, "pages-on-preempt", counts->on_preempt);
    add_blocks(counts, ret);
    add_epochs(counts, ret);
    add_history(counts, ret);
    add_moments(counts, ret);
    json_object_set_object_member(ret, "main", main_to_json(self, counts));
    return ret;
}
