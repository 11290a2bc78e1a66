/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test-facts.h - what a daemon knows of a link without trying it
 */
#ifndef DAEMON_LINK_TEST_FACTS_H
#define DAEMON_LINK_TEST_FACTS_H

#include "daemon/daemon.h"

/* The lowest limit for what is sent to @peer, bytes/s; 0: none. */
uint64_t link_test_facts_get_limit(Daemon *daemon, const ConfigPeer *peer);
/* Bytes that one migration may have under way at most, as far as memory goes. */
uint64_t link_test_facts_get_window(const Config *config);

#endif
