/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/main-command.h"

enum {
    COMMAND_OPEN_RETURN_PATH = 1,
    COMMAND_PING,
    COMMAND_POSTCOPY_ADVISE,
    COMMAND_POSTCOPY_LISTEN,
    COMMAND_POSTCOPY_RUN,
    COMMAND_POSTCOPY_RAM_DISCARD,
    COMMAND_PACKAGED,
    COMMAND_ENABLE_COLO,
    COMMAND_POSTCOPY_RESUME,
    COMMAND_RECV_BITMAP,
    COMMAND_SWITCHOVER_START,
    N_COMMANDS,
};

enum {
    ANY_LENGTH = -1,
    ADVISE_LENGTH = 16,
    PAGE_SIZE_MIN = 1024,
    PAGE_SIZE_MAX = 65536,
};

static const struct {
    const char *name;
    int length;             /* of the payload; ADVISE may also have none */
} commands[N_COMMANDS] = {
    [COMMAND_OPEN_RETURN_PATH] = { "OPEN_RETURN_PATH", 0 },
    [COMMAND_PING] = { "PING", 4 },
    [COMMAND_POSTCOPY_ADVISE] = { "POSTCOPY_ADVISE", ADVISE_LENGTH },
    [COMMAND_POSTCOPY_LISTEN] = { "POSTCOPY_LISTEN", 0 },
    [COMMAND_POSTCOPY_RUN] = { "POSTCOPY_RUN", 0 },
    [COMMAND_POSTCOPY_RAM_DISCARD] = { "POSTCOPY_RAM_DISCARD", ANY_LENGTH },
    [COMMAND_PACKAGED] = { "PACKAGED", 4 },
    [COMMAND_ENABLE_COLO] = { "ENABLE_COLO", 0 },
    [COMMAND_POSTCOPY_RESUME] = { "POSTCOPY_RESUME", 0 },
    [COMMAND_RECV_BITMAP] = { "RECV_BITMAP", ANY_LENGTH },
    [COMMAND_SWITCHOVER_START] = { "SWITCHOVER_START", 0 },
};

/* The bytes of a whole POSTCOPY_RUN command. */
static const uint8_t run_command[MAIN_COMMAND_RUN_SIZE] = {
    0x08, 0, COMMAND_POSTCOPY_RUN, 0, 0,
};

bool main_command_is_known(uint16_t command)
{
    return command > 0 && command < N_COMMANDS;
}

void main_command_begin(MainCommand *self, MainParser *parser)
{
    self->in_payload = false;
    main_parser_expect(parser, 4);
}

void main_command_pass_package(MainCommand *self, MainParser *parser)
{
    memset(self->package_tail, 0, sizeof(self->package_tail));
    self->passing_package = true;
    main_parser_skip(parser, parser->limit - parser->pos);
}

void main_command_note_passed(MainCommand *self, const uint8_t *buf, size_t len)
{
    size_t n = MIN(len, sizeof(self->package_tail));
    size_t kept = sizeof(self->package_tail) - n;

    memmove(self->package_tail, self->package_tail + n, kept);
    memcpy(self->package_tail + kept, buf + len - n, n);
}

void main_command_leave_package(MainCommand *self, MainParser *parser)
{
    self->in_package = false;
    parser->limit = UINT64_MAX;
    if (self->passing_package &&
        memcmp(self->package_tail, run_command, sizeof(run_command)) == 0) {
        self->run_seen = true;
        main_parser_emit(parser, MAIN_EVENT_POSTCOPY_RUN,
                         parser->pos - sizeof(run_command));
    }
    self->passing_package = false;
}

