/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-tests.h"

#include <string.h>

#include "daemon/link-test-server.h"
#include "qmp/error.h"

enum {
    KEPT = 8,                   /* of those that were asked for here and are over */
    SERVED_MAX = 4,             /* at once, for all peers together */
    TICK_MS = 500,
};

struct LinkTests {
    Daemon *daemon;
    unsigned tick;              /* GSource id */
    bool stopping;              /* of the main thread */

    GMutex lock;                /* guards the lists; a test's locks may be taken
                                   under it */
    GPtrArray *asked;           /* owns LinkTests, oldest first */
    GPtrArray *served;          /* owns LinkTestServers */
};

/* ---- what runs -------------------------------------------------------------- */

/* With the lock held.  @id is not in its own way: a daemon may be its own peer. */
static bool check_idle(LinkTests *self, const char *peer, const char *id,
                       GError **error)
{
    const char *other = NULL;

    for (unsigned i = 0; i < self->asked->len; i++) {
        LinkTest *test = g_ptr_array_index(self->asked, i);

        if (strcmp(link_test_get_peer(test), peer) == 0 &&
            strcmp(link_test_get_id(test), id) != 0 &&
            !link_test_is_over(test)) {
            other = link_test_get_id(test);
        }
    }
    for (unsigned i = 0; i < self->served->len; i++) {
        LinkTestServer *test = g_ptr_array_index(self->served, i);

        if (strcmp(link_test_server_get_peer(test), peer) == 0 &&
            !link_test_server_is_over(test)) {
            other = link_test_server_get_id(test);
        }
    }
    if (other) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "a link test with peer %s runs already: %s", peer, other);
    }
    return !other;
}

/* With the lock held: those that are over and of no more use. */
static void forget(LinkTests *self)
{
    for (unsigned i = self->served->len; i > 0; i--) {
        if (link_test_server_is_over(g_ptr_array_index(self->served, i - 1))) {
            g_ptr_array_remove_index(self->served, i - 1);
        }
    }
    for (unsigned i = 0; self->asked->len > KEPT && i < self->asked->len;) {
        if (link_test_is_over(g_ptr_array_index(self->asked, i))) {
            g_ptr_array_remove_index(self->asked, i);
        } else {
            i++;
        }
    }
}

static gboolean tick(void *data)
{
    LinkTests *self = data;

    g_mutex_lock(&self->lock);
    forget(self);
    for (unsigned i = 0; i < self->asked->len; i++) {
        link_test_check_time(g_ptr_array_index(self->asked, i));
    }
    for (unsigned i = 0; i < self->served->len; i++) {
        link_test_server_check_time(g_ptr_array_index(self->served, i));
    }
    g_mutex_unlock(&self->lock);
    return G_SOURCE_CONTINUE;
}

LinkTests *link_tests_new(Daemon *daemon)
{
    LinkTests *self = g_new0(LinkTests, 1);

    self->daemon = daemon;
    g_mutex_init(&self->lock);
    self->asked = g_ptr_array_new_with_free_func((GDestroyNotify)link_test_free);
    self->served = g_ptr_array_new_with_free_func(
        (GDestroyNotify)link_test_server_free);
    self->tick = g_timeout_add(TICK_MS, tick, self);
    return self;
}

void link_tests_stop(LinkTests *self)
{
    g_autoptr(GError) reason = g_error_new(QMP_CLASS, QMP_CLASS_GENERIC,
                                           "the daemon is stopping");

    self->stopping = true;
    for (unsigned i = 0; i < self->asked->len; i++) {
        link_test_cancel(g_ptr_array_index(self->asked, i), reason->message);
    }
    for (unsigned i = 0; i < self->served->len; i++) {
        link_test_server_shut(g_ptr_array_index(self->served, i), reason);
    }
    /* Joins their threads, which do not need the lock. */
    g_ptr_array_set_size(self->asked, 0);
    g_ptr_array_set_size(self->served, 0);
}

void link_tests_free(LinkTests *self)
{
    g_source_remove(self->tick);
    g_ptr_array_unref(self->asked);
    g_ptr_array_unref(self->served);
    g_mutex_clear(&self->lock);
    g_free(self);
}

/* ---- asked for here --------------------------------------------------------- */

char *link_tests_start(LinkTests *self, const LinkTestRequest *request,
                       GError **error)
{
    LinkTest *test;
    char *id = NULL;

    if (self->stopping) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "the daemon is stopping; it takes no new link test");
        return NULL;
    }
    test = link_test_new(self->daemon, request);
    g_mutex_lock(&self->lock);
    if (check_idle(self, request->peer->name, link_test_get_id(test), error) &&
        link_test_start(test, error)) {
        id = g_strdup(link_test_get_id(test));
        g_ptr_array_add(self->asked, test);
        forget(self);
    } else {
        link_test_free(test);
    }
    g_mutex_unlock(&self->lock);
    return id;
}

