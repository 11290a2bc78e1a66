/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/recorder.h"

#include <string.h>
#include "wire/recording.h"

enum {
    LOG_MAX = 8 * 1024 * 1024,
    HEAD_MAX = 64 * 1024,
    IDLE_US = 10 * G_USEC_PER_SEC,
};

typedef struct {
    GByteArray *bytes;
    bool payload;               /* for those only who ask for it */
} Block;

struct Recorder {
    gint active;                /* atomic: somebody reads */

    GMutex lock;                /* a leaf; guards all below */
    uint32_t page_size;
    bool payload;
    int64_t read_us;            /* the last time, monotonic */
    int64_t payload_us;         /* ... by somebody who asked for payload */
    bool ended;
    GByteArray *head;           /* of the main channel, from its first byte on */
    bool head_done;
    GQueue log;                 /* of Block */
    uint64_t begin, end;        /* positions of what the log holds */
    uint64_t numbers[MULTIFD_CHANNELS_MAX];     /* of packets, by channel */
};

Recorder *recorder_new(void)
{
    Recorder *self = g_new0(Recorder, 1);

    g_mutex_init(&self->lock);
    g_queue_init(&self->log);
    self->head = g_byte_array_new();
    return self;
}

static void free_block(Block *self)
{
    /* It may hold guest memory. */
    explicit_bzero(self->bytes->data, self->bytes->len);
    g_byte_array_unref(self->bytes);
    g_free(self);
}

static void drop_oldest(Recorder *self)
{
    Block *block = g_queue_pop_head(&self->log);

    self->begin += block->bytes->len;
    free_block(block);
}

static void clear_log(Recorder *self)
{
    while (!g_queue_is_empty(&self->log)) {
        drop_oldest(self);
    }
}

void recorder_free(Recorder *self)
{
    if (!self) {
        return;
    }
    clear_log(self);
    g_byte_array_unref(self->head);
    g_mutex_clear(&self->lock);
    g_free(self);
}

void recorder_set_page_size(Recorder *self, uint64_t page_size)
{
    if (self) {
        g_mutex_lock(&self->lock);
        self->page_size = page_size;
        g_mutex_unlock(&self->lock);
    }
}

/* ---- writing ------------------------------------------------------------------------ */

static bool is_active(Recorder *self)
{
    return self && g_atomic_int_get(&self->active);
}

static void append_locked(Recorder *self, const RecordingHeader *header,
                          const uint8_t *bytes, size_t len)
{
    Block *block = g_new0(Block, 1);

    block->bytes = g_byte_array_new();
    block->payload = header->kind == RECORDING_PAYLOAD;
    recording_append(block->bytes, header, g_get_real_time(), bytes, len);
    self->end += block->bytes->len;
    g_queue_push_tail(&self->log, block);
    while (self->end - self->begin > LOG_MAX) {
        drop_oldest(self);
    }
}

/* The header as it would be for the payload as we hold it. */
static size_t encode_pages(const Recorder *self, const Packet *packet,
                           uint8_t *buf)
{
    g_autofree MultifdHeader *header = g_memdup2(&packet->header,
                                                 sizeof(packet->header));
    MultifdGeometry geometry;

    if (!multifd_geometry_init(&geometry, self->page_size, NULL)) {
        return 0;
    }
    header->flags = packet->method;
    header->payload_size = packet->payload_len;
    multifd_header_encode(header, &geometry, buf);
    return geometry.header_size;
}

static void append_payload_locked(Recorder *self, const RecordingHeader *of,
                                  const Packet *packet)
{
    RecordingHeader header = *of;

    header.kind = RECORDING_PAYLOAD;
    header.payload_len = 0;
    for (uint32_t at = 0; at < packet->payload_len; at += RECORDING_PIECE_MAX) {
        append_locked(self, &header, packet->payload + at,
                      MIN(packet->payload_len - at,
                          (uint32_t)RECORDING_PIECE_MAX));
    }
}

static void append_packet_locked(Recorder *self, uint64_t epoch,
                                 const Packet *packet)
{
    uint8_t buf[MULTIFD_HEADER_MAX];
    bool pages = packet->kind == PACKET_PAGES;
    size_t len = MULTIFD_DEVICE_HEADER_SIZE;
    RecordingHeader header = {
        .kind = pages ? RECORDING_PAGES : RECORDING_DEVICE,
        .channel = packet->in_channel,
        .epoch = epoch,
        .position = packet->in_packet,
        .page_size = self->page_size,
        .payload_len = packet->payload_len,
    };

    if (pages) {
        len = encode_pages(self, packet, buf);
    } else {
        multifd_device_header_encode(&packet->device, buf);
    }
    if (packet->in_channel < MULTIFD_CHANNELS_MAX) {
        self->numbers[packet->in_channel] = packet->in_packet + 1;
    }
    append_locked(self, &header, buf, len);
    if (pages && self->payload) {
        append_payload_locked(self, &header, packet);
    }
}

void recorder_note_packet(Recorder *self, uint64_t epoch, const Packet *packet)
{
    if (is_active(self)) {
        g_mutex_lock(&self->lock);
        append_packet_locked(self, epoch, packet);
        g_mutex_unlock(&self->lock);
    }
}

