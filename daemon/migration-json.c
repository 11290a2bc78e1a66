/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/migration-json.c - a migration as query-migrations shows it
 */
#include "daemon/migration-private.h"

#include "daemon/egress-link.h"
#include "daemon/ingress-link.h"
#include "wire/link-frame.h"

#define GIB 1073741824.0

static const char *const role_names[] = {
    [MIGRATION_SOURCE] = "source",
    [MIGRATION_DESTINATION] = "destination",
    [MIGRATION_RELAY] = "relay",
};

static JsonObject *add_channel(JsonArray *list, unsigned number,
                               uint64_t packets, uint64_t bytes, uint64_t syncs)
{
    JsonObject *entry = json_object_new();

    json_object_set_int_member(entry, "channel", number);
    json_object_set_int_member(entry, "packets", packets);
    json_object_set_int_member(entry, "bytes", bytes);
    json_object_set_int_member(entry, "syncs", syncs);
    json_array_add_object_element(list, entry);
    return entry;
}

static JsonArray *channels_to_json(const ExchangeChannel *channels, unsigned n)
{
    JsonArray *list = json_array_new();

    for (unsigned i = 0; i < n; i++) {
        add_channel(list, i, channels[i].packets, channels[i].bytes,
                    channels[i].syncs);
    }
    return list;
}

static JsonArray *lanes_to_json(Egress *egress, uint64_t syncs)
{
    EgressLinkLane lanes[LINK_LANES_MAX];
    unsigned n = egress_link_get_lanes(egress, lanes, LINK_LANES_MAX);
    JsonArray *list = json_array_new();

    for (unsigned i = 0; i < n; i++) {
        JsonObject *entry = add_channel(list, i, lanes[i].frames,
                                        lanes[i].bytes, syncs);

        json_object_set_boolean_member(entry, "up", lanes[i].up);
        if (lanes[i].up) {
            json_object_set_string_member(entry, "address", lanes[i].address);
        }
        json_object_set_int_member(entry, "resumes", lanes[i].resumes);
        json_object_set_int_member(entry, "resent", lanes[i].resent);
        json_object_set_int_member(entry, "retransmits", lanes[i].retransmits);
        if (lanes[i].rtt_us > 0) {
            json_object_set_double_member(entry, "rtt-ms",
                                          lanes[i].rtt_us / 1000.0);
        }
    }
    return list;
}

static bool is_link(const Egress *egress)
{
    return egress && strcmp(egress->ops->kind, "link") == 0;
}

/* A link's egress counts its main lane itself; an ingress does not. */
static uint64_t get_wire_bytes(const Migration *self)
{
    if (self->egress) {
        return self->egress->ops->get_wire_bytes(self->egress);
    }
    return self->link ? link_main_get_wire_bytes_out(self->link) : 0;
}

static JsonObject *end_to_json(const char *kind, unsigned channels,
                               unsigned lanes)
{
    JsonObject *end = json_object_new();

    json_object_set_string_member(end, "kind", kind);
    json_object_set_int_member(end, "channels", channels);
    if (lanes > 0) {
        json_object_set_int_member(end, "lanes", lanes);
    }
    return end;
}

static void add_ends(const Migration *self, const ExchangeSnapshot *now,
                     JsonObject *ret)
{
    unsigned lanes;

    if (self->ingress) {
        lanes = strcmp(self->ingress->ops->kind, "link") == 0
                ? ingress_link_get_lanes(self->ingress) : 0;
        json_object_set_object_member(ret, "ingress", end_to_json(
            self->ingress->ops->kind, now->channels_in, lanes));
    }
    if (self->egress) {
        lanes = is_link(self->egress)
                ? egress_link_get_lanes(self->egress, NULL, 0) : 0;
        json_object_set_object_member(ret, "egress", end_to_json(
            self->egress->ops->kind, lanes ? 0 : now->channels_out, lanes));
    }
}

static uint64_t sum_bytes(const ExchangeChannel *channels)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < MULTIFD_CHANNELS_MAX; i++) {
        bytes += channels[i].bytes;
    }
    return bytes;
}

static unsigned count_lanes_up(Egress *egress)
{
    EgressLinkLane lanes[LINK_LANES_MAX];
    unsigned n = egress_link_get_lanes(egress, lanes, LINK_LANES_MAX), up = 0;

    for (unsigned i = 0; i < n; i++) {
        up += lanes[i].up;
    }
    return up;
}

static void add_reduction(Egress *egress, JsonObject *link)
{
    LinkReductionCounts counts;
    JsonObject *ret;

    if (!egress_link_get_reduction(egress, &counts)) {
        return;
    }
    ret = json_object_new();
    json_object_set_int_member(ret, "raw-bytes", counts.raw);
    json_object_set_int_member(ret, "packed-bytes", counts.packed);
    json_object_set_int_member(ret, "cpu-ms", counts.cpu_us / 1000);
    json_object_set_int_member(ret, "known-pages", counts.history.known);
    json_object_set_int_member(ret, "same-pages", counts.history.same);
    json_object_set_int_member(ret, "forgotten-pages", counts.history.missed);
    json_object_set_object_member(link, "reduction", ret);
}

