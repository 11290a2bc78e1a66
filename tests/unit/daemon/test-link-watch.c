/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who is made anew: a lane that is silent although its path is good, and nobody else.
 * Two paths, a listener that takes connections and a port where nobody is.
 */
#include <unistd.h>

#include "daemon/address-paths.h"
#include "daemon/link-watch.h"
#include "tests/unit/daemon/link-fixture.h"

enum { N_LANES = 4, BELL_MAIN = N_LANES };

typedef struct {
    LinkFixtureBell bell;       /* by lane */
    LinkWatchLane lanes[N_LANES], main;
    ConfigPeer peer;
    int good;
} Fixture;

static bool get_lane(int lane, LinkWatchLane *ret, void *data)
{
    Fixture *self = data;

    if (lane < N_LANES) {
        *ret = lane == LINK_WATCH_MAIN ? self->main : self->lanes[lane];
    }
    return lane < N_LANES;
}

static void remake_lane(int lane, bool home, void *data)
{
    Fixture *self = data;

    g_assert_false(home);
    link_fixture_ring(&self->bell, lane == LINK_WATCH_MAIN ? BELL_MAIN : lane);
}

static bool may_move(void *data G_GNUC_UNUSED)
{
    return true;
}

/* A port that was given to us, and where nobody listens any more. */
static Address *make_dead(void)
{
    g_autoptr(Address) any = address_parse("127.0.0.1:0", NULL);
    int fd = address_listen(any, 1, 0, NULL);
    Address *address = address_of_listener(fd, NULL);

    close(fd);
    return address;
}

static void fixture_init(Fixture *self)
{
    g_autoptr(Address) any = address_parse("127.0.0.1:0", NULL);
    g_autoptr(Address) good = NULL;

    self->good = address_listen(any, 100, 0, NULL);
    good = address_of_listener(self->good, NULL);
    self->peer.name = (char *)"dc2";
    self->peer.address = make_dead();
    self->peer.paths = address_paths_parse(strchr(good->text, ':') + 1, NULL);
    g_assert_nonnull(self->peer.paths);
    self->main.up = true;
    for (unsigned i = 0; i < N_LANES; i++) {
        self->lanes[i].up = true;
        self->lanes[i].path = i % 2;
    }
}

static void fixture_clear(Fixture *self)
{
    close(self->good);
    address_free(self->peer.address);
    g_ptr_array_unref(self->peer.paths);
}

static LinkWatch *start(Fixture *self)
{
    LinkWatchSetup setup = {
        .peer = &self->peer, .get_lane = get_lane, .remake_lane = remake_lane,
        .may_move = may_move, .data = self,
    };

    return link_watch_new(&setup);
}

/* All but one have a reason to be left alone; that one is the last to be looked at. */
static void test_silent_on_a_good_path(void)
{
    Fixture self = { 0 };
    LinkWatch *watch;

    fixture_init(&self);
    self.main.stuck_ms = 10 * 1000;         /* on path 0, which is dead */
    self.lanes[0].stuck_ms = 10 * 1000;     /* likewise */
    self.lanes[2].path = 1;
    self.lanes[1].stuck_ms = 100;           /* for a moment only */
    self.lanes[2].stuck_ms = 10 * 1000;     /* down, and made anew already */
    self.lanes[2].up = false;
    self.lanes[3].stuck_ms = 10 * 1000;
    watch = start(&self);
    link_fixture_wait(&self.bell, 3);
    link_watch_free(watch);
    for (unsigned i = 0; i < N_LANES; i++) {
        g_assert_cmpuint(link_fixture_count(&self.bell, i) > 0, ==, i == 3);
    }
    g_assert_cmpuint(link_fixture_count(&self.bell, BELL_MAIN), ==, 0);
    fixture_clear(&self);
}

/* The main lane is one of them. */
static void test_main_lane(void)
{
    Fixture self = { 0 };
    LinkWatch *watch;

    fixture_init(&self);
    self.main.stuck_ms = 10 * 1000;
    self.main.path = 1;
    watch = start(&self);
    link_fixture_wait(&self.bell, BELL_MAIN);
    link_watch_free(watch);
    fixture_clear(&self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link/watch/silent-on-a-good-path",
                    test_silent_on_a_good_path);
    g_test_add_func("/link/watch/main-lane", test_main_lane);
    return g_test_run();
}
