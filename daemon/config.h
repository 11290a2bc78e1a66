/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/config.h - what the operator wants, read once and checked as a whole
 *
 * From an INI file (GKeyFile), from options, or both (options win).  One table
 * describes every group and key; the parser, --check, the manual's test and
 * the error messages use it.  Immutable after loading, and shared by reference:
 * a reload makes another one, and who works with this one keeps it.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "daemon/address.h"
#include "daemon/convergence.h"
#include "daemon/rate-schedule.h"
#include "daemon/tls.h"
#include "wire/method.h"

typedef enum { HANDOVER_SAFE, HANDOVER_FAST } Handover;

typedef struct {
    unsigned connect_ms;        /* TCP connect of any leg */
    unsigned handshake_ms;      /* TLS and link hello */
    unsigned first_bytes_ms;    /* an accepted QEMU connection says what it is */
    unsigned idle_ms;           /* no byte on any channel; 0: never */
    unsigned link_dead_ms;      /* no heartbeat from the peer */
    unsigned qmp_ms;            /* an answer of a QEMU that is not in a sync */
    unsigned drain_ms;          /* of running migrations, at our end; 0: none */
} ConfigTimeouts;

typedef struct {
    char *name;
    Address *address;           /* NULL: it only ever connects to us */
    char *certificate_name;     /* NULL: a fingerprint or PSK must say who */
    char *fingerprint;          /* "sha256:…" or NULL */
    char *psk_identity;         /* with [tls] psk=yes: what it connects with */
    unsigned lanes;             /* 1..64, or: */
#define CONFIG_LANES_AUTO G_MAXUINT     /* found by measurement, up to: */
    unsigned lanes_max;         /* 1..64 */
    uint64_t rate;              /* bytes/s; 0 unlimited */
    RateSchedule *rate_schedule;    /* NULL: none */
    uint64_t switchover_rate;   /* bytes/s, LIMITER_UNLIMITED; 0: as rate */
    unsigned weight;
    int compression;            /* of the link: a level, or: */
#define CONFIG_COMPRESSION_NONE 0
#define CONFIG_COMPRESSION_AUTO (-1)
    GPtrArray *paths;           /* of AddressPath, beside address; NULL: none */
    char *bind;                 /* local IP address or interface; NULL: any */
    char *congestion_control;   /* NULL: the kernel's default */
    unsigned dscp;              /* 0..ADDRESS_DSCP_MAX */
    bool mptcp;
    unsigned outage_ms;         /* how long the link may be down: the guest runs */
    unsigned outage_switchover_ms;  /* the guest is stopped */
    unsigned outage_postcopy_ms;    /* the guest runs at the destination */
} ConfigPeer;

typedef struct {
    char *name;
    Address *qmp;               /* the QEMU's QMP socket */
    Address *incoming;          /* where a destination QEMU shall listen; NULL: a
                                   socket in the runtime directory */
    unsigned channels;          /* multifd channels of the QEMU leg; 0: default */
    char *uuid;                 /* refuse another one; NULL: any */
    unsigned weight;
    ConvergencePolicy convergence;      /* what to do when it would not end */
    unsigned convergence_patience_ms;   /* how long that must have been so */
} ConfigVm;

typedef struct {
    char *name;
    Address *listen;            /* source QEMU connects here; NULL: from peer */
    char *peer;                 /* the link's other end; NULL: none */
    Address *connect;           /* destination QEMU; NULL: through peer */
    unsigned channels;          /* K towards connect; 0: as many as came in */
    const Method *compression;  /* towards connect; NULL: as the source packed */
    unsigned compression_level;
    bool write_zero_pages;      /* towards connect: it is older than 9.0 */
    uint64_t page_size;         /* of listen's source if its stream does not say; 0: 4096 */
    unsigned lanes;             /* W over peer, CONFIG_LANES_AUTO; 0: the peer's */
    uint64_t rate;
    unsigned weight;
    bool tls;                   /* towards connect */
    bool listen_tls;            /* on listen */
    char *listen_tls_client;    /* name or PSK identity it must have; NULL: any */
    bool listen_tls_verify_client;  /* no: also without a certificate */
    char *tls_directory;        /* of the QEMU leg; NULL: [tls] directory */
    bool tls_psk;
    char *tls_hostname;         /* name that connect's certificate must have; NULL: the host */
    bool require_return_path;   /* refuse a stream without it; default no: warned about */
} ConfigTunnel;

