/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-test-facts.h"

uint64_t link_test_facts_get_limit(Daemon *daemon, const ConfigPeer *peer)
{
    uint64_t whole = limiter_get_rate(daemon->limiter);
    uint64_t its = limiter_get_rate(daemon_get_limiter(daemon, peer));

    return whole && its ? MIN(whole, its) : MAX(whole, its);
}

/* As migration-link.c shares it out. */
uint64_t link_test_facts_get_window(const Config *config)
{
    return config->migration_memory / 8 * 3;
}
