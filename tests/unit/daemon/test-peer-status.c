/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/peer-status.h"

#include <gio/gio.h>

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/peer-status/" path, func)
    ADD("unknown-says-nothing", test_unknown_says_nothing);
    ADD("reached", test_reached);
    ADD("never-reached", test_never_reached);
    ADD("last-word-counts", test_last_word_counts);
    return g_test_run();
}
