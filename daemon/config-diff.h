/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/config-diff.h - what a configuration says otherwise than another one
 */
#ifndef DAEMON_CONFIG_DIFF_H
#define DAEMON_CONFIG_DIFF_H

#include "daemon/config.h"

typedef struct {
    char *group;            /* "daemon", "peer dc2" */
    char *key;              /* NULL: the whole object was added or removed */
    char *from, *to;        /* as --check has them; NULL: not set, or not there */
    bool needs_restart;     /* what runs could not take it over */
} ConfigChange;

/* In the order of the table; (ConfigChange *), the caller's. */
GPtrArray *config_diff(const Config *from, const Config *to);

/* "[peer dc2] rate: from '1G' to '2G'", "[vm db] was added"; g_free(). */
char *config_change_to_string(const ConfigChange *self);

#endif
