/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-instance.h - which life of a daemon a HELLO is from
 *
 * A random name that a daemon has from its start to its end.  Migrations do not outlive
 * it, so another one of the same daemon says that what ran before is gone.
 */
#ifndef DAEMON_LINK_INSTANCE_H
#define DAEMON_LINK_INSTANCE_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

#define LINK_INSTANCE_LEN 32    /* lower case hex digits */

typedef char LinkInstance[LINK_INSTANCE_LEN + 1];   /* "": not known */

void link_instance_make(LinkInstance ret);

/* Member @name of a HELLO; missing is "", as an older daemon has none. */
bool link_instance_read(JsonObject *object, const char *name, LinkInstance ret,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Adds it, unless it is not known. */
void link_instance_add(JsonObject *object, const char *name,
                       const LinkInstance instance);

/* Both are known, and not the same. */
bool link_instance_differs(const LinkInstance a, const LinkInstance b);

#endif
