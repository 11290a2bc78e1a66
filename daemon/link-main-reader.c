/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon/link-main-reader.c - what comes in on a main lane */
#include "daemon/link-main-private.h"

#include "daemon/link-lane-json.h"
#include "daemon/link-lane.h"
#include "wire/error.h"

typedef bool (*FrameHandler)(LinkMain *self, const LinkFrame *frame,
                             GError **error);

static bool handle_control(LinkMain *self, const LinkFrame *frame,
                           GError **error)
{
    JsonObject *message;

    if (frame->sequence != self->control_in) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got CONTROL number %" G_GUINT64_FORMAT ", expected %"
                    G_GUINT64_FORMAT, frame->sequence, self->control_in);
        return false;
    }
    self->control_in++;
    g_assert(frame->length <= LINK_STREAM_MAX);     /* LINK_CONTROL_MAX */
    if (!stream_read_full(self->stream, self->in_buf, frame->length, NULL,
                          error)) {
        return false;
    }
    message = link_lane_json_parse("CONTROL", self->in_buf, frame->length,
                                   error);
    return message && link_main_handle_control(self, message, error);
}

/* A flood of them costs the peer more than us: only the last is answered. */
static bool handle_ping(LinkMain *self, const LinkFrame *frame,
                        GError **error G_GNUC_UNUSED)
{
    g_mutex_lock(&self->lock);
    self->pong = frame->sequence;
    self->pong_wanted = true;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    return true;
}

static bool handle_pong(LinkMain *self, const LinkFrame *frame,
                        GError **error G_GNUC_UNUSED)
{
    uint64_t now_us = g_get_monotonic_time();

    g_mutex_lock(&self->lock);
    if (frame->sequence <= now_us) {
        self->rtt_us = MAX(now_us - frame->sequence, 1);
    }
    g_mutex_unlock(&self->lock);
    return true;
}

/* ---- stream bytes ------------------------------------------------------------ */

static bool check_stream(LinkMain *self, const LinkFrame *frame, GError **error)
{
    const char *name = link_frame_type_name(frame->type);
    uint64_t window, delivered;
    bool attached;

    g_mutex_lock(&self->lock);
    attached = self->exchange != NULL;
    window = self->receive_window;
    delivered = self->delivered;
    g_mutex_unlock(&self->lock);
    if (!attached || self->in_ended ||
        frame->type != (self->source_side ? LINK_RETURN : LINK_MAIN)) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a %s frame %s", name, self->in_ended
                    ? "after the end of that stream" : attached
                    ? "from the end that must not send any"
                    : "before the migration was opened");
        return false;
    }
    if (frame->sequence != self->received) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a %s frame with offset %" G_GUINT64_FORMAT
                    ", expected %" G_GUINT64_FORMAT, name, frame->sequence,
                    self->received);
        return false;
    }
    if (self->received - delivered + frame->length > window) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got %s bytes up to %" G_GUINT64_FORMAT ", allowed up to %"
                    G_GUINT64_FORMAT " (window %" G_GUINT64_FORMAT ")", name,
                    self->received + frame->length, delivered + window, window);
        return false;
    }
    return true;
}

static bool handle_stream(LinkMain *self, const LinkFrame *frame,
                          GError **error)
{
    bool pushed = true;

    if (!check_stream(self, frame, error) ||
        (frame->length > 0 &&
         !stream_read_full(self->stream, self->in_buf, frame->length, NULL,
                           error))) {
        return false;
    }
    self->received += frame->length;
    self->in_ended = frame->flags & LINK_FLAG_END;
    if (frame->length > 0) {
        pushed = self->source_side
            ? exchange_return_push(self->exchange, self->in_buf, frame->length)
            : exchange_main_push(self->exchange, self->in_buf, frame->length);
    }
    /* A migration that is over takes nothing; the lane goes on, for what the
     * two ends still have to tell each other. */
    if (pushed && self->in_ended) {
        if (self->source_side) {
            exchange_return_end(self->exchange);
        } else {
            exchange_main_end(self->exchange);
        }
    }
    return true;
}

/* ---- acknowledgement --------------------------------------------------------- */

static bool take_offset(LinkMain *self, uint64_t offset, GError **error)
{
    if (offset < self->acked || offset > self->sent) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got ACK of %s byte %" G_GUINT64_FORMAT ", allowed %"
                    G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
                    self->source_side ? "MAIN" : "RETURN", offset, self->acked,
                    self->sent);
        return false;
    }
    self->acked = offset;
    g_cond_broadcast(&self->changed);
    return true;
}

static bool call_ack_handler(LinkMain *self, uint64_t bulk, GError **error)
{
    LinkMainAck handler;
    void *data;
    bool ok;

    g_mutex_lock(&self->lock);
    handler = self->ack_handler;
    data = self->ack_data;
    self->in_ack_handler = handler != NULL;
    g_mutex_unlock(&self->lock);
    if (!handler) {
        return true;        /* no bulk frames yet, or no more */
    }
    ok = handler(bulk, data, error);
    g_mutex_lock(&self->lock);
    self->in_ack_handler = false;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    return ok;
}

static bool handle_ack(LinkMain *self, const LinkFrame *frame, GError **error)
{
    uint8_t buf[LINK_ACK_SIZE];
    LinkAck ack;
    bool ok;

    g_assert(frame->length == sizeof(buf));
    if (!stream_read_full(self->stream, buf, sizeof(buf), NULL, error)) {
        return false;
    }
    link_ack_decode(buf, &ack);
    g_mutex_lock(&self->lock);
    ok = take_offset(self, self->source_side ? ack.main_offset
                                             : ack.return_offset, error);
    g_mutex_unlock(&self->lock);
    return ok && (!self->source_side ||
                  call_ack_handler(self, ack.bulk, error));
}

/* ---- the thread -------------------------------------------------------------- */

static bool handle_frame(LinkMain *self, const LinkFrame *frame, GError **error)
{
    static const FrameHandler handlers[LINK_TYPE_LAST + 1] = {
        [LINK_CONTROL] = handle_control,
        [LINK_PING] = handle_ping,
        [LINK_PONG] = handle_pong,
        [LINK_MAIN] = handle_stream,
        [LINK_RETURN] = handle_stream,
        [LINK_ACK] = handle_ack,
    };

    if (!handlers[frame->type]) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a %s frame, which the main lane does not carry",
                    link_frame_type_name(frame->type));
        return false;
    }
    return handlers[frame->type](self, frame, error);
}

static bool read_frame(LinkMain *self, LinkFrame *frame, GError **error)
{
    g_autoptr(GError) cause = NULL;
    bool eof;

    if (!link_lane_read(self->stream, frame, &eof, &cause)) {
        if (g_error_matches(cause, STREAM_ERROR, STREAM_ERROR_TIMEOUT)) {
            g_prefix_error(&cause, "the peer is silent and taken for dead: ");
        }
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    if (eof) {
        g_set_error(error, STREAM_ERROR, STREAM_ERROR_EOF,
                    "the peer ended it");
        return false;
    }
    return true;
}

void *link_main_reader_thread(void *data)
{
    LinkMain *self = data;
    GError *error = NULL;
    LinkFrame frame;

    g_mutex_lock(&self->lock);      /* link_main_new() holds it until all is set */
    g_mutex_unlock(&self->lock);
    while (read_frame(self, &frame, &error) &&
           handle_frame(self, &frame, &error)) {
    }
    link_main_fail(self, error);
    return NULL;
}
