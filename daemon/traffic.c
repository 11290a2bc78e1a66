/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/traffic.c - counting
 *
 * Theory of operation.  Three tables grow with what cannot be known beforehand:
 * slices of time in the heat maps, epochs, and the history of throughput.  Each
 * has a scale, the unit of its rows.  What would lie beyond the last row makes
 * the unit double: rows 2i and 2i + 1 are added into row i.  So a short
 * migration is shown finely, a long one coarsely, and both cost the same.
 */
#include "daemon/traffic-private.h"

#include <string.h>
#include "daemon/vmdesc.h"

enum {
    SEEN_BYTES_MAX = 8 * 1024 * 1024,
    DEVICES_MAX = 1024 * 1024,
    FIRST_SLICE_US = 100 * 1000,
    FIRST_HISTORY_US = 100 * 1000,
};

/* ---- scales ---------------------------------------------------------------------- */

/* The row of @x among @n; @merge is called for each doubling. */
static unsigned get_row(TrafficScale *scale, uint64_t x, unsigned n,
                        void (*merge)(TrafficCounts *counts),
                        TrafficCounts *counts)
{
    while (x / scale->unit >= n) {
        merge(counts);
        scale->unit *= 2;
        scale->used = (scale->used + 1) / 2;
    }
    scale->used = MAX(scale->used, x / scale->unit + 1);
    return x / scale->unit;
}

static void add_pages(TrafficPages *to, const TrafficPages *from)
{
    to->normal += from->normal;
    to->zero += from->zero;
    to->again += from->again;
    to->bytes += from->bytes;
}

static void merge_epochs(TrafficCounts *counts)
{
    for (unsigned i = 0; i < TRAFFIC_EPOCHS; i++) {
        TrafficEpoch row = counts->epochs[i];
        TrafficEpoch *to = &counts->epochs[i / 2];

        if (i % 2 == 0) {
            *to = row;
        } else if (row.packets + row.device_packets > 0) {
            add_pages(&to->pages, &row.pages);
            to->first_us = to->packets + to->device_packets > 0
                           ? MIN(to->first_us, row.first_us) : row.first_us;
            to->last_us = MAX(to->last_us, row.last_us);
            to->packets += row.packets;
            to->device_packets += row.device_packets;
            for (unsigned c = 0; c < TRAFFIC_CHANNELS; c++) {
                to->by_channel[c] += row.by_channel[c];
            }
        }
    }
    memset(&counts->epochs[TRAFFIC_EPOCHS / 2], 0,
           sizeof(counts->epochs) / 2);
}

static void merge_history(TrafficCounts *counts)
{
    for (unsigned i = 0; i < TRAFFIC_HISTORY; i++) {
        TrafficHistory row = counts->history[i];
        TrafficHistory *to = &counts->history[i / 2];

        if (i % 2 == 1) {
            row.in_bytes += to->in_bytes;
            row.main_bytes += to->main_bytes;
            row.wire_bytes += to->wire_bytes;
            row.pages += to->pages;
            row.again += to->again;
            row.rate_limit = row.rate_limit ? row.rate_limit : to->rate_limit;
            row.dirty = MAX(row.dirty, to->dirty);
            row.remaining = MAX(row.remaining, to->remaining);
            row.held = MAX(row.held, to->held);
            row.rtt_us = MAX(row.rtt_us, to->rtt_us);
        }
        *to = row;
    }
    memset(&counts->history[TRAFFIC_HISTORY / 2], 0,
           sizeof(counts->history) / 2);
}

static void merge_heat(TrafficHeat *heat)
{
    for (unsigned i = 0; i < TRAFFIC_SLICES / 2; i++) {
        for (unsigned part = 0; part < TRAFFIC_PARTS; part++) {
            heat->slices[i][part] = heat->slices[2 * i][part] +
                                    heat->slices[2 * i + 1][part];
        }
    }
    memset(heat->slices[TRAFFIC_SLICES / 2], 0, sizeof(heat->slices) / 2);
}

static void merge_slices(TrafficCounts *counts)
{
    for (unsigned i = 0; i < counts->n_blocks; i++) {
        if (counts->blocks[i].heat) {
            merge_heat(counts->blocks[i].heat);
        }
    }
}

