/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-capture.c - replay of a capture
 *
 * Theory of operation.  What belongs together in a recording is not its order in
 * time but its epochs: marker k of the main channel follows what the channels
 * carry up to their SYNC k.  So the main channel is read up to a marker, then
 * every channel up to its SYNC of that number, and so on.  Each epoch counts as
 * a second, so that the heat map has a row for each as long as they are few.
 */
#include "daemon/client-capture.h"

#include <string.h>
#include "daemon/client-capture-private.h"
#include "daemon/traffic.h"
#include "daemon/vmdesc.h"
#include "wire/error.h"

enum { MARGIN = 6 };        /* of a section, before its name */

typedef struct {
    const CaptureChannel *source;
    const uint8_t *data;
    size_t pos, len;
    const Method *method;
    MethodState *decoder;
    uint64_t n_packets, normal, zero, syncs;
    GArray *by_epoch;       /* of uint64_t: packets with data */
} Channel;

typedef struct {
    MainStream *main;
    Traffic *traffic;
    MultifdGeometry geometry;
    bool has_geometry;
    uint64_t markers;
    uint64_t opaque_offset; /* valid when main is opaque */
    GPtrArray *channels;    /* of Channel */
    uint8_t *pages;         /* decoded */
    Packet packet;          /* header and counts alone */
} Replay;

/* ---- channels ---------------------------------------------------------------------- */

static bool need(const Channel *channel, size_t size, GError **error)
{
    if (channel->len - channel->pos >= size) {
        return true;
    }
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_TRUNCATED,
                "the recording ends within a packet: got %zu bytes of %zu",
                channel->len - channel->pos, size);
    return false;
}

static void count_packet(Channel *channel)
{
    if (channel->by_epoch->len <= channel->syncs) {
        g_array_set_size(channel->by_epoch, channel->syncs + 1);
    }
    g_array_index(channel->by_epoch, uint64_t, channel->syncs)++;
}

static bool decode_payload(Replay *self, Channel *channel, const Method *method,
                           uint32_t size, GError **error)
{
    size_t raw = (size_t)self->packet.header.normal_pages *
                 self->geometry.page_size;

    if (!method->decode) {
        return !method->check ||
               method->check(channel->data + channel->pos, size,
                             self->packet.header.normal_pages,
                             self->geometry.page_size, error);
    }
    if (!channel->decoder) {
        channel->method = method;
        channel->decoder = method->decoder_new();
    }
    if (channel->method != method) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got compression method %s, expected %s as before",
                    method->name, channel->method->name);
        return false;
    }
    return method->decode(channel->decoder, channel->data + channel->pos, size,
                          self->pages, raw, error);
}

static bool read_payload(Replay *self, Channel *channel, GError **error)
{
    const MultifdHeader *header = &self->packet.header;
    const Method *method = method_from_flags(header->flags, error);
    uint32_t size = 0;

    if (!method ||
        (header->normal_pages > 0 &&
         !method->payload_size(header->normal_pages, self->geometry.page_size,
                               header->payload_size, &size, error))) {
        return false;
    }
    self->packet.payload_len = size;
    if (channel->source->headers_only || size == 0) {
        return true;
    }
    if (!need(channel, size, error) ||
        !decode_payload(self, channel, method, size, error)) {
        return false;
    }
    channel->pos += size;
    return true;
}

static bool check_pages(Replay *self, const Channel *channel, GError **error)
{
    if (channel->syncs == 0) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a packet with data before the first SYNC, allowed "
                    "only after it");
        return false;
    }
    return multifd_header_check_pages(&self->packet.header, &self->geometry,
                                      main_stream_get_ramblocks(self->main),
                                      error);
}

static bool read_pages(Replay *self, Channel *channel, GError **error)
{
    MultifdHeader *header = &self->packet.header;

    if (!need(channel, self->geometry.header_size, error) ||
        !multifd_header_decode(channel->data + channel->pos, &self->geometry,
                               header, error)) {
        return false;
    }
    channel->pos += self->geometry.header_size;
    if (header->normal_pages + header->zero_pages > 0) {
        self->packet.kind = PACKET_PAGES;
        self->packet.in_channel = channel->source->id;
        if (!check_pages(self, channel, error) ||
            !read_payload(self, channel, error)) {
            return false;
        }
        traffic_note_packet(self->traffic, channel->syncs, &self->packet);
        channel->normal += header->normal_pages;
        channel->zero += header->zero_pages;
        count_packet(channel);
    }
    channel->syncs += (header->flags & MULTIFD_FLAG_SYNC) != 0;
    return true;
}

