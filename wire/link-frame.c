/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/link-frame.h"
#include "wire/method.h"

/* docs/link-protocol.md section 2. */
enum {
    OFF_TYPE      = 0,
    OFF_FLAGS     = OFF_TYPE + 1,
    OFF_RESERVED1 = OFF_FLAGS + 1,
    OFF_LENGTH    = OFF_RESERVED1 + 2,
    OFF_SEQUENCE  = OFF_LENGTH + 4,
    OFF_EPOCH     = OFF_SEQUENCE + 8,
    OFF_CHECKSUM  = OFF_EPOCH + 8,
    OFF_UNPACKED  = OFF_CHECKSUM + 4,
    OFF_END       = OFF_UNPACKED + 4,
};
static_assert((int)OFF_END == LINK_HEADER_SIZE, "link header: size changed");

/* docs/link-protocol.md section 3. */
enum {
    PAGES_PAGE_SIZE  = 0,
    PAGES_NORMAL     = PAGES_PAGE_SIZE + 4,
    PAGES_ZERO       = PAGES_NORMAL + 4,
    PAGES_METHOD     = PAGES_ZERO + 4,
    PAGES_NAME_LEN   = PAGES_METHOD + 1,
    PAGES_IN_CHANNEL = PAGES_NAME_LEN + 1,
    PAGES_IN_PACKET  = PAGES_IN_CHANNEL + 2,
    PAGES_END        = PAGES_IN_PACKET + 8,
};
static_assert((int)PAGES_END == LINK_PAGES_FIXED_SIZE,
              "link PAGES: fixed part changed");
static_assert((int)LINK_PAGES_HEADER_MAX + (int)MULTIFD_PAYLOAD_MAX <=
              (int)LINK_PAGES_MAX, "link PAGES: limit below what can be");

enum {
    JSON_MIN = 2,   /* "{}" */
    /* One page, a name of one byte. */
    PAGES_MIN = LINK_PAGES_FIXED_SIZE + 1 + 8,
    /* A device-state packet always has a payload. */
    DEVICE_MIN = MULTIFD_DEVICE_HEADER_SIZE + 1,
    DEVICE_MAX = MULTIFD_DEVICE_HEADER_SIZE + LINK_DEVICE_PAYLOAD_MAX,
};

/* What the header may say, by type. */
typedef struct {
    const char *name;
    uint8_t flags;              /* allowed */
    uint32_t length_min;
    uint32_t length_max;
    bool has_sequence;
    bool has_epoch;
    bool has_checksum;
} FrameRule;

static const FrameRule frame_rules[] = {
    [LINK_HELLO] = { "HELLO", 0, JSON_MIN, LINK_HELLO_MAX,
                     false, false, false },
    [LINK_CONTROL] = { "CONTROL", 0, JSON_MIN, LINK_CONTROL_MAX,
                       true, false, false },
    [LINK_PING] = { "PING", 0, 0, 0, true, false, false },
    [LINK_PONG] = { "PONG", 0, 0, 0, true, false, false },
    [LINK_MAIN] = { "MAIN", LINK_FLAG_END, 0, LINK_STREAM_MAX,
                    true, false, false },
    [LINK_RETURN] = { "RETURN", LINK_FLAG_END, 0, LINK_STREAM_MAX,
                      true, false, false },
    [LINK_ACK] = { "ACK", 0, LINK_ACK_SIZE, LINK_ACK_SIZE,
                   false, false, false },
    [LINK_PAGES] = { "PAGES", LINK_FLAG_ZLIB | LINK_FLAG_ZSTD |
                     LINK_FLAG_RESENT | LINK_FLAG_PACKED,
                     PAGES_MIN, LINK_PAGES_MAX, true, true, true },
    [LINK_DEVICE] = { "DEVICE", LINK_FLAG_RESENT, DEVICE_MIN, DEVICE_MAX,
                      true, true, true },
    [LINK_EPOCH_END] = { "EPOCH_END", LINK_FLAG_RESENT, LINK_EPOCH_END_SIZE,
                         LINK_EPOCH_END_SIZE, true, true, false },
    [LINK_PREEMPT] = { "PREEMPT", LINK_FLAG_END, 0, LINK_STREAM_MAX,
                       true, false, false },
    [LINK_TEST] = { "TEST", LINK_FLAG_END, 0, LINK_STREAM_MAX,
                    true, false, false },
};
static_assert(G_N_ELEMENTS(frame_rules) == LINK_TYPE_LAST + 1,
              "link frame: a type without its rule");