static int64_t get_now(const TrafficCounts *counts)
{
    return counts->live && !counts->finished
           ? g_get_monotonic_time() - counts->start_us : counts->now_us;
}

static TrafficHistory *get_history(TrafficCounts *counts, int64_t now_us)
{
    return &counts->history[get_row(&counts->history_scale, now_us,
                                    TRAFFIC_HISTORY, merge_history, counts)];
}

static TrafficEpoch *get_epoch(TrafficCounts *counts, uint64_t epoch,
                               int64_t now_us)
{
    TrafficEpoch *row = &counts->epochs[get_row(&counts->epoch_scale, epoch,
                                                TRAFFIC_EPOCHS, merge_epochs,
                                                counts)];

    if (row->packets + row->device_packets == 0) {
        row->first_us = now_us;
    }
    row->last_us = now_us;
    return row;
}

/* ---- life ------------------------------------------------------------------------- */

Traffic *traffic_new(bool live)
{
    Traffic *self = g_new0(Traffic, 1);

    g_mutex_init(&self->lock);
    self->counts.live = live;
    self->counts.start_us = g_get_monotonic_time();
    self->counts.slice_scale.unit = FIRST_SLICE_US;
    self->counts.history_scale.unit = FIRST_HISTORY_US;
    self->counts.epoch_scale.unit = 1;
    for (unsigned i = 0; i < TRAFFIC_MOMENTS; i++) {
        self->counts.moments[i] = -1;
    }
    return self;
}

static void clear_blocks(TrafficCounts *counts)
{
    for (unsigned i = 0; i < counts->n_blocks; i++) {
        g_free(counts->blocks[i].seen);
        g_free(counts->blocks[i].parts);
        g_free(counts->blocks[i].heat);
    }
    g_clear_pointer(&counts->blocks, g_free);
    counts->n_blocks = 0;
}

void traffic_free(Traffic *self)
{
    if (!self) {
        return;
    }
    clear_blocks(&self->counts);
    g_clear_pointer(&self->devices, g_byte_array_unref);
    g_clear_pointer(&self->sections, json_array_unref);
    g_mutex_clear(&self->lock);
    g_free(self);
}

void traffic_set_now(Traffic *self, int64_t now_us)
{
    g_mutex_lock(&self->lock);
    self->counts.now_us = MAX(self->counts.now_us, now_us);
    g_mutex_unlock(&self->lock);
}

/* ---- RAM blocks ------------------------------------------------------------------- */

static int compare_lengths(const void *a, const void *b)
{
    const Ramblock *x = *(const Ramblock *const *)a;
    const Ramblock *y = *(const Ramblock *const *)b;

    return x->used_length < y->used_length ? 1
           : x->used_length > y->used_length ? -1 : 0;
}

static void init_block(Traffic *self, TrafficBlock *block,
                       const Ramblock *ramblock, bool heat)
{
    uint64_t bytes;

    g_strlcpy(block->name, ramblock->name, sizeof(block->name));
    block->used_length = ramblock->used_length;
    block->n_pages = ramblock->used_length >> self->counts.page_shift;
    if (block->n_pages == 0) {
        return;
    }
    while ((block->n_pages - 1) >> block->part_shift >= TRAFFIC_PARTS) {
        block->part_shift++;
    }
    block->n_parts = ((block->n_pages - 1) >> block->part_shift) + 1;
    block->parts = g_new0(TrafficPart, block->n_parts);
    bytes = block->n_pages / 8 + 1;
    if (bytes <= SEEN_BYTES_MAX - self->seen_bytes) {
        self->seen_bytes += bytes;
        block->seen = g_malloc0(bytes);
        block->exact = true;
    }
    block->heat = heat ? g_new0(TrafficHeat, 1) : NULL;
}

