/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/stream-tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>

bool stream_tcp_get(const Stream *stream, StreamTcp *ret)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    /* An old kernel gives less of it. */
    if (getsockopt(stream_get_fd(stream), IPPROTO_TCP, TCP_INFO, &info,
                   &len) != 0 ||
        len < offsetof(struct tcp_info, tcpi_total_retrans) +
              sizeof(info.tcpi_total_retrans)) {
        return false;
    }
    *ret = (StreamTcp) {
        .rtt_us = info.tcpi_rtt,
        .retransmits = info.tcpi_total_retrans,
    };
    return true;
}