typedef struct {
    gatomicrefcount refs;
    char *name;                 /* of this daemon; default: the host name */
    Address *control;           /* default unix:/run/multiferry/control.sock */
    char *control_group;        /* may command us; NULL: our own group */
    Address *metrics_http;      /* GET /metrics is answered here; NULL: nowhere */
    char *runtime_directory;    /* default /run/multiferry/qemu */
    char *state_directory;      /* NULL: $STATE_DIRECTORY, else none */
    uint64_t history;           /* bytes on disk; 0: none */
    uint64_t rate;              /* bytes/s; 0 unlimited */
    RateSchedule *rate_schedule;    /* NULL: none */
    uint64_t memory;            /* bytes for all migrations; default 512 MiB */
    uint64_t migration_memory;  /* bytes for one migration; default 64 MiB */
    uint64_t page_history;      /* bytes for one migration over a link; 0: none */
    unsigned max_migrations;    /* at once; default 64 */
    unsigned threads;           /* that pack or unpack at once; 0: no limit */
    unsigned nice;              /* of threads that carry data */
    Handover handover;          /* default of managed migrations */
    bool record_payload;        /* read-recording may give guest memory */
    ConfigTimeouts timeouts;

    TlsConfig tls;              /* of the link and, by default, of QEMU legs */
    bool has_tls;               /* tls.directory is set */
    Address *listen_link;       /* NULL: no peer can connect to us */

    GPtrArray *peers;           /* of ConfigPeer */
    GPtrArray *vms;             /* of ConfigVm */
    GPtrArray *tunnels;         /* of ConfigTunnel */
} Config;

/* What a file may have; more is refused before it is looked at. */
#define CONFIG_MAX_FILE_BYTES (1024u * 1024)
/* Peers, VMs or tunnels; each of them. */
#define CONFIG_MAX_OBJECTS 4096u
/* Of a peer, VM or tunnel; the least is 1. */
#define CONFIG_WEIGHT_MAX 1000u

/*
 * @file may be NULL; @overrides: "group.key=value" or "group NAME.key=value"
 * strings from options, NULL-terminated, may be NULL; @tunnels: the arguments
 * of --tunnel ("listen=…,connect=…,channels=8": the keys of [tunnel], and
 * name=, which defaults to cli0, cli1, …; a comma in a value is doubled),
 * NULL-terminated, may be NULL.
 *
 * G_FILE_ERROR: the file cannot be read.  G_OPTION_ERROR_BAD_VALUE: all else.
 * Either message is fit to be shown as it is: it says where.
 */
Config *config_load(const char *file, const char *const *overrides,
                    const char *const *tunnels, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* The same from memory: @len bytes, any bytes; @where names them in messages. */
Config *config_load_from_data(const char *data, size_t len, const char *where,
                              const char *const *overrides,
                              const char *const *tunnels, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Any thread.  What is found in a Config lives as long as it does. */
Config *config_ref(Config *self);
void config_unref(Config *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_unref)

const ConfigPeer *config_find_peer(const Config *self, const char *name);
const ConfigVm *config_find_vm(const Config *self, const char *name);
const ConfigTunnel *config_find_tunnel(const Config *self, const char *name);

/* The whole configuration as understood, defaults included, in the file's own
 * syntax, so that loading it gives the same again; for --check.  g_free(). */
char *config_to_string(const Config *self);

#endif
