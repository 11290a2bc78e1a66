/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/ingress-link-receipts.h - what has come over a link, and what of it is
 * handed on
 *
 * Frame numbers, window and epochs of all bulk lanes together.  Shared by
 * reference, because every packet keeps one until it is freed, and that may be
 * after the ingress is.  Thread-safe; calls the exchange and the main lane, never
 * with its lock held.
 */
#ifndef DAEMON_INGRESS_LINK_RECEIPTS_H
#define DAEMON_INGRESS_LINK_RECEIPTS_H

#include "daemon/exchange.h"
#include "daemon/link-main.h"
#include "wire/link-frame.h"

typedef struct IngressLinkReceipts IngressLinkReceipts;

IngressLinkReceipts *ingress_link_receipts_new(Exchange *exchange,
                                               LinkMain *main, uint64_t window);
/* The ingress ends: from now on neither exchange nor main lane is called. */
void ingress_link_receipts_close(IngressLinkReceipts *self);
void ingress_link_receipts_unref(IngressLinkReceipts *self);

/*
 * A bulk frame's header came on @stream.  Checks number, window and epoch, and
 * counts it; then it must be pushed, ended or abandoned.  *ret_copy: it has come
 * before, and is only to be read.  Ends another lane that is still reading the same
 * number, and waits for that.  WIRE_ERROR_PROTOCOL: the peer breaks a rule.
 */
bool ingress_link_receipts_admit(IngressLinkReceipts *self,
                                 const LinkFrame *frame, Stream *stream,
                                 bool *ret_copy, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* The rest of it has not come: takes back that it was admitted on @stream, if it
 * was and is not pushed. */
void ingress_link_receipts_abandon(IngressLinkReceipts *self,
                                   const LinkFrame *frame, const Stream *stream);
/* Bytes of copies so far. */
uint64_t ingress_link_receipts_get_dropped(IngressLinkReceipts *self);

/* Push the packet of an admitted frame; it is acknowledged when it is freed.
 * Takes @packet.  False: the migration is over. */
bool ingress_link_receipts_push(IngressLinkReceipts *self,
                                const LinkFrame *frame, Packet *packet);

/* What an admitted EPOCH_END says. */
bool ingress_link_receipts_epoch_end(IngressLinkReceipts *self,
                                     const LinkFrame *frame, uint64_t frames,
                                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
