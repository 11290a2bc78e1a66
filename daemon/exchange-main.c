/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/exchange-main.c - the main channel
 *
 * Bytes are looked at when they are pushed, before anybody can pull them, so a
 * marker is known before its last byte can leave.  The parser only watches: what
 * goes out is what came in.
 */
#include "daemon/exchange-private.h"

#include "wire/error.h"

enum {
    EVENTS_MAX = 8,
    GEOMETRY_WAIT_MS = 60 * 1000,       /* a round of a wait without end */
    DEFAULT_PAGE_SIZE = 4096,
    POSTCOPY_RUN_SIZE = 5,
    POSTCOPY_HELD = 64 * 1024,
};

/* What the parser found in one push, told to the observer without the lock. */
typedef struct {
    unsigned n;
    ExchangeEvent events[EVENTS_MAX];
} Findings;

static void add_finding(Findings *findings, ExchangeEvent event)
{
    /* Each kind happens once in a stream, so they cannot be too many. */
    if (findings->n < EVENTS_MAX) {
        findings->events[findings->n++] = event;
    }
}

static void tell_findings(Exchange *self, const Findings *findings)
{
    for (unsigned i = 0; i < findings->n; i++) {
        exchange_notify(self, findings->events[i]);
    }
}

/* ---- looking at the stream --------------------------------------------------- */

/* How long packets are: as the stream says, else as we were told. */
static bool settle_geometry(Exchange *self, GError **error)
{
    uint64_t page_size = main_stream_get_page_size(self->main);

    if (page_size == 0) {
        page_size = self->page_size ? self->page_size : DEFAULT_PAGE_SIZE;
    }
    if (!multifd_geometry_init(&self->geometry, page_size, error)) {
        return false;
    }
    self->configured = true;
    g_cond_broadcast(&self->state);
    return true;
}

/* The stream says the page size by now, or never will. */
static bool found_page_size(Exchange *self, bool last_chance, GError **error)
{
    return self->configured ||
           (!last_chance && main_stream_get_page_size(self->main) == 0) ||
           settle_geometry(self, error);
}

static bool check_page_size(const Exchange *self, uint64_t page_size,
                            GError **error)
{
    uint64_t said = main_stream_get_page_size(self->main);
    MultifdGeometry geometry;

    if (!exchange_check_undecided_locked(self, error)) {
        return false;
    }
    if (said != 0 && said != page_size) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got page size %" G_GUINT64_FORMAT ", expected %"
                    G_GUINT64_FORMAT " as the main channel says", page_size,
                    said);
        return false;
    }
    return multifd_geometry_init(&geometry, page_size, error);
}

bool exchange_set_page_size(Exchange *self, uint64_t page_size, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = check_page_size(self, page_size, error);
    if (ok) {
        self->page_size = page_size;
        main_stream_set_page_size(self->main, page_size);
        /* Nobody has used what was assumed: that waits for exchange_decide(). */
        ok = !self->configured || settle_geometry(self, error);
    }
    if (ok && self->ramblocks) {
        traffic_begin(self->traffic, main_stream_get_ramblocks(self->main),
                      self->geometry.page_size);
        recorder_set_page_size(self->recorder, self->geometry.page_size);
    }
    g_mutex_unlock(&self->lock);
    return ok;
}

/* Pages on main before any channel has come: there is no multifd. */
static void found_page_data(Exchange *self, Findings *findings)
{
    if (self->mode == EXCHANGE_UNDECIDED && !self->link_fed &&
        self->channels_expected == 0) {
        exchange_decide_locked(self, EXCHANGE_MAIN_ONLY);
        add_finding(findings, EXCHANGE_EVENT_DECIDED);
    }
}

/* Both QEMUs have been in postcopy before, and have their halves of the guest. */
static void found_resumed(Exchange *self, Findings *findings)
{
    self->advised = self->postcopy = self->postcopy_sent = true;
    self->resumed = true;
    found_page_data(self, findings);
    add_finding(findings, EXCHANGE_EVENT_POSTCOPY);
}

