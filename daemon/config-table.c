/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/config-table.h"

#include <assert.h>
#include <string.h>
#include "daemon/config.h"
#include "daemon/nearest.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)
#define SECOND_MS UINT64_C(1000)
#define HOUR_MS (3600 * SECOND_MS)

/* QEMU's own limit: the parameter multifd-channels is a uint8. */
#define MAX_CHANNELS 255u
#define MAX_LANES 64u

static const ConfigKey daemon_keys[] = {
    { "name", CONFIG_VALUE_NAME, offsetof(Config, name), NULL, 0, 0,
      "What this daemon calls itself towards peers; default: the host name." },
    { "control", CONFIG_VALUE_ADDRESS, offsetof(Config, control),
      "unix:/run/multiferry/control.sock", 0, 0,
      "Where the control socket listens." },
    { "control-group", CONFIG_VALUE_TEXT, offsetof(Config, control_group),
      NULL, 0, 0, "The group whose members may command the daemon; default: "
      "its own." },
    { "metrics-http", CONFIG_VALUE_ADDRESS, offsetof(Config, metrics_http),
      NULL, 0, 0, "Where metrics can be had by HTTP, by whoever connects; "
      "default: nowhere." },
    { "runtime-directory", CONFIG_VALUE_PATH,
      offsetof(Config, runtime_directory), "/run/multiferry/qemu", 0, 0,
      "Where the sockets of managed migrations are made." },
    { "state-directory", CONFIG_VALUE_PATH, offsetof(Config, state_directory),
      NULL, 0, 0, "Where the history of migrations is kept; default: where "
      "systemd says, else nowhere." },
    { "history", CONFIG_VALUE_SIZE, offsetof(Config, history), "1M", 0,
      16 * MIB, "The most that the history takes on disk; 0B: none is kept." },
    { "rate", CONFIG_VALUE_RATE, offsetof(Config, rate), "unlimited", 0, 0,
      "The most that all migrations together put on the WAN." },
    { "rate@", CONFIG_VALUE_RATE_SCHEDULE, offsetof(Config, rate_schedule),
      NULL, 0, 0, "The same at a time of day: rate@22:00-06:00." },
    { "memory", CONFIG_VALUE_SIZE, offsetof(Config, memory), "512M",
      8 * MIB, TIB, "The most that all migrations together hold." },
    { "migration-memory", CONFIG_VALUE_SIZE,
      offsetof(Config, migration_memory), "64M", 4 * MIB, TIB,
      "The most that one migration holds." },
    { "page-history", CONFIG_VALUE_SIZE, offsetof(Config, page_history), "64M",
      0, TIB, "What each end of a migration keeps of pages, to send changes." },
    { "max-migrations", CONFIG_VALUE_NUMBER, offsetof(Config, max_migrations),
      "64", 1, 4096, "How many migrations may run at once." },
    { "threads", CONFIG_VALUE_NUMBER, offsetof(Config, threads), "0", 0, 4096,
      "How many threads may pack or unpack pages at once; 0: as many as there "
      "are channels and lanes." },
    { "nice", CONFIG_VALUE_NUMBER, offsetof(Config, nice), "0", 0, 19,
      "How nice the threads are that carry data; 0: as the daemon is." },
    { "handover", CONFIG_VALUE_HANDOVER, offsetof(Config, handover), "safe",
      0, 0, "How a managed migration starts the destination's guest." },
    { "record-payload", CONFIG_VALUE_BOOL, offsetof(Config, record_payload),
      "no", 0, 0, "Let recordings have the guest's memory, if asked to." },
};

static const ConfigKey timeouts_keys[] = {
    { "connect", CONFIG_VALUE_TIME, offsetof(Config, timeouts.connect_ms),
      "10s", 10, HOUR_MS, "Connecting, on any leg." },
    { "handshake", CONFIG_VALUE_TIME, offsetof(Config, timeouts.handshake_ms),
      "10s", 10, HOUR_MS, "TLS and the link's hello." },
    { "first-bytes", CONFIG_VALUE_TIME,
      offsetof(Config, timeouts.first_bytes_ms), "30s", 10, HOUR_MS,
      "Until an accepted QEMU connection says what it is." },
    { "idle", CONFIG_VALUE_TIME, offsetof(Config, timeouts.idle_ms),
      "5min", 0, 24 * HOUR_MS, "No byte on any channel of a migration." },
    { "link-dead", CONFIG_VALUE_TIME, offsetof(Config, timeouts.link_dead_ms),
      "5s", 100, HOUR_MS, "No heartbeat from a peer: connect anew." },
    { "qmp", CONFIG_VALUE_TIME, offsetof(Config, timeouts.qmp_ms), "10s",
      100, HOUR_MS, "A QEMU's answer to a command." },
    { "drain", CONFIG_VALUE_TIME, offsetof(Config, timeouts.drain_ms), "30s",
      0, 24 * HOUR_MS, "Until running migrations are cancelled when the daemon "
      "is told to end." },
};

