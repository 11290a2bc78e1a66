/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp/schema.h - commands, events and their arguments, as tables
 *
 * The one description serves three: checking what a client sends,
 * query-commands, and query-qmp-schema.  Tables are static const and outlive
 * the server.
 */
#ifndef QMP_SCHEMA_H
#define QMP_SCHEMA_H

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct QmpServerSession QmpServerSession;

typedef enum QmpType {
    QMP_TYPE_STRING,
    QMP_TYPE_INT,           /* 64 bits, signed; ranges are the handler's */
    QMP_TYPE_BOOL,
    QMP_TYPE_NUMBER,        /* an integer is one too */
    QMP_TYPE_STRINGS,       /* array of strings */
    QMP_TYPE_ANY,
} QmpType;

/* One argument of a command, or one member of an event's data. */
typedef struct QmpArg {
    const char *name;
    QmpType     type;
    bool        optional;
} QmpArg;

/*
 * Carry out a command on the server's main context; must not block.  @args
 * holds what the table allows and nothing else, is never NULL, and is lent.
 *
 * Returns the "return" value (transfer full), or NULL with @error for an error
 * or without one for the empty object.  A QMP_CLASS error chooses the class.
 * It must not free the server.
 */
typedef JsonNode *(*QmpCommandHandler)(QmpServerSession *session,
                                       JsonObject *args, gpointer user_data,
                                       GError **error);

typedef enum QmpCommandFlags {
    QMP_COMMAND_NEGOTIATES = 1 << 0,    /* qmp_capabilities alone */
} QmpCommandFlags;

typedef struct QmpCommand {
    const char       *name;
    QmpCommandHandler handler;
    const QmpArg     *args;
    size_t            n_args;
    unsigned          flags;            /* of QmpCommandFlags */
    const char       *doc;              /* one line, for query-commands */
} QmpCommand;

typedef enum QmpEventFlags {
    /* Replaced by the next of its kind: dropped for a client too slow to
     * read, where any other event would end the session. */
    QMP_EVENT_DROPPABLE = 1 << 0,
} QmpEventFlags;

typedef struct QmpEvent {
    const char   *name;
    const QmpArg *args;
    size_t        n_args;
    unsigned      flags;                /* of QmpEventFlags */
    const char   *doc;
} QmpEvent;

/*
 * Check @object against a table.  The error is a QMP_CLASS_GENERIC that names
 * the argument, what came and what is expected.
 */
bool qmp_schema_check(const QmpArg *args, size_t n_args, JsonObject *object,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* "a string", "an object", ...: how error messages name what came. */
const char *qmp_schema_describe(JsonNode *node);

/*
 * The answer to query-qmp-schema, as docs/devel/qapi-code-gen.rst of QEMU has
 * it.  Return types are "any"; type names are readable rather than numbers.
 * @commands holds QmpCommand, @events QmpEvent.
 */
JsonNode *qmp_schema_introspect(GPtrArray *commands, GPtrArray *events);

#endif
