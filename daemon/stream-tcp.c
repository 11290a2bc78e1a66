/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/stream-tcp.h"

#include <linux/tcp.h>      /* the C library's tcp_info ends too early */
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44           /* linux/tcp.h */
#endif

enum {
    STUCK_TIMEOUTS = 2,             /* once may be chance */
    RTO_MAX_MS = 10 * 1000,         /* above that it is as good as none */
};

/* It is known where it can be set: Linux 6.15 on. */
static unsigned get_rto_max_ms(int fd)
{
    int ms = 0;
    socklen_t len = sizeof(ms);

    return getsockopt(fd, IPPROTO_TCP, TCP_RTO_MAX_MS, &ms, &len) == 0 &&
           ms > 0 && ms <= RTO_MAX_MS ? ms : 0;
}

bool stream_tcp_get(const Stream *stream, StreamTcp *ret)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    /* An old kernel gives less of it. */
    memset(&info, 0, sizeof(info));
    if (getsockopt(stream_get_fd(stream), IPPROTO_TCP, TCP_INFO, &info,
                   &len) != 0 ||
        len < offsetof(struct tcp_info, tcpi_total_retrans) +
              sizeof(info.tcpi_total_retrans)) {
        return false;
    }
    *ret = (StreamTcp) {
        .rtt_us = info.tcpi_rtt,
        .retransmits = info.tcpi_total_retrans,
        .mss = info.tcpi_snd_mss,
        .mtu = info.tcpi_pmtu,
        .segments = info.tcpi_data_segs_out,
        .busy_us = info.tcpi_busy_time,
        .rwnd_limited_us = info.tcpi_rwnd_limited,
        .sndbuf_limited_us = info.tcpi_sndbuf_limited,
        .stuck_ms = info.tcpi_retransmits >= STUCK_TIMEOUTS
                    ? info.tcpi_last_ack_recv : 0,
        .rto_max_ms = get_rto_max_ms(stream_get_fd(stream)),
    };
    if (len >= offsetof(struct tcp_info, tcpi_min_rtt) +
               sizeof(info.tcpi_min_rtt)) {        /* Linux 4.6 on */
        ret->acked = info.tcpi_bytes_acked;
        ret->unsent = info.tcpi_notsent_bytes;
        ret->least_rtt_us = info.tcpi_min_rtt;
    }
    return true;
}

void stream_tcp_get_algorithm(const Stream *stream,
                              char ret[STREAM_TCP_ALGORITHM_SIZE])
{
    socklen_t len = STREAM_TCP_ALGORITHM_SIZE - 1;

    memset(ret, 0, STREAM_TCP_ALGORITHM_SIZE);
    if (getsockopt(stream_get_fd(stream), IPPROTO_TCP, TCP_CONGESTION, ret,
                   &len) != 0) {
        ret[0] = '\0';
    }
}
