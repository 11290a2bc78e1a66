/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/link-pack.h - the payload of a PAGES frame between two daemons, packed
 *
 * One byte says how (LinkPackMethod); then, packed that way, a big-endian ref for
 * each page (wire/page-history.h) and the pages themselves, xored where their ref
 * says so.  Each frame is packed by itself, so frames may travel on any lane and
 * be sent again.  docs/link-protocol.md has the format.
 */
#ifndef WIRE_LINK_PACK_H
#define WIRE_LINK_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

typedef enum {
    LINK_PACK_STORED = 0,
    LINK_PACK_ZSTD = 1,
} LinkPackMethod;

enum {
    LINK_PACK_REF_SIZE = 4,
    /* Of zstd, beside 0: not compressed. */
    LINK_PACK_LEVEL_MIN = -5,
    LINK_PACK_LEVEL_MAX = 9,
    /* Bytes of memory that a packer takes at LINK_PACK_LEVEL_MAX, at most. */
    LINK_PACK_MEMORY = 16 * 1024 * 1024,
};

/* What refs and pages are together; bounds what unpacking can yield. */
static inline size_t link_pack_raw_size(unsigned n, uint32_t page_size)
{
    return (size_t)n * (LINK_PACK_REF_SIZE + page_size);
}

/* Room that a packed payload needs at most. */
size_t link_pack_bound(unsigned n, uint32_t page_size);

/* One thread at a time, either way. */
typedef struct LinkPacker LinkPacker;

LinkPacker *link_packer_new(void);
void link_packer_free(LinkPacker *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LinkPacker, link_packer_free)

/* Where the @n pages to be packed are to be put, as page_history_apply() does;
 * good until the next call with this packer. */
uint8_t *link_packer_get_pages(LinkPacker *self, unsigned n,
                               uint32_t page_size);
/*
 * Pack them, with @refs (NULL: all 0).  @level 0, or data that does not shrink:
 * stored.  @out has room for link_pack_bound().  Returns its length.
 */
size_t link_packer_pack(LinkPacker *self, const uint32_t *refs, unsigned n,
                        uint32_t page_size, int level, uint8_t *out);

typedef struct LinkUnpacker LinkUnpacker;

LinkUnpacker *link_unpacker_new(void);
void link_unpacker_free(LinkUnpacker *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LinkUnpacker, link_unpacker_free)

/*
 * @src into @n refs and pages, which are still xored.  Takes no more memory than
 * the pages say, whatever @src is.  WIRE_ERROR_PROTOCOL.
 */
bool link_unpacker_unpack(LinkUnpacker *self, const uint8_t *src, size_t len,
                          unsigned n, uint32_t page_size, uint32_t *refs,
                          uint8_t *pages, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
