/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/pack-level.h"

#include <string.h>
#include <glib.h>

/* From not at all to the strongest that still keeps up with a fast line. */
static const int ladder[] = { 0, -5, -1, 1, 3, 6 };

enum {
    FIRST_RUNG = 3,
    /* A lane's time is judged when there is so much of it. */
    JUDGE_US = 200 * 1000,
    WIRE_PERCENT = 60,      /* waiting for the wire for longer: do more */
    BUSY_PERCENT = 40,      /* packing for longer than that must pay */
    /* A thread that has a processor for less of the time that it packs has others
     * waiting beside it. */
    SHORT_PERCENT = 70,
    FEW_PERCENT = 20,       /* that is little time */
    /* Doing less must carry so many pages more in the same time, or it is undone. */
    GAIN_PERCENT = 10,
    /* What shrinks no further gains nothing by packing less well: then try none. */
    SHRUNK_PERCENT = 75,
    /* After doing less, so long until it looks whether more pays again. */
    RETRY_US = 2 * 1000 * 1000,
};

void pack_level_init(PackLevel *self, int highest, bool fixed)
{
    *self = (PackLevel) { .fixed = fixed };
    while (self->top + 1 < (int)G_N_ELEMENTS(ladder) &&
           ladder[self->top + 1] <= highest) {
        self->top++;
    }
    self->ceiling = self->top + 1;
    self->rung = fixed ? self->top : MIN((int)FIRST_RUNG, self->top);
}

int pack_level_get(const PackLevel *self)
{
    return ladder[self->rung];
}

bool pack_level_is_off(const PackLevel *self)
{
    return self->rung == 0 && !self->fixed;
}

static bool is_more(int64_t part_us, int64_t all_us, int percent)
{
    return part_us * 100 > all_us * percent;
}

static bool pays(const PackTimes *times)
{
    double saved = (double)times->raw - times->packed;

    return times->pack_us * (double)times->packed <= times->write_us * saved;
}

/* As far as can be told; with less to write the wire seems faster than it is. */
static bool is_too_much(const PackTimes *times, int64_t all_us)
{
    return is_more(times->pack_us, all_us, BUSY_PERCENT) && !pays(times);
}

/* Others lack the processors, and nobody waits for the wire. */
static bool is_short(const PackLevel *self, int64_t all_us)
{
    const PackTimes *times = &self->times;

    /* Not below what QEMU's own zstd does, which costs little beside what it saves. */
    return self->rung > FIRST_RUNG && is_more(times->pack_us, all_us, FEW_PERCENT) &&
           !is_more(times->write_us, all_us, FEW_PERCENT) &&
           !is_more(times->cpu_us, times->pack_us, SHORT_PERCENT);
}

static double get_rate(const PackTimes *times, int64_t all_us)
{
    return (double)times->carried / all_us;
}

/* How long the wire takes for more than it has to carry now, nobody can say: it is
 * tried. */
static void try_less(PackLevel *self, int64_t all_us)
{
    const PackTimes *times = &self->times;
    bool shrinks = times->packed * 100 <= times->raw * SHRUNK_PERCENT;

    self->tried_from = self->rung;
    self->rate_before = get_rate(times, all_us);
    self->rung = shrinks ? self->rung - 1 : 0;
}

/* Was it a gain?  If not, back, and not again for a while. */
static void judge_trial(PackLevel *self, int64_t all_us)
{
    bool gain = get_rate(&self->times, all_us) * 100 >
                self->rate_before * (100 + GAIN_PERCENT);

    if (gain) {
        self->ceiling = self->tried_from;
    } else {
        self->rung = self->tried_from;
        self->floor = self->tried_from;
    }
    self->hold_us = RETRY_US;
    self->tried_from = 0;
}

static bool may_do_less(const PackLevel *self)
{
    return self->rung > self->floor;
}

static bool may_climb(const PackLevel *self)
{
    return self->rung < self->top && self->rung + 1 < self->ceiling;
}

static void judge(PackLevel *self, int64_t all_us)
{
    self->hold_us -= all_us;
    if (self->hold_us <= 0) {
        self->floor = 0;
        self->ceiling = self->top + 1;
    }
    if (self->tried_from > 0) {
        judge_trial(self, all_us);
    } else if (may_do_less(self) && is_too_much(&self->times, all_us)) {
        try_less(self, all_us);
    } else if (is_short(self, all_us)) {
        self->ceiling = self->rung--;
        self->hold_us = RETRY_US;
    } else if (is_more(self->times.write_us, all_us, WIRE_PERCENT) &&
               may_climb(self)) {
        self->rung++;
    }
}

void pack_level_note_pages(PackLevel *self, size_t bytes)
{
    self->times.carried += bytes;
}

void pack_level_note_pack(PackLevel *self, size_t raw, size_t packed,
                          int64_t pack_us, int64_t cpu_us)
{
    self->times.raw += raw;
    self->times.packed += packed;
    self->times.pack_us += pack_us;
    self->times.cpu_us += cpu_us;
}

void pack_level_note_idle(PackLevel *self, int64_t idle_us)
{
    self->times.idle_us += idle_us;
}

void pack_level_note_write(PackLevel *self, int64_t write_us)
{
    PackTimes *times = &self->times;
    int64_t all_us;

    times->write_us += write_us;
    all_us = times->pack_us + times->write_us + times->idle_us;
    if (self->fixed || all_us < JUDGE_US) {
        return;
    }
    judge(self, all_us);
    memset(times, 0, sizeof(*times));
}
