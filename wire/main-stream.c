/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/main-stream.c - the sections and commands of the main channel
 *
 * Theory of operation.  main-parser.c delivers units of bytes; this file reads
 * section headers and commands and hands the bodies that it can follow to
 * main-config.c, main-ram.c and main-bitmap.c.  Any other section's body has no
 * length, and turns the parser opaque.
 */
#include <inttypes.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/main-bitmap.h"
#include "wire/main-command.h"
#include "wire/main-config.h"
#include "wire/main-parser.h"
#include "wire/main-ram.h"

/* QEMU's QEMU_VM_*, migration/savevm.h and savevm.c. */
enum {
    STREAM_MAGIC = 0x5145564d,
    STREAM_VERSION = 3,
    RAM_VERSION = 4,

    SECTION_EOF = 0x00,
    SECTION_START = 0x01,
    SECTION_PART = 0x02,
    SECTION_END = 0x03,
    SECTION_FULL = 0x04,
    SECTION_SUBSECTION = 0x05,
    SECTION_VMDESCRIPTION = 0x06,
    SECTION_CONFIGURATION = 0x07,
    SECTION_COMMAND = 0x08,
    SECTION_FOOTER = 0x7e,
};

typedef enum {
    STATE_MAGIC,
    STATE_VERSION,
    STATE_TYPE,
    STATE_CONFIG,           /* in main-config.c */
    STATE_START_ID,
    STATE_START_NAME,
    STATE_START_VERSION,
    STATE_SECTION_ID,
    STATE_RAM,              /* in main-ram.c */
    STATE_BITMAP,           /* in main-bitmap.c */
    STATE_FOOTER,
    STATE_FOOTER_ID,
    STATE_COMMAND,          /* in main-command.c */
    STATE_AFTER_EOF,
    STATE_VMDESC_LENGTH,
    STATE_END,
    STATE_RESUMED,
} State;

typedef enum { FOOTERS_UNKNOWN, FOOTERS_SENT, FOOTERS_NOT_SENT } Footers;

struct MainStream {
    MainParser parser;
    MainConfig config;
    MainRam ram;
    MainBitmap bitmap;
    MainCommand command;

    State state;
    bool first_section;     /* CONFIGURATION may come */
    bool in_config;         /* a subsection of it may come */
    bool ram_started;
    bool ram_ended;         /* its END section, whole */
    uint32_t ram_id;
    bool bitmap_started;
    uint32_t bitmap_id;
    bool in_bitmap;         /* the present section; else it is RAM's */
    Footers footers;
    uint8_t section_type;   /* of the present START, FULL, PART or END */
    uint32_t section_id;
};

static void expect(MainStream *self, State state, size_t size)
{
    self->state = state;
    main_parser_expect(&self->parser, size);
}

MainStream *main_stream_new(void)
{
    MainStream *self = g_new0(MainStream, 1);

    main_parser_init(&self->parser);
    main_ram_init(&self->ram);
    self->first_section = true;
    expect(self, STATE_MAGIC, 4);
    return self;
}

void main_stream_free(MainStream *self)
{
    if (!self) {
        return;
    }
    main_ram_clear(&self->ram);
    main_config_clear(&self->config);
    main_parser_clear(&self->parser);
    g_free(self);
}

/* The main channel of a resumed migration: both ends have kept all the rest. */
static bool begin_resumed(MainStream *self)
{
    self->command.has_return_path = true;
    main_parser_emit(&self->parser, MAIN_EVENT_RESUMED, 0);
    expect(self, STATE_RESUMED, 1);
    return true;
}

bool main_stream_is_resumed_start(const uint8_t start[MAIN_STREAM_START_SIZE])
{
    return start[0] == SECTION_COMMAND &&
           main_command_is_known(bytes_get_be16(start + 1));
}

static bool step_magic(MainStream *self)
{
    uint32_t magic = bytes_get_be32(self->parser.unit);

    if (main_stream_is_resumed_start(self->parser.unit)) {
        return begin_resumed(self);
    }
    if (magic != STREAM_MAGIC) {
        return main_parser_fail(&self->parser, "got magic 0x%08" PRIx32
                                ", allowed 0x%08x (QEVM)", magic, STREAM_MAGIC);
    }
    expect(self, STATE_VERSION, 4);
    return true;
}

static bool step_version(MainStream *self)
{
    uint32_t version = bytes_get_be32(self->parser.unit);

    if (version != STREAM_VERSION) {
        return main_parser_fail(&self->parser, "got stream version %" PRIu32
                                ", allowed %d", version, STREAM_VERSION);
    }
    expect(self, STATE_TYPE, 1);
    return true;
}