/* A source with multifd has connected every channel by now. */
static void found_all_connected(Exchange *self)
{
    if (!self->all_connected && !self->link_fed) {
        self->all_connected = true;
        g_cond_broadcast(&self->state);
    }
}

/* ---- what the traffic record is told ------------------------------------------- */

static void tell_page(const Ramblock *block, uint64_t offset, bool zero,
                      void *data)
{
    Exchange *self = data;

    traffic_note_main_page(self->traffic, self->markers_seen, block->name,
                           offset, zero);
}

static bool found_ramblocks(Exchange *self, GError **error)
{
    if (!found_page_size(self, true, error)) {
        return false;
    }
    traffic_begin(self->traffic, main_stream_get_ramblocks(self->main),
                  self->geometry.page_size);
    main_stream_set_page_hook(self->main, self->traffic ? tell_page : NULL,
                              self);
    traffic_mark(self->traffic, TRAFFIC_RAMBLOCKS);
    recorder_set_page_size(self->recorder, self->geometry.page_size);
    return true;
}

/* What is neither a page nor device state. */
static void tell_recorder(Exchange *self, const uint8_t *buf, size_t len)
{
    uint64_t begin = self->main_ring.in, end = begin + len;

    if (main_stream_is_opaque(self->main)) {
        end = MIN(end, self->opaque_offset);
    }
    /* The package of postcopy has devices in it, which are passed over. */
    if (self->advised && self->ramblocks) {
        end = MIN(end, self->ramblocks_offset);
    }
    if (self->pages_offset > 0) {
        end = MIN(end, self->pages_offset);
    }
    if (end > begin) {
        recorder_note_main(self->recorder, begin, buf, end - begin);
    }
    if (self->ramblocks) {
        recorder_end_head(self->recorder);
    }
}

/* These bytes are about to be written to the ring. */
static void tell_main(Exchange *self, const uint8_t *buf, size_t len)
{
    enum { BEFORE_NAME = 6 };   /* the offset is that of the section's name */
    uint64_t devices = self->opaque_offset -
                       MIN(self->opaque_offset, (uint64_t)BEFORE_NAME);
    uint64_t begin = self->main_ring.in;
    MainStreamCounts counts;

    main_stream_get_counts(self->main, &counts);
    if (main_stream_is_opaque(self->main)) {
        uint64_t skip = devices > begin ? devices - begin : 0;

        traffic_mark(self->traffic, TRAFFIC_DEVICES);
        traffic_note_devices(self->traffic, buf + skip, len - skip);
    }
    traffic_note_main(self->traffic, len, &counts);
    tell_recorder(self, buf, len);
}

/* ---- what it means for us -------------------------------------------------------- */

static bool handle_event(Exchange *self, const MainEvent *event,
                         Findings *findings, GError **error)
{
    switch (event->kind) {
    case MAIN_EVENT_CONFIGURATION:
        return found_page_size(self, false, error);
    case MAIN_EVENT_POSTCOPY_ADVISE:
        self->advised = true;
        return found_page_size(self, false, error);
    case MAIN_EVENT_RAMBLOCKS:
        self->ramblocks = true;
        self->ramblocks_offset = event->offset;
        if (!main_stream_has_return_path(self->main)) {
            add_finding(findings, EXCHANGE_EVENT_NO_RETURN_PATH);
        }
        add_finding(findings, EXCHANGE_EVENT_RAMBLOCKS);
        g_cond_broadcast(&self->state);
        return found_ramblocks(self, error);
    case MAIN_EVENT_MARKER:
        self->markers_seen = event->number;
        g_array_append_val(self->markers, event->offset);
        g_cond_broadcast(&self->state);
        break;
    case MAIN_EVENT_PAGE_DATA:
        self->pages_offset = event->offset;
        found_page_data(self, findings);
        break;
    case MAIN_EVENT_RAM_END:
        traffic_mark(self->traffic, TRAFFIC_RAM_END);
        found_all_connected(self);
        break;
    case MAIN_EVENT_SWITCHOVER:
        traffic_mark(self->traffic, TRAFFIC_SWITCHOVER);
        add_finding(findings, EXCHANGE_EVENT_SWITCHOVER);
        break;
    case MAIN_EVENT_POSTCOPY_RUN:
        self->postcopy = true;
        self->postcopy_run = event->offset + POSTCOPY_RUN_SIZE;
        add_finding(findings, EXCHANGE_EVENT_POSTCOPY);
        break;
    case MAIN_EVENT_POSTCOPY_SENT:
        self->postcopy_sent = true;
        add_finding(findings, EXCHANGE_EVENT_POSTCOPY);
        break;
    case MAIN_EVENT_RESUMED:
        found_resumed(self, findings);
        break;
    case MAIN_EVENT_OPAQUE:
        self->opaque_offset = event->offset;
        found_all_connected(self);
        g_cond_broadcast(&self->state);
        return found_page_size(self, true, error);
    case MAIN_EVENT_RETURN_PATH:
        break;
    }
    return true;
}

