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
    GError *refusal;            /* why prepare was refused */
    char *abort_reason;         /* of the source side, after SHUT 0 */
    LinkPacking packing;        /* as agreed */
} MigrationTarget;

/* Do what the request @name of @message asks for, and answer it. */
void migration_target_answer(MigrationTarget *self, const char *name,
                             JsonObject *message);

#endif