/* ---- sections ---- */

static bool begin_config(MainStream *self)
{
    if (!self->first_section) {
        return main_parser_fail(&self->parser, "got a CONFIGURATION section, "
                                "allowed only as the first");
    }
    self->in_config = true;
    self->state = STATE_CONFIG;
    main_config_begin(&self->config, &self->parser);
    return true;
}

static bool begin_section(MainStream *self, uint8_t type)
{
    switch (type) {
    case SECTION_EOF:
        expect(self, STATE_AFTER_EOF, 1);
        return true;
    case SECTION_START:
    case SECTION_FULL:
        self->section_type = type;
        expect(self, STATE_START_ID, 5);
        return true;
    case SECTION_PART:
    case SECTION_END:
        self->section_type = type;
        expect(self, STATE_SECTION_ID, 4);
        return true;
    case SECTION_CONFIGURATION:
        return begin_config(self);
    case SECTION_COMMAND:
        self->state = STATE_COMMAND;
        main_command_begin(&self->command, &self->parser);
        return true;
    default:
        return main_parser_fail(&self->parser, "got section type 0x%02x, "
                                "allowed EOF, START, PART, END, FULL, COMMAND",
                                type);
    }
}

static bool step_type(MainStream *self)
{
    uint8_t type = self->parser.unit[0];

    if (self->in_config && type == SECTION_SUBSECTION) {
        self->state = STATE_CONFIG;
        main_config_begin_subsection(&self->config, &self->parser);
        return true;
    }
    if (self->in_config) {
        self->in_config = false;
        self->first_section = false;
        main_parser_emit(&self->parser, MAIN_EVENT_CONFIGURATION,
                         main_parser_unit_offset(&self->parser));
        main_parser_unget(&self->parser);
        return true;
    }
    if (self->command.in_package && type != SECTION_COMMAND) {
        main_command_pass_package(&self->command, &self->parser);
        expect(self, STATE_TYPE, 1);
        return true;
    }
    if (!begin_section(self, type)) {
        return false;
    }
    self->first_section = false;
    return true;
}

static bool step_config(MainStream *self)
{
    bool done;

    if (!main_config_step(&self->config, &self->parser, &done)) {
        return false;
    }
    if (done) {
        self->ram.page_size = self->config.page_size;
        self->ram.ignore_shared = self->config.ignore_shared;
        self->ram.mapped_ram = self->config.mapped_ram;
        expect(self, STATE_TYPE, 1);
    }
    return true;
}

static bool step_start_id(MainStream *self)
{
    self->section_id = bytes_get_be32(self->parser.unit);
    if (self->parser.unit[4] == 0) {
        return main_parser_fail(&self->parser, "got a section without a name, "
                                "allowed 1 to 255 bytes");
    }
    expect(self, STATE_START_NAME, self->parser.unit[4]);
    return true;
}

static bool section_is(const MainStream *self, const char *name)
{
    return self->section_type == SECTION_START &&
           self->parser.have == strlen(name) &&
           memcmp(self->parser.unit, name, self->parser.have) == 0;
}

static bool step_start_name(MainStream *self)
{
    const char *name = (const char *)self->parser.unit;
    size_t len = self->parser.have;
    g_autofree char *shown = NULL;

    self->in_bitmap = section_is(self, "dirty-bitmap");
    if (!self->in_bitmap && !section_is(self, "ram")) {
        shown = ramblock_name_escape(name, len);
        return main_parser_stop(&self->parser, "section '%s' has no length on "
                                "the wire", shown);
    }
    if (self->in_bitmap ? self->bitmap_started : self->ram_started) {
        return main_parser_fail(&self->parser, "got START of section '%s' "
                                "twice, allowed once",
                                self->in_bitmap ? "dirty-bitmap" : "ram");
    }
    expect(self, STATE_START_VERSION, 8);
    return true;
}

static void begin_bitmap(MainStream *self)
{
    self->in_bitmap = true;
    self->state = STATE_BITMAP;
    main_bitmap_begin(&self->bitmap, &self->parser);
}

