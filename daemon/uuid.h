/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/uuid.h - a guest's UUID between its 16 bytes on the wire and its text
 */
#ifndef DAEMON_UUID_H
#define DAEMON_UUID_H

#include <stdbool.h>
#include <stdint.h>

enum { UUID_SIZE = 16 };

/* 8-4-4-4-12 lower case hex; g_free() it. */
char *uuid_to_string(const uint8_t uuid[UUID_SIZE]);
/* Only that form, any case; false leaves @ret alone. */
bool uuid_from_string(const char *text, uint8_t ret[UUID_SIZE]);
bool uuid_is_zero(const uint8_t uuid[UUID_SIZE]);
/* A random one, as 32 lower case hex digits. */
void uuid_random_hex(char ret[2 * UUID_SIZE + 1]);

#endif
