/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/method-table.h - the methods, for wire/method.c alone
 *
 * One constant per method.  All others reach them by wire/method.h.
 */
#ifndef WIRE_METHOD_TABLE_H
#define WIRE_METHOD_TABLE_H

#include "wire/method.h"

extern const Method method_none;
extern const Method method_zlib;
extern const Method method_zstd;
extern const Method method_qpl;
extern const Method method_uadk;
extern const Method method_qatzip;

/* For methods whose payload says its own size: 1 to a receiver's buffer. */
bool method_bounded_payload_size(uint32_t normal_pages, uint32_t page_size,
                                 uint32_t payload_size, uint32_t *ret_size,
                                 GError **error);

#endif
