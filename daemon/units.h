/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/units.h - rates, sizes and times as people write them
 *
 * Rates as in tc(8): a number with a unit attached, in any case.  `bit` units
 * (500mbit, 2Gbit, 1.5Gbit/s) are bits, `bps` and `B/s` units (40mbps,
 * 10MiB/s) are bytes; k, m, g, t count by 1000 and ki, mi, gi, ti by 1024.
 * Sizes: 512M, 64KiB count by 1024, 64kB by 1000.  Times: 300ms, 5s, 2min, 1h.
 * A bare number is refused, because half of all people would mean the other
 * unit; so is a small `b/s`, which says neither bit nor byte.
 */
#ifndef DAEMON_UNITS_H
#define DAEMON_UNITS_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/*
 * "unlimited" gives 0, and nothing else does.  The result is left alone on
 * error: G_OPTION_ERROR_BAD_VALUE, "got 'x', expected …".
 */
bool units_parse_rate(const char *text, uint64_t *ret_bytes_per_s,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool units_parse_size(const char *text, uint64_t *ret_bytes,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool units_parse_time(const char *text, unsigned *ret_ms,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* For files: exact, in the largest unit that divides, and parsed back to the
 * same number.  g_free(). */
char *units_encode_rate(uint64_t bytes_per_s);
char *units_encode_size(uint64_t bytes);
char *units_encode_time(uint64_t ms);

/* For people, rounded: 512.0 Mbit/s, 1.5 GiB, 2.5 s, 3 min 05 s.  g_free(). */
char *units_format_rate(uint64_t bytes_per_s);
char *units_format_size(uint64_t bytes);
char *units_format_time(uint64_t ms);

#endif
