/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/ingress-preempt.h - which connection is the source's preempt channel
 *
 * It says nothing until a page is asked for, and nothing in it names it; so every
 * connection that is silent, once the stream allows for postcopy, is kept for
 * as long as the migration lasts, and the one that begins to send pages of
 * the guest is it.  A stranger who stays silent therefore harms nobody.
 */
#ifndef DAEMON_INGRESS_PREEMPT_H
#define DAEMON_INGRESS_PREEMPT_H

#include "daemon/exchange.h"
#include "daemon/listener.h"

typedef struct IngressPreempt IngressPreempt;

/* @exchange is lent. */
IngressPreempt *ingress_preempt_new(Exchange *exchange);
/* Takes arrival->stream on success; fails when there are too many of them, or
 * the preempt channel is known. */
bool ingress_preempt_take(IngressPreempt *self, Arrival *arrival,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Ends all I/O; nothing is taken any more. */
void ingress_preempt_shutdown(IngressPreempt *self);
/* After shutdown: joins the threads. */
void ingress_preempt_free(IngressPreempt *self);

#endif
