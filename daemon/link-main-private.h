/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon/link-main-private.h - shared by the main lane's own files only */
#ifndef DAEMON_LINK_MAIN_PRIVATE_H
#define DAEMON_LINK_MAIN_PRIVATE_H

#include "daemon/link-main.h"
#include "wire/link-frame.h"

struct LinkMain {
    Stream *stream;             /* constant, as all of these */
    bool source_side;
    unsigned dead_ms;
    LinkMainHandler handler;
    void *data;
    GThread *reader;
    GThread *writer;

    /* The reader's. */
    uint8_t *in_buf;            /* LINK_STREAM_MAX bytes */
    uint64_t control_in;        /* number of the next CONTROL */
    uint64_t received;          /* offset of the next MAIN or RETURN byte */
    bool in_ended;

    GMutex lock;                /* guards all below; a leaf */
    GCond changed;              /* broadcast when any of it changes */
    bool closing;               /* link_main_shutdown() was called */
    bool ended;                 /* the reader is done */
    bool finished;              /* the writer is done */
    GError *error;              /* why; the first one */

    Exchange *exchange;         /* lent; NULL until attached */
    Limiter *limiter;
    GThread *pump;
    uint64_t send_window;
    uint64_t receive_window;
    uint64_t delivered;         /* of what we receive: handed on */
    LinkMainAck ack_handler;
    void *ack_data;
    bool in_ack_handler;

    GQueue control;             /* of GBytes, to be written */
    bool writing_control;
    uint64_t control_out;
    bool pong_wanted;
    uint64_t pong;
    bool ack_wanted;
    LinkAck ack;
    int64_t next_ping_us;
    uint64_t rtt_us;

    uint8_t *frame;             /* stream bytes between pump and writer */
    size_t frame_len;
    uint64_t frame_offset;
    bool frame_full;
    uint64_t sent;              /* offset behind what the writer was given */
    uint64_t acked;

    bool request_open;
    gint64 request_id;          /* of the last one */
    JsonObject *answer;         /* to it; NULL: none yet */
};

/* With the lock held: nothing more will come or go. */
static inline bool link_main_is_over(const LinkMain *self)
{
    return self->closing || self->ended || self->error;
}

/* Without the lock.  Takes @error; the first is kept.  Ends the lane. */
void link_main_fail(LinkMain *self, GError *error);

void *link_main_reader_thread(void *data);
void *link_main_writer_thread(void *data);
void *link_main_pump_thread(void *data);

/* A control message of the peer, taken; false when it is none that may come. */
bool link_main_handle_control(LinkMain *self, JsonObject *message,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
