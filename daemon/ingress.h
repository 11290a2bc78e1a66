/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/ingress.h - what brings a migration into its exchange
 *
 * The kinds embed this struct first.  Made and freed by the migration thread.
 */
#ifndef DAEMON_INGRESS_H
#define DAEMON_INGRESS_H

#include <glib.h>

typedef struct Ingress Ingress;

typedef struct {
    const char *kind;               /* "qemu", "link" */
    /* End all I/O soon, waking every thread; may take a moment.  Idempotent.
     * The exchange has failed or was closed before. */
    void (*shutdown)(Ingress *self);
    /* After shutdown(): join the threads, close what is open, free. */
    void (*free)(Ingress *self);
} IngressOps;

struct Ingress {
    const IngressOps *ops;
};

static inline void ingress_shutdown(Ingress *self)
{
    if (self) {
        self->ops->shutdown(self);
    }
}

static inline void ingress_free(Ingress *self)
{
    if (self) {
        self->ops->free(self);
    }
}

#endif
