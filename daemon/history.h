/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/history.h - finished migrations, kept on disk
 *
 * A file of JSON lines, and the one before it.  Together they have at most the
 * size that was asked for, and about half of it is always kept.  A line that
 * was cut (a full disk, a crash) is passed over.  Thread-safe.
 */
#ifndef DAEMON_HISTORY_H
#define DAEMON_HISTORY_H

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct History History;

#define HISTORY_LIMIT_MAX 1000u

/* Makes @directory if it is not there.  Fails when one cannot write in it. */
History *history_new(const char *directory, uint64_t max_bytes, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void history_free(History *self);

/* One that has ended, as migration_to_json() has it; consumed.  A failure is
 * logged, once until it works again. */
void history_add(History *self, JsonObject *migration);

/* The last @limit of them, oldest first; @name: only of this VM or tunnel, or with
 * this id.  Fewer where the answer would grow too large. */
JsonArray *history_read(History *self, const char *name, unsigned limit);

#endif
