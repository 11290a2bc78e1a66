/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-progress.h - how far a migration is, in one line
 *
 * The text is made by a pure function from a member of query-migrations'
 * answer; ClientProgress puts it on standard error: redrawn in place on a
 * terminal, a line now and then elsewhere.
 */
#ifndef DAEMON_CLIENT_PROGRESS_H
#define DAEMON_CLIENT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include <json-glib/json-glib.h>

/* At most @width columns, the most important first; never empty.  g_free(). */
char *client_progress_to_string(JsonObject *migration, unsigned width);

/* Milliseconds until what remains is sent; false: not to be told, because
 * the guest dirties memory faster or nothing is known. */
bool client_progress_estimate(JsonObject *migration, uint64_t *ret_ms);

typedef struct {
    bool terminal;          /* redraw */
    bool quiet;             /* draw nothing */
    bool drawn;             /* there is a line to be cleared */
    int64_t last_us;        /* when the last line was written */
    char *last_state;
} ClientProgress;

void client_progress_init(ClientProgress *self, bool quiet);
void client_progress_clear(ClientProgress *self);
void client_progress_draw(ClientProgress *self, JsonObject *migration);
/* Makes room for other output. */
void client_progress_erase(ClientProgress *self);

#endif