static bool read_device(Replay *self, Channel *channel, GError **error)
{
    if (!need(channel, MULTIFD_DEVICE_HEADER_SIZE, error) ||
        !multifd_device_header_decode(channel->data + channel->pos,
                                      DEVICE_PAYLOAD_MAX, &self->packet.device,
                                      error)) {
        return false;
    }
    channel->pos += MULTIFD_DEVICE_HEADER_SIZE;
    self->packet.kind = PACKET_DEVICE_STATE;
    self->packet.in_channel = channel->source->id;
    self->packet.payload_len = self->packet.device.payload_size;
    if (!channel->source->headers_only) {
        if (!need(channel, self->packet.payload_len, error)) {
            return false;
        }
        channel->pos += self->packet.payload_len;
    }
    traffic_note_packet(self->traffic, channel->syncs, &self->packet);
    count_packet(channel);
    return true;
}

static bool read_packet(Replay *self, Channel *channel, GError **error)
{
    uint32_t flags;
    bool ok;

    ok = need(channel, MULTIFD_PREFIX_SIZE, error) &&
         multifd_prefix_decode(channel->data + channel->pos, &flags, error) &&
         (flags & MULTIFD_FLAG_DEVICE_STATE ? read_device(self, channel, error)
                                            : read_pages(self, channel, error));
    if (!ok) {
        g_prefix_error(error, "channel %u packet %" G_GUINT64_FORMAT ": ",
                       channel->source->id, channel->n_packets);
    }
    channel->n_packets += ok;
    return ok;
}

/* Up to its SYNC of that number. */
static bool read_epoch(Replay *self, Channel *channel, uint64_t sync,
                       GError **error)
{
    while (channel->pos < channel->len && channel->syncs < sync) {
        if (!read_packet(self, channel, error)) {
            return false;
        }
    }
    return true;
}

static bool read_channels(Replay *self, uint64_t sync, GError **error)
{
    for (unsigned i = 0; i < self->channels->len; i++) {
        if (!read_epoch(self, g_ptr_array_index(self->channels, i), sync,
                        error)) {
            return false;
        }
    }
    return true;
}

static bool begin_channel(Replay *self, const CaptureChannel *source,
                          GError **error)
{
    Channel *channel = g_new0(Channel, 1);
    MultifdInit init;
    gsize len;

    channel->source = source;
    channel->data = g_bytes_get_data(source->bytes, &len);
    channel->len = len;
    channel->by_epoch = g_array_new(FALSE, TRUE, sizeof(uint64_t));
    channel->syncs = source->first_epoch;
    g_ptr_array_add(self->channels, channel);
    if (!source->has_init) {
        return true;
    }
    if (!need(channel, MULTIFD_INIT_SIZE, error) ||
        !multifd_init_decode(channel->data, &init, error)) {
        g_prefix_error(error, "channel %u: ", source->id);
        return false;
    }
    channel->pos = MULTIFD_INIT_SIZE;
    return true;
}

/* ---- the main channel ------------------------------------------------------------- */

static void note_main_page(const Ramblock *block, uint64_t offset, bool zero,
                           void *data)
{
    Replay *self = data;

    traffic_note_main_page(self->traffic, self->markers, block->name, offset,
                           zero);
}

static bool settle_geometry(Replay *self, GError **error)
{
    uint64_t page_size = main_stream_get_page_size(self->main);

    page_size = page_size ? page_size : 4096;
    if (!multifd_geometry_init(&self->geometry, page_size, error)) {
        return false;
    }
    traffic_begin(self->traffic, main_stream_get_ramblocks(self->main),
                  page_size);
    main_stream_set_page_hook(self->main, note_main_page, self);
    self->has_geometry = true;
    return true;
}

static bool note_marker(Replay *self, uint64_t number, GError **error)
{
    traffic_set_now(self->traffic, self->markers * 1000000);
    if (!read_channels(self, number, error)) {
        return false;
    }
    self->markers = number;
    if (self->channels->len > 0) {
        traffic_note_epoch_end(self->traffic, number);
    }
    return true;
}

static bool handle_event(Replay *self, const MainEvent *event, GError **error)
{
    switch (event->kind) {
    case MAIN_EVENT_RAMBLOCKS:
        return settle_geometry(self, error);
    case MAIN_EVENT_MARKER:
        return note_marker(self, event->number, error);
    case MAIN_EVENT_OPAQUE:
        self->opaque_offset = event->offset;
        return true;
    default:
        return true;
    }
}

