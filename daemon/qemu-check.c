/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/qemu-check.c - refuse early what cannot work
 *
 * QEMU would find most of this too, but late: a differing machine type after
 * every page of a long first pass is ready to be sent, a differing UUID by a
 * destination that never answers again.
 *
 * A capability that is on and that we cannot carry is refused rather than
 * switched off: somebody wanted it.
 */
#include <inttypes.h>

#include "daemon/qemu.h"
#include "daemon/qemu-json.h"

/* What no migration of ours can have, and why. */
static const struct {
    const char *capability;
    bool source_only;       /* on a destination it has no effect */
    bool multifd_only;      /* is in the way of multifd alone */
    const char *why;
} spoilers[] = {
    { "mapped-ram", false, false, "it is for files" },
    { "x-colo", false, false, "the guest would run at both ends" },
    { "background-snapshot", true, false, "it is for files" },
    { "rdma-pin-all", false, false, "it is for RDMA" },
    { "block", false, false, "storage in the stream is not carried" },
    { "zero-copy-send", true, false,
      "QEMU has it on TCP alone, and connects to us by a unix socket" },
    { "pause-before-switchover", true, false,
      "nobody would send migrate-continue" },
    { "compress", false, true, "multifd replaces it" },
    { "xbzrle", true, true, "multifd replaces it" },
};

bool qemu_info_has_multifd_with_postcopy(const QemuInfo *self)
{
    return qemu_info_is_version(self, 10, 1);
}

/* It changes the stream, so nobody may have switched it on unasked. */
static bool check_postcopy(const QemuInfo *info, const char *who, bool wanted,
                           GError **error)
{
    if (wanted && !qemu_info_has_capability(info, "postcopy-ram")) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "%s QEMU: got version '%s' without capability "
                    "'postcopy-ram', expected one that has it", who,
                    info->version);
        return false;
    }
    if (!wanted && qemu_info_is_capability_on(info, "postcopy-ram")) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "%s QEMU: got capability 'postcopy-ram' on, allowed only "
                    "off: the migration was asked for without 'postcopy'", who);
        return false;
    }
    return true;
}

static bool check_capabilities(const QemuInfo *info, bool destination,
                               unsigned use, GError **error)
{
    bool multifd = use & QEMU_USE_MULTIFD;
    const char *who = destination ? "destination" : "source";

    for (size_t i = 0; i < G_N_ELEMENTS(spoilers); i++) {
        if ((spoilers[i].source_only && destination) ||
            (spoilers[i].multifd_only && !multifd) ||
            !qemu_info_is_capability_on(info, spoilers[i].capability)) {
            continue;
        }
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "%s QEMU: got capability '%s' on, allowed only off: %s",
                    who, spoilers[i].capability, spoilers[i].why);
        return false;
    }
    if (multifd && !qemu_info_has_capability(info, "multifd")) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "%s QEMU: got version '%s' without capability 'multifd', "
                    "expected one that has it", who, info->version);
        return false;
    }
    if (!qemu_info_has_capability(info, "return-path")) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "%s QEMU: got version '%s' without capability "
                    "'return-path', expected one that has it", who,
                    info->version);
        return false;
    }
    return check_postcopy(info, who, use & QEMU_USE_POSTCOPY, error);
}

/* The cpr modes of 8.2 and later leave RAM where it is. */
static bool check_mode(const QemuInfo *info, GError **error)
{
    const char *mode = qemu_json_find_string(info->parameters, "mode");

    if (mode && !g_str_equal(mode, "normal")) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "source QEMU: got migration mode '%s', allowed 'normal'",
                    mode);
        return false;
    }
    return true;
}

static bool check_source_state(const QemuInfo *info, GError **error)
{
    static const char *const allowed[] = {
        "running", "paused", "prelaunch", NULL,
    };

    if (qemu_migrate_status_is_active(info->migration)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "source QEMU: got a migration with status '%s' already, "
                    "allowed none under way", info->migration);
        return false;
    }
    if (!g_strv_contains(allowed, info->run_state)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "source QEMU: got run state '%s', allowed running, paused "
                    "or prelaunch", info->run_state);
        return false;
    }
    return true;
}

bool qemu_check_source(const QemuInfo *info, unsigned use, GError **error)
{
    if (!check_source_state(info, error)) {
        return false;
    }
    if (info->blocked_reasons) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "source QEMU: got blocked-reasons '%s', allowed none",
                    info->blocked_reasons);
        return false;
    }
    return check_mode(info, error) &&
           check_capabilities(info, false, use, error);
}

bool qemu_check_destination(const QemuInfo *info, unsigned use, GError **error)
{
    if (!g_str_equal(info->run_state, "inmigrate")) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "destination QEMU: got run state '%s', allowed inmigrate; "
                    "start it with -incoming defer", info->run_state);
        return false;
    }
    if (info->incoming_started) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "destination QEMU: got an incoming migration started "
                    "already (status '%s'), allowed none; start it anew with "
                    "-incoming defer", info->migration);
        return false;
    }
    return check_capabilities(info, true, use, error);
}

/* ---- both together --------------------------------------------------------- */

static bool check_same_string(const char *what, const char *source,
                              const char *destination, GError **error)
{
    if (!g_str_equal(source, destination)) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "destination QEMU: got %s '%s', expected the source's '%s'",
                    what, destination, source);
        return false;
    }
    return true;
}

static bool check_same_number(const char *what, uint64_t source,
                              uint64_t destination, GError **error)
{
    if (source != destination) {
        g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                    "destination QEMU: got %s %" PRIu64 ", expected the "
                    "source's %" PRIu64, what, destination, source);
        return false;
    }
    return true;
}

/*
 * These change the stream or who waits for whom: with switchover-ack at the
 * source alone it waits for good.  A QEMU that has no such capability is as one
 * that has it off.
 */
static bool check_same_capabilities(const QemuInfo *source,
                                    const QemuInfo *destination,
                                    GError **error)
{
    static const char *const same[] = { "switchover-ack", "x-ignore-shared" };

    for (size_t i = 0; i < G_N_ELEMENTS(same); i++) {
        bool at_source = qemu_info_is_capability_on(source, same[i]);
        bool here = qemu_info_is_capability_on(destination, same[i]);

        if (at_source != here) {
            g_set_error(error, QEMU_ERROR, QEMU_ERROR_UNFIT,
                        "destination QEMU: got capability '%s' %s, expected %s "
                        "as at the source", same[i], here ? "on" : "off",
                        at_source ? "on" : "off");
            return false;
        }
    }
    return true;
}

bool qemu_check_pair(const QemuInfo *source, const QemuInfo *destination,
                     GError **error)
{
    return check_same_string("uuid", source->uuid, destination->uuid, error) &&
           check_same_string("arch", source->arch, destination->arch, error) &&
           check_same_string("machine type", source->machine,
                             destination->machine, error) &&
           check_same_number("RAM size", source->ram_bytes,
                             destination->ram_bytes, error) &&
           check_same_number("vcpus", source->vcpus, destination->vcpus,
                             error) &&
           check_same_capabilities(source, destination, error);
}
