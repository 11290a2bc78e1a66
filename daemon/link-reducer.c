/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-reducer.h"

#include <string.h>

#include "wire/crc32c.h"
#include "wire/link-pack.h"

/* From not at all to the strongest that still keeps up with a fast line. */
static const int ladder[] = { 0, -5, -1, 1, 3, 6 };

enum {
    FIRST_RUNG = 3,
    /* A lane's time is judged when there is so much of it. */
    JUDGE_US = 200 * 1000,
    BUSY_PERCENT = 60,      /* packing for longer than that: do less */
    WIRE_PERCENT = 60,      /* waiting for the wire for longer: do more */
    /* At "not at all", look now and then whether that has changed. */
    RETRY_US = 2 * 1000 * 1000,
};

struct LinkReduction {
    LinkReductionSetup setup;   /* constant */
    int top;                    /* highest rung; constant */
    GMutex lock;                /* guards all below; a leaf */
    PageHistory *history;       /* NULL: none */
    uint64_t raw, packed, pack_us;
};

struct LinkReducer {
    LinkReduction *shared;      /* lent */
    LinkPacker *packer;
    int rung;                   /* in the ladder */
    int64_t pack_us, write_us, idle_us;     /* since it was judged last */
    int64_t last_pack_us;       /* of the frame in hand */
    int64_t off_us;             /* for how long it has been off */
};

/* ---- shared ----------------------------------------------------------------------- */

static int find_top(int level)
{
    int top = 0;

    while (top + 1 < (int)G_N_ELEMENTS(ladder) && ladder[top + 1] <= level) {
        top++;
    }
    return top;
}

LinkReduction *link_reduction_new(const LinkReductionSetup *setup)
{
    LinkReduction *self = g_new0(LinkReduction, 1);

    self->setup = *setup;
    self->top = find_top(setup->level);
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
    ret->pack_us = self->pack_us;
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

static void count(LinkReducer *self, size_t raw, size_t packed, int64_t pack_us)
{
    LinkReduction *shared = self->shared;

    self->last_pack_us = pack_us;
    g_mutex_lock(&shared->lock);
    shared->raw += raw;
    shared->packed += packed;
    shared->pack_us += pack_us;
    g_mutex_unlock(&shared->lock);
}

uint8_t *link_reducer_pack(LinkReducer *self, const Packet *packet,
                           uint64_t number, uint64_t acked, size_t room,
                           size_t *ret_len)
{
    unsigned n = packet->header.normal_pages;
    uint32_t page_size = self->shared->setup.page_size;
    int64_t begin_us = g_get_monotonic_time();
    uint32_t refs[MULTIFD_PAGES_MAX];
    uint8_t *body;
    size_t len;

    self->last_pack_us = 0;
    if (packet->kind != PACKET_PAGES || packet->method != METHOD_NONE || n == 0 ||
        (self->rung == 0 && !self->shared->setup.fixed)) {
        return NULL;
    }
    take_pages(self, packet, number, acked, refs);
    body = g_malloc(room + link_pack_bound(n, page_size));
    len = link_packer_pack(self->packer, refs, n, page_size, ladder[self->rung],
                           body + room);
    count(self, packet->payload_len, len, g_get_monotonic_time() - begin_us);
    *ret_len = room + len;
    /* It may be kept for long: no more than it needs. */
    return g_realloc(body, *ret_len);
}

/* ---- how hard ------------------------------------------------------------------------ */

static void judge(LinkReducer *self)
{
    int64_t all_us = self->pack_us + self->write_us + self->idle_us;

    if (self->pack_us * 100 > all_us * BUSY_PERCENT && self->rung > 0) {
        self->rung--;
        self->off_us = 0;
    } else if (self->write_us * 100 > all_us * WIRE_PERCENT &&
               self->rung < self->shared->top) {
        self->rung++;
    }
}

/* Off: until it is time to look again whether packing pays. */
static bool stays_off(LinkReducer *self)
{
    if (self->rung > 0) {
        return false;
    }
    self->off_us += self->write_us + self->idle_us;
    return self->off_us < RETRY_US;
}

void link_reducer_note_idle(LinkReducer *self, int64_t idle_us)
{
    self->idle_us += idle_us;
}

void link_reducer_note_write(LinkReducer *self, int64_t write_us)
{
    self->write_us += write_us;
    self->pack_us += self->last_pack_us;
    self->last_pack_us = 0;
    if (self->shared->setup.fixed ||
        self->pack_us + self->write_us + self->idle_us < JUDGE_US) {
        return;
    }
    if (!stays_off(self)) {
        judge(self);
    }
    self->pack_us = self->write_us = self->idle_us = 0;
}

int link_reducer_get_level(const LinkReducer *self)
{
    return ladder[self->rung];
}

/* ---- life ------------------------------------------------------------------------------ */

LinkReducer *link_reducer_new(LinkReduction *shared)
{
    LinkReducer *self = g_new0(LinkReducer, 1);

    self->shared = shared;
    self->packer = link_packer_new();
    self->rung = shared->setup.fixed ? shared->top
                                     : MIN((int)FIRST_RUNG, shared->top);
    return self;
}

void link_reducer_free(LinkReducer *self)
{
    if (self) {
        link_packer_free(self->packer);
        g_free(self);
    }
}