static const ConfigKey tls_keys[] = {
    { "directory", CONFIG_VALUE_PATH, offsetof(Config, tls.directory), NULL,
      0, 0, "Where the certificates and keys are, under QEMU's names." },
    { "psk", CONFIG_VALUE_TLS_KIND, offsetof(Config, tls.kind), "no", 0, 0,
      "Pre-shared keys (keys.psk) instead of certificates." },
    { "psk-username", CONFIG_VALUE_TEXT, offsetof(Config, tls.psk_username),
      NULL, 0, 0, "Which line of keys.psk we connect with; default: qemu." },
    { "priority", CONFIG_VALUE_TEXT, offsetof(Config, tls.priority), NULL,
      0, 0, "A GnuTLS priority string." },
    { "rekey", CONFIG_VALUE_SIZE, offsetof(Config, tls.rekey_bytes), "64G",
      4 * KIB, 256 * GIB, "A lane changes its keys after so many bytes." },
};

static const ConfigKey listen_keys[] = {
    { "link", CONFIG_VALUE_ADDRESS, offsetof(Config, listen_link), NULL, 0, 0,
      "Where peers connect to us." },
};

static const ConfigKey peer_keys[] = {
    { "address", CONFIG_VALUE_ADDRESS, offsetof(ConfigPeer, address), NULL,
      0, 0, "Where the peer listens; none: it only ever connects to us." },
    { "certificate-name", CONFIG_VALUE_TEXT,
      offsetof(ConfigPeer, certificate_name), NULL, 0, 0,
      "The name that the peer's certificate must have." },
    { "fingerprint", CONFIG_VALUE_FINGERPRINT,
      offsetof(ConfigPeer, fingerprint), NULL, 0, 0,
      "The SHA-256 fingerprint that the peer's certificate must have." },
    { "psk-identity", CONFIG_VALUE_TEXT, offsetof(ConfigPeer, psk_identity),
      NULL, 0, 0, "The line of keys.psk that the peer connects with." },
    { "lanes", CONFIG_VALUE_LANES, offsetof(ConfigPeer, lanes), "auto", 1,
      MAX_LANES, "TCP connections for the pages of one migration; auto: as many "
      "as pay." },
    { "lanes-max", CONFIG_VALUE_NUMBER, offsetof(ConfigPeer, lanes_max), "16",
      1, MAX_LANES, "The most that lanes=auto makes." },
    { "rate", CONFIG_VALUE_RATE, offsetof(ConfigPeer, rate), "unlimited",
      0, 0, "The most that all migrations to this peer put on the WAN." },
    { "rate@", CONFIG_VALUE_RATE_SCHEDULE, offsetof(ConfigPeer, rate_schedule),
      NULL, 0, 0, "The same at a time of day: rate@22:00-06:00." },
    { "switchover-rate", CONFIG_VALUE_RAISED_RATE,
      offsetof(ConfigPeer, switchover_rate), NULL, 0, 0,
      "The same while one of them is in switchover, if it is more." },
    { "weight", CONFIG_VALUE_NUMBER, offsetof(ConfigPeer, weight), "1", 1,
      CONFIG_WEIGHT_MAX, "Share of the daemon's rate, against other peers." },
    { "compression", CONFIG_VALUE_LINK_COMPRESSION,
      offsetof(ConfigPeer, compression), "auto", 0, 0,
      "How pages are packed on the link: as hard as pays, not, or a level." },
    { "paths", CONFIG_VALUE_PATHS, offsetof(ConfigPeer, paths), NULL, 0, 0,
      "More ways to it, beside address: [BIND@]HOST:PORT, with commas." },
    { "bind", CONFIG_VALUE_TEXT, offsetof(ConfigPeer, bind), NULL, 0, 0,
      "The local IP address or the interface that lanes to the peer use." },
    { "congestion-control", CONFIG_VALUE_NAME,
      offsetof(ConfigPeer, congestion_control), NULL, 0, 0,
      "TCP's congestion control of lanes; default: the kernel's." },
    { "dscp", CONFIG_VALUE_NUMBER, offsetof(ConfigPeer, dscp), "0", 0,
      ADDRESS_DSCP_MAX, "The mark of the lanes' packets for the network." },
    { "mptcp", CONFIG_VALUE_BOOL, offsetof(ConfigPeer, mptcp), "no", 0, 0,
      "Multipath TCP, where both kernels have it." },
    { "outage", CONFIG_VALUE_TIME, offsetof(ConfigPeer, outage_ms), "2min",
      100, 24 * HOUR_MS, "How long the link may be down before a migration is "
      "given up, while the guest runs at the source." },
    { "outage-switchover", CONFIG_VALUE_TIME,
      offsetof(ConfigPeer, outage_switchover_ms), "5s", 100, 24 * HOUR_MS,
      "The same while the guest is stopped for the switchover." },
    { "outage-postcopy", CONFIG_VALUE_TIME,
      offsetof(ConfigPeer, outage_postcopy_ms), "10min", 100, 24 * HOUR_MS,
      "The same while the guest runs at the destination and pages are still "
      "at the source." },
};

