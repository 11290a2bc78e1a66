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
} IngressLinkSetup;

Ingress *ingress_link_new(const IngressLinkSetup *setup);

/*
 * A bulk lane, hellos done.  Takes @stream on success; fails when the number is
 * taken or the migration is over.  Any thread.
 */
bool ingress_link_take(Ingress *ingress, Stream *stream, unsigned lane,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Number of lanes that have come. */
unsigned ingress_link_get_lanes(Ingress *ingress);

#endif
