/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest for live-migration tests.
 *
 * It fills its memory with pages of chosen kinds, keeps changing a few bytes
 * of pages of a working set at a chosen rate, checks every page all the time,
 * and sends a heartbeat from which the host can measure how long it stood
 * still.  See README.md for the command line and the output.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define PAGE 4096u
#define WORDS (PAGE / 4)
#define MAGIC 0x4d494752u
#define FIRST 8u                    /* words kept for the page's own header */

enum { P_MAGIC, P_INDEX, P_GEN, P_SUM };
enum kind { ZERO, TEXT, DUP, STRUCT, RANDOM, KINDS };
static const char *const kind_name[KINDS] = { "zero", "text", "dup", "struct", "random" };

struct meta { u32 gen, sum; };      /* what the page must say about itself */

struct mbinfo;                      /* multiboot information, below */

extern u8 image_end[];
extern void irq_timer(void), irq_other(void), trap(void);

/* Called from start.S or by the compiler itself, so no header declares them. */
void guest_trap(u32 *sp);
void guest_main(const struct mbinfo *mb);
void *memset(void *d, int c, u32 n);
void *memcpy(void *d, const void *s, u32 n);
volatile u32 ticks;

static struct {
    u32 mem, share[KINDS], dirty, ws, wbytes, hb, verify, run, dups, seed, hot, zap;
    enum { RANDOM_ORDER, SEQ_ORDER, HOT_ORDER } order;
    int stat;
} cfg = {
    .share = { 30, 25, 20, 0, 25 }, .dirty = 20u << 20, .wbytes = 64,
    .hb = 10, .verify = 64u << 20, .run = 8, .dups = 64, .seed = 1, .hot = 10,
    .stat = 1,
};

static struct meta *meta;
static u32 *pool;
static u32 pages, ws_pages;

/* ------------------------------------------------------------------ */
/* ports, output                                                      */

static inline void outb(u16 p, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(p)); }
static inline u8 inb(u16 p) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p)); return v; }
static inline u64 rdtsc(void) { u64 v; __asm__ volatile("rdtsc" : "=A"(v)); return v; }

#define COM1 0x3f8
#define DEBUGCON 0xe9

static void serial_put(u8 c)
{
    for (u32 i = 0; i < 100000 && !(inb(COM1 + 5) & 0x20); i++)
        ;
    outb(COM1, c);
}
static void debug_put(u8 c) { outb(DEBUGCON, c); }

static void put_text(void (*put)(u8), const char *s) { while (*s) put((u8)*s++); }
static void put_num(void (*put)(u8), u32 v)
{
    char b[12];
    int i = 11;
    b[i] = 0;
    do { b[--i] = (char)('0' + v % 10); v /= 10; } while (v);
    put_text(put, b + i);
}
static void put_hex(void (*put)(u8), u32 v)
{
    for (int s = 28; s >= 0; s -= 4)
        put("0123456789abcdef"[v >> s & 15]);
}
static void say(const char *s) { put_text(serial_put, s); }
static void say_num(const char *name, u32 v) { say(" "); say(name); say("="); put_num(serial_put, v); }
static void say_hex(const char *name, u32 v) { say(" "); say(name); say("="); put_hex(serial_put, v); }

void guest_trap(u32 *sp)
{
    say("TRAP");
    for (int i = 0; i < 4; i++)
        say_hex("sp", sp[i]);
    say("\n");
}

/* The compiler may call these even without a library. */
void *memset(void *d, int c, u32 n)
{
    void *p = d;
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(c) : "memory");
    return d;
}
void *memcpy(void *d, const void *s, u32 n)
{
    void *p = d;
    __asm__ volatile("rep movsb" : "+D"(p), "+S"(s), "+c"(n) : : "memory");
    return d;
}

/* ------------------------------------------------------------------ */
/* random numbers, page kinds                                         */

static u32 rng = 0x9e3779b9;
static inline u32 rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 17;
    rng ^= rng << 5;
    return rng;
}
/* 0 .. n-1 */
static inline u32 below(u32 n) { return (u32)((u64)rnd() * n >> 32); }

