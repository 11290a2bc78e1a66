/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/egress.h - what takes a migration out of its exchange
 *
 * The kinds embed this struct first.  Made and freed by the migration thread.
 */
#ifndef DAEMON_EGRESS_H
#define DAEMON_EGRESS_H

#include <stdint.h>
#include <glib.h>

typedef struct Egress Egress;

typedef struct {
    const char *kind;               /* "qemu", "link" */
    /* End all I/O soon, waking every thread; may take a moment.  Idempotent.
     * The exchange has failed or was closed before. */
    void (*shutdown)(Egress *self);
    /* After shutdown(): join the threads, close what is open, free. */
    void (*free)(Egress *self);
    /* Bytes it has put on the wire, all connections together. */
    uint64_t (*get_wire_bytes)(Egress *self);
} EgressOps;

struct Egress {
    const EgressOps *ops;
};

static inline void egress_shutdown(Egress *self)
{
    if (self) {
        self->ops->shutdown(self);
    }
}

static inline void egress_free(Egress *self)
{
    if (self) {
        self->ops->free(self);
    }
}

#endif