static void set_blocks(Traffic *self, const RamblockTable *table)
{
    TrafficCounts *counts = &self->counts;
    unsigned n = ramblock_table_get_count(table);
    g_autofree const Ramblock **sorted = g_new0(const Ramblock *, n + 1);

    clear_blocks(counts);
    self->seen_bytes = 0;
    self->last_block = 0;
    counts->total_length = 0;
    for (unsigned i = 0; i < n; i++) {
        sorted[i] = ramblock_table_get(table, i);
        counts->total_length += sorted[i]->used_length;
    }
    qsort(sorted, n, sizeof(*sorted), compare_lengths);
    counts->n_blocks_total = n;
    counts->n_blocks = MIN(n, TRAFFIC_BLOCKS);
    counts->blocks = g_new0(TrafficBlock, counts->n_blocks + 1);
    for (unsigned i = 0; i < counts->n_blocks; i++) {
        init_block(self, &counts->blocks[i], sorted[i],
                   i < TRAFFIC_HEAT_BLOCKS);
    }
}

void traffic_begin(Traffic *self, const RamblockTable *table,
                   uint64_t page_size)
{
    TrafficCounts *counts;

    if (!self) {
        return;
    }
    counts = &self->counts;
    g_mutex_lock(&self->lock);
    if (counts->all.normal + counts->all.zero == 0) {
        counts->page_size = page_size;
        counts->page_shift = __builtin_ctzll(page_size);
        set_blocks(self, table);
    }
    g_mutex_unlock(&self->lock);
}

static TrafficBlock *find_block(Traffic *self, const char *name)
{
    TrafficCounts *counts = &self->counts;

    for (unsigned i = 0; i < counts->n_blocks; i++) {
        unsigned index = (self->last_block + i) % counts->n_blocks;

        if (strcmp(counts->blocks[index].name, name) == 0) {
            self->last_block = index;
            return &counts->blocks[index];
        }
    }
    return NULL;
}

/* Whether the page came before. */
static bool see_page(TrafficBlock *block, uint64_t page, unsigned part)
{
    uint8_t bit = 1u << (page % 8);
    bool seen;

    if (!block->seen) {
        return block->parts[part].sent > 1u << block->part_shift;
    }
    seen = block->seen[page / 8] & bit;
    block->seen[page / 8] |= bit;
    return seen;
}

static uint64_t note_offsets(const TrafficCounts *counts, TrafficBlock *block,
                             const uint64_t *offsets, unsigned n,
                             uint32_t *slice)
{
    uint64_t again = 0;

    for (unsigned i = 0; i < n; i++) {
        uint64_t page = offsets[i] >> counts->page_shift;
        unsigned part;

        if (page >= block->n_pages) {
            continue;
        }
        part = page >> block->part_shift;
        block->parts[part].sent++;
        if (slice) {
            slice[part]++;
        }
        if (see_page(block, page, part)) {
            block->parts[part].again++;
            again++;
        }
    }
    return again;
}

/* All that is counted of some pages; the epoch's packets are the caller's. */
static void note_pages(Traffic *self, const char *name, const uint64_t *offsets,
                       TrafficPages *pages, uint64_t epoch)
{
    TrafficCounts *counts = &self->counts;
    TrafficBlock *block = find_block(self, name);
    int64_t now_us = get_now(counts);
    unsigned slice = get_row(&counts->slice_scale, now_us, TRAFFIC_SLICES,
                             merge_slices, counts);
    TrafficHistory *history = get_history(counts, now_us);

    if (block) {
        pages->again = note_offsets(counts, block, offsets,
                                    pages->normal + pages->zero,
                                    block->heat ? block->heat->slices[slice]
                                                : NULL);
    }
    add_pages(block ? &block->pages : &counts->others, pages);
    add_pages(&counts->all, pages);
    add_pages(&get_epoch(counts, epoch, now_us)->pages, pages);
    history->in_bytes += pages->bytes;
    history->pages += pages->normal + pages->zero;
    history->again += pages->again;
}

static TrafficEpoch *count_channel(TrafficEpoch *epoch, const Packet *packet)
{
    if (packet->in_channel < TRAFFIC_CHANNELS) {
        epoch->by_channel[packet->in_channel]++;
    }
    return epoch;
}

static void note_device_packet(TrafficCounts *counts, uint64_t epoch,
                               const Packet *packet)
{
    int64_t now_us = get_now(counts);

    count_channel(get_epoch(counts, epoch, now_us), packet)->device_packets++;
    get_history(counts, now_us)->in_bytes += packet->payload_len;
    counts->device_packets++;
    counts->device_bytes += packet->payload_len;
}

