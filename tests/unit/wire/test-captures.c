/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Real migrations, recorded between two QEMUs, through all of wire/: decoded,
 * checked, carried over an epoch barrier to another number of channels and into
 * another method, decoded again, and applied to memory.  tests/captures/README.md
 * says what each recording holds; its expect.json what must come out.
 *
 * MULTIFERRY_CAPTURES names the directory; without it, tests/captures.
 */
#include <json-glib/json-glib.h>
#include <stdio.h>

#include "wire/bytes.h"
#include "wire/epoch.h"
#include "wire/main-stream.h"
#include "wire/method.h"
#include "wire/multifd.h"
#include "wire/return-path.h"

enum { PAGE = 4096 };

static const char *const names[] = {
    "qemu72-none-2ch", "qemu72-zlib-3ch", "qemu100-none-2ch",
    "qemu100-zlib-3ch", "qemu100-legacy72-zstd-2ch", "qemu111-zstd-4ch",
    "qemu111-none-2ch-manyrounds", "qemu111-zlib-2ch-postcopy",
};

/* A packet with pages, unpacked, and the epoch that it lies in. */
typedef struct {
    uint64_t epoch;
    MultifdHeader header;
    uint8_t *pages;
} Packet;

/* A ZERO (no data) or PAGE record of the main channel. */
typedef struct {
    uint64_t epoch;
    char block[256];
    uint64_t addr;
    const uint8_t *data;
} MainPage;

typedef struct {
    MultifdInit init;
    GPtrArray *packets;         /* of Packet */
    unsigned n_packets, n_normal, n_zero, n_quirk;
    uint64_t n_syncs;
} Channel;

typedef struct {
    JsonParser *json;
    JsonObject *expect;
    GByteArray *main, *answers;
    MainStream *stream;         /* fed with all of main */
    GArray *main_pages;         /* of MainPage */
    GArray *markers;            /* of uint64_t: their offsets */
    GPtrArray *wires;           /* of GByteArray: multifd channels */
    GPtrArray *channels;        /* of Channel: the same, decoded */
} Capture;

static MultifdGeometry geometry;

static void packet_free(gpointer data)
{
    Packet *packet = data;

    g_free(packet->pages);
    g_free(packet);
}

static void channel_free(gpointer data)
{
    Channel *channel = data;

    g_ptr_array_unref(channel->packets);
    g_free(channel);
}

static void bytes_free(gpointer data)
{
    g_byte_array_unref(data);
}

/* ---- loading ---- */

static char *capture_path(const char *name, const char *file)
{
    const char *root = g_getenv("MULTIFERRY_CAPTURES");

    return g_build_filename(root ? root : "tests/captures", name, file, NULL);
}

static GByteArray *load_xz(const char *name, const char *file)
{
    g_autofree char *path = capture_path(name, file);
    g_autofree char *quoted = g_shell_quote(path);
    g_autofree char *command = g_strdup_printf("xz -dc %s", quoted);
    GByteArray *all = g_byte_array_new();
    uint8_t buf[65536];
    size_t n;
    FILE *pipe = popen(command, "r");

    g_assert_nonnull(pipe);
    while ((n = fread(buf, 1, sizeof(buf), pipe)) > 0) {
        g_byte_array_append(all, buf, n);
    }
    g_assert_cmpint(pclose(pipe), ==, 0);
    return all;
}

static bool can_load(const char *name)
{
    g_autofree char *path = capture_path(name, "expect.json");
    g_autofree char *xz = g_find_program_in_path("xz");

    if (!xz) {
        g_test_skip("xz is not installed: real captures not replayed");
        return false;
    }
    if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
        g_autofree char *text = g_strdup_printf(
            "no %s: set MULTIFERRY_CAPTURES, or run at the top", path);

        g_test_skip(text);
        return false;
    }
    return true;
}

/* ---- the main channel, read a second time and by another hand ---- */

typedef struct {
    const uint8_t *p, *begin, *end;
    char block[256];
} Walk;

