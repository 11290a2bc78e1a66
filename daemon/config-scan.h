/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/config-scan.h - what GKeyFile would let pass in an INI file
 *
 * GKeyFile joins groups of the same name and lets the last of two equal keys
 * win, both without a word; and it takes bytes that are not text.  In a file
 * that says who may connect, each of these is somebody's mistake.
 */
#ifndef DAEMON_CONFIG_SCAN_H
#define DAEMON_CONFIG_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <glib.h>

/*
 * Refuse a group that comes twice, a key that comes twice in its group, and
 * bytes that are not UTF-8 outside comments.  Errors start with "line N: ".
 */
bool config_scan(const char *data, size_t len, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* "peer   dc2 " to "peer" and "dc2" (NULL when there is one word). */
void config_scan_split_group(const char *text, char **ret_kind,
                             char **ret_name);

#endif
