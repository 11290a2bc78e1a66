/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wanem - a small userspace WAN emulator.
 *
 * Joins two network namespaces with one TUN device in each and carries IP
 * packets both ways through a model of a long-distance link: a serialiser
 * with a fixed bit rate, a tail-drop queue measured in bytes, propagation
 * delay, jitter and random loss.  Everything can be changed while traffic is
 * running, the link can be cut and restored, and TCP flows that cross it can
 * be killed with or without telling their ends.
 *
 * The kernel needs TUN and network namespaces, nothing else (no netem).
 *
 *     cc -O2 -D_GNU_SOURCE -o wanem wanem.c -lpthread
 *
 * See README.md for the options and the control commands.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NSEC 1000000000LL
#define MSEC 1000000LL

/* A packet longer in time than this on the link is cut into shorter ones. */
#define CHUNK_NS 500000.0
/* Jitter is a line drawn between random points this far apart. */
#define JITTER_STEP_NS (20 * MSEC)

typedef struct virtio_net_hdr vnet_hdr;

/* ------------------------------------------------------------------ */
/* small helpers                                                      */

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * NSEC + ts.tv_nsec;
}

__attribute__((format(printf, 1, 2), noreturn))
static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("wanem: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static uint64_t rng_next(uint64_t *s)      /* xorshift64* */
{
    uint64_t x = *s;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *s = x;
    return x * 0x2545F4914F6CDD1DULL;
}

static double rng_unit(uint64_t *s)        /* [0, 1) */
{
    return (double)(rng_next(s) >> 11) * (1.0 / 9007199254740992.0);
}

static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static void put16(uint8_t *p, uint16_t v) { p[0] = v >> 8; p[1] = (uint8_t)v; }
static void put32(uint8_t *p, uint32_t v)
{
    p[0] = v >> 24; p[1] = v >> 16; p[2] = v >> 8; p[3] = (uint8_t)v;
}

/* ones' complement sum over big-endian words, not folded */
static uint32_t csum_add(uint32_t sum, const uint8_t *p, size_t n)
{
    for (; n > 1; n -= 2, p += 2)
        sum += get16(p);
    if (n)
        sum += (uint32_t)p[0] << 8;
    return sum;
}
static uint16_t csum_fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* ------------------------------------------------------------------ */
/* TCP flow table (needed to kill flows and to answer with exact RSTs) */

enum flow_state { FLOW_ALIVE, FLOW_RST, FLOW_DROP };

struct flow_key {                   /* oriented: a-side first */
    uint8_t family;
    uint8_t addr[2][16];
    uint16_t port[2];
};

struct flow {
    bool used;
    struct flow_key key;
    enum flow_state state;
    uint32_t gen;                   /* changes when the slot is reused */
    uint32_t ack[2];                /* last ACK number sent by a / by b */
    bool have_ack[2];
    int64_t seen;
};

#define FLOW_SETS 1024
#define FLOW_WAYS 8
static struct flow flows[FLOW_SETS][FLOW_WAYS];
static uint32_t flow_gen;
static pthread_mutex_t flow_lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t flow_hash(const struct flow_key *k)
{
    const uint8_t *p = (const uint8_t *)k;
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < sizeof(*k); i++)
        h = (h ^ p[i]) * 16777619u;
    return (h ^ h >> 15) % FLOW_SETS;
}

/* ------------------------------------------------------------------ */
/* parsed view of a packet                                            */

struct view {
    int family;                     /* 4, 6, or 0 if not understood */
    uint32_t l4;                    /* offset of the TCP header, 0 if not TCP */
    uint32_t hdrs;                  /* IP + TCP header bytes */
    uint8_t tcp_flags;
};

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16, TCP_CWR = 128 };

static void parse(const uint8_t *p, uint32_t len, struct view *v)
{
    memset(v, 0, sizeof(*v));
    uint32_t off, proto;
    if (len >= 20 && p[0] >> 4 == 4) {
        v->family = 4;
        off = (p[0] & 15) * 4u;
        proto = p[9];
        if (get16(p + 6) & 0x1fff)
            return;                 /* not a first fragment */
    } else if (len >= 40 && p[0] >> 4 == 6) {
        v->family = 6;
        off = 40;
        proto = p[6];
    } else {
        return;
    }
    if (proto != IPPROTO_TCP || len < off + 20)
        return;
    uint32_t doff = (p[off + 12] >> 4) * 4u;
    if (doff < 20 || len < off + doff)
        return;
    v->l4 = off;
    v->hdrs = off + doff;
    v->tcp_flags = p[off + 13];
}

/* ------------------------------------------------------------------ */
/* one direction of the link                                          */

struct params {
    double rate;                    /* bit/s, 0 = no limit */
    int64_t delay, jitter;          /* ns */
    double loss;                    /* 0..1 */
    double burst;                   /* mean run of lost packets, 1 = independent */
    int64_t queue;                  /* bytes, 0 = no limit */
    int overhead;                   /* bytes added to each packet on the link */
};

