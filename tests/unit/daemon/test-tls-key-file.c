/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/tls-key-file.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <glib.h>

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };
enum { SELF = 990, R = 4, RW = 6 };

typedef struct {
    uint16_t tag, permission;
    uint32_t id;
} Entry;

/* In a buffer of exactly its size. */
static GBytes *make_acl(const Entry *entries, size_t n)
{
    GByteArray *acl = g_byte_array_new();
    uint32_t version = htole32(2);

    g_byte_array_append(acl, (void *)&version, 4);
    for (size_t i = 0; i < n; i++) {
        Entry e = { htole16(entries[i].tag), htole16(entries[i].permission),
                    htole32(entries[i].id) };

        g_byte_array_append(acl, (void *)&e, sizeof(e));
    }
    return g_byte_array_free_to_bytes(acl);
}

static bool is_private(const Entry *entries, size_t n)
{
    g_autoptr(GBytes) acl = make_acl(entries, n);
    gsize len;
    const void *data = g_bytes_get_data(acl, &len);

    return tls_key_file_acl_is_private(data, len, SELF);
}

/* What systemd makes for LoadCredential=; its mode is 0440. */
static const Entry of_systemd[] = {
    { USER_OBJ, R, 0 }, { USER, R, SELF }, { GROUP_OBJ, 0, 0 }, { MASK, R, 0 },
    { OTHER, 0, 0 },
};

static void test_takes_systemds_credentials(void)
{
    g_assert_true(is_private(of_systemd, G_N_ELEMENTS(of_systemd)));
}

/* Each of these lets somebody else in. */
static void test_refuses_anybody_else(void)
{
    const struct { size_t at; Entry entry; } changes[] = {
        { 1, { USER, R, SELF + 1 } },
        { 2, { GROUP_OBJ, R, 0 } },
        { 1, { GROUP, R, SELF } },
        { 4, { OTHER, R, 0 } },
        { 1, { 64, R, SELF } },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
        Entry entries[G_N_ELEMENTS(of_systemd)];

        memcpy(entries, of_systemd, sizeof(entries));
        entries[changes[i].at] = changes[i].entry;
        g_assert_false(is_private(entries, G_N_ELEMENTS(entries)));
    }
}

/* An entry that the mask takes everything from is none. */
static void test_heeds_the_mask(void)
{
    const Entry entries[] = {
        { USER_OBJ, RW, 0 }, { USER, R, SELF + 1 }, { GROUP_OBJ, R, 0 },
        { MASK, 0, 0 }, { OTHER, 0, 0 },
    };

    g_assert_true(is_private(entries, G_N_ELEMENTS(entries)));
}

static void test_refuses_what_it_does_not_understand(void)
{
    g_autoptr(GBytes) acl = make_acl(of_systemd, G_N_ELEMENTS(of_systemd));
    gsize len;
    const uint8_t *data = g_bytes_get_data(acl, &len);

    for (size_t cut = 1; cut < 8; cut++) {
        g_autofree void *copy = g_memdup2(data, len - cut);

        g_assert_false(tls_key_file_acl_is_private(copy, len - cut, SELF));
    }
    {
        g_autofree uint8_t *copy = g_memdup2(data, len);

        copy[0] = 3;    /* another version */
        g_assert_false(tls_key_file_acl_is_private(copy, len, SELF));
    }
}

/* On a real file, where the file system has access lists. */
static void test_reads_the_list_of_a_file(void)
{
    g_autofree char *path = g_strdup("/tmp/test-key-file-XXXXXX");
    const Entry entries[] = {
        { USER_OBJ, R, 0 }, { USER, R, geteuid() }, { GROUP_OBJ, 0, 0 },
        { MASK, R, 0 }, { OTHER, 0, 0 },
    };
    g_autoptr(GBytes) acl = make_acl(entries, G_N_ELEMENTS(entries));
    int fd = g_mkstemp(path);
    struct stat st;

    g_assert_cmpint(fd, >=, 0);
    unlink(path);
    g_assert_cmpint(fchmod(fd, 0440), ==, 0);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_false(tls_key_file_is_private(fd, &st));
    if (fsetxattr(fd, "system.posix_acl_access", g_bytes_get_data(acl, NULL),
                  g_bytes_get_size(acl), 0) < 0) {
        g_test_skip("a file system with access lists in /tmp");
    } else {
        g_assert_cmpint(fstat(fd, &st), ==, 0);
        g_assert_cmphex(st.st_mode & 0777, ==, 0440);
        g_assert_true(tls_key_file_is_private(fd, &st));
    }
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/tls-key-file/takes-systemds-credentials",
                    test_takes_systemds_credentials);
    g_test_add_func("/daemon/tls-key-file/refuses-anybody-else",
                    test_refuses_anybody_else);
    g_test_add_func("/daemon/tls-key-file/heeds-the-mask", test_heeds_the_mask);
    g_test_add_func("/daemon/tls-key-file/refuses-what-it-does-not-understand",
                    test_refuses_what_it_does_not_understand);
    g_test_add_func("/daemon/tls-key-file/reads-the-list-of-a-file",
                    test_reads_the_list_of_a_file);
    return g_test_run();
}
