/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tests/bench/flood.c - a fast synthetic source and sink of a multifd migration
 *
 *   flood send ADDRESS --channels N --bytes 8G [--epoch 256M] [--pool 64M]
 *   flood recv ADDRESS --channels N [--copy | --verify] [--pool 64M]
 *   flood memcpy
 *
 * Theory of operation.  send speaks what QEMU 9.2 writes with a machine type
 * from 8.1 on: a main channel whose RAM section holds nothing but MULTIFD_FLUSH
 * markers, and N multifd channels of full packets of raw pages, each epoch
 * ended by a SYNC on every channel and then a marker on main.  recv does what a
 * destination does: a channel that has read its SYNC reads on only when the
 * main channel has come to the marker, and main passes the marker only when
 * every channel has read its SYNC.  At the end it says SHUT 0, which is where
 * send's clock stops.
 *
 * The pages come out of one random pool, so they do not compress, and what a
 * page must hold follows from its offset: --verify compares.  By default recv
 * throws pages away in the kernel (MSG_TRUNC), which leaves the processor to
 * whatever stands between the two; --copy reads them as QEMU would.
 *
 * A program for measuring: any surprise ends it at once with a message.
 */
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    PACKET_PAGES = 128,
    PAYLOAD = PAGE * PACKET_PAGES,
    HEADER = 320 + 8 * PACKET_PAGES,
    INIT = 64,
    CHANNELS_MAX = 255,
    FLAG_SYNC = 1,
};

/* The main stream's words; QEMU's migration/savevm.h and ram.c. */
enum {
    SECTION_EOF = 0x00, SECTION_START = 0x01, SECTION_PART = 0x02, SECTION_END = 0x03,
    SECTION_VMDESC = 0x06, SECTION_CONFIGURATION = 0x07, SECTION_COMMAND = 0x08,
    SECTION_FOOTER = 0x7e,
    COMMAND_OPEN_RETURN_PATH = 1, COMMAND_PING = 2,
    RAM_MEM_SIZE = 0x04, RAM_EOS = 0x10, RAM_FLUSH = 0x200,
    RAM_SECTION_ID = 2,
    REPLY_SHUT = 1, REPLY_PONG = 2,
};

static const char ram_block[] = "pc.ram";
static const uint8_t uuid[16] = { 0xf1, 0x00, 0xd0, 0x0d, 0x12, 0x34, 0x4a, 0xbc,
                                  0x8d, 0xef, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55 };

static struct {
    bool sending;
    const char *address;
    unsigned channels;
    uint64_t bytes;
    uint64_t epoch_bytes;
    uint64_t pool_bytes;
    bool copy;
    bool verify;
} opt = { .channels = 4, .bytes = UINT64_C(1) << 30, .epoch_bytes = 256 << 20,
          .pool_bytes = 64 << 20 };  /* larger than any cache that the page should not be in */

static uint8_t *pool;
static pthread_barrier_t barrier;       /* every channel, and main */
static _Atomic uint64_t next_packet;    /* send: of the epoch, given to any channel */
static uint64_t epoch_packets;          /* send: set by main between two barriers */
static bool last_epoch;                 /* send: likewise */
static _Atomic uint64_t packet_num;
static _Atomic uint64_t pages_received;

__attribute__((format(printf, 1, 2), noreturn))
static void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fprintf(stderr, "flood %s: ", opt.sending ? "send" : "recv");
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- bytes --------------------------------------------------------------- */

/* What is to be written, put together first. */
typedef struct {
    uint8_t data[4096];
    size_t len;
} Bytes;

static void put(Bytes *self, const void *data, size_t len)
{
    if (len > sizeof(self->data) - self->len) {
        die("a message of more than %zu bytes", sizeof(self->data));
    }
    memcpy(self->data + self->len, data, len);
    self->len += len;
}

static void put_int(Bytes *self, uint64_t value, unsigned size)
{
    uint8_t be[8];

    for (unsigned i = 0; i < size; i++) {
        be[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    }
    put(self, be, size);
}

static void put_name(Bytes *self, const char *name)
{
    put_int(self, strlen(name), 1);
    put(self, name, strlen(name));
}

static uint64_t get_int(const uint8_t *p, unsigned size)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

static void set_int(uint8_t *p, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        p[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    }
}

static void write_all(int fd, struct iovec *iov, int n)
{
    while (n) {
        ssize_t done = writev(fd, iov, n);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            die("write: %s", strerror(errno));
        }
        while (n && (size_t)done >= iov->iov_len) {
            done -= (ssize_t)iov->iov_len;
            iov++;
            n--;
        }
        if (n) {
            iov->iov_base = (uint8_t *)iov->iov_base + done;
            iov->iov_len -= (size_t)done;
        }
    }
}

