/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/managed-bandwidth.h - tells the source QEMU how fast its pages really go
 *
 * What we take in looks sent to QEMU, which would stop the guest too early or too
 * late by that.  One that knows avail-switchover-bandwidth (8.2 on) is told what the
 * far end hands on, and again whenever that has changed.
 */
#ifndef DAEMON_MANAGED_BANDWIDTH_H
#define DAEMON_MANAGED_BANDWIDTH_H

#include "daemon/migration-private.h"

typedef struct {
    uint64_t average;           /* bytes/s, of late; 0: not known */
    uint64_t handed_on;         /* at the last look, ... */
    int64_t looked_us;          /* ... and when that was; 0: there was none */
    bool busy;                  /* something was under way then */
    uint64_t told;              /* bytes/s; 0: nothing yet */
    bool over;                  /* it does not know it, or somebody else sets it */
} ManagedBandwidth;

/*
 * Now and then while the guest runs at the source.  What it sets is put back with the
 * rest of @setup; what an operator has set is left alone.
 */
void managed_bandwidth_step(ManagedBandwidth *self, Migration *migration,
                            QmpClient *client, const QemuInfo *info,
                            QemuSetup *setup, unsigned timeout_ms);

/* One look: so many bytes were ever handed on, and so many are under way.  Pure: the
 * average counts only times at whose begin and end something was. */
void managed_bandwidth_look(ManagedBandwidth *self, uint64_t handed_on,
                            uint64_t in_flight, int64_t now_us);

/* What goes in switchover.  Pure, for tests: bytes/s of pages that were handed on
 * (@measured) and of the wire, the limits now and then (0: none), and how many bytes
 * of pages a byte on the wire has been. */
uint64_t managed_bandwidth_estimate(uint64_t measured, uint64_t wire,
                                    uint64_t limit, uint64_t switchover_limit,
                                    double packing);

#endif
