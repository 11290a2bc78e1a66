/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-outage.h - how long a migration waits for its link
 */
#ifndef DAEMON_MIGRATION_OUTAGE_H
#define DAEMON_MIGRATION_OUTAGE_H

#include "daemon/migration-private.h"

/* Adds to @arguments of `prepare` how long we wait, so that the far side waits for
 * longer; and takes note of it there. */
void migration_outage_tell(Migration *self, JsonObject *arguments);
void migration_outage_learn(Migration *self, JsonObject *arguments);

/* What the far side waits for at most, when we are gone. */
unsigned migration_outage_get_far_budget(const Migration *self);

/* Judge anew how long the link may be down, and whether its lanes have been down
 * for longer than that.  By the migration's thread, now and then. */
void migration_outage_check(Migration *self);
/* The main lane's connection broke, or is there again: a LinkMainOutageHandler
 * whose @data is the migration. */
void migration_outage_note(const GError *reason, unsigned down_ms, void *data);

#endif
