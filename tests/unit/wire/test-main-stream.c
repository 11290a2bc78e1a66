/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The main channel's parser on streams made by hand; real ones are in
 * test-captures.c.
 */
#include "tests/unit/wire/main-stream-fixture.h"

/* ---- making streams ---- */

static void put_config(GByteArray *s)
{
    put(s, 0x07, 1);
    put(s, 14, 4);
    put_text(s, "pc-i440fx-10.0");
}

static void put_subsection(GByteArray *s, const char *name, uint32_t version)
{
    put(s, 0x05, 1);
    put_name(s, name);
    put(s, version, 4);
}

static void put_command(GByteArray *s, uint16_t command, uint16_t length)
{
    put(s, 0x08, 1);
    put(s, command, 2);
    put(s, length, 2);
}

static GByteArray *header(void)
{
    GByteArray *s = g_byte_array_new();

    put_text(s, "QEVM");
    put(s, 3, 4);
    return s;
}

static GByteArray *prologue(void)
{
    GByteArray *s = header();

    put_config(s);
    put_command(s, 1, 0);
    return s;
}

static void put_start(GByteArray *s, const char *name, uint32_t version)
{
    put_section_start(s, name, 2, version);
}

static void put_block(GByteArray *s, const char *name, uint64_t used_length)
{
    put_name(s, name);
    put(s, used_length, 8);
}

static void put_footer(GByteArray *s)
{
    put_section_footer(s, 2);
}

/* RAM START up to the end of the list: one block "m" of 64 KiB. */
static GByteArray *listed(void)
{
    GByteArray *s = prologue();

    put_start(s, "ram", 4);
    put(s, 0x10000 | 0x04, 8);
    put_block(s, "m", 0x10000);
    return s;
}

/* The whole of RAM START, in the mode of MULTIFD_FLUSH or the other. */
static GByteArray *started(bool per_round)
{
    GByteArray *s = listed();

    if (per_round) {
        put(s, 0x200, 8);
    }
    put(s, 0x10, 8);
    put_footer(s);
    return s;
}

static void put_part(GByteArray *s)
{
    put(s, 0x02, 1);
    put(s, 2, 4);
}

/* ---- what comes of them ---- */

/* The k-th event (from 0) is of this kind; returns it. */
static const MainEvent *assert_event(const Outcome *o, unsigned k,
                                     MainEventKind kind)
{
    g_assert_cmpstr(o->error, ==, NULL);
    g_assert_cmpuint(k, <, o->n_events);
    g_assert_cmpint(o->events[k].kind, ==, kind);
    return &o->events[k];
}

/* ---- header and configuration ---- */

static void test_rejects_other_magic_and_version(void)
{
    GByteArray *s = g_byte_array_new();

    put_text(s, "\x11\x22\x33\x44");
    assert_broken(s, "offset 0: got magic 0x11223344, allowed 0x5145564d");
    s = g_byte_array_new();
    put_text(s, "QEVM");
    put(s, 2, 4);
    assert_broken(s, "offset 4: got stream version 2, allowed 3");
    s = g_byte_array_new();
    put_text(s, "QEVM");
    put(s, UINT32_MAX, 4);
    assert_broken(s, "got stream version 4294967295");
}

static void test_learns_the_configuration(void)
{
    GByteArray *s = header();
    g_auto(Outcome) o;
    uint8_t uuid[16];

    put_config(s);
    put_subsection(s, "configuration/target-page-bits", 1);
    put(s, 14, 4);
    put_subsection(s, "configuration/capabilities", 1);
    put(s, 1, 4);
    put_name(s, "x-ignore-shared");
    put_subsection(s, "configuration/uuid", 1);
    put_text(s, "0123456789abcdef");
    put_command(s, 1, 0);
    outcome_init(&o, s);
    assert_event(&o, 0, MAIN_EVENT_CONFIGURATION);
    assert_event(&o, 1, MAIN_EVENT_RETURN_PATH);
    g_assert_cmpuint(o.n_events, ==, 2);
    g_assert_cmpstr(main_stream_get_machine(o.stream), ==, "pc-i440fx-10.0");
    g_assert_cmpuint(main_stream_get_page_size(o.stream), ==, 16384);
    g_assert_true(main_stream_get_uuid(o.stream, uuid));
    g_assert_cmpmem(uuid, 16, "0123456789abcdef", 16);
    g_assert_true(main_stream_has_return_path(o.stream));
}

static void test_knows_nothing_before(void)
{
    g_autoptr(MainStream) stream = main_stream_new();
    uint8_t uuid[16];

    g_assert_null(main_stream_get_machine(stream));
    g_assert_cmpuint(main_stream_get_page_size(stream), ==, 0);
    g_assert_false(main_stream_get_uuid(stream, uuid));
    g_assert_false(main_stream_has_return_path(stream));
    g_assert_cmpint(main_stream_get_sync_mode(stream), ==, MAIN_SYNC_UNKNOWN);
    g_assert_cmpuint(ramblock_table_get_count(
        main_stream_get_ramblocks(stream)), ==, 0);
    g_assert_null(main_stream_get_opaque_reason(stream));
}