static uint64_t take(Walk *w, unsigned size)
{
    uint64_t v = 0;

    g_assert_cmpuint(w->end - w->p, >=, size);
    while (size-- > 0) {
        v = v << 8 | *w->p++;
    }
    return v;
}

static void take_text(Walk *w, char *ret)
{
    unsigned len = take(w, 1);

    g_assert_cmpuint(w->end - w->p, >=, len);
    memcpy(ret, w->p, len);
    ret[len] = '\0';
    w->p += len;
}

static void walk_page(Walk *w, Capture *c, uint64_t word)
{
    MainPage page = { .epoch = c->markers->len, .addr = word & ~0xfffull };

    if (!(word & 0x20)) {
        take_text(w, w->block);
    }
    memcpy(page.block, w->block, sizeof(page.block));
    if (word & 0x02) {
        g_assert_cmpuint(take(w, 1), ==, 0);
    } else {
        page.data = w->p;
        w->p += PAGE;
    }
    g_array_append_val(c->main_pages, page);
}

static void walk_list(Walk *w, uint64_t total)
{
    char name[256];

    while (total > 0) {
        take_text(w, name);
        total -= take(w, 8);
    }
}

/* The body of a RAM section, its footer too. */
static void walk_ram(Walk *w, Capture *c, bool flush_syncs)
{
    uint64_t word;

    do {
        uint64_t offset = w->p - w->begin;

        word = take(w, 8);
        if (word & 0x04) {
            walk_list(w, word & ~0xfffull);
        } else if (word & (0x02 | 0x08)) {
            walk_page(w, c, word);
        } else if (word == (flush_syncs ? 0x200 : 0x10)) {
            g_array_append_val(c->markers, offset);
        }
    } while (word != 0x10);
    g_assert_cmpuint(take(w, 1), ==, 0x7e);
    take(w, 4);
}

static void walk_command(Walk *w)
{
    uint64_t command = take(w, 2), length = take(w, 2);

    if (command == 7) {
        length = take(w, 4);
    }
    w->p += length;
}

static void walk_main(Capture *c)
{
    Walk w = { .p = c->main->data, .begin = c->main->data,
               .end = c->main->data + c->main->len };
    bool flush_syncs = json_object_get_int_member(c->expect, "flush") > 0;

    take(&w, 8 + 1);
    w.p += take(&w, 4);
    for (;;) {
        uint64_t type = take(&w, 1);

        if (type == 0x08) {
            walk_command(&w);
        } else if (type == 0x01) {
            w.p += 4 + 1 + strlen("ram") + 4 + 4;
            walk_ram(&w, c, flush_syncs);
        } else if (type == 0x02 || type == 0x03) {
            take(&w, 4);
            walk_ram(&w, c, flush_syncs);
        } else {
            break;
        }
    }
}

/* ---- multifd channels ---- */

/* Decode what @p holds of one packet; the header survives being written anew. */
static void read_header(const uint8_t *p, MultifdHeader *ret)
{
    g_autofree uint8_t *again = g_malloc(geometry.header_size);
    g_autoptr(GError) error = NULL;
    MultifdHeader h, h2;

    g_assert_true(multifd_header_decode(p, &geometry, &h, &error));
    g_assert_no_error(error);
    multifd_header_encode(&h, &geometry, again);
    g_assert_true(multifd_header_decode(again, &geometry, &h2, &error));
    g_assert_cmpmem(&h, sizeof(h), &h2, sizeof(h2));
    *ret = h;
}

