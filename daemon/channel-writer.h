/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/channel-writer.h - writes one outbound multifd channel to a QEMU
 */
#ifndef DAEMON_CHANNEL_WRITER_H
#define DAEMON_CHANNEL_WRITER_H

#include "daemon/exchange.h"
#include "daemon/leg-payload.h"
#include "daemon/limiter.h"
#include "daemon/stream.h"
#include "daemon/sync-confirm.h"

typedef struct {
    Stream *stream;             /* its init packet has been written */
    Exchange *exchange;
    Limiter *limiter;           /* NULL: no limit */
    unsigned out;               /* channel number, 0 to K - 1 */
    MultifdGeometry geometry;
    const LegPayloadRules *rules;
    uint64_t *packet_num;       /* atomic; one series for all channels */
    SyncConfirm *confirm;       /* NULL: a written SYNC is as good as there */
} ChannelWriterSetup;

/*
 * Take, encode and write packets and SYNCs until the migration is over.  True:
 * it ended without a failure here.  Blocks.
 */
bool channel_writer_run(const ChannelWriterSetup *setup, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

#endif