static void append_sync_locked(Recorder *self, unsigned channel, uint64_t epoch)
{
    uint8_t buf[MULTIFD_HEADER_MAX];
    MultifdGeometry geometry;
    RecordingHeader header = {
        .kind = RECORDING_PAGES,
        .channel = channel,
        .epoch = epoch,
        .position = self->numbers[channel]++,
        .page_size = self->page_size,
    };

    if (multifd_geometry_init(&geometry, self->page_size, NULL)) {
        multifd_sync_encode(0, &geometry, buf);
        append_locked(self, &header, buf, geometry.header_size);
    }
}

void recorder_note_sync(Recorder *self, unsigned channel, uint64_t epoch)
{
    if (is_active(self) && channel < MULTIFD_CHANNELS_MAX) {
        g_mutex_lock(&self->lock);
        append_sync_locked(self, channel, epoch);
        g_mutex_unlock(&self->lock);
    }
}

static void append_stream_locked(Recorder *self, RecordingKind kind,
                                 uint64_t position, const uint8_t *buf,
                                 size_t len)
{
    RecordingHeader header = {
        .kind = kind,
        .page_size = self->page_size,
    };

    for (size_t at = 0; at < len; at += RECORDING_PIECE_MAX) {
        header.position = position + at;
        append_locked(self, &header, buf + at,
                      MIN(len - at, (size_t)RECORDING_PIECE_MAX));
    }
}

void recorder_note_main(Recorder *self, uint64_t position, const uint8_t *buf,
                        size_t len)
{
    if (!self || len == 0) {
        return;
    }
    g_mutex_lock(&self->lock);
    if (!self->head_done && self->head->len == position &&
        len <= HEAD_MAX - self->head->len) {
        g_byte_array_append(self->head, buf, len);
    }
    if (is_active(self)) {
        append_stream_locked(self, RECORDING_MAIN, position, buf, len);
    }
    g_mutex_unlock(&self->lock);
}

void recorder_end_head(Recorder *self)
{
    if (self) {
        g_mutex_lock(&self->lock);
        self->head_done = true;
        g_mutex_unlock(&self->lock);
    }
}

void recorder_note_return(Recorder *self, uint64_t position, const uint8_t *buf,
                          size_t len)
{
    if (is_active(self) && len > 0) {
        g_mutex_lock(&self->lock);
        append_stream_locked(self, RECORDING_RETURN, position, buf, len);
        g_mutex_unlock(&self->lock);
    }
}

/* ---- reading ------------------------------------------------------------------------ */

static void begin_locked(Recorder *self, GByteArray *data)
{
    RecordingHeader header = {
        .kind = RECORDING_MAIN,
        .page_size = self->page_size,
    };

    if (self->head->len > 0) {
        recording_append(data, &header, g_get_real_time(), self->head->data,
                         self->head->len);
    }
}

/* What the log has from @at on, for this reader; says where to read on. */
static uint64_t copy_locked(const Recorder *self, uint64_t at, bool payload,
                            size_t max, GByteArray *data)
{
    uint64_t begin = self->begin;

    for (GList *item = self->log.head; item && data->len < max;
         item = item->next) {
        const Block *block = item->data;
        uint64_t end = begin + block->bytes->len;

        if (at < end && block->payload && !payload) {
            at = end;
        } else if (at < end) {
            size_t len = MIN(end - at, max - data->len);

            g_byte_array_append(data, block->bytes->data + (at - begin), len);
            at += len;
        }
        begin = end;
    }
    return at;
}

static void read_on_locked(Recorder *self, uint64_t from, bool payload,
                           size_t max, RecorderRead *ret)
{
    uint64_t at = CLAMP(from, self->begin, self->end);

    ret->dropped = at - MIN(from, at);
    ret->next = copy_locked(self, at, payload, max, ret->data);
    ret->ended = self->ended && ret->next == self->end;
}

RecorderRead recorder_read(Recorder *self, int64_t from, bool payload,
                           size_t max)
{
    RecorderRead ret = { .data = g_byte_array_new() };

    g_mutex_lock(&self->lock);
    self->read_us = g_get_monotonic_time();
    if (!self->ended) {
        g_atomic_int_set(&self->active, 1);
    }
    if (payload) {
        self->payload_us = self->read_us;
        ret.payload_begun = !self->payload && !self->ended;
        self->payload = !self->ended;
    }
    if (from < 0) {
        begin_locked(self, ret.data);
        ret.next = self->begin;
        ret.ended = self->ended && self->begin == self->end;
    } else {
        read_on_locked(self, from, payload, max, &ret);
    }
    g_mutex_unlock(&self->lock);
    return ret;
}

void recorder_stop_payload(Recorder *self)
{
    g_mutex_lock(&self->lock);
    self->payload = false;
    g_mutex_unlock(&self->lock);
}

void recorder_expire(Recorder *self)
{
    int64_t now_us = g_get_monotonic_time();

    g_mutex_lock(&self->lock);
    if (now_us - self->payload_us > IDLE_US) {
        self->payload = false;
    }
    if (now_us - self->read_us > IDLE_US) {
        g_atomic_int_set(&self->active, 0);
        clear_log(self);
    }
    g_mutex_unlock(&self->lock);
}

void recorder_finish(Recorder *self)
{
    g_mutex_lock(&self->lock);
    self->ended = true;
    self->payload = false;
    g_byte_array_set_size(self->head, 0);
    g_atomic_int_set(&self->active, 0);
    g_mutex_unlock(&self->lock);
}