/* Unpack @h's pages from @p into @packet; returns the payload's length. */
static size_t read_payload(const MultifdHeader *h, const uint8_t *p, size_t len,
                           MethodState **state, Packet *packet)
{
    g_autoptr(GError) error = NULL;
    const Method *method = method_from_flags(h->flags, &error);
    size_t raw_len = (size_t)h->normal_pages * PAGE;
    uint32_t size;

    g_assert_no_error(error);
    g_assert_true(method->payload_size(h->normal_pages, PAGE, h->payload_size,
                                       &size, &error));
    g_assert_cmpuint(size, <=, len);
    packet->pages = g_malloc(raw_len);
    if (!method->decode) {
        g_assert_cmpuint(size, ==, raw_len);
        memcpy(packet->pages, p, raw_len);
        return size;
    }
    if (!*state) {
        *state = method->decoder_new();
    }
    method->decode(*state, p, size, packet->pages, raw_len, &error);
    g_assert_no_error(error);
    return size;
}

static void count(Channel *channel, const MultifdHeader *h)
{
    channel->n_packets++;
    channel->n_normal += h->normal_pages;
    channel->n_zero += h->zero_pages;
    if (h->flags & MULTIFD_FLAG_SYNC) {
        channel->n_quirk += h->normal_pages + h->zero_pages > 0;
        channel->n_syncs++;
    }
}

static Channel *read_channel(const GByteArray *wire, const RamblockTable *table)
{
    Channel *channel = g_new0(Channel, 1);
    const uint8_t *p = wire->data + MULTIFD_INIT_SIZE;
    const uint8_t *end = wire->data + wire->len;
    const Method *method = NULL;
    MethodState *state = NULL;
    g_autoptr(GError) error = NULL;

    channel->packets = g_ptr_array_new_with_free_func(packet_free);
    g_assert_cmpuint(wire->len, >=, MULTIFD_INIT_SIZE);
    g_assert_true(multifd_init_decode(wire->data, &channel->init, &error));
    while (p < end) {
        Packet *packet = g_new0(Packet, 1);

        g_assert_cmpuint(end - p, >=, geometry.header_size);
        read_header(p, &packet->header);
        p += geometry.header_size;
        g_assert_true(multifd_header_check_pages(&packet->header, &geometry,
                                                 table, &error));
        packet->epoch = channel->n_syncs;
        if (packet->header.normal_pages > 0) {
            method = method_from_flags(packet->header.flags, NULL);
            p += read_payload(&packet->header, p, end - p, &state, packet);
        }
        count(channel, &packet->header);
        g_ptr_array_add(channel->packets, packet);
    }
    if (state) {
        method->state_free(state);
    }
    return channel;
}

/* ---- a whole capture ---- */

static MainStream *feed_all(const GByteArray *main, size_t piece, GRand *rand,
                            GArray *ret_events)
{
    MainStream *stream = main_stream_new();
    g_autoptr(GError) error = NULL;
    size_t pos = 0;

    while (pos < main->len) {
        size_t n = rand ? (size_t)g_rand_int_range(rand, 1, 200) : piece;
        size_t used;
        bool has_event;
        MainEvent event;

        n = MIN(n, main->len - pos);
        g_assert_true(main_stream_feed(stream, main->data + pos, n, &used,
                                       &event, &has_event, &error));
        g_assert_true(used <= n && (used == n || has_event));
        pos += used;
        if (has_event) {
            g_array_append_val(ret_events, event);
        }
    }
    return stream;
}

static void load_channels(Capture *c, const char *name)
{
    JsonObject *chans = json_object_get_object_member(c->expect, "chans");
    const RamblockTable *table = main_stream_get_ramblocks(c->stream);

    c->wires = g_ptr_array_new_with_free_func(bytes_free);
    c->channels = g_ptr_array_new_with_free_func(channel_free);
    for (unsigned i = 0; i < json_object_get_size(chans); i++) {
        g_autofree char *file = g_strdup_printf("mfd%u.c2s.xz", i);
        GByteArray *wire = load_xz(name, file);

        g_ptr_array_add(c->wires, wire);
        g_ptr_array_add(c->channels, read_channel(wire, table));
    }
}