static bool look_at(Exchange *self, const uint8_t *buf, size_t len,
                    Findings *findings, GError **error)
{
    while (len > 0) {
        MainEvent event;
        bool has_event = false;
        size_t used = 0;

        if (!main_stream_feed(self->main, buf, len, &used, &event, &has_event,
                              error)) {
            return false;
        }
        if (has_event && !handle_event(self, &event, findings, error)) {
            return false;
        }
        buf += used;
        len -= used;
    }
    return true;
}

/* ---- main channel ---------------------------------------------------------- */

/*
 * Bytes that may be pulled now.  A marker whose first bytes are already gone
 * holds back the rest of it, which does as well: half a record tells nothing.
 */
static size_t get_pullable(Exchange *self, bool gated)
{
    size_t held = byte_ring_get_held(&self->main_ring);

    while (self->next_marker < self->markers->len) {
        uint64_t offset = g_array_index(self->markers, uint64_t,
                                        self->next_marker);
        uint64_t number = self->markers_passed + 1;

        if (gated && self->mode != EXCHANGE_MAIN_ONLY &&
            exchange_get_open_markers(self) < number) {
            return offset > self->main_ring.out
                   ? MIN(held, offset - self->main_ring.out) : 0;
        }
        if (offset >= self->main_ring.out + held) {
            break;
        }
        self->next_marker++;
        self->markers_passed++;
    }
    return held;
}

/* Forget markers that are behind, so that the array does not grow. */
static void compact_markers(Exchange *self)
{
    if (self->next_marker >= 1024) {
        g_array_remove_range(self->markers, 0, self->next_marker - 1);
        self->next_marker = 1;
    }
}

/*
 * In postcopy a page that the guest waits for may be behind what we hold, so that
 * is little.  What a link brings must always find room.
 */
static size_t get_main_space(const Exchange *self)
{
    size_t space = byte_ring_get_space(&self->main_ring);
    size_t held = byte_ring_get_held(&self->main_ring);

    if (!self->postcopy || self->link_fed) {
        return space;
    }
    return held < POSTCOPY_HELD ? MIN(space, POSTCOPY_HELD - held) : 0;
}

static size_t wait_main_space(Exchange *self)
{
    while (!exchange_is_over(self) && get_main_space(self) == 0) {
        if (self->markers->len > 0) {
            found_all_connected(self);
        }
        g_cond_wait(&self->main_space, &self->lock);
    }
    return get_main_space(self);
}

static bool push_some(Exchange *self, const uint8_t **buf, size_t *len,
                      Findings *findings, GError **error)
{
    size_t n = MIN(*len, wait_main_space(self));

    if (exchange_is_over(self)) {
        return true;
    }
    if (!look_at(self, *buf, n, findings, error)) {
        return false;
    }
    if (self->traffic) {
        tell_main(self, *buf, n);
    }
    byte_ring_write(&self->main_ring, *buf, n);
    *buf += n;
    *len -= n;
    g_cond_broadcast(&self->main_data);
    return true;
}

