/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/listener.h - accepts a source QEMU's connections and finds out what
 * each of them is
 *
 * Every connection is accepted and handshaken at once (a source from 9.0 on sends
 * nothing on main before the last multifd handshake) and classified by its
 * first bytes, never by order.  One that is silent for too long, or says what no
 * QEMU says, is closed with a line in the log; it harms nobody else.  But postcopy's
 * preempt channel says nothing until a page is asked for: whoever knows whether
 * there can be one is asked.
 */
#ifndef DAEMON_LISTENER_H
#define DAEMON_LISTENER_H

#include "daemon/stream.h"
#include "wire/multifd.h"

typedef enum {
    ARRIVAL_MAIN,
    ARRIVAL_CHANNEL,    /* of multifd */
    ARRIVAL_PREEMPT,    /* perhaps: it says nothing, or what no other one says */
} ArrivalKind;

typedef struct {
    Stream *stream;
    ArrivalKind kind;
    uint8_t start[4];   /* read already: all of these, or of PREEMPT none */
    size_t start_len;
    MultifdInit init;   /* of CHANNEL, read already */
} Arrival;

/*
 * Called in an intake thread.  Takes arrival->stream with g_steal_pointer() and
 * returns true, or refuses with an error, which is logged.
 */
typedef bool (*ListenerHandler)(Arrival *arrival, void *data, GError **error);

typedef struct {
    const char *name;               /* for messages; copied */
    TlsCredentials *(*get_credentials)(void *data); /* NULL: plain; returns a ref */
    const char *tls_client;         /* name or PSK identity it must have; NULL: any;
                                     * lent, like all of a configuration */
    unsigned handshake_ms;
    unsigned first_bytes_ms;
    ListenerHandler handler;
    /* NULL, or called when a connection said it was a multifd channel, but not
     * as any QEMU says it. */
    void (*refused)(const GError *error, void *data);
    /* NULL, or asked now and then about a connection that has not said anything,
     * and once about one that has said what no other channel says. */
    bool (*may_be_preempt)(void *data);
    void *data;
} ListenerSetup;

typedef struct Listener Listener;

/* Takes the listening socket @fd. */
Listener *listener_new(int fd, const ListenerSetup *setup);

/*
 * Accept what waits in the backlog, and wait until every connection accepted so
 * far has been classified, at most @timeout_ms.
 */
void listener_settle(Listener *self, unsigned timeout_ms);

/* Stops accepting, cuts off those not yet classified, waits for their threads. */
void listener_free(Listener *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Listener, listener_free)

#endif