void traffic_note_packet(Traffic *self, uint64_t epoch, const Packet *packet)
{
    const MultifdHeader *header = &packet->header;
    TrafficPages pages = { 0 };

    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    if (packet->kind == PACKET_PAGES) {
        pages.normal = header->normal_pages;
        pages.zero = header->zero_pages;
        pages.bytes = packet->payload_len;
        note_pages(self, header->ramblock, header->offset, &pages, epoch);
        count_channel(get_epoch(&self->counts, epoch, get_now(&self->counts)),
                      packet)->packets++;
        self->counts.packets++;
    } else {
        note_device_packet(&self->counts, epoch, packet);
    }
    self->counts.moments[TRAFFIC_LAST_PACKET_IN] = get_now(&self->counts);
    g_mutex_unlock(&self->lock);
}

void traffic_note_main_page(Traffic *self, uint64_t epoch, const char *block,
                            uint64_t offset, bool zero)
{
    TrafficPages pages = { .normal = !zero, .zero = zero };

    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    pages.bytes = zero ? 0 : self->counts.page_size;
    note_pages(self, block, &offset, &pages, epoch);
    /* The bytes are the main channel's. */
    get_history(&self->counts, get_now(&self->counts))->in_bytes -= pages.bytes;
    self->counts.on_main++;
    g_mutex_unlock(&self->lock);
}

void traffic_note_preempt_page(Traffic *self, uint64_t epoch, const char *block,
                               uint64_t offset, bool zero)
{
    TrafficPages pages = { .normal = !zero, .zero = zero };

    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    pages.bytes = zero ? 0 : self->counts.page_size;
    note_pages(self, block, &offset, &pages, epoch);
    self->counts.on_preempt++;
    g_mutex_unlock(&self->lock);
}

uint64_t traffic_get_main_pages(Traffic *self)
{
    uint64_t n;

    g_mutex_lock(&self->lock);
    n = self->counts.on_main;
    g_mutex_unlock(&self->lock);
    return n;
}

uint64_t traffic_get_preempt_pages(Traffic *self)
{
    uint64_t n;

    g_mutex_lock(&self->lock);
    n = self->counts.on_preempt;
    g_mutex_unlock(&self->lock);
    return n;
}

void traffic_note_epoch_end(Traffic *self, uint64_t closed)
{
    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    self->counts.epochs_closed = closed;
    if (closed > 0) {
        get_epoch(&self->counts, closed - 1, get_now(&self->counts));
    }
    g_mutex_unlock(&self->lock);
}

/* ---- the main channel ---------------------------------------------------------- */

void traffic_note_main(Traffic *self, size_t len, const MainStreamCounts *counts)
{
    int64_t now_us;

    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    now_us = get_now(&self->counts);
    get_history(&self->counts, now_us)->main_bytes += len;
    self->counts.main_bytes += len;
    self->counts.main_counts = *counts;
    if (self->counts.moments[TRAFFIC_FIRST_BYTE] < 0) {
        self->counts.moments[TRAFFIC_FIRST_BYTE] = now_us;
    }
    self->counts.moments[TRAFFIC_LAST_MAIN_IN] = now_us;
    g_mutex_unlock(&self->lock);
}

void traffic_note_devices(Traffic *self, const uint8_t *buf, size_t len)
{
    if (!self || len == 0) {
        return;
    }
    g_mutex_lock(&self->lock);
    self->counts.device_stream_bytes += len;
    if (self->counts.device_stream_bytes > DEVICES_MAX) {
        g_clear_pointer(&self->devices, g_byte_array_unref);
        self->devices_lost = true;
    } else {
        self->devices = self->devices ? self->devices : g_byte_array_new();
        g_byte_array_append(self->devices, buf, len);
    }
    g_mutex_unlock(&self->lock);
}

/* ---- moments and samples ------------------------------------------------------- */

static void set_moment(Traffic *self, TrafficMoment moment, bool first)
{
    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    if (!first || self->counts.moments[moment] < 0) {
        self->counts.moments[moment] = get_now(&self->counts);
    }
    g_mutex_unlock(&self->lock);
}

