/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/config-diff.h"

#include <string.h>

#define HEAD "[tls]\ndirectory=/t\n"
#define PEER "[peer dc2]\naddress=h:1\ncertificate-name=x\n"

static Config *load(const char *text)
{
    g_autoptr(GError) error = NULL;
    Config *config = config_load_from_data(text, strlen(text), "f", NULL, NULL,
                                           &error);

    g_assert_no_error(error);
    return config;
}

/* @lines: as config_change_to_string(), each with " !" where a restart is needed. */
static void assert_diff(const char *from, const char *to, const char *lines)
{
    g_autoptr(Config) old = load(from);
    g_autoptr(Config) new = load(to);
    g_autoptr(GPtrArray) list = config_diff(old, new);
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < list->len; i++) {
        const ConfigChange *change = g_ptr_array_index(list, i);
        g_autofree char *line = config_change_to_string(change);

        g_string_append_printf(text, "%s%s\n", line,
                               change->needs_restart ? " !" : "");
    }
    g_assert_cmpstr(text->str, ==, lines);
}

static void test_same(void)
{
    assert_diff(HEAD PEER, "# a comment\n" HEAD PEER "lanes = auto\n", "");
}

static void test_values(void)
{
    assert_diff("[daemon]\nrate=1gbit\n" HEAD PEER,
                "[daemon]\nrate=2gbit\nmemory=1G\n" HEAD PEER "bind=eth0\n",
                "[daemon] rate: from '1Gbit' to '2Gbit'\n"
                "[daemon] memory: from '512M' to '1G'\n"
                "[peer dc2] bind: from nothing to 'eth0'\n");
    assert_diff(HEAD PEER "rate@22:00-06:00=2gbit\n",
                HEAD PEER "rate@22:00-06:00=1gbit\nrate@12:00-13:00=1mbit\n",
                "[peer dc2] rate@: from '22:00-06:00=2Gbit' to "
                "'22:00-06:00=1Gbit, 12:00-13:00=1Mbit'\n");
}

static void test_objects(void)
{
    assert_diff(HEAD PEER "[vm a]\nqmp=/a\n",
                HEAD PEER "[vm b]\nqmp=/a\n[tunnel t]\nlisten=/l\nconnect=/c\n",
                "[vm a] was removed\n[vm b] was added\n[tunnel t] was added\n");
}

static void test_what_is_fixed(void)
{
    assert_diff("[daemon]\nname=a\n" HEAD PEER,
                "[daemon]\nname=b\ncontrol=/c\nmax-migrations=3\n"
                "[tls]\ndirectory=/u\n[listen]\nlink=:1\n" PEER,
                "[daemon] name: from 'a' to 'b' !\n"
                "[daemon] control: from 'unix:/run/multiferry/control.sock' to "
                "'unix:/c' !\n"
                "[daemon] max-migrations: from '64' to '3'\n"
                "[tls] directory: from '/t' to '/u' !\n"
                "[listen] link: from nothing to 'tcp::1' !\n");
}

/* Its socket is another one; peers that only are connected to have none. */
static void test_multipath_tcp(void)
{
#define LISTEN "[listen]\nlink=:1\n"
    assert_diff(HEAD PEER, HEAD PEER "mptcp=yes\n",
                "[peer dc2] mptcp: from 'no' to 'yes'\n");
    assert_diff(HEAD LISTEN PEER, HEAD LISTEN PEER "mptcp=yes\n",
                "[peer dc2] mptcp: from 'no' to 'yes' !\n");
    assert_diff(HEAD LISTEN PEER "mptcp=yes\n",
                HEAD LISTEN PEER "mptcp=yes\n[peer dc3]\ncertificate-name=y\n"
                "mptcp=yes\n", "[peer dc3] was added\n");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add_func("/daemon/config-diff/" name, function)
    ADD("same", test_same);
    ADD("values", test_values);
    ADD("objects", test_objects);
    ADD("what-is-fixed", test_what_is_fixed);
    ADD("multipath-tcp", test_multipath_tcp);
    return g_test_run();
}
