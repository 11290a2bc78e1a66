/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tls-key-file.h - is a file with a key for our eyes only?
 */
#ifndef DAEMON_TLS_KEY_FILE_H
#define DAEMON_TLS_KEY_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Whether nobody but its owner, root and our own user may read or write it. */
bool tls_key_file_is_private(int fd, const struct stat *st);

/* The same of an access list, as the kernel stores it (system.posix_acl_access);
 * false also of one that cannot be understood. */
bool tls_key_file_acl_is_private(const void *acl, size_t len, uid_t self);

#endif