/* With the lock held; the newest. */
static LinkTest *find(LinkTests *self, const char *id, GError **error)
{
    for (unsigned i = self->asked->len; i > 0; i--) {
        LinkTest *test = g_ptr_array_index(self->asked, i - 1);

        if (strcmp(link_test_get_id(test), id) == 0 ||
            (strcmp(link_test_get_peer(test), id) == 0 &&
             !link_test_is_over(test))) {
            return test;
        }
    }
    g_set_error(error, QMP_CLASS, QMP_CLASS_DEVICE_NOT_FOUND,
                "there is no link test '%s'", id);
    return NULL;
}

bool link_tests_cancel(LinkTests *self, const char *id, GError **error)
{
    LinkTest *test;

    g_mutex_lock(&self->lock);
    test = find(self, id, error);
    if (test) {
        link_test_cancel(test, "cancelled by request");
    }
    g_mutex_unlock(&self->lock);
    return test != NULL;
}

JsonArray *link_tests_to_json(LinkTests *self, const char *id, GError **error)
{
    JsonArray *list = json_array_new();
    LinkTest *one = NULL;

    g_mutex_lock(&self->lock);
    if (id) {
        one = find(self, id, error);
    }
    for (unsigned i = 0; i < self->asked->len; i++) {
        LinkTest *test = g_ptr_array_index(self->asked, i);

        if (!id || test == one) {
            json_array_add_object_element(list, link_test_to_json(test));
        }
    }
    g_mutex_unlock(&self->lock);
    if (id && !one) {
        g_clear_pointer(&list, json_array_unref);
    }
    return list;
}

/* ---- asked for by peers ----------------------------------------------------- */

static bool accept_lane(LinkTests *self, Stream *stream, const Config *config,
                        GError **error)
{
    return link_lane_accept(stream, config->name, self->daemon->instance, error);
}

/* With the lock held; NULL: refused. */
static LinkTestServer *add_server(LinkTests *self, const char *id,
                                  Config *config, const ConfigPeer *peer,
                                  GError **error)
{
    LinkTestServer *test;

    if (!check_idle(self, peer->name, id, error)) {
        return NULL;
    }
    if (self->served->len >= SERVED_MAX) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "got one more link test, allowed are %d at once",
                    SERVED_MAX);
        return NULL;
    }
    test = link_test_server_new(self->daemon, id, config, peer);
    g_ptr_array_add(self->served, test);
    return test;
}

/* What is in the list is freed only when it is over, and this one is not. */
static bool take_main(LinkTests *self, Stream **stream, const LinkHello *hello,
                      Config *config, const ConfigPeer *peer, GError **error)
{
    LinkTestServer *test;
    bool ok;

    g_mutex_lock(&self->lock);
    forget(self);
    test = add_server(self, hello->migration, config, peer, error);
    g_mutex_unlock(&self->lock);
    if (!test) {
        return false;
    }
    ok = accept_lane(self, *stream, config, error);
    /* With the lock: its thread may be through before we are, and it be freed. */
    g_mutex_lock(&self->lock);
    ok = ok && link_test_server_start(test, stream, error);
    if (!ok) {
        link_test_server_give_up(test);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

/* With the lock held. */
static LinkTestServer *find_server(LinkTests *self, const LinkHello *hello,
                                   const ConfigPeer *peer, GError **error)
{
    for (unsigned i = 0; i < self->served->len; i++) {
        LinkTestServer *test = g_ptr_array_index(self->served, i);

        if (strcmp(link_test_server_get_id(test), hello->migration) == 0 &&
            strcmp(link_test_server_get_peer(test), peer->name) == 0 &&
            !link_test_server_is_over(test)) {
            return test;
        }
    }
    g_set_error(error, QMP_CLASS, QMP_CLASS_DEVICE_NOT_FOUND,
                "there is no link test %s here", hello->migration);
    return NULL;
}

/* Looked for anew after the answer, for meanwhile it may have ended. */
static bool take_bulk(LinkTests *self, Stream **stream, const LinkHello *hello,
                      Config *config, const ConfigPeer *peer, GError **error)
{
    LinkTestServer *test;
    bool ok;

    g_mutex_lock(&self->lock);
    test = find_server(self, hello, peer, error);
    ok = test && !link_test_server_has_lane(test, hello->lane);
    if (test && !ok) {
        g_set_error(error, QMP_CLASS, QMP_CLASS_GENERIC,
                    "the link test has that bulk lane already");
    }
    g_mutex_unlock(&self->lock);
    if (!ok || !accept_lane(self, *stream, config, error)) {
        return false;
    }
    g_mutex_lock(&self->lock);
    test = find_server(self, hello, peer, error);
    ok = test && link_test_server_put_lane(test, hello->lane, stream, error);
    g_mutex_unlock(&self->lock);
    return ok;
}

bool link_tests_take_lane(LinkTests *self, Stream **stream,
                          const LinkHello *hello, Config *config,
                          const ConfigPeer *peer, GError **error)
{
    return hello->role == LINK_ROLE_TEST
           ? take_main(self, stream, hello, config, peer, error)
           : take_bulk(self, stream, hello, config, peer, error);
}
