/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/address-paths.h - several ways to one place: "[BIND@]HOST:PORT, ..."
 */
#ifndef DAEMON_ADDRESS_PATHS_H
#define DAEMON_ADDRESS_PATHS_H

#include <glib.h>
#include "daemon/address.h"

enum { ADDRESS_PATHS_MAX = 15 };

typedef struct {
    char *bind;                 /* as in AddressRoute; NULL: not said */
    Address *address;           /* TCP */
} AddressPath;

/* Of AddressPath; NULL: @error ("got 'x', expected ..."). */
GPtrArray *address_paths_parse(const char *text, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* As address_paths_parse() takes it; g_free(). */
char *address_paths_to_string(const GPtrArray *self);

#endif