/* NULL for what is no type. */
static const FrameRule *find_rule(uint8_t type)
{
    if (type < LINK_HELLO || type > LINK_TYPE_LAST) {
        return NULL;
    }
    return &frame_rules[type];
}

const char *link_frame_type_name(uint8_t type)
{
    const FrameRule *rule = find_rule(type);

    return rule ? rule->name : "unknown";
}

uint64_t link_frame_cost(const LinkFrame *self)
{
    return (uint64_t)MAX(self->length, self->unpacked) + LINK_FRAME_OVERHEAD;
}

static bool check_length(const LinkFrame *f, const FrameRule *rule,
                         GError **error)
{
    if (f->length < rule->length_min || f->length > rule->length_max) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link %s frame: got length %u, allowed %u to %u",
                    rule->name, f->length, rule->length_min,
                    rule->length_max);
        return false;
    }
    return true;
}

static bool is_stream(uint8_t type)
{
    return type == LINK_MAIN || type == LINK_RETURN || type == LINK_PREEMPT ||
           type == LINK_TEST;
}

/* A stream's frame says something, and its bytes can be counted. */
static bool check_stream(const LinkFrame *f, const FrameRule *rule,
                         GError **error)
{
    if (f->length == 0 && !(f->flags & LINK_FLAG_END)) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link %s frame: got length 0 without the end flag, "
                    "allowed 1 to %u", rule->name, rule->length_max);
        return false;
    }
    if (f->sequence > UINT64_MAX - f->length) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link %s frame: got offset %" PRIu64 " and length %u, "
                    "allowed a sum that fits 64 bits", rule->name,
                    f->sequence, f->length);
        return false;
    }
    return true;
}

static bool check_unused(const char *type, const char *field, uint64_t value,
                         bool used, GError **error)
{
    if (!used && value != 0) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link %s frame: got %s 0x%" PRIx64 ", allowed only 0",
                    type, field, value);
        return false;
    }
    return true;
}

/* A bound for the receiver, and never below what could be a frame. */
static bool check_unpacked(const LinkFrame *f, const FrameRule *rule,
                           GError **error)
{
    if (!(f->flags & LINK_FLAG_PACKED)) {
        return check_unused(rule->name, "unpacked length", f->unpacked, false,
                            error);
    }
    if (f->unpacked < rule->length_min || f->unpacked > rule->length_max) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link %s frame: got unpacked length %u, allowed %u to %u",
                    rule->name, f->unpacked, rule->length_min,
                    rule->length_max);
        return false;
    }
    return true;
}

static bool check_frame(const LinkFrame *f, GError **error)
{
    const uint8_t packed_flags = LINK_FLAG_ZLIB | LINK_FLAG_ZSTD;
    const FrameRule *rule = find_rule(f->type);

    if (!rule) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link frame: got type %u, allowed %d to %d", f->type,
                    LINK_HELLO, LINK_TYPE_LAST);
        return false;
    }
    if ((f->flags & ~rule->flags) ||
        (f->flags & packed_flags) == packed_flags) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link %s frame: got flags 0x%02x, allowed those in 0x%02x%s",
                    rule->name, f->flags, rule->flags,
                    rule->flags & packed_flags ? ", one packing only" : "");
        return false;
    }
    if (is_stream(f->type) && !check_stream(f, rule, error)) {
        return false;
    }
    return check_length(f, rule, error) &&
           check_unused(rule->name, "sequence", f->sequence,
                        rule->has_sequence, error) &&
           check_unused(rule->name, "epoch", f->epoch, rule->has_epoch,
                        error) &&
           check_unused(rule->name, "checksum", f->checksum,
                        rule->has_checksum, error) &&
           check_unpacked(f, rule, error);
}

