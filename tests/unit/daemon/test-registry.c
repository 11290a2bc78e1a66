/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry with migrations whose bodies do nothing but wait to be cancelled.
 */
#include "daemon/registry.h"

#include "daemon/migration-private.h"

#define MIB (UINT64_C(1024) * 1024)

typedef struct {
    Config config;
    ConfigPeer peer;
    Daemon daemon;
} Fixture;

static void begin(Fixture *self)
{
    *self = (Fixture) {
        .config = { .memory = 100 * MIB, .migration_memory = 40 * MIB,
                    .max_migrations = 3 },
        .peer = { .name = (char *)"dc2" },
    };
    /* One reference is ours; the arrays are not looked into. */
    g_atomic_ref_count_init(&self->config.refs);
    self->config.peers = g_ptr_array_new();
    daemon_init(&self->daemon, &self->config);
    self->daemon.registry = registry_new(&self->config);
}

static void end(Fixture *self)
{
    registry_join(self->daemon.registry);
    while (g_main_context_iteration(NULL, FALSE)) {
        /* events that are still on their way */
    }
    registry_free(self->daemon.registry);
    daemon_clear(&self->daemon);
    g_ptr_array_unref(self->config.peers);
}

static bool wait_for_cancel(Migration *migration, void *data, GError **error)
{
    (void)data;
    while (!migration_is_cancelled(migration)) {
        g_autoptr(Message) message = migration_wait(migration, 60000);

        g_assert_cmpint(message->kind, !=, MESSAGE_NOTHING);
    }
    g_set_error_literal(error, MIGRATION_ERROR, MIGRATION_ERROR_CANCELLED,
                        "cancelled by request");
    return false;
}

static Migration *make(Fixture *self, MigrationKind kind, MigrationRole role,
                       const char *name)
{
    return migration_new(&(MigrationSetup) {
        .daemon = &self->daemon, .kind = kind, .role = role, .name = name,
        .body = wait_for_cancel,
    });
}

static void assert_enters(Migration *migration)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(migration_enter(migration, &error));
    g_assert_no_error(error);
}

static void assert_refused(Migration *migration, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(migration_enter(migration, &error));
    g_assert_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED);
    g_assert_nonnull(strstr(error->message, part));
}

/* ---- entering ------------------------------------------------------------------ */

