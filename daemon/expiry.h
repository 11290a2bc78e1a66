/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/expiry.h - warns before certificates in use expire
 *
 * At the start, after a reload, and daily for as long as it is so.  Main thread.
 */
#ifndef DAEMON_EXPIRY_H
#define DAEMON_EXPIRY_H

#include "daemon/credentials.h"

typedef struct Expiry Expiry;

/* Looks at them once an hour on the default main loop. */
Expiry *expiry_new(Credentials *credentials);
void expiry_free(Expiry *self);

/* Look now, as if it were @now (seconds since 1970), and warn also of what was
 * warned about today already.  Returns how many warnings that made. */
unsigned expiry_check(Expiry *self, int64_t now);

#endif