void link_frame_encode(const LinkFrame *self, uint8_t buf[LINK_HEADER_SIZE])
{
    g_assert(check_frame(self, NULL));
    memset(buf, 0, LINK_HEADER_SIZE);
    buf[OFF_TYPE] = self->type;
    buf[OFF_FLAGS] = self->flags;
    bytes_put_be32(buf + OFF_LENGTH, self->length);
    bytes_put_be64(buf + OFF_SEQUENCE, self->sequence);
    bytes_put_be64(buf + OFF_EPOCH, self->epoch);
    bytes_put_be32(buf + OFF_CHECKSUM, self->checksum);
    bytes_put_be32(buf + OFF_UNPACKED, self->unpacked);
}

bool link_frame_decode(const uint8_t buf[LINK_HEADER_SIZE], LinkFrame *ret,
                       GError **error)
{
    LinkFrame f = {
        .type = buf[OFF_TYPE],
        .flags = buf[OFF_FLAGS],
        .length = bytes_get_be32(buf + OFF_LENGTH),
        .sequence = bytes_get_be64(buf + OFF_SEQUENCE),
        .epoch = bytes_get_be64(buf + OFF_EPOCH),
        .checksum = bytes_get_be32(buf + OFF_CHECKSUM),
        .unpacked = bytes_get_be32(buf + OFF_UNPACKED),
    };
    const char *name = link_frame_type_name(f.type);

    if (!check_frame(&f, error) ||
        !check_unused(name, "reserved bytes 2-3",
                      bytes_get_be16(buf + OFF_RESERVED1), false, error)) {
        return false;
    }
    *ret = f;
    return true;
}

void link_ack_encode(const LinkAck *self, uint8_t buf[LINK_ACK_SIZE])
{
    bytes_put_be64(buf, self->bulk);
    bytes_put_be64(buf + 8, self->main_offset);
    bytes_put_be64(buf + 16, self->return_offset);
    bytes_put_be64(buf + 24, self->preempt_offset);
    bytes_put_be64(buf + 32, self->control);
}

void link_ack_decode(const uint8_t buf[LINK_ACK_SIZE], LinkAck *ret)
{
    *ret = (LinkAck) {
        .bulk = bytes_get_be64(buf),
        .main_offset = bytes_get_be64(buf + 8),
        .return_offset = bytes_get_be64(buf + 16),
        .preempt_offset = bytes_get_be64(buf + 24),
        .control = bytes_get_be64(buf + 32),
    };
}

void link_epoch_end_encode(uint64_t frames, uint8_t buf[LINK_EPOCH_END_SIZE])
{
    bytes_put_be64(buf, frames);
}

uint64_t link_epoch_end_decode(const uint8_t buf[LINK_EPOCH_END_SIZE])
{
    return bytes_get_be64(buf);
}

/* ---- PAGES ---------------------------------------------------------------- */

size_t link_pages_header_size(size_t name_len, uint32_t normal_pages,
                              uint32_t zero_pages)
{
    return LINK_PAGES_FIXED_SIZE + name_len +
           8 * ((size_t)normal_pages + zero_pages);
}

size_t link_pages_encode(const LinkPages *self, const MultifdHeader *header,
                         uint8_t *buf)
{
    size_t name_len = strlen(header->ramblock);
    uint32_t pages = header->normal_pages + header->zero_pages;
    uint8_t *p = buf + LINK_PAGES_FIXED_SIZE;

    g_assert(name_len >= 1 && name_len <= RAMBLOCK_NAME_MAX);
    g_assert(pages >= 1 && pages <= MULTIFD_PAGES_MAX);

    bytes_put_be32(buf + PAGES_PAGE_SIZE, self->page_size);
    bytes_put_be32(buf + PAGES_NORMAL, header->normal_pages);
    bytes_put_be32(buf + PAGES_ZERO, header->zero_pages);
    buf[PAGES_METHOD] = self->method;
    buf[PAGES_NAME_LEN] = name_len;
    bytes_put_be16(buf + PAGES_IN_CHANNEL, self->in_channel);
    bytes_put_be64(buf + PAGES_IN_PACKET, self->in_packet);

    memcpy(p, header->ramblock, name_len);
    p += name_len;
    for (uint32_t i = 0; i < pages; i++, p += 8) {
        bytes_put_be64(p, header->offset[i]);
    }
    return p - buf;
}

