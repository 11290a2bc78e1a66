/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-link.h - a migration's end of a link, for its thread
 */
#ifndef DAEMON_MIGRATION_LINK_H
#define DAEMON_MIGRATION_LINK_H

#include "daemon/egress-link.h"
#include "daemon/migration-private.h"

enum {
    /* What we grant for the streams; the bulk window is the memory share. */
    MIGRATION_MAIN_WINDOW = 8 * 1024 * 1024,
    MIGRATION_RETURN_WINDOW = 64 * 1024,
    MIGRATION_MAIN_RING = 1024 * 1024,      /* of main channel, without a link */
};

/*
 * Bytes of packets between a source QEMU and our egress: enough to keep it busy,
 * and few, for to the source they look sent, and the guest is stopped while they
 * drain.  50 ms of the lowest rate limit that holds for the migration, within
 * bounds.
 */
uint64_t migration_queue_memory(Migration *self);

/* What the peer granted in its answer to `prepare`. */
typedef struct {
    uint64_t window, main_window, preempt_window;
    unsigned channels;              /* K, as far as the peer knows; 0: as N */
    bool knows_zero_pages;          /* its QEMU is 9.0 or later, if it said so */
    bool no_multifd;                /* both QEMUs are to be set without */
    bool postcopy, preempt;         /* capabilities that its QEMU has on now */
    LinkPacking packing;            /* what both ends want */
} LinkGrant;

/*
 * Source side: connect the main lane and ask the peer to prepare; bulk lanes connect
 * meanwhile, @lanes of them (CONFIG_LANES_AUTO: as many as pay).  @arguments
 * is consumed; return-window and lanes are added.
 */
bool migration_link_prepare(Migration *self, unsigned lanes,
                            JsonObject *arguments, LinkGrant *ret,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Then: wait for the bulk lanes and make the egress over them. */
bool migration_link_open(Migration *self, unsigned lanes,
                         const LinkGrant *grant, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Destination side: what we agree to of the packing that the arguments of prepare
 * ask for, and how the answer says it. */
LinkPacking migration_link_agree_packing(const Migration *self,
                                         JsonObject *arguments);
void migration_link_tell_packing(const LinkPacking *packing, JsonObject *object);

/* A request with the usual timeout; the answer is dropped.  @cancellable NULL: a
 * cancel that comes too late must not end it. */
bool migration_link_call(Migration *self, const char *name,
                         JsonObject *arguments, GCancellable *cancellable,
                         GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* The same with its answer; free it. */
JsonObject *migration_link_ask(Migration *self, const char *name,
                               JsonObject *arguments, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* Destination side: take over an accepted main lane. */
void migration_link_take_main(Migration *self, Stream *stream);

/* Tell the peer why it is over; @in_halves as migration_explain_postcopy() says. */
void migration_link_abort(Migration *self, const GError *reason, bool in_halves);
/* Source side, once the link is shut: if no connection has carried that, see to it that
 * the peer hears it later. */
void migration_link_leave_word(Migration *self);
/* Known from elsewhere than the main lane.  Any thread; the peer's side has ended. */
void migration_link_end(Migration *self, const char *reason, bool cancelled);
/* Likewise: ask the peer on a new connection whether it still knows the migration. */
void migration_link_break(Migration *self, const char *reason);
/* The reason in the peer's `abort` event as an error. */
GError *migration_link_abort_error(Migration *self, JsonObject *event);

#endif
