/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/access.h"

#include <grp.h>
#include <stdlib.h>
#include <unistd.h>
#include "daemon/log.h"
#include "qmp/error.h"

bool access_init(Access *self, const char *group, GError **error)
{
    const struct group *entry;
    guint64 number;

    if (!group) {
        self->group = getegid();
        return true;
    }
    if (g_ascii_string_to_unsigned(group, 10, 0, G_MAXINT32, &number, NULL)) {
        self->group = (gid_t)number;
        return true;
    }
    entry = getgrnam(group);
    if (!entry) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "[daemon] control-group: there is no group '%s'", group);
        return false;
    }
    self->group = entry->gr_gid;
    return true;
}

bool access_check(const QmpPeer *peer, gpointer data, GError **error)
{
    const Access *self = data;

    if (!peer || peer->uid == 0 || peer->uid == geteuid() ||
        qmp_peer_has_group(peer, self->group)) {
        return true;
    }
    log_warning(LOG_ABOUT(LOG_EVENT_ACCESS_REFUSED), "control socket: got a "
                "connection of uid %u (process %d), allowed are root, uid %u, "
                "and members of group %u", (unsigned)peer->uid, (int)peer->pid,
                (unsigned)geteuid(), (unsigned)self->group);
    g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                "uid %u may not command this daemon, nor is it in the group %u "
                "that may ([daemon] control-group)", (unsigned)peer->uid,
                (unsigned)self->group);
    return false;
}