static bool run_advise(MainParser *parser, MainRam *ram)
{
    uint64_t size = bytes_get_be64(parser->unit + 8);

    if (ram->page_size != 0 && size != ram->page_size) {
        return main_parser_fail(parser, "got target page size %" PRIu64
                                " in POSTCOPY_ADVISE, allowed %" PRIu64
                                " as in the configuration", size,
                                ram->page_size);
    }
    if (size < PAGE_SIZE_MIN || size > PAGE_SIZE_MAX ||
        (size & (size - 1)) != 0) {
        return main_parser_fail(parser, "got target page size %" PRIu64
                                " in POSTCOPY_ADVISE, allowed a power of two "
                                "from %d to %d", size, PAGE_SIZE_MIN,
                                PAGE_SIZE_MAX);
    }
    ram->page_size = size;
    ram->postcopy_advised = true;
    main_parser_emit(parser, MAIN_EVENT_POSTCOPY_ADVISE,
                     main_parser_unit_offset(parser) - 5);
    return true;
}

static void run_packaged(MainCommand *self, MainParser *parser)
{
    uint32_t length = bytes_get_be32(parser->unit);

    if (self->in_package) {
        main_command_pass_package(self, parser);
    } else {
        self->in_package = true;
        parser->limit = parser->pos + length;
    }
}

/* QEMU flushes it, and looks for errors of the whole switch then. */
static void run_last_ping(MainCommand *self, MainParser *parser)
{
    self->run_seen = false;
    main_parser_emit(parser, MAIN_EVENT_POSTCOPY_SENT, parser->pos);
}

/* A command without payload, begun at @offset. */
static bool run_plain(MainCommand *self, MainParser *parser, MainRam *ram,
                      uint64_t offset)
{
    switch (self->command) {
    case COMMAND_OPEN_RETURN_PATH:
        self->has_return_path = true;
        main_parser_emit(parser, MAIN_EVENT_RETURN_PATH, offset);
        return true;
    case COMMAND_POSTCOPY_LISTEN:
        ram->in_postcopy = true;
        return true;
    case COMMAND_POSTCOPY_RUN:
        self->run_seen = true;
        main_parser_emit(parser, MAIN_EVENT_POSTCOPY_RUN, offset);
        return true;
    case COMMAND_SWITCHOVER_START:
        main_parser_emit(parser, MAIN_EVENT_SWITCHOVER, offset);
        return true;
    case COMMAND_ENABLE_COLO:
        return main_parser_stop(parser, "a COLO stream is not followed");
    default:
        return true;
    }
}

static bool length_allowed(uint16_t command, uint16_t length)
{
    int expected = commands[command].length;

    return expected == ANY_LENGTH || length == expected ||
           (command == COMMAND_POSTCOPY_ADVISE && length == 0);
}

static bool step_head(MainCommand *self, MainParser *parser, MainRam *ram,
                      bool *ret_done)
{
    uint16_t length = bytes_get_be16(parser->unit + 2);

    self->command = bytes_get_be16(parser->unit);
    if (self->command == 0) {
        return main_parser_fail(parser, "got command 0, allowed 1 to %d",
                                N_COMMANDS - 1);
    }
    if (self->command >= N_COMMANDS) {
        return main_parser_stop(parser, "command %u is not known",
                                self->command);
    }
    if (!length_allowed(self->command, length)) {
        return main_parser_fail(parser, "got command %s with %u bytes, allowed "
                                "%d", commands[self->command].name, length,
                                commands[self->command].length);
    }
    *ret_done = true;
    if (length == 0) {
        return run_plain(self, parser, ram,
                         main_parser_unit_offset(parser) - 1);
    }
    if (self->command == COMMAND_POSTCOPY_ADVISE ||
        self->command == COMMAND_PACKAGED ||
        (self->command == COMMAND_PING && self->run_seen)) {
        self->in_payload = true;
        main_parser_expect(parser, length);
        *ret_done = false;
        return true;
    }
    main_parser_skip(parser, length);
    return true;
}

bool main_command_step(MainCommand *self, MainParser *parser, MainRam *ram,
                       bool *ret_done)
{
    *ret_done = false;
    if (!self->in_payload) {
        return step_head(self, parser, ram, ret_done);
    }
    *ret_done = true;
    if (self->command == COMMAND_POSTCOPY_ADVISE) {
        return run_advise(parser, ram);
    }
    if (self->command == COMMAND_PING) {
        run_last_ping(self, parser);
    } else {
        run_packaged(self, parser);
    }
    return true;
}
