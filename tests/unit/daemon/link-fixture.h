/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streams over socket pairs, a main stream that a parser takes, packets whose
 * whole content follows from where they came in, and waiting for an exchange.
 */
#ifndef TESTS_LINK_FIXTURE_H
#define TESTS_LINK_FIXTURE_H

#include <string.h>
#include <sys/socket.h>

#include "daemon/exchange.h"
#include "daemon/stream.h"
#include "wire/bytes.h"

#define LINK_FIXTURE_LONG_US (60 * G_USEC_PER_SEC)  /* not expected to pass */
#define LINK_FIXTURE_BLOCK "pc.ram"
#define LINK_FIXTURE_PAGE 4096u
#define LINK_FIXTURE_BLOCK_PAGES 1024u

static const uint8_t link_fixture_uuid[16] = "fixture fixture";

static inline void link_fixture_pair(Stream *ret[2], const char *a,
                                     const char *b)
{
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds),
                    ==, 0);
    ret[0] = stream_new(fds[0], a);
    ret[1] = stream_new(fds[1], b);
}

/* ---- main stream ------------------------------------------------------------- */

static inline void link_fixture_put(GByteArray *s, uint64_t value,
                                    unsigned size)
{
    uint8_t buf[8];

    bytes_put_be64(buf, value);
    g_byte_array_append(s, buf + 8 - size, size);
}

static inline void link_fixture_put_text(GByteArray *s, const char *text)
{
    g_byte_array_append(s, (const uint8_t *)text, strlen(text));
}

/* Up to and with marker 1. */
static inline GByteArray *link_fixture_main_start(void)
{
    GByteArray *s = g_byte_array_new();

    link_fixture_put_text(s, "QEVM");
    link_fixture_put(s, 3, 4);
    link_fixture_put(s, 0x07, 1);               /* configuration */
    link_fixture_put(s, 14, 4);
    link_fixture_put_text(s, "pc-i440fx-10.0");
    link_fixture_put(s, 0x08, 1);               /* OPEN_RETURN_PATH */
    link_fixture_put(s, 1, 2);
    link_fixture_put(s, 0, 2);
    link_fixture_put(s, 0x01, 1);               /* START of section 2, "ram" */
    link_fixture_put(s, 2, 4);
    link_fixture_put(s, 3, 1);
    link_fixture_put_text(s, "ram");
    link_fixture_put(s, 0, 4);
    link_fixture_put(s, 4, 4);
    link_fixture_put(s, LINK_FIXTURE_BLOCK_PAGES * LINK_FIXTURE_PAGE | 0x04, 8);
    link_fixture_put(s, strlen(LINK_FIXTURE_BLOCK), 1);
    link_fixture_put_text(s, LINK_FIXTURE_BLOCK);
    link_fixture_put(s, LINK_FIXTURE_BLOCK_PAGES * LINK_FIXTURE_PAGE, 8);
    link_fixture_put(s, 0x200, 8);              /* MULTIFD_FLUSH */
    link_fixture_put(s, 0x10, 8);               /* EOS */
    link_fixture_put(s, 0x7e, 1);
    link_fixture_put(s, 2, 4);
    return s;
}

/* A round of RAM: one marker. */
static inline void link_fixture_put_marker(GByteArray *s)
{
    link_fixture_put(s, 0x02, 1);               /* PART */
    link_fixture_put(s, 2, 4);
    link_fixture_put(s, 0x200, 8);
    link_fixture_put(s, 0x10, 8);
    link_fixture_put(s, 0x7e, 1);
    link_fixture_put(s, 2, 4);
}

/* The end of RAM: a destination can have got all of it. */
static inline void link_fixture_put_ram_end(GByteArray *s)
{
    link_fixture_put(s, 0x03, 1);               /* END */
    link_fixture_put(s, 2, 4);
    link_fixture_put(s, 0x10, 8);
    link_fixture_put(s, 0x7e, 1);
    link_fixture_put(s, 2, 4);
}

/* ---- packets ------------------------------------------------------------------ */

static inline uint32_t link_fixture_hash(uint32_t a, uint32_t b)
{
    uint32_t h = (a + 1) * 2654435761u ^ (b + 7) * 2246822519u;

    h ^= h >> 15;
    return h * 3266489917u;
}

