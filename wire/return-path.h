/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/return-path.h - what the destination says to the source
 *
 * An incremental parser of the messages a destination QEMU writes back on the
 * main channel (migration/migration.c, source_return_path_thread).  It only
 * watches; bytes go on unchanged.  SHUT is what matters: SHUT 0 is the
 * destination's word that it owns the guest.
 */
#ifndef WIRE_RETURN_PATH_H
#define WIRE_RETURN_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

typedef struct {
    /* all private; embed and init */
    uint8_t buf[520];
    size_t have;
    uint64_t skip;          /* bytes of a bitmap that follows outside framing */
    uint8_t bitmap_state;
    bool opaque;            /* a message we do not know: watch no further */
    bool shut_seen;
    uint32_t shut_value;    /* 0: success */
    uint64_t messages;
} ReturnPath;

void return_path_init(ReturnPath *self);
/* Look at @len bytes; never fails: what is unknown makes it stop watching. */
void return_path_feed(ReturnPath *self, const uint8_t *buf, size_t len);
bool return_path_has_shut(const ReturnPath *self, uint32_t *ret_value);

#endif
