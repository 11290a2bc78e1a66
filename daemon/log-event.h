/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/log-event.h - kinds of log lines, each with a MESSAGE_ID of its own
 *
 * For what an operator may want to search for or be called for.  Each has an
 * entry in systemd/multiferry.catalog, which `journalctl -x` shows; a test
 * compares the two.  An id never changes its meaning.
 */
#ifndef DAEMON_LOG_EVENT_H
#define DAEMON_LOG_EVENT_H

typedef enum {
    LOG_EVENT_NONE,
    LOG_EVENT_READY,
    LOG_EVENT_START_FAILED,
    LOG_EVENT_STOPPING,
    LOG_EVENT_RELOADED,
    LOG_EVENT_RELOAD_FAILED,
    LOG_EVENT_LISTENING,
    LOG_EVENT_CLEAR_TEXT,
    LOG_EVENT_CONNECTION_REFUSED,
    LOG_EVENT_MIGRATION_STATE,
    LOG_EVENT_MIGRATION_WARNING,
    LOG_EVENT_MIGRATION_COMPLETED,
    LOG_EVENT_MIGRATION_FAILED,
    LOG_EVENT_MIGRATION_CANCELLED,
    LOG_EVENT_PACKET_REJECTED,
    LOG_EVENT_CERTIFICATE_EXPIRES,
    LOG_EVENT_HISTORY_FAILED,
    LOG_EVENT_ACCESS_REFUSED,
    LOG_EVENT_ACCESS_OPEN,
    LOG_EVENT_CONFIG_CHANGED,
    LOG_EVENT_MIGRATION_CONVERGENCE,
} LogEvent;

/* 32 hexadecimal digits; NULL for LOG_EVENT_NONE. */
const char *log_event_get_id(LogEvent event);

#endif
