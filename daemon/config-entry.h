/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/config-entry.h - groups and values of a Config, reached by their names
 *
 * Makes and frees a Config as daemon/config-table.h describes it, and puts
 * into it what a file or an option says, one value at a time.
 */
#ifndef DAEMON_CONFIG_ENTRY_H
#define DAEMON_CONFIG_ENTRY_H

#include <stdbool.h>
#include <glib.h>
#include "daemon/config-table.h"
#include "daemon/config.h"

/* All fields at their initial values. */
Config *config_entry_new_config(void);
void config_entry_free_config(Config *self);

/* The objects of a named group, and what one of them is called. */
GPtrArray *config_entry_get_list(const Config *self, const ConfigGroup *group);
const char *config_entry_get_name(const void *object);
/* NULL: there is none of this name. */
void *config_entry_find(const Config *self, const ConfigGroup *group,
                        const char *name);

/*
 * What @text ("tls", "peer dc2") stands for; a named object is made when it
 * is not there yet.  Errors start with "[@text]".
 */
bool config_entry_open(Config *self, const char *text,
                       const ConfigGroup **ret_group, void **ret_object,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Set the key @name of what config_entry_open() gave for @text.  Errors start
 * with "[@text] @name: ".
 */
bool config_entry_set(const ConfigGroup *group, void *object,
                      const char *text, const char *name, const char *value,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
