/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-test-advice.h"

#include <inttypes.h>
#include <string.h>

#include "daemon/units.h"

enum {
    ENOUGH_PERCENT = 95,        /* of the best rate */
    WORSE_PERCENT = 80,
    AT_LIMIT_PERCENT = 90,
    QUEUE_MIN_US = 10 * 1000,   /* a round trip may grow by that under load */
    LOSSY_PER_10000 = 10,
    HELD_BACK = 200,            /* per mille of the time */
    CORE_PERCENT = 70,          /* of what one core can do, on one lane */
    DOWNTIME_MS = 300,          /* QEMU's default downtime-limit */
    MTU_USUAL = 1500,
};

/* What all advice is made from. */
typedef struct {
    const LinkTestAdviceSetup *setup;
    const LinkTestResult *result;
    const LinkTestStep *best;
    const LinkTestStep *enough;     /* with the fewest lanes that nearly reach it */
    GPtrArray *list;
} Advice;

static void add(GPtrArray *list, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void add(GPtrArray *list, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(list, g_strdup_vprintf(format, args));
    va_end(args);
}

static char *format_ms(uint32_t us)
{
    return us < 10 * 1000 ? g_strdup_printf("%.1f ms", us / 1000.0)
                          : g_strdup_printf("%.0f ms", us / 1000.0);
}

static const LinkTestStep *find_enough(const LinkTestResult *result,
                                       const LinkTestStep *best)
{
    for (unsigned i = 0; i < result->n_steps; i++) {
        const LinkTestStep *step = &result->steps[i];

        if (step->lanes <= best->lanes &&
            step->load.rate >= best->load.rate / 100 * ENOUGH_PERCENT) {
            return step;
        }
    }
    return best;
}

/* ---- one subject each ------------------------------------------------------- */

/* The most that were tried got much less: what it costs is not the line's. */
static bool is_worse_with_more(const Advice *self)
{
    const LinkTestStep *last = &self->result->steps[self->result->n_steps - 1];

    return last->load.rate < self->best->load.rate / 100 * WORSE_PERCENT;
}

static void advise_fewer(const Advice *self)
{
    const LinkTestStep *last = &self->result->steps[self->result->n_steps - 1];
    g_autofree char *rate = units_format_rate(self->enough->load.rate);
    g_autofree char *less = units_format_rate(last->load.rate);

    add(self->list, "lanes: %u got most, %s; %u got less, %s, so that processors "
        "are what there is too little of, or a queue ran over",
        self->enough->lanes, rate, last->lanes, less);
}

static void advise_lanes(const Advice *self)
{
    unsigned have = self->setup->lanes, need = self->enough->lanes;
    g_autofree char *rate = units_format_rate(self->enough->load.rate);
    g_autofree char *one =
        units_format_rate(self->result->steps[0].load.rate);

    if (is_worse_with_more(self)) {
        advise_fewer(self);
    } else if (need == 1) {
        add(self->list, "lanes: one fills the line (%s); more do no harm", rate);
    } else if (have == 0 && need <= self->setup->lanes_max) {
        add(self->list, "lanes: %u fill the line (%s, one alone %s); lanes=auto "
            "finds them", need, rate, one);
    } else if (have == 0) {
        add(self->list, "lanes: %u fill the line (%s, one alone %s); set "
            "lanes-max=%u in [peer %s], which has %u", need, rate, one, need,
            self->setup->peer, self->setup->lanes_max);
    } else if (have >= need) {
        add(self->list, "lanes: %u fill the line (%s, one alone %s); lanes=%u is "
            "enough", need, rate, one, have);
    } else {
        add(self->list, "lanes: %u fill the line (%s, one alone %s); set lanes=%u "
            "in [peer %s], which has %u", need, rate, one, need,
            self->setup->peer, have);
    }
}

static bool is_at_limit(const Advice *self)
{
    return self->result->limit > 0 && self->best->load.rate >=
           self->result->limit / 100 * AT_LIMIT_PERCENT;
}

static bool has_queue(const Advice *self)
{
    const LinkTestRttSummary *idle = &self->result->idle;
    const LinkTestRttSummary *busy = &self->enough->rtt;

    return idle->count > 0 && busy->count > 0 && busy->median_us >
           idle->median_us + MAX(idle->median_us / 2, (uint32_t)QUEUE_MIN_US);
}

static void advise_rate(const Advice *self)
{
    g_autofree char *idle = format_ms(self->result->idle.median_us);
    g_autofree char *busy = format_ms(self->enough->rtt.median_us);
    g_autofree char *limit = units_format_rate(self->result->limit);
    g_autofree char *rate = units_format_rate(self->best->load.rate / 100 *
                                              ENOUGH_PERCENT);

    if (is_at_limit(self)) {
        add(self->list, "rate: the limit, %s, is what was measured; with "
            "--ignore-limit the line shows what it has", limit);
    }
    if (has_queue(self)) {
        add(self->list, "rate: under load the round trip grows from %s to %s, a "
            "queue on the way; a limit of %s keeps it short, for everybody's "
            "traffic and for the downtime", idle, busy, rate);
    }
}

static void advise_window(const Advice *self)
{
    uint64_t product = self->best->load.rate *
                       (self->result->idle.median_us / 1e6);
    g_autofree char *under_way = units_format_size(product);
    g_autofree char *window = units_format_size(self->result->window);

    if (self->result->idle.count == 0) {
        return;
    }
    if (self->result->window < 2 * product) {
        add(self->list, "window: the line holds %s, and a migration may have %s "
            "under way: raise migration-memory at both ends", under_way, window);
    } else {
        add(self->list, "window: the line holds %s (rate × round trip), and a "
            "migration may have %s under way: enough", under_way, window);
    }
}

static void advise_buffers(const Advice *self)
{
    const LinkTestLoadResult *load = &self->enough->load;
    bool reverse = self->setup->reverse;

    if (load->rwnd_limited >= HELD_BACK) {
        add(self->list, "buffers: for %u %% of the time the receiver's window "
            "held the lanes back; raise the third number of "
            "net.ipv4.tcp_rmem %s, or take more lanes", load->rwnd_limited / 10,
            reverse ? "here" : "there");
    }
    if (load->sndbuf_limited >= HELD_BACK) {
        add(self->list, "buffers: for %u %% of the time the sender's buffer held "
            "the lanes back; raise the third number of "
            "net.ipv4.tcp_wmem %s, or take more lanes",
            load->sndbuf_limited / 10, reverse ? "there" : "here");
    }
}

static void advise_loss(const Advice *self)
{
    const LinkTestLoadResult *load = &self->enough->load;
    double percent = load->segments
                     ? 100.0 * load->retransmits / load->segments : 0;
    const char *algorithm = self->result->algorithm;

    if (load->segments == 0 ||
        load->retransmits * 10000 < load->segments * LOSSY_PER_10000) {
        return;
    }
    if (has_queue(self)) {
        add(self->list, "loss: %.2f %% of the segments were sent again, and the "
            "queue was long: most likely it ran over; the rate limit above "
            "avoids that", percent);
    } else if (strcmp(algorithm, "bbr") != 0) {
        add(self->list, "loss: %.2f %% of the segments were sent again without a "
            "long queue%s%s: congestion-control=bbr, where both kernels have "
            "it, bears that better", percent, *algorithm ? ", with " : "",
            algorithm);
    } else {
        add(self->list, "loss: %.2f %% of the segments were sent again; bbr bears "
            "it", percent);
    }
}

static void advise_tls(const Advice *self)
{
    uint64_t here = self->result->tls_here, there = self->result->tls_there;
    uint64_t core = here && there ? MIN(here, there) : MAX(here, there);
    g_autofree char *speed = units_format_rate(core);

    if (core > 0 && self->result->steps[0].load.rate >=
                    core / 100 * CORE_PERCENT) {
        add(self->list, "TLS: one core does %s, which is about what one lane got: "
            "more lanes use more cores", speed);
    }
}

static void advise_mtu(const Advice *self)
{
    for (unsigned i = 0; i < self->result->n_paths; i++) {
        const LinkTestPath *path = &self->result->paths[i];

        if (path->mtu > 0 && path->mtu < MTU_USUAL) {
            add(self->list, "MTU: %u on the way to %s, so there is a tunnel on "
                "it; if lanes ever stand still there at once, see "
                "net.ipv4.tcp_mtu_probing", path->mtu, path->address);
        }
    }
}

static void advise_patience(const Advice *self)
{
    uint32_t longest_us = self->result->idle.max_us;
    g_autofree char *text = NULL;

    for (unsigned i = 0; i < self->result->n_steps; i++) {
        longest_us = MAX(longest_us, self->result->steps[i].rtt.max_us);
    }
    if (longest_us / 1000 >= self->setup->link_dead_ms / 2) {
        text = format_ms(longest_us);
        add(self->list, "link-dead: a round trip took up to %s, and silence of "
            "%u ms is taken for a dead link: raise it, or set a rate limit",
            text, self->setup->link_dead_ms);
    }
}

static void advise_downtime(const Advice *self)
{
    g_autofree char *rtt = format_ms(self->result->idle.median_us);
    g_autofree char *bytes = units_format_size(self->best->load.rate / 1000 *
                                               DOWNTIME_MS);

    if (self->result->idle.count > 0) {
        add(self->list, "downtime: in %d ms, QEMU's own limit, %s go over, not "
            "packed; a guest that writes more than that while a round of its "
            "memory goes needs a higher --downtime-limit; the hand-over adds "
            "about %s", DOWNTIME_MS, bytes, rtt);
    }
}

GPtrArray *link_test_advice_get(const LinkTestAdviceSetup *setup,
                                const LinkTestResult *result)
{
    Advice self = {
        .setup = setup, .result = result,
        .best = link_test_result_get_best(result),
        .list = g_ptr_array_new_with_free_func(g_free),
    };

    if (!self.best) {
        return self.list;
    }
    self.enough = find_enough(result, self.best);
    advise_lanes(&self);
    advise_rate(&self);
    advise_loss(&self);
    advise_window(&self);
    advise_buffers(&self);
    advise_tls(&self);
    advise_mtu(&self);
    advise_patience(&self);
    advise_downtime(&self);
    return self.list;
}

GPtrArray *link_test_advice_get_warnings(const LinkTestAdviceSetup *setup,
                                         const LinkTestResult *result)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(g_free);

    if (result->migrations > 0 || result->migrations_there > 0) {
        add(list, "migrations run meanwhile, %u here and %u at %s: they and the "
            "test share the line, and all numbers are lower",
            result->migrations, result->migrations_there, setup->peer);
    }
    if (result->cut_short) {
        add(list, "there was no time for more lanes: the line takes long to "
            "drain");
    }
    return list;
}
