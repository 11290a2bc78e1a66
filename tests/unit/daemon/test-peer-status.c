/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/peer-status.h"

#include <gio/gio.h>
#include <sys/socket.h>
#include <unistd.h>

static JsonObject *ask(PeerStatus *self, const char *peer)
{
    JsonObject *object = json_object_new();

    peer_status_add_to_json(self, peer, object);
    return object;
}

static void note_failed(PeerStatus *self, const char *peer, const char *text)
{
    g_autoptr(GError) error = g_error_new_literal(G_IO_ERROR,
                                                  G_IO_ERROR_FAILED, text);

    peer_status_note_failed(self, peer, error);
}

/* Neither there nor not there: nobody has tried. */
static void test_unknown_says_nothing(void)
{
    PeerStatus *self = peer_status_new();
    g_autoptr(JsonObject) object = NULL;

    peer_status_note_reached(self, "other");
    object = ask(self, "dc2");
    g_assert_cmpuint(json_object_get_size(object), ==, 0);
    peer_status_free(self);
    peer_status_free(NULL);
}

static void test_reached(void)
{
    PeerStatus *self = peer_status_new();
    g_autoptr(JsonObject) object = NULL;

    peer_status_note_reached(self, "dc2");
    object = ask(self, "dc2");
    g_assert_true(json_object_get_boolean_member(object, "reachable"));
    g_assert_cmpint(json_object_get_int_member(object, "last-contact-ms"), >=,
                    0);
    g_assert_false(json_object_has_member(object, "last-error"));
    peer_status_free(self);
}

static void test_never_reached(void)
{
    PeerStatus *self = peer_status_new();
    g_autoptr(JsonObject) object = NULL;

    note_failed(self, "dc2", "connection refused");
    object = ask(self, "dc2");
    g_assert_false(json_object_get_boolean_member(object, "reachable"));
    g_assert_false(json_object_has_member(object, "last-contact-ms"));
    g_assert_cmpstr(json_object_get_string_member(object, "last-error"), ==,
                    "connection refused");
    peer_status_free(self);
}

/* Old news is overwritten, but when it was last there is still told. */
static void test_last_word_counts(void)
{
    PeerStatus *self = peer_status_new();
    g_autoptr(JsonObject) lost = NULL, back = NULL;

    peer_status_note_reached(self, "dc2");
    note_failed(self, "dc2", "first");
    note_failed(self, "dc2", "second");
    lost = ask(self, "dc2");
    g_assert_false(json_object_get_boolean_member(lost, "reachable"));
    g_assert_true(json_object_has_member(lost, "last-contact-ms"));
    g_assert_cmpstr(json_object_get_string_member(lost, "last-error"), ==,
                    "second");
    peer_status_note_reached(self, "dc2");
    back = ask(self, "dc2");
    g_assert_true(json_object_get_boolean_member(back, "reachable"));
    g_assert_false(json_object_has_member(back, "last-error"));
    peer_status_free(self);
}

static JsonObject *ask_path(PeerStatus *self, const char *path)
{
    JsonObject *object = json_object_new();

    peer_status_add_path_to_json(self, "dc2", path, object);
    return object;
}

static Stream *open_stream(void)
{
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    close(fds[1]);
    return stream_new(fds[0], "a");
}

/* Those of one path are not those of another, and one that is gone does not count. */
static void test_lanes_of_paths(void)
{
    PeerStatus *self = peer_status_new();
    g_autoptr(JsonObject) two = NULL, other = NULL, none = NULL;
    Stream *a = open_stream(), *b = open_stream();

    peer_status_note_lane(self, "dc2", "tcp:a:1", a);
    peer_status_note_lane(self, "dc2", "tcp:a:1", b);
    two = ask_path(self, "tcp:a:1");
    g_assert_cmpint(json_object_get_int_member(two, "lanes"), ==, 2);
    g_assert_true(json_object_get_boolean_member(two, "reachable"));
    other = ask_path(self, "eth1@tcp:a:1");
    g_assert_cmpint(json_object_get_int_member(other, "lanes"), ==, 0);
    g_assert_false(json_object_has_member(other, "reachable"));
    stream_free(a);
    stream_free(b);
    none = ask_path(self, "tcp:a:1");
    g_assert_cmpint(json_object_get_int_member(none, "lanes"), ==, 0);
    g_assert_true(json_object_has_member(none, "last-contact-ms"));
    peer_status_free(self);
}

/* It counts no more, and says why, though nobody has let go of it yet. */
static void test_broken_lane(void)
{
    PeerStatus *self = peer_status_new();
    g_autoptr(GError) error = g_error_new_literal(G_IO_ERROR,
                                                  G_IO_ERROR_FAILED, "reset");
    g_autoptr(JsonObject) one = NULL, none = NULL, back = NULL;
    Stream *a = open_stream(), *b = open_stream(), *c = open_stream();

    peer_status_note_lane(self, "dc2", "tcp:a:1", a);
    peer_status_note_lane(self, "dc2", "tcp:a:1", b);
    stream_note_broken(a, error);
    one = ask_path(self, "tcp:a:1");
    g_assert_cmpint(json_object_get_int_member(one, "lanes"), ==, 1);
    g_assert_true(json_object_get_boolean_member(one, "reachable"));
    g_assert_cmpstr(json_object_get_string_member(one, "last-error"), ==,
                    "reset");
    stream_free(b);
    none = ask_path(self, "tcp:a:1");
    g_assert_false(json_object_get_boolean_member(none, "reachable"));
    peer_status_note_lane(self, "dc2", "tcp:a:1", c);
    stream_free(a);         /* not a second time */
    back = ask_path(self, "tcp:a:1");
    g_assert_cmpint(json_object_get_int_member(back, "lanes"), ==, 1);
    g_assert_false(json_object_has_member(back, "last-error"));
    stream_free(c);
    peer_status_free(self);
}

/* A path's end is not its peer's. */
static void test_path_failed(void)
{
    PeerStatus *self = peer_status_new();
    g_autoptr(GError) error = g_error_new_literal(G_IO_ERROR,
                                                  G_IO_ERROR_FAILED, "no route");
    g_autoptr(JsonObject) path = NULL, peer = NULL;

    peer_status_note_path_failed(self, "dc2", "tcp:a:1", error);
    path = ask_path(self, "tcp:a:1");
    g_assert_false(json_object_get_boolean_member(path, "reachable"));
    g_assert_cmpstr(json_object_get_string_member(path, "last-error"), ==,
                    "no route");
    peer = ask(self, "dc2");
    g_assert_cmpuint(json_object_get_size(peer), ==, 0);
    peer_status_free(self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/peer-status/" path, func)
    ADD("unknown-says-nothing", test_unknown_says_nothing);
    ADD("reached", test_reached);
    ADD("never-reached", test_never_reached);
    ADD("last-word-counts", test_last_word_counts);
    ADD("lanes-of-paths", test_lanes_of_paths);
    ADD("broken-lane", test_broken_lane);
    ADD("path-failed", test_path_failed);
    return g_test_run();
}