static const ConfigKey vm_keys[] = {
    { "qmp", CONFIG_VALUE_ADDRESS, offsetof(ConfigVm, qmp), NULL, 0, 0,
      "The QMP socket of the VM's QEMU." },
    { "incoming", CONFIG_VALUE_ADDRESS, offsetof(ConfigVm, incoming), NULL,
      0, 0, "Where the QEMU listens when it is a destination; default: a "
      "socket in the runtime directory." },
    { "channels", CONFIG_VALUE_NUMBER, offsetof(ConfigVm, channels), "0", 0,
      MAX_CHANNELS, "Multifd channels of the QEMU leg; 0: the default." },
    { "uuid", CONFIG_VALUE_UUID, offsetof(ConfigVm, uuid), NULL, 0, 0,
      "Refuse a QEMU with another UUID." },
    { "weight", CONFIG_VALUE_NUMBER, offsetof(ConfigVm, weight), "1", 1,
      CONFIG_WEIGHT_MAX, "Share of the peer's rate against its other migrations." },
    { "convergence", CONFIG_VALUE_CONVERGENCE, offsetof(ConfigVm, convergence),
      "continue", 0, 0, "What to do when the guest writes faster than its pages "
      "leave." },
    { "convergence-patience", CONFIG_VALUE_TIME,
      offsetof(ConfigVm, convergence_patience_ms), "30s", 100, 24 * HOUR_MS,
      "How long that must have been so." },
};

static const ConfigKey tunnel_keys[] = {
    { "listen", CONFIG_VALUE_ADDRESS, offsetof(ConfigTunnel, listen), NULL,
      0, 0, "Where the source QEMU connects." },
    { "peer", CONFIG_VALUE_NAME, offsetof(ConfigTunnel, peer), NULL, 0, 0,
      "The daemon at the other end; both give the tunnel the same name." },
    { "connect", CONFIG_VALUE_ADDRESS, offsetof(ConfigTunnel, connect), NULL,
      0, 0, "Where the destination QEMU listens." },
    { "channels", CONFIG_VALUE_NUMBER, offsetof(ConfigTunnel, channels), "0",
      0, MAX_CHANNELS, "Multifd channels towards connect; 0: as many as came "
      "in." },
    { "compression", CONFIG_VALUE_COMPRESSION,
      offsetof(ConfigTunnel, compression), "same", 0, 0,
      "How pages are packed towards connect: same as the source, or its own." },
    { "compression-level", CONFIG_VALUE_NUMBER,
      offsetof(ConfigTunnel, compression_level), "1", METHOD_LEVEL_MIN,
      METHOD_LEVEL_MAX, "How hard zlib and zstd try." },
    { "zero-pages", CONFIG_VALUE_ZERO_PAGES,
      offsetof(ConfigTunnel, write_zero_pages), "keep", 0, 0,
      "write: named zero pages become pages of zeroes, for QEMU before 9.0." },
    { "page-size", CONFIG_VALUE_PAGE_SIZE, offsetof(ConfigTunnel, page_size),
      "auto", 0, 0, "The target's page size where its stream does not say it." },
    { "lanes", CONFIG_VALUE_LANES, offsetof(ConfigTunnel, lanes), "0", 0,
      MAX_LANES, "TCP connections to the peer; 0: what [peer] says." },
    { "rate", CONFIG_VALUE_RATE, offsetof(ConfigTunnel, rate), "unlimited",
      0, 0, "The most that this tunnel puts on the WAN." },
    { "weight", CONFIG_VALUE_NUMBER, offsetof(ConfigTunnel, weight), "1", 1,
      CONFIG_WEIGHT_MAX, "Share of the peer's rate, against other migrations." },
    { "tls", CONFIG_VALUE_BOOL, offsetof(ConfigTunnel, tls), "no", 0, 0,
      "QEMU's TLS towards connect." },
    { "listen-tls", CONFIG_VALUE_BOOL, offsetof(ConfigTunnel, listen_tls),
      "no", 0, 0, "QEMU's TLS on listen." },
    { "listen-tls-client", CONFIG_VALUE_TEXT,
      offsetof(ConfigTunnel, listen_tls_client), NULL, 0, 0,
      "The name that the source QEMU's certificate must have, or its PSK "
      "identity; default: any." },
    { "listen-tls-verify-client", CONFIG_VALUE_BOOL,
      offsetof(ConfigTunnel, listen_tls_verify_client), "yes", 0, 0,
      "no: let in a source QEMU without a certificate." },
    { "tls-directory", CONFIG_VALUE_PATH,
      offsetof(ConfigTunnel, tls_directory), NULL, 0, 0,
      "Credentials towards the QEMU; default: those of [tls]." },
    { "tls-psk", CONFIG_VALUE_BOOL, offsetof(ConfigTunnel, tls_psk), "no",
      0, 0, "Pre-shared keys towards the QEMU instead of certificates." },
    { "tls-hostname", CONFIG_VALUE_TEXT, offsetof(ConfigTunnel, tls_hostname),
      NULL, 0, 0, "The name that connect's certificate must have; default: "
      "the host in connect." },
    { "require-return-path", CONFIG_VALUE_BOOL,
      offsetof(ConfigTunnel, require_return_path), "no", 0, 0,
      "Refuse a stream without a return path instead of warning." },
};