static void write_bytes(int fd, Bytes *bytes)
{
    struct iovec iov = { bytes->data, bytes->len };

    write_all(fd, &iov, 1);
    bytes->len = 0;
}

/* False at an end of stream before the first byte. */
static bool read_all(int fd, void *buf, size_t len, int flags)
{
    size_t have = 0;

    while (have < len) {
        uint8_t *where = flags & MSG_TRUNC ? buf : (uint8_t *)buf + have;
        ssize_t n = recv(fd, where, len - have, flags);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            die("read: %s", strerror(errno));
        }
        if (n == 0 && have == 0) {
            return false;
        }
        if (n == 0) {
            die("read: stream ended after %zu of %zu bytes", have, len);
        }
        have += (size_t)n;
    }
    return true;
}

static void must_read(int fd, void *buf, size_t len)
{
    if (!read_all(fd, buf, len, MSG_WAITALL)) {
        die("read: stream ended, expected %zu bytes more", len);
    }
}

/* ---- sockets ------------------------------------------------------------- */

static int tcp_socket(const char *address, bool listening)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *info;
    char host[256];
    const char *colon = strrchr(address, ':');
    int one = 1, fd, code;

    if (!colon || (size_t)(colon - address) >= sizeof(host)) {
        die("got address '%s', expected HOST:PORT or unix:PATH", address);
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = 0;
    code = getaddrinfo(host, colon + 1, &hints, &info);
    if (code) {
        die("%s: %s", address, gai_strerror(code));
    }
    fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || (listening ? bind(fd, info->ai_addr, info->ai_addrlen)
                             : connect(fd, info->ai_addr, info->ai_addrlen))) {
        die("%s: %s", address, strerror(errno));
    }
    if (!listening) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    freeaddrinfo(info);
    return fd;
}

static int unix_socket(const char *path, bool listening)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(un.sun_path)) {
        die("%s: longer than a unix socket's path may be", path);
    }
    strcpy(un.sun_path, path);
    if (listening) {
        unlink(path);
    }
    if (fd < 0 || (listening ? bind(fd, (struct sockaddr *)&un, sizeof(un))
                             : connect(fd, (struct sockaddr *)&un, sizeof(un)))) {
        die("%s: %s", path, strerror(errno));
    }
    return fd;
}

static int open_socket(bool listening)
{
    int fd;

    if (!strncmp(opt.address, "unix:", 5)) {
        fd = unix_socket(opt.address + 5, listening);
    } else {
        fd = tcp_socket(opt.address + (strncmp(opt.address, "tcp:", 4) ? 0 : 4), listening);
    }
    if (listening && listen(fd, (int)opt.channels + 1)) {
        die("listen: %s", strerror(errno));
    }
    return fd;
}

/* ---- send: a channel ----------------------------------------------------- */

static void fill_header(uint8_t header[HEADER])
{
    memset(header, 0, HEADER);
    set_int(header, 0x11223344, 4);
    set_int(header + 4, 1, 4);
}

static void send_sync(int fd, uint8_t header[HEADER])
{
    struct iovec iov = { header, HEADER };

    fill_header(header);
    set_int(header + 8, FLAG_SYNC, 4);
    set_int(header + 24, atomic_fetch_add(&packet_num, 1), 8);
    write_all(fd, &iov, 1);
}

/* A full packet: pages number * 128 to number * 128 + 127 of the block. */
static void send_packet(int fd, uint8_t header[HEADER], uint64_t number)
{
    uint64_t offset = number * PAYLOAD;
    struct iovec iov[] = { { header, HEADER }, { pool + offset % opt.pool_bytes, PAYLOAD } };

    fill_header(header);
    set_int(header + 12, PACKET_PAGES, 4);
    set_int(header + 16, PACKET_PAGES, 4);
    set_int(header + 20, PAYLOAD, 4);
    set_int(header + 24, atomic_fetch_add(&packet_num, 1), 8);
    memcpy(header + 64, ram_block, sizeof(ram_block));
    for (unsigned i = 0; i < PACKET_PAGES; i++) {
        set_int(header + 320 + 8 * i, offset + (uint64_t)i * PAGE, 8);
    }
    write_all(fd, iov, 2);
}