/* With a link only. */
static JsonObject *link_to_json(const Migration *self)
{
    JsonObject *ret;
    LinkMainOutage outage;
    uint64_t resent;

    link_main_get_outage(self->link, &outage);
    resent = outage.resent_bytes;
    ret = json_object_new();
    json_object_set_string_member(ret, "state", outage.down ? "down" : "up");
    if (outage.down) {
        json_object_set_int_member(ret, "down-ms", outage.down_ms);
        if (outage.budget_ms != LINK_MAIN_FOREVER) {
            json_object_set_int_member(ret, "budget-ms", outage.budget_ms);
        }
    }
    json_object_set_int_member(ret, "resumes", outage.resumes);
    if (self->role == MIGRATION_SOURCE && self->egress) {
        json_object_set_int_member(ret, "lanes-up", count_lanes_up(self->egress));
        json_object_set_int_member(ret, "lanes-used",
                                   egress_link_get_lanes_wanted(self->egress));
        resent += egress_link_get_resent_bytes(self->egress);
    }
    json_object_set_int_member(ret, "resent-bytes", resent);
    if (self->role == MIGRATION_SOURCE && self->egress) {
        json_object_set_int_member(ret, "window-bytes",
                                   egress_link_get_window(self->egress));
        json_object_set_int_member(ret, "in-flight-bytes",
                                   egress_link_get_in_flight(self->egress));
        add_reduction(self->egress, ret);
    }
    return ret;
}

/* What it costs, by the amount that came in. */
static void add_cpu(CpuMeter *cpu, uint64_t bytes, JsonObject *ret)
{
    uint64_t us = cpu_meter_get_us(cpu);

    json_object_set_int_member(ret, "cpu-ms", us / 1000);
    if (bytes > 0) {
        json_object_set_double_member(ret, "cpu-seconds-per-gib",
                                      (double)us / 1e6 / ((double)bytes / GIB));
    }
}

/* What only the parts know. */
static void add_parts(const Migration *self, JsonObject *ret)
{
    g_autofree ExchangeSnapshot *now = g_new0(ExchangeSnapshot, 1);

    if (self->exchange) {
        exchange_get_snapshot(self->exchange, now);
    }
    add_ends(self, now, ret);
    json_object_set_int_member(ret, "bytes-in",
                               sum_bytes(now->in) + now->main_in +
                               now->preempt_in);
    json_object_set_int_member(ret, "bytes-out",
                               sum_bytes(now->out) + now->main_out +
                               now->preempt_out);
    json_object_set_int_member(ret, "wire-bytes-out", get_wire_bytes(self));
    json_object_set_int_member(ret, "main-bytes", now->main_in);
    json_object_set_int_member(ret, "preempt-bytes", now->preempt_in);
    json_object_set_int_member(ret, "return-bytes", now->return_in);
    json_object_set_int_member(ret, "packets", now->packets);
    json_object_set_int_member(ret, "normal-pages", now->normal_pages);
    json_object_set_int_member(ret, "zero-pages", now->zero_pages);
    json_object_set_int_member(ret, "main-pages",
                               traffic_get_main_pages(self->traffic));
    json_object_set_int_member(ret, "preempt-pages",
                               traffic_get_preempt_pages(self->traffic));
    json_object_set_int_member(ret, "device-packets", now->device_packets);
    json_object_set_int_member(ret, "epochs", now->epochs);
    add_cpu(self->cpu, sum_bytes(now->in) + now->main_in, ret);
    json_object_set_int_member(ret, "held-bytes", now->held);
    json_object_set_int_member(ret, "held-bytes-peak", now->held_peak);
    json_object_set_boolean_member(ret, "return-path", now->return_path);
    json_object_set_string_member(ret, "machine", now->machine);
    json_object_set_array_member(ret, "channels-in",
                                 channels_to_json(now->in, now->channels_in));
    json_object_set_array_member(ret, "channels-out", is_link(self->egress)
        ? lanes_to_json(self->egress, now->epochs)
        : channels_to_json(now->out, now->channels_out));
    if (self->link) {
        json_object_set_object_member(ret, "link", link_to_json(self));
    }
    if (self->link && link_main_get_rtt_us(self->link) > 0) {
        json_object_set_double_member(ret, "rtt-ms",
                                      link_main_get_rtt_us(self->link) / 1000.0);
    }
}

static void copy_member(JsonObject *from, const char *name, JsonNode *node,
                        void *to)
{
    (void)from;
    json_object_set_member(to, name, json_node_copy(node));
}

static void add_qemu(const QemuMigrateStatus *qemu, JsonObject *ret)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "status", qemu->status);
    json_object_set_int_member(object, "ram-total", qemu->ram_total);
    json_object_set_int_member(object, "ram-remaining", qemu->ram_remaining);
    json_object_set_int_member(object, "ram-transferred",
                               qemu->ram_transferred);
    json_object_set_int_member(object, "dirty-pages-rate",
                               qemu->dirty_pages_rate);
    json_object_set_int_member(object, "dirty-sync-count",
                               qemu->dirty_sync_count);
    json_object_set_int_member(object, "page-size", qemu->page_size);
    json_object_set_int_member(object, "expected-downtime-ms",
                               qemu->expected_downtime_ms);
    json_object_set_int_member(object, "cpu-throttle-percentage",
                               qemu->cpu_throttle);
    json_object_set_object_member(ret, "qemu", object);
    if (strcmp(qemu->status, "completed") == 0) {
        json_object_set_int_member(ret, "qemu-downtime-ms", qemu->downtime_ms);
    }
}

