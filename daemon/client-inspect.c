/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-inspect.h"

#include <inttypes.h>
#include <string.h>
#include "daemon/client-capture.h"
#include "daemon/client-format.h"
#include "daemon/client-table.h"
#include "daemon/units.h"

enum {
    EPOCHS_SHOWN = 40,
    REGIONS_SHOWN = 10,
};

static gboolean with_devices;

const GOptionEntry client_inspect_entries[] = {
    { "devices", 0, 0, G_OPTION_ARG_NONE, &with_devices,
      "Print the values in device sections of a file", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
};

/* ---- answers ---------------------------------------------------------------------- */

/* ---- parts of the text ----------------------------------------------------------------- */

static void add_pages(ClientTable *table, JsonObject *object)
{
    client_table_add_number(table, object, "normal-pages");
    client_table_add_number(table, object, "zero-pages");
    client_table_add_number(table, object, "pages-again");
    client_table_add_size(table, object, "payload-bytes");
}

static void add_head(GString *text, JsonObject *traffic)
{
    g_autofree char *total = units_format_size(client_format_get_number(
        traffic, "total-length"));
    g_autofree char *payload = units_format_size(client_format_get_number(
        traffic, "payload-bytes"));
    uint64_t normal = client_format_get_number(traffic, "normal-pages");
    uint64_t page_size = client_format_get_number(traffic, "page-size");
    g_autofree char *raw = units_format_size(normal * page_size);
    const char *machine = client_format_get_string(traffic, "machine");

    if (machine && *machine) {
        g_autofree char *plain = client_format_escape(machine);

        g_string_append_printf(text, "machine %s\n", plain);
    }
    g_string_append_printf(text, "%" PRIu64 " RAM blocks, %s, pages of %" PRIu64
                           " bytes\n", client_format_get_number(
                               traffic, "ramblock-count"), total, page_size);
    g_string_append_printf(text, "%" PRIu64 " normal and %" PRIu64 " zero pages, "
                           "of them %" PRIu64 " again (%" PRIu64 " on the main "
                           "channel, %" PRIu64 " on the preempt channel); %s in "
                           "pages, %s in packets\n", normal,
                           client_format_get_number(traffic, "zero-pages"),
                           client_format_get_number(traffic, "pages-again"),
                           client_format_get_number(traffic, "pages-on-main"),
                           client_format_get_number(traffic, "pages-on-preempt"),
                           raw, payload);
}

static void add_blocks(GString *text, JsonArray *blocks)
{
    static const char *const titles[] = {
        "NAME", "LENGTH", "NORMAL", "ZERO", "AGAIN", "PAYLOAD", NULL
    };
    ClientTable table;

    client_table_init(&table);
    for (unsigned i = 0; i < client_format_get_length(blocks); i++) {
        JsonObject *block = client_format_object_at(blocks, i);

        client_table_add_text(&table, block, "name");
        client_table_add_size(&table, block, "used-length");
        add_pages(&table, block);
        client_table_end_row(&table);
    }
    client_table_append(&table, text, "\nRAM blocks\n", titles);
}

static void add_channels(GString *text, JsonArray *channels)
{
    static const char *const titles[] = {
        "CHANNEL", "PACKETS", "SYNCS", "BYTES", NULL
    };
    ClientTable table;

    client_table_init(&table);
    for (unsigned i = 0; i < client_format_get_length(channels); i++) {
        JsonObject *channel = client_format_object_at(channels, i);

        client_table_add_number(&table, channel, "channel");
        client_table_add_number(&table, channel, "packets");
        client_table_add_number(&table, channel, "syncs");
        client_table_add_size(&table, channel, "bytes");
        client_table_end_row(&table);
    }
    client_table_append(&table, text, "\nChannels\n", titles);
}

/* "12 9 13": packets of one epoch by channel. */
static char *join_packets(JsonObject *epoch)
{
    JsonArray *packets = client_format_get_array(epoch, "by-channel");
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < client_format_get_length(packets); i++) {
        g_string_append_printf(text, "%s%" PRIu64, i ? " " : "",
                               client_format_number_at(packets, i));
    }
    return g_string_free(text, FALSE);
}

