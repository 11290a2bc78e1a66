/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/units.h"

#include <inttypes.h>
#include <string.h>

#define EXPECTED_RATE \
    "a number with a unit attached, such as 500mbit, 2Gbit or 10MiB/s, " \
    "or 'unlimited'"
#define EXPECTED_SIZE "a number with a unit attached, such as 64KiB or 512M"
#define EXPECTED_TIME \
    "a number with a unit attached, such as 300ms, 5s or 2min"

/* More would not fit in 64 bits beside the largest unit. */
#define MAX_FRACTION_DIGITS 6u
#define FRACTION_ONE UINT64_C(1000000)

/* Of what a caller measures: bits for rates, bytes, milliseconds. */
typedef struct {
    const char *name;
    uint64_t factor;
} Unit;

static const Unit prefixes[] = {
    { "",   1 },
    { "k",  UINT64_C(1000) },
    { "m",  UINT64_C(1000000) },
    { "g",  UINT64_C(1000000000) },
    { "t",  UINT64_C(1000000000000) },
    { "ki", UINT64_C(1) << 10 },
    { "mi", UINT64_C(1) << 20 },
    { "gi", UINT64_C(1) << 30 },
    { "ti", UINT64_C(1) << 40 },
};

static const Unit rate_units[] = {
    { "bit/s", 1 }, { "bit", 1 }, { "bps", 8 }, { "b/s", 8 },
};

static const Unit size_units[] = {
    { "b", 1 },
    { "k", UINT64_C(1) << 10 }, { "kib", UINT64_C(1) << 10 },
    { "m", UINT64_C(1) << 20 }, { "mib", UINT64_C(1) << 20 },
    { "g", UINT64_C(1) << 30 }, { "gib", UINT64_C(1) << 30 },
    { "t", UINT64_C(1) << 40 }, { "tib", UINT64_C(1) << 40 },
    { "kb", UINT64_C(1000) },
    { "mb", UINT64_C(1000000) },
    { "gb", UINT64_C(1000000000) },
    { "tb", UINT64_C(1000000000000) },
};

static const Unit time_units[] = {
    { "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "h", 3600000 },
};

/* Decimal digits, then a fraction; millionths.  Returns where it ends, NULL
 * when there is no number or when it is above what we count. */
static const char *parse_number(const char *text, uint64_t *ret_whole,
                                uint64_t *ret_millionths)
{
    uint64_t whole = 0, millionths = 0, digit_value = FRACTION_ONE / 10;
    const char *p = text;

    if (!g_ascii_isdigit(*p)) {
        return NULL;
    }
    for (; g_ascii_isdigit(*p); p++) {
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole)) {
            return NULL;
        }
    }
    if (*p == '.') {
        const char *fraction = ++p;

        for (; g_ascii_isdigit(*p); p++) {
            millionths += (uint64_t)(*p - '0') * digit_value;
            digit_value /= 10;
        }
        if (p == fraction || p - fraction > MAX_FRACTION_DIGITS) {
            return NULL;
        }
    }
    *ret_whole = whole;
    *ret_millionths = millionths;
    return p;
}

static bool scale(uint64_t whole, uint64_t millionths, uint64_t factor,
                  uint64_t *ret)
{
    uint64_t value, fraction;

    if (__builtin_mul_overflow(whole, factor, &value) ||
        __builtin_mul_overflow(millionths, factor, &fraction) ||
        __builtin_add_overflow(value, fraction / FRACTION_ONE, &value)) {
        return false;
    }
    *ret = value;
    return true;
}

/* 0: not in the table. */
static uint64_t find_factor(const Unit *units, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (g_ascii_strcasecmp(units[i].name, name) == 0) {
            return units[i].factor;
        }
    }
    return 0;
}

/* In bits; 0: unknown. */
static uint64_t find_rate_factor(const char *unit)
{
    if (g_str_has_suffix(unit, "b/s")) {
        return 0;       /* Mb/s: a bit to some, a byte to others */
    }
    for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        size_t len = strlen(prefixes[i].name);

        if (g_ascii_strncasecmp(unit, prefixes[i].name, len) == 0) {
            uint64_t factor = find_factor(rate_units, G_N_ELEMENTS(rate_units),
                                          unit + len);
            if (factor > 0) {
                return factor * prefixes[i].factor;
            }
        }
    }
    return 0;
}

static bool refuse(const char *text, const char *expected, GError **error)
{
    g_autofree char *escaped = g_strescape(text, NULL);

    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                "got '%.100s', expected %s", escaped, expected);
    return false;
}

