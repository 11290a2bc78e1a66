/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/preempt-stream.h - which pages go by on a preempt channel of postcopy
 *
 * RAM records one after the other, as wire/preempt-start.h has them begin.  This one
 * only looks: what it does not know is no error, it just is not followed any further.
 * Bytes in, calls of a hook out; keeps a record's name and nothing else.
 */
#ifndef WIRE_PREEMPT_STREAM_H
#define WIRE_PREEMPT_STREAM_H

#include <stdbool.h>
#include "wire/main-stream.h"
#include "wire/ramblock.h"

typedef enum {
    PREEMPT_STREAM_WORD,
    PREEMPT_STREAM_NAME_LENGTH,
    PREEMPT_STREAM_NAME,
    PREEMPT_STREAM_BODY,
    PREEMPT_STREAM_LOST,        /* as it stays */
} PreemptStreamState;

/* Zeroes are one at the beginning of the channel. */
typedef struct {
    PreemptStreamState state;
    uint8_t buf[RAMBLOCK_NAME_MAX];     /* the part of the record that is read */
    unsigned have, name_len;
    uint64_t word;
    uint64_t skip;              /* of the body */
    const Ramblock *block;      /* of the last record, for CONTINUE */
} PreemptStream;

/*
 * The next @len bytes.  @hook is called for each page whose record begins in them,
 * with what belongs to @table, which must be the same each time.
 */
void preempt_stream_feed(PreemptStream *self, const uint8_t *buf, size_t len,
                         const RamblockTable *table, uint64_t page_size,
                         MainPageHook hook, void *data);

static inline bool preempt_stream_is_followed(const PreemptStream *self)
{
    return self->state != PREEMPT_STREAM_LOST;
}

#endif
