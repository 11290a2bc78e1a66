/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/peer-status.h - what was last heard of each peer, for query-peers
 *
 * Nobody calls a peer only to see whether it is there: this is what migrations
 * and link tests found out.  Peers and paths are known by name, so what is known of
 * them outlives a configuration.  Thread-safe.
 */
#ifndef DAEMON_PEER_STATUS_H
#define DAEMON_PEER_STATUS_H

#include <json-glib/json-glib.h>
#include "daemon/stream.h"

typedef struct PeerStatus PeerStatus;

PeerStatus *peer_status_new(void);
/* Streams that were noted are freed before. */
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

/* A lane came up on a path (any text that names it among the peer's); it counts
 * until @stream is freed or said to be broken. */
void peer_status_note_lane(PeerStatus *self, const char *peer, const char *path,
                           Stream *stream);
/* No lane could be had on it. */
void peer_status_note_path_failed(PeerStatus *self, const char *peer,
                                  const char *path, const GError *error);
/* Adds "lanes", and of the path what peer_status_add_to_json() adds of a peer. */
void peer_status_add_path_to_json(PeerStatus *self, const char *peer,
                                  const char *path, JsonObject *object);

#endif
