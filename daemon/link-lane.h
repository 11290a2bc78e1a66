/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-lane.h - one lane of a link: connecting, hello, frames
 *
 * docs/link-protocol.md is the contract.  All calls block, in a thread of a
 * migration or an intake thread.
 */
#ifndef DAEMON_LINK_LANE_H
#define DAEMON_LINK_LANE_H

#include <gio/gio.h>
#include <json-glib/json-glib.h>
#include "daemon/config.h"
#include "daemon/limiter.h"
#include "daemon/link-instance.h"
#include "daemon/peer-status.h"
#include "daemon/stream.h"
#include "wire/link-frame.h"

#define LINK_MIGRATION_ID_LEN 32    /* hex digits */
#define LINK_REASON_MAX 400         /* bytes; in JSON six times that, at worst */

/* A migration's lanes; and those of a link test. */
typedef enum {
    LINK_ROLE_MAIN,
    LINK_ROLE_BULK,
    LINK_ROLE_TEST,
    LINK_ROLE_TEST_BULK,
} LinkRole;

/* As it stands in a hello. */
const char *link_lane_role_to_string(LinkRole role);
bool link_lane_role_is_test(LinkRole role);

/* What the connecting end says first. */
typedef struct {
    unsigned version;
    char daemon[64];
    LinkRole role;
    char migration[LINK_MIGRATION_ID_LEN + 1];  /* or the test */
    unsigned lane;          /* 0 to 63; 0 for a main lane */
    bool resume;            /* of a main lane: the migration goes on with it */
    unsigned generation;    /* of the lane: above that of the one it replaces */
    LinkInstance instance;  /* of the daemon that says this */
    LinkInstance expected;  /* of the one that it began the migration with */
    bool abort;             /* of a main lane that resumes: only to say that ... */
    bool cancelled;         /* ... the migration is over, by request or not, ... */
    char reason[LINK_REASON_MAX + 1];   /* ... and why */
} LinkHello;

/* What the accepting end answers. */
typedef struct {
    char daemon[64];
    LinkInstance instance;
} LinkAnswer;

/*
 * Connect to @peer, TLS with its rules, hello, and the answer (@ret_answer may be
 * NULL).  A refusal by the peer is an error with its text.  On a lane's first
 * connection (generation 0) every path is tried in turn; later ones try one, by
 * their generation.
 * @status (may be NULL) is told what became of each path; the stream ends before it.
 */
Stream *link_lane_connect(const ConfigPeer *peer, TlsCredentials *credentials,
                          const ConfigTimeouts *timeouts,
                          const LinkHello *hello, PeerStatus *status,
                          GCancellable *cancellable, LinkAnswer *ret_answer,
                          GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* From the beginning of an attempt to connect anew to that of the next, after
 * @attempt failures: more each time, a second at most, with jitter. */
int64_t link_lane_get_retry_us(unsigned attempt);

/* The accepting end, after TLS: read and check the hello; then answer it. */
bool link_lane_read_hello(Stream *stream, LinkHello *ret, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool link_lane_accept(Stream *stream, const char *daemon_name,
                      const LinkInstance instance, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void link_lane_refuse(Stream *stream, const GError *reason);
/* For a refusal that link_lane_is_unknown() tells at the other end. */
GError *link_lane_unknown_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* Of link_lane_connect(): the peer has no such migration, now or ever again. */
bool link_lane_is_unknown(const GError *error);

/* Write one frame: header, then the pieces (frame->length bytes in all). */
bool link_lane_write(Stream *stream, Limiter *limiter, const LinkFrame *frame,
                     const struct iovec *pieces, unsigned n_pieces,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Read and check a header.  *ret_eof (may be NULL: an error then): the lane
 * ended at a frame's border. */
bool link_lane_read(Stream *stream, LinkFrame *ret, bool *ret_eof,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* NODELAY, keepalive, TCP_USER_TIMEOUT of @dead_ms, retransmissions no more than a
 * second apart where the kernel knows that, small unsent backlog. */
void link_lane_tune(Stream *stream, unsigned dead_ms);

#endif
