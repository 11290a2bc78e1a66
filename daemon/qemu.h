/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/qemu.h - what a managed migration asks of a QEMU over QMP
 *
 * In the order of use: inspect both QEMUs, check what was found, prepare them,
 * let one listen and the other migrate, follow, and put back what was set.
 * Every function here makes its few QMP calls in the caller's thread and
 * returns; none of them waits for a migration, decides what comes next or logs.
 *
 * @timeout_ms is for each QMP call, 0 for none, and @cancellable ends any of
 * them; errors are those of qmp_client_execute() beside QEMU_ERROR.  Facts
 * are of QEMU 7.2, 10.0 and 11.1 unless said.
 */
#ifndef DAEMON_QEMU_H
#define DAEMON_QEMU_H

#include "qmp/client.h"

#include <gio/gio.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

#define QEMU_ERROR qemu_error_quark()

typedef enum {
    QEMU_ERROR_UNFIT,   /* this QEMU, or this pair, cannot do what is asked */
    QEMU_ERROR_ANSWER,  /* an answer, or a peer's description, makes no sense */
} QemuError;

GQuark qemu_error_quark(void);

/* ---- what a QEMU is ------------------------------------------------------- */

typedef struct {
    /* Known of both ends; these go to the peer. */
    char *version;              /* "7.2.22", "" if the peer did not say */
    char *uuid;                 /* lower case; zeros if the guest has none */
    char *name;                 /* "" if it has none */
    char *arch;                 /* query-target, "x86_64" */
    char *machine;              /* versioned, "pc-i440fx-7.2" */
    uint64_t ram_bytes;
    unsigned vcpus;
    char *run_state;            /* query-status; "" if the peer did not say */
    GHashTable *capabilities;   /* migration capability -> on, as a pointer */

    /* Known of our own QEMU only. */
    bool running;               /* query-status */
    char *migration;            /* query-migrate's status; "none" */
    bool incoming_started;      /* it listens, or has listened */
    char *blocked_reasons;      /* "; " between them; NULL without */
    JsonObject *parameters;     /* query-migrate-parameters; else empty */
} QemuInfo;

