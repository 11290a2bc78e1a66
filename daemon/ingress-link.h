/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/ingress-link.h - receives a migration's packets from a peer
 */
#ifndef DAEMON_INGRESS_LINK_H
#define DAEMON_INGRESS_LINK_H

#include "daemon/exchange.h"
#include "daemon/ingress.h"
#include "daemon/link-main.h"

typedef struct {
    Exchange *exchange;     /* lent; its setup said link_fed */
    LinkMain *main;         /* lent */
    uint64_t window;        /* bytes granted to the peer */
    bool packed;            /* pages may come packed, as was agreed */
    uint64_t history;       /* bytes of pages that both ends keep; 0: none */
} IngressLinkSetup;

Ingress *ingress_link_new(const IngressLinkSetup *setup);

/*
 * A bulk lane, hellos done.  Takes @stream on success, and replaces the lane of that
 * number if @generation is higher; fails when it is not, or the migration is over.
 * Any thread.
 */
bool ingress_link_take(Ingress *ingress, Stream *stream, unsigned lane,
                       unsigned generation, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Bytes that came again in vain. */
uint64_t ingress_link_get_dropped(Ingress *ingress);

/* Number of lanes that have come. */
unsigned ingress_link_get_lanes(Ingress *ingress);

#endif