bool units_parse_rate(const char *text, uint64_t *ret_bytes_per_s,
                      GError **error)
{
    uint64_t whole, millionths, bits;
    const char *unit;

    if (g_ascii_strcasecmp(text, "unlimited") == 0) {
        *ret_bytes_per_s = 0;
        return true;
    }
    unit = parse_number(text, &whole, &millionths);
    if (!unit || find_rate_factor(unit) == 0 ||
        !scale(whole, millionths, find_rate_factor(unit), &bits)) {
        return refuse(text, EXPECTED_RATE, error);
    }
    if (bits < 8) {
        /* Rounded to bytes it would be 0, which means the opposite. */
        return refuse(text, "at least 8bit, or 'unlimited'", error);
    }
    *ret_bytes_per_s = bits / 8;
    return true;
}

bool units_parse_size(const char *text, uint64_t *ret_bytes, GError **error)
{
    uint64_t whole, millionths, factor;
    const char *unit = parse_number(text, &whole, &millionths);

    factor = unit ? find_factor(size_units, G_N_ELEMENTS(size_units), unit) : 0;
    if (factor == 0 || !scale(whole, millionths, factor, ret_bytes)) {
        return refuse(text, EXPECTED_SIZE, error);
    }
    return true;
}

bool units_parse_time(const char *text, unsigned *ret_ms, GError **error)
{
    uint64_t whole, millionths, factor, ms;
    const char *unit = parse_number(text, &whole, &millionths);

    factor = unit ? find_factor(time_units, G_N_ELEMENTS(time_units), unit) : 0;
    if (factor == 0 || !scale(whole, millionths, factor, &ms)) {
        return refuse(text, EXPECTED_TIME, error);
    }
    if (ms > UINT_MAX) {
        return refuse(text, "at most 1193h", error);
    }
    *ret_ms = (unsigned)ms;
    return true;
}

/* Largest unit first; the last one divides everything. */
static char *encode(uint64_t value, const Unit *units)
{
    while (value % units->factor != 0 ||
           (value == 0 && units->factor != 1)) {
        units++;
    }
    return g_strdup_printf("%" PRIu64 "%s", value / units->factor,
                           units->name);
}

char *units_encode_rate(uint64_t bytes_per_s)
{
    static const Unit units[] = {
        { "Gbit", UINT64_C(125000000) }, { "Mbit", UINT64_C(125000) },
        { "MiB/s", UINT64_C(1) << 20 }, { "kbit", UINT64_C(125) },
        { "KiB/s", UINT64_C(1) << 10 }, { "B/s", 1 },
    };

    return bytes_per_s == 0 ? g_strdup("unlimited") :
                              encode(bytes_per_s, units);
}

char *units_encode_size(uint64_t bytes)
{
    static const Unit units[] = {
        { "T", UINT64_C(1) << 40 }, { "G", UINT64_C(1) << 30 },
        { "M", UINT64_C(1) << 20 },
        { "K", UINT64_C(1) << 10 }, { "B", 1 },
    };

    return encode(bytes, units);
}

char *units_encode_time(uint64_t ms)
{
    static const Unit units[] = {
        { "h", 3600000 }, { "min", 60000 }, { "s", 1000 }, { "ms", 1 },
    };

    return encode(ms, units);
}

/* One decimal above the base unit, in the largest that leaves 1 or more. */
static char *format_scaled(double value, double step, const char *const *names)
{
    unsigned i = 0;

    /* What would be printed as 1000.0 or 1024.0 belongs to the next unit. */
    while (names[i + 1] && value >= step - 0.05) {
        value /= step;
        i++;
    }
    return i == 0 ? g_strdup_printf("%.0f %s", value, names[0]) :
                    g_strdup_printf("%.1f %s", value, names[i]);
}

char *units_format_rate(uint64_t bytes_per_s)
{
    static const char *const names[] = {
        "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", NULL
    };

    return format_scaled((double)bytes_per_s * 8, 1000, names);
}

char *units_format_size(uint64_t bytes)
{
    static const char *const names[] = {
        "B", "KiB", "MiB", "GiB", "TiB", "PiB", NULL
    };

    return format_scaled((double)bytes, 1024, names);
}

char *units_format_time(uint64_t ms)
{
    uint64_t s = ms / 1000;

    if (ms < 1000) {
        return g_strdup_printf("%" PRIu64 " ms", ms);
    }
    if (s < 60) {
        return g_strdup_printf("%" PRIu64 ".%" PRIu64 " s", s, ms % 1000 / 100);
    }
    if (s < 3600) {
        return g_strdup_printf("%" PRIu64 " min %02" PRIu64 " s", s / 60,
                               s % 60);
    }
    return g_strdup_printf("%" PRIu64 " h %02" PRIu64 " min", s / 3600,
                           s / 60 % 60);
}
