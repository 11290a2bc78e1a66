/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/sync-confirm.h - SYNCs that a distant destination's kernel has received
 *
 * A marker must not reach a destination before its SYNCs.  To a QEMU on this host
 * a written SYNC is as good as there: the kernel delivers it even if we die.  Over
 * a network it may sit in our send buffer when the connection breaks, and the
 * destination would wait at the marker for ever.  So the marker waits for TCP's
 * acknowledgement (SIOCOUTQ, tcp(7)) of every SYNC: a round trip more per epoch
 * on the main channel; pages go on meanwhile.
 */
#ifndef DAEMON_SYNC_CONFIRM_H
#define DAEMON_SYNC_CONFIRM_H

#include "daemon/exchange.h"
#include "daemon/stream.h"

typedef struct SyncConfirm SyncConfirm;

/* For channels 0 to @n - 1 of @exchange, which was told that SYNCs are confirmed. */
SyncConfirm *sync_confirm_new(Exchange *exchange, unsigned n);
/* A channel is connected; @stream lives longer. */
void sync_confirm_add_channel(SyncConfirm *self, unsigned out, Stream *stream);
/* Its writer has just written a SYNC, and everything before it. */
void sync_confirm_written(SyncConfirm *self, unsigned out);
/* Joins its thread; before the streams go.  NULL is fine. */
void sync_confirm_free(SyncConfirm *self);

/* Whether a connection leaves this host, as far as its address tells. */
bool sync_confirm_is_needed(const Stream *stream);

#endif
