/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration.h - one migration in one daemon
 *
 * A migration has a thread of its own, which runs its body (the managed driver,
 * a tunnel, the far side of either), and a public face that any thread may look
 * at.  Shared by reference.  It is over when its state says so; then nothing of
 * it is left running but what holds a reference.
 */
#ifndef DAEMON_MIGRATION_H
#define DAEMON_MIGRATION_H

#include <stdbool.h>
#include <json-glib/json-glib.h>
#include "daemon/daemon.h"
#include "daemon/listener.h"
#include "daemon/recorder.h"

typedef struct Migration Migration;

typedef enum { MIGRATION_MANAGED, MIGRATION_TUNNEL } MigrationKind;

typedef enum {
    MIGRATION_SOURCE,       /* QEMU here, peer there */
    MIGRATION_DESTINATION,  /* peer there, QEMU here */
    MIGRATION_RELAY,        /* a QEMU on both sides */
} MigrationRole;

typedef enum {
    MIGRATION_SETUP,
    MIGRATION_ACTIVE,
    MIGRATION_SWITCHOVER,   /* the guest is stopped at the source */
    MIGRATION_POSTCOPY,     /* the guest is at both ends, to run at the destination */
    MIGRATION_HANDOVER,     /* the destination has all; the guest is to be started */
    MIGRATION_CANCELLING,
    MIGRATION_COMPLETED,
    MIGRATION_FAILED,
    MIGRATION_CANCELLED,
} MigrationState;

const char *migration_state_to_string(MigrationState state);
static inline bool migration_state_is_final(MigrationState state)
{
    return state >= MIGRATION_COMPLETED;
}

/*
 * What the thread does.  Returns true if the guest has arrived; else an error.
 * It may leave exchange, ingress and egress behind: they are torn down after it.
 */
typedef bool (*MigrationBody)(Migration *migration, void *data, GError **error);

typedef struct {
    Daemon *daemon;
    const char *id;             /* NULL: a new one */
    MigrationKind kind;
    MigrationRole role;
    const char *name;           /* of the VM or the tunnel; copied */
    Config *config;             /* all that it will know of one; NULL: the daemon's now */
    const ConfigPeer *peer;     /* NULL: none; lent by that configuration */
    uint64_t rate;              /* bytes/s; 0: no limit of its own */
    unsigned weight;
    MigrationBody body;
    void *data;                 /* given to the body */
    GDestroyNotify destroy;     /* of data, when the thread is over */
} MigrationSetup;

Migration *migration_new(const MigrationSetup *setup);
Migration *migration_ref(Migration *self);
void migration_unref(Migration *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Migration, migration_unref)

/* Registers it.  Fails when there are too many already, the VM or tunnel is busy,
 * or memory is used up.  Then either launch its thread, or leave again. */
bool migration_enter(Migration *self, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* False: no thread was to be had; it has left again. */
bool migration_launch(Migration *self, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void migration_leave(Migration *self);
/* Enter and launch. */
bool migration_start(Migration *self, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* Any thread.  Too late once the destination has taken over: an error then. */
bool migration_cancel(Migration *self, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* The daemon is about to end: courtesies are left out.  Any thread. */
void migration_hurry(Migration *self);
/* Refused unless it was begun with postcopy, and is not in it yet. */
bool migration_start_postcopy(Migration *self, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Refused where it would do nothing: it is over, or the other daemon paces it. */
bool migration_set_rate(Migration *self, uint64_t rate_bytes_per_s,
                        GError **error);
/* Its share among the peer's migrations; likewise. */
bool migration_set_weight(Migration *self, unsigned weight, GError **error);

const char *migration_get_id(const Migration *self);
MigrationState migration_get_state(Migration *self);

/* How it ended, for @peer, which was its other end; NULL: it has not, or was not.
 * g_free(). */
char *migration_describe_end(Migration *self, const ConfigPeer *peer);
/* As query-migrations has it. */
JsonObject *migration_to_json(Migration *self);
/* The recording of its headers, lent; see daemon/recorder.h. */
Recorder *migration_get_recorder(Migration *self);
/* As query-traffic has it. */
JsonObject *migration_traffic_to_json(Migration *self);
/* Once a second, by the registry: the rate since the last time. */
void migration_sample_rate(Migration *self);

/* ---- connections of it, handed in by intake threads ------------------------ */

/* Takes arrival->stream on success. */
bool migration_take_arrival(Migration *self, Arrival *arrival, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* The same of a channel for a migration that failed before its source had connected
 * all, which is to be closed only with it; false: it is not of such a one. */
bool migration_hold_channel(Migration *self, Arrival *arrival);
/* A connection that says nothing may be the preempt channel of its source. */
bool migration_may_be_preempt(Migration *self);
/* A connection to its listener said what no QEMU says. */
void migration_refuse_connection(Migration *self, const GError *error);
/*
 * Whether it takes lanes of @peer now; then the hello may be answered.  Waits until it
 * is prepared, for lanes connect meanwhile.  *ret_ended: it was not, as the main lane has
 * told, or will be later; there is nothing more to say.
 */
bool migration_check_lane(Migration *self, unsigned lane,
                          const ConfigPeer *peer, bool *ret_ended,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Takes *stream on success, and sets it to NULL. */
bool migration_take_lane(Migration *self, Stream **stream, unsigned lane,
                         unsigned generation, const ConfigPeer *peer,
                         GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* The same for a main lane that goes on. */
bool migration_check_main(Migration *self, unsigned generation,
                          const ConfigPeer *peer, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool migration_take_main(Migration *self, Stream **stream, unsigned generation,
                         const ConfigPeer *peer, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* False once its source or its destination has gone, or it has failed: a new
 * connection belongs to the next migration. */
bool migration_is_accepting(Migration *self);
/* False: it is still not over. */
bool migration_wait_ended(Migration *self, unsigned timeout_ms);

/* Waits for the thread to end. */
void migration_join(Migration *self);

#endif