static bool step_start_version(MainStream *self)
{
    uint32_t instance = bytes_get_be32(self->parser.unit);
    uint32_t version = bytes_get_be32(self->parser.unit + 4);

    if (instance != 0 || version != (self->in_bitmap ? MAIN_BITMAP_VERSION
                                                     : RAM_VERSION)) {
        return main_parser_stop(&self->parser, "section '%s' instance %" PRIu32
                                " version %" PRIu32 " is not known",
                                self->in_bitmap ? "dirty-bitmap" : "ram",
                                instance, version);
    }
    if (self->in_bitmap ? self->ram_started && self->section_id == self->ram_id
                        : self->bitmap_started &&
                          self->section_id == self->bitmap_id) {
        return main_parser_fail(&self->parser, "got section id %" PRIu32
                                " twice, allowed once", self->section_id);
    }
    if (self->in_bitmap) {
        self->bitmap_started = true;
        self->bitmap_id = self->section_id;
        begin_bitmap(self);
        return true;
    }
    self->ram_started = true;
    self->ram_id = self->section_id;
    self->state = STATE_RAM;
    main_ram_begin(&self->ram, &self->parser, true);
    return true;
}

/* Other sections have turned us opaque, so only those we follow can be open. */
static bool step_section_id(MainStream *self)
{
    uint32_t id = bytes_get_be32(self->parser.unit);

    self->section_id = id;
    if (self->bitmap_started && id == self->bitmap_id) {
        begin_bitmap(self);
        return true;
    }
    self->in_bitmap = false;
    if (!self->ram_started) {
        return main_parser_fail(&self->parser, "got %s of section %" PRIu32
                                ", allowed only after its START",
                                self->section_type == SECTION_END ? "END"
                                                                  : "PART", id);
    }
    if (id != self->ram_id) {
        return main_parser_fail(&self->parser, "got section id %" PRIu32
                                ", allowed %" PRIu32 " ('ram')", id,
                                self->ram_id);
    }
    if (self->section_type == SECTION_END) {
        main_parser_emit(&self->parser, MAIN_EVENT_RAM_END,
                         main_parser_unit_offset(&self->parser) - 1);
    }
    self->state = STATE_RAM;
    main_ram_begin(&self->ram, &self->parser, false);
    return true;
}

static void end_section(MainStream *self)
{
    if (self->footers == FOOTERS_NOT_SENT) {
        expect(self, STATE_TYPE, 1);
    } else {
        expect(self, STATE_FOOTER, 1);
    }
}

static bool step_ram(MainStream *self)
{
    bool done;

    if (!main_ram_step(&self->ram, &self->parser, &done)) {
        return false;
    }
    self->ram_ended = done && self->section_type == SECTION_END;
    if (done) {
        end_section(self);
    }
    return true;
}

static bool step_bitmap(MainStream *self)
{
    bool done;

    if (!main_bitmap_step(&self->bitmap, &self->parser, &done)) {
        return false;
    }
    if (done) {
        end_section(self);
    }
    return true;
}

/*
 * Machine types before 2.4 send no footers; the end of the first RAM section
 * tells, for no section has the footer's type.
 */
static bool step_footer(MainStream *self)
{
    uint8_t type = self->parser.unit[0];

    if (type == SECTION_FOOTER) {
        self->footers = FOOTERS_SENT;
        expect(self, STATE_FOOTER_ID, 4);
        return true;
    }
    if (self->footers == FOOTERS_UNKNOWN) {
        self->footers = FOOTERS_NOT_SENT;
        return begin_section(self, type);
    }
    return main_parser_fail(&self->parser, "got 0x%02x after the end of "
                            "section %" PRIu32 ", allowed its footer 0x%02x",
                            type, self->section_id, SECTION_FOOTER);
}

static bool step_footer_id(MainStream *self)
{
    uint32_t id = bytes_get_be32(self->parser.unit);

    if (id != self->section_id) {
        return main_parser_fail(&self->parser, "got footer of section %" PRIu32
                                ", allowed %" PRIu32, id, self->section_id);
    }
    expect(self, STATE_TYPE, 1);
    return true;
}

static bool step_command(MainStream *self)
{
    bool done;

    if (!main_command_step(&self->command, &self->parser, &self->ram, &done)) {
        return false;
    }
    if (done) {
        expect(self, STATE_TYPE, 1);
    }
    return true;
}

static bool step_after_eof(MainStream *self)
{
    if (self->parser.unit[0] != SECTION_VMDESCRIPTION) {
        return main_parser_stop(&self->parser, "the stream has ended");
    }
    expect(self, STATE_VMDESC_LENGTH, 4);
    return true;
}