static void test_bounds_the_machine_name(void)
{
    static const uint32_t lengths[] = { 0, 256, UINT32_MAX };

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        GByteArray *s = header();

        put(s, 0x07, 1);
        put(s, lengths[i], 4);
        assert_broken(s, "allowed 1 to 255");
    }
}

static void test_bounds_page_bits(void)
{
    static const uint32_t bits[] = { 0, 9, 17, 64, UINT32_MAX };

    for (size_t i = 0; i < G_N_ELEMENTS(bits); i++) {
        GByteArray *s = header();

        put_config(s);
        put_subsection(s, "configuration/target-page-bits", 1);
        put(s, bits[i], 4);
        assert_broken(s, "allowed 10 to 16");
    }
}

static void test_bounds_capabilities(void)
{
    static const uint32_t counts[] = { 65, UINT32_MAX };
    GByteArray *s;

    for (size_t i = 0; i < G_N_ELEMENTS(counts); i++) {
        s = header();
        put_config(s);
        put_subsection(s, "configuration/capabilities", 1);
        put(s, counts[i], 4);
        assert_broken(s, "capabilities, allowed at most 64");
    }
    s = header();
    put_config(s);
    put_subsection(s, "configuration/capabilities", 1);
    put(s, 64, 4);
    put(s, 0, 1);
    assert_broken(s, "got an empty capability name, allowed 1 to 255 bytes");
    s = header();
    put_config(s);
    put(s, 0x05, 1);
    put(s, 0, 1);
    assert_broken(s, "got an empty configuration subsection name");
}

static void test_unknown_configuration_is_opaque(void)
{
    GByteArray *s = header();

    put_config(s);
    put_subsection(s, "configuration/new", 1);
    assert_opaque(s, "subsection 'configuration/new' is not known");
    s = header();
    put_config(s);
    put_subsection(s, "configuration/uuid", 2);
    assert_opaque(s, "version 2 of 'configuration/uuid'");
    s = header();
    put_config(s);
    put_subsection(s, "configuration/capabilities", 1);
    put(s, 1, 4);
    put_name(s, "x-new");
    assert_opaque(s, "capability 'x-new'");
}

static void test_configuration_is_optional_but_first(void)
{
    GByteArray *s = header();
    g_auto(Outcome) o;

    put_command(s, 1, 0);
    outcome_init(&o, s);
    assert_event(&o, 0, MAIN_EVENT_RETURN_PATH);
    s = header();
    put_command(s, 1, 0);
    put_config(s);
    assert_broken(s, "got a CONFIGURATION section, allowed only as the first");
    s = header();
    put_config(s);
    put_config(s);
    assert_broken(s, "got a CONFIGURATION section");
}

/* ---- commands ---- */

static void test_command_lengths_are_checked(void)
{
    static const struct { uint16_t command, length; } rows[] = {
        { 1, 4 }, { 2, 0 }, { 2, 8 }, { 3, 8 }, { 4, 1 }, { 5, 1 }, { 7, 0 },
        { 8, 4 }, { 9, 4 }, { 11, UINT16_MAX },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        GByteArray *s = prologue();

        put_command(s, rows[i].command, rows[i].length);
        assert_broken(s, "got command ");
    }
}

static void test_command_zero_is_refused_and_unknown_is_opaque(void)
{
    GByteArray *s = prologue();

    put_command(s, 0, 0);
    assert_broken(s, "got command 0");
    s = prologue();
    put_command(s, 12, 0);
    assert_opaque(s, "command 12 is not known");
    s = prologue();
    put_command(s, UINT16_MAX, UINT16_MAX);
    assert_opaque(s, "command 65535 is not known");
    s = prologue();
    put_command(s, 8, 0);
    assert_opaque(s, "COLO");
}

static void test_commands_with_data_are_passed_over(void)
{
    GByteArray *s = prologue();
    g_auto(Outcome) o;
    guint at;

    put_command(s, 2, 4);
    put(s, UINT32_MAX, 4);
    put_command(s, 6, 300);
    for (int i = 0; i < 300; i++) {
        put(s, 0x55, 1);
    }
    put_command(s, 10, 3);
    put_name(s, "bm");
    at = s->len;
    put_command(s, 11, 0);
    outcome_init(&o, s);
    g_assert_cmpuint(assert_event(&o, 2, MAIN_EVENT_SWITCHOVER)->offset, ==,
                     at);
    g_assert_cmpuint(o.n_events, ==, 3);
}

