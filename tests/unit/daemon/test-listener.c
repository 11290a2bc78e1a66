/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who connects to where a source QEMU is expected: what is taken for a main or a
 * multifd channel, and how everybody else is got rid of.
 */
#include "daemon/address.h"
#include "daemon/listener.h"
#include "tests/unit/daemon/link-fixture.h"
#include "wire/error.h"

enum { LONG_MS = 60000, TAKEN = 0, REFUSED = 1, ASKED = 2 };

typedef struct {
    Listener *listener;
    Address *address;
    LinkFixtureBell bell;
    gint preempt_allowed;       /* atomic */
    GMutex lock;                /* guards all below */
    Arrival arrival;            /* the last; its stream is owned */
    char *refusal;
} Fixture;

static bool on_arrival(Arrival *arrival, void *data,
                       GError **error G_GNUC_UNUSED)
{
    Fixture *self = data;

    g_mutex_lock(&self->lock);
    stream_free(self->arrival.stream);
    self->arrival = *arrival;
    arrival->stream = NULL;
    g_mutex_unlock(&self->lock);
    link_fixture_ring(&self->bell, TAKEN);
    return true;
}

static void on_refused(const GError *error, void *data)
{
    Fixture *self = data;

    g_mutex_lock(&self->lock);
    g_free(self->refusal);
    self->refusal = g_strdup(error->message);
    g_mutex_unlock(&self->lock);
    link_fixture_ring(&self->bell, REFUSED);
}

static bool may_be_preempt(void *data)
{
    Fixture *self = data;

    link_fixture_ring(&self->bell, ASKED);
    return g_atomic_int_get(&self->preempt_allowed);
}

static Fixture *fixture_new(unsigned first_bytes_ms)
{
    Fixture *self = g_new0(Fixture, 1);
    ListenerSetup setup = {
        .name = "test", .first_bytes_ms = first_bytes_ms,
        .handler = on_arrival, .refused = on_refused,
        .may_be_preempt = may_be_preempt, .data = self,
    };
    g_autoptr(Address) any = address_parse("127.0.0.1:0", NULL);
    int fd = address_listen(any, 64, 0, NULL);

    g_assert_cmpint(fd, >=, 0);
    self->address = address_of_listener(fd, NULL);
    self->listener = listener_new(fd, &setup);
    return self;
}

static void fixture_free(Fixture *self)
{
    listener_free(self->listener);
    stream_free(self->arrival.stream);
    address_free(self->address);
    g_free(self->refusal);
    g_free(self);
}

static Stream *connect_to(Fixture *self)
{
    int fd = address_connect(self->address, LONG_MS, NULL, NULL);

    g_assert_cmpint(fd, >=, 0);
    return stream_new(fd, "listener");
}

/* The listener has closed it, and said nothing. */
static void assert_closed(Stream *stream)
{
    char byte;

    g_assert_cmpint(stream_read(stream, &byte, 1, NULL), <=, 0);
    stream_free(stream);
}

static void sample_init(uint8_t buf[MULTIFD_INIT_SIZE])
{
    MultifdInit init = { .id = 5 };

    memcpy(init.uuid, link_fixture_uuid, sizeof(init.uuid));
    multifd_init_encode(&init, buf);
}

/* ---- what a QEMU says ---------------------------------------------------------- */

static void test_main_is_known_by_its_magic(void)
{
    Fixture *self = fixture_new(LONG_MS);
    g_autoptr(Stream) stream = connect_to(self);

    g_assert_true(stream_write(stream, "QEVM", 4, NULL));
    link_fixture_wait(&self->bell, TAKEN);
    g_assert_cmpint(self->arrival.kind, ==, ARRIVAL_MAIN);
    fixture_free(self);
}

/* In pieces of one byte, as slow as they may come. */
static void test_init_is_read_in_pieces(void)
{
    Fixture *self = fixture_new(LONG_MS);
    g_autoptr(Stream) stream = connect_to(self);
    uint8_t buf[MULTIFD_INIT_SIZE];

    sample_init(buf);
    for (unsigned i = 0; i < sizeof(buf); i++) {
        g_assert_cmpuint(link_fixture_count(&self->bell, TAKEN), ==, 0);
        g_assert_true(stream_write(stream, buf + i, 1, NULL));
    }
    link_fixture_wait(&self->bell, TAKEN);
    g_assert_cmpint(self->arrival.kind, ==, ARRIVAL_CHANNEL);
    g_assert_cmpuint(self->arrival.init.id, ==, 5);
    g_assert_cmpmem(self->arrival.init.uuid, 16, link_fixture_uuid, 16);
    fixture_free(self);
}