static void add_convergence(const MigrationConvergence *convergence,
                            JsonObject *ret)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "policy",
                                  convergence_policy_to_string(
                                      convergence->policy));
    json_object_set_boolean_member(object, "converging",
                                   !convergence->hopeless);
    json_object_set_int_member(object, "dirty-rate", convergence->dirty_rate);
    json_object_set_int_member(object, "rate", convergence->rate);
    json_object_set_object_member(ret, "convergence", object);
}

static void add_identity(const Migration *self, JsonObject *ret)
{
    json_object_set_string_member(ret, "id", self->id);
    json_object_set_string_member(ret, "kind", self->kind == MIGRATION_MANAGED
                                  ? "managed" : "tunnel");
    json_object_set_string_member(ret, self->kind == MIGRATION_MANAGED
                                  ? "vm" : "tunnel", self->name);
    if (self->uuid[0]) {
        json_object_set_string_member(ret, "uuid", self->uuid);
    }
    if (self->peer) {
        json_object_set_string_member(ret, "peer", self->peer->name);
    }
    json_object_set_string_member(ret, "role", role_names[self->role]);
    json_object_set_string_member(ret, "state",
                                  migration_state_to_string(self->state));
    if (self->error) {
        json_object_set_string_member(ret, "error", self->error->message);
    }
    if (self->warning) {
        json_object_set_string_member(ret, "warning", self->warning);
    }
}

static void add_times(const Migration *self, JsonObject *ret)
{
    int64_t end_us = self->end_us ? self->end_us : g_get_monotonic_time();
    int64_t elapsed_ms = (end_us - self->start_us) / 1000;

    json_object_set_int_member(ret, "rate", self->end_us ? 0 : self->rate);
    json_object_set_int_member(ret, "rate-limit",
                               migration_get_rate_limit(self));
    if (self->role != MIGRATION_DESTINATION) {
        json_object_set_int_member(ret, "weight",
                                   limiter_get_weight(self->limiter));
    }
    json_object_set_int_member(ret, "elapsed-ms", elapsed_ms);
    json_object_set_int_member(ret, "memory-limit", self->memory);
    if (self->end_us) {
        json_object_set_int_member(ret, "total-time-ms", elapsed_ms);
    }
    if (self->downtime_ms >= 0) {
        json_object_set_int_member(ret, "downtime-ms", self->downtime_ms);
    }
    if (self->qemu) {
        add_qemu(self->qemu, ret);
    }
    if (self->judges_convergence) {
        add_convergence(&self->convergence, ret);
    }
}

JsonObject *migration_to_json(Migration *self)
{
    JsonObject *ret = json_object_new();

    g_mutex_lock(&self->lock);
    if (self->final) {
        json_object_foreach_member(self->final, copy_member, ret);
    } else {
        add_parts(self, ret);
    }
    add_identity(self, ret);
    add_times(self, ret);
    g_mutex_unlock(&self->lock);
    return ret;
}

JsonObject *migration_traffic_to_json(Migration *self)
{
    JsonObject *ret = traffic_to_json(self->traffic);

    json_object_set_string_member(ret, "id", self->id);
    return ret;
}

static void sample_traffic_locked(Migration *self)
{
    TrafficSample sample = {
        .wire_bytes = get_wire_bytes(self),
        .rate_limit_bytes_per_s = migration_get_rate_limit(self),
        .rtt_us = self->link ? link_main_get_rtt_us(self->link) : 0,
    };
    ExchangeSnapshot now;

    if (self->exchange) {
        exchange_get_snapshot(self->exchange, &now);
        sample.held_bytes = now.held;
    }
    if (self->qemu) {
        sample.dirty_bytes_per_s = self->qemu->dirty_pages_rate *
                                   self->qemu->page_size;
        sample.remaining_bytes = self->qemu->ram_remaining;
    }
    traffic_sample(self->traffic, &sample);
}

void migration_sample_traffic(Migration *self)
{
    g_mutex_lock(&self->lock);
    sample_traffic_locked(self);
    g_mutex_unlock(&self->lock);
}

void migration_sample_rate(Migration *self)
{
    int64_t now_us = g_get_monotonic_time();
    uint64_t bytes;

    g_mutex_lock(&self->lock);
    bytes = get_wire_bytes(self);
    if (now_us > self->last_sample_us && bytes >= self->last_wire_bytes) {
        self->rate = (bytes - self->last_wire_bytes) * 1000000 /
                     (now_us - self->last_sample_us);
    }
    self->last_wire_bytes = bytes;
    self->last_sample_us = now_us;
    sample_traffic_locked(self);
    g_mutex_unlock(&self->lock);
}
