/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/main-bitmap.h - the dirty-bitmap section's body, for main-stream.c alone
 *
 * Block dirty bitmaps travel in chunks that delimit themselves (QEMU
 * migration/block-dirty-bitmap.c).  They are followed so that the RAM sections
 * between the START and the END of this one can be: without that every marker
 * of a guest that takes its bitmaps along would pass unseen.  What is in them
 * is not looked at.
 */
#ifndef WIRE_MAIN_BITMAP_H
#define WIRE_MAIN_BITMAP_H

#include "wire/main-parser.h"

enum { MAIN_BITMAP_VERSION = 1 };

typedef enum {
    MAIN_BITMAP_FLAGS,
    MAIN_BITMAP_NAME_LENGTH,
    MAIN_BITMAP_NAME,
    MAIN_BITMAP_START,
    MAIN_BITMAP_RANGE,
    MAIN_BITMAP_SIZE,
} MainBitmapState;

typedef struct {
    MainBitmapState state;
    uint8_t flags;          /* of the present chunk */
    unsigned names_left;    /* of its node and bitmap */
} MainBitmap;

/* The section's header has been seen: name the unit. */
void main_bitmap_begin(MainBitmap *self, MainParser *parser);
/* A unit is there.  *@ret_done: the body is complete. */
bool main_bitmap_step(MainBitmap *self, MainParser *parser, bool *ret_done);

#endif