static void add_epochs(GString *text, JsonObject *traffic)
{
    static const char *const titles[] = {
        "EPOCH", "PACKETS", "NORMAL", "ZERO", "AGAIN", "PAYLOAD", "BY CHANNEL",
        NULL
    };
    JsonArray *epochs = client_format_get_array(traffic, "epochs");
    unsigned skipped = 0;
    ClientTable table;

    client_table_init(&table);
    for (unsigned i = 0; i < client_format_get_length(epochs); i++) {
        JsonObject *epoch = client_format_object_at(epochs, i);

        if (client_format_get_number(epoch, "normal-pages") +
            client_format_get_number(epoch, "zero-pages") +
            client_format_get_number(epoch, "device-packets") == 0) {
            continue;
        }
        if (table.rows->len >= EPOCHS_SHOWN) {
            skipped++;
            continue;
        }
        client_table_add_number(&table, epoch, "epoch");
        client_table_add_number(&table, epoch, "packets");
        add_pages(&table, epoch);
        client_table_add(&table, join_packets(epoch));
        client_table_end_row(&table);
    }
    client_table_append(&table, text, "\nEpochs with pages\n", titles);
    if (skipped > 0) {
        g_string_append_printf(text, "(and %u more)\n", skipped);
    }
}

typedef struct {
    const char *block;
    uint64_t begin, end, again;
} Region;

static int compare_regions(const void *a, const void *b)
{
    const Region *x = a, *y = b;

    return x->again < y->again ? 1 : x->again > y->again ? -1 : 0;
}

static void collect_regions(JsonObject *block, GArray *regions)
{
    JsonArray *again = client_format_get_array(block, "parts-again");
    uint64_t size = client_format_get_number(block, "part-bytes");
    uint64_t length = client_format_get_number(block, "used-length");

    for (unsigned i = 0; i < client_format_get_length(again); i++) {
        Region region = {
            client_format_get_string(block, "name"), i * size,
            MIN((i + 1) * size, length), client_format_number_at(again, i)
        };

        if (region.again > 0) {
            g_array_append_val(regions, region);
        }
    }
}

static void add_regions(GString *text, JsonArray *blocks)
{
    static const char *const titles[] = {
        "BLOCK", "FROM", "TO", "PAGES AGAIN", NULL
    };
    g_autoptr(GArray) regions = g_array_new(FALSE, FALSE, sizeof(Region));
    ClientTable table;

    for (unsigned i = 0; i < client_format_get_length(blocks); i++) {
        collect_regions(client_format_object_at(blocks, i), regions);
    }
    g_array_sort(regions, compare_regions);
    client_table_init(&table);
    for (unsigned i = 0; i < MIN(regions->len, REGIONS_SHOWN); i++) {
        const Region *region = &g_array_index(regions, Region, i);

        client_table_add(&table, client_format_escape(region->block));
        client_table_add(&table, g_strdup_printf("0x%" PRIx64, region->begin));
        client_table_add(&table, g_strdup_printf("0x%" PRIx64, region->end - 1));
        client_table_add(&table, g_strdup_printf("%" PRIu64, region->again));
        client_table_end_row(&table);
    }
    client_table_append(&table, text, "\nDirtied most\n", titles);
}

static void add_sections(GString *text, JsonObject *main)
{
    static const char *const titles[] = { "NAME", "INSTANCE", "BYTES", NULL };
    JsonArray *sections = client_format_get_array(main, "sections");
    ClientTable table;

    g_string_append_printf(
        text, "\nMain channel: %" PRIu64 " bytes, of them %" PRIu64
        " device state; %" PRIu64 " FLUSH, %" PRIu64 " EOS, %" PRIu64 " PAGE, %"
        PRIu64 " ZERO records\n", client_format_get_number(main, "bytes"),
        client_format_get_number(main, "device-bytes"),
        client_format_get_number(main, "flushes"),
        client_format_get_number(main, "eos"),
        client_format_get_number(main, "page-records"),
        client_format_get_number(main, "zero-records"));
    client_table_init(&table);
    for (unsigned i = 0; i < client_format_get_length(sections); i++) {
        JsonObject *section = client_format_object_at(sections, i);

        client_table_add_text(&table, section, "name");
        client_table_add_number(&table, section, "instance");
        client_table_add_number(&table, section, "bytes");
        client_table_end_row(&table);
    }
    client_table_append(&table, text, "\nDevice sections\n", titles);
}

