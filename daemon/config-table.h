/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/config-table.h - every group and key that a configuration may have
 *
 * The one place where a key is described.  The parser, --check, the messages
 * about unknown words, and the tests that hold the manual and the sample file
 * to the truth all read it.
 */
#ifndef DAEMON_CONFIG_TABLE_H
#define DAEMON_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include "daemon/config-value.h"

typedef struct {
    const char *name;           /* "peer" */
    bool named;                 /* "[peer NAME]", any number of them */
    size_t size;                /* named: of the structure; its first member is
                                   the char *name.  Else the keys' offsets are
                                   into Config */
    size_t list_offset;         /* named: of the GPtrArray * in Config */
    const ConfigKey *keys;
    size_t n_keys;
    const char *help;           /* one sentence */
} ConfigGroup;

extern const ConfigGroup config_table_groups[];
extern const size_t config_table_n_groups;

/* NULL: there is no such group or key. */
const ConfigGroup *config_table_find_group(const char *name);
const ConfigKey *config_table_find_key(const ConfigGroup *group,
                                       const char *name);

/* The nearest existing name to an unknown one, or NULL. */
const char *config_table_suggest_group(const char *name);
const char *config_table_suggest_key(const ConfigGroup *group,
                                     const char *name);

#endif