static bool read_main(Replay *self, GBytes *bytes, GError **error)
{
    gsize len, pos = 0;
    const uint8_t *data = g_bytes_get_data(bytes, &len);
    MainStreamCounts counts;

    while (pos < len) {
        MainEvent event;
        bool has_event = false;
        size_t used = 0;

        if (!main_stream_feed(self->main, data + pos, len - pos, &used, &event,
                              &has_event, error) ||
            (has_event && !handle_event(self, &event, error))) {
            return false;
        }
        pos += used;
    }
    main_stream_get_counts(self->main, &counts);
    traffic_note_main(self->traffic, len, &counts);
    if (!self->has_geometry && self->channels->len > 0) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "the main channel has no RAM block list");
        return false;
    }
    traffic_set_now(self->traffic, self->markers * 1000000);
    return read_channels(self, G_MAXUINT64, error);
}

/* ---- the answer --------------------------------------------------------------------- */

static JsonObject *channel_to_json(const Channel *channel)
{
    JsonObject *object = json_object_new();
    JsonArray *epochs = json_array_new();

    for (unsigned i = 0; i < channel->by_epoch->len; i++) {
        json_array_add_int_element(epochs, g_array_index(channel->by_epoch,
                                                         uint64_t, i));
    }
    json_object_set_int_member(object, "channel", channel->source->id);
    json_object_set_int_member(object, "packets", channel->n_packets);
    json_object_set_int_member(object, "normal-pages", channel->normal);
    json_object_set_int_member(object, "zero-pages", channel->zero);
    json_object_set_int_member(object, "bytes", channel->len);
    json_object_set_int_member(object, "syncs", channel->syncs);
    json_object_set_array_member(object, "epochs", epochs);
    return object;
}

static void add_devices(Replay *self, GBytes *bytes, JsonObject *ret)
{
    gsize len;
    const uint8_t *data = g_bytes_get_data(bytes, &len);
    uint64_t begin = self->opaque_offset - MIN(self->opaque_offset,
                                               (uint64_t)MARGIN);
    g_autoptr(Vmdesc) vmdesc = vmdesc_new(data + begin, len - begin, NULL);
    JsonObject *main;

    if (!vmdesc) {
        return;
    }
    main = json_object_get_object_member(ret, "main");
    json_object_set_int_member(main, "device-bytes", len - begin);
    json_object_set_array_member(main, "sections",
                                 vmdesc_list_sections(vmdesc));
    json_object_set_array_member(ret, "devices", vmdesc_list_values(vmdesc));
}

static JsonObject *to_json(Replay *self, GBytes *main)
{
    JsonObject *ret = traffic_to_json(self->traffic);
    const char *machine = main_stream_get_machine(self->main);
    JsonArray *channels = json_array_new();

    for (unsigned i = 0; i < self->channels->len; i++) {
        json_array_add_object_element(channels, channel_to_json(
            g_ptr_array_index(self->channels, i)));
    }
    json_object_set_array_member(ret, "channels", channels);
    json_object_set_string_member(ret, "machine", machine ? machine : "");
    if (main_stream_is_opaque(self->main)) {
        add_devices(self, main, ret);
    }
    return ret;
}

static void free_channel(void *data)
{
    Channel *channel = data;

    if (channel->decoder) {
        channel->method->state_free(channel->decoder);
    }
    g_array_unref(channel->by_epoch);
    g_free(channel);
}

static bool replay(Replay *self, const CaptureFiles *files, GError **error)
{
    for (unsigned i = 0; i < files->channels->len; i++) {
        if (!begin_channel(self, g_ptr_array_index(files->channels, i), error)) {
            return false;
        }
    }
    return read_main(self, files->main, error);
}

JsonObject *client_capture_read(const char *path, char **ret_invalid,
                                GError **error)
{
    g_autoptr(CaptureFiles) files = client_capture_load(path, error);
    g_autofree Replay *self = NULL;
    g_autoptr(GError) invalid = NULL;
    JsonObject *ret;

    if (!files) {
        return NULL;
    }
    self = g_new0(Replay, 1);
    self->main = main_stream_new();
    self->traffic = traffic_new(false);
    self->channels = g_ptr_array_new_with_free_func(free_channel);
    self->pages = g_malloc(MULTIFD_PAYLOAD_MAX);
    *ret_invalid = replay(self, files, &invalid) ? NULL
                                                 : g_strdup(invalid->message);
    ret = to_json(self, files->main);
    g_free(self->pages);
    g_ptr_array_unref(self->channels);
    traffic_free(self->traffic);
    main_stream_free(self->main);
    return ret;
}
