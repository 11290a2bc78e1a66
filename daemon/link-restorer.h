/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-restorer.h - unpacks what a lane receives
 *
 * The other end of daemon/link-reducer.h.  All lanes of a migration share the slots
 * of the history; each lane's thread unpacks its own frames.
 */
#ifndef DAEMON_LINK_RESTORER_H
#define DAEMON_LINK_RESTORER_H

#include <stdbool.h>
#include <stdint.h>
#include "daemon/packet.h"

/* What the lanes of one migration share. */
typedef struct LinkRestoration LinkRestoration;

/* @n_slots: what both ends agreed on; 0: packed frames, but without a history. */
LinkRestoration *link_restoration_new(uint32_t n_slots);
/* After the lanes' own. */
void link_restoration_free(LinkRestoration *self);

typedef struct LinkRestorer LinkRestorer;

/* @page_size is the same for all lanes. */
LinkRestorer *link_restorer_new(LinkRestoration *shared, uint32_t page_size);
void link_restorer_free(LinkRestorer *self);

/*
 * @src into @packet's payload, which has room for its normal pages.  The pages are
 * then to be checked (WIRE_ERROR_PROTOCOL is not all that can be wrong), and after
 * that to be stored.
 */
bool link_restorer_unpack(LinkRestorer *self, const uint8_t *src, size_t len,
                          Packet *packet, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* What was unpacked last, once per frame, before it is acknowledged. */
void link_restorer_store(LinkRestorer *self, const Packet *packet);

#endif
