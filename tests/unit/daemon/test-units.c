/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/units.h"

#include <string.h>

typedef struct {
    const char *text;
    uint64_t value;
} Case;

static void test_rate_units(void)
{
    static const Case cases[] = {
        { "unlimited", 0 },
        { "8bit", 1 },
        { "500mbit", 62500000 },
        { "500Mbit", 62500000 },
        { "500Mbit/s", 62500000 },
        { "2Gbit", 250000000 },
        { "1.5gbit", 187500000 },
        { "0.000008mbit", 1 },
        { "1tbit", UINT64_C(125000000000) },
        { "40mbps", 40000000 },
        { "10MB/s", 10000000 },
        { "10MiB/s", 10485760 },
        { "10mibit", 1310720 },
        { "7B/s", 7 },
        { "1kibps", 1024 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t value = 99;

        g_assert_true(units_parse_rate(cases[i].text, &value, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(value, ==, cases[i].value);
    }
}

/* Half of all people would mean the other unit, or the opposite of 0. */
static void test_refuses_ambiguous_rates(void)
{
    static const char *const texts[] = {
        "", "500", "500m", "10 G", "10Mb/s", "10mb", "mbit", "-1mbit",
        "+1mbit", "0x10mbit", "1e3mbit", "nanmbit", "1.mbit", ".5mbit",
        "1.1234567mbit", "0mbit", "7bit", "18446744073709551616bit",
        "18446744073709551615tbit", "500mbit ", " 500mbit", "1,5gbit",
        "500mbits", "unlimitedly",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t value = 99;

        g_assert_false(units_parse_rate(texts[i], &value, &error));
        g_assert_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE);
        g_assert_true(g_str_has_prefix(error->message, "got '"));
        g_assert_nonnull(strstr(error->message, "', expected "));
        g_assert_cmpuint(value, ==, 99);    /* left alone */
    }
}

static void test_size_units(void)
{
    static const Case cases[] = {
        { "0B", 0 }, { "512M", UINT64_C(512) << 20 }, { "64KiB", 65536 },
        { "64kB", 64000 }, { "1.5g", UINT64_C(1536) << 20 }, { "1T",
        UINT64_C(1) << 40 },
    };
    uint64_t value = 99;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_true(units_parse_size(cases[i].text, &value, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(value, ==, cases[i].value);
    }
    g_assert_false(units_parse_size("512", &value, NULL));
    g_assert_false(units_parse_size("512Mbit", &value, NULL));
    g_assert_false(units_parse_size("99999999999T", &value, NULL));
}

static void test_time_units(void)
{
    static const Case cases[] = {
        { "300ms", 300 }, { "5s", 5000 }, { "2min", 120000 }, { "0s", 0 },
        { "0.5s", 500 }, { "1h", 3600000 },
    };
    unsigned value = 99;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_true(units_parse_time(cases[i].text, &value, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(value, ==, cases[i].value);
    }
    g_assert_false(units_parse_time("5", &value, NULL));
    g_assert_false(units_parse_time("5m", &value, NULL));
    g_assert_false(units_parse_time("1194h", &value, NULL));
}

/* --check prints what was understood, and that must mean the same again. */
static void test_encoded_is_exact(void)
{
    static const uint64_t values[] = {
        1, 7, 124, 125, 1000, 1023, 1024, 62500000, 250000000, 10485760,
        UINT64_C(1) << 40, UINT64_MAX / 8,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autofree char *rate = units_encode_rate(values[i]);
        g_autofree char *size = units_encode_size(values[i]);
        uint64_t value = 0;
        bool good;

        good = units_parse_rate(rate, &value, NULL);
        g_assert_true(good);
        g_assert_cmpuint(value, ==, values[i]);
        good = units_parse_size(size, &value, NULL);
        g_assert_true(good);
        g_assert_cmpuint(value, ==, values[i]);
    }
}

static void test_encoded_is_short(void)
{
    g_autofree char *rate = units_encode_rate(62500000);
    g_autofree char *odd = units_encode_rate(10485760);
    g_autofree char *none = units_encode_rate(0);
    g_autofree char *size = units_encode_size(UINT64_C(512) << 20);
    g_autofree char *time = units_encode_time(120000);
    g_autofree char *zero = units_encode_time(0);

    g_assert_cmpstr(rate, ==, "500Mbit");
    g_assert_cmpstr(odd, ==, "10MiB/s");
    g_assert_cmpstr(none, ==, "unlimited");
    g_assert_cmpstr(size, ==, "512M");
    g_assert_cmpstr(time, ==, "2min");
    g_assert_cmpstr(zero, ==, "0ms");
}

static void test_formats_for_people(void)
{
    static const struct {
        char *(*format)(uint64_t value);
        uint64_t value;
        const char *text;
    } cases[] = {
        { units_format_rate, 0, "0 bit/s" },
        { units_format_rate, 64000000, "512.0 Mbit/s" },
        { units_format_rate, UINT64_MAX, "147573952.6 Tbit/s" },
        { units_format_size, 1023, "1023 B" },
        { units_format_size, 1610612736, "1.5 GiB" },
        { units_format_size, 1048575, "1.0 MiB" },
        { units_format_time, 0, "0 ms" },
        { units_format_time, 2599, "2.5 s" },
        { units_format_time, 185000, "3 min 05 s" },
        { units_format_time, 3660000, "1 h 01 min" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = cases[i].format(cases[i].value);

        g_assert_cmpstr(text, ==, cases[i].text);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/units/rate-units", test_rate_units);
    g_test_add_func("/daemon/units/refuses-ambiguous-rates",
                    test_refuses_ambiguous_rates);
    g_test_add_func("/daemon/units/size-units", test_size_units);
    g_test_add_func("/daemon/units/time-units", test_time_units);
    g_test_add_func("/daemon/units/encoded-is-exact", test_encoded_is_exact);
    g_test_add_func("/daemon/units/encoded-is-short", test_encoded_is_short);
    g_test_add_func("/daemon/units/formats-for-people",
                    test_formats_for_people);
    return g_test_run();
}
