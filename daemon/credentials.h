/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/credentials.h - all TLS credentials in use, loaded once, reloadable
 *
 * Thread-safe.  A reload replaces what later sessions get; those that are alive
 * keep what they began with.
 */
#ifndef DAEMON_CREDENTIALS_H
#define DAEMON_CREDENTIALS_H

#include "daemon/tls.h"
#include "daemon/tls-expiry.h"

typedef struct Credentials Credentials;

Credentials *credentials_new(void);
void credentials_free(Credentials *self);

/* A reference to what @config names, loading it when it is not there yet. */
TlsCredentials *credentials_get(Credentials *self, const TlsConfig *config,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * Load everything in use again.  Files that are gone are a failure, even where
 * credentials_get() would do without them.  On failure all stays as it was.
 * What is not wanted any more is not looked at.
 */
bool credentials_reload(Credentials *self, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* What the configuration asks for, @n of them; the rest is of sessions that are
 * ending, who may still credentials_get() it. */
void credentials_set_wanted(Credentials *self, const TlsConfig *wanted, size_t n);

/* Of all that is wanted: (TlsExpiry *), one for each file; the caller's. */
GPtrArray *credentials_list_expiry(Credentials *self);

#endif