void traffic_mark(Traffic *self, TrafficMoment moment)
{
    set_moment(self, moment, true);
}

void traffic_touch(Traffic *self, TrafficMoment moment)
{
    set_moment(self, moment, false);
}

void traffic_touch_at(Traffic *self, TrafficMoment moment, int64_t when_us)
{
    g_mutex_lock(&self->lock);
    self->counts.moments[moment] = MAX(when_us - self->counts.start_us, 0);
    g_mutex_unlock(&self->lock);
}

/* Bytes that went since the last sample, spread over the rows since then. */
static void spread_wire_bytes(TrafficCounts *counts, uint64_t bytes,
                              int64_t now_us)
{
    int64_t from_us = MIN(counts->sampled_us, now_us);
    uint64_t first, last, share;

    get_history(counts, now_us);    /* the scale reaches as far */
    first = from_us / counts->history_scale.unit;
    last = now_us / counts->history_scale.unit;
    share = bytes / (last - first + 1);
    for (uint64_t row = first; row <= last; row++) {
        counts->history[row].wire_bytes += share;
    }
    counts->history[last].wire_bytes += bytes - share * (last - first + 1);
}

void traffic_sample(Traffic *self, const TrafficSample *sample)
{
    TrafficCounts *counts;
    TrafficHistory *row;
    int64_t now_us;

    if (!self) {
        return;
    }
    counts = &self->counts;
    g_mutex_lock(&self->lock);
    now_us = get_now(counts);
    if (sample->wire_bytes > counts->sampled_wire_bytes) {
        spread_wire_bytes(counts,
                          sample->wire_bytes - counts->sampled_wire_bytes,
                          now_us);
        counts->sampled_wire_bytes = sample->wire_bytes;
    }
    counts->sampled_us = now_us;
    row = get_history(counts, now_us);
    row->rate_limit = sample->rate_limit_bytes_per_s;
    row->dirty = sample->dirty_bytes_per_s;
    row->remaining = sample->remaining_bytes;
    row->held = MAX(row->held, sample->held_bytes);
    row->rtt_us = sample->rtt_us;
    g_mutex_unlock(&self->lock);
}

/* ---- the end ---------------------------------------------------------------------- */

static JsonArray *list_sections(const GByteArray *devices)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vmdesc) vmdesc = vmdesc_new(devices->data, devices->len, &error);

    /* Without a description there are no names: the bytes are all that is known. */
    return vmdesc ? vmdesc_list_sections(vmdesc) : NULL;
}

void traffic_finish(Traffic *self)
{
    GByteArray *devices;
    JsonArray *sections;

    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    self->counts.now_us = get_now(&self->counts);
    self->counts.finished = true;
    devices = g_steal_pointer(&self->devices);
    for (unsigned i = 0; i < self->counts.n_blocks; i++) {
        g_clear_pointer(&self->counts.blocks[i].seen, g_free);
    }
    g_mutex_unlock(&self->lock);
    if (!devices) {
        return;
    }
    sections = list_sections(devices);
    /* They are the guest's. */
    explicit_bzero(devices->data, devices->len);
    g_byte_array_unref(devices);
    g_mutex_lock(&self->lock);
    self->sections = sections;
    g_mutex_unlock(&self->lock);
}

TrafficCounts *traffic_copy_counts(Traffic *self)
{
    TrafficCounts *copy;

    g_mutex_lock(&self->lock);
    copy = g_memdup2(&self->counts, sizeof(self->counts));
    copy->now_us = get_now(&self->counts);
    copy->blocks = g_memdup2(self->counts.blocks,
                             self->counts.n_blocks * sizeof(*copy->blocks));
    for (unsigned i = 0; i < copy->n_blocks; i++) {
        TrafficBlock *block = &copy->blocks[i];

        block->seen = NULL;
        block->parts = g_memdup2(block->parts,
                                 block->n_parts * sizeof(*block->parts));
        block->heat = g_memdup2(block->heat, sizeof(*block->heat));
    }
    g_mutex_unlock(&self->lock);
    return copy;
}

void traffic_counts_free(TrafficCounts *counts)
{
    clear_blocks(counts);
    g_free(counts);
}
