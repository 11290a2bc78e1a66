/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/error.h - what a decoder can say of bytes it was given
 */
#ifndef WIRE_ERROR_H
#define WIRE_ERROR_H

#include <glib.h>

#define WIRE_ERROR (wire_error_quark())

/*
 * WIRE_ERROR_TRUNCATED:   more bytes are needed; nothing is wrong yet.
 * WIRE_ERROR_PROTOCOL:    the peer broke the format; the migration fails.
 * WIRE_ERROR_UNSUPPORTED: well formed, but nothing we can carry.
 */
typedef enum {
    WIRE_ERROR_TRUNCATED,
    WIRE_ERROR_PROTOCOL,
    WIRE_ERROR_UNSUPPORTED,
} WireError;

GQuark wire_error_quark(void);

#endif