static Capture *capture_load(const char *name)
{
    Capture *c = g_new0(Capture, 1);
    g_autofree char *path = capture_path(name, "expect.json");
    g_autoptr(GArray) events = g_array_new(FALSE, TRUE, sizeof(MainEvent));
    g_autoptr(GError) error = NULL;

    g_assert_true(multifd_geometry_init(&geometry, PAGE, NULL));
    c->json = json_parser_new();
    json_parser_load_from_file(c->json, path, &error);
    g_assert_no_error(error);
    c->expect = json_node_get_object(json_parser_get_root(c->json));
    c->main = load_xz(name, "main.c2s.xz");
    c->answers = load_xz(name, "main.s2c.xz");
    c->stream = feed_all(c->main, c->main->len, NULL, events);
    c->main_pages = g_array_new(FALSE, TRUE, sizeof(MainPage));
    c->markers = g_array_new(FALSE, TRUE, sizeof(uint64_t));
    walk_main(c);
    load_channels(c, name);
    return c;
}

static void capture_free(Capture *c)
{
    g_ptr_array_unref(c->channels);
    g_ptr_array_unref(c->wires);
    g_array_unref(c->markers);
    g_array_unref(c->main_pages);
    main_stream_free(c->stream);
    g_byte_array_unref(c->answers);
    g_byte_array_unref(c->main);
    g_object_unref(c->json);
    g_free(c);
}

static int64_t expected(const Capture *c, const char *key)
{
    return json_object_get_int_member(c->expect, key);
}

/* ---- memory ---- */

/* Block name -> its bytes. */
static GHashTable *memory_new(const RamblockTable *table)
{
    GHashTable *memory = g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
                                               g_free);

    for (unsigned i = 0; i < ramblock_table_get_count(table); i++) {
        const Ramblock *block = ramblock_table_get(table, i);

        g_hash_table_insert(memory, (char *)block->name,
                            g_malloc0(block->used_length));
    }
    return memory;
}

static void put_page(GHashTable *memory, const char *block, uint64_t offset,
                     const uint8_t *data)
{
    uint8_t *base = g_hash_table_lookup(memory, block);

    g_assert_nonnull(base);
    if (data) {
        memcpy(base + offset, data, PAGE);
    } else {
        memset(base + offset, 0, PAGE);
    }
}

static void apply_packet(GHashTable *memory, const Packet *packet)
{
    const MultifdHeader *h = &packet->header;

    for (uint32_t i = 0; i < h->normal_pages + h->zero_pages; i++) {
        put_page(memory, h->ramblock, h->offset[i],
                 i < h->normal_pages ? packet->pages + i * PAGE : NULL);
    }
}

static void apply_epoch(GHashTable *memory, uint64_t epoch,
                        const GPtrArray *channels, const GArray *main_pages)
{
    for (unsigned i = 0; i < channels->len; i++) {
        const Channel *channel = channels->pdata[i];

        for (unsigned j = 0; j < channel->packets->len; j++) {
            const Packet *packet = channel->packets->pdata[j];

            if (packet->epoch == epoch) {
                apply_packet(memory, packet);
            }
        }
    }
    for (unsigned i = 0; i < main_pages->len; i++) {
        const MainPage *page = &g_array_index(main_pages, MainPage, i);

        if (page->epoch == epoch) {
            put_page(memory, page->block, page->addr, page->data);
        }
    }
}

/* Apply all of @channels and of main; every block is what was recorded. */
static void check_memory(const Capture *c, const GPtrArray *channels)
{
    const RamblockTable *table = main_stream_get_ramblocks(c->stream);
    g_autoptr(GHashTable) memory = memory_new(table);
    JsonObject *blocks = json_object_get_object_member(c->expect, "blocks");

    for (uint64_t epoch = 0; epoch <= (uint64_t)expected(c, "syncs"); epoch++) {
        apply_epoch(memory, epoch, channels, c->main_pages);
    }
    g_assert_cmpuint(ramblock_table_get_count(table), ==,
                     json_object_get_size(blocks));
    for (unsigned i = 0; i < ramblock_table_get_count(table); i++) {
        const Ramblock *block = ramblock_table_get(table, i);
        JsonObject *want = json_object_get_object_member(blocks, block->name);
        g_autofree char *sum = g_compute_checksum_for_data(
            G_CHECKSUM_SHA256, g_hash_table_lookup(memory, block->name),
            block->used_length);

        g_assert_cmpuint(block->used_length, ==,
                         json_object_get_int_member(want, "len"));
        g_assert_cmpstr(sum, ==, json_object_get_string_member(want, "sha256"));
    }
}

