/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-reducer.h"

#include <string.h>
#include <time.h>

#include "daemon/pack-level.h"
#include "daemon/worker.h"
#include "wire/crc32c.h"
#include "wire/link-pack.h"

struct LinkReduction {
    LinkReductionSetup setup;   /* constant */
    GMutex lock;                /* guards all below; a leaf */
    PageHistory *history;       /* NULL: none */
    uint64_t raw, packed, cpu_us;
};

struct LinkReducer {
    LinkReduction *shared;      /* lent */
    LinkPacker *packer;
    PackLevel level;
};

/* ---- shared ----------------------------------------------------------------------- */

LinkReduction *link_reduction_new(const LinkReductionSetup *setup)
{
    LinkReduction *self = g_new0(LinkReduction, 1);

    self->setup = *setup;
    g_mutex_init(&self->lock);
    if (setup->n_slots > 0) {
        self->history = page_history_new(setup->n_slots, setup->page_size,
                                         setup->blocks);
    }
    return self;
}

void link_reduction_free(LinkReduction *self)
{
    if (self) {
        page_history_free(self->history);
        g_mutex_clear(&self->lock);
        g_free(self);
    }
}

void link_reduction_get_counts(LinkReduction *self, LinkReductionCounts *ret)
{
    memset(ret, 0, sizeof(*ret));
    g_mutex_lock(&self->lock);
    ret->raw = self->raw;
    ret->packed = self->packed;
    ret->cpu_us = self->cpu_us;
    if (self->history) {
        page_history_get_counts(self->history, &ret->history);
    }
    g_mutex_unlock(&self->lock);
}

/* ---- packing ------------------------------------------------------------------------ */

static bool find_block(const LinkReduction *self, const char *name,
                       unsigned *ret)
{
    unsigned n = ramblock_table_get_count(self->setup.blocks);

    for (unsigned i = 0; i < n; i++) {
        if (strcmp(ramblock_table_get(self->setup.blocks, i)->name, name) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

/* Into the packer's buffer, with refs. */
static void take_pages(LinkReducer *self, const Packet *packet, uint64_t number,
                       uint64_t acked, uint32_t *refs)
{
    LinkReduction *shared = self->shared;
    unsigned n = packet->header.normal_pages, block;
    uint8_t *pages = link_packer_get_pages(self->packer, n,
                                           shared->setup.page_size);
    uint32_t sums[MULTIFD_PAGES_MAX];

    if (!shared->history ||
        !find_block(shared, packet->header.ramblock, &block)) {
        memset(refs, 0, n * sizeof(*refs));
        memcpy(pages, packet->payload, packet->payload_len);
        return;
    }
    crc32c_each_page(packet->payload, shared->setup.page_size, n, sums);
    g_mutex_lock(&shared->lock);
    page_history_plan(shared->history, block, packet->header.offset, sums, n,
                      number, acked, refs);
    g_mutex_unlock(&shared->lock);
    page_history_apply(shared->history, refs, n, packet->payload, pages);
}

static int64_t get_cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Begun at @begin_us, when the thread had taken @begin_cpu_us. */
static void count(LinkReducer *self, size_t raw, size_t packed,
                  int64_t begin_us, int64_t begin_cpu_us)
{
    LinkReduction *shared = self->shared;
    int64_t cpu_us = get_cpu_us() - begin_cpu_us;

    pack_level_note_pack(&self->level, raw, packed,
                         g_get_monotonic_time() - begin_us, cpu_us);
    g_mutex_lock(&shared->lock);
    shared->raw += raw;
    shared->packed += packed;
    shared->cpu_us += cpu_us;
    g_mutex_unlock(&shared->lock);
}

uint8_t *link_reducer_pack(LinkReducer *self, const Packet *packet,
                           uint64_t number, uint64_t acked, size_t room,
                           size_t *ret_len)
{
    unsigned n = packet->header.normal_pages;
    uint32_t page_size = self->shared->setup.page_size;
    int64_t begin_us = g_get_monotonic_time(), begin_cpu_us = get_cpu_us();
    uint32_t refs[MULTIFD_PAGES_MAX];
    uint8_t *body;
    size_t len;

    pack_level_note_pages(&self->level, packet->payload_len);
    if (packet->kind != PACKET_PAGES || packet->method != METHOD_NONE || n == 0 ||
        pack_level_is_off(&self->level)) {
        return NULL;
    }
    worker_begin_computing();
    take_pages(self, packet, number, acked, refs);
    body = g_malloc(room + link_pack_bound(n, page_size));
    len = link_packer_pack(self->packer, refs, n, page_size,
                           pack_level_get(&self->level), body + room);
    worker_end_computing();
    count(self, packet->payload_len, len, begin_us, begin_cpu_us);
    *ret_len = room + len;
    /* It may be kept for long: no more than it needs. */
    return g_realloc(body, *ret_len);
}

/* ---- how hard ------------------------------------------------------------------------ */

void link_reducer_note_idle(LinkReducer *self, int64_t idle_us)
{
    pack_level_note_idle(&self->level, idle_us);
}

void link_reducer_note_write(LinkReducer *self, int64_t write_us)
{
    pack_level_note_write(&self->level, write_us);
}

int link_reducer_get_level(const LinkReducer *self)
{
    return pack_level_get(&self->level);
}

/* ---- life ------------------------------------------------------------------------------ */

LinkReducer *link_reducer_new(LinkReduction *shared)
{
    LinkReducer *self = g_new0(LinkReducer, 1);

    self->shared = shared;
    self->packer = link_packer_new();
    pack_level_init(&self->level, shared->setup.level, shared->setup.fixed);
    return self;
}

void link_reducer_free(LinkReducer *self)
{
    if (self) {
        link_packer_free(self->packer);
        g_free(self);
    }
}
