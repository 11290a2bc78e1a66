/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariants.  Frames: decoded, or an error set and the result left alone; what
 * was decoded encodes to the same bytes; the header of a PAGES frame and its
 * payload together are the frame's length.  Window: the same answers as a plain
 * table of every number's state.
 *
 * The first byte chooses: even for a frame, odd for a series of window calls.
 */
#include <string.h>

#include "wire/link-frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* @data is what follows the header of a PAGES frame, as far as it has come. */
static void check_pages(const LinkFrame *frame, const uint8_t *data,
                        size_t size)
{
    g_autofree MultifdHeader *header = g_new0(MultifdHeader, 1);
    g_autofree uint8_t *rest_copy = NULL;
    uint8_t again[LINK_PAGES_HEADER_MAX];
    g_autoptr(GError) error = NULL;
    LinkPages pages = { .page_size = 99 };
    size_t rest;

    if (!link_pages_decode_fixed(data, frame->length, &pages, &rest, &error)) {
        g_assert(error && pages.page_size == 99);
        return;
    }
    g_assert(!error);
    g_assert_cmpuint(LINK_PAGES_FIXED_SIZE + rest + pages.payload_size, ==,
                     frame->length);
    g_assert_cmpuint(LINK_PAGES_FIXED_SIZE + rest, <=, LINK_PAGES_HEADER_MAX);
    g_assert_cmpuint(pages.payload_size, <=, MULTIFD_PAYLOAD_MAX);
    if (size - LINK_PAGES_FIXED_SIZE < rest) {
        return;
    }
    rest_copy = g_memdup2(data + LINK_PAGES_FIXED_SIZE, rest);
    if (!link_pages_decode_rest(&pages, rest_copy, rest, header, &error)) {
        g_assert(error && header->pages_alloc == 0);
        return;
    }
    g_assert(!error);
    g_assert_cmpuint(link_pages_encode(&pages, header, again), ==,
                     LINK_PAGES_FIXED_SIZE + rest);
    g_assert_cmpmem(again, LINK_PAGES_FIXED_SIZE + rest, data,
                    LINK_PAGES_FIXED_SIZE + rest);
}

static void check_payload(const LinkFrame *frame, const uint8_t *data,
                          size_t size)
{
    uint8_t again[LINK_ACK_SIZE];
    LinkAck ack;

    if (frame->type == LINK_PAGES && size >= LINK_PAGES_FIXED_SIZE) {
        check_pages(frame, data, size);
    } else if (frame->type == LINK_ACK && size >= LINK_ACK_SIZE) {
        link_ack_decode(data, &ack);
        link_ack_encode(&ack, again);
        g_assert_cmpmem(again, LINK_ACK_SIZE, data, LINK_ACK_SIZE);
    } else if (frame->type == LINK_EPOCH_END && size >= LINK_EPOCH_END_SIZE) {
        link_epoch_end_encode(link_epoch_end_decode(data), again);
        g_assert_cmpmem(again, LINK_EPOCH_END_SIZE, data, LINK_EPOCH_END_SIZE);
    }
}

static void check_frame(const uint8_t *data, size_t size)
{
    uint8_t again[LINK_HEADER_SIZE];
    LinkFrame frame = { .type = 99 };
    g_autoptr(GError) error = NULL;

    if (size < LINK_HEADER_SIZE) {
        return;
    }
    if (!link_frame_decode(data, &frame, &error)) {
        g_assert(error && frame.type == 99);
        return;
    }
    g_assert(!error);
    g_assert_cmpuint(link_frame_cost(&frame), >, frame.length);
    g_assert_cmpstr(link_frame_type_name(frame.type), !=, "unknown");
    link_frame_encode(&frame, again);
    g_assert_cmpmem(again, LINK_HEADER_SIZE, data, LINK_HEADER_SIZE);
    check_payload(&frame, data + LINK_HEADER_SIZE, size - LINK_HEADER_SIZE);
}

/* ---- the window ------------------------------------------------------------ */

enum { ABSENT, RECEIVED, HANDED_ON };
/* Numbers beyond are not tried; five times around the window. */
enum { MODEL_SIZE = 5 * LINK_FRAMES_MAX, MANY = 4096 };

typedef struct {
    LinkWindow window;
    uint64_t base;
    uint8_t state[MODEL_SIZE];
} Model;

static void model_receive(Model *m, uint64_t n)
{
    bool expected = n >= m->base && n - m->base < LINK_FRAMES_MAX &&
                    n < MODEL_SIZE && m->state[n] == ABSENT;
    g_autoptr(GError) error = NULL;

    if (n >= MODEL_SIZE && n - m->base < LINK_FRAMES_MAX) {
        return;
    }
    g_assert_true(link_window_receive(&m->window, n, &error) == expected);
    g_assert_true((error == NULL) == expected);
    if (expected) {
        m->state[n] = RECEIVED;
    }
}

static void model_hand_on(Model *m, uint64_t n)
{
    uint64_t old = m->base;

    if (n < m->base || n >= MODEL_SIZE || m->state[n] != RECEIVED) {
        return;
    }
    m->state[n] = HANDED_ON;
    while (m->base < MODEL_SIZE && m->state[m->base] == HANDED_ON) {
        m->base++;
    }
    g_assert_true(link_window_hand_on(&m->window, n) == (m->base != old));
    g_assert_cmpuint(m->window.base, ==, m->base);
}

static void model_forget(Model *m, uint64_t n)
{
    bool had = n < m->base || (n < MODEL_SIZE && m->state[n] != ABSENT);

    if (n < MODEL_SIZE) {
        g_assert_true(link_window_has(&m->window, n) == had);
    }
    if (n >= m->base && n < MODEL_SIZE && m->state[n] == RECEIVED) {
        link_window_forget(&m->window, n);
        m->state[n] = ABSENT;
    }
}

/* Three bytes a call: what, and a number from 256 below the base upwards. */
static void check_window(const uint8_t *data, size_t size)
{
    g_autofree Model *m = g_new0(Model, 1);

    for (; size >= 3; data += 3, size -= 3) {
        uint64_t n = m->base + (data[1] << 8 | data[2]);

        n = data[0] & 0x08 ? n - MIN(n, 256) : n;
        n = data[0] & 0x10 ? n + LINK_FRAMES_MAX : n;
        switch (data[0] & 3) {
        case 0:
            model_receive(m, n);
            break;
        case 1:
            model_hand_on(m, n);
            break;
        case 2:
            model_forget(m, n);
            break;
        default:    /* many in order, so that the base gets around in time */
            n = MIN(MIN(n, m->base + MANY), MODEL_SIZE);
            while (m->base < n) {
                model_receive(m, m->base);
                model_hand_on(m, m->base);
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    if (data[0] & 1) {
        check_window(data + 1, MIN(size - 1, 300));
    } else {
        check_frame(data + 1, size - 1);
    }
    return 0;
}
