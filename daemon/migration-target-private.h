/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-target-private.h - the body at the destination's site, for its
 * own files
 *
 * All of it is of the migration's thread alone.
 */
#ifndef DAEMON_MIGRATION_TARGET_PRIVATE_H
#define DAEMON_MIGRATION_TARGET_PRIVATE_H

#include "daemon/migration-link.h"
#include "daemon/target-qemu.h"

typedef struct {
    Migration *migration;
    Stream *stream;             /* the main lane until the thread has it */
    TargetQemu *qemu;           /* NULL: a tunnel, or not prepared */
    bool prepared;
    bool finished;              /* the source side needs nothing more */
    bool link_ended;
    bool resume_due;            /* was asked for before its turn: see below */
    bool resume_start;
    GError *refusal;            /* why prepare was refused */
    char *abort_reason;         /* of the source side, after SHUT 0 */
    LinkPacking packing;        /* as agreed */
} MigrationTarget;

/* In postcopy `resume` may be asked for before the destination QEMU was told to run the
 * guest; then it is answered, and done as soon as that is so.  To be called again and
 * again while the migration runs; fails the exchange if it cannot be done. */
void migration_target_catch_up(MigrationTarget *self);

/* Do what the request @name of @message asks for, and answer it. */
void migration_target_answer(MigrationTarget *self, const char *name,
                             JsonObject *message);

#endif