static void put_advise(GByteArray *s, uint64_t pages, uint64_t page_size)
{
    put_command(s, 3, 16);
    put(s, pages, 8);
    put(s, page_size, 8);
}

static void test_advise_tells_the_page_size(void)
{
    static const uint64_t bad[] = { 0, 512, 4097, 131072, UINT64_MAX };
    GByteArray *s = prologue();
    g_auto(Outcome) o;

    put_advise(s, 0x1000, 8192);
    outcome_init(&o, s);
    assert_event(&o, 2, MAIN_EVENT_POSTCOPY_ADVISE);
    g_assert_cmpuint(main_stream_get_page_size(o.stream), ==, 8192);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        s = prologue();
        put_advise(s, 0x1000, bad[i]);
        assert_broken(s, "in POSTCOPY_ADVISE, allowed");
    }
    s = header();
    put_config(s);
    put_subsection(s, "configuration/target-page-bits", 1);
    put(s, 14, 4);
    put_advise(s, 0x4000, 4096);
    assert_broken(s, "got target page size 4096 in POSTCOPY_ADVISE, allowed "
                  "16384");
}

/* Advice without data is for bitmaps alone, and changes no layout. */
static void test_advise_for_bitmaps_is_no_postcopy(void)
{
    GByteArray *s = prologue();
    g_auto(Outcome) o;

    put_command(s, 3, 0);
    outcome_init(&o, s);
    g_assert_cmpuint(o.n_events, ==, 2);
    g_assert_cmpstr(o.error, ==, NULL);
}

/* ---- the package ---- */

static GByteArray *package(bool ends_in_run)
{
    GByteArray *p = g_byte_array_new();

    put_command(p, 4, 0);
    put(p, 0x04, 1);                /* a device, whose length is not known */
    for (int i = 0; i < 50; i++) {
        put(p, i, 1);
    }
    if (ends_in_run) {
        put_command(p, 5, 0);
    }
    return p;
}

static void put_package(GByteArray *s, GByteArray *p)
{
    put_command(s, 7, 4);
    put(s, p->len, 4);
    g_byte_array_append(s, p->data, p->len);
    g_byte_array_unref(p);
}

static void test_devices_in_a_package_are_passed_over(void)
{
    GByteArray *s = started(true);
    g_auto(Outcome) o;
    guint at;

    put_package(s, package(true));
    at = s->len - 5;
    put_part(s);
    put(s, 0x10, 8);
    put_footer(s);
    put_command(s, 11, 0);
    outcome_init(&o, s);
    g_assert_cmpuint(assert_event(&o, 4, MAIN_EVENT_POSTCOPY_RUN)->offset, ==,
                     at);
    assert_event(&o, 5, MAIN_EVENT_SWITCHOVER);
    g_assert_false(main_stream_is_opaque(o.stream));
}

static void test_package_of_commands_is_read(void)
{
    GByteArray *s = started(true), *p = g_byte_array_new();
    g_auto(Outcome) o;

    put_command(p, 5, 0);
    put_package(s, p);
    put_package(s, g_byte_array_new());     /* empty */
    put_package(s, package(false));
    put_command(s, 11, 0);
    outcome_init(&o, s);
    assert_event(&o, 4, MAIN_EVENT_POSTCOPY_RUN);
    assert_event(&o, 5, MAIN_EVENT_SWITCHOVER);
    g_assert_cmpuint(o.n_events, ==, 6);
}

/* With it the source is past its last check; a PING before it says nothing. */
static void test_ping_behind_the_package_ends_the_switch(void)
{
    GByteArray *s = started(true);
    g_auto(Outcome) o;
    guint at;

    put_command(s, 2, 4);
    put(s, 2, 4);
    put_package(s, package(true));
    at = s->len + 9;
    for (unsigned i = 0; i < 2; i++) {
        put_command(s, 2, 4);
        put(s, 4, 4);
    }
    outcome_init(&o, s);
    assert_event(&o, 4, MAIN_EVENT_POSTCOPY_RUN);
    g_assert_cmpuint(assert_event(&o, 5, MAIN_EVENT_POSTCOPY_SENT)->offset, ==,
                     at);
    g_assert_cmpuint(o.n_events, ==, 6);
}

static void test_package_bounds_its_commands(void)
{
    GByteArray *s = prologue(), *p = g_byte_array_new();

    put_command(p, 2, 4);
    put_package(s, p);
    put(s, 1, 4);                   /* PING's payload, beyond the package */
    assert_broken(s, "runs beyond its package, allowed 0 bytes more");
    s = prologue();
    p = g_byte_array_new();
    put(p, 0x08, 1);
    put_package(s, p);
    put(s, 0, 4);
    assert_broken(s, "runs beyond its package");
}