static bool pages_error(const LinkPages *p, GError **error,
                        const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Set @error, saying which packet it was; always false. */
static bool pages_error(const LinkPages *p, GError **error,
                        const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "link PAGES frame of channel %u packet %" PRIu64 ": %s",
                p->in_channel, p->in_packet, text);
    return false;
}

static bool check_pages_counts(const LinkPages *p,
                               const MultifdGeometry *geometry, GError **error)
{
    if (p->normal_pages > geometry->page_count) {
        return pages_error(p, error, "got normal_pages %u, allowed at most %u",
                           p->normal_pages, geometry->page_count);
    }
    if (p->zero_pages > geometry->page_count - p->normal_pages) {
        return pages_error(p, error, "got %u normal + %u zero pages, allowed "
                           "at most %u", p->normal_pages, p->zero_pages,
                           geometry->page_count);
    }
    if (p->normal_pages == 0 && p->zero_pages == 0) {
        return pages_error(p, error, "got no pages, allowed at least 1");
    }
    if (p->name_len == 0) {
        return pages_error(p, error, "got an empty RAM block name, allowed 1 "
                           "to %d bytes", RAMBLOCK_NAME_MAX);
    }
    return true;
}

/* What the frame's length leaves is what these pages need, no more, no less. */
static bool check_pages_payload(const LinkPages *p, GError **error)
{
    uint32_t raw = p->normal_pages * p->page_size;

    switch (p->method) {
    case METHOD_NONE:
        if (p->payload_size != raw) {
            return pages_error(p, error, "got %u bytes of payload, allowed %u "
                               "(%u pages of %u)", p->payload_size, raw,
                               p->normal_pages, p->page_size);
        }
        return true;
    case METHOD_QPL:
    case METHOD_UADK:
    case METHOD_QATZIP:
        if ((p->normal_pages > 0) != (p->payload_size > 0) ||
            p->payload_size > MULTIFD_PAYLOAD_MAX) {
            return pages_error(p, error, "got %u bytes of payload for %u "
                               "normal pages, allowed %u to %u",
                               p->payload_size, p->normal_pages,
                               p->normal_pages ? 1 : 0,
                               p->normal_pages ? MULTIFD_PAYLOAD_MAX : 0);
        }
        return true;
    default:
        return pages_error(p, error, "got payload method 0x%02x, allowed "
                           "0x00, 0x08, 0x10, 0x20", p->method);
    }
}

bool link_pages_decode_fixed(const uint8_t buf[LINK_PAGES_FIXED_SIZE],
                             uint32_t length, LinkPages *ret, size_t *ret_rest,
                             GError **error)
{
    LinkPages p = {
        .page_size = bytes_get_be32(buf + PAGES_PAGE_SIZE),
        .normal_pages = bytes_get_be32(buf + PAGES_NORMAL),
        .zero_pages = bytes_get_be32(buf + PAGES_ZERO),
        .method = buf[PAGES_METHOD],
        .name_len = buf[PAGES_NAME_LEN],
        .in_channel = bytes_get_be16(buf + PAGES_IN_CHANNEL),
        .in_packet = bytes_get_be64(buf + PAGES_IN_PACKET),
    };
    MultifdGeometry geometry;
    size_t header;

    if (!multifd_geometry_init(&geometry, p.page_size, error)) {
        g_prefix_error(error, "link PAGES frame: ");
        return false;
    }
    if (!check_pages_counts(&p, &geometry, error)) {
        return false;
    }
    header = link_pages_header_size(p.name_len, p.normal_pages, p.zero_pages);
    if (length < header) {
        return pages_error(&p, error, "got length %u, allowed at least %zu "
                           "for %u pages and a name of %u bytes", length,
                           header, p.normal_pages + p.zero_pages, p.name_len);
    }
    p.payload_size = length - header;
    if (!check_pages_payload(&p, error)) {
        return false;
    }
    *ret = p;
    *ret_rest = header - LINK_PAGES_FIXED_SIZE;
    return true;
}

