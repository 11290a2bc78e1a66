/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/acceptor.h - accepts connections, a short-lived thread for each
 *
 * What a connection that has not said who it is may cost is bounded here: their
 * number, by not accepting more meanwhile, and their time.  What they say is the
 * business of listener and link-server.
 */
#ifndef DAEMON_ACCEPTOR_H
#define DAEMON_ACCEPTOR_H

#include "daemon/stream.h"

typedef struct Acceptor Acceptor;
typedef struct AcceptorIntake AcceptorIntake;

/*
 * One connection, in a thread of its own.  Finds out what it is, calls
 * acceptor_identified(), then takes *@stream (sets it to NULL) and returns true;
 * or fails, which is logged.  What is left in *@stream is freed.
 */
typedef bool (*AcceptorHandler)(AcceptorIntake *intake, Stream **stream,
                                void *data, GError **error);

typedef struct {
    const char *name;           /* for messages; copied */
    unsigned pending_max;       /* connections in the handler at once */
    unsigned identify_ms;       /* then one that is not identified is cut off */
    AcceptorHandler handler;
    void *data;
} AcceptorSetup;

/* Takes the listening socket @fd. */
Acceptor *acceptor_new(int fd, const AcceptorSetup *setup);

/* For connections that are accepted from now on. */
void acceptor_set_identify(Acceptor *self, unsigned identify_ms);

/*
 * From now on the acceptor does not touch the stream: whoever gets it may free
 * it.  False: too late, it was cut off.
 */
bool acceptor_identified(AcceptorIntake *intake, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/*
 * Accept what waits in the backlog, and wait until every connection accepted so
 * far has been handled, or for @timeout_ms none was; in all at most ten times that.
 */
void acceptor_settle(Acceptor *self, unsigned timeout_ms);

/* Stops accepting, cuts off those not yet identified, waits for their threads. */
void acceptor_free(Acceptor *self);

#endif