static void send_init(int fd, unsigned id)
{
    Bytes b = { .len = 0 };

    put_int(&b, 0x11223344, 4);
    put_int(&b, 1, 4);
    put(&b, uuid, sizeof(uuid));
    put_int(&b, id, 1);
    b.len = INIT;
    write_bytes(fd, &b);
}

typedef struct {
    pthread_t thread;
    int fd;
    unsigned id;
} Channel;

static Channel channels[CHANNELS_MAX];

/* Epoch 0 is empty; of each later one a channel takes what it can. */
static void *send_channel(void *opaque)
{
    Channel *self = opaque;
    uint8_t header[HEADER];
    bool last = false;

    send_sync(self->fd, header);
    pthread_barrier_wait(&barrier);         /* main writes the marker */
    while (!last) {
        pthread_barrier_wait(&barrier);     /* main has set up the epoch */
        last = last_epoch;
        for (;;) {
            uint64_t number = atomic_fetch_add(&next_packet, 1);

            if (number >= epoch_packets) {
                break;
            }
            send_packet(self->fd, header, number);
        }
        send_sync(self->fd, header);
        pthread_barrier_wait(&barrier);     /* main writes the marker */
    }
    return NULL;
}

/* ---- send: main ---------------------------------------------------------- */

static void put_marker_and_footer(Bytes *b)
{
    put_int(b, RAM_FLUSH, 8);
    put_int(b, RAM_EOS, 8);
    put_int(b, SECTION_FOOTER, 1);
    put_int(b, RAM_SECTION_ID, 4);
}

static void put_prologue(Bytes *b)
{
    static const struct {
        const char *name;
        uint64_t length;
    } small[] = {
        { "/rom@etc/acpi/tables", 0x20000 }, { "pc.bios", 0x40000 }, { "pc.rom", 0x20000 },
        { "/rom@etc/table-loader", 0x1000 }, { "/rom@etc/acpi/rsdp", 0x1000 },
    };
    const char machine[] = "pc-i440fx-9.2";
    uint64_t total = opt.epoch_bytes;

    put(b, "QEVM\0\0\0\3", 8);
    put_int(b, SECTION_CONFIGURATION, 1);
    put_int(b, strlen(machine), 4);
    put(b, machine, strlen(machine));
    put_int(b, SECTION_COMMAND, 1);
    put_int(b, COMMAND_OPEN_RETURN_PATH, 2);
    put_int(b, 0, 2);
    put_int(b, SECTION_COMMAND, 1);
    put_int(b, COMMAND_PING, 2);
    put_int(b, 4, 2);
    put_int(b, 1, 4);
    put_int(b, SECTION_START, 1);
    put_int(b, RAM_SECTION_ID, 4);
    put_name(b, "ram");
    put_int(b, 0, 4);
    put_int(b, 4, 4);
    for (size_t i = 0; i < sizeof(small) / sizeof(*small); i++) {
        total += small[i].length;
    }
    put_int(b, total | RAM_MEM_SIZE, 8);
    put_name(b, ram_block);
    put_int(b, opt.epoch_bytes, 8);
    for (size_t i = 0; i < sizeof(small) / sizeof(*small); i++) {
        put_name(b, small[i].name);
        put_int(b, small[i].length, 8);
    }
}

static void expect_reply(int fd, unsigned type, uint32_t value)
{
    uint8_t reply[8];

    must_read(fd, reply, sizeof(reply));
    if (get_int(reply, 2) != type || get_int(reply + 2, 2) != 4 ||
        get_int(reply + 4, 4) != value) {
        die("return path: got type %u value %u, expected type %u value %u",
            (unsigned)get_int(reply, 2), (unsigned)get_int(reply + 4, 4), type, value);
    }
}

static void connect_channels(void)
{
    for (unsigned i = 0; i < opt.channels; i++) {
        channels[i].id = i;
        channels[i].fd = open_socket(false);
        send_init(channels[i].fd, i);
        pthread_create(&channels[i].thread, NULL, send_channel, &channels[i]);
    }
}