/* ---- re-striping ---- */

typedef struct {
    EpochBarrier barrier;
    GRand *rand;
    GPtrArray *held;            /* of Packet, borrowed: what the open epoch has */
    unsigned *next;             /* per inbound channel: its next packet */
    bool *owes_sync;            /* per inbound: the data half of data + SYNC is in */
    const Method *method;
    MethodState **encoders;     /* per outbound channel */
    GPtrArray *wires;           /* of GByteArray */
    uint64_t packet_num;
} Relay;

static void write_init(GByteArray *wire, unsigned id)
{
    MultifdInit init = { .uuid = { 0xc0, 0xff, 0xee }, .id = id };
    uint8_t buf[MULTIFD_INIT_SIZE];

    multifd_init_encode(&init, buf);
    g_byte_array_append(wire, buf, sizeof(buf));
}

static void relay_init(Relay *r, unsigned n_in, unsigned n_out,
                       const Method *method, uint32_t seed)
{
    *r = (Relay) { .rand = g_rand_new_with_seed(seed), .method = method };
    epoch_barrier_init(&r->barrier);
    r->held = g_ptr_array_new();
    r->next = g_new0(unsigned, n_in);
    r->owes_sync = g_new0(bool, n_in);
    r->encoders = g_new0(MethodState *, n_out);
    r->wires = g_ptr_array_new_with_free_func(bytes_free);
    for (unsigned i = 0; i < n_in; i++) {
        epoch_barrier_add_in(&r->barrier, 0);
    }
    for (unsigned i = 0; i < n_out; i++) {
        epoch_barrier_add_out(&r->barrier);
        g_ptr_array_add(r->wires, g_byte_array_new());
        write_init(r->wires->pdata[i], i);
        r->encoders[i] = method->encoder_new ? method->encoder_new(1) : NULL;
    }
}

static void relay_clear(Relay *r)
{
    for (unsigned i = 0; i < r->wires->len; i++) {
        if (r->encoders[i]) {
            r->method->state_free(r->encoders[i]);
        }
    }
    g_ptr_array_unref(r->wires);
    g_free(r->encoders);
    g_free(r->owes_sync);
    g_free(r->next);
    g_ptr_array_unref(r->held);
    g_rand_free(r->rand);
}

/* One inbound channel goes one step, if it may. */
static void relay_in(Relay *r, unsigned in, const Channel *channel)
{
    const Packet *packet;

    if (r->next[in] == channel->packets->len ||
        !epoch_barrier_in_may_push(&r->barrier, in)) {
        return;
    }
    packet = channel->packets->pdata[r->next[in]];
    if (!r->owes_sync[in] &&
        packet->header.normal_pages + packet->header.zero_pages > 0) {
        g_assert_cmpuint(packet->epoch, ==,
                         epoch_barrier_in_epoch(&r->barrier, in));
        g_ptr_array_add(r->held, (gpointer)packet);
        r->owes_sync[in] = packet->header.flags & MULTIFD_FLAG_SYNC;
        r->next[in] += !r->owes_sync[in];
        return;
    }
    if (packet->header.flags & MULTIFD_FLAG_SYNC) {
        epoch_barrier_in_sync(&r->barrier, in);
        epoch_barrier_try_close(&r->barrier);
    }
    r->owes_sync[in] = false;
    r->next[in]++;
}

