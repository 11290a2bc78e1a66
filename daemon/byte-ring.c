/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/byte-ring.h"

#include <string.h>
#include <glib.h>

void byte_ring_init(ByteRing *self, size_t size)
{
    *self = (ByteRing) { .data = g_malloc(size), .size = size };
}

void byte_ring_clear(ByteRing *self)
{
    g_clear_pointer(&self->data, g_free);
}

size_t byte_ring_write(ByteRing *self, const uint8_t *buf, size_t len)
{
    size_t at = self->in % self->size;
    size_t n = MIN(len, byte_ring_get_space(self));
    size_t first = MIN(n, self->size - at);

    memcpy(self->data + at, buf, first);
    memcpy(self->data, buf + first, n - first);
    self->in += n;
    return n;
}

void byte_ring_peek(const ByteRing *self, uint64_t from, uint8_t *buf,
                    size_t len)
{
    size_t at = from % self->size;
    size_t first = MIN(len, self->size - at);

    g_assert(from >= self->out && from <= self->in && len <= self->in - from);
    memcpy(buf, self->data + at, first);
    memcpy(buf + first, self->data, len - first);
}

void byte_ring_drop(ByteRing *self, uint64_t to)
{
    g_assert(to >= self->out && to <= self->in);
    self->out = to;
}

size_t byte_ring_read(ByteRing *self, uint8_t *buf, size_t max)
{
    size_t n = MIN(max, byte_ring_get_held(self));

    byte_ring_peek(self, self->out, buf, n);
    self->out += n;
    return n;
}