/* Both halves of a paused postcopy are there: its main channel has no header. */
static void test_main_may_begin_with_a_command(void)
{
    static const uint8_t resume[4] = { 0x08, 0x00, 0x0a, 0x00 };
    Fixture *self = fixture_new(LONG_MS);
    g_autoptr(Stream) stream = connect_to(self);

    g_assert_true(stream_write(stream, resume, sizeof(resume), NULL));
    link_fixture_wait(&self->bell, TAKEN);
    g_assert_cmpint(self->arrival.kind, ==, ARRIVAL_MAIN);
    g_assert_cmpmem(self->arrival.start, self->arrival.start_len, resume,
                    sizeof(resume));
    fixture_free(self);
}

/* ---- the preempt channel --------------------------------------------------------- */

/* It connects before anybody knows that there can be one, and says nothing. */
static void test_silent_one_is_taken_once_it_may_be(void)
{
    Fixture *self = fixture_new(LONG_MS);
    g_autoptr(Stream) stream G_GNUC_UNUSED = connect_to(self);

    link_fixture_wait(&self->bell, ASKED);
    g_assert_cmpuint(link_fixture_count(&self->bell, TAKEN), ==, 0);
    g_atomic_int_set(&self->preempt_allowed, 1);
    link_fixture_wait(&self->bell, TAKEN);
    g_assert_cmpint(self->arrival.kind, ==, ARRIVAL_PREEMPT);
    g_assert_cmpuint(self->arrival.start_len, ==, 0);
    fixture_free(self);
}

/* A page may be asked for before it was looked at for the first time. */
static void test_speaking_one_is_taken_with_its_bytes(void)
{
    static const uint8_t page[4] = { 0, 0, 0, 1 };
    Fixture *self = fixture_new(LONG_MS);
    g_autoptr(Stream) stream = NULL;

    g_atomic_int_set(&self->preempt_allowed, 1);
    stream = connect_to(self);
    g_assert_true(stream_write(stream, page, sizeof(page), NULL));
    link_fixture_wait(&self->bell, TAKEN);
    g_assert_cmpint(self->arrival.kind, ==, ARRIVAL_PREEMPT);
    g_assert_cmpmem(self->arrival.start, self->arrival.start_len, page,
                    self->arrival.start_len);
    fixture_free(self);
}

/* ---- what no QEMU says --------------------------------------------------------- */

typedef struct {
    const char *path;
    unsigned at;
    uint32_t value;
    const char *refusal;        /* NULL: a stranger, who is no concern of ours */
} Spoilt;

static const Spoilt spoilt[] = {
    { "magic", 0, 0x11223345, NULL },
    { "magic-zero", 0, 0, NULL },
    { "magic-all-ones", 0, UINT32_MAX, NULL },
    { "http", 0, 0x47455420, NULL },
    { "tls", 0, 0x16030100, NULL },
    { "version-0", 4, 0, "multifd init: got version 0, allowed 1" },
    { "version-2", 4, 2, "multifd init: got version 2, allowed 1" },
    { "version-all-ones", 4, UINT32_MAX,
      "multifd init: got version 4294967295, allowed 1" },
};

/* Who claims to be a channel may have been one: the migration hears of it. */
static void test_bad_first_bytes(gconstpointer data)
{
    const Spoilt *how = data;
    Fixture *self = fixture_new(LONG_MS);
    Stream *stream = connect_to(self);
    uint8_t buf[MULTIFD_INIT_SIZE];

    sample_init(buf);
    bytes_put_be32(buf + how->at, how->value);
    g_assert_true(stream_write(stream, buf, sizeof(buf), NULL));
    assert_closed(stream);
    g_assert_cmpuint(link_fixture_count(&self->bell, TAKEN), ==, 0);
    if (how->refusal) {
        link_fixture_wait(&self->bell, REFUSED);
        g_assert_cmpstr(self->refusal, ==, how->refusal);
    }
    listener_settle(self->listener, LONG_MS);
    g_assert_cmpuint(link_fixture_count(&self->bell, REFUSED), ==,
                     how->refusal ? 1 : 0);
    fixture_free(self);
}

