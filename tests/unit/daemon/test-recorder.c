/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The recorder: bounded whatever its reader does, and empty when nobody reads.
 */
#include "daemon/recorder.h"

#include <string.h>
#include "wire/recording.h"

enum { PAGE = 4096, MIB = 1024 * 1024 };

static const char pattern[] = "what the guest knows";

static void note(Recorder *recorder, unsigned number)
{
    Packet packet = {
        .kind = PACKET_PAGES, .in_packet = number, .payload_len = PAGE,
    };
    static uint8_t payload[PAGE];

    g_strlcpy(packet.header.ramblock, "ram", sizeof(packet.header.ramblock));
    packet.header.normal_pages = 1;
    memcpy(payload + PAGE / 2, pattern, sizeof(pattern));
    packet.payload = payload;
    recorder_note_packet(recorder, 1, &packet);
}

static RecorderRead read_some(Recorder *recorder, int64_t from, size_t max)
{
    return recorder_read(recorder, from, false, max);
}

/* Before anybody reads only the beginning of the main channel is kept. */
static void test_begins_with_the_reader(void)
{
    g_autoptr(Recorder) recorder = recorder_new();
    RecorderRead read;

    recorder_set_page_size(recorder, PAGE);
    recorder_note_main(recorder, 0, (const uint8_t *)"QEVM", 4);
    recorder_end_head(recorder);
    recorder_note_main(recorder, 4, (const uint8_t *)"later", 5);
    note(recorder, 0);
    read = read_some(recorder, RECORDER_FROM_NOW, MIB);
    g_assert_cmpuint(read.data->len, ==, recording_get_block_size(
        read.data->data, read.data->len));
    g_assert_nonnull(memmem(read.data->data, read.data->len, "QEVM", 4));
    g_assert_null(memmem(read.data->data, read.data->len, "later", 5));
    g_byte_array_unref(read.data);

    note(recorder, 1);
    recorder_note_sync(recorder, 0, 1);
    read = read_some(recorder, read.next, MIB);
    g_assert_cmpuint(read.dropped, ==, 0);
    g_assert_cmpuint(read.data->len, >, 2 * 1344);
    g_assert_cmpuint(read.data->len, <, 2 * 1344 + 200);    /* no payload */
    g_byte_array_unref(read.data);
}

/* Cut anywhere, the pieces make the same bytes. */
static void test_cuts(void)
{
    g_autoptr(Recorder) recorder = recorder_new();
    g_autoptr(GByteArray) joined = g_byte_array_new();
    RecorderRead all, read = read_some(recorder, RECORDER_FROM_NOW, MIB);
    uint64_t begin = read.next;

    g_byte_array_unref(read.data);
    recorder_set_page_size(recorder, PAGE);
    for (unsigned i = 0; i < 10; i++) {
        note(recorder, i);
    }
    all = read_some(recorder, begin, MIB);
    read.next = begin;
    do {
        read = read_some(recorder, read.next, 777);
        g_assert_cmpuint(read.data->len, <=, 777);
        g_byte_array_append(joined, read.data->data, read.data->len);
        g_byte_array_unref(read.data);
    } while (read.next < all.next);
    g_assert_cmpmem(joined->data, joined->len, all.data->data, all.data->len);
    g_byte_array_unref(all.data);
}

/* A reader that is too slow loses the oldest, and is told how much. */
static void test_bounded(void)
{
    g_autoptr(Recorder) recorder = recorder_new();
    RecorderRead read = read_some(recorder, RECORDER_FROM_NOW, MIB);
    uint64_t from = read.next;

    g_byte_array_unref(read.data);
    recorder_set_page_size(recorder, PAGE);
    for (unsigned i = 0; i < 10000; i++) {
        note(recorder, i);
    }
    read = read_some(recorder, from, 100 * MIB);
    g_assert_cmpuint(read.dropped, >, 0);
    g_assert_cmpuint(read.data->len, <=, 8 * MIB);
    g_assert_cmpuint(read.dropped + read.data->len, ==, read.next - from);
    g_assert_cmpuint(recording_get_block_size(read.data->data, read.data->len),
                     <, 2000);      /* begins with a block */
    g_byte_array_unref(read.data);
}

static void test_ends(void)
{
    g_autoptr(Recorder) recorder = recorder_new();
    RecorderRead read = read_some(recorder, RECORDER_FROM_NOW, MIB);

    g_byte_array_unref(read.data);
    recorder_set_page_size(recorder, PAGE);
    note(recorder, 0);
    recorder_finish(recorder);
    note(recorder, 1);
    read = read_some(recorder, read.next, 100);
    g_assert_false(read.ended);
    g_byte_array_unref(read.data);
    read = read_some(recorder, read.next, MIB);
    g_assert_true(read.ended);
    g_byte_array_unref(read.data);
    /* Another reader has not got it yet. */
    recorder_expire(recorder);
    read = read_some(recorder, RECORDER_FROM_NOW, MIB);
    g_assert_false(read.ended);
    g_assert_cmpuint(read.data->len, ==, 0);
    g_byte_array_unref(read.data);
}

