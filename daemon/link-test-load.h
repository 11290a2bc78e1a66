/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test-load.h - bytes that mean nothing, over some lanes for some time
 *
 * The same at both ends of a link test: one sends, the other counts and drops.
 * What is counted is what comes between a third of the time and all of it, as the
 * receiver's clock has it from the first byte on: by then TCP has found the line's
 * rate, and still nobody has stopped sending.
 *
 * A thread for each lane.  They end by themselves, unless a lane stands still: then
 * whoever holds the streams shuts them.  A lane that fails shuts the others.
 */
#ifndef DAEMON_LINK_TEST_LOAD_H
#define DAEMON_LINK_TEST_LOAD_H

#include "daemon/limiter.h"
#include "daemon/stream.h"

typedef struct LinkTestLoad LinkTestLoad;

typedef struct {
    bool send;
    unsigned time_ms;           /* at both ends the same */
    Limiter *limiter;           /* the sender's, a leaf; lent; NULL: none */
    uint64_t bytes_max;         /* the receiver's: more than that is an error */
} LinkTestLoadSetup;

typedef struct {
    uint64_t bytes;             /* that came in all; of a sender: that went */
    uint64_t rate;              /* bytes/s that came in the time that counts; receiver */
    /* Of a sender, in the time that counts, as TCP says; 0: it does not. */
    uint64_t segments, retransmits;
    unsigned rwnd_limited, sndbuf_limited;      /* per mille of the time */
} LinkTestLoadResult;

/* The streams are lent, and no others' meanwhile. */
LinkTestLoad *link_test_load_new(Stream *const *lanes, unsigned n_lanes,
                                 const LinkTestLoadSetup *setup);
/* All has been said, or something has failed: link_test_load_finish() will not wait. */
bool link_test_load_is_over(LinkTestLoad *self);
/* Waits for its threads.  Once. */
bool link_test_load_finish(LinkTestLoad *self, LinkTestLoadResult *ret,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Before that, shuts the lanes and closes the limiter.  NULL is fine. */
void link_test_load_free(LinkTestLoad *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LinkTestLoad, link_test_load_free)

#endif
