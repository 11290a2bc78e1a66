/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-main.h - the main lane of a link, the same at both ends
 *
 * Carries control messages, byte streams (link-main-streams.h), acknowledgements
 * and heartbeats.  A reader, a writer and a pump thread for each stream; the writer
 * sends control, PONG, ACK and PING before stream bytes, always.
 *
 * With an outage budget it outlives its connection: what was not acknowledged is
 * kept, the source side connects anew, and both go on where the other stopped.
 *
 * Life: new (control messages work), then attach an exchange once there is one,
 * shutdown, free.  Ingress and egress are freed before it, because they use it
 * (both kinds: what writes the stream out calls the delivery hook); the exchange
 * is closed before it is freed, and freed after it.
 */
#ifndef DAEMON_LINK_MAIN_H
#define DAEMON_LINK_MAIN_H

#include <gio/gio.h>
#include <json-glib/json-glib.h>
#include "daemon/exchange.h"
#include "daemon/limiter.h"
#include "daemon/stream-tcp.h"
#include "daemon/stream.h"

typedef struct LinkMain LinkMain;

/*
 * Called in the reader thread, keep it short: a request ({"execute":…}) or an
 * event ({"event":…}) of the peer.  @message is handed over, json_object_unref()
 * it: json-glib's reference counts are not atomic (1.6), so two threads must not
 * share one, not even to let go of it.  NULL, once, when the lane has ended or
 * died: link_main_get_error() says why.  Not called any more after
 * link_main_shutdown(), not even with NULL.  The first call may come before
 * link_main_new() has returned.
 */
typedef void (*LinkMainHandler)(JsonObject *message, void *data);
/* An ACK came: bulk frames below @bulk are handed on, and of the rest some that cost
 * @ahead.  Reader thread.  False: it
 * is one that the peer may not send, which ends the lane. */
typedef bool (*LinkMainAck)(uint64_t bulk, uint64_t ahead, void *data,
                            GError **error);

/*
 * Source side: connect anew and say so in the hello.  Reader thread; may block, for
 * about @timeout_ms or until @cancellable is cancelled.  An error of which link_lane_is_unknown() is
 * true ends the lane; any other is tried again.
 */
typedef Stream *(*LinkMainConnect)(unsigned generation, unsigned timeout_ms,
                                   GCancellable *cancellable, void *data,
                                   GError **error);
/* The connection is gone (@reason), or there is one again after @down_ms (NULL).
 * Reader thread, keep it short. */
typedef void (*LinkMainOutageHandler)(const GError *reason, unsigned down_ms,
                                      void *data);

typedef struct {
    Stream *stream;         /* taken; hellos are done */
    bool source_side;       /* sends MAIN, receives RETURN; else the reverse */
    unsigned dead_ms;       /* silence after which a connection is dead */
    LinkMainHandler handler;
    LinkMainConnect connect;                /* NULL: none; source side only */
    LinkMainOutageHandler outage_handler;   /* NULL: nobody cares */
    void *data;             /* for all three */
    CpuMeter *cpu;          /* where its threads count; a reference is taken */
} LinkMainSetup;

LinkMain *link_main_new(const LinkMainSetup *setup);

typedef struct {
    Exchange *exchange;     /* lent */
    /* Charged for what goes to the destination; MAIN waits for it while pages
     * travel on main.  NULL: none; a reference is taken. */
    Limiter *limiter;
    uint64_t send_window;   /* what the peer granted for MAIN or RETURN, and no more
                               than we can keep: memory of that size is taken */
    uint64_t receive_window;    /* what we granted; our exchange's ring holds it */
    uint64_t preempt_window;    /* what the destination side granted for PREEMPT, at
                                   most EXCHANGE_PREEMPT_RING; 0: there is none */
} LinkMainFlow;

/*
 * From now on stream frames flow, and what ends the lane fails the exchange.  Sets
 * the exchange's delivery hook.  Before the peer may send stream frames: they end
 * the lane before this.
 */
void link_main_attach(LinkMain *self, const LinkMainFlow *flow);

/* Not even a peer that has let go of the migration ends the wait. */
#define LINK_MAIN_FOREVER G_MAXUINT

