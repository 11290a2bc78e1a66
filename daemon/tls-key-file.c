/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/tls-key-file.c - modes and access lists of key files
 *
 * A mode alone does not tell.  systemd gives a credential (LoadCredential=) to
 * root, and lets the service's user read it by an access list; then the bits of
 * the group in the mode are the list's mask, and 0440 is as private as 0400.
 *
 * The list is read as the kernel keeps it, linux/posix_acl_xattr.h: a version,
 * then entries of tag, permission and id, all little-endian.
 */
#include "daemon/tls-key-file.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ACL_NAME "system.posix_acl_access"

enum {
    ACL_VERSION = 2,
    ACL_HEADER_SIZE = 4,
    ACL_ENTRY_SIZE = 8,
    ACL_BYTES_MAX = 4096,

    TAG_USER_OBJ = 0x01,
    TAG_USER = 0x02,
    TAG_GROUP_OBJ = 0x04,
    TAG_GROUP = 0x08,
    TAG_MASK = 0x10,
    TAG_OTHER = 0x20,
};

typedef struct {
    uint16_t tag, permission;
    uint32_t id;
} Entry;

static Entry get_entry(const uint8_t *acl, size_t offset)
{
    Entry entry;

    memcpy(&entry, acl + offset, sizeof(entry));
    return (Entry) { le16toh(entry.tag), le16toh(entry.permission),
                     le32toh(entry.id) };
}

/* What the named users and all groups may have at most. */
static uint16_t get_mask(const uint8_t *acl, size_t len)
{
    for (size_t at = ACL_HEADER_SIZE; at < len; at += ACL_ENTRY_SIZE) {
        Entry entry = get_entry(acl, at);

        if (entry.tag == TAG_MASK) {
            return entry.permission;
        }
    }
    return UINT16_MAX;
}

static bool is_harmless(const Entry *entry, uint16_t mask, uid_t self)
{
    switch (entry->tag) {
    case TAG_USER_OBJ:
    case TAG_MASK:
        return true;
    case TAG_USER:
        return entry->id == 0 || entry->id == self ||
               (entry->permission & mask) == 0;
    case TAG_GROUP_OBJ:
    case TAG_GROUP:
        return (entry->permission & mask) == 0;
    case TAG_OTHER:
        return entry->permission == 0;
    default:
        return false;
    }
}

bool tls_key_file_acl_is_private(const void *data, size_t len, uid_t self)
{
    const uint8_t *acl = data;
    uint32_t version;
    uint16_t mask;

    if (len < ACL_HEADER_SIZE || (len - ACL_HEADER_SIZE) % ACL_ENTRY_SIZE) {
        return false;
    }
    memcpy(&version, acl, sizeof(version));
    if (le32toh(version) != ACL_VERSION) {
        return false;
    }
    mask = get_mask(acl, len);
    for (size_t at = ACL_HEADER_SIZE; at < len; at += ACL_ENTRY_SIZE) {
        Entry entry = get_entry(acl, at);

        if (!is_harmless(&entry, mask, self)) {
            return false;
        }
    }
    return true;
}

bool tls_key_file_is_private(int fd, const struct stat *st)
{
    uint8_t acl[ACL_BYTES_MAX];
    ssize_t len;

    if ((st->st_mode & 0077) == 0) {
        return true;    /* the mask of a list, if there is one, is empty too */
    }
    len = fgetxattr(fd, ACL_NAME, acl, sizeof(acl));
    return len > 0 && tls_key_file_acl_is_private(acl, (size_t)len, geteuid());
}
