/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-contact.h - which migration a peer's lane belongs to, and what the
 * contact says of others
 *
 * A HELLO names the instance of the daemon that says it.  Of a daemon that was started
 * anew all that ran with the one before is gone, and ends here at once.
 */
#ifndef DAEMON_MIGRATION_CONTACT_H
#define DAEMON_MIGRATION_CONTACT_H

#include "daemon/link-lane.h"
#include "daemon/migration.h"

/*
 * A peer's lane with its hello, from the link server: a first main lane makes a
 * migration, any other belongs to one.  Answers the hello, takes *stream.
 */
bool migration_contact_take_lane(Daemon *daemon, Stream **stream,
                                 const LinkHello *hello, Config *config,
                                 const ConfigPeer *peer, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/*
 * The configuration by which to judge whose lane it is; a reference.  That of the
 * migration which @hello goes on with, so that a reload does not cut off the next
 * connection of what runs; else the daemon's.  NULL: nothing was said yet.
 */
Config *migration_contact_ref_config(Daemon *daemon, const LinkHello *hello);

/* @peer's daemon @name says that it is @instance.  Waits a moment for those migrations
 * to end of which that is the end. */
void migration_contact_note(Daemon *daemon, const ConfigPeer *peer,
                            const char *name, const LinkInstance instance);

#endif
