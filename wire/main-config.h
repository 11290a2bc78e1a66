/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/main-config.h - the CONFIGURATION section, for main-stream.c alone
 *
 * Machine type, then subsections (QEMU migration/savevm.c,
 * vmstate_configuration).  Whether another subsection follows shows only in the
 * byte after the last one, which main-stream.c looks at.
 */
#ifndef WIRE_MAIN_CONFIG_H
#define WIRE_MAIN_CONFIG_H

#include "wire/main-parser.h"

typedef enum {
    MAIN_CONFIG_LENGTH,
    MAIN_CONFIG_MACHINE,
    MAIN_CONFIG_SUB_LENGTH,
    MAIN_CONFIG_SUB_NAME,
    MAIN_CONFIG_SUB_VERSION,
    MAIN_CONFIG_SUB_BODY,
    MAIN_CONFIG_CAPABILITY_LENGTH,
    MAIN_CONFIG_CAPABILITY_NAME,
} MainConfigState;

typedef struct {
    MainConfigState state;
    char *machine;              /* escaped for print; NULL before */
    uint64_t page_size;         /* 0: not said, the target's minimum */
    bool has_uuid;
    uint8_t uuid[16];
    bool ignore_shared;         /* capability x-ignore-shared is on */
    bool mapped_ram;
    int subsection;             /* index into the table of them */
    uint32_t capabilities_left;
} MainConfig;

void main_config_clear(MainConfig *self);
/* The section's, or a subsection's, type byte has been seen: name the unit. */
void main_config_begin(MainConfig *self, MainParser *parser);
void main_config_begin_subsection(MainConfig *self, MainParser *parser);
/* A unit is there.  *@ret_done: machine or subsection complete. */
bool main_config_step(MainConfig *self, MainParser *parser, bool *ret_done);

#endif
