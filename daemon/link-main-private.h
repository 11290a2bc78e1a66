/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon/link-main-private.h - shared by the main lane's own files only */
#ifndef DAEMON_LINK_MAIN_PRIVATE_H
#define DAEMON_LINK_MAIN_PRIVATE_H

#include "daemon/byte-ring.h"
#include "daemon/link-main-streams.h"
#include "daemon/link-main.h"
#include "wire/link-frame.h"

/* A byte stream that we send.  Under the lock, but for `self`. */
typedef struct {
    LinkMain *self;             /* constant, as these are */
    const LinkMainStream *stream;
    uint64_t window;            /* bytes not acknowledged, at most */
    GThread *pump;

    /* From kept.out, which is acknowledged, to kept.in, which was pulled. */
    ByteRing kept;
    uint64_t next;              /* offset of the next byte to be written */
    uint64_t sent;              /* behind all that was ever written */
    bool ended;                 /* kept.in is its end */
    bool end_written;           /* on this connection */
} LinkMainOut;

/* A byte stream that we receive.  The reader's, but for `delivered`. */
typedef struct {
    const LinkMainStream *stream;
    uint64_t window;            /* what we granted */
    uint64_t received;          /* offset of the next byte that is new */
    uint64_t cursor;            /* of the next on this connection: after a resume
                                   what we had already comes again */
    bool ended;
    bool end_seen;              /* on this connection */
    uint64_t delivered;         /* under the lock: bytes that were handed on */
} LinkMainIn;

struct LinkMain {
    char *peer;                 /* for messages; constant, as all of these */
    bool source_side;
    unsigned dead_ms;
    LinkMainHandler handler;
    LinkMainConnect connect;
    LinkMainOutageHandler outage_handler;
    void *data;
    CpuMeter *cpu;
    GThread *reader;
    GThread *writer;
    GCancellable *cancellable;  /* ends what connects; set with closing, error */

    /* The reader's. */
    uint8_t *in_buf;            /* LINK_STREAM_MAX bytes */
    LinkMainIn in[LINK_MAIN_STREAMS];
    unsigned n_in;              /* set by attach, under the lock */
    uint64_t control_in;        /* number of the next CONTROL; changed under the
                                   lock */

    GMutex lock;                /* guards all below; a leaf */
    GCond changed;              /* broadcast when any of it changes */
    bool closing;               /* link_main_shutdown() was called */
    bool ended;                 /* the reader is done */
    bool finished;              /* the writer is done */
    GError *error;              /* why; the first one */

    /* The connection.  Only the reader replaces it, and not while `writing`. */
    Stream *stream;
    bool up;                    /* it may be written to */
    bool writing;               /* the writer is in the stream */
    bool synced;                /* the peer has said what it has received */
    GError *lost;               /* why the connection is no good; NULL: it is */
    Stream *next_stream;        /* destination side: the one to go on with */
    unsigned generation;        /* of the newest connection that was tried */
    bool heard;                 /* the peer has said something since attach */
    int64_t heard_us;           /* when the last frame came */
    bool peer_ended;            /* the peer has said that it ends the lane */
    unsigned budget_ms;         /* how long to wait for a new one; 0: not at all */
    int64_t down_since_us;      /* while it is not up */
    int64_t down_before_us;     /* time without connection, before that */
    unsigned resumes;
    uint64_t resent_bytes;
    uint64_t wire_bytes_before; /* of connections that are gone */

    Exchange *exchange;         /* lent; NULL until attached */
    Limiter *limiter;
    LinkMainOut out[LINK_MAIN_STREAMS];     /* the most urgent first */
    unsigned n_out;
    LinkMainAck ack_handler;
    void *ack_data;
    bool in_ack_handler;

    GQueue control;             /* of GBytes, those not acknowledged */
    uint64_t control_acked;     /* number of the first of them */
    uint64_t control_next;      /* of the next to be written */
    bool writing_control;
    bool end_said;              /* the last of them is `end` */
    bool pong_wanted;
    uint64_t pong;
    bool ack_wanted;
    bool first_ack_wanted;      /* first_ack goes before all else */
    LinkAck ack, first_ack;
    int64_t next_ping_us;
    uint64_t rtt_us;

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
/* Without the lock.  Takes @error: the connection broke.  The reader decides. */
void link_main_lose(LinkMain *self, GError *error);

/* With the lock held.  The same; takes @error. */
void link_main_mark_down(LinkMain *self, GError *error);

/*
 * The reader, after a connection has broken.  Takes @error.  Waits for the next
 * one and sets all up to go on with it; false: the lane has ended.
 */
bool link_main_resume(LinkMain *self, GError *error);
/* With the lock held: time without a connection so far. */
int64_t link_main_get_down_us(const LinkMain *self);

/* Read frames until something goes wrong; how it ends the lane. */
void link_main_read(LinkMain *self, GError **error);
void *link_main_writer_thread(void *data);
/* @data: its LinkMainOut. */
void *link_main_pump_thread(void *data);

/* A control message of the peer, taken; false when it is none that may come. */
bool link_main_handle_control(LinkMain *self, JsonObject *message,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* With the lock held: CONTROL frames below @number have arrived. */
bool link_main_ack_control(LinkMain *self, uint64_t number, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* The last control message: that the connection ends on purpose. */
void link_main_say_end(LinkMain *self);

#endif