/* Once multifd is silent no EOS syncs, in the old mode either. */
static void test_no_marker_after_listen(void)
{
    GByteArray *s = started(false);
    MainStreamCounts counts;
    g_auto(Outcome) o;

    put_package(s, package(true));
    put_part(s);
    put(s, 0x10, 8);
    put_footer(s);
    outcome_init(&o, s);
    g_assert_cmpuint(assert_event(&o, 3, MAIN_EVENT_MARKER)->number, ==, 1);
    assert_event(&o, 4, MAIN_EVENT_POSTCOPY_RUN);
    g_assert_cmpuint(o.n_events, ==, 5);
    main_stream_get_counts(o.stream, &counts);
    g_assert_cmpuint(counts.eos, ==, 2);
}

/* ---- a resumed migration ---- */

/* Both ends have kept what the stream before it said. */
static void test_stream_may_begin_with_a_command(void)
{
    static const unsigned codes[] = { 1, 2, 9, 10, 11 };

    for (size_t i = 0; i < G_N_ELEMENTS(codes); i++) {
        GByteArray *s = g_byte_array_new();
        g_auto(Outcome) o;

        put_command(s, codes[i], 0);
        outcome_init(&o, s);
        g_assert_cmpuint(assert_event(&o, 0, MAIN_EVENT_RESUMED)->offset, ==, 0);
        assert_event(&o, 1, MAIN_EVENT_OPAQUE);
        g_assert_cmpuint(o.n_events, ==, 2);
        g_assert_true(main_stream_has_return_path(o.stream));
    }
}

static void test_stream_does_not_begin_with_an_unknown_command(void)
{
    static const unsigned codes[] = { 0, 12, 0x100, 0xffff };

    for (size_t i = 0; i < G_N_ELEMENTS(codes); i++) {
        GByteArray *s = g_byte_array_new();

        put_command(s, codes[i], 0);
        assert_broken(s, "offset 0: got magic 0x08");
    }
}

/* ---- the block list ---- */

static const Ramblock *block_of(const Outcome *o, const char *name)
{
    return ramblock_table_find(main_stream_get_ramblocks(o->stream), name,
                               strlen(name));
}

static void test_list_sums_up(void)
{
    GByteArray *s = prologue();
    g_auto(Outcome) o;

    put_start(s, "ram", 4);
    put(s, 0x30000 | 0x04, 8);
    put_block(s, "pc.ram", 0x20000);
    put_block(s, "empty", 0);
    put_block(s, "/rom@etc/acpi", 0x10000);
    outcome_init(&o, s);
    assert_event(&o, 2, MAIN_EVENT_RAMBLOCKS);
    g_assert_cmpuint(ramblock_table_get_count(
        main_stream_get_ramblocks(o.stream)), ==, 3);
    g_assert_cmphex(block_of(&o, "pc.ram")->used_length, ==, 0x20000);
    g_assert_cmphex(block_of(&o, "pc.ram")->page_size, ==, 0);
}

static void test_list_beyond_its_total_is_refused(void)
{
    static const uint64_t lengths[] = { 0x10001, 0x20000, UINT64_MAX };

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        GByteArray *s = prologue();

        put_start(s, "ram", 4);
        put(s, 0x10000 | 0x04, 8);
        put_block(s, "m", lengths[i]);
        assert_broken(s, "allowed at most 65536, what is left of the total");
    }
}

static void test_list_names_are_checked(void)
{
    GByteArray *s = prologue();

    put_start(s, "ram", 4);
    put(s, 0x10000 | 0x04, 8);
    put_block(s, "m", 0x8000);
    put_block(s, "m", 0x8000);
    assert_broken(s, "got block 'm' twice");
    s = prologue();
    put_start(s, "ram", 4);
    put(s, 0x10000 | 0x04, 8);
    put(s, 0, 1);
    assert_broken(s, "got an empty ramblock name");
}

/* A source cannot make us hold blocks without end. */
static void test_list_of_too_many_blocks_is_refused(void)
{
    GByteArray *s = prologue();

    put_start(s, "ram", 4);
    put(s, 0x10000 | 0x04, 8);
    for (int i = 0; i <= RAMBLOCK_COUNT_MAX; i++) {
        char name[16];

        g_snprintf(name, sizeof(name), "b%d", i);
        put_block(s, name, 0);
    }
    assert_broken(s, "more than 4096 blocks");
}

/* Two blocks, as a source in postcopy writes those with the sizes given. */
static GByteArray *postcopy_list(uint64_t first, uint64_t second)
{
    GByteArray *s = prologue();

    put_advise(s, 0x201000, 4096);
    put_start(s, "ram", 4);
    put(s, 0x20000 | 0x04, 8);
    put_block(s, "a", 0x10000);
    if (first) {
        put(s, first, 8);
    }
    put_block(s, "b", 0x10000);
    if (second) {
        put(s, second, 8);
    }
    put(s, 0x200, 8);
    put(s, 0x10, 8);
    put_footer(s);
    return s;
}

