/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/channel-reader.h - reads one inbound multifd channel of a QEMU
 */
#ifndef DAEMON_CHANNEL_READER_H
#define DAEMON_CHANNEL_READER_H

#include "daemon/exchange.h"
#include "daemon/stream.h"

typedef struct {
    Stream *stream;         /* its init packet has been read */
    Exchange *exchange;
    PacketPool *pool;
    unsigned in;            /* index from exchange_join() */
    unsigned id;            /* the channel's number, for messages */
    unsigned syncs_to_drop; /* SYNCs that already count as seen */
} ChannelReaderSetup;

/*
 * Read, check, decode and push packets until the channel ends or the migration
 * is over.  What goes wrong is told to the exchange.  Blocks.
 */
void channel_reader_run(const ChannelReaderSetup *setup);

#endif