struct counters {
    uint64_t in_pkts, in_bytes;     /* offered, as packets of at most one MTU */
    uint64_t out_pkts, out_bytes;   /* delivered */
    uint64_t loss_pkts, loss_bytes; /* random loss */
    uint64_t tail_pkts, tail_bytes; /* queue full */
    uint64_t down_pkts, down_bytes; /* link down */
    uint64_t kill_pkts, kill_bytes; /* killed flow */
    uint64_t rst_sent, write_err;
    uint64_t queue_peak;
};

struct pkt {
    struct pkt *next;
    int64_t t;                      /* arrival, then time of delivery */
    uint32_t len;                   /* bytes of IP packet in data */
    uint32_t wire;                  /* bytes on the link */
    uint32_t segs;                  /* packets on the link */
    struct flow *flow;
    uint32_t flow_gen;
    vnet_hdr vh;
    uint8_t data[];
};

struct fifo { struct pkt *head, *tail; };

struct dir {
    const char *name;
    int side;                       /* 0: from a to b, 1: from b to a */
    int in_fd, out_fd, wake_fd;
    pthread_t thread;
    pthread_mutex_t lock;           /* params, counters, down state, queued */
    struct params p;
    struct counters c;
    bool down;
    int64_t down_until;             /* 0 = until told */

    int64_t queued;                 /* bytes waiting in `queue` */

    /* used by the direction's thread only */
    struct fifo queue, line;
    int64_t link_free, last_out;
    uint64_t rng;
    bool lossy;                     /* inside a burst of loss */
    int64_t jit_t;
    double jit_a, jit_b;
};

static struct dir dirs[2];
static bool use_gso = true;
static volatile sig_atomic_t quit_flag;

static void fifo_push(struct fifo *f, struct pkt *p)
{
    p->next = NULL;
    if (f->tail)
        f->tail->next = p;
    else
        f->head = p;
    f->tail = p;
}

static struct pkt *fifo_pop(struct fifo *f)
{
    struct pkt *p = f->head;
    f->head = p->next;
    if (!f->head)
        f->tail = NULL;
    return p;
}

_Static_assert(offsetof(struct pkt, data) == offsetof(struct pkt, vh) + sizeof(vnet_hdr),
               "header and data must lie together");

/* `frame` is a vnet_hdr and, straight after it, the packet's `len` bytes. */
static bool write_tun(int fd, const void *frame, uint32_t len)
{
    ssize_t n = write(fd, frame, sizeof(vnet_hdr) + len);
    return n == (ssize_t)(sizeof(vnet_hdr) + len);
}

/*
 * Send a RST to side `to` of flow f.  seq must be what that side expects
 * next; its own last ACK number says so.
 */
static void send_rst(const struct flow_key *k, int to, uint32_t seq)
{
    struct {
        vnet_hdr vh;
        uint8_t ip[60];
    } buf = { 0 };
    uint8_t *b = buf.ip;
    int from = !to;
    uint32_t ip = k->family == 4 ? 20 : 40, sum;
    uint8_t *t = b + ip;

    put16(t, k->port[from]);
    put16(t + 2, k->port[to]);
    put32(t + 4, seq);
    t[12] = 5 << 4;
    t[13] = TCP_RST;
    if (k->family == 4) {
        b[0] = 0x45;
        put16(b + 2, 40);
        put16(b + 6, 0x4000);
        b[8] = 64;
        b[9] = IPPROTO_TCP;
        memcpy(b + 12, k->addr[from], 4);
        memcpy(b + 16, k->addr[to], 4);
        put16(b + 10, (uint16_t)~csum_fold(csum_add(0, b, 20)));
        sum = csum_add(0, b + 12, 8);
    } else {
        b[0] = 0x60;
        put16(b + 4, 20);
        b[6] = IPPROTO_TCP;
        b[7] = 64;
        memcpy(b + 8, k->addr[from], 16);
        memcpy(b + 24, k->addr[to], 16);
        sum = csum_add(0, b + 8, 32);
    }
    sum += IPPROTO_TCP + 20;
    put16(t + 16, (uint16_t)~csum_fold(csum_add(sum, t, 20)));

    /* what reaches side b is written to the TUN of b, and so on */
    struct dir *d = &dirs[from];
    if (write_tun(d->out_fd, &buf, ip + 20)) {
        pthread_mutex_lock(&d->lock);
        d->c.rst_sent++;
        pthread_mutex_unlock(&d->lock);
    }
}

/* Returns the flow's entry; called with flow_lock held. */
static struct flow *flow_get(struct dir *d, const uint8_t *p, const struct view *v, int64_t now)
{
    struct flow_key k;
    int s = d->side;
    memset(&k, 0, sizeof(k));
    k.family = (uint8_t)v->family;
    if (v->family == 4) {
        memcpy(k.addr[s], p + 12, 4);
        memcpy(k.addr[!s], p + 16, 4);
    } else {
        memcpy(k.addr[s], p + 8, 16);
        memcpy(k.addr[!s], p + 24, 16);
    }
    k.port[s] = get16(p + v->l4);
    k.port[!s] = get16(p + v->l4 + 2);

