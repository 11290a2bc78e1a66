/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-private.h - for the bodies of migrations (migration-*.c)
 */
#ifndef DAEMON_MIGRATION_PRIVATE_H
#define DAEMON_MIGRATION_PRIVATE_H

#include <gio/gio.h>
#include "daemon/cpu-meter.h"
#include "daemon/egress.h"
#include "daemon/exchange.h"
#include "daemon/ingress.h"
#include "daemon/link-lane.h"
#include "daemon/link-main.h"
#include "daemon/log.h"
#include "daemon/migration.h"
#include "daemon/qemu.h"
#include "daemon/traffic.h"

#define MIGRATION_ERROR (migration_error_quark())

typedef enum {
    MIGRATION_ERROR_FAILED,
    MIGRATION_ERROR_CANCELLED,
    MIGRATION_ERROR_REFUSED,    /* before anything was touched */
    MIGRATION_ERROR_IN_HALVES,  /* in postcopy; the message says what to do.  Even
                                   if it was cancelled: that gives no guest back */
} MigrationError;

GQuark migration_error_quark(void);

/* ---- what a migration's thread waits for ----------------------------------- */

typedef enum {
    MESSAGE_NOTHING,        /* the time is over */
    MESSAGE_EXCHANGE,       /* .event */
    MESSAGE_CANCEL,
    MESSAGE_QMP,            /* .name (NULL: disconnected), .object */
    MESSAGE_CONTROL,        /* .object: request or event of the peer */
    MESSAGE_LINK_ENDED,
    MESSAGE_START_POSTCOPY,
} MessageKind;

typedef struct {
    MessageKind kind;
    ExchangeEvent event;
    char *name;
    JsonObject *object;
    int64_t received_us;    /* monotonic; of MESSAGE_QMP */
} Message;

void message_free(Message *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Message, message_free)

/* Any thread. */
void migration_post(Migration *self, Message *message);
/* Waits at most @timeout_ms; never NULL. */
Message *migration_wait(Migration *self, unsigned timeout_ms);

/* ---- the parts, of the migration's thread ------------------------------------- */

/* Whether it can end, as last judged. */
typedef struct {
    ConvergencePolicy policy;
    bool hopeless;
    uint64_t dirty_rate, rate;      /* bytes/s: written by the guest; left */
} MigrationConvergence;

typedef struct MigrationLanes MigrationLanes;

struct Migration {
    gatomicrefcount refs;
    char id[33];                    /* these are constant */
    MigrationKind kind;             /* but see registry_claim() */
    MigrationRole role;
    Daemon *daemon;
    Config *config;                 /* a reference: reloads do not touch it */
    char *name;
    const ConfigPeer *peer;
    MigrationBody body;
    void *data;
    GDestroyNotify destroy;
    Limiter *limiter;
    GAsyncQueue *messages;
    GCancellable *cancellable;      /* ends whatever the thread waits for */
    GCancellable *hurry;            /* likewise, what it waits for once the guest has
                                       arrived and nothing depends on it any more */
    int64_t start_us;               /* monotonic */
    gint control_waiting;           /* atomic: the peer's messages in the queue */
    uint64_t memory;                /* share, bytes */

    Traffic *traffic;               /* has its own lock */
    Recorder *recorder;             /* likewise */
    CpuMeter *cpu;                  /* likewise; of all its threads */

    GThread *thread;

    /* Of the thread alone; others may look at them under the lock. */
    Exchange *exchange;
    Ingress *ingress;
    Egress *egress;
    LinkMain *link;
    MigrationLanes *lanes;          /* that connected while the peer prepared */
    uint64_t idle_activity;         /* the last seen, and since when */
    int64_t idle_since_us;
    int64_t flow_start_us;
    bool safe_handover;             /* the destination starts the guest only when
                                       this side's driver says so */
    bool stuck_warned;
    GError *said;                   /* to the peer with `abort`; NULL: nothing */
    LinkAnswer far;                 /* which daemon the peer is; set before there
                                       is a link, then constant */
    unsigned told_outage_ms, told_outage_postcopy_ms;   /* by the source's side */

