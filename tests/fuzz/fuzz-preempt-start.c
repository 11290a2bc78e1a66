/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: how a preempt channel begins is known after a bounded number of
 * bytes, more bytes do not change the answer, and only a listed block is taken.
 *
 * The first byte chooses whether the blocks are known.
 */
#include <string.h>

#include "wire/preempt-start.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(RamblockTable) table = ramblock_table_new();
    PreemptStart answer = PREEMPT_START_MORE;

    g_assert_true(ramblock_table_add(table, (const uint8_t *)"pc.ram", 6,
                                     16 << 20, 0, NULL, NULL));
    for (size_t len = 1; len <= size; len++) {
        g_autofree uint8_t *exact = g_memdup2(data + 1, len - 1);
        PreemptStart now = preempt_start_judge(exact, len - 1, data[0] & 1
                                               ? table : NULL);

        g_assert_true(answer == PREEMPT_START_MORE || now == answer);
        g_assert_true(now != PREEMPT_START_MORE || len - 1 < PREEMPT_START_MAX);
        answer = now;
        if (len > PREEMPT_START_MAX + 8) {
            break;
        }
    }
    return 0;
}
