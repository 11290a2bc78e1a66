/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/packet.h"

/*
 * Only nearly full packets are pooled, most are: short ones must not make us hold
 * a full buffer for each, nor more than the footprint that others reckon with.
 */
enum {
    POOLED_MIN = MULTIFD_PACKET_SIZE / 8 * 7,
    POOLED_SIZE = MULTIFD_PACKET_SIZE,
    POOL_KEEP = 16,                     /* idle buffers kept per migration */
};

struct PacketPool {
    gatomicrefcount refs;
    GMutex lock;                        /* guards all below; a leaf */
    unsigned n_idle;
    uint8_t *idle[POOL_KEEP];
};

PacketPool *packet_pool_new(void)
{
    PacketPool *self = g_new0(PacketPool, 1);

    g_atomic_ref_count_init(&self->refs);
    g_mutex_init(&self->lock);
    return self;
}

PacketPool *packet_pool_ref(PacketPool *self)
{
    g_atomic_ref_count_inc(&self->refs);
    return self;
}

void packet_pool_unref(PacketPool *self)
{
    if (!self || !g_atomic_ref_count_dec(&self->refs)) {
        return;
    }
    while (self->n_idle > 0) {
        g_free(self->idle[--self->n_idle]);
    }
    g_mutex_clear(&self->lock);
    g_free(self);
}

static uint8_t *pool_get(PacketPool *self)
{
    uint8_t *buffer = NULL;

    g_mutex_lock(&self->lock);
    if (self->n_idle > 0) {
        buffer = self->idle[--self->n_idle];
    }
    g_mutex_unlock(&self->lock);
    return buffer ? buffer : g_malloc(POOLED_SIZE);
}

static void pool_put(PacketPool *self, uint8_t *buffer)
{
    g_mutex_lock(&self->lock);
    if (self->n_idle < POOL_KEEP) {
        self->idle[self->n_idle++] = g_steal_pointer(&buffer);
    }
    g_mutex_unlock(&self->lock);
    g_free(buffer);
}

static bool is_pooled(uint32_t capacity)
{
    return capacity == POOLED_SIZE;
}

static uint32_t get_capacity(uint32_t payload_len)
{
    return payload_len > POOLED_MIN && payload_len <= POOLED_SIZE
           ? POOLED_SIZE : payload_len;
}

Packet *packet_new(PacketPool *pool, PacketKind kind, uint32_t payload_len)
{
    Packet *self = g_malloc(sizeof(*self));

    *self = (Packet) {
        .kind = kind,
        .payload_len = payload_len,
        .pool = packet_pool_ref(pool),
    };
    g_atomic_ref_count_init(&self->refs);
    self->capacity = get_capacity(payload_len);
    if (is_pooled(self->capacity)) {
        self->payload = pool_get(pool);
    } else if (payload_len > 0) {
        self->payload = g_malloc(payload_len);
    }
    return self;
}

Packet *packet_ref(Packet *self)
{
    g_atomic_ref_count_inc(&self->refs);
    return self;
}

void packet_free(Packet *self)
{
    if (!self || !g_atomic_ref_count_dec(&self->refs)) {
        return;
    }
    if (self->done) {
        self->done(self, self->done_data);
    }
    if (is_pooled(self->capacity)) {
        pool_put(self->pool, self->payload);
    } else {
        g_free(self->payload);
    }
    packet_pool_unref(self->pool);
    g_free(self);
}

uint64_t packet_footprint(uint32_t payload_len)
{
    return sizeof(Packet) + get_capacity(payload_len);
}

uint64_t packet_get_footprint(const Packet *self)
{
    return sizeof(*self) + self->capacity;
}