    GMutex lock;                    /* guards all below, and changes of the above */
    GCond ended;
    GCond prepared;                 /* or over before that */
    bool thread_ended;
    MigrationState state;           /* read atomically without the lock */
    bool cancel_asked;
    bool takes_postcopy;            /* migrate-start-postcopy may be asked for */
    bool taken_over;                /* the destination owns the guest */
    GError *error;
    char *warning;
    char uuid[37];                  /* constant once it is known */
    int uuid_known;                 /* atomic */
    int64_t end_us;
    uint64_t rate;                  /* bytes/s on the wire, last second */
    uint64_t last_wire_bytes;
    int64_t last_sample_us;
    QemuMigrateStatus *qemu;        /* of the source; NULL: not managed here */
    int64_t downtime_ms;            /* measured by us; -1: unknown */
    bool judges_convergence;
    MigrationConvergence convergence;
    JsonObject *final;              /* what the parts said before they went */
    char *rejected_channel;         /* of the thread alone: whose packet was
                                       refused; NULL: nobody's */
};

/* By name: those of two configurations are not the same object. */
bool migration_has_peer(const Migration *self, const ConfigPeer *peer);

LogContext migration_log_context(const Migration *self);

/* ---- its state (migration-state.c) --------------------------------------------- */

/* Logs it and sends the MIGRATION event; ignored once final. */
void migration_set_state(Migration *self, MigrationState state);
/* Only log it. */
void migration_announce_begin(Migration *self);
/* Likewise log and event, of the state that it has ended with. */
void migration_announce_end(Migration *self, MigrationState state,
                            const GError *error);
void migration_add_warning(Migration *self, const char *format, ...)
    G_GNUC_PRINTF(2, 3);
/* For messages, before it is claimed.  The peer's text is made plain. */
void migration_set_name(Migration *self, MigrationKind kind, const char *name);
void migration_set_uuid(Migration *self, const char *uuid);
/* Takes @status. */
void migration_set_qemu_status(Migration *self, QemuMigrateStatus *status);
void migration_set_convergence(Migration *self,
                               const MigrationConvergence *convergence);
/* Asked to, and not too late. */
bool migration_is_cancelled(Migration *self);
/* The lowest limit that holds for it, bytes/s; 0: none. */
uint64_t migration_get_rate_limit(const Migration *self);
/* The same once it is in switchover. */
uint64_t migration_get_switchover_rate_limit(const Migration *self);
void migration_set_takes_postcopy(Migration *self, bool takes);
void migration_set_downtime(Migration *self, int64_t downtime_ms);

/* ---- its parts ------------------------------------------------------------------- */

/* The exchange, with this migration as observer.  @setup's memory and observer
 * are filled in. */
void migration_create_exchange(Migration *self, ExchangeSetup setup);
void migration_set_ingress(Migration *self, Ingress *ingress);
void migration_set_egress(Migration *self, Egress *egress);
void migration_set_link(Migration *self, LinkMain *link);
/* What the traffic record wants to know now and then. */
void migration_sample_traffic(Migration *self);
/* Shut and free ingress, egress, link and exchange.  Keeps their last numbers.
 * Done by the thread after its body, unless that did it. */
void migration_tear_down(Migration *self);

/* ---- judging the flow (migration-flow.c) ----------------------------------------- */

typedef enum {
    FLOW_RUNNING,
    FLOW_TAKEN_OVER,    /* the destination's word has reached the source's side */
    FLOW_FAILED,
} Flow;

/* Time counts from here. */
void migration_begin_flow(Migration *self);
/* What the exchange's state means now. */
Flow migration_judge_flow(Migration *self, GError **error);

/*
 * Look at one message: states, warnings, cancel, idle time.  Then judge.  The
 * bodies call this for every message, after what is their own of it.
 */
Flow migration_follow(Migration *self, const Message *message, GError **error);

/* If it failed while the guest was at both ends, *@error also says how to recover it,
 * here or already as it came from the peer; true then. */
bool migration_explain_postcopy(Migration *self, GError **error);

/* After FLOW_TAKEN_OVER: wait until the source has closed its main channel, so
 * that closing ours takes nothing back; not when it is to hurry. */
void migration_wait_source_closed(Migration *self);

#endif
