/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire/crc32c.h - the checksum of decoded pages on the link
 *
 * CRC-32C (Castagnoli, RFC 3720 B.4), with the processor's instruction where it
 * has one.  It guards against our own mistakes between two daemons (a page taken
 * from the wrong history, a buffer used twice); against an attacker there is TLS.
 */
#ifndef WIRE_CRC32C_H
#define WIRE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continue @crc (0 to begin) over @len bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/*
 * The link's checksum of raw pages: the CRC-32C of the concatenated big-endian
 * CRC-32Cs of each page.  Pages are independent, so several are computed at once.
 */
uint32_t crc32c_pages(const uint8_t *pages, size_t page_size, size_t n_pages);
/* The CRC-32C of each page by itself, into @ret_sums. */
void crc32c_each_page(const uint8_t *pages, size_t page_size, size_t n_pages,
                      uint32_t *ret_sums);

#endif