/* One packet in sixteen is device state; pages 1 to 16, some of them zero. */
static inline void link_fixture_fill(Packet *packet, uint32_t seed)
{
    for (uint32_t i = 0; i < packet->payload_len / 4; i++) {
        uint32_t word = link_fixture_hash(seed, i);

        memcpy(packet->payload + 4 * i, &word, 4);
    }
}

static inline Packet *link_fixture_packet(PacketPool *pool, unsigned channel,
                                          uint64_t number)
{
    uint32_t seed = link_fixture_hash(channel, number);
    bool device = seed % 16 == 0;
    uint32_t normal = seed / 16 % 17, zero = normal ? seed / 512 % 4 : 1;
    uint32_t first = seed / 4096 % (LINK_FIXTURE_BLOCK_PAGES - 32);
    Packet *packet = packet_new(pool, device ? PACKET_DEVICE_STATE
                                             : PACKET_PAGES, device
                                ? 4096 : normal * LINK_FIXTURE_PAGE);

    packet->in_channel = channel;
    packet->in_packet = number;
    if (device) {
        g_snprintf(packet->device.idstr, sizeof(packet->device.idstr), "%u/%u",
                   channel, (unsigned)number);
        packet->device.payload_size = 4096;
        packet->device.instance_id = channel;
    } else {
        packet->header.normal_pages = normal;
        packet->header.zero_pages = zero;
        packet->header.pages_alloc = 128;
        g_strlcpy(packet->header.ramblock, LINK_FIXTURE_BLOCK, 256);
        for (uint32_t i = 0; i < normal + zero; i++) {
            packet->header.offset[i] = (uint64_t)(first + i) *
                                       LINK_FIXTURE_PAGE;
        }
    }
    link_fixture_fill(packet, seed);
    return packet;
}

static inline void link_fixture_assert_same(const Packet *got,
                                            const Packet *want)
{
    g_assert_cmpint(got->kind, ==, want->kind);
    g_assert_cmpmem(got->payload, got->payload_len, want->payload,
                    want->payload_len);
    if (got->kind == PACKET_DEVICE_STATE) {
        g_assert_cmpstr(got->device.idstr, ==, want->device.idstr);
        g_assert_cmpuint(got->device.instance_id, ==, want->device.instance_id);
        return;
    }
    g_assert_cmpuint(got->header.normal_pages, ==, want->header.normal_pages);
    g_assert_cmpuint(got->header.zero_pages, ==, want->header.zero_pages);
    g_assert_cmpstr(got->header.ramblock, ==, want->header.ramblock);
    g_assert_cmpmem(got->header.offset, 8 * (got->header.normal_pages +
                                             got->header.zero_pages),
                    want->header.offset, 8 * (want->header.normal_pages +
                                              want->header.zero_pages));
}

/* ---- waiting ------------------------------------------------------------------- */

/* Counts things that happen in other threads. */
typedef struct {
    GMutex lock;
    GCond changed;
    unsigned n[16];
} LinkFixtureBell;

static inline void link_fixture_ring(LinkFixtureBell *self, unsigned which)
{
    g_mutex_lock(&self->lock);
    self->n[which]++;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
}

static inline void link_fixture_wait(LinkFixtureBell *self, unsigned which)
{
    int64_t until = g_get_monotonic_time() + LINK_FIXTURE_LONG_US;

    g_mutex_lock(&self->lock);
    while (self->n[which] == 0) {
        if (!g_cond_wait_until(&self->changed, &self->lock, until)) {
            g_error("waited too long for event %u", which);
        }
    }
    g_mutex_unlock(&self->lock);
}

static inline unsigned link_fixture_count(LinkFixtureBell *self, unsigned which)
{
    unsigned n;

    g_mutex_lock(&self->lock);
    n = self->n[which];
    g_mutex_unlock(&self->lock);
    return n;
}

/* An exchange's observer whose data is a bell. */
static inline void link_fixture_observe(Exchange *exchange G_GNUC_UNUSED,
                                        ExchangeEvent event, void *bell)
{
    link_fixture_ring(bell, event);
}

static inline void link_fixture_assert_contains(const char *text,
                                                const char *part)
{
    if (!text || !strstr(text, part)) {
        g_error("expected '%s' in '%s'", part, text ? text : "(nothing)");
    }
}

#endif