static bool step(MainStream *self)
{
    switch (self->state) {
    case STATE_MAGIC:
        return step_magic(self);
    case STATE_VERSION:
        return step_version(self);
    case STATE_TYPE:
        return step_type(self);
    case STATE_CONFIG:
        return step_config(self);
    case STATE_START_ID:
        return step_start_id(self);
    case STATE_START_NAME:
        return step_start_name(self);
    case STATE_START_VERSION:
        return step_start_version(self);
    case STATE_SECTION_ID:
        return step_section_id(self);
    case STATE_RAM:
        return step_ram(self);
    case STATE_BITMAP:
        return step_bitmap(self);
    case STATE_FOOTER:
        return step_footer(self);
    case STATE_FOOTER_ID:
        return step_footer_id(self);
    case STATE_COMMAND:
        return step_command(self);
    case STATE_AFTER_EOF:
        return step_after_eof(self);
    case STATE_VMDESC_LENGTH:
        main_parser_skip(&self->parser, bytes_get_be32(self->parser.unit));
        expect(self, STATE_END, 1);
        return true;
    case STATE_END:
        return main_parser_stop(&self->parser, "the stream has ended");
    case STATE_RESUMED:
        return main_parser_stop(&self->parser, "the stream of a resumed "
                                "migration is not followed");
    }
    g_assert_not_reached();
}

/* What comes next must end within the package, if there is one. */
static bool check_limit(MainStream *self)
{
    MainParser *parser = &self->parser;
    uint64_t left = parser->limit - parser->pos;

    if (parser->skip > left ||
        (parser->skip == 0 && parser->want - parser->have > left)) {
        return main_parser_fail(parser, "got a command that runs beyond its "
                                "package, allowed %" PRIu64 " bytes more",
                                left);
    }
    return true;
}

/* Take some of the bytes; what they complete is looked at. */
static bool advance(MainStream *self, const uint8_t *buf, size_t len,
                    size_t *ret_taken)
{
    MainParser *parser = &self->parser;
    bool passing = self->command.passing_package;

    *ret_taken = main_parser_take(parser, buf, len);
    if (passing) {
        main_command_note_passed(&self->command, buf, *ret_taken);
    } else if (main_parser_unit_ready(parser) && !step(self)) {
        return false;
    }
    if (parser->opaque_reason) {
        return true;
    }
    if (self->command.in_package && parser->pos == parser->limit &&
        self->state == STATE_TYPE && parser->skip == 0) {
        main_command_leave_package(&self->command, parser);
    }
    return check_limit(self);
}

bool main_stream_feed(MainStream *self, const uint8_t *buf, size_t len,
                      size_t *ret_used, MainEvent *ret_event,
                      bool *ret_has_event, GError **error)
{
    MainParser *parser = &self->parser;
    uint64_t begin = parser->pos;
    bool ok = !parser->error;

    parser->has_event = false;
    while (ok && !parser->has_event && parser->pos - begin < len) {
        size_t used = parser->pos - begin;
        size_t taken;

        if (parser->opaque_reason) {
            parser->pos = begin + len;
            break;
        }
        ok = advance(self, buf + used, len - used, &taken);
    }
    if (!ok) {
        g_propagate_error(error, g_error_copy(parser->error));
        return false;
    }
    *ret_used = parser->pos - begin;
    *ret_has_event = parser->has_event;
    if (parser->has_event) {
        *ret_event = parser->event;
    }
    return true;
}

const char *main_stream_get_machine(const MainStream *self)
{
    return self->config.machine;
}

void main_stream_set_page_size(MainStream *self, uint64_t page_size)
{
    self->ram.page_size_told = page_size;
}

void main_stream_set_page_hook(MainStream *self, MainPageHook hook, void *data)
{
    self->ram.page_hook = hook;
    self->ram.page_hook_data = data;
}

uint64_t main_stream_get_page_size(const MainStream *self)
{
    return self->ram.page_size;
}

bool main_stream_get_uuid(const MainStream *self, uint8_t ret_uuid[16])
{
    if (self->config.has_uuid) {
        memcpy(ret_uuid, self->config.uuid, sizeof(self->config.uuid));
    }
    return self->config.has_uuid;
}

MainSyncMode main_stream_get_sync_mode(const MainStream *self)
{
    return self->ram.mode;
}

bool main_stream_has_return_path(const MainStream *self)
{
    return self->command.has_return_path;
}

bool main_stream_lacks_ram(const MainStream *self)
{
    return self->ram_started && !self->ram_ended && !self->parser.opaque_reason;
}

bool main_stream_is_opaque(const MainStream *self)
{
    return self->parser.opaque_reason != NULL;
}

const char *main_stream_get_opaque_reason(const MainStream *self)
{
    return self->parser.opaque_reason;
}

const RamblockTable *main_stream_get_ramblocks(const MainStream *self)
{
    return self->ram.table;
}

void main_stream_get_counts(const MainStream *self, MainStreamCounts *ret)
{
    *ret = self->ram.counts;
}
