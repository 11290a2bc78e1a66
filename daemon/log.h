/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/log.h - one line per state change, with fields a journal can search
 *
 * Goes to the journal when standard error is connected to it, else to standard
 * error as "level: message".  What GLib and the libraries on it log goes the
 * same way.  Any thread.  Never call it with guest memory or key material.
 *
 * A message is one line of UTF-8: control characters and broken bytes in it,
 * which may be a peer's, are escaped.
 */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdbool.h>
#include <glib.h>
#include "daemon/log-event.h"

typedef enum { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG } LogLevel;

/* What a line is about; any member may be NULL. */
typedef struct {
    const char *migration;  /* MULTIFERRY_MIGRATION */
    const char *vm;         /* MULTIFERRY_VM */
    const char *uuid;       /* MULTIFERRY_UUID */
    const char *peer;       /* MULTIFERRY_PEER */
    const char *state;      /* MULTIFERRY_PHASE */
    const char *channel;    /* MULTIFERRY_CHANNEL, its number */
    LogEvent event;         /* MESSAGE_ID */
} LogContext;

/* For lines that are about no migration. */
#define LOG_ABOUT(event_) (&(const LogContext) { .event = (event_) })

/* Before the first thread starts.  Again only to change the level, any time. */
void log_init(LogLevel level);

void log_message(LogLevel level, const LogContext *context, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

#define log_error(context, ...) log_message(LOG_LEVEL_ERROR, context, __VA_ARGS__)
#define log_warning(context, ...) log_message(LOG_LEVEL_WARNING, context, __VA_ARGS__)
#define log_info(context, ...) log_message(LOG_LEVEL_INFO, context, __VA_ARGS__)
#define log_debug(context, ...) log_message(LOG_LEVEL_DEBUG, context, __VA_ARGS__)

#endif
