/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-test-talk.h"

#include <inttypes.h>

#include "daemon/link-lane-json.h"
#include "daemon/link-lane.h"
#include "qmp/message.h"
#include "wire/error.h"

void link_test_talk_init(LinkTestTalk *self, Stream *stream)
{
    *self = (LinkTestTalk) { .stream = stream };
}

static bool refuse_frame(const LinkFrame *frame, GError **error)
{
    g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                "link test: got a %s frame, which its main lane does not carry "
                "now", link_frame_type_name(frame->type));
    return false;
}

/* Takes @object. */
static bool write_control(LinkTestTalk *self, JsonObject *object, GError **error)
{
    g_autoptr(GBytes) text = qmp_message_encode(object);
    gsize len;
    const void *data = g_bytes_get_data(text, &len);
    struct iovec piece = { (void *)data, len };
    LinkFrame frame = {
        .type = LINK_CONTROL, .length = len, .sequence = self->n_out,
    };

    json_object_unref(object);
    g_assert(len <= LINK_CONTROL_MAX);
    self->n_out++;
    return link_lane_write(self->stream, NULL, &frame, &piece, 1, error);
}

/* What follows the header of a CONTROL frame. */
static JsonObject *read_control(LinkTestTalk *self, const LinkFrame *frame,
                                GError **error)
{
    g_autofree uint8_t *buf = NULL;

    if (frame->type != LINK_CONTROL) {
        refuse_frame(frame, error);
        return NULL;
    }
    if (frame->sequence != self->n_in) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link test: got CONTROL number %" PRIu64 ", expected %"
                    PRIu64, frame->sequence, self->n_in);
        return NULL;
    }
    self->n_in++;
    buf = g_malloc(frame->length);
    if (!stream_read_full(self->stream, buf, frame->length, NULL, error)) {
        return NULL;
    }
    return link_lane_json_parse("CONTROL", buf, frame->length, error);
}

/* ---- the asking end --------------------------------------------------------- */

bool link_test_talk_ping(LinkTestTalk *self, uint32_t *ret_us, GError **error)
{
    int64_t begin_us = g_get_monotonic_time();
    LinkFrame frame = { .type = LINK_PING, .sequence = begin_us }, answer;

    if (!link_lane_write(self->stream, NULL, &frame, NULL, 0, error) ||
        !link_lane_read(self->stream, &answer, NULL, error)) {
        return false;
    }
    if (answer.type != LINK_PONG) {
        return refuse_frame(&answer, error);
    }
    if (answer.sequence != frame.sequence) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "link test: got a PONG with %" PRIu64 ", expected %" PRIu64,
                    answer.sequence, frame.sequence);
        return false;
    }
    *ret_us = CLAMP(g_get_monotonic_time() - begin_us, 1, G_MAXUINT32);
    return true;
}

static JsonObject *take_return(const char *name, JsonObject *answer,
                               GError **error)
{
    JsonObject *ret = qmp_message_get_object(answer, "return");
    JsonObject *refusal = qmp_message_get_object(answer, "error");

    if (ret) {
        return json_object_ref(ret);
    }
    if (refusal) {
        g_propagate_prefixed_error(error, link_lane_json_to_error(refusal),
                                   "the peer refused: ");
    } else {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "answer to %s: got neither 'return' nor 'error'", name);
    }
    return NULL;
}

JsonObject *link_test_talk_ask(LinkTestTalk *self, const char *name,
                               JsonObject *arguments, GError **error)
{
    JsonObject *request = json_object_new(), *answer, *ret;
    LinkFrame frame;

    json_object_set_string_member(request, "execute", name);
    json_object_set_object_member(request, "arguments",
                                  arguments ? arguments : json_object_new());
    json_object_set_int_member(request, "id", self->n_out);
    if (!write_control(self, request, error) ||
        !link_lane_read(self->stream, &frame, NULL, error)) {
        return NULL;
    }
    answer = read_control(self, &frame, error);
    if (!answer) {
        return NULL;
    }
    ret = take_return(name, answer, error);
    json_object_unref(answer);
    return ret;
}

/* ---- the serving end -------------------------------------------------------- */

static bool pong(LinkTestTalk *self, const LinkFrame *ping, GError **error)
{
    LinkFrame frame = { .type = LINK_PONG, .sequence = ping->sequence };

    return link_lane_write(self->stream, NULL, &frame, NULL, 0, error);
}

JsonObject *link_test_talk_next(LinkTestTalk *self, GError **error)
{
    LinkFrame frame;
    bool end = false;

    for (;;) {
        if (!link_lane_read(self->stream, &frame, &end, error) || end) {
            return NULL;
        }
        if (frame.type != LINK_PING) {
            return read_control(self, &frame, error);
        }
        if (!pong(self, &frame, error)) {
            return NULL;
        }
    }
}

bool link_test_talk_answer(LinkTestTalk *self, JsonObject *request,
                           JsonObject *ret, const GError *refusal,
                           GError **error)
{
    JsonObject *answer = json_object_new();
    int64_t id = 0;

    if (ret) {
        json_object_set_object_member(answer, "return", ret);
    } else {
        json_object_set_object_member(answer, "error",
                                      link_lane_json_from_error(refusal));
    }
    if (qmp_message_get_int(request, "id", &id)) {
        json_object_set_int_member(answer, "id", id);
    }
    return write_control(self, answer, error);
}
