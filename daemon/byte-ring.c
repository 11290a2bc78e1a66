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

size_t byte_ring_read(ByteRing *self, uint8_t *buf, size_t max)
{
    size_t at = self->out % self->size;
    size_t n = MIN(max, byte_ring_get_held(self));
    size_t first = MIN(n, self->size - at);

    memcpy(buf, self->data + at, first);
    memcpy(buf + first, self->data, n - first);
    self->out += n;
    return n;
}