static u32 mix(u32 x)
{
    x ^= x >> 16; x *= 0x7feb352du;
    x ^= x >> 15; x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static enum kind kind_of(u32 page)
{
    u32 x = mix(page / cfg.run * 2654435761u + cfg.seed) % 100, k, sum = 0;
    for (k = 0; k < KINDS - 1; k++) {
        sum += cfg.share[k];
        if (x < sum)
            break;
    }
    return (enum kind)k;
}
static u32 dup_group(u32 page) { return mix(page ^ cfg.seed ^ 0x5bd1e995u) % cfg.dups; }

static const char *const words[] = {
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by",
    "on", "not", "this", "are", "or", "from", "at", "which", "but", "have", "an", "had", "they",
    "you", "were", "their", "one", "all", "we", "can", "has", "there", "been", "if", "more",
    "when", "will", "would", "who", "so", "no", "memory", "page", "server", "request", "client",
    "table", "value", "return", "static", "struct", "error", "buffer", "system", "process",
    "network", "status", "virtual", "machine", "storage", "thread", "signal", "window", "branch",
    "number", "string", "length", "offset", "handle", "config", "update", "version", "message",
    "control", "service", "session", "account", "payment", "product", "customer", "invoice",
    "address", "country", "history", "language", "register", "schedule", "position", "document",
    "database", "function", "operator", "interval", "sequence", "transfer", "boundary", "northern",
    "river", "mountain", "garden", "winter", "summer", "copper", "silver", "engine", "bridge",
    "letter", "paper", "music", "colour", "market", "village", "harbour", "station", "traffic",
    "weather", "morning", "evening", "kitchen", "picture", "captain", "journey", "island", "forest",
};
#define NWORDS (sizeof(words) / sizeof(words[0]))
static struct { u32 part[3]; u32 len; } word[NWORDS];       /* packed for speed, space added */

static void text_init(void)
{
    for (u32 i = 0; i < NWORDS; i++) {
        u8 *d = (u8 *)word[i].part;
        u32 n = 0;
        while (words[i][n]) {
            d[n] = (u8)words[i][n];
            n++;
        }
        d[n++] = ' ';
        word[i].len = n;
    }
}

/* Words with the common ones first, numbers and line ends in between. */
static void fill_text(u32 *page)
{
    u8 *p = (u8 *)(page + FIRST), *end = (u8 *)(page + WORDS);
    while (p + 16 <= end) {
        u32 r = rnd(), w = r & 127;
        if (r >> 29 == 0) {                     /* a number of up to 8 digits */
            u32 n = 3 + (r >> 26 & 3), v = r >> 4;
            if ((r >> 25 & 1) == 0)
                v &= 0xff;
            while (n--) {
                *p++ = (u8)('0' + (v & 7));
                v >>= 3;
            }
            *p++ = (r >> 24 & 3) ? ' ' : '\n';
            continue;
        }
        w = w * (r >> 7 & 127) >> 7;            /* small numbers are likelier */
        if (w >= NWORDS)
            w = NWORDS - 1;
        ((u32 *)p)[0] = word[w].part[0];
        ((u32 *)p)[1] = word[w].part[1];
        ((u32 *)p)[2] = word[w].part[2];
        p += word[w].len;
    }
    while (p < end)
        *p++ = '\n';
}

/* Records as a heap has them: two pointers, a length, flags, a time, zeroes. */
static void fill_struct(u32 *page, u32 index)
{
    u32 base = mix(index >> 6);
    for (u32 i = FIRST; i + 12 <= WORDS; i += 12) {
        u32 r = rnd();
        page[i] = base + ((r & 0xffff) << 4);
        page[i + 1] = 0x7f3a;
        page[i + 2] = base + ((r >> 16) << 4);
        page[i + 3] = 0x7f3a;
        page[i + 4] = r >> 24;
        page[i + 6] = 0x21 | (r >> 8 & 6);
        page[i + 7] = 1;
        page[i + 8] = 0x65000000 + (rnd() & 0xfffff);
        page[i + 10] = i;
    }
}

static void fill_random(u32 *page)
{
    for (u32 i = FIRST; i < WORDS; i++)
        page[i] = rnd() * 2654435761u + i;
}

/* Every word but the sum itself, each with its own odd weight. */
static u32 page_sum(const u32 *p)
{
    u32 s = 0x1234567, k = 1;
    for (u32 i = 0; i < WORDS; i += 4, k += 8)
        s += p[i] * k + p[i + 1] * (k + 2) + p[i + 2] * (k + 4) + p[i + 3] * (k + 6);
    return s - p[P_SUM] * (2 * P_SUM + 1);
}

static u32 *page_at(u32 i) { return pool + (u64)i * WORDS; }

static void seal(u32 *p, u32 i, u32 index)
{
    p[P_MAGIC] = MAGIC;
    p[P_INDEX] = index;
    p[P_GEN] = 0;
    p[P_SUM] = page_sum(p);
    meta[i].gen = 0;
    meta[i].sum = p[P_SUM];
}

static void fill(u32 i)
{
    u32 *p = page_at(i);
    switch (kind_of(i)) {
    case ZERO:                                  /* fresh RAM is zero, but for what the firmware left */
        meta[i].gen = meta[i].sum = 0;
        for (u32 j = 0; j < WORDS; j++)
            if (p[j])
                p[j] = 0;
        return;
    case DUP: {
        u32 keep = rng;
        rng = mix(dup_group(i) + 77) | 1;
        fill_text(p);
        rng = keep;
        seal(p, i, 0xd0000000u | dup_group(i));
        return;
    }
    case TEXT: fill_text(p); break;
    case STRUCT: fill_struct(p, i); break;
    default: fill_random(p); break;
    }
    seal(p, i, i);
}

/* ------------------------------------------------------------------ */
/* dirtying and verifying                                             */

static u32 dirtied, seq_next;

static void set_word(u32 *p, u32 i, u32 v, u32 *sum)
{
    *sum += (v - p[i]) * (2 * i + 1);
    p[i] = v;
}

static void dirty_one(void)
{
    u32 i;
    if (cfg.order == SEQ_ORDER) {
        i = seq_next++;
        if (seq_next >= ws_pages)
            seq_next = 0;
    } else if (cfg.order == HOT_ORDER && below(100) < 90) {
        i = below(ws_pages / 100 * cfg.hot + 1);
    } else {
        i = below(ws_pages);
    }

    u32 *p = page_at(i), sum = meta[i].sum, gen = meta[i].gen;
    if (gen && kind_of(i) == ZERO && below(100) < cfg.zap) {    /* untouched again */
        memset(p, 0, PAGE);
        meta[i].gen = meta[i].sum = 0;
        dirtied++;
        return;
    }
    if (!gen) {
        if (kind_of(i) == ZERO)
            sum = 0x1234567;                    /* the sum of a page of zeroes */
        set_word(p, P_MAGIC, MAGIC, &sum);
        set_word(p, P_INDEX, i, &sum);
    }
    u32 n = cfg.wbytes / 4, at = FIRST + below(WORDS - FIRST - n + 1);
    enum kind k = kind_of(i);
    for (u32 j = 0; j < n; j++) {
        u32 r = rnd(), v;
        if (k == TEXT || k == DUP)
            v = word[r % 128 < NWORDS ? r % 128 : 3].part[0];
        else if (k == RANDOM)
            v = r;
        else
            v = gen + (r & 0xff);
        set_word(p, at + j, v, &sum);
    }
    gen++;
    set_word(p, P_GEN, gen, &sum);
    p[P_SUM] = sum;
    meta[i].gen = gen;
    meta[i].sum = sum;
    dirtied++;
}

static u32 bad_now, bad_all;

static void verify_one(u32 i)
{
    const u32 *p = page_at(i);
    u32 gen = meta[i].gen;
    const char *why = 0;

    if (!gen && kind_of(i) == ZERO) {
        u32 any = 0;
        for (u32 j = 0; j < WORDS; j += 4)
            any |= p[j] | p[j + 1] | p[j + 2] | p[j + 3];
        if (any)
            why = "not-zero";
    } else {
        u32 index = !gen && kind_of(i) == DUP ? 0xd0000000u | dup_group(i) : i;
        if (p[P_MAGIC] != MAGIC)
            why = "magic";
        else if (p[P_INDEX] != index)
            why = "misplaced";
        else if (p[P_GEN] != gen)
            why = p[P_GEN] < gen ? "stale" : "too-new";
        else if (p[P_SUM] != meta[i].sum || page_sum(p) != p[P_SUM])
            why = "checksum";
    }
    if (why) {
        bad_now++;
        if (++bad_all <= 50) {
            say("VERIFY FAIL");
            say_num("page", i);
            say_hex("addr", (u32)p);
            say(" kind=");
            say(kind_name[kind_of(i)]);
            say(" why=");
            say(why);
            say_num("want", gen);
            say_num("have", p[P_GEN]);
            say("\n");
        }
    }
}

/* ------------------------------------------------------------------ */
/* time                                                               */

static u32 tsc_per_us;
static u64 tsc_last;
static u32 tsc_rest;
static u32 now_us, now_ms, us_rest;    /* now_us wraps, differences are fine */

static u32 tsc_calibrate(void)
{
    /* channel 2 of the PIT counts 50 ms, output seen at port 0x61 */
    const u32 count = 1193182 / 20;
    outb(0x61, (u8)((inb(0x61) & ~2) | 1));
    outb(0x43, 0xb0);
    outb(0x42, count & 0xff);
    outb(0x42, count >> 8);
    u64 a = rdtsc();
    while (!(inb(0x61) & 0x20))
        ;
    u32 d = (u32)(rdtsc() - a);
    d /= 50000;
    return d ? d : 1;
}

static void clock_update(void)
{
    u64 t = rdtsc(), d = t - tsc_last;
    tsc_last = t;
    u32 n = d > 2000000000u ? 2000000000u : (u32)d;
    n += tsc_rest;
    u32 us = n / tsc_per_us;
    tsc_rest = n % tsc_per_us;
    now_us += us;
    us_rest += us;
    now_ms += us_rest / 1000;
    us_rest %= 1000;
}

static void timer_start(void)
{
    static struct { u16 lo, sel, flags, hi; } idt[256];
    static struct { u16 limit; u32 base; } __attribute__((packed)) ptr;
    for (u32 i = 0; i < 256; i++) {
        u32 f = i < 32 ? (u32)trap : i == 32 ? (u32)irq_timer : (u32)irq_other;
        idt[i].lo = (u16)f;
        idt[i].hi = (u16)(f >> 16);
        idt[i].sel = 8;
        idt[i].flags = 0x8e00;
    }
    ptr.limit = sizeof(idt) - 1;
    ptr.base = (u32)idt;
    __asm__ volatile("lidt %0" : : "m"(ptr));

    outb(0x20, 0x11); outb(0xa0, 0x11);         /* interrupts at 32 .. 47 */
    outb(0x21, 32);   outb(0xa1, 40);
    outb(0x21, 4);    outb(0xa1, 2);
    outb(0x21, 1);    outb(0xa1, 1);
    outb(0x21, 0xfe); outb(0xa1, 0xff);         /* the timer alone */

    const u32 div = 1193182 / 500;              /* 2 ms */
    outb(0x43, 0x34);
    outb(0x40, div & 0xff);
    outb(0x40, div >> 8);
    __asm__ volatile("sti");
}

/* ------------------------------------------------------------------ */
/* command line                                                       */

static int same(const char *a, const char *b, u32 n)
{
    while (n && *a == *b && *b) { a++; b++; n--; }
    return !n && !*b;
}

static u32 size_arg(const char *s)
{
    u32 v = 0;
    while (*s >= '0' && *s <= '9')
        v = v * 10 + (u32)(*s++ - '0');
    switch (*s) {
    case 'k': case 'K': return v << 10;
    case 'm': case 'M': return v << 20;
    case 'g': case 'G': return v << 30;
    }
    return v;
}

static void option(const char *s)
{
    const struct { const char *name; u32 *v; } t[] = {
        { "mem", &cfg.mem }, { "dirty", &cfg.dirty }, { "ws", &cfg.ws }, { "wbytes", &cfg.wbytes },
        { "hb", &cfg.hb }, { "verify", &cfg.verify }, { "run", &cfg.run }, { "dups", &cfg.dups },
        { "seed", &cfg.seed }, { "hot", &cfg.hot }, { "zap", &cfg.zap }, { "stat", (u32 *)&cfg.stat },
        { "zero", &cfg.share[ZERO] }, { "text", &cfg.share[TEXT] }, { "dup", &cfg.share[DUP] },
        { "struct", &cfg.share[STRUCT] }, { "random", &cfg.share[RANDOM] },
    };
    u32 n = 0;
    while (s[n] && s[n] != '=')
        n++;
    if (!s[n])
        return;                                 /* the image's own name, or noise */
    const char *v = s + n + 1;
    for (u32 i = 0; i < sizeof(t) / sizeof(t[0]); i++)
        if (same(s, t[i].name, n)) {
            *t[i].v = size_arg(v);
            return;
        }
    if (same(s, "order", n)) {
        cfg.order = *v == 's' ? SEQ_ORDER : *v == 'h' ? HOT_ORDER : RANDOM_ORDER;
        return;
    }
    if (same(s, "pattern", n)) {                /* short names for usual mixtures */
        static const struct { const char *name; u8 share[KINDS]; } p[] = {
            { "mixed", { 30, 25, 20, 0, 25 } }, { "zero", { 100, 0, 0, 0, 0 } },
            { "text", { 0, 100, 0, 0, 0 } }, { "dup", { 0, 0, 100, 0, 0 } },
            { "struct", { 0, 0, 0, 100, 0 } }, { "random", { 0, 0, 0, 0, 100 } },
            { "heap", { 25, 20, 10, 35, 10 } },
        };
        for (u32 i = 0; i < sizeof(p) / sizeof(p[0]); i++) {
            u32 len = 0;
            while (v[len])
                len++;
            if (same(v, p[i].name, len))
                for (u32 k = 0; k < KINDS; k++)
                    cfg.share[k] = p[i].share[k];
        }
        return;
    }
    say("WARNING unknown option ");
    say(s);
    say("\n");
}

struct mbinfo {
    u32 flags, lower, upper, boot, cmdline, nmods, mods, syms[4], mmap_len, mmap;
};

static u32 ram_end(const struct mbinfo *mb)
{
    u32 end = (mb->upper << 10) + (1u << 20);
    if (mb->flags & 64) {
        u32 p = mb->mmap, stop = mb->mmap + mb->mmap_len;
        while (p < stop) {
            const u32 *e = (const u32 *)p;      /* size, base lo hi, length lo hi, type */
            if (e[5] == 1 && !e[2] && e[1] <= (1u << 20) && e[1] + e[3] > (1u << 20))
                end = e[1] + e[3];
            p += e[0] + 4;
        }
    }
    return end & ~(PAGE - 1);
}

/* ------------------------------------------------------------------ */

/* pages per second times microseconds, remainder kept */
static u32 earn(u32 rate_pages, u32 us, u32 *rest)
{
    u64 v = (u64)rate_pages * us + *rest;
    u32 n = 0, q, r;
    if (v >> 32 >= 1000000) {
        *rest = 0;
        return rate_pages;
    }
    __asm__("divl %4" : "=a"(q), "=d"(r) : "a"((u32)v), "d"((u32)(v >> 32)), "r"(1000000u));
    n = q;
    *rest = r;
    return n;
}

void guest_main(const struct mbinfo *mb)
{
    static char line[1024];
    u32 beat = 0, beat_at, stat_at, dirty_last, dirty_rest = 0, ver_rest = 0;
    u32 owed = 0, check = 0, at = 0, sweep = 0, all = 0, paused = 0;

    outb(COM1 + 1, 0);                          /* 115200 8n1, FIFO, no interrupts */
    outb(COM1 + 3, 0x80);
    outb(COM1, 1);
    outb(COM1 + 1, 0);
    outb(COM1 + 3, 3);
    outb(COM1 + 2, 0xc7);
    outb(COM1 + 4, 3);

    u32 end = ram_end(mb);
    if (mb->flags & 4) {
        const char *c = (const char *)mb->cmdline;
        u32 n = 0;
        while (c[n] && n < sizeof(line) - 1) {
            line[n] = c[n];
            n++;
        }
        for (u32 i = 0; i < n;) {
            while (line[i] == ' ')
                i++;
            u32 s = i;
            while (i < n && line[i] != ' ')
                i++;
            line[i] = 0;
            if (i++ > s)
                option(line + s);
        }
    }

    /* after the image: one struct meta per page, then the pages */
    u32 base = ((u32)image_end + PAGE - 1) & ~(PAGE - 1);
    u32 most = (end - base) / (PAGE + sizeof(struct meta)) - 2;
    pages = cfg.mem / PAGE;
    if (!pages || pages > most)
        pages = most;
    ws_pages = cfg.ws / PAGE;
    if (!ws_pages || ws_pages > pages)
        ws_pages = pages / 4;
    if (!cfg.run)
        cfg.run = 1;
    if (!cfg.dups)
        cfg.dups = 1;
    if (cfg.wbytes < 4)
        cfg.wbytes = 4;
    if (cfg.wbytes > (WORDS - FIRST) * 4)
        cfg.wbytes = (WORDS - FIRST) * 4;
    rng = mix(cfg.seed) | 1;
    meta = (struct meta *)base;
    pool = (u32 *)((base + pages * (u32)sizeof(struct meta) + PAGE - 1) & ~(PAGE - 1));

    say("FILL");
    say_num("pages", pages);
    say_num("ws", ws_pages);
    say_hex("pool", (u32)pool);
    say_hex("end", end);
    say("\n");
    text_init();
    u32 have[KINDS] = { 0 };
    for (u32 i = 0; i < pages; i++) {
        fill(i);
        have[kind_of(i)]++;
    }
    tsc_per_us = tsc_calibrate();
    timer_start();
    say("READY");
    for (u32 k = 0; k < KINDS; k++)
        say_num(kind_name[k], have[k]);
    say_num("tsc_mhz", tsc_per_us);
    say("\n");

    tsc_last = rdtsc();
    dirty_last = beat_at = stat_at = now_us;
    for (;;) {
        clock_update();
        if (now_us - beat_at >= cfg.hb * 1000) {
            beat_at = now_us - beat_at >= cfg.hb * 2000 ? now_us : beat_at + cfg.hb * 1000;
            put_text(debug_put, "H ");
            put_num(debug_put, ++beat);
            debug_put(' ');
            put_num(debug_put, now_ms);
            debug_put('\n');
        }
        u32 us = now_us - dirty_last;
        if (us > 100000)
            us = 100000;                        /* time lost is not made up for */
        dirty_last = now_us;
        u32 add = earn(cfg.dirty / PAGE, us, &dirty_rest);
        if (!paused)
            owed += add;
        check += earn(cfg.verify / PAGE, us, &ver_rest);

        for (u32 n = 0; owed && n < 64; n++, owed--)
            dirty_one();
        if (all)
            check = 64;
        for (u32 n = 0; check && n < 64; n++, check--) {
            verify_one(at);
            if (++at < pages)
                continue;
            at = 0;
            sweep++;
            say(bad_now ? "VERIFY BAD" : "VERIFY OK");
            put_text(serial_put, " ");
            put_num(serial_put, sweep);
            say_num("pages", pages);
            say_num("bad", bad_now);
            say_num("beat", beat);
            say(all ? " full\n" : "\n");
            bad_now = 0;
            if (all) {
                check = all = 0;
                break;
            }
        }

        if (cfg.stat && now_us - stat_at >= 1000000) {
            stat_at += 1000000;
            say("STAT");
            say_num("ms", now_ms);
            say_num("beat", beat);
            say_num("dirtied", dirtied);
            say_num("owed", owed);
            say_num("sweep", sweep);
            say_num("bad", bad_all);
            say("\n");
        }
        if (inb(COM1 + 5) & 1) {
            switch (inb(COM1)) {
            case 'v': all = 1; at = 0; bad_now = 0; break;
            case 'p': paused = 1; owed = 0; say("PAUSED\n"); break;
            case 'r': paused = 0; say("RUNNING\n"); break;
            }
        }
        if (!owed && !check && !all)
            __asm__ volatile("hlt");
    }
}