static void write_packet(Relay *r, unsigned out, const Packet *packet)
{
    MultifdHeader h = packet->header;
    size_t raw_len = (size_t)h.normal_pages * PAGE;
    g_autofree uint8_t *payload = g_malloc(MULTIFD_PAYLOAD_MAX);
    uint8_t header[MULTIFD_HEADER_MAX];
    size_t len = raw_len;

    if (!r->encoders[out]) {
        memcpy(payload, packet->pages ? packet->pages : payload, raw_len);
    } else if (raw_len > 0) {
        g_assert_true(r->method->encode(r->encoders[out], packet->pages,
                                        raw_len, payload, MULTIFD_PAYLOAD_MAX,
                                        &len, NULL));
    }
    h.flags = r->method->id;
    h.payload_size = len;
    h.packet_num = r->packet_num++;
    multifd_header_encode(&h, &geometry, header);
    g_byte_array_append(r->wires->pdata[out], header, geometry.header_size);
    g_byte_array_append(r->wires->pdata[out], payload, len);
}

static const Packet *find_held(const Relay *r, uint64_t epoch)
{
    for (unsigned i = 0; i < r->held->len; i++) {
        const Packet *packet = r->held->pdata[i];

        if (packet->epoch == epoch) {
            return packet;
        }
    }
    return NULL;
}

/* One outbound channel takes a packet of its epoch, or writes its SYNC. */
static void relay_out(Relay *r, unsigned out)
{
    uint64_t epoch = epoch_barrier_out_epoch(&r->barrier, out);
    const Packet *packet = find_held(r, epoch);
    uint8_t header[MULTIFD_HEADER_MAX];

    if (packet) {
        g_ptr_array_remove_fast(r->held, (gpointer)packet);
        write_packet(r, out, packet);
    } else if (epoch_barrier_out_may_sync(&r->barrier, out, true)) {
        multifd_sync_encode(r->packet_num++, &geometry, header);
        g_byte_array_append(r->wires->pdata[out], header,
                            geometry.header_size);
        epoch_barrier_out_synced(&r->barrier, out);
    }
}

static bool relay_done(const Relay *r, const GPtrArray *channels)
{
    for (unsigned i = 0; i < channels->len; i++) {
        const Channel *channel = channels->pdata[i];

        if (r->next[i] < channel->packets->len) {
            return false;
        }
    }
    return r->held->len == 0 &&
           epoch_barrier_synced_out(&r->barrier) == r->barrier.closed;
}

static void check_restriped(const Capture *c, unsigned n_out,
                            const Method *method)
{
    unsigned n_in = c->channels->len;
    const RamblockTable *table = main_stream_get_ramblocks(c->stream);
    g_autoptr(GPtrArray) after = g_ptr_array_new_with_free_func(channel_free);
    Relay r;

    relay_init(&r, n_in, n_out, method, g_test_rand_int());
    while (!relay_done(&r, c->channels)) {
        unsigned who = g_rand_int_range(r.rand, 0, n_in + n_out);

        if (who < n_in) {
            relay_in(&r, who, c->channels->pdata[who]);
        } else {
            relay_out(&r, who - n_in);
        }
    }
    for (unsigned i = 0; i < n_out; i++) {
        Channel *channel = read_channel(r.wires->pdata[i], table);

        g_assert_cmpuint(channel->init.id, ==, i);
        g_assert_cmpuint(channel->n_syncs, ==, expected(c, "syncs"));
        g_ptr_array_add(after, channel);
    }
    check_memory(c, after);
    relay_clear(&r);
}

/* ---- the cases ---- */