/* A block has its page size on the wire only if it differs from the host's. */
static void test_list_in_postcopy_may_have_page_sizes(void)
{
    static const uint64_t sizes[][2] = {
        { 0, 0 }, { 0x200000, 0 }, { 0, 0x200000 }, { 0x200000, 0x40000000 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_auto(Outcome) o;

        outcome_init(&o, postcopy_list(sizes[i][0], sizes[i][1]));
        assert_event(&o, 3, MAIN_EVENT_RAMBLOCKS);
        assert_event(&o, 4, MAIN_EVENT_MARKER);
        g_assert_cmpuint(block_of(&o, "a")->page_size, ==, sizes[i][0]);
        g_assert_cmpuint(block_of(&o, "b")->page_size, ==, sizes[i][1]);
    }
}

static void test_list_rejects_odd_page_sizes(void)
{
    assert_broken(postcopy_list(0x201000, 0), "got ramblock page size 2101248");
    assert_broken(postcopy_list(0, 0x300000), "got ramblock page size 3145728");
}

/* With x-ignore-shared each block also has its guest address, 0 perhaps. */
static void test_list_with_guest_addresses(void)
{
    static const uint64_t sizes[] = { 0, 0x200000 };

    for (int postcopy = 0; postcopy < 2; postcopy++) {
        for (size_t i = 0; i <= (size_t)postcopy; i++) {
            GByteArray *s = header();
            g_auto(Outcome) o;

            put_config(s);
            put_subsection(s, "configuration/capabilities", 1);
            put(s, 1, 4);
            put_name(s, "x-ignore-shared");
            if (postcopy) {
                put_advise(s, 0x201000, 4096);
            }
            put_start(s, "ram", 4);
            put(s, 0x20000 | 0x04, 8);
            for (int block = 0; block < 2; block++) {
                put_block(s, block ? "b" : "a", 0x10000);
                if (sizes[i]) {
                    put(s, sizes[i], 8);
                }
                put(s, block ? 0 : UINT64_C(0x100000000), 8);
            }
            put(s, 0x200, 8);
            outcome_init(&o, s);
            assert_event(&o, o.n_events - 1, MAIN_EVENT_MARKER);
            g_assert_cmpuint(block_of(&o, "a")->page_size, ==, sizes[i]);
            g_assert_cmpuint(block_of(&o, "b")->page_size, ==, sizes[i]);
        }
    }
}

static void test_mapped_ram_is_opaque(void)
{
    GByteArray *s = header();

    put_config(s);
    put_subsection(s, "configuration/capabilities", 1);
    put(s, 1, 4);
    put_name(s, "mapped-ram");
    put_start(s, "ram", 4);
    put(s, 0x10000 | 0x04, 8);
    assert_opaque(s, "mapped-ram");
}

/* ---- records ---- */

static void test_flush_makes_the_mode_per_round(void)
{
    GByteArray *s = started(true);
    g_auto(Outcome) o;
    guint at;

    put_part(s);
    at = s->len;
    put(s, 0x200, 8);
    put(s, 0x200, 8);
    put(s, 0x10, 8);
    put_footer(s);
    outcome_init(&o, s);
    g_assert_cmpint(main_stream_get_sync_mode(o.stream), ==,
                    MAIN_SYNC_PER_ROUND);
    g_assert_cmpuint(assert_event(&o, 3, MAIN_EVENT_MARKER)->number, ==, 1);
    g_assert_cmpuint(assert_event(&o, 4, MAIN_EVENT_MARKER)->offset, ==, at);
    g_assert_cmpuint(assert_event(&o, 5, MAIN_EVENT_MARKER)->offset, ==,
                     at + 8);
    g_assert_cmpuint(o.n_events, ==, 6);
}

static void test_eos_alone_makes_the_mode_per_section(void)
{
    GByteArray *s = started(false);
    g_auto(Outcome) o;
    guint at;

    put(s, 0x03, 1);
    put(s, 2, 4);
    at = s->len;
    put(s, 0x10, 8);
    put_footer(s);
    outcome_init(&o, s);
    g_assert_cmpint(main_stream_get_sync_mode(o.stream), ==,
                    MAIN_SYNC_PER_SECTION);
    g_assert_cmpuint(assert_event(&o, 3, MAIN_EVENT_MARKER)->number, ==, 1);
    g_assert_cmpuint(assert_event(&o, 4, MAIN_EVENT_RAM_END)->offset, ==,
                     at - 5);
    g_assert_cmpuint(assert_event(&o, 5, MAIN_EVENT_MARKER)->offset, ==, at);
}

/* The caller holds the marker back: nothing behind it may have been eaten. */
static void test_marker_is_told_before_what_follows(void)
{
    g_autoptr(GByteArray) s = started(true);
    g_autoptr(MainStream) stream = main_stream_new();
    MainEvent event = { 0 };
    bool has_event;
    size_t used, pos = 0;

    do {
        g_assert_true(main_stream_feed(stream, s->data + pos, s->len - pos,
                                       &used, &event, &has_event, NULL));
        pos += used;
    } while (has_event && event.kind != MAIN_EVENT_MARKER);
    g_assert_true(has_event);
    g_assert_cmpuint(event.offset + 8, ==, pos);
    g_assert_cmpuint(s->len - pos, ==, 8 + 5);
}

static void test_page_records_are_followed(void)
{
    GByteArray *s = started(true);
    static const uint8_t page[4096] = { 0x10 };
    MainStreamCounts counts;
    g_auto(Outcome) o;

    put_part(s);
    put(s, 0x02, 8);
    put_name(s, "m");
    put(s, 0, 1);
    put(s, 0x1000 | 0x22, 8);
    put(s, 0, 1);
    put(s, 0x2000 | 0x28, 8);
    g_byte_array_append(s, page, sizeof(page));
    put(s, 0x3000 | 0x08, 8);
    put_name(s, "m");
    g_byte_array_append(s, page, sizeof(page));
    put(s, 0x60, 8);                /* XBZRLE */
    put(s, 1, 1);
    put(s, 20, 2);
    g_byte_array_append(s, page, 20);
    put(s, 0x120, 8);               /* COMPRESS_PAGE */
    put(s, 30, 4);
    g_byte_array_append(s, page, 30);
    put(s, 0x10, 8);
    put_footer(s);
    put_command(s, 11, 0);
    outcome_init(&o, s);
    assert_event(&o, 4, MAIN_EVENT_PAGE_DATA);
    assert_event(&o, 5, MAIN_EVENT_SWITCHOVER);     /* once is enough */
    main_stream_get_counts(o.stream, &counts);
    g_assert_cmpuint(counts.zero_records, ==, 2);
    g_assert_cmpuint(counts.page_records, ==, 4);
    g_assert_cmpuint(counts.flushes, ==, 1);
    g_assert_cmpuint(counts.eos, ==, 2);
}

/* No record has these flags; and each lone flag that is no record. */
static void test_unknown_flags_are_refused(void)
{
    static const uint64_t words[] = {
        0, 0x01, 0x20, 0x80, 0x06, 0x0a, 0x12, 0x18, 0x30, 0x210, 0x220, 0x300,
        0x3ff, UINT64_MAX,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        GByteArray *s = started(true);

        put_part(s);
        put(s, words[i], 8);
        assert_broken(s, "got RAM record flags 0x");
    }
}

static void test_records_are_checked(void)
{
    static const struct {
        uint64_t word;
        const char *rest;
        size_t len;
        const char *fragment;
    } rows[] = {
        { 0x02, "\1m\1", 3, "fill byte 0x01, allowed 0" },
        { 0x02, "\1x", 2, "got a page of ramblock 'x', allowed one of the 1" },
        { 0x02, "\0", 1, "empty ramblock name" },
        { 0x22, "", 0, "got a page record with CONTINUE" },
        { 0x10000 | 0x02, "\1m", 2, "got a page at 0x10000 of ramblock 'm'" },
        { ~UINT64_C(0x3ff) | 0x08, "\1m", 2, "allowed within used_length" },
        { 0x40, "\1m\2\0\1", 5, "XBZRLE record of encoding 2" },
        { 0x100, "\1m\0\2\0\1", 6, "COMPRESS_PAGE record of 131073 bytes" },
        { 0x100, "\1m\xff\xff\xff\xff", 6, "COMPRESS_PAGE record of 4294967295" },
        { 0x1000 | 0x10, "", 0, "allowed no address" },
        { 0x1000 | 0x200, "", 0, "allowed no address" },
        { 0x1000 | 0x04, "", 0, "allowed MEM_SIZE as the first" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        GByteArray *s = started(true);

        put_part(s);
        put(s, rows[i].word, 8);
        g_byte_array_append(s, (const uint8_t *)rows[i].rest, rows[i].len);
        assert_broken(s, rows[i].fragment);
    }
}

/* QEMU takes the address's low bits for flags up to the size of its pages. */
static void test_pages_are_aligned(void)
{
    static const struct { uint64_t address; bool ok; } rows[] = {
        { 0, true }, { 0x4000, true }, { 0x400, false }, { 0x1000, false },
        { 0x3c00, false }, { 0x7c00, false }, { ~UINT64_C(0x3ff), false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        GByteArray *s = header();

        put_config(s);
        put_subsection(s, "configuration/target-page-bits", 1);
        put(s, 14, 4);
        put_start(s, "ram", 4);
        put(s, 0x10000 | 0x04, 8);
        put_block(s, "m", 0x10000);
        put(s, rows[i].address | 0x02, 8);
        put_name(s, "m");
        if (rows[i].ok) {
            put(s, 1, 1);                   /* gets as far as the fill byte */
            assert_broken(s, "fill byte 0x01");
        } else {
            assert_broken(s, "allowed only multiples of 0x4000");
        }
    }
}

/* Without a page size the length of a PAGE record is our own guess. */
static void test_contradiction_after_a_guess_is_opaque(void)
{
    GByteArray *s = started(true);

    put_part(s);
    put(s, 0x08, 8);
    put_name(s, "m");
    for (int i = 0; i < 8192; i++) {
        put(s, 0x55, 1);
    }
    assert_opaque(s, "with a page size that was assumed");
}

static void test_start_begins_with_the_list(void)
{
    GByteArray *s = prologue();

    put_start(s, "ram", 4);
    put(s, 0x200, 8);
    assert_broken(s, "allowed MEM_SIZE as the first record of START");
    s = listed();
    put(s, 0x10000 | 0x04, 8);
    assert_broken(s, "allowed MEM_SIZE as the first record of START");
}

/* ---- sections ---- */

static void test_footers_must_match(void)
{
    GByteArray *s = listed();

    put(s, 0x10, 8);
    put(s, 0x7e, 1);
    put(s, 3, 4);
    assert_broken(s, "got footer of section 3, allowed 2");
    s = started(true);
    put_part(s);
    put(s, 0x10, 8);
    put(s, 0x02, 1);
    assert_broken(s, "allowed its footer 0x7e");
}

/* Machine types before 2.4 send none; then none may come. */
static void test_footers_may_be_absent_throughout(void)
{
    GByteArray *s = listed();
    g_auto(Outcome) o;

    put(s, 0x10, 8);
    put_part(s);
    put(s, 0x10, 8);
    put_command(s, 11, 0);
    outcome_init(&o, s);
    assert_event(&o, 5, MAIN_EVENT_SWITCHOVER);
    s = listed();
    put(s, 0x10, 8);
    put_part(s);
    put(s, 0x10, 8);
    put_footer(s);
    assert_broken(s, "got section type 0x7e");
}

static void test_section_ids_must_be_known(void)
{
    GByteArray *s = prologue();

    put_part(s);
    assert_broken(s, "got PART of section 2, allowed only after its START");
    s = started(true);
    put(s, 0x03, 1);
    put(s, UINT32_MAX, 4);
    assert_broken(s, "got section id 4294967295, allowed 2 ('ram')");
    s = started(true);
    put_start(s, "ram", 4);
    assert_broken(s, "got START of section 'ram' twice");
    s = prologue();
    put_start(s, "", 4);
    assert_broken(s, "got a section without a name, allowed 1 to 255 bytes");
}

/* Who says that it has the guest before that lies. */
static void test_ram_is_lacked_until_its_end(void)
{
    GByteArray *s = prologue();
    g_auto(Outcome) before = { 0 }, inside = { 0 }, after = { 0 };
    g_auto(Outcome) opaque = { 0 };

    outcome_init(&before, s);
    g_assert_false(main_stream_lacks_ram(before.stream));
    s = started(true);
    put(s, 0x03, 1);
    put(s, 2, 4);
    outcome_init(&inside, s);
    g_assert_true(main_stream_lacks_ram(inside.stream));
    s = started(true);
    put(s, 0x03, 1);
    put(s, 2, 4);
    put(s, 0x10, 8);
    outcome_init(&after, s);
    g_assert_false(main_stream_lacks_ram(after.stream));
    s = started(true);              /* the end may hide in what is not followed */
    put(s, 0x04, 1);
    put(s, 3, 4);
    put_name(s, "timer");
    outcome_init(&opaque, s);
    g_assert_false(main_stream_lacks_ram(opaque.stream));
}

static void test_section_types_must_be_known(void)
{
    static const uint8_t types[] = { 0x05, 0x06, 0x09, 0x7e, 0x7f, 0xff };

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        GByteArray *s = prologue();

        put(s, types[i], 1);
        assert_broken(s, "got section type 0x");
    }
}

static void test_other_sections_are_opaque(void)
{
    GByteArray *s = started(true);

    put(s, 0x04, 1);
    put(s, 3, 4);
    put_name(s, "timer");
    assert_opaque(s, "section 'timer' has no length on the wire");
    s = prologue();
    put_start(s, "dirty-bitmap", 2);
    assert_opaque(s, "section 'dirty-bitmap' instance 0 version 2");
    s = prologue();
    put_start(s, "ram", 5);
    assert_opaque(s, "section 'ram' instance 0 version 5");
    s = prologue();
    put(s, 0x04, 1);
    put(s, 3, 4);
    put_name(s, "ram");
    assert_opaque(s, "section 'ram' has no length");
}

static void test_end_of_stream_and_its_description(void)
{
    GByteArray *s = started(true);
    g_auto(Outcome) o;

    put(s, 0x00, 1);
    put(s, 0x06, 1);
    put(s, 4, 4);
    put_text(s, "{{{{");
    outcome_init(&o, s);
    g_assert_cmpstr(o.error, ==, NULL);
    g_assert_false(main_stream_is_opaque(o.stream));
    s = started(true);
    put(s, 0x00, 1);
    put(s, 0x01, 1);
    assert_opaque(s, "the stream has ended");
}

#define ADD(path, func) g_test_add_func("/wire/main-stream/" path, func)

static void add_records(void)
{
    ADD("records/flush-makes-the-mode-per-round",
        test_flush_makes_the_mode_per_round);
    ADD("records/eos-alone-makes-the-mode-per-section",
        test_eos_alone_makes_the_mode_per_section);
    ADD("records/marker-is-told-before-what-follows",
        test_marker_is_told_before_what_follows);
    ADD("records/no-marker-after-listen", test_no_marker_after_listen);
    ADD("records/pages-are-followed", test_page_records_are_followed);
    ADD("records/unknown-flags-are-refused", test_unknown_flags_are_refused);
    ADD("records/are-checked", test_records_are_checked);
    ADD("records/pages-are-aligned", test_pages_are_aligned);
    ADD("records/contradiction-after-a-guess-is-opaque",
        test_contradiction_after_a_guess_is_opaque);
    ADD("records/start-begins-with-the-list", test_start_begins_with_the_list);
}

static void add_list(void)
{
    ADD("list/sums-up", test_list_sums_up);
    ADD("list/beyond-its-total-is-refused",
        test_list_beyond_its_total_is_refused);
    ADD("list/names-are-checked", test_list_names_are_checked);
    ADD("list/too-many-blocks-are-refused",
        test_list_of_too_many_blocks_is_refused);
    ADD("list/in-postcopy-may-have-page-sizes",
        test_list_in_postcopy_may_have_page_sizes);
    ADD("list/rejects-odd-page-sizes", test_list_rejects_odd_page_sizes);
    ADD("list/with-guest-addresses", test_list_with_guest_addresses);
    ADD("list/mapped-ram-is-opaque", test_mapped_ram_is_opaque);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("header/rejects-other-magic-and-version",
        test_rejects_other_magic_and_version);
    ADD("config/learns-it", test_learns_the_configuration);
    ADD("config/knows-nothing-before", test_knows_nothing_before);
    ADD("config/bounds-the-machine-name", test_bounds_the_machine_name);
    ADD("config/bounds-page-bits", test_bounds_page_bits);
    ADD("config/bounds-capabilities", test_bounds_capabilities);
    ADD("config/unknown-is-opaque", test_unknown_configuration_is_opaque);
    ADD("config/is-optional-but-first",
        test_configuration_is_optional_but_first);
    ADD("command/lengths-are-checked", test_command_lengths_are_checked);
    ADD("command/zero-is-refused-and-unknown-is-opaque",
        test_command_zero_is_refused_and_unknown_is_opaque);
    ADD("command/data-is-passed-over", test_commands_with_data_are_passed_over);
    ADD("command/advise-tells-the-page-size", test_advise_tells_the_page_size);
    ADD("command/advise-for-bitmaps-is-no-postcopy",
        test_advise_for_bitmaps_is_no_postcopy);
    ADD("package/devices-are-passed-over",
        test_devices_in_a_package_are_passed_over);
    ADD("package/commands-are-read", test_package_of_commands_is_read);
    ADD("package/ping-behind-it-ends-the-switch",
        test_ping_behind_the_package_ends_the_switch);
    ADD("resumed/may-begin-with-a-command",
        test_stream_may_begin_with_a_command);
    ADD("resumed/unknown-command-is-refused",
        test_stream_does_not_begin_with_an_unknown_command);
    ADD("package/bounds-its-commands", test_package_bounds_its_commands);
    add_list();
    add_records();
    ADD("section/footers-must-match", test_footers_must_match);
    ADD("section/footers-may-be-absent-throughout",
        test_footers_may_be_absent_throughout);
    ADD("section/ids-must-be-known", test_section_ids_must_be_known);
    ADD("section/ram-is-lacked-until-its-end",
        test_ram_is_lacked_until_its_end);
    ADD("section/types-must-be-known", test_section_types_must_be_known);
    ADD("section/others-are-opaque", test_other_sections_are_opaque);
    ADD("section/end-of-stream-and-its-description",
        test_end_of_stream_and_its_description);
    return g_test_run();
}
