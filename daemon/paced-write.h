/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/paced-write.h - writing to a stream no faster than a limiter allows
 */
#ifndef DAEMON_PACED_WRITE_H
#define DAEMON_PACED_WRITE_H

#include "daemon/limiter.h"
#include "daemon/stream.h"

/*
 * Write all pieces, in portions that the limiter grants one after another, so
 * that a large packet does not burst.  @limiter NULL: no limit.  Counted is
 * what the bytes cost on the wire.  Blocks.  STREAM_ERROR_SHUTDOWN: the
 * limiter's leaf was closed.
 */
bool paced_write(Stream *stream, Limiter *limiter, const struct iovec *iov,
                 unsigned n_iov, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
