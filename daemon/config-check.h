/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/config-check.h - what no single value can get wrong by itself
 */
#ifndef DAEMON_CONFIG_CHECK_H
#define DAEMON_CONFIG_CHECK_H

#include "daemon/config.h"

/* Errors start with the group: "[tunnel web2]: …". */
bool config_check(const Config *config, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