static void test_bounds_how_many_run(void)
{
    static const char *const names[] = { "a", "b", "c", "d" };
    Migration *all[4];
    Fixture self;

    begin(&self);
    for (unsigned i = 0; i < 4; i++) {
        all[i] = make(&self, MIGRATION_TUNNEL, MIGRATION_RELAY, names[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_enters(all[i]);
    }
    assert_refused(all[3], "max-migrations");
    g_assert_cmpuint(registry_count_running(self.daemon.registry), ==, 3);
    migration_leave(all[1]);
    assert_enters(all[3]);
    for (unsigned i = 0; i < 4; i++) {
        if (i != 1) {
            migration_leave(all[i]);
        }
        migration_unref(all[i]);
    }
    g_assert_cmpuint(registry_count_running(self.daemon.registry), ==, 0);
    end(&self);
}

/* Two drivers of one QEMU would undo each other's parameters. */
static void test_one_migration_of_a_vm(void)
{
    g_autoptr(Migration) first = NULL, twin = NULL, tunnel = NULL, far = NULL;
    Fixture self;

    begin(&self);
    first = make(&self, MIGRATION_MANAGED, MIGRATION_SOURCE, "db1");
    twin = make(&self, MIGRATION_MANAGED, MIGRATION_SOURCE, "db1");
    tunnel = make(&self, MIGRATION_TUNNEL, MIGRATION_SOURCE, "db1");
    /* A daemon may be its own peer. */
    far = make(&self, MIGRATION_MANAGED, MIGRATION_DESTINATION, "db1");
    assert_enters(first);
    assert_refused(twin, migration_get_id(first));
    assert_enters(tunnel);
    assert_enters(far);
    migration_leave(far);
    migration_leave(tunnel);
    migration_leave(first);
    assert_enters(twin);
    migration_leave(twin);
    end(&self);
}

/* The far side learns its VM from its peer: the same rule then. */
static void test_claim_is_checked(void)
{
    g_autoptr(Migration) one = NULL, two = NULL;
    g_autoptr(GError) error = NULL;
    Fixture self;

    begin(&self);
    one = make(&self, MIGRATION_MANAGED, MIGRATION_DESTINATION, "-");
    two = make(&self, MIGRATION_TUNNEL, MIGRATION_DESTINATION, "--");
    assert_enters(one);
    assert_enters(two);
    g_assert_true(registry_claim(self.daemon.registry, one, MIGRATION_MANAGED,
                                 "db1", NULL));
    g_assert_false(registry_claim(self.daemon.registry, two, MIGRATION_MANAGED,
                                  "db1", &error));
    g_assert_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED);
    g_assert_cmpstr(one->name, ==, "db1");
    g_assert_cmpstr(two->name, ==, "--");               /* left alone */
    g_assert_cmpint(two->kind, ==, MIGRATION_TUNNEL);
    g_assert_true(registry_claim(self.daemon.registry, two, MIGRATION_MANAGED,
                                 "db2", NULL));
    migration_leave(one);
    migration_leave(two);
    end(&self);
}

/* All shares together stay below the daemon's; a low rest is given out thinly. */
static void test_memory_is_shared_out(void)
{
    Migration *all[32];
    g_autoptr(Migration) last = NULL;
    uint64_t used = 0;
    unsigned n = 0;
    Fixture self;

    begin(&self);
    self.config.max_migrations = 1000;
    for (; n < G_N_ELEMENTS(all); n++) {
        g_autofree char *name = g_strdup_printf("t%u", n);
        g_autoptr(GError) error = NULL;

        all[n] = make(&self, MIGRATION_TUNNEL, MIGRATION_RELAY, name);
        if (!migration_enter(all[n], &error)) {
            g_assert_error(error, MIGRATION_ERROR, MIGRATION_ERROR_REFUSED);
            g_assert_nonnull(strstr(error->message, "memory: "));
            break;
        }
        used += all[n]->memory;
        g_assert_cmpuint(all[n]->memory, >=, 8 * MIB);
        g_assert_cmpuint(all[n]->memory, <=, 40 * MIB);
        g_assert_cmpuint(used, <=, 100 * MIB);
    }
    g_assert_cmpuint(n, >, 2);
    g_assert_cmpuint(n, <, G_N_ELEMENTS(all));
    migration_unref(all[n]);
    while (n > 0) {
        migration_leave(all[--n]);
        migration_unref(all[n]);
    }
    /* All of it has come back. */
    last = make(&self, MIGRATION_TUNNEL, MIGRATION_RELAY, "last");
    assert_enters(last);
    g_assert_cmpuint(last->memory, ==, 100 * MIB / 8);
    migration_leave(last);
    end(&self);
}

/* ---- looking ----------------------------------------------------------------------- */

static void test_found_by_id_and_name(void)
{
    g_autoptr(Migration) source = NULL, destination = NULL;
    Registry *registry;
    Migration *found;
    Fixture self;

    begin(&self);
    registry = self.daemon.registry;
    source = make(&self, MIGRATION_MANAGED, MIGRATION_SOURCE, "db1");
    destination = migration_new(&(MigrationSetup) {
        .daemon = &self.daemon, .id = migration_get_id(source),
        .kind = MIGRATION_MANAGED, .role = MIGRATION_DESTINATION,
        .name = "db1", .peer = &self.peer, .body = wait_for_cancel,
    });
    assert_enters(source);
    assert_enters(destination);
    g_assert_cmpstr(migration_get_id(source), ==,
                    migration_get_id(destination));

    /* The source side paces, so it is meant. */
    found = registry_find(registry, "db1");
    g_assert_true(found == source);
    migration_unref(found);
    found = registry_find(registry, migration_get_id(source));
    g_assert_true(found == source);
    migration_unref(found);
    found = registry_find_destination(registry, migration_get_id(source));
    g_assert_true(found == destination);
    migration_unref(found);
    g_assert_null(registry_find(registry, "db2"));
    g_assert_cmpuint(registry_count_of_peer(registry, &self.peer), ==, 1);

    migration_leave(destination);
    migration_leave(source);
    /* A finished one is found by its id alone: the VM's name is free again. */
    g_assert_null(registry_find(registry, "db1"));
    g_assert_null(registry_find_destination(registry,
                                            migration_get_id(source)));
    found = registry_find(registry, migration_get_id(source));
    g_assert_true(found == source);
    migration_unref(found);
    g_assert_cmpuint(registry_count_of_peer(registry, &self.peer), ==, 0);
    end(&self);
}

/* A daemon that runs for years must not remember all of them. */
static void test_finished_are_bounded(void)
{
    g_autoptr(Migration) running = NULL;
    g_autoptr(GPtrArray) all = NULL;
    char *first = NULL;
    Fixture self;

    begin(&self);
    running = make(&self, MIGRATION_TUNNEL, MIGRATION_RELAY, "running");
    assert_enters(running);
    for (unsigned i = 0; i < 120; i++) {
        g_autoptr(Migration) one = make(&self, MIGRATION_TUNNEL,
                                        MIGRATION_RELAY, "one");

        assert_enters(one);
        migration_leave(one);
        first = first ? first : g_strdup(migration_get_id(one));
    }
    all = registry_list(self.daemon.registry);
    g_assert_cmpuint(all->len, ==, 101);
    g_assert_true(g_ptr_array_index(all, 100) == running);
    g_assert_null(registry_find(self.daemon.registry, first));
    migration_leave(running);
    g_free(first);
    end(&self);
}

/* ---- events and end ------------------------------------------------------------------ */

typedef struct {
    GThread *thread;
    unsigned n;
    char *last;
} Heard;

static void hear(const char *event, JsonObject *data, void *sink_data)
{
    Heard *heard = sink_data;

    g_assert_true(g_thread_self() == heard->thread);
    heard->n++;
    g_free(heard->last);
    heard->last = g_strdup(event);
    json_object_unref(data);
}

static void *emit_elsewhere(void *data)
{
    registry_emit(data, "FIRST", json_object_new());
    registry_emit(data, "SECOND", json_object_new());
    return NULL;
}

/* The control socket lives on the main loop; migrations do not. */
static void test_events_come_on_the_main_loop(void)
{
    Heard heard = { .thread = g_thread_self() };
    Fixture self;

    begin(&self);
    registry_set_sink(self.daemon.registry, hear, &heard);
    g_thread_join(g_thread_new("emit", emit_elsewhere, self.daemon.registry));
    g_assert_cmpuint(heard.n, ==, 0);
    while (heard.n < 2) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpstr(heard.last, ==, "SECOND");
    registry_set_sink(self.daemon.registry, NULL, NULL);
    registry_emit(self.daemon.registry, "NOBODY", json_object_new());
    end(&self);
    g_assert_cmpuint(heard.n, ==, 2);
    g_free(heard.last);
}

/* A daemon that is told to stop leaves no migration half done, and begins none. */
static void test_stop_cancels_and_refuses(void)
{
    g_autoptr(Migration) one = NULL, two = NULL, late = NULL;
    Fixture self;

    begin(&self);
    one = make(&self, MIGRATION_TUNNEL, MIGRATION_RELAY, "one");
    two = make(&self, MIGRATION_MANAGED, MIGRATION_SOURCE, "two");
    late = make(&self, MIGRATION_TUNNEL, MIGRATION_RELAY, "late");
    g_assert_true(migration_start(one, NULL));
    g_assert_true(migration_start(two, NULL));
    registry_stop(self.daemon.registry);
    g_assert_cmpuint(registry_count_running(self.daemon.registry), ==, 0);
    g_assert_cmpint(migration_get_state(one), ==, MIGRATION_CANCELLED);
    g_assert_cmpint(migration_get_state(two), ==, MIGRATION_CANCELLED);
    assert_refused(late, "stopping");
    end(&self);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/registry/" path, func)
    ADD("bounds-how-many-run", test_bounds_how_many_run);
    ADD("one-migration-of-a-vm", test_one_migration_of_a_vm);
    ADD("claim-is-checked", test_claim_is_checked);
    ADD("memory-is-shared-out", test_memory_is_shared_out);
    ADD("found-by-id-and-name", test_found_by_id_and_name);
    ADD("finished-are-bounded", test_finished_are_bounded);
    ADD("events-come-on-the-main-loop", test_events_come_on_the_main_loop);
    ADD("stop-cancels-and-refuses", test_stop_cancels_and_refuses);
    return g_test_run();
}