/* Returns the number of epochs with pages. */
static unsigned send_epochs(int fd)
{
    uint64_t left = opt.bytes / PAYLOAD;
    unsigned epochs = 0;
    Bytes b = { .len = 0 };

    while (left) {
        uint64_t most = opt.epoch_bytes / PAYLOAD;

        epoch_packets = left < most ? left : most;
        left -= epoch_packets;
        last_epoch = left == 0;
        atomic_store(&next_packet, 0);
        pthread_barrier_wait(&barrier);
        epochs++;
        pthread_barrier_wait(&barrier);     /* SYNC is written everywhere */
        put_int(&b, last_epoch ? SECTION_END : SECTION_PART, 1);
        put_int(&b, RAM_SECTION_ID, 4);
        put_marker_and_footer(&b);
        write_bytes(fd, &b);
    }
    return epochs;
}

static void run_send(void)
{
    Bytes b = { .len = 0 };
    int fd = open_socket(false);
    double begin = now_s(), start, end;
    unsigned epochs;

    connect_channels();
    put_prologue(&b);
    write_bytes(fd, &b);
    pthread_barrier_wait(&barrier);         /* SYNC 1 is written everywhere */
    put_marker_and_footer(&b);
    write_bytes(fd, &b);
    expect_reply(fd, REPLY_PONG, 1);
    start = now_s();
    epochs = send_epochs(fd);
    put_int(&b, SECTION_EOF, 1);
    put_int(&b, SECTION_VMDESC, 1);
    put_int(&b, 2, 4);
    put(&b, "{}", 2);
    write_bytes(fd, &b);
    expect_reply(fd, REPLY_SHUT, 0);
    end = now_s();
    for (unsigned i = 0; i < opt.channels; i++) {
        pthread_join(channels[i].thread, NULL);
        close(channels[i].fd);
    }
    close(fd);
    printf("{\"seconds\": %.6f, \"setup-seconds\": %.6f, \"bytes\": %" PRIu64
           ", \"epochs\": %u, \"packets\": %" PRIu64 "}\n", end - start, start - begin,
           opt.bytes / PAYLOAD * PAYLOAD, epochs, opt.bytes / PAYLOAD);
}

/* ---- recv: a channel ----------------------------------------------------- */

static void check_payload(const uint8_t *header, const uint8_t *payload, unsigned pages)
{
    for (unsigned i = 0; i < pages; i++) {
        uint64_t offset = get_int(header + 320 + 8 * i, 8);

        if (memcmp(payload + (size_t)i * PAGE, pool + offset % opt.pool_bytes, PAGE)) {
            die("page at offset 0x%" PRIx64 " is not what was sent", offset);
        }
    }
}

static void recv_payload(int fd, const uint8_t *header, uint8_t *payload, unsigned pages)
{
    int flags = opt.copy ? MSG_WAITALL : MSG_TRUNC;

    if (!read_all(fd, payload, (size_t)pages * PAGE, flags)) {
        die("read: stream ended before a packet's pages");
    }
    if (opt.verify) {
        check_payload(header, payload, pages);
    }
    atomic_fetch_add(&pages_received, pages);
}

/* What is behind the init packet: packets until the stream ends. */
static void *recv_channel(void *opaque)
{
    Channel *self = opaque;
    uint8_t header[HEADER];
    uint8_t *payload = malloc(PAYLOAD);

    while (read_all(self->fd, header, HEADER, MSG_WAITALL)) {
        unsigned pages = (unsigned)get_int(header + 16, 4);
        unsigned zero = (unsigned)get_int(header + 32, 4);

        if (get_int(header, 4) != 0x11223344 || pages > PACKET_PAGES || zero ||
            (pages && strcmp((char *)header + 64, ram_block))) {
            die("channel %u: got a packet with magic %08x, %u normal and %u zero pages",
                self->id, (unsigned)get_int(header, 4), pages, zero);
        }
        if (pages) {
            recv_payload(self->fd, header, payload, pages);
        }
        if (get_int(header + 8, 4) & FLAG_SYNC) {
            pthread_barrier_wait(&barrier);
        }
    }
    free(payload);
    return NULL;
}

/* ---- recv: main ---------------------------------------------------------- */

static uint64_t read_int(int fd, unsigned size)
{
    uint8_t buf[8];

    must_read(fd, buf, size);
    return get_int(buf, size);
}