    struct flow *set = flows[flow_hash(&k)], *f = NULL, *old = &set[0];
    for (int i = 0; i < FLOW_WAYS; i++) {
        if (set[i].used && !memcmp(&set[i].key, &k, sizeof(k))) {
            f = &set[i];
            break;
        }
        if (!set[i].used || (old->used && set[i].seen < old->seen))
            old = &set[i];
    }
    bool opening = (v->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
    if (!f || (opening && f->state != FLOW_ALIVE)) {
        if (!f)
            f = old;
        memset(f, 0, sizeof(*f));
        f->used = true;
        f->key = k;
        f->gen = ++flow_gen;
    }
    f->seen = now;
    if (v->tcp_flags & TCP_ACK) {
        f->ack[s] = get32(p + v->l4 + 8);
        f->have_ack[s] = true;
    }
    return f;
}

/* Gilbert model; with burst == 1 every packet is judged on its own. */
static bool lose(struct dir *d, const struct params *p)
{
    if (p->loss <= 0)
        return false;
    if (p->burst <= 1)
        return rng_unit(&d->rng) < p->loss;
    double leave = 1.0 / p->burst;
    double enter = p->loss >= 1 ? 1 : leave * p->loss / (1 - p->loss);
    d->lossy = rng_unit(&d->rng) < (d->lossy ? 1 - leave : enter);
    return d->lossy;
}

static int64_t jitter_at(struct dir *d, const struct params *p, int64_t t)
{
    if (p->jitter <= 0)
        return 0;
    while (t >= d->jit_t) {
        if (t - d->jit_t > 10 * JITTER_STEP_NS)
            d->jit_t = t - JITTER_STEP_NS;
        d->jit_a = d->jit_b;
        d->jit_b = 2 * rng_unit(&d->rng) - 1;
        d->jit_t += JITTER_STEP_NS;
    }
    double f = 1.0 - (double)(d->jit_t - t) / JITTER_STEP_NS;
    return (int64_t)((d->jit_a + (d->jit_b - d->jit_a) * f) * (double)p->jitter);
}

/* Move what the serialiser has sent by `now` onto the delay line. */
static void serialise(struct dir *d, const struct params *p, int64_t now)
{
    struct pkt *k;
    while ((k = d->queue.head)) {
        int64_t start = d->link_free > k->t ? d->link_free : k->t;
        int64_t done = start;
        if (p->rate > 0)
            done += (int64_t)(k->wire * 8e9 / p->rate);
        if (done > now)
            break;
        fifo_pop(&d->queue);
        d->queued -= k->wire;
        d->link_free = done;
        int64_t out = done + p->delay + jitter_at(d, p, done);
        if (out < d->last_out)
            out = d->last_out;      /* packets never overtake each other */
        if (out < done)
            out = done;
        d->last_out = out;
        k->t = out;
        fifo_push(&d->line, k);
    }
}

static void enqueue(struct dir *d, const struct params *p, struct pkt *k, int64_t now)
{
    if (p->queue > 0 && d->queued + k->wire > p->queue) {
        d->c.tail_pkts += k->segs;
        d->c.tail_bytes += k->wire;
        free(k);
        return;
    }
    k->t = now;
    d->queued += k->wire;
    if ((uint64_t)d->queued > d->c.queue_peak)
        d->c.queue_peak = (uint64_t)d->queued;
    fifo_push(&d->queue, k);
}

static struct pkt *pkt_new(uint32_t len)
{
    struct pkt *k = malloc(sizeof(*k) + len);
    if (!k)
        die("out of memory");
    memset(k, 0, sizeof(*k));
    k->len = len;
    return k;
}

/* Segments first .. first+count-1 of a large TCP packet, as one packet. */
static struct pkt *cut(const vnet_hdr *vh, const uint8_t *p, uint32_t len,
                       const struct view *v, uint32_t first, uint32_t count)
{
    uint32_t mss = vh->gso_size;
    uint32_t payload = len - v->hdrs;
    uint32_t from = first * mss;
    uint32_t n = count * mss;
    if (from + n > payload)
        n = payload - from;
    bool last = from + n == payload;

    struct pkt *k = pkt_new(v->hdrs + n);
    memcpy(k->data, p, v->hdrs);
    memcpy(k->data + v->hdrs, p + v->hdrs + from, n);
    uint8_t *ip = k->data, *t = k->data + v->l4;
    uint32_t sum;
    if (v->family == 4) {
        put16(ip + 2, (uint16_t)k->len);
        put16(ip + 4, (uint16_t)(get16(ip + 4) + first));
        put16(ip + 10, 0);
        put16(ip + 10, (uint16_t)~csum_fold(csum_add(0, ip, v->l4)));
        sum = csum_add(0, ip + 12, 8);
    } else {
        put16(ip + 4, (uint16_t)(k->len - 40));
        sum = csum_add(0, ip + 8, 32);
    }
    put32(t + 4, get32(t + 4) + from);
    if (!last)
        t[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
    if (first)
        t[13] &= (uint8_t)~TCP_CWR;
    /* checksum left to the receiver's stack: only the pseudo header */
    put16(t + 16, csum_fold(sum + IPPROTO_TCP + (k->len - v->l4)));

    k->vh = *vh;
    k->vh.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    k->vh.csum_start = (uint16_t)v->l4;
    k->vh.csum_offset = 16;
    k->segs = (n + mss - 1) / mss;
    if (k->segs <= 1) {
        k->vh.gso_type = VIRTIO_NET_HDR_GSO_NONE;
        k->vh.gso_size = 0;
        k->vh.hdr_len = 0;
        k->segs = 1;
    } else {
        k->vh.hdr_len = (uint16_t)v->hdrs;
    }
    return k;
}

/* One read from the TUN: one packet, or a TCP packet of many segments. */
static void ingest(struct dir *d, const vnet_hdr *vh, const uint8_t *p, uint32_t len, int64_t now)
{
    struct view v;
    parse(p, len, &v);

    bool gso = vh->gso_type != VIRTIO_NET_HDR_GSO_NONE && vh->gso_size && v.l4;
    uint32_t mss = gso ? vh->gso_size : 0;
    uint32_t segs = gso ? (len - v.hdrs + mss - 1) / mss : 1;
    if (segs < 1)
        segs = 1;

    struct flow *f = NULL;
    uint32_t fgen = 0;
    enum flow_state state = FLOW_ALIVE;
    struct flow_key key;
    if (v.l4) {
        pthread_mutex_lock(&flow_lock);
        f = flow_get(d, p, &v, now);
        fgen = f->gen;
        state = f->state;
        key = f->key;
        pthread_mutex_unlock(&flow_lock);
    }

    pthread_mutex_lock(&d->lock);
    struct params pr = d->p;
    uint32_t wire = len + (gso ? (segs - 1) * v.hdrs : 0) + segs * (uint32_t)pr.overhead;
    d->c.in_pkts += segs;
    d->c.in_bytes += wire;
    if (d->down) {
        d->c.down_pkts += segs;
        d->c.down_bytes += wire;
        goto out;
    }
    if (state != FLOW_ALIVE) {
        d->c.kill_pkts += segs;
        d->c.kill_bytes += wire;
        pthread_mutex_unlock(&d->lock);
        /* the sender tells by its ACK number which RST it will accept */
        if (state == FLOW_RST && !(v.tcp_flags & TCP_RST) && (v.tcp_flags & TCP_ACK))
            send_rst(&key, d->side, get32(p + v.l4 + 8));
        return;
    }
    serialise(d, &pr, now);

    if (!gso) {
        if (lose(d, &pr)) {
            d->c.loss_pkts++;
            d->c.loss_bytes += wire;
            goto out;
        }
        struct pkt *k = pkt_new(len);
        memcpy(k->data, p, len);
        k->vh = *vh;
        k->segs = 1;
        k->wire = wire;
        k->flow = f;
        k->flow_gen = fgen;
        enqueue(d, &pr, k, now);
        goto out;
    }

    uint32_t seg_wire = mss + v.hdrs + (uint32_t)pr.overhead;
    uint32_t most = segs;
    if (pr.rate > 0) {
        double fit = pr.rate * CHUNK_NS / 8e9 / seg_wire;
        most = fit < 1 ? 1 : fit > segs ? segs : (uint32_t)fit;
    }
    for (uint32_t i = 0; i < segs;) {
        uint32_t run = 0;
        bool lost = false;
        while (i + run < segs && run < most) {
            if ((lost = lose(d, &pr)))
                break;
            run++;
        }
        if (run) {
            struct pkt *k = cut(vh, p, len, &v, i, run);
            k->wire = k->len + (k->segs - 1) * v.hdrs + k->segs * (uint32_t)pr.overhead;
            k->flow = f;
            k->flow_gen = fgen;
            /* a queue with room for a part takes that part */
            int64_t room = pr.queue > 0 ? pr.queue - d->queued : INT64_MAX;
            if (k->wire > room && k->segs > 1 && room >= seg_wire) {
                uint32_t fit = (uint32_t)(room / seg_wire);
                if (fit < run) {
                    free(k);
                    run = fit;
                    lost = false;
                    k = cut(vh, p, len, &v, i, run);
                    k->wire = k->len + (k->segs - 1) * v.hdrs + k->segs * (uint32_t)pr.overhead;
                    k->flow = f;
                    k->flow_gen = fgen;
                }
            }
            enqueue(d, &pr, k, now);
        }
        i += run;
        if (lost) {
            uint32_t n = len - v.hdrs - i * mss;
            if (n > mss)
                n = mss;
            d->c.loss_pkts++;
            d->c.loss_bytes += n + v.hdrs + (uint32_t)pr.overhead;
            i++;
        }
    }
out:
    pthread_mutex_unlock(&d->lock);
}

static void deliver(struct dir *d, struct pkt *k)
{
    bool killed = false;
    if (k->flow) {
        pthread_mutex_lock(&flow_lock);
        killed = k->flow->gen == k->flow_gen && k->flow->state != FLOW_ALIVE;
        pthread_mutex_unlock(&flow_lock);
    }
    pthread_mutex_lock(&d->lock);
    bool down = d->down;
    bool ok = !down && !killed && write_tun(d->out_fd, (uint8_t *)k + offsetof(struct pkt, vh), k->len);
    if (ok) {
        d->c.out_pkts += k->segs;
        d->c.out_bytes += k->wire;
    } else if (down) {
        d->c.down_pkts += k->segs;
        d->c.down_bytes += k->wire;
    } else if (killed) {
        d->c.kill_pkts += k->segs;
        d->c.kill_bytes += k->wire;
    } else {
        d->c.write_err++;
    }
    pthread_mutex_unlock(&d->lock);
    free(k);
}

static void *dir_main(void *arg)
{
    struct dir *d = arg;
    static __thread struct {
        vnet_hdr vh;
        uint8_t data[65536 + 256];
    } buf;

    prctl(PR_SET_TIMERSLACK, 1UL);
    while (!quit_flag) {
        int got = 0;
        for (; got < 64; got++) {
            ssize_t n = read(d->in_fd, &buf, sizeof(buf));
            if (n < 0)
                break;
            if (n > (ssize_t)sizeof(vnet_hdr))
                ingest(d, &buf.vh, buf.data, (uint32_t)(n - (ssize_t)sizeof(vnet_hdr)), now_ns());
        }

        int64_t now = now_ns();
        pthread_mutex_lock(&d->lock);
        struct params pr = d->p;
        if (d->down && d->down_until && now >= d->down_until) {
            d->down = false;
            d->down_until = 0;
        }
        int64_t next = d->down && d->down_until ? d->down_until : INT64_MAX;
        serialise(d, &pr, now);
        pthread_mutex_unlock(&d->lock);

        while (d->line.head && d->line.head->t <= now) {
            deliver(d, fifo_pop(&d->line));
            now = now_ns();
        }
        if (got == 64)
            continue;
        if (d->line.head && d->line.head->t < next)
            next = d->line.head->t;
        if (d->queue.head) {
            struct pkt *k = d->queue.head;
            int64_t done = d->link_free > k->t ? d->link_free : k->t;
            if (pr.rate > 0)
                done += (int64_t)(k->wire * 8e9 / pr.rate);
            done += pr.delay > pr.jitter ? pr.delay - pr.jitter : 0;
            if (done < next)
                next = done;
        }

        struct pollfd pf[2] = {
            { .fd = d->in_fd, .events = POLLIN },
            { .fd = d->wake_fd, .events = POLLIN },
        };
        struct timespec ts, *tp = NULL;
        if (next != INT64_MAX) {
            int64_t w = next - now_ns();
            if (w < 0)
                w = 0;
            ts.tv_sec = w / NSEC;
            ts.tv_nsec = w % NSEC;
            tp = &ts;
        }
        if (ppoll(pf, 2, tp, NULL) > 0 && (pf[1].revents & POLLIN)) {
            uint64_t x;
            if (read(d->wake_fd, &x, sizeof(x)) < 0 && errno != EAGAIN)
                die("eventfd: %s", strerror(errno));
        }
    }
    return NULL;
}

static void wake(struct dir *d)
{
    uint64_t one = 1;
    if (write(d->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
        die("eventfd: %s", strerror(errno));
}

/* ------------------------------------------------------------------ */
/* settings                                                           */

static bool number(const char *s, double *out)
{
    char *e;
    double v = strtod(s, &e);
    if (e == s || v < 0)
        return false;
    switch (*e) {
    case 'k': case 'K': v *= *(e + 1) == 'i' ? 1024.0 : 1e3; break;
    case 'm': case 'M': v *= *(e + 1) == 'i' ? 1048576.0 : 1e6; break;
    case 'g': case 'G': v *= *(e + 1) == 'i' ? 1073741824.0 : 1e9; break;
    case 0: *out = v; return true;
    default: return false;
    }
    if (e[1] && strcmp(e + 1, "i") && strcmp(e + 1, "iB") && strcmp(e + 1, "B"))
        return false;
    *out = v;
    return true;
}

/* "[ab:|ba:]key=value" */
static bool setting(const char *s)
{
    int mask = 3;
    if (!strncmp(s, "ab:", 3)) {
        mask = 1;
        s += 3;
    } else if (!strncmp(s, "ba:", 3)) {
        mask = 2;
        s += 3;
    }
    const char *eq = strchr(s, '=');
    double v;
    if (!eq || !number(eq + 1, &v))
        return false;
    size_t n = (size_t)(eq - s);
    for (int i = 0; i < 2; i++) {
        if (!(mask & (1 << i)))
            continue;
        struct params p = dirs[i].p;
        if (n == 4 && !memcmp(s, "rate", 4))
            p.rate = v;
        else if (n == 5 && !memcmp(s, "delay", 5))
            p.delay = (int64_t)(v * MSEC);
        else if (n == 6 && !memcmp(s, "jitter", 6))
            p.jitter = (int64_t)(v * MSEC);
        else if (n == 4 && !memcmp(s, "loss", 4) && v <= 100)
            p.loss = v / 100;
        else if (n == 5 && !memcmp(s, "burst", 5))
            p.burst = v;
        else if (n == 5 && !memcmp(s, "queue", 5))
            p.queue = (int64_t)v;
        else if (n == 8 && !memcmp(s, "overhead", 8))
            p.overhead = (int)v;
        else
            return false;
        pthread_mutex_lock(&dirs[i].lock);
        dirs[i].p = p;
        pthread_mutex_unlock(&dirs[i].lock);
        wake(&dirs[i]);
    }
    return true;
}

static int report(char *out, size_t size)
{
    int n = 0;
    for (int i = 0; i < 2; i++) {
        struct dir *d = &dirs[i];
        pthread_mutex_lock(&d->lock);
        struct counters c = d->c;
        struct params p = d->p;
        bool down = d->down;
        int64_t queued = d->queued;
        pthread_mutex_unlock(&d->lock);
        n += snprintf(out + n, size - (size_t)n,
            "dir=%s in_bytes=%" PRIu64 " in_pkts=%" PRIu64
            " out_bytes=%" PRIu64 " out_pkts=%" PRIu64
            " loss_bytes=%" PRIu64 " loss_pkts=%" PRIu64
            " tail_bytes=%" PRIu64 " tail_pkts=%" PRIu64
            " down_bytes=%" PRIu64 " down_pkts=%" PRIu64
            " kill_bytes=%" PRIu64 " kill_pkts=%" PRIu64
            " rst_sent=%" PRIu64 " write_err=%" PRIu64
            " queue_now=%" PRId64 " queue_peak=%" PRIu64
            " link=%s rate=%.0f delay=%.3f jitter=%.3f loss=%.4f queue=%" PRId64 "\n",
            d->name, c.in_bytes, c.in_pkts, c.out_bytes, c.out_pkts,
            c.loss_bytes, c.loss_pkts, c.tail_bytes, c.tail_pkts,
            c.down_bytes, c.down_pkts, c.kill_bytes, c.kill_pkts,
            c.rst_sent, c.write_err, queued, c.queue_peak,
            down ? "down" : "up", p.rate, (double)p.delay / MSEC,
            (double)p.jitter / MSEC, p.loss * 100, p.queue);
    }
    return n;
}

static void set_link(int mask, bool down, double ms)
{
    for (int i = 0; i < 2; i++) {
        if (!(mask & (1 << i)))
            continue;
        pthread_mutex_lock(&dirs[i].lock);
        dirs[i].down = down;
        dirs[i].down_until = down && ms > 0 ? now_ns() + (int64_t)(ms * MSEC) : 0;
        pthread_mutex_unlock(&dirs[i].lock);
        wake(&dirs[i]);
    }
}

/* Kill up to `max` live flows (0 = all); port 0 matches any. */
static int kill_flows(enum flow_state how, unsigned port, unsigned max)
{
    unsigned n = 0;
    for (unsigned i = 0; i < FLOW_SETS; i++) {
        for (unsigned j = 0; j < FLOW_WAYS; j++) {
            struct flow *f = &flows[i][j], copy;
            pthread_mutex_lock(&flow_lock);
            bool hit = f->used && f->state == FLOW_ALIVE && (!max || n < max) &&
                       (!port || f->key.port[0] == port || f->key.port[1] == port);
            if (hit)
                f->state = how;
            copy = *f;
            pthread_mutex_unlock(&flow_lock);
            if (!hit)
                continue;
            n++;
            for (int to = 0; how == FLOW_RST && to < 2; to++)
                if (copy.have_ack[to])
                    send_rst(&copy.key, to, copy.ack[to]);
        }
    }
    return (int)n;
}

static void command(char *line, char *out, size_t size)
{
    char *save = NULL, *w = strtok_r(line, " \t\r\n", &save), *a;
    snprintf(out, size, "ok\n");
    if (!w) {
        snprintf(out, size, "error: empty command\n");
    } else if (!strcmp(w, "set")) {
        while ((a = strtok_r(NULL, " \t\r\n", &save)))
            if (!setting(a)) {
                snprintf(out, size, "error: bad setting '%s'\n", a);
                return;
            }
    } else if (!strcmp(w, "down") || !strcmp(w, "up")) {
        int mask = 3;
        double ms = 0;
        while ((a = strtok_r(NULL, " \t\r\n", &save))) {
            if (!strcmp(a, "ab"))
                mask = 1;
            else if (!strcmp(a, "ba"))
                mask = 2;
            else if (!number(a, &ms)) {
                snprintf(out, size, "error: bad argument '%s'\n", a);
                return;
            }
        }
        set_link(mask, w[0] == 'd', ms);
    } else if (!strcmp(w, "reset")) {
        enum flow_state how = FLOW_RST;
        double port = 0, max = 0;
        while ((a = strtok_r(NULL, " \t\r\n", &save))) {
            if (!strcmp(a, "rst"))
                how = FLOW_RST;
            else if (!strcmp(a, "drop"))
                how = FLOW_DROP;
            else if (!(!strncmp(a, "port=", 5) && number(a + 5, &port)) &&
                     !(!strncmp(a, "max=", 4) && number(a + 4, &max))) {
                snprintf(out, size, "error: bad argument '%s'\n", a);
                return;
            }
        }
        snprintf(out, size, "ok killed=%d\n", kill_flows(how, (unsigned)port, (unsigned)max));
    } else if (!strcmp(w, "stats")) {
        report(out, size);
    } else if (!strcmp(w, "zero")) {
        for (int i = 0; i < 2; i++) {
            pthread_mutex_lock(&dirs[i].lock);
            memset(&dirs[i].c, 0, sizeof(dirs[i].c));
            pthread_mutex_unlock(&dirs[i].lock);
        }
    } else if (!strcmp(w, "quit")) {
        quit_flag = 1;
    } else {
        snprintf(out, size, "error: unknown command '%s'\n", w);
    }
}

/* ------------------------------------------------------------------ */
/* set-up                                                             */

static int open_tun(const char *spec, int mtu)
{
    char ns[256] = "", path[300];
    const char *dev = spec, *colon = strchr(spec, ':');
    if (colon) {
        snprintf(ns, sizeof(ns), "%.*s", (int)(colon - spec), spec);
        dev = colon + 1;
    }
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0)
        die("/proc/self/ns/net: %s", strerror(errno));
    if (ns[0]) {
        snprintf(path, sizeof(path), strchr(ns, '/') ? "%s" : "/run/netns/%s", ns);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
            die("namespace %s: %s", ns, strerror(errno));
        close(fd);
    }
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        die("/dev/net/tun: %s", strerror(errno));
    struct ifreq ifr;
    memset(&ifr, 0, sizeof(ifr));
    ifr.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", dev);
    if (ioctl(fd, TUNSETIFF, &ifr) < 0)
        die("TUNSETIFF %s: %s", spec, strerror(errno));
    unsigned off = TUN_F_CSUM | (use_gso ? TUN_F_TSO4 | TUN_F_TSO6 : 0);
    if (ioctl(fd, TUNSETOFFLOAD, off) < 0)
        die("TUNSETOFFLOAD %s: %s", spec, strerror(errno));

    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        die("socket: %s", strerror(errno));
    ifr.ifr_mtu = mtu;
    if (ioctl(s, SIOCSIFMTU, &ifr) < 0)
        die("mtu of %s: %s", spec, strerror(errno));
    ifr.ifr_qlen = 10000;
    if (ioctl(s, SIOCSIFTXQLEN, &ifr) < 0)
        die("queue length of %s: %s", spec, strerror(errno));
    if (ioctl(s, SIOCGIFFLAGS, &ifr) < 0)
        die("flags of %s: %s", spec, strerror(errno));
    ifr.ifr_flags |= IFF_UP;
    if (ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
        die("bringing up %s: %s", spec, strerror(errno));
    close(s);
    if (setns(home, CLONE_NEWNET) < 0)
        die("setns: %s", strerror(errno));
    close(home);
    return fd;
}

static void on_signal(int sig) { (void)sig; quit_flag = 1; }

static int client(int argc, char **argv)
{
    char buf[8192];
    size_t n = 0;
    if (argc < 4)
        die("usage: wanem ctl SOCKET COMMAND...");
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", argv[2]);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        die("%s: %s", argv[2], strerror(errno));
    for (int i = 3; i < argc; i++)
        n += (size_t)snprintf(buf + n, n < sizeof(buf) ? sizeof(buf) - n : 0, "%s%c",
                              argv[i], i + 1 < argc ? ' ' : '\n');
    if (n >= sizeof(buf) || write(fd, buf, n) != (ssize_t)n)
        die("cannot send the command");
    shutdown(fd, SHUT_WR);
    bool bad = false, first = true;
    ssize_t r;
    while ((r = read(fd, buf, sizeof(buf))) > 0) {
        if (first)
            bad = !strncmp(buf, "error", 5);
        first = false;
        fwrite(buf, 1, (size_t)r, bad ? stderr : stdout);
    }
    return bad || first;
}

static void usage(void)
{
    fputs("usage: wanem [--a NS:DEV] [--b NS:DEV] [--ctl SOCKET] [--mtu N] [--rt]\n"
          "             [--no-gso] [--seed N] [[ab:|ba:]KEY=VALUE...]\n"
          "       wanem ctl SOCKET COMMAND...\n"
          "keys: rate (bit/s), delay (ms, one way), jitter (ms), loss (%), burst,\n"
          "      queue (bytes), overhead (bytes per packet)\n"
          "commands: set KEY=VALUE... | down [MS] [ab|ba] | up [ab|ba] |\n"
          "          reset [rst|drop] [port=N] [max=N] | stats | zero | quit\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    const char *spec[2] = { "dc1:wan0", "dc2:wan0" }, *ctl = NULL;
    int mtu = 1500;
    bool rt = false;
    uint64_t seed = (uint64_t)now_ns();

    if (argc > 1 && !strcmp(argv[1], "ctl"))
        return client(argc, argv);

    for (int i = 0; i < 2; i++) {
        dirs[i].name = i ? "ba" : "ab";
        dirs[i].side = i;
        dirs[i].wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        dirs[i].p.burst = 1;
        dirs[i].p.queue = 1000000;
        pthread_mutex_init(&dirs[i].lock, NULL);
    }
    for (int i = 1; i < argc; i++) {
        const char *o = argv[i];
        if (!strcmp(o, "--rt"))
            rt = true;
        else if (!strcmp(o, "--no-gso"))
            use_gso = false;
        else if (!strncmp(o, "--", 2)) {
            if (++i >= argc)
                usage();
            if (!strcmp(o, "--a"))
                spec[0] = argv[i];
            else if (!strcmp(o, "--b"))
                spec[1] = argv[i];
            else if (!strcmp(o, "--ctl"))
                ctl = argv[i];
            else if (!strcmp(o, "--mtu"))
                mtu = atoi(argv[i]);
            else if (!strcmp(o, "--seed"))
                seed = strtoull(argv[i], NULL, 0);
            else
                usage();
        } else if (!setting(o)) {
            fprintf(stderr, "wanem: bad setting '%s'\n", o);
            usage();
        }
    }
    for (int i = 0; i < 2; i++) {
        dirs[i].rng = (seed + (uint64_t)i + 1) * 0x9E3779B97F4A7C15ULL | 1;
        for (int j = 0; j < 8; j++)
            rng_next(&dirs[i].rng);
    }

    int fd[2] = { open_tun(spec[0], mtu), open_tun(spec[1], mtu) };
    for (int i = 0; i < 2; i++) {
        dirs[i].in_fd = fd[i];
        dirs[i].out_fd = fd[!i];
    }

    struct sigaction sa = { .sa_handler = on_signal };
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);

    int ls = -1;
    if (ctl) {
        struct sockaddr_un un = { .sun_family = AF_UNIX };
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", ctl);
        unlink(ctl);
        ls = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (ls < 0 || bind(ls, (struct sockaddr *)&un, sizeof(un)) < 0 || listen(ls, 8) < 0)
            die("%s: %s", ctl, strerror(errno));
    }

    for (int i = 0; i < 2; i++) {
        if (pthread_create(&dirs[i].thread, NULL, dir_main, &dirs[i]))
            die("cannot start a thread");
        if (rt) {
            struct sched_param sp = { .sched_priority = 10 };
            if (pthread_setschedparam(dirs[i].thread, SCHED_RR, &sp))
                fputs("wanem: no real-time priority, timing may suffer\n", stderr);
        }
    }

    static char in[4096], out[8192];
    while (!quit_flag) {
        struct pollfd pf = { .fd = ls, .events = POLLIN };
        if (poll(&pf, 1, 1000) <= 0)
            continue;
        int c = accept4(ls, NULL, NULL, SOCK_CLOEXEC);
        if (c < 0)
            continue;
        struct timeval tv = { .tv_sec = 2 };
        setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
        size_t n = 0;
        ssize_t r;
        while (n < sizeof(in) - 1 && !memchr(in, '\n', n) &&
               (r = read(c, in + n, sizeof(in) - 1 - n)) > 0)
            n += (size_t)r;
        in[n] = 0;
        command(in, out, sizeof(out));
        if (write(c, out, strlen(out)) < 0)
            fputs("wanem: control client went away\n", stderr);
        close(c);
    }
    for (int i = 0; i < 2; i++) {
        wake(&dirs[i]);
        pthread_join(dirs[i].thread, NULL);
    }
    report(out, sizeof(out));
    fputs(out, stdout);
    if (ctl)
        unlink(ctl);
    return 0;
}