bool exchange_main_push(Exchange *self, const uint8_t *buf, size_t len)
{
    bool ok = true;

    while (ok && len > 0) {
        Findings findings = { 0 };
        GError *error = NULL;

        g_mutex_lock(&self->lock);
        ok = push_some(self, &buf, &len, &findings, &error);
        ok = ok && !exchange_is_over(self);
        g_mutex_unlock(&self->lock);
        tell_findings(self, &findings);
        if (error) {
            exchange_fail(self, error);
        }
    }
    return ok;
}

void exchange_main_end(Exchange *self)
{
    g_mutex_lock(&self->lock);
    self->stats.main_ended = true;
    g_cond_broadcast(&self->main_data);
    g_cond_broadcast(&self->state);
    g_mutex_unlock(&self->lock);
    exchange_notify(self, EXCHANGE_EVENT_MAIN_ENDED);
}

/*
 * With a return path a source ends its main channel after SHUT, or because it
 * fails: then the abort ends the destination's, in the order that spares it.
 */
static bool is_end_meant(const Exchange *self)
{
    return self->stats.main_ended &&
           (self->stats.shut || !main_stream_has_return_path(self->main));
}

gssize exchange_main_pull(Exchange *self, uint8_t *buf, size_t max, bool gated)
{
    gssize n = -1;

    g_mutex_lock(&self->lock);
    while (!exchange_is_over(self)) {
        size_t pullable = get_pullable(self, gated);

        if (pullable > 0) {
            max = self->postcopy ? MIN(max, POSTCOPY_HELD) : max;
            n = byte_ring_read(&self->main_ring, buf, MIN(pullable, max));
            traffic_touch(self->traffic, TRAFFIC_LAST_MAIN_OUT);
            compact_markers(self);
            g_cond_signal(&self->main_space);
            break;
        }
        if (is_end_meant(self) &&
            byte_ring_get_held(&self->main_ring) == 0) {
            n = 0;
            break;
        }
        g_cond_wait(&self->main_data, &self->lock);
    }
    g_mutex_unlock(&self->lock);
    return n;
}

bool exchange_wait_geometry_for(Exchange *self, unsigned timeout_ms,
                                MultifdGeometry *ret, bool *ret_over)
{
    int64_t deadline_us = g_get_monotonic_time() + timeout_ms * 1000LL;
    bool ok;

    g_mutex_lock(&self->lock);
    while (!exchange_is_over(self) && !self->configured &&
           g_cond_wait_until(&self->state, &self->lock, deadline_us)) {
    }
    *ret_over = exchange_is_over(self);
    ok = !*ret_over && self->configured;
    *ret = self->geometry;
    g_mutex_unlock(&self->lock);
    return ok;
}

bool exchange_wait_geometry(Exchange *self, MultifdGeometry *ret)
{
    bool over = false;

    while (!over && !exchange_wait_geometry_for(self, GEOMETRY_WAIT_MS, ret,
                                                &over)) {
    }
    return !over;
}

static GError *no_ramblocks_error(Exchange *self)
{
    return g_error_new(WIRE_ERROR, WIRE_ERROR_UNSUPPORTED,
                       "main channel: cannot be followed to its RAM block list "
                       "(%s), so multifd packets cannot be checked",
                       main_stream_is_opaque(self->main)
                       ? main_stream_get_opaque_reason(self->main)
                       : "it ended");
}

const RamblockTable *exchange_wait_ramblocks(Exchange *self)
{
    const RamblockTable *table = NULL;
    bool failed = false;

    g_mutex_lock(&self->lock);
    while (!exchange_is_over(self) && !self->ramblocks &&
           !main_stream_is_opaque(self->main) && !self->stats.main_ended) {
        g_cond_wait(&self->state, &self->lock);
    }
    if (!exchange_is_over(self)) {
        if (self->ramblocks) {
            table = main_stream_get_ramblocks(self->main);
        } else {
            failed = exchange_fail_locked(self, no_ramblocks_error(self));
        }
    }
    g_mutex_unlock(&self->lock);
    if (failed) {
        exchange_notify(self, EXCHANGE_EVENT_FAILED);
    }
    return table;
}
