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
    g_assert(frame->length <= LINK_STREAM_MAX);     /* LINK_CONTROL_MAX */
    if (!stream_read_full(self->stream, self->in_buf, frame->length, NULL,
                          error)) {
        return false;
    }
    message = link_lane_json_parse("CONTROL", self->in_buf, frame->length,
                                   error);
    if (!message || !link_main_handle_control(self, message, error)) {
        return false;
    }
    /* Not before it is in safe hands. */
    g_mutex_lock(&self->lock);
    self->ack.control = ++self->control_in;
    self->ack_wanted = true;
    self->heard = self->exchange != NULL;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    return true;
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

static LinkMainIn *find_in(LinkMain *self, uint8_t type)
{
    for (unsigned i = 0; i < self->n_in; i++) {
        if (self->in[i].stream->type == type) {
            return &self->in[i];
        }
    }
    return NULL;
}

static bool refuse_stream(const LinkFrame *frame, const char *what,
                          GError **error)
{
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL, "got a %s frame %s",
                link_frame_type_name(frame->type), what);
    return false;
}

static bool check_place(const LinkMainIn *in, const LinkFrame *frame,
                        GError **error)
{
    uint64_t end = frame->sequence + frame->length;

    if (in->end_seen || (in->ended && end > in->received)) {
        return refuse_stream(frame, "after the end of that stream", error);
    }
    /* What of it we had and have acknowledged meanwhile does not come again. */
    if (frame->sequence < in->cursor || frame->sequence > in->received) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a %s frame with offset %" G_GUINT64_FORMAT
                    ", expected %" G_GUINT64_FORMAT,
                    link_frame_type_name(frame->type), frame->sequence,
                    in->received);
        return false;
    }
    if ((frame->flags & LINK_FLAG_END) && end < in->received) {
        return refuse_stream(frame, "that ends the stream before bytes of it "
                             "that came", error);
    }
    return true;
}

static bool check_window(LinkMain *self, const LinkMainIn *in,
                         const LinkFrame *frame, GError **error)
{
    uint64_t end = frame->sequence + frame->length, allowed;

    g_mutex_lock(&self->lock);
    allowed = in->delivered + in->window;
    g_mutex_unlock(&self->lock);
    if (end > allowed) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got %s bytes up to %" G_GUINT64_FORMAT ", allowed up to %"
                    G_GUINT64_FORMAT " (window %" G_GUINT64_FORMAT ")",
                    link_frame_type_name(frame->type), end, allowed, in->window);
        return false;
    }
    return true;
}

/* NULL: a frame that may not come here, or not now. */
static LinkMainIn *check_stream(LinkMain *self, const LinkFrame *frame,
                                GError **error)
{
    LinkMainIn *in;
    bool attached;

    g_mutex_lock(&self->lock);
    attached = self->exchange != NULL;
    in = find_in(self, frame->type);
    g_mutex_unlock(&self->lock);
    if (!attached) {
        refuse_stream(frame, "before the migration was opened", error);
        return NULL;
    }
    if (!in) {
        refuse_stream(frame, "from the end that must not send any", error);
        return NULL;
    }
    return check_place(in, frame, error) &&
           check_window(self, in, frame, error) ? in : NULL;
}

/* What is new of the @len bytes that have come, from offset @from on. */
static bool push_new(LinkMain *self, LinkMainIn *in, uint64_t from, size_t len)
{
    size_t had = MIN(in->received - from, len);

    in->cursor = from + len;
    if (len == had) {
        return true;
    }
    in->received = in->cursor;
    return in->stream->push(self, self->in_buf + had, len - had);
}

static bool handle_stream(LinkMain *self, const LinkFrame *frame,
                          GError **error)
{
    LinkMainIn *in = check_stream(self, frame, error);
    bool pushed, ends;

    if (!in || (frame->length > 0 &&
                !stream_read_full(self->stream, self->in_buf, frame->length,
                                  NULL, error))) {
        return false;
    }
    g_mutex_lock(&self->lock);
    self->heard = true;
    g_mutex_unlock(&self->lock);
    pushed = push_new(self, in, frame->sequence, frame->length);
    in->end_seen = frame->flags & LINK_FLAG_END;
    ends = in->end_seen && !in->ended;
    in->ended |= in->end_seen;
    /* A migration that is over takes nothing; the lane goes on, for what the
     * two ends still have to tell each other. */
    if (pushed && ends) {
        in->stream->end(self);
    }
    return true;
}

/* ---- acknowledgement --------------------------------------------------------- */

static bool take_offset(LinkMainOut *out, uint64_t offset, GError **error)
{
    if (offset < out->kept.out || offset > out->sent) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got ACK of %s byte %" G_GUINT64_FORMAT ", allowed %"
                    G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
                    link_frame_type_name(out->stream->type), offset,
                    out->kept.out, out->sent);
        return false;
    }
    byte_ring_drop(&out->kept, offset);
    out->next = MAX(out->next, offset);
    return true;
}

/* With the lock held.  The first on a connection that resumes: from there on all
 * is sent again. */
static void sync_locked(LinkMain *self)
{
    self->synced = true;
    self->control_next = self->control_acked;
    for (unsigned i = 0; i < self->n_out; i++) {
        self->out[i].next = self->out[i].kept.out;
    }
}

static bool take_ack(LinkMain *self, LinkAck *ack, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = link_main_ack_control(self, ack->control, error);
    for (unsigned i = 0; ok && i < self->n_out; i++) {
        ok = take_offset(&self->out[i],
                         *self->out[i].stream->ack_field(ack), error);
    }
    if (ok && !self->synced) {
        sync_locked(self);
    }
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    return ok;
}

static bool call_ack_handler(LinkMain *self, const LinkAck *ack, GError **error)
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
    ok = handler(ack->bulk, ack->ahead, data, error);
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

    g_assert(frame->length == sizeof(buf));
    if (!stream_read_full(self->stream, buf, sizeof(buf), NULL, error)) {
        return false;
    }
    link_ack_decode(buf, &ack);
    return take_ack(self, &ack, error) &&
           (!self->source_side || call_ack_handler(self, &ack, error));
}

/* The first frame of a connection that resumes says where to go on. */
static bool check_first(LinkMain *self, const LinkFrame *frame, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = self->synced || frame->type == LINK_ACK;
    g_mutex_unlock(&self->lock);
    if (!ok) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a %s frame first after a resume, expected ACK",
                    link_frame_type_name(frame->type));
    }
    return ok;
}

/* ---- frames ------------------------------------------------------------------ */

static bool handle_frame(LinkMain *self, const LinkFrame *frame, GError **error)
{
    static const FrameHandler handlers[LINK_TYPE_LAST + 1] = {
        [LINK_CONTROL] = handle_control,
        [LINK_PING] = handle_ping,
        [LINK_PONG] = handle_pong,
        [LINK_MAIN] = handle_stream,
        [LINK_RETURN] = handle_stream,
        [LINK_PREEMPT] = handle_stream,
        [LINK_ACK] = handle_ack,
    };

    if (!handlers[frame->type]) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got a %s frame, which the main lane does not carry",
                    link_frame_type_name(frame->type));
        return false;
    }
    return check_first(self, frame, error) &&
           handlers[frame->type](self, frame, error);
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
    g_mutex_lock(&self->lock);
    self->heard_us = g_get_monotonic_time();
    g_mutex_unlock(&self->lock);
    return true;
}

void link_main_read(LinkMain *self, GError **error)
{
    LinkFrame frame;

    while (read_frame(self, &frame, error) &&
           handle_frame(self, &frame, error)) {
    }
}
