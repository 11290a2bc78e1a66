/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/vmdesc.h - device sections, by the description at a stream's end
 *
 * A device section has no length on the wire.  But behind the last one a source
 * writes what it has sent, as JSON (QEMU migration/savevm.c, should_send_vmdesc()
 * and qemu_savevm_state_complete_precopy_non_iterable()): for each section name,
 * instance and fields with their sizes.  With it the sections can be found and
 * their values read, as QEMU's scripts/analyze-migration.py does.
 *
 * Both come from a source that is not trusted: sizes are checked against the
 * bytes that are there, and a section that does not fit is passed over.
 */
#ifndef DAEMON_VMDESC_H
#define DAEMON_VMDESC_H

#include <stdbool.h>
#include <stdint.h>
#include <json-glib/json-glib.h>

typedef struct Vmdesc Vmdesc;

/* @buf ends where the stream does and is lent for as long as the object lives;
 * where it begins does not matter.  An error: there is no description. */
Vmdesc *vmdesc_new(const uint8_t *buf, size_t len, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void vmdesc_free(Vmdesc *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vmdesc, vmdesc_free)

/* In their order: `name`, `instance`, `bytes` with the section's header and
 * footer; at last one called `vmdesc`. */
JsonArray *vmdesc_list_sections(const Vmdesc *self);
/* The same with `fields`, an object of values by name: numbers, strings of hex
 * digits, objects. */
JsonArray *vmdesc_list_values(const Vmdesc *self);

#endif
