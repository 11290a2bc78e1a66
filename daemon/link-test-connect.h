/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test-connect.h - the lanes of a link test at the asking end
 */
#ifndef DAEMON_LINK_TEST_CONNECT_H
#define DAEMON_LINK_TEST_CONNECT_H

#include "daemon/daemon.h"
#include "daemon/link-test-lanes.h"
#include "daemon/link-test.h"

/* Hellos done.  Blocks until @cancellable is cancelled at most. */
Stream *link_test_connect_main(Daemon *daemon, const LinkTestRequest *request,
                               const char *id, GCancellable *cancellable,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Those of bulk lanes 0 to @n - 1 that @lanes has not, all at once. */
bool link_test_connect_bulk(Daemon *daemon, const LinkTestRequest *request,
                            const char *id, unsigned n, LinkTestLanes *lanes,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