/*
 * How long it waits for a new connection, once attached; it counts for an outage
 * under way too.  0, as at first: what breaks the connection ends the lane.  The
 * destination side waits only after it has heard something since the attach.
 */
void link_main_set_outage_budget(LinkMain *self, unsigned budget_ms);
/*
 * Destination side: go on with @stream, hellos done.  Takes it on success.  Fails
 * when the lane is over or does not outlive its connection, or has seen this
 * generation or a later one.  Any thread.
 */
bool link_main_take(LinkMain *self, Stream *stream, unsigned generation,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Whether it would, now. */
bool link_main_check_take(LinkMain *self, unsigned generation, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* The peer has let go of the migration, as is known from elsewhere: the lane ends, and
 * waits for no connection.  Takes @error.  Any thread. */
void link_main_give_up(LinkMain *self, GError *error);
/* The connection is to be given up for another, as if it had broken, if the lane is to
 * outlive it, and nothing has come over it lately.  Takes @error.  Any thread. */
void link_main_break(LinkMain *self, GError *error);
/* It is up, and the peer was heard over it within two seconds: who says elsewhere that
 * there is nobody any more is mistaken, or somebody else.  Any thread. */
bool link_main_is_alive(LinkMain *self);
/* Whether the peer has heard all that was said in control messages; true too where it
 * would not wait for more.  Of a lane that was shut. */
bool link_main_is_heard(LinkMain *self);
/* False: it is not up, or is no TCP connection. */
bool link_main_get_tcp(LinkMain *self, StreamTcp *ret, unsigned *ret_path);
/* Of the newest connection that was tried. */
unsigned link_main_get_generation(LinkMain *self);

typedef struct {
    bool down;
    unsigned down_ms;           /* so far */
    unsigned budget_ms;         /* of which that is part */
    unsigned resumes;           /* times that it went on */
    uint64_t resent_bytes;      /* of streams */
} LinkMainOutage;

void link_main_get_outage(LinkMain *self, LinkMainOutage *ret);

/* NULL: none; waits until a call under way is over. */
void link_main_set_ack_handler(LinkMain *self, LinkMainAck handler, void *data);
/* Acknowledge bulk frames below @bulk, and say what others cost that are handed on,
 * soon.  Destination side, any thread. */
void link_main_ack_bulk(LinkMain *self, uint64_t bulk, uint64_t ahead);

/*
 * Request and wait for the answer's "return" member (transfer full).  One at a
 * time; time without a connection does not count.  @arguments (may be NULL) is
 * consumed.  Errors: the peer's text
 * (QMP_ERROR_COMMAND), STREAM_ERROR_TIMEOUT, the lane's end,
 * G_IO_ERROR_CANCELLED.
 */
JsonObject *link_main_request(LinkMain *self, const char *name,
                              JsonObject *arguments, unsigned timeout_ms,
                              GCancellable *cancellable, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Answer request @id; @value or @error, one of them NULL; @value is consumed.  The
 * class is qmp_error_get_class()'s. */
void link_main_answer(LinkMain *self, gint64 id, JsonObject *value,
                      const GError *error);
/* @data is consumed, may be NULL.  More than 64 messages that the peer does not
 * read end the lane. */
void link_main_send_event(LinkMain *self, const char *name, JsonObject *data);

/* Waits until all control messages given so far are written, at most; not at all
 * without a connection. */
void link_main_flush(LinkMain *self, unsigned timeout_ms);

/* A copy of why it ended, or NULL. */
GError *link_main_get_error(LinkMain *self);
/* Round trip of the last heartbeat, µs; 0: none yet. */
uint64_t link_main_get_rtt_us(LinkMain *self);
uint64_t link_main_get_wire_bytes_out(LinkMain *self);

/*
 * End the lane: what is queued is written, then FIN; takes 0.6 s at most, because
 * the peer may be slow or gone.  Idempotent, any thread.
 */
void link_main_shutdown(LinkMain *self);
/* After the exchange is closed (exchange_close()).  Joins the threads. */
void link_main_free(LinkMain *self);

#endif
