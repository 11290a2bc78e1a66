/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tls-expiry.h - how long loaded certificates are valid
 *
 * Of what is in memory, not of the files: those may have been replaced since.
 */
#ifndef DAEMON_TLS_EXPIRY_H
#define DAEMON_TLS_EXPIRY_H

#include "daemon/tls.h"

typedef struct {
    char *file;         /* it was loaded from here */
    int64_t from, until;    /* seconds since 1970 */
} TlsExpiry;

void tls_expiry_free(TlsExpiry *self);

/*
 * Append (TlsExpiry *) to @list, which owns them: one for each file, and of the
 * certificates in it the one that ends first.  None with pre-shared keys.
 */
void tls_expiry_list(const TlsCredentials *credentials, GPtrArray *list);

#endif
