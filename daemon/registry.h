/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/registry.h - all migrations of the daemon, and its last finished ones
 *
 * Thread-safe.  Tells the control socket about changes through a sink that runs
 * on the main loop.
 */
#ifndef DAEMON_REGISTRY_H
#define DAEMON_REGISTRY_H

#include "daemon/migration.h"
#include "daemon/paused-qemus.h"
#include "daemon/totals.h"

/* On the main loop.  @data is consumed. */
typedef void (*RegistrySink)(const char *event, JsonObject *data,
                             void *sink_data);

Registry *registry_new(Config *config);
/* What may be granted from now on; those that run keep what they have. */
void registry_set_config(Registry *self, Config *config);
/* No migration may be running any more. */
void registry_free(Registry *self);

void registry_set_sink(Registry *self, RegistrySink sink, void *data);
/* Any thread: hand an event to the sink, on the main loop. */
void registry_emit(Registry *self, const char *event, JsonObject *data);

/*
 * Enter a migration.  *ret_memory: its share, bytes.  An error when there are as
 * many as max-migrations, when a managed one of the same VM or one of the same
 * tunnel runs, when no memory is left, or when the daemon is stopping.
 */
bool registry_add(Registry *self, Migration *migration, uint64_t *ret_memory,
                  GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The far side learns only from `prepare` what it is for: set it, unless one of
 * that kind, role and name is running. */
bool registry_claim(Registry *self, Migration *migration, MigrationKind kind,
                    const char *name, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void registry_set_name(Registry *self, Migration *migration,
                       MigrationKind kind, const char *name);
/* It is over: free its share; it stays listed for a while. */
void registry_end(Registry *self, Migration *migration, uint64_t memory);

/* Lent; QEMUs that wait for the recovery of a migration that has ended. */
PausedQemus *registry_get_paused(Registry *self);

/* By id, or by the VM's or tunnel's name if one of that name is running; a
 * reference or NULL. */
Migration *registry_find(Registry *self, const char *id_or_name);
/* The running one with that id whose destination is here; a reference or NULL. */
Migration *registry_find_destination(Registry *self, const char *id);
/* All, the running ones last; owns references. */
GPtrArray *registry_list(Registry *self);
/* What all since the start add up to, those that run included; the caller's. */
Totals *registry_get_totals(Registry *self);
/* Bytes that running ones were granted. */
uint64_t registry_get_memory(Registry *self);
unsigned registry_count_running(Registry *self);
unsigned registry_count_of_peer(Registry *self, const ConfigPeer *peer);

/* Take no new ones from now on. */
void registry_refuse(Registry *self);
/* Refuse new ones, cancel those that run, and wait for them to be over, but not
 * for ever. */
void registry_stop(Registry *self);
/* Wait for all threads, and forget everything. */
void registry_join(Registry *self);

/* Once a second, on the main loop: rates and MIGRATION_PROGRESS events. */
void registry_tick(Registry *self);

#endif
