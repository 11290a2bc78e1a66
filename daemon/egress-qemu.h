/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress-qemu.h - plays the source towards a destination QEMU
 */
#ifndef DAEMON_EGRESS_QEMU_H
#define DAEMON_EGRESS_QEMU_H

#include "daemon/address.h"
#include "daemon/egress.h"
#include "daemon/exchange.h"
#include "daemon/leg-payload.h"
#include "daemon/limiter.h"
#include "daemon/tls.h"

typedef struct {
    Exchange *exchange;         /* lent */
    const Address *address;     /* copied */
    unsigned channels;          /* K; 0: as many as came in */
    bool multifd_expected;      /* managed: the destination waits for K channels */
    TlsCredentials *credentials;    /* NULL: plain; a reference is taken */
    const char *tls_hostname;   /* the certificate's name; NULL: the address' host */
    Limiter *limiter;           /* NULL: no limit; a reference is taken */
    LegPayloadRules payload;    /* how the destination wants its pages */
    unsigned connect_ms, handshake_ms;
} EgressQemuSetup;

Egress *egress_qemu_new(const EgressQemuSetup *setup);

#endif
