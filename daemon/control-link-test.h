/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/control-link-test.h - commands and events of the control socket about link
 * tests
 */
#ifndef DAEMON_CONTROL_LINK_TEST_H
#define DAEMON_CONTROL_LINK_TEST_H

#include "daemon/daemon.h"
#include "qmp/server.h"

/* @daemon must outlive the server. */
void control_link_test_add(QmpServer *server, Daemon *daemon);

#endif