QemuInfo *qemu_inspect(QmpClient *client, unsigned timeout_ms,
                       GCancellable *cancellable,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qemu_info_free(QemuInfo *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuInfo, qemu_info_free)

/* Whether its version is at least that; false for one that is not known. */
bool qemu_info_is_version(const QemuInfo *self, unsigned major,
                          unsigned minor);
bool qemu_info_has_capability(const QemuInfo *self, const char *name);
bool qemu_info_is_capability_on(const QemuInfo *self, const char *name);

/*
 * The target's page size where a stream of its does not say it, by architecture
 * and version; 0: the usual, 4096.
 */
uint64_t qemu_info_get_page_size(const QemuInfo *self);

/*
 * The part for the peer: "uuid", "arch", "machine", "ram-size", "vcpus",
 * "version", "name", "run-state", "capabilities".
 */
JsonObject *qemu_info_to_json(const QemuInfo *self);
/*
 * From a peer, who may say anything: the first five must be there, every
 * string is bounded and plain, other members are ignored.
 * QEMU_ERROR_ANSWER: it is not so.
 */
QemuInfo *qemu_info_from_json(JsonObject *object,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- what it must be ------------------------------------------------------ */

/* What it is to be used for; else capabilities that only that needs must be off. */
typedef enum {
    QEMU_USE_MULTIFD = 1 << 0,
    QEMU_USE_POSTCOPY = 1 << 1,
} QemuUse;

/* Since 10.1 both go together. */
bool qemu_info_has_multifd_with_postcopy(const QemuInfo *self);

/*
 * QEMU_ERROR_UNFIT, with what was found and what is allowed, for all three.
 *
 * A source may be running, paused or prelaunch (-S, never started).  Which of
 * them matters at the end, see qemu_cont().
 */
bool qemu_check_source(const QemuInfo *info, unsigned use,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Waits in -incoming defer, untouched. */
bool qemu_check_destination(const QemuInfo *info, unsigned use,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Either may have come from a peer. */
bool qemu_check_pair(const QemuInfo *source, const QemuInfo *destination,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- how it must be set ---------------------------------------------------- */

/* Practically no limit; QEMU's own, 128 MiB/s, would be one. */
#define QEMU_BANDWIDTH_UNLIMITED (INT64_C(1) << 50)

typedef struct {
    bool destination;
    bool multifd;
    unsigned channels;              /* with multifd: 1 to 255 */
    const char *compression;        /* with multifd; NULL for "none" */
    /* Source only, and 0 leaves each as it is. */
    uint64_t max_bandwidth;             /* bytes/s, to INT64_MAX */
    uint64_t downtime_limit_ms;
    uint64_t switchover_bandwidth;      /* bytes/s; where QEMU knows it, 8.2 */
    /*
     * The destination is older than 9.0 and would not see the zero pages that a
     * newer source names in multifd packets.
     */
    bool legacy_zero_pages;
    /*
     * Destination only, for a safe hand-over: block devices are opened for
     * writing only when the guest is continued.  Without it (before 10.0) a
     * destination takes the locks before it says SHUT 0, and if that is lost
     * both ends could run on the same disks.
     */
    bool late_block_activate;
    bool postcopy, preempt;
    bool auto_converge;         /* source only: slow the guest when need be */
} QemuWanted;

/* What was changed, and from what. */
typedef struct QemuSetup QemuSetup;

void qemu_setup_free(QemuSetup *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuSetup, qemu_setup_free)

/*
 * Turn on multifd (or off), return-path and events, and set the parameters:
 * those of @wanted, and no TLS, as our own sockets to QEMU are local.  Only
 * what differs from @info is touched; if a call fails, what was set before it is
 * put back.  To be called before qemu_migrate_incoming().
 */
QemuSetup *qemu_prepare(QmpClient *client, const QemuInfo *info,
                        const QemuWanted *wanted, unsigned timeout_ms,
                        GCancellable *cancellable,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * While it migrates: set one parameter more, or again, to be put back like the rest.
 * False without an error: QEMU does not know it, or it has a value that is not ours.
 */
bool qemu_setup_change(QemuSetup *self, QmpClient *client, const QemuInfo *info,
                       const char *name, uint64_t value, unsigned timeout_ms,
                       GError **error);

/*
 * Put back what qemu_prepare() changed and nobody else has changed since.
 * For after the migration, however it ended: QEMU refuses while a source has
 * one, which lasts some 100 ms after migrate_cancel, so this waits up to
 * @wait_ms for that.  A destination would accept it in the middle of a
 * migration and break; so not before its end.
 *
 * What could not be put back and why, for a warning; NULL if all was, or if the
 * QEMU is gone.
 */
char *qemu_restore(QmpClient *client, const QemuSetup *setup,
                   unsigned timeout_ms, unsigned wait_ms,
                   GCancellable *cancellable) G_GNUC_WARN_UNUSED_RESULT;

/* ---- the migration itself -------------------------------------------------- */

bool qemu_migrate_incoming(QmpClient *client, const char *uri,
                           unsigned timeout_ms, GCancellable *cancellable,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Returns at once; that it cannot connect shows in qemu_query_migrate(). */
bool qemu_migrate(QmpClient *client, const char *uri, unsigned timeout_ms,
                  GCancellable *cancellable,
                  GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Likewise; goes on with one that is postcopy-paused. */
bool qemu_migrate_resume(QmpClient *client, const char *uri,
                         unsigned timeout_ms, GCancellable *cancellable,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qemu_start_postcopy(QmpClient *client, unsigned timeout_ms,
                         GCancellable *cancellable,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * Let a destination that is postcopy-paused listen again.  Out of band: its main
 * loop may stand still for want of a page.
 */
bool qemu_migrate_recover(QmpClient *client, const char *uri,
                          unsigned timeout_ms, GCancellable *cancellable,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* No error without a migration. */
bool qemu_migrate_cancel(QmpClient *client, unsigned timeout_ms,
                         GCancellable *cancellable,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * In inmigrate both only say how the guest is to begin, whether -S was given
 * or not, and whether it listens already or not: after "stop" it is paused when
 * the migration has completed, after "cont" it runs.  The run state stays
 * inmigrate meanwhile.
 *
 * A guest that was paused or prelaunch at the source comes so out of the stream
 * in any case, and then "paused" does not say which of the two it was: the
 * driver has to remember whether the guest ran, and must only then qemu_cont().
 */
bool qemu_stop(QmpClient *client, unsigned timeout_ms,
               GCancellable *cancellable,
               GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qemu_cont(QmpClient *client, unsigned timeout_ms,
               GCancellable *cancellable,
               GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* @ret_status: "running", "paused", "inmigrate", ...; g_free() it. */
bool qemu_query_status(QmpClient *client, bool *ret_running,
                       char **ret_status, unsigned timeout_ms,
                       GCancellable *cancellable,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* query-migrate; what this QEMU does not say is 0 or NULL. */
typedef struct {
    char *status;               /* "none" without; never NULL */
    char *error_desc;
    char *socket_address;       /* "unix:/path", "tcp:host:port"; destination */
    char *blocked_reasons;      /* "; " between them */
    uint64_t ram_total;
    uint64_t ram_remaining;
    uint64_t ram_transferred;
    uint64_t duplicate;         /* zero pages */
    uint64_t normal;            /* pages */
    uint64_t dirty_pages_rate;  /* pages/s */
    uint64_t dirty_sync_count;
    uint64_t page_size;
    unsigned cpu_throttle;      /* per cent of its time that the guest is held */
    double mbps;                /* Mbit/s */
    uint64_t expected_downtime_ms;
    uint64_t downtime_ms;
    uint64_t total_time_ms;
    uint64_t setup_time_ms;
} QemuMigrateStatus;

QemuMigrateStatus *qemu_query_migrate(QmpClient *client, unsigned timeout_ms,
                                      GCancellable *cancellable,
                                      GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void qemu_migrate_status_free(QemuMigrateStatus *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuMigrateStatus, qemu_migrate_status_free)

/* Whether a source with this status has a migration under way. */
bool qemu_migrate_status_is_active(const char *status);

/* ---- for the qemu-*.c files ------------------------------------------------ */

/*
 * qmp_client_execute() with "QEMU: " before its error.  The answer of
 * qemu_call_object() is an object, else QEMU_ERROR_ANSWER.
 */
JsonNode *qemu_call(QmpClient *client, const char *command,
                    JsonObject *arguments, unsigned timeout_ms,
                    GCancellable *cancellable,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;
JsonObject *qemu_call_object(QmpClient *client, const char *command,
                             unsigned timeout_ms, GCancellable *cancellable,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
