/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/main-command.h - COMMANDs and the package, for main-stream.c alone
 *
 * Theory of operation.  A COMMAND has a code and a length.  One that we do not
 * know turns the parser opaque all the same: what it changes behind it, as
 * PACKAGED does, we cannot know.
 *
 * The content of PACKAGED is sections again, devices among them, but its length
 * is known, so they do not turn us opaque.  Commands in it are read up to the
 * first section; the rest is passed over, and only its last five bytes are
 * looked at: a package that ends in the command POSTCOPY_RUN starts the guest.
 */
#ifndef WIRE_MAIN_COMMAND_H
#define WIRE_MAIN_COMMAND_H

#include "wire/main-parser.h"
#include "wire/main-ram.h"

enum { MAIN_COMMAND_RUN_SIZE = 5 };     /* POSTCOPY_RUN, with its type byte */

typedef struct {
    bool in_payload;
    uint16_t command;           /* the present one */
    bool has_return_path;
    bool run_seen;              /* POSTCOPY_RUN: the next PING ends the switch */

    bool in_package;            /* the parser's limit is its end */
    bool passing_package;       /* over the rest of it */
    uint8_t package_tail[MAIN_COMMAND_RUN_SIZE];
} MainCommand;

/* A command that a destination takes. */
bool main_command_is_known(uint16_t command);

/* The COMMAND byte has been seen: name the unit. */
void main_command_begin(MainCommand *self, MainParser *parser);
/* A unit is there.  *@ret_done: the command is complete; @ram knows of it. */
bool main_command_step(MainCommand *self, MainParser *parser, MainRam *ram,
                       bool *ret_done);

/* Pass over what is left of the package, from the unit just read on. */
void main_command_pass_package(MainCommand *self, MainParser *parser);
/* These bytes were passed over. */
void main_command_note_passed(MainCommand *self, const uint8_t *buf,
                              size_t len);
/* The package's end is reached. */
void main_command_leave_package(MainCommand *self, MainParser *parser);

#endif
