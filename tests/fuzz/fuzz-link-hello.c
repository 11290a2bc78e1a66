/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: the first bytes of a peer's lane are a hello that holds all the
 * bounds that its users rely on, or an error, and the result is left alone; and
 * the same bytes as a CONTROL frame's are one JSON object or an error.  Nothing
 * waits for bytes that do not come.
 *
 * Input: what a peer sends before it closes; at most what a socket takes at once.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/link-lane-json.h"
#include "daemon/link-lane.h"

enum { SENT_MAX = 64 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Stream *sent(const uint8_t *data, size_t size)
{
    int fds[2];
    ssize_t n;

    g_assert_true(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    n = size > 0 ? write(fds[0], data, size) : 0;
    g_assert_true(n == (ssize_t)size);
    close(fds[0]);
    return stream_new(fds[1], "peer");
}

static void check_hello(const LinkHello *hello)
{
    size_t name = strnlen(hello->daemon, sizeof(hello->daemon));

    g_assert_true(hello->version >= 1 && hello->version <= LINK_VERSION);
    g_assert_true(name > 0 && name < sizeof(hello->daemon));
    g_assert_true(hello->role <= LINK_ROLE_TEST_BULK);
    g_assert_true(strlen(hello->migration) == LINK_MIGRATION_ID_LEN);
    g_assert_true(strspn(hello->migration, "0123456789abcdef") ==
                  LINK_MIGRATION_ID_LEN);
    g_assert_true(hello->lane < LINK_LANES_MAX);
    g_assert_true(hello->role == LINK_ROLE_BULK ||
                  hello->role == LINK_ROLE_TEST_BULK || hello->lane == 0);
}

static void try_hello(const uint8_t *data, size_t size)
{
    g_autoptr(Stream) stream = sent(data, size);
    g_autoptr(GError) error = NULL;
    LinkHello hello, before;

    memset(&hello, 0x5a, sizeof(hello));
    before = hello;
    if (link_lane_read_hello(stream, &hello, &error)) {
        g_assert_true(!error);
        check_hello(&hello);
    } else {
        g_assert_true(error && *error->message);
        g_assert_true(memcmp(&hello, &before, sizeof(hello)) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    JsonObject *object;

    if (size > SENT_MAX) {
        return 0;
    }
    try_hello(data, size);
    if (size == 0) {
        return 0;
    }
    object = link_lane_json_parse("CONTROL", data, size, &error);
    g_assert_true(!object == !!error);
    g_clear_pointer(&object, json_object_unref);
    return 0;
}