/* Cut off at every byte: nobody's channel, and nobody waits for it. */
static void test_init_cut_at_every_byte(void)
{
    Fixture *self = fixture_new(LONG_MS);
    uint8_t buf[MULTIFD_INIT_SIZE];

    sample_init(buf);
    for (unsigned len = 0; len < sizeof(buf); len++) {
        Stream *stream = connect_to(self);

        if (len > 0) {
            g_assert_true(stream_write(stream, buf, len, NULL));
        }
        stream_finish(stream);
        assert_closed(stream);
    }
    listener_settle(self->listener, LONG_MS);
    g_assert_cmpuint(link_fixture_count(&self->bell, TAKEN), ==, 0);
    g_assert_cmpuint(link_fixture_count(&self->bell, REFUSED), ==, 0);
    fixture_free(self);
}

static void test_silence_is_cut_off(void)
{
    Fixture *self = fixture_new(100);

    assert_closed(connect_to(self));
    g_assert_cmpuint(link_fixture_count(&self->bell, TAKEN), ==, 0);
    fixture_free(self);
}

/* Time counts from the connect on, not from the last byte. */
static void test_dripping_is_cut_off(void)
{
    Fixture *self = fixture_new(100);
    Stream *stream = connect_to(self);
    uint8_t buf[MULTIFD_INIT_SIZE];
    unsigned sent = 0;

    sample_init(buf);
    while (sent < sizeof(buf) && !stream_is_hung_up(stream) &&
           stream_write(stream, buf + sent, 1, NULL)) {
        sent++;
        g_usleep(20 * 1000);
    }
    g_assert_cmpuint(sent, <, sizeof(buf));
    assert_closed(stream);
    g_assert_cmpuint(link_fixture_count(&self->bell, TAKEN), ==, 0);
    fixture_free(self);
}

/* More silent ones than are taken in at once: a channel gets in all the same. */
static void test_crowd_keeps_nobody_out(void)
{
    Fixture *self = fixture_new(1000);
    Stream *silent[300];
    g_autoptr(Stream) stream = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(silent); i++) {
        silent[i] = connect_to(self);
    }
    stream = connect_to(self);
    g_assert_true(stream_write(stream, "QEVM", 4, NULL));
    link_fixture_wait(&self->bell, TAKEN);
    for (unsigned i = 0; i < G_N_ELEMENTS(silent); i++) {
        stream_free(silent[i]);
    }
    fixture_free(self);
}

static void test_free_waits_for_nobody(void)
{
    Fixture *self = fixture_new(LONG_MS);
    Stream *stream = connect_to(self);

    g_assert_true(stream_write(stream, "QEV", 3, NULL));
    fixture_free(self);
    assert_closed(stream);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add_func("/daemon/listener/" path, func)
    ADD("main-is-known-by-its-magic", test_main_is_known_by_its_magic);
    ADD("main-may-begin-with-a-command", test_main_may_begin_with_a_command);
    ADD("init-is-read-in-pieces", test_init_is_read_in_pieces);
    ADD("preempt/silent-one-is-taken-once-it-may-be",
        test_silent_one_is_taken_once_it_may_be);
    ADD("preempt/speaking-one-is-taken-with-its-bytes",
        test_speaking_one_is_taken_with_its_bytes);
    for (size_t i = 0; i < G_N_ELEMENTS(spoilt); i++) {
        g_autofree char *path = g_strconcat("/daemon/listener/rejects/",
                                            spoilt[i].path, NULL);

        g_test_add_data_func(path, &spoilt[i], test_bad_first_bytes);
    }
    ADD("rejects/init-cut-at-every-byte", test_init_cut_at_every_byte);
    ADD("silence-is-cut-off", test_silence_is_cut_off);
    ADD("dripping-is-cut-off", test_dripping_is_cut_off);
    ADD("crowd-keeps-nobody-out", test_crowd_keeps_nobody_out);
    ADD("free-waits-for-nobody", test_free_waits_for_nobody);
    return g_test_run();
}