#define KEYS(array) (array), G_N_ELEMENTS(array)

const ConfigGroup config_table_groups[] = {
    { "daemon", false, 0, 0, KEYS(daemon_keys),
      "The daemon itself." },
    { "timeouts", false, 0, 0, KEYS(timeouts_keys),
      "How long to wait before a migration is given up." },
    { "tls", false, 0, 0, KEYS(tls_keys),
      "Credentials of the link, and of QEMU legs that have none." },
    { "listen", false, 0, 0, KEYS(listen_keys),
      "Where the daemon can be reached from the WAN." },
    { "peer", true, sizeof(ConfigPeer), offsetof(Config, peers),
      KEYS(peer_keys), "Another daemon." },
    { "vm", true, sizeof(ConfigVm), offsetof(Config, vms), KEYS(vm_keys),
      "A VM for managed migrations." },
    { "tunnel", true, sizeof(ConfigTunnel), offsetof(Config, tunnels),
      KEYS(tunnel_keys), "A way for migrations that others drive." },
};
const size_t config_table_n_groups = G_N_ELEMENTS(config_table_groups);

/* The parser allocates them all alike. */
static_assert(offsetof(ConfigPeer, name) == 0, "name must come first");
static_assert(offsetof(ConfigVm, name) == 0, "name must come first");
static_assert(offsetof(ConfigTunnel, name) == 0, "name must come first");

const ConfigGroup *config_table_find_group(const char *name)
{
    for (size_t i = 0; i < config_table_n_groups; i++) {
        if (strcmp(config_table_groups[i].name, name) == 0) {
            return &config_table_groups[i];
        }
    }
    return NULL;
}

const ConfigKey *config_table_find_key(const ConfigGroup *group,
                                       const char *name)
{
    for (size_t i = 0; i < group->n_keys; i++) {
        const ConfigKey *key = &group->keys[i];

        if (key->type == CONFIG_VALUE_RATE_SCHEDULE
            ? g_str_has_prefix(name, key->name)
            : strcmp(key->name, name) == 0) {
            return key;
        }
    }
    return NULL;
}

const char *config_table_suggest_group(const char *name)
{
    const char *known[G_N_ELEMENTS(config_table_groups) + 1] = { NULL };

    for (size_t i = 0; i < config_table_n_groups; i++) {
        known[i] = config_table_groups[i].name;
    }
    return nearest_find(name, known);
}

const char *config_table_suggest_key(const ConfigGroup *group,
                                     const char *name)
{
    g_autofree const char **known = g_new0(const char *, group->n_keys + 1);

    for (size_t i = 0; i < group->n_keys; i++) {
        known[i] = group->keys[i].name;
    }
    return nearest_find(name, known);
}