static void test_channels_decode(gconstpointer data)
{
    static const uint8_t uuid[16] = {
        0xc0, 0xff, 0xee, 0x00, 0x12, 0x34, 0x4a, 0xbc,
        0x8d, 0xef, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55,
    };
    JsonObject *chans;
    unsigned n_quirk = 0;
    Capture *c;

    if (!can_load(data)) {
        return;
    }
    c = capture_load(data);
    chans = json_object_get_object_member(c->expect, "chans");
    for (unsigned i = 0; i < c->channels->len; i++) {
        const Channel *channel = c->channels->pdata[i];
        const GByteArray *wire = c->wires->pdata[i];
        g_autofree char *key = g_strdup_printf("%u", i);
        JsonObject *want = json_object_get_object_member(chans, key);

        g_assert_cmpuint(channel->init.id, ==, i);
        g_assert_cmpmem(channel->init.uuid, 16, uuid, 16);
        g_assert_cmpuint(channel->n_packets, ==,
                         json_object_get_int_member(want, "packets"));
        g_assert_cmpuint(channel->n_normal, ==,
                         json_object_get_int_member(want, "normal"));
        g_assert_cmpuint(channel->n_zero, ==,
                         json_object_get_int_member(want, "zero"));
        g_assert_cmpuint(wire->len, ==,
                         json_object_get_int_member(want, "bytes"));
        g_assert_cmpuint(channel->n_syncs, ==, expected(c, "syncs"));
        n_quirk += channel->n_quirk;
    }
    g_assert_cmpuint(n_quirk, ==, expected(c, "quirk"));
    capture_free(c);
}

static void test_memory_matches(gconstpointer data)
{
    Capture *c;

    if (!can_load(data)) {
        return;
    }
    c = capture_load(data);
    check_memory(c, c->channels);
    capture_free(c);
}

/* The proxy's promise: any number of channels, any method, the same memory. */
static void test_memory_matches_restriped(gconstpointer data)
{
    static const struct {
        unsigned n_out;
        const char *method;
    } legs[] = {
        { 1, "none" }, { 2, "none" }, { 5, "none" }, { 16, "none" },
        { 3, "zlib" }, { 2, "zstd" },
    };
    Capture *c;

    if (!can_load(data)) {
        return;
    }
    c = capture_load(data);
    for (size_t i = 0; i < G_N_ELEMENTS(legs); i++) {
        check_restriped(c, legs[i].n_out, method_find(legs[i].method));
    }
    capture_free(c);
}

static void test_main_counts(gconstpointer data)
{
    JsonObject *records;
    MainStreamCounts counts;
    Capture *c;

    if (!can_load(data)) {
        return;
    }
    c = capture_load(data);
    records = json_object_get_object_member(c->expect, "mainrec");
    main_stream_get_counts(c->stream, &counts);
    g_assert_cmpuint(counts.flushes, ==, expected(c, "flush"));
    g_assert_cmpuint(counts.eos, ==, expected(c, "eos"));
    g_assert_cmpuint(counts.zero_records, ==,
                     json_object_get_int_member(records, "zero"));
    g_assert_cmpuint(counts.page_records, ==,
                     json_object_get_int_member(records, "page"));
    g_assert_true(main_stream_has_return_path(c->stream));
    g_assert_true(g_str_has_prefix(main_stream_get_machine(c->stream),
                                   "pc-i440fx-"));
    g_assert_cmpint(main_stream_get_sync_mode(c->stream), ==,
                    counts.flushes ? MAIN_SYNC_PER_ROUND
                                   : MAIN_SYNC_PER_SECTION);
    capture_free(c);
}

static unsigned count_events(const GArray *events, MainEventKind kind)
{
    unsigned n = 0;

    for (unsigned i = 0; i < events->len; i++) {
        n += g_array_index(events, MainEvent, i).kind == kind;
    }
    return n;
}

/* The k-th event points at the k-th record that the test found by itself. */
static void check_markers(const Capture *c, const GArray *events)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < events->len; i++) {
        const MainEvent *event = &g_array_index(events, MainEvent, i);
        uint64_t word;

        if (event->kind != MAIN_EVENT_MARKER) {
            continue;
        }
        g_assert_cmpuint(n, <, c->markers->len);
        g_assert_cmpuint(event->offset, ==,
                         g_array_index(c->markers, uint64_t, n));
        g_assert_cmpuint(event->number, ==, ++n);
        word = bytes_get_be64(c->main->data + event->offset);
        g_assert_cmphex(word, ==, expected(c, "flush") ? 0x200 : 0x10);
    }
    g_assert_cmpuint(n, ==, c->markers->len);
    g_assert_cmpuint(n, ==, expected(c, "syncs"));
}