static void skip(int fd, size_t len)
{
    uint8_t buf[256];

    for (size_t n; len; len -= n) {
        n = len < sizeof(buf) ? len : sizeof(buf);
        must_read(fd, buf, n);
    }
}

static void skip_block_list(int fd, uint64_t total)
{
    while (total) {
        uint64_t length;

        skip(fd, read_int(fd, 1));
        length = read_int(fd, 8);
        if (length > total) {
            die("RAM block list: got a block of %" PRIu64 " bytes, expected at most %" PRIu64,
                length, total);
        }
        total -= length;
    }
}

/* The body of a RAM section; returns the markers that were in it. */
static unsigned recv_ram(int fd)
{
    unsigned markers = 0;

    for (;;) {
        uint64_t word = read_int(fd, 8);
        unsigned flags = (unsigned)(word % PAGE);

        if (flags == RAM_EOS) {
            return markers;
        } else if (flags == RAM_FLUSH) {
            pthread_barrier_wait(&barrier);
            markers++;
        } else if (flags == RAM_MEM_SIZE) {
            skip_block_list(fd, word - flags);
        } else {
            die("main: got RAM record 0x%" PRIx64, word);
        }
    }
}

static void recv_command(int fd)
{
    Bytes b = { .len = 0 };
    unsigned command = (unsigned)read_int(fd, 2), len = (unsigned)read_int(fd, 2);

    if (command != COMMAND_PING) {
        skip(fd, len);
        return;
    }
    put_int(&b, REPLY_PONG, 2);
    put_int(&b, 4, 2);
    put_int(&b, read_int(fd, 4), 4);
    write_bytes(fd, &b);
}

/* Sections until EOF; returns the markers seen. */
static unsigned recv_main(int fd)
{
    unsigned markers = 0;

    skip(fd, 4);        /* the file's version; its magic told us what this is */
    for (;;) {
        unsigned section = (unsigned)read_int(fd, 1);

        switch (section) {
        case SECTION_CONFIGURATION:
            skip(fd, read_int(fd, 4));
            break;
        case SECTION_COMMAND:
            recv_command(fd);
            break;
        case SECTION_START:
            skip(fd, 4);
            skip(fd, read_int(fd, 1));
            skip(fd, 8);
            markers += recv_ram(fd);
            break;
        case SECTION_PART:
        case SECTION_END:
            skip(fd, 4);
            markers += recv_ram(fd);
            break;
        case SECTION_FOOTER:
            skip(fd, 4);
            break;
        case SECTION_EOF:
            return markers;
        default:
            die("main: got section type 0x%02x", section);
        }
    }
}

/* Take connections in until all are there; returns the main channel's. */
static int accept_all(int listener)
{
    int main_fd = -1;
    unsigned n = 0;

    while (main_fd < 0 || n < opt.channels) {
        uint8_t buf[INIT];
        int one = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0) {
            die("accept: %s", strerror(errno));
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        /* As 8.0 and later: main or not is told by the first bytes, peeked at. */
        if (recv(fd, buf, 4, MSG_PEEK | MSG_WAITALL) != 4) {
            die("a connection ended before it said what it is");
        }
        if (!memcmp(buf, "QEVM", 4)) {
            if (main_fd >= 0) {
                die("got a second main channel");
            }
            must_read(fd, buf, 4);
            main_fd = fd;
            continue;
        }
        must_read(fd, buf, INIT);
        if (get_int(buf, 4) != 0x11223344 || memcmp(buf + 8, uuid, sizeof(uuid)) ||
            buf[24] >= opt.channels || n == opt.channels) {
            die("got a wrong init packet: magic %08x, id %u", (unsigned)get_int(buf, 4), buf[24]);
        }
        channels[n] = (Channel) { .fd = fd, .id = buf[24] };
        pthread_create(&channels[n].thread, NULL, recv_channel, &channels[n]);
        n++;
    }
    return main_fd;
}

