/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/uuid.h"

#include <string.h>
#include <glib.h>

static const uint8_t sample[UUID_SIZE] = {
    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
    0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10,
};
#define SAMPLE_TEXT "01234567-89ab-cdef-fedc-ba9876543210"

/* Byte for byte as QEMU shows it: no field is turned. */
static void test_text_and_back(void)
{
    g_autofree char *text = uuid_to_string(sample);
    uint8_t back[UUID_SIZE] = { 0 };

    g_assert_cmpstr(text, ==, SAMPLE_TEXT);
    g_assert_true(uuid_from_string(text, back));
    g_assert_cmpmem(back, UUID_SIZE, sample, UUID_SIZE);
}

/* Operators type them as they like. */
static void test_any_case_is_read(void)
{
    g_autofree char *upper = g_ascii_strup(SAMPLE_TEXT, -1);
    uint8_t back[UUID_SIZE] = { 0 };

    g_assert_true(uuid_from_string(upper, back));
    g_assert_cmpmem(back, UUID_SIZE, sample, UUID_SIZE);
}

static void test_other_forms_are_refused(void)
{
    static const char *const bad[] = {
        "", "0", "0123456789abcdeffedcba9876543210",
        "{" SAMPLE_TEXT "}", SAMPLE_TEXT " ", SAMPLE_TEXT "0",
        "01234567-89ab-cdef-fedc-ba987654321",
        "01234567-89ab-cdef-fedc-ba987654321g",
        "0123456-789ab-cdef-fedc-ba9876543210",
        "01234567_89ab_cdef_fedc_ba9876543210",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        uint8_t back[UUID_SIZE];

        memcpy(back, sample, UUID_SIZE);
        back[0] = 0x77;
        g_assert_false(uuid_from_string(bad[i], back));
        g_assert_cmpuint(back[0], ==, 0x77);    /* left alone */
        g_assert_cmpmem(back + 1, UUID_SIZE - 1, sample + 1, UUID_SIZE - 1);
    }
}

/* All zero is how QEMU says that a guest has none. */
static void test_zero_is_told(void)
{
    uint8_t uuid[UUID_SIZE] = { 0 };

    g_assert_true(uuid_is_zero(uuid));
    uuid[UUID_SIZE - 1] = 1;
    g_assert_false(uuid_is_zero(uuid));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/uuid/text-and-back", test_text_and_back);
    g_test_add_func("/daemon/uuid/any-case-is-read", test_any_case_is_read);
    g_test_add_func("/daemon/uuid/other-forms-are-refused",
                    test_other_forms_are_refused);
    g_test_add_func("/daemon/uuid/zero-is-told", test_zero_is_told);
    return g_test_run();
}