static void add_moments(GString *text, JsonObject *moments)
{
    GList *names = moments ? json_object_get_members(moments) : NULL;

    if (names) {
        g_string_append(text, "\nMoments, ms since the migration began\n");
    }
    for (GList *item = names; item; item = item->next) {
        g_autofree char *name = client_format_escape(item->data);

        g_string_append_printf(text, "  %-16s %12.3f\n", name,
                               client_format_get_double(moments, item->data));
    }
    g_list_free(names);
}

char *client_inspect_to_string(JsonObject *traffic, JsonArray *channels)
{
    GString *text = g_string_new(NULL);
    JsonArray *blocks = client_format_get_array(traffic, "ramblocks");

    add_head(text, traffic);
    add_blocks(text, blocks);
    add_channels(text, channels);
    add_epochs(text, traffic);
    add_regions(text, blocks);
    add_sections(text, client_format_get_object(traffic, "main"));
    if (g_strcmp0(client_format_get_string(traffic, "clock"), "time") == 0) {
        add_moments(text, client_format_get_object(traffic, "moments"));
    }
    return g_string_free(text, FALSE);
}

/* ---- the command -------------------------------------------------------------------- */

static void print_json(JsonObject *object)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);

    json_node_set_object(node, object);
    client_session_print_json(node);
}

static void print_devices(JsonObject *traffic)
{
    JsonArray *devices = client_format_get_array(traffic, "devices");
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_ARRAY);

    if (devices) {
        json_node_set_array(node, devices);
        g_print("\nDevice state\n");
        client_session_print_json(node);
    }
}

static ClientSessionExit inspect_file(ClientSession *session, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *invalid = NULL, *text = NULL;
    g_autoptr(JsonObject) traffic = client_capture_read(path, &invalid, &error);

    if (!traffic) {
        client_session_complain("inspect: %s", error->message);
        return CLIENT_SESSION_USAGE;
    }
    if (session->json) {
        if (!with_devices && json_object_has_member(traffic, "devices")) {
            json_object_remove_member(traffic, "devices");
        }
        print_json(traffic);
    } else {
        text = client_inspect_to_string(traffic, client_format_get_array(
            traffic, "channels"));
        g_print("%s", text);
        if (with_devices) {
            print_devices(traffic);
        }
    }
    if (invalid) {
        client_session_complain("inspect: %s: a daemon would refuse this stream: "
                                "%s", path, invalid);
        return CLIENT_SESSION_FAILED;
    }
    return CLIENT_SESSION_OK;
}

static JsonObject *id_argument(const char *id)
{
    JsonObject *arguments = json_object_new();

    json_object_set_string_member(arguments, "id", id);
    return arguments;
}

static void print_bytes(JsonObject *migration)
{
    g_autofree char *in = units_format_size(client_format_get_number(
        migration, "bytes-in"));
    g_autofree char *out = units_format_size(client_format_get_number(
        migration, "wire-bytes-out"));

    g_print("%s in, %s out on the wire\n", in, out);
}

static ClientSessionExit inspect_migration(ClientSession *session,
                                           const char *id)
{
    g_autoptr(JsonNode) traffic = NULL, migrations = NULL;
    g_autofree char *text = NULL;
    JsonObject *migration;
    ClientSessionExit code;

    code = client_session_query(session, "query-traffic", id_argument(id),
                                JSON_NODE_OBJECT, &traffic);
    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    if (session->json) {
        client_session_print_json(traffic);
        return CLIENT_SESSION_OK;
    }
    code = client_session_query(session, "query-migrations", id_argument(id),
                                JSON_NODE_ARRAY, &migrations);
    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    migration = client_format_object_at(json_node_get_array(migrations), 0);
    text = client_inspect_to_string(
        json_node_get_object(traffic),
        migration ? client_format_get_array(migration, "channels-in") : NULL);
    print_bytes(migration);
    g_print("%s", text);
    return CLIENT_SESSION_OK;
}

ClientSessionExit client_inspect_run(ClientSession *session, char **args)
{
    bool is_file = strchr(args[0], '/') ||
                   g_file_test(args[0], G_FILE_TEST_EXISTS);
    ClientSessionExit code = is_file ? inspect_file(session, args[0])
                                     : inspect_migration(session, args[0]);

    with_devices = FALSE;
    return code;
}
