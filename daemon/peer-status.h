/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/peer-status.h - what was last heard of each peer, for query-peers
 *
 * Nobody calls a peer only to see whether it is there: this is what migrations
 * found out.  Thread-safe.
 */
#ifndef DAEMON_PEER_STATUS_H
#define DAEMON_PEER_STATUS_H

#include <json-glib/json-glib.h>

typedef struct PeerStatus PeerStatus;

PeerStatus *peer_status_new(void);
void peer_status_free(PeerStatus *self);

/* A main lane to or from the peer came up. */
void peer_status_note_reached(PeerStatus *self, const char *peer);
/* It could not be reached, or refused us. */
void peer_status_note_failed(PeerStatus *self, const char *peer,
                             const GError *error);
/* Adds "reachable" and "last-contact-ms" or "last-error"; nothing when nothing is
 * known yet. */
void peer_status_add_to_json(PeerStatus *self, const char *peer,
                             JsonObject *object);

#endif
