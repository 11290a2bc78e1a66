/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/method-table.h - the methods, for wire/method.c alone
 *
 * One constant per method-*.c.  All others reach them by wire/method.h.
 */
#ifndef WIRE_METHOD_TABLE_H
#define WIRE_METHOD_TABLE_H

#include "wire/method.h"

extern const Method method_none;

#endif
