/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/byte-ring.h - a byte queue of fixed size
 *
 * No lock of its own: the exchange has one.
 */
#ifndef DAEMON_BYTE_RING_H
#define DAEMON_BYTE_RING_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *data;
    size_t size;
    uint64_t in;        /* bytes ever written; in - out are held */
    uint64_t out;       /* bytes ever read */
} ByteRing;

void byte_ring_init(ByteRing *self, size_t size);
void byte_ring_clear(ByteRing *self);

static inline size_t byte_ring_get_held(const ByteRing *self)
{
    return self->in - self->out;
}

static inline size_t byte_ring_get_space(const ByteRing *self)
{
    return self->size - byte_ring_get_held(self);
}

/* Both move as much as fits and return how much. */
size_t byte_ring_write(ByteRing *self, const uint8_t *buf, size_t len);
size_t byte_ring_read(ByteRing *self, uint8_t *buf, size_t max);

/* Copy what is held from offset @from on (in the sense of `in`) without taking it;
 * asserts that there are @len bytes. */
void byte_ring_peek(const ByteRing *self, uint64_t from, uint8_t *buf,
                    size_t len);
/* Take everything before offset @to without looking at it. */
void byte_ring_drop(ByteRing *self, uint64_t to);

#endif