/* Larger than Wireshark takes at once: in pieces. */
static void test_large_stream(void)
{
    g_autoptr(Recorder) recorder = recorder_new();
    g_autofree uint8_t *bytes = g_malloc0(300 * 1024);
    RecorderRead read = read_some(recorder, RECORDER_FROM_NOW, MIB);
    size_t size;

    g_byte_array_unref(read.data);
    recorder_note_main(recorder, 0, bytes, 300 * 1024);
    read = read_some(recorder, read.next, MIB);
    size = recording_get_block_size(read.data->data, read.data->len);
    g_assert_cmpuint(size, <, 256 * 1024);
    g_assert_cmpuint(read.data->len, >, 300 * 1024);
    g_byte_array_unref(read.data);
}

static bool has_pattern(const RecorderRead *read)
{
    return read->data->len > 0 &&
           memmem(read->data->data, read->data->len, pattern, sizeof(pattern));
}

/* Of two readers only the one who asks for it gets the guest's memory. */
static void test_payload_of_another(void)
{
    g_autoptr(Recorder) recorder = recorder_new();
    g_autoptr(GByteArray) joined = g_byte_array_new();
    RecorderRead headers = read_some(recorder, RECORDER_FROM_NOW, MIB), read;
    uint64_t begin = headers.next;

    g_byte_array_unref(headers.data);
    recorder_set_page_size(recorder, PAGE);
    read = recorder_read(recorder, RECORDER_FROM_NOW, true, MIB);
    g_byte_array_unref(read.data);
    note(recorder, 0);
    note(recorder, 1);
    recorder_finish(recorder);

    read = recorder_read(recorder, begin, true, MIB);
    g_assert_true(has_pattern(&read));
    g_assert_true(read.ended);
    headers = read_some(recorder, begin, MIB);
    g_assert_false(has_pattern(&headers));
    g_assert_cmpuint(headers.dropped, ==, 0);
    g_assert_cmpuint(headers.next, ==, read.next);
    g_assert_true(headers.ended);
    g_assert_cmpuint(headers.data->len, >, 2 * 1344);
    g_assert_cmpuint(headers.data->len, <, 2 * 1344 + 200);
    g_byte_array_unref(read.data);

    /* Cut anywhere, what is skipped is skipped all the same. */
    read.next = begin;
    do {
        read = read_some(recorder, read.next, 777);
        g_assert_cmpuint(read.dropped, ==, 0);
        g_byte_array_append(joined, read.data->data, read.data->len);
        g_byte_array_unref(read.data);
    } while (!read.ended);
    g_assert_cmpmem(joined->data, joined->len, headers.data->data,
                    headers.data->len);
    g_byte_array_unref(headers.data);

    /* Not from the middle of one either. */
    for (uint64_t at = begin; at < headers.next; at += 500) {
        read = read_some(recorder, at, MIB);
        g_assert_false(has_pattern(&read));
        g_byte_array_unref(read.data);
    }
}

static void test_payload_stops(void)
{
    g_autoptr(Recorder) recorder = recorder_new();
    RecorderRead read = recorder_read(recorder, RECORDER_FROM_NOW, true, MIB);
    uint64_t begin = read.next;

    g_assert_true(read.payload_begun);
    g_byte_array_unref(read.data);
    recorder_set_page_size(recorder, PAGE);
    recorder_stop_payload(recorder);
    note(recorder, 0);
    read = recorder_read(recorder, begin, true, MIB);
    g_assert_false(has_pattern(&read));
    g_assert_cmpuint(read.data->len, >, 1344);
    g_byte_array_unref(read.data);

    note(recorder, 1);
    read = recorder_read(recorder, read.next, true, MIB);
    g_assert_true(has_pattern(&read));
    g_byte_array_unref(read.data);
}

/* Whoever switches payloads on is told so, from wherever he reads. */
static void test_payload_begun(void)
{
    static const struct {
        int64_t from;
        bool payload, begun;
    } reads[] = {
        { RECORDER_FROM_NOW, false, false },
        { 0, false, false },
        { 0, true, true },
        { 0, true, false },
        { RECORDER_FROM_NOW, true, false },
        { 0, false, false },
        { 0, true, false },
    };
    g_autoptr(Recorder) recorder = recorder_new();
    RecorderRead read;

    for (unsigned i = 0; i < G_N_ELEMENTS(reads); i++) {
        read = recorder_read(recorder, reads[i].from, reads[i].payload, MIB);
        g_assert_true(read.payload_begun == reads[i].begun);
        g_byte_array_unref(read.data);
    }
    recorder_stop_payload(recorder);
    read = recorder_read(recorder, 0, true, MIB);
    g_assert_true(read.payload_begun);
    g_byte_array_unref(read.data);

    /* Nothing is recorded after the end. */
    recorder_finish(recorder);
    read = recorder_read(recorder, 0, true, MIB);
    g_assert_false(read.payload_begun);
    g_byte_array_unref(read.data);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/recorder/begins-with-the-reader",
                    test_begins_with_the_reader);
    g_test_add_func("/daemon/recorder/cuts", test_cuts);
    g_test_add_func("/daemon/recorder/bounded", test_bounded);
    g_test_add_func("/daemon/recorder/ends", test_ends);
    g_test_add_func("/daemon/recorder/large-stream", test_large_stream);
    g_test_add_func("/daemon/recorder/payload-of-another",
                    test_payload_of_another);
    g_test_add_func("/daemon/recorder/payload-stops", test_payload_stops);
    g_test_add_func("/daemon/recorder/payload-begun", test_payload_begun);
    return g_test_run();
}
