/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/main-stream.h - following the main channel as far as it can be followed
 *
 * An incremental parser of QEMU's savevm stream (migration/savevm.c, and ram.c
 * for the RAM section), fed with whatever pieces arrive.  It only watches: the
 * bytes go on unchanged whatever it finds.  Device sections have no length on
 * the wire, so at the first section that it cannot delimit the parser turns
 * opaque for good, which is normal (the device sections at the end of every
 * migration), and reports no more markers.  Only inside a PACKAGED command,
 * whose length is known, are devices passed over.
 *
 * A stream may begin with a command instead of the header: the main channel of a
 * paused postcopy migration that is resumed (QEMU migration/migration.c,
 * postcopy_do_resume).  It has no RAM block list, and is opaque from there on.
 *
 * It fails only where the stream contradicts itself in a part that it does
 * understand: then no destination would take it, and the migration must fail.
 *
 * One thread at a time; no clock, no logging; memory bounded by the number of
 * RAM blocks allowed.
 */
#ifndef WIRE_MAIN_STREAM_H
#define WIRE_MAIN_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>
#include "wire/ramblock.h"

typedef struct MainStream MainStream;

typedef enum {
    MAIN_EVENT_CONFIGURATION,   /* machine type and page size known */
    MAIN_EVENT_RETURN_PATH,     /* OPEN_RETURN_PATH: the source wants answers */
    MAIN_EVENT_POSTCOPY_ADVISE, /* postcopy of RAM is possible later */
    MAIN_EVENT_RAMBLOCKS,       /* the RAM block list is complete */
    MAIN_EVENT_MARKER,          /* a sync marker BEGINS at @offset */
    MAIN_EVENT_PAGE_DATA,       /* first page on main: no multifd, or postcopy */
    MAIN_EVENT_RAM_END,         /* RAM END section seen */
    MAIN_EVENT_SWITCHOVER,      /* SWITCHOVER_START command, since 10.0 */
    MAIN_EVENT_POSTCOPY_RUN,    /* POSTCOPY_RUN, inside the package or not */
    MAIN_EVENT_POSTCOPY_SENT,   /* the PING behind it: the source has made all its
                                   checks, and never runs the guest again */
    MAIN_EVENT_RESUMED,         /* the stream of a resumed postcopy migration */
    MAIN_EVENT_OPAQUE,          /* not followed beyond @offset */
} MainEventKind;

typedef struct {
    MainEventKind kind;
    uint64_t offset;    /* bytes since the stream began; exact for MARKER */
    uint64_t number;    /* MARKER: counted from 1 */
} MainEvent;

/* How markers look, decided by the machine type; read off the RAM START. */
typedef enum {
    MAIN_SYNC_UNKNOWN,
    MAIN_SYNC_PER_SECTION,  /* legacy: EOS of every RAM section */
    MAIN_SYNC_PER_ROUND,    /* MULTIFD_FLUSH */
} MainSyncMode;

enum { MAIN_STREAM_START_SIZE = 4 };

/* These first bytes of a connection are a resumed migration's main channel. */
bool main_stream_is_resumed_start(const uint8_t start[MAIN_STREAM_START_SIZE]);

MainStream *main_stream_new(void);
void main_stream_free(MainStream *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MainStream, main_stream_free)

/* What is known otherwise, for a stream that does not say it itself. */
void main_stream_set_page_size(MainStream *self, uint64_t page_size);

/*
 * Look at the next @len bytes.  Stops after at most one event: *@ret_used says
 * how many bytes were looked at (also on success without event, then @len), and
 * returns true with *@ret_event filled and *@ret_has_event set if there was one.
 * Call again with the rest.  With an event *@ret_used may be 0, where the first
 * byte showed that something before it had ended; the next call goes on.
 *
 * MARKER: the marker's own bytes are within the stream from event.offset on; it
 * is reported before any byte behind the marker's record is looked at, and the
 * record may have begun in an earlier call.
 *
 * In the RAM START section whether an EOS is a marker is known only there: with
 * no MULTIFD_FLUSH before it the mode becomes PER_SECTION and that EOS is marker
 * 1.  A stream without multifd looks the same up to there; then its EOS records
 * are reported as markers as well, and the caller, who knows whether there are
 * multifd channels, ignores them.  After POSTCOPY_LISTEN multifd is silent and
 * an EOS is no marker in either mode.
 *
 * WIRE_ERROR_PROTOCOL: the stream is broken; stays broken.
 */
bool main_stream_feed(MainStream *self, const uint8_t *buf, size_t len,
                      size_t *ret_used, MainEvent *ret_event,
                      bool *ret_has_event, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* Told of each PAGE, XBZRLE, COMPRESS_PAGE and ZERO record, when its block and
 * place have been checked; in the feeding thread. */
typedef void (*MainPageHook)(const Ramblock *block, uint64_t offset, bool zero,
                             void *data);
void main_stream_set_page_hook(MainStream *self, MainPageHook hook, void *data);

/* What is known so far.  NULL, 0 or UNKNOWN before its event. */
const char *main_stream_get_machine(const MainStream *self);
/* What the stream says, in the configuration or POSTCOPY_ADVISE; 0: nothing. */
uint64_t main_stream_get_page_size(const MainStream *self);
/* From the configuration/uuid subsection; false when there is none. */
bool main_stream_get_uuid(const MainStream *self, uint8_t ret_uuid[16]);
MainSyncMode main_stream_get_sync_mode(const MainStream *self);
bool main_stream_has_return_path(const MainStream *self);
/* RAM has begun, and its END section is still to come: nobody has all of it. */
bool main_stream_lacks_ram(const MainStream *self);
bool main_stream_is_opaque(const MainStream *self);
/* Where and why it turned opaque, for a message; NULL before. */
const char *main_stream_get_opaque_reason(const MainStream *self);
/* The table; complete after MAIN_EVENT_RAMBLOCKS and constant from then on. */
const RamblockTable *main_stream_get_ramblocks(const MainStream *self);
/* MULTIFD_FLUSH and EOS records, ZERO and PAGE records seen: for views. */
typedef struct {
    uint64_t flushes, eos, zero_records, page_records;
} MainStreamCounts;
void main_stream_get_counts(const MainStream *self, MainStreamCounts *ret);

#endif
