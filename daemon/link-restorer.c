/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-restorer.h"

#include "daemon/worker.h"
#include "wire/error.h"
#include "wire/link-pack.h"
#include "wire/page-history.h"

struct LinkRestoration {
    uint32_t n_slots;       /* constant */
    GMutex lock;
    PageSlots *slots;       /* NULL until the first lane knows the page size */
};

struct LinkRestorer {
    PageSlots *slots;       /* the shared ones; NULL: no history */
    uint32_t page_size;
    LinkUnpacker *unpacker;
    uint32_t refs[MULTIFD_PAGES_MAX];
};

LinkRestoration *link_restoration_new(uint32_t n_slots)
{
    LinkRestoration *self = g_new0(LinkRestoration, 1);

    self->n_slots = n_slots;
    g_mutex_init(&self->lock);
    return self;
}

void link_restoration_free(LinkRestoration *self)
{
    if (self) {
        page_slots_free(self->slots);
        g_mutex_clear(&self->lock);
        g_free(self);
    }
}

static PageSlots *get_slots(LinkRestoration *self, uint32_t page_size)
{
    PageSlots *slots;

    g_mutex_lock(&self->lock);
    if (!self->slots && self->n_slots > 0) {
        self->slots = page_slots_new(self->n_slots, page_size);
    }
    slots = self->slots;
    g_mutex_unlock(&self->lock);
    return slots;
}

LinkRestorer *link_restorer_new(LinkRestoration *shared, uint32_t page_size)
{
    LinkRestorer *self = g_new0(LinkRestorer, 1);

    self->slots = get_slots(shared, page_size);
    self->page_size = page_size;
    self->unpacker = link_unpacker_new();
    return self;
}

void link_restorer_free(LinkRestorer *self)
{
    if (self) {
        link_unpacker_free(self->unpacker);
        g_free(self);
    }
}

static bool check_no_refs(const uint32_t *refs, unsigned n, GError **error)
{
    for (unsigned i = 0; i < n; i++) {
        if (refs[i] != 0) {
            g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                        "page %u: got history ref 0x%08x, allowed only 0: no "
                        "history was agreed on", i, refs[i]);
            return false;
        }
    }
    return true;
}

static bool unpack(LinkRestorer *self, const uint8_t *src, size_t len,
                   Packet *packet, GError **error)
{
    unsigned n = packet->header.normal_pages;

    g_assert(n <= MULTIFD_PAGES_MAX &&
             packet->payload_len == n * self->page_size);
    if (!link_unpacker_unpack(self->unpacker, src, len, n, self->page_size,
                              self->refs, packet->payload, error)) {
        return false;
    }
    if (!self->slots) {
        return check_no_refs(self->refs, n, error);
    }
    if (!page_slots_check(self->slots, self->refs, n, error)) {
        return false;
    }
    page_slots_xor(self->slots, self->refs, n, packet->payload);
    return true;
}

bool link_restorer_unpack(LinkRestorer *self, const uint8_t *src, size_t len,
                          Packet *packet, GError **error)
{
    bool ok;

    worker_begin_computing();
    ok = unpack(self, src, len, packet, error);
    worker_end_computing();
    return ok;
}

void link_restorer_store(LinkRestorer *self, const Packet *packet)
{
    if (self->slots) {
        page_slots_store(self->slots, self->refs, packet->header.normal_pages,
                         packet->payload);
    }
}