bool link_pages_decode_rest(const LinkPages *self, const uint8_t *buf,
                            size_t len, MultifdHeader *header, GError **error)
{
    uint32_t pages = self->normal_pages + self->zero_pages;
    const uint8_t *offsets = buf + self->name_len;

    g_assert(len == link_pages_header_size(self->name_len, self->normal_pages,
                                           self->zero_pages) -
                    LINK_PAGES_FIXED_SIZE);
    g_assert(pages <= MULTIFD_PAGES_MAX);

    if (memchr(buf, '\0', self->name_len)) {
        return pages_error(self, error, "got a NUL in the RAM block name, "
                           "allowed none");
    }
    header->flags = self->method;
    header->pages_alloc = MULTIFD_PACKET_SIZE / self->page_size;
    header->normal_pages = self->normal_pages;
    header->zero_pages = self->zero_pages;
    header->payload_size = self->payload_size;
    header->packet_num = self->in_packet;
    memset(header->ramblock, 0, sizeof(header->ramblock));
    memcpy(header->ramblock, buf, self->name_len);
    for (uint32_t i = 0; i < pages; i++) {
        header->offset[i] = bytes_get_be64(offsets + 8 * (size_t)i);
    }
    return true;
}

/* ---- which numbers have come ----------------------------------------------- */

static bool bit_get(const uint64_t *bits, uint64_t sequence)
{
    return bits[sequence % LINK_FRAMES_MAX / 64] >> (sequence % 64) & 1;
}

static void bit_set(uint64_t *bits, uint64_t sequence)
{
    bits[sequence % LINK_FRAMES_MAX / 64] |= UINT64_C(1) << (sequence % 64);
}

static void bit_clear(uint64_t *bits, uint64_t sequence)
{
    bits[sequence % LINK_FRAMES_MAX / 64] &= ~(UINT64_C(1) << (sequence % 64));
}

void link_window_init(LinkWindow *self)
{
    memset(self, 0, sizeof(*self));
}

bool link_window_has(const LinkWindow *self, uint64_t sequence)
{
    return sequence < self->base ||
           (sequence - self->base < LINK_FRAMES_MAX &&
            bit_get(self->received, sequence));
}

void link_window_forget(LinkWindow *self, uint64_t sequence)
{
    g_assert(sequence >= self->base && link_window_has(self, sequence) &&
             !bit_get(self->handed_on, sequence));
    bit_clear(self->received, sequence);
}

bool link_window_receive(LinkWindow *self, uint64_t sequence, GError **error)
{
    if (link_window_has(self, sequence)) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link frame number: got %" PRIu64 " a second time, "
                    "allowed once", sequence);
        return false;
    }
    if (sequence - self->base >= LINK_FRAMES_MAX) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link frame number: got %" PRIu64 ", allowed below %" PRIu64
                    " (%d above the acknowledged)", sequence,
                    self->base + LINK_FRAMES_MAX, LINK_FRAMES_MAX);
        return false;
    }
    bit_set(self->received, sequence);
    return true;
}

bool link_window_hand_on(LinkWindow *self, uint64_t sequence)
{
    g_assert(sequence >= self->base &&
             sequence - self->base < LINK_FRAMES_MAX);
    g_assert(bit_get(self->received, sequence) &&
             !bit_get(self->handed_on, sequence));

    bit_set(self->handed_on, sequence);
    if (sequence != self->base) {
        return false;
    }
    while (bit_get(self->handed_on, self->base)) {
        bit_clear(self->received, self->base);
        bit_clear(self->handed_on, self->base);
        self->base++;
    }
    return true;
}
