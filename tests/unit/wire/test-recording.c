/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recordings: what was written is read back, in either byte order, and what is
 * damaged is refused with buffers of exactly their size.
 */
#include "wire/recording.h"

#include <string.h>
#include "wire/bytes.h"
#include "wire/error.h"

static const uint8_t text[] = "0123456789";

static GByteArray *sample(void)
{
    GByteArray *file = g_byte_array_new();
    RecordingHeader header = {
        .kind = RECORDING_PAGES, .channel = 3, .epoch = 1ull << 40,
        .position = 77, .page_size = 4096, .payload_len = 8192,
    };

    recording_append_file_header(file);
    recording_append(file, &header, 1234567890123456, text, 10);
    header.kind = RECORDING_MAIN;
    header.payload_len = 0;
    recording_append(file, &header, 1, text, 0);
    return file;
}

static void check_sample(const uint8_t *buf, size_t len)
{
    RecordingReader reader;
    RecordingPiece piece;
    bool end;

    g_assert_true(recording_reader_init(&reader, buf, len, NULL));
    g_assert_true(recording_reader_next(&reader, &piece, &end, NULL));
    g_assert_false(end);
    g_assert_cmpint(piece.header.kind, ==, RECORDING_PAGES);
    g_assert_cmpuint(piece.header.channel, ==, 3);
    g_assert_cmpuint(piece.header.epoch, ==, 1ull << 40);
    g_assert_cmpuint(piece.header.position, ==, 77);
    g_assert_cmpuint(piece.header.payload_len, ==, 8192);
    g_assert_cmpint(piece.time_us, ==, 1234567890123456);
    g_assert_cmpmem(piece.bytes, piece.len, text, 10);
    g_assert_true(recording_reader_next(&reader, &piece, &end, NULL));
    g_assert_false(end);
    g_assert_cmpuint(piece.len, ==, 0);
    g_assert_true(recording_reader_next(&reader, &piece, &end, NULL));
    g_assert_true(end);
}

static void test_round_trip(void)
{
    g_autoptr(GByteArray) file = sample();

    check_sample(file->data, file->len);
}

/* As a program on another machine writes them anew: fields swapped, data not. */
static void test_little_endian(void)
{
    g_autoptr(GByteArray) file = sample();
    size_t pos = 0;

    while (pos < file->len) {
        uint8_t *p = file->data + pos;
        size_t size = bytes_get_be32(p + 4);
        size_t fixed = bytes_get_be32(p) == 6 ? 28 : size - 4;

        for (size_t i = 0; i < size; i += 4) {
            if (i < fixed || i == size - 4) {
                bytes_put_be32(p + i, GUINT32_SWAP_LE_BE(bytes_get_be32(p + i)));
            }
        }
        pos += size;
    }
    check_sample(file->data, file->len);
}

/* Reads all of a copy of exactly this size; the error, or NULL. */
static GError *read_all(const uint8_t *buf, size_t len)
{
    g_autofree uint8_t *copy = g_memdup2(buf, len);
    RecordingReader reader;
    RecordingPiece piece;
    GError *error = NULL;
    bool end = false;

    if (!recording_reader_init(&reader, copy, len, &error)) {
        return error;
    }
    while (!error && !end) {
        if (!recording_reader_next(&reader, &piece, &end, &error)) {
            g_assert_nonnull(error);
        }
    }
    return error;
}

static void test_every_cut(void)
{
    g_autoptr(GByteArray) file = sample();
    unsigned whole = 0;

    for (size_t len = 1; len < file->len; len++) {
        g_autoptr(GError) error = read_all(file->data, len);

        whole += error == NULL;
    }
    g_assert_cmpuint(whole, ==, 3);     /* behind a block */
}

/* Whatever a byte becomes, it is read or refused. */
static void test_every_byte(void)
{
    g_autoptr(GByteArray) file = sample();
    GError *error;

    for (size_t at = 0; at < file->len; at++) {
        static const uint8_t values[] = { 0, 1, 0x7f, 0xff };

        for (unsigned i = 0; i < G_N_ELEMENTS(values); i++) {
            uint8_t was = file->data[at];

            file->data[at] = values[i];
            error = read_all(file->data, file->len);
            g_clear_error(&error);
            file->data[at] = was;
        }
    }
}

static void test_foreign(void)
{
    g_autoptr(GByteArray) file = sample();
    g_autoptr(GError) error = NULL, none = NULL;

    file->data[28 + 20 + 28] ^= 1;      /* the first piece's magic */
    error = read_all(file->data, file->len);
    g_assert_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "not of a multiferry recording"));
    none = read_all(text, sizeof(text));
    g_assert_error(none, WIRE_ERROR, WIRE_ERROR_PROTOCOL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/recording/round-trip", test_round_trip);
    g_test_add_func("/wire/recording/little-endian", test_little_endian);
    g_test_add_func("/wire/recording/every-cut", test_every_cut);
    g_test_add_func("/wire/recording/every-byte", test_every_byte);
    g_test_add_func("/wire/recording/foreign", test_foreign);
    return g_test_run();
}