static void run_recv(void)
{
    Bytes b = { .len = 0 };
    int fd = accept_all(open_socket(true));
    unsigned markers = recv_main(fd);

    if (read_int(fd, 1) != SECTION_VMDESC) {
        die("main: no description behind the end of the stream");
    }
    skip(fd, read_int(fd, 4));
    /* As QEMU ends: its multifd sockets first, then the word, then main. */
    for (unsigned i = 0; i < opt.channels; i++) {
        shutdown(channels[i].fd, SHUT_RDWR);
        pthread_join(channels[i].thread, NULL);
        close(channels[i].fd);
    }
    put_int(&b, REPLY_SHUT, 2);
    put_int(&b, 4, 2);
    put_int(&b, 0, 4);
    write_bytes(fd, &b);
    close(fd);
    printf("{\"bytes\": %" PRIu64 ", \"markers\": %u, \"verified\": %s}\n",
           atomic_load(&pages_received) * PAGE, markers, opt.verify ? "true" : "false");
}

/* ---- all of it ----------------------------------------------------------- */

/* xorshift64*: the same for both ends, and nothing can compress it. */
static void fill_pool(void)
{
    uint64_t x = 0x9e3779b97f4a7c15;

    pool = aligned_alloc(PAGE, opt.pool_bytes);
    for (size_t i = 0; i < opt.pool_bytes; i += 8) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        set_int(pool + i, x * 0x2545f4914f6cdd1d, 8);
    }
}

/* One thread, from one end of memory to another: how cheap a copy can be here. */
static void run_memcpy(void)
{
    const size_t size = (size_t)256 << 20;
    uint8_t *from = malloc(size), *to = malloc(size);
    double best = 1e9;

    memset(from, 1, size);
    memset(to, 2, size);
    for (int i = 0; i < 5; i++) {
        double start = now_s(), took;

        memcpy(to, from, size);
        took = now_s() - start;
        best = took < best ? took : best;
    }
    printf("{\"bytes-per-second\": %.0f, \"check\": %d}\n", (double)size / best, to[size / 2]);
    free(from);
    free(to);
}

static uint64_t parse_size(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    const char *units = "KMGT", *unit = *end ? strchr(units, *end) : NULL;

    if (end == text || (*end && (!unit || end[1]))) {
        die("got size '%s', expected a number, or one with K, M, G or T attached", text);
    }
    for (; unit && unit >= units; unit--) {
        value *= 1024;
    }
    return value;
}

static void parse_options(int argc, char **argv)
{
    for (int i = 3; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (!strcmp(argv[i], "--copy")) {
            opt.copy = true;
        } else if (!strcmp(argv[i], "--verify")) {
            opt.copy = opt.verify = true;
        } else if (!strcmp(argv[i], "--channels")) {
            opt.channels = (unsigned)parse_size(value);
            i++;
        } else if (!strcmp(argv[i], "--bytes")) {
            opt.bytes = parse_size(value);
            i++;
        } else if (!strcmp(argv[i], "--epoch")) {
            opt.epoch_bytes = parse_size(value);
            i++;
        } else if (!strcmp(argv[i], "--pool")) {
            opt.pool_bytes = parse_size(value);
            i++;
        } else {
            die("got option '%s'", argv[i]);
        }
    }
    opt.epoch_bytes = opt.epoch_bytes / PAYLOAD * PAYLOAD;
    opt.pool_bytes = opt.pool_bytes / PAYLOAD * PAYLOAD;
    if (opt.channels < 1 || opt.channels > CHANNELS_MAX || !opt.epoch_bytes ||
        !opt.pool_bytes || opt.bytes < PAYLOAD) {
        die("expected 1 to %d channels, and sizes of at least %d", CHANNELS_MAX, PAYLOAD);
    }
    if (!strncmp(opt.address, "unix:", 5)) {
        opt.copy = true;        /* MSG_TRUNC throws away on TCP alone */
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "memcpy")) {
        run_memcpy();
        return 0;
    }
    if (argc < 3 || (strcmp(argv[1], "send") && strcmp(argv[1], "recv"))) {
        fprintf(stderr, "usage: flood send|recv ADDRESS [--channels N] [--bytes N] [--epoch N]"
                " [--pool N] [--copy|--verify]\n       flood memcpy\n");
        return 2;
    }
    opt.sending = !strcmp(argv[1], "send");
    opt.address = argv[2];
    parse_options(argc, argv);
    if (opt.sending || opt.verify) {
        fill_pool();
    }
    pthread_barrier_init(&barrier, NULL, opt.channels + 1);
    if (opt.sending) {
        run_send();
    } else {
        run_recv();
    }
    return 0;
}
