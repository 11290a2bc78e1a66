/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/main-config.h"

enum {
    MACHINE_NAME_MAX = 255,
    PAGE_BITS_MIN = 10,         /* 1 KiB, old ARM */
    PAGE_BITS_MAX = 16,
    CAPABILITIES_MAX = 64,      /* QEMU sends the few that change the stream */
};

enum { SUB_PAGE_BITS, SUB_CAPABILITIES, SUB_UUID, N_SUBS };

static const struct {
    const char *name;
    size_t body;                /* bytes, of capabilities: the count */
} subsections[N_SUBS] = {
    [SUB_PAGE_BITS] = { "configuration/target-page-bits", 4 },
    [SUB_CAPABILITIES] = { "configuration/capabilities", 4 },
    [SUB_UUID] = { "configuration/uuid", 16 },
};

void main_config_clear(MainConfig *self)
{
    g_clear_pointer(&self->machine, g_free);
}

static void expect(MainConfig *self, MainParser *parser, MainConfigState state,
                   size_t size)
{
    self->state = state;
    main_parser_expect(parser, size);
}

void main_config_begin(MainConfig *self, MainParser *parser)
{
    expect(self, parser, MAIN_CONFIG_LENGTH, 4);
}

void main_config_begin_subsection(MainConfig *self, MainParser *parser)
{
    expect(self, parser, MAIN_CONFIG_SUB_LENGTH, 1);
}

static bool step_length(MainConfig *self, MainParser *parser)
{
    uint32_t length = bytes_get_be32(parser->unit);

    if (length == 0 || length > MACHINE_NAME_MAX) {
        return main_parser_fail(parser, "got a machine type of %" PRIu32
                                " bytes, allowed 1 to %d", length,
                                MACHINE_NAME_MAX);
    }
    expect(self, parser, MAIN_CONFIG_MACHINE, length);
    return true;
}

static bool step_sub_name(MainConfig *self, MainParser *parser)
{
    g_autofree char *shown = NULL;

    for (int i = 0; i < N_SUBS; i++) {
        if (parser->have == strlen(subsections[i].name) &&
            memcmp(parser->unit, subsections[i].name, parser->have) == 0) {
            self->subsection = i;
            expect(self, parser, MAIN_CONFIG_SUB_VERSION, 4);
            return true;
        }
    }
    shown = ramblock_name_escape((const char *)parser->unit, parser->have);
    return main_parser_stop(parser, "configuration subsection '%s' is not "
                            "known", shown);
}

static bool step_sub_version(MainConfig *self, MainParser *parser)
{
    uint32_t version = bytes_get_be32(parser->unit);

    if (version != 1) {
        return main_parser_stop(parser, "version %" PRIu32 " of '%s' is not "
                                "known", version,
                                subsections[self->subsection].name);
    }
    expect(self, parser, MAIN_CONFIG_SUB_BODY,
           subsections[self->subsection].body);
    return true;
}

static bool step_page_bits(MainConfig *self, MainParser *parser, bool *ret_done)
{
    uint32_t bits = bytes_get_be32(parser->unit);

    if (bits < PAGE_BITS_MIN || bits > PAGE_BITS_MAX) {
        return main_parser_fail(parser, "got target-page-bits %" PRIu32
                                ", allowed %d to %d", bits, PAGE_BITS_MIN,
                                PAGE_BITS_MAX);
    }
    self->page_size = UINT64_C(1) << bits;
    *ret_done = true;
    return true;
}

/* Before each capability, and after the last. */
static void next_capability(MainConfig *self, MainParser *parser,
                            bool *ret_done)
{
    if (self->capabilities_left == 0) {
        *ret_done = true;
    } else {
        self->capabilities_left--;
        expect(self, parser, MAIN_CONFIG_CAPABILITY_LENGTH, 1);
    }
}

static bool step_body(MainConfig *self, MainParser *parser, bool *ret_done)
{
    switch (self->subsection) {
    case SUB_PAGE_BITS:
        return step_page_bits(self, parser, ret_done);
    case SUB_UUID:
        memcpy(self->uuid, parser->unit, sizeof(self->uuid));
        self->has_uuid = true;
        *ret_done = true;
        return true;
    default:
        break;
    }
    self->capabilities_left = bytes_get_be32(parser->unit);
    if (self->capabilities_left > CAPABILITIES_MAX) {
        return main_parser_fail(parser, "got %" PRIu32 " capabilities, allowed "
                                "at most %d", self->capabilities_left,
                                CAPABILITIES_MAX);
    }
    next_capability(self, parser, ret_done);
    return true;
}

static bool unit_is(const MainParser *parser, const char *text)
{
    return parser->have == strlen(text) &&
           memcmp(parser->unit, text, parser->have) == 0;
}

/*
 * A capability is listed because it changes the stream, so one that we do not
 * know leaves nothing sure from here on.
 */
static bool step_capability(MainConfig *self, MainParser *parser,
                            bool *ret_done)
{
    g_autofree char *shown = NULL;

    if (unit_is(parser, "x-ignore-shared")) {
        self->ignore_shared = true;
    } else if (unit_is(parser, "mapped-ram")) {
        self->mapped_ram = true;
    } else {
        shown = ramblock_name_escape((const char *)parser->unit, parser->have);
        return main_parser_stop(parser, "capability '%s' is not known", shown);
    }
    next_capability(self, parser, ret_done);
    return true;
}

static bool step_name_length(MainConfig *self, MainParser *parser,
                             const char *what, MainConfigState next)
{
    if (parser->unit[0] == 0) {
        return main_parser_fail(parser, "got an empty %s name, allowed 1 to "
                                "255 bytes", what);
    }
    expect(self, parser, next, parser->unit[0]);
    return true;
}

bool main_config_step(MainConfig *self, MainParser *parser, bool *ret_done)
{
    *ret_done = false;
    switch (self->state) {
    case MAIN_CONFIG_LENGTH:
        return step_length(self, parser);
    case MAIN_CONFIG_MACHINE:
        g_free(self->machine);
        self->machine = ramblock_name_escape((const char *)parser->unit,
                                             parser->have);
        *ret_done = true;
        return true;
    case MAIN_CONFIG_SUB_LENGTH:
        return step_name_length(self, parser, "configuration subsection",
                                MAIN_CONFIG_SUB_NAME);
    case MAIN_CONFIG_SUB_NAME:
        return step_sub_name(self, parser);
    case MAIN_CONFIG_SUB_VERSION:
        return step_sub_version(self, parser);
    case MAIN_CONFIG_SUB_BODY:
        return step_body(self, parser, ret_done);
    case MAIN_CONFIG_CAPABILITY_LENGTH:
        return step_name_length(self, parser, "capability",
                                MAIN_CONFIG_CAPABILITY_NAME);
    case MAIN_CONFIG_CAPABILITY_NAME:
        return step_capability(self, parser, ret_done);
    }
    g_assert_not_reached();
}
