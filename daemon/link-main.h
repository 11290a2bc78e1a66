/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-main.h - the main lane of a link, the same at both ends
 *
 * Carries control messages, the main stream one way, the return path the other,
 * acknowledgements and heartbeats.  A reader, a writer and a pump thread; the
 * writer sends control, PONG, ACK and PING before stream bytes, always.
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
/* An ACK came: bulk frames below @bulk are handed on.  Reader thread.  False: it
 * is one that the peer may not send, which ends the lane. */
typedef bool (*LinkMainAck)(uint64_t bulk, void *data, GError **error);

typedef struct {
    Stream *stream;         /* taken; hellos are done */
    bool source_side;       /* sends MAIN, receives RETURN; else the reverse */
    unsigned dead_ms;       /* silence after which the link is dead */
    LinkMainHandler handler;
    void *data;
} LinkMainSetup;

LinkMain *link_main_new(const LinkMainSetup *setup);

/*
 * From now on stream frames flow.  @send_window: what the peer granted for the
 * stream we send; what it sends us may exceed what we pushed on by
 * @receive_window, which our exchange's ring must hold.  After it, what ends the
 * lane fails the exchange.  @limiter: charged for MAIN (waits for it while pages
 * travel on main); NULL: none; a reference is taken.  Sets the exchange's delivery
 * hook.  Before the peer may send stream frames: they end the lane before this.
 */
void link_main_attach(LinkMain *self, Exchange *exchange, Limiter *limiter,
                      uint64_t send_window, uint64_t receive_window);
/* NULL: none; waits until a call under way is over. */
void link_main_set_ack_handler(LinkMain *self, LinkMainAck handler, void *data);
/* Acknowledge bulk frames below @bulk, soon.  Any thread. */
void link_main_ack_bulk(LinkMain *self, uint64_t bulk);

/*
 * Request and wait for the answer's "return" member (transfer full).  One at a
 * time.  @arguments (may be NULL) is consumed.  Errors: the peer's text
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

/* Waits until all control messages given so far are written, at most. */
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
