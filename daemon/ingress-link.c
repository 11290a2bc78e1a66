/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/ingress-link.c - a reader thread per bulk lane
 *
 * A lane that breaks off has no consequence: its peer connects it anew, with a higher
 * generation, and sends again what had not arrived.  What breaks a rule fails the
 * migration.  What a lane carries is read in ingress-link-lane.c.
 */
#include "daemon/ingress-link.h"

#include "daemon/ingress-link-private.h"
#include "daemon/worker.h"
#include "wire/error.h"
#include "wire/page-history.h"

LinkRestoration *ingress_link_get_restoration(IngressLink *self,
                                              uint32_t page_size)
{
    LinkRestoration *restoration;

    g_mutex_lock(&self->lock);
    if (!self->restoration) {
        self->restoration = link_restoration_new(
            MIN(self->history / page_size, (uint64_t)PAGE_HISTORY_SLOTS_MAX));
    }
    restoration = self->restoration;
    g_mutex_unlock(&self->lock);
    return restoration;
}

/* ---- lanes ------------------------------------------------------------------- */

/* It was shut when this one was taken. */
static void wait_predecessor(IngressLinkLane *self)
{
    IngressLink *ingress = self->ingress;

    if (!self->old_thread) {
        return;
    }
    g_thread_join(self->old_thread);
    stream_free(self->old_stream);
    g_mutex_lock(&ingress->lock);
    ingress->slots[self->number].replacing = false;
    g_mutex_unlock(&ingress->lock);
}

static void *lane_thread(void *data)
{
    g_autofree IngressLinkLane *self = data;

    wait_predecessor(self);
    ingress_link_lane_run(self);
    return NULL;
}

static bool refuse_lane(unsigned lane, const char *why, GError **error)
{
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL, "bulk lane %u: %s", lane,
                why);
    return false;
}

static bool check_take(const IngressLink *self, unsigned lane,
                       unsigned generation, GError **error)
{
    if (self->closed) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "the migration is over");
        return false;
    }
    if (lane >= LINK_LANES_MAX) {
        return refuse_lane(lane, "allowed 0 to 63", error);
    }
    if (self->slots[lane].stream && generation <= self->slots[lane].generation) {
        return refuse_lane(lane, "is there already", error);
    }
    if (self->slots[lane].replacing) {
        return refuse_lane(lane, "the one before it has not ended yet", error);
    }
    return true;
}

static void start_lane(IngressLink *self, Stream *stream, unsigned lane,
                       unsigned generation)
{
    IngressLinkLane *reader = g_new0(IngressLinkLane, 1);

    reader->ingress = self;
    reader->stream = stream;
    reader->number = lane;
    reader->old_stream = self->slots[lane].stream;
    reader->old_thread = self->slots[lane].thread;
    if (reader->old_stream) {
        stream_shutdown(reader->old_stream);
        self->slots[lane].replacing = true;
    } else {
        self->n_lanes++;
    }
    self->slots[lane].stream = stream;
    self->slots[lane].generation = generation;
    self->slots[lane].thread = worker_new("in-lane", lane_thread, reader,
                                           exchange_get_cpu(self->exchange),
                                           NULL);
}

bool ingress_link_take(Ingress *ingress, Stream *stream, unsigned lane,
                       unsigned generation, GError **error)
{
    IngressLink *self = (IngressLink *)ingress;
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_take(self, lane, generation, error);
    if (ok) {
        start_lane(self, stream, lane, generation);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

uint64_t ingress_link_get_dropped(Ingress *ingress)
{
    return ingress_link_receipts_get_dropped(((IngressLink *)ingress)->receipts);
}

unsigned ingress_link_get_lanes(Ingress *ingress)
{
    IngressLink *self = (IngressLink *)ingress;
    unsigned n_lanes;

    g_mutex_lock(&self->lock);
    n_lanes = self->n_lanes;
    g_mutex_unlock(&self->lock);
    return n_lanes;
}

/* ---- life ------------------------------------------------------------------------- */

static void shutdown_ingress(Ingress *ingress)
{
    IngressLink *self = (IngressLink *)ingress;

    g_mutex_lock(&self->lock);
    self->closed = true;
    for (unsigned i = 0; i < LINK_LANES_MAX; i++) {
        if (self->slots[i].stream) {
            stream_shutdown(self->slots[i].stream);
        }
    }
    g_mutex_unlock(&self->lock);
}

static void free_ingress(Ingress *ingress)
{
    IngressLink *self = (IngressLink *)ingress;

    /* Closed, so nobody adds to these any more. */
    for (unsigned i = 0; i < LINK_LANES_MAX; i++) {
        if (self->slots[i].thread) {
            g_thread_join(self->slots[i].thread);
        }
        stream_free(self->slots[i].stream);
    }
    ingress_link_receipts_close(self->receipts);
    ingress_link_receipts_unref(self->receipts);
    link_restoration_free(self->restoration);
    packet_pool_unref(self->pool);
    g_mutex_clear(&self->lock);
    g_free(self);
}

Ingress *ingress_link_new(const IngressLinkSetup *setup)
{
    static const IngressOps ops = {
        .kind = "link",
        .shutdown = shutdown_ingress,
        .free = free_ingress,
    };
    IngressLink *self = g_new0(IngressLink, 1);

    self->base.ops = &ops;
    self->exchange = setup->exchange;
    self->pool = packet_pool_new();
    self->packed = setup->packed;
    self->history = setup->history;
    self->receipts = ingress_link_receipts_new(setup->exchange, setup->main,
                                               setup->window);
    g_mutex_init(&self->lock);
    return &self->base;
}
