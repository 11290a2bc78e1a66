/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/recorder.h - the headers of one migration, while somebody reads them
 *
 * A log of pieces (wire/recording.h) of a bounded size: the oldest go when it is
 * full, so a slow reader loses some and slows nobody.  It records from the first
 * read on and stops when nobody reads for a while.  Only the beginning of the main
 * channel is always kept, up to the RAM block list: without it no recording that
 * begins later could be understood.
 *
 * Of the main channel it is given neither pages nor device state.  Thread-safe;
 * its lock is a leaf.  A NULL recorder does nothing.
 */
#ifndef DAEMON_RECORDER_H
#define DAEMON_RECORDER_H

#include <stdbool.h>
#include "daemon/packet.h"

typedef struct Recorder Recorder;

Recorder *recorder_new(void);
void recorder_free(Recorder *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Recorder, recorder_free)

/* ---- the exchange ----------------------------------------------------------------- */

/* The target's, before the first packet. */
void recorder_set_page_size(Recorder *self, uint64_t page_size);
void recorder_note_packet(Recorder *self, uint64_t epoch, const Packet *packet);
/* Channel @channel's SYNC that ends @epoch. */
void recorder_note_sync(Recorder *self, unsigned channel, uint64_t epoch);
void recorder_note_main(Recorder *self, uint64_t position, const uint8_t *buf,
                        size_t len);
/* What was given of the main channel up to now is the beginning. */
void recorder_end_head(Recorder *self);
void recorder_note_return(Recorder *self, uint64_t position, const uint8_t *buf,
                          size_t len);

/* ---- the reader ------------------------------------------------------------------- */

enum { RECORDER_FROM_NOW = -1 };

typedef struct {
    GByteArray *data;           /* of whole and cut blocks, in their order */
    uint64_t next;              /* read on from here */
    uint64_t dropped;           /* bytes that are gone before data */
    bool payload_begun;         /* payloads are recorded since this read */
    bool ended;                 /* there is no more, and never will be */
} RecorderRead;

/*
 * At most @max bytes, but the beginning is always whole.  @from: RECORDER_FROM_NOW,
 * or the next of the last read.  @payload: record payloads of pages from now on.
 * They are given to those only who ask for them; for others next skips them.
 */
RecorderRead recorder_read(Recorder *self, int64_t from, bool payload,
                           size_t max);
/* Nobody may record payloads now: do not, until somebody asks who may. */
void recorder_stop_payload(Recorder *self);
/* Now and then: stop if nobody reads, and payloads if nobody asks for them. */
void recorder_expire(Recorder *self);
/* The migration is over. */
void recorder_finish(Recorder *self);

#endif
