/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-session.h - one run of the client: its options, its connection
 *
 * What fails is said on standard error here, once; callers only hand on the
 * exit code.
 */
#ifndef DAEMON_CLIENT_SESSION_H
#define DAEMON_CLIENT_SESSION_H

#include <stdbool.h>
#include <glib.h>
#include <json-glib/json-glib.h>
#include "qmp/client.h"

/* The process's exit codes; scripts rely on them, multiferry(1) lists them. */
typedef enum {
    CLIENT_SESSION_OK = 0,
    CLIENT_SESSION_FAILED = 1,          /* a migration failed */
    CLIENT_SESSION_USAGE = 2,
    CLIENT_SESSION_UNREACHABLE = 3,     /* the daemon, or the way to it */
    CLIENT_SESSION_REFUSED = 4,         /* the daemon said no */
    CLIENT_SESSION_CANCELLED = 5,       /* a migration was cancelled */
} ClientSessionExit;

typedef struct {
    const char *address;    /* of the control socket */
    bool json;
    QmpClient *qmp;         /* NULL until connected */
} ClientSession;

void client_session_clear(ClientSession *self);

ClientSessionExit client_session_connect(ClientSession *self)
    G_GNUC_WARN_UNUSED_RESULT;

/*
 * Connects if need be.  @arguments may be NULL and is consumed.  OK: the
 * answer is in @ret (transfer full), which may be NULL to drop it.
 */
ClientSessionExit client_session_execute(ClientSession *self,
                                         const char *command,
                                         JsonObject *arguments,
                                         JsonNode **ret)
    G_GNUC_WARN_UNUSED_RESULT;

/* The same for answers that must be an array or an object. */
ClientSessionExit client_session_query(ClientSession *self,
                                       const char *command,
                                       JsonObject *arguments,
                                       JsonNodeType wanted, JsonNode **ret)
    G_GNUC_WARN_UNUSED_RESULT;

/* On standard output, as --json has it. */
void client_session_print_json(JsonNode *node);

/* On standard error: "multiferry: …". */
void client_session_complain(const char *format, ...) G_GNUC_PRINTF(1, 2);

#endif