static void test_main_events(gconstpointer data)
{
    g_autoptr(GArray) events = g_array_new(FALSE, TRUE, sizeof(MainEvent));
    bool postcopy = strstr(data, "postcopy");
    Capture *c;

    if (!can_load(data)) {
        return;
    }
    c = capture_load(data);
    main_stream_free(feed_all(c->main, c->main->len, NULL, events));
    check_markers(c, events);
    g_assert_cmpuint(count_events(events, MAIN_EVENT_CONFIGURATION), ==, 1);
    g_assert_cmpuint(count_events(events, MAIN_EVENT_RETURN_PATH), ==, 1);
    g_assert_cmpuint(count_events(events, MAIN_EVENT_RAMBLOCKS), ==, 1);
    g_assert_cmpuint(count_events(events, MAIN_EVENT_RAM_END), ==, 1);
    g_assert_cmpuint(count_events(events, MAIN_EVENT_POSTCOPY_ADVISE), ==,
                     postcopy);
    g_assert_cmpuint(count_events(events, MAIN_EVENT_POSTCOPY_RUN), ==,
                     postcopy);
    g_assert_cmpuint(count_events(events, MAIN_EVENT_POSTCOPY_SENT), ==,
                     postcopy);
    g_assert_cmpuint(count_events(events, MAIN_EVENT_PAGE_DATA), ==, postcopy);
    g_assert_cmpuint(count_events(events, MAIN_EVENT_OPAQUE), ==, !postcopy);
    capture_free(c);
}

/* TCP cuts where it likes: the events must not depend on it. */
static void test_main_events_in_pieces(gconstpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(g_test_rand_int());
    g_autoptr(GArray) whole = g_array_new(FALSE, TRUE, sizeof(MainEvent));
    Capture *c;

    if (!can_load(data)) {
        return;
    }
    c = capture_load(data);
    main_stream_free(feed_all(c->main, c->main->len, NULL, whole));
    for (int i = 0; i < 5; i++) {
        g_autoptr(GArray) pieces = g_array_new(FALSE, TRUE, sizeof(MainEvent));

        main_stream_free(feed_all(c->main, 1, i ? rand : NULL, pieces));
        g_assert_cmpmem(whole->data, whole->len * sizeof(MainEvent),
                        pieces->data, pieces->len * sizeof(MainEvent));
    }
    capture_free(c);
}

static void test_shut_is_seen(gconstpointer data)
{
    uint32_t value = 1;
    ReturnPath path;
    Capture *c;

    if (!can_load(data)) {
        return;
    }
    c = capture_load(data);
    return_path_init(&path);
    return_path_feed(&path, c->answers->data, c->answers->len - 1);
    g_assert_false(return_path_has_shut(&path, &value));
    return_path_feed(&path, c->answers->data + c->answers->len - 1, 1);
    g_assert_true(return_path_has_shut(&path, &value));
    g_assert_cmpuint(value, ==, 0);
    g_assert_false(path.opaque);
    g_assert_cmpuint(path.messages, >=, 2);
    capture_free(c);
}

static void add(const char *name, const char *what, GTestDataFunc func)
{
    g_autofree char *path = g_strdup_printf("/wire/captures/%s/%s", name, what);

    g_test_add_data_func(path, name, func);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        add(names[i], "channels-decode", test_channels_decode);
        add(names[i], "memory-matches", test_memory_matches);
        add(names[i], "memory-matches-restriped",
            test_memory_matches_restriped);
        add(names[i], "main-counts", test_main_counts);
        add(names[i], "main-events", test_main_events);
        add(names[i], "main-events-in-pieces", test_main_events_in_pieces);
        add(names[i], "shut-is-seen", test_shut_is_seen);
    }
    return g_test_run();
}
