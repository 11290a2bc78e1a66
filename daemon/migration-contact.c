/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/migration-contact.h"

#include "daemon/migration-link.h"
#include "daemon/migration-target.h"
#include "daemon/registry.h"

enum { ENDED_MS = 3000 };   /* for a migration whose other end is gone to end here */

/* ---- a daemon that was started anew ------------------------------------------------ */

/* Of the same peer another daemon may run another migration: two that have one
 * certificate are told apart by their names, and where these are one too, as of
 * machines that were cloned, by the former still being heard. */
static bool is_of_former(Migration *migration, const ConfigPeer *peer,
                         const char *name, const LinkInstance instance)
{
    bool former;

    g_mutex_lock(&migration->lock);
    former = migration_has_peer(migration, peer) && migration->link &&
             strcmp(migration->far.daemon, name) == 0 &&
             link_instance_differs(migration->far.instance, instance) &&
             !link_main_is_alive(migration->link);
    g_mutex_unlock(&migration->lock);
    return former;
}

/* The source's side asks, and hears that it is unknown there: it knows better than we
 * do here whether it may give up. */
static void end_former(Migration *migration)
{
    if (migration->role == MIGRATION_SOURCE) {
        migration_link_break(migration, "the peer's daemon was started anew");
        return;
    }
    migration_link_end(migration, "its daemon was started anew, and the migration has "
                       "ended with the one before it", false);
    migration_wait_ended(migration, ENDED_MS);
}

void migration_contact_note(Daemon *daemon, const ConfigPeer *peer,
                            const char *name, const LinkInstance instance)
{
    g_autoptr(GPtrArray) all = NULL;

    if (registry_count_of_peer(daemon->registry, peer) == 0) {
        return;
    }
    all = registry_list(daemon->registry);
    for (unsigned i = 0; i < all->len; i++) {
        Migration *migration = g_ptr_array_index(all, i);

        if (is_of_former(migration, peer, name, instance)) {
            end_former(migration);
        }
    }
}

/* ---- lanes --------------------------------------------------------------------------- */

/* To a stranger it is unknown too: a peer learns nothing of others' migrations. */
static GError *unknown_error(Daemon *daemon, const LinkHello *hello,
                             const ConfigPeer *peer)
{
    g_autoptr(Migration) ended = registry_find(daemon->registry,
                                               hello->migration);
    g_autofree char *end = ended ? migration_describe_end(ended, peer) : NULL;

    if (link_instance_differs(hello->expected, daemon->instance)) {
        return link_lane_unknown_error(
            "there is no migration %s here any more: this daemon was started anew %"
            G_GINT64_FORMAT " s ago, and the migration has ended with the one before "
            "it", hello->migration,
            (g_get_real_time() - daemon->start_us) / G_USEC_PER_SEC);
    }
    return link_lane_unknown_error("there is no migration %s here%s%s",
                                   hello->migration, end ? " any more: " : "",
                                   end ? end : "");
}

/* What migration_check_…() says to a lane of a migration that is not the peer's, or
 * not any more. */
static bool refuse(Daemon *daemon, const LinkHello *hello, const ConfigPeer *peer,
                   GError *refusal, GError **error)
{
    if (!refusal ||
        g_error_matches(refusal, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED)) {
        g_clear_error(&refusal);
        refusal = unknown_error(daemon, hello, peer);
    }
    g_propagate_error(error, refusal);
    return false;
}

static bool answer(const Migration *migration, Stream *stream, GError **error)
{
    return link_lane_accept(stream, migration->config->name,
                            migration->daemon->instance, error);
}

/* The connection of a main lane has broken, and this is the next. */
static bool take_main(Daemon *daemon, Migration *migration, Stream **stream,
                      const LinkHello *hello, const ConfigPeer *peer,
                      GError **error)
{
    GError *refusal = NULL;

    if (!migration_check_main(migration, hello->generation, peer, &refusal)) {
        return refuse(daemon, hello, peer, refusal, error);
    }
    return answer(migration, *stream, error) &&
           migration_take_main(migration, stream, hello->generation, peer, error);
}

static bool take_bulk(Daemon *daemon, Migration *migration, Stream **stream,
                      const LinkHello *hello, const ConfigPeer *peer,
                      GError **error)
{
    GError *refusal = NULL;
    bool ended;

    if (!migration_check_lane(migration, hello->lane, peer, &ended, &refusal)) {
        return ended || refuse(daemon, hello, peer, refusal, error);
    }
    return answer(migration, *stream, error) &&
           migration_take_lane(migration, stream, hello->lane, hello->generation,
                               peer, error);
}

/* Answered when it has ended here, so that its VM is free for the next. */
static bool take_abort(Daemon *daemon, Migration *migration, Stream **stream,
                       const LinkHello *hello, const ConfigPeer *peer,
                       GError **error)
{
    if (!migration_has_peer(migration, peer)) {
        return refuse(daemon, hello, peer, NULL, error);
    }
    migration_link_end(migration, hello->reason, hello->cancelled);
    migration_wait_ended(migration, ENDED_MS);
    if (!answer(migration, *stream, error)) {
        return false;
    }
    stream_finish(*stream);
    g_clear_pointer(stream, stream_free);
    return true;
}

Config *migration_contact_ref_config(Daemon *daemon, const LinkHello *hello)
{
    g_autoptr(Migration) migration = NULL;

    if (hello && (hello->role != LINK_ROLE_MAIN || hello->resume)) {
        migration = registry_find_destination(daemon->registry,
                                              hello->migration);
    }
    return migration ? config_ref(migration->config) : daemon_ref_config(daemon);
}

/* Lanes connect while their migration prepares.  When that was refused, the main lane
 * has told: they are just closed. */
static bool is_late(Daemon *daemon, const LinkHello *hello, const ConfigPeer *peer)
{
    g_autoptr(Migration) ended = registry_find(daemon->registry,
                                               hello->migration);
    g_autofree char *end = ended ? migration_describe_end(ended, peer) : NULL;

    return end && hello->role == LINK_ROLE_BULK && hello->generation == 0;
}

bool migration_contact_take_lane(Daemon *daemon, Stream **stream,
                                 const LinkHello *hello, Config *config,
                                 const ConfigPeer *peer, GError **error)
{
    g_autoptr(Migration) migration = NULL;

    migration_contact_note(daemon, peer, hello->daemon, hello->instance);
    if (hello->role == LINK_ROLE_MAIN && !hello->resume) {
        return migration_target_begin(daemon, stream, hello, config, peer, error);
    }
    migration = registry_find_destination(daemon->registry, hello->migration);
    if (!migration && is_late(daemon, hello, peer)) {
        return true;
    }
    if (!migration || link_instance_differs(hello->expected, daemon->instance)) {
        return refuse(daemon, hello, peer, NULL, error);
    }
    if (hello->abort) {
        return take_abort(daemon, migration, stream, hello, peer, error);
    }
    return hello->role == LINK_ROLE_MAIN
           ? take_main(daemon, migration, stream, hello, peer, error)
           : take_bulk(daemon, migration, stream, hello, peer, error);
}
