/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/client-chart.h"

#include <inttypes.h>
#include "daemon/client-format.h"
#include "daemon/units.h"

enum {
    LEFT = 110, WIDTH = 860, TOP = 10, HEIGHT = 200,
    Y_TICKS = 4, X_TICKS = 6,
    LEVELS = 8,             /* of heat, beside none */
    CELL_HEIGHT_MIN = 8, HEAT_HEIGHT_MIN = 96,
    SPAN_HEIGHT = 22, SPAN_LEFT = 330, SPAN_WIDTH = 520,
};

static void begin_svg(GString *text, unsigned height, const char *what)
{
    g_string_append_printf(text, "<svg viewBox=\"0 0 %d %u\" role=\"img\" "
                           "aria-label=\"%s\">\n", LEFT + WIDTH + 30, height,
                           what);
}

static char *format_time(double ms)
{
    return units_format_time((uint64_t)ms);
}

/* ---- lines --------------------------------------------------------------------------- */

static double get_max(const ClientChartSeries *series, unsigned n_series,
                      unsigned n_steps)
{
    double max = 0;

    for (unsigned s = 0; s < n_series; s++) {
        for (unsigned i = 0; i < n_steps; i++) {
            max = MAX(max, series[s].values[i]);
        }
    }
    return max;
}

/* A small number times a power of ten, at least @value. */
static double round_up(double value)
{
    static const double steps[] = { 1, 1.5, 2, 3, 4, 5, 6, 8, 10 };
    double power = 1;

    while (power * 10 < value) {
        power *= 10;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
        if (steps[i] * power >= value) {
            return steps[i] * power;
        }
    }
    return value;
}

static void append_axes(GString *text, double max, double time_ms,
                        ClientChartFormat format)
{
    for (unsigned i = 0; i <= Y_TICKS; i++) {
        g_autofree char *label = format((uint64_t)(max * i / Y_TICKS));
        int y = TOP + HEIGHT - (int)(HEIGHT * i / Y_TICKS);

        g_string_append_printf(text, "<path class=\"grid\" d=\"M%d %dh%d\"/>"
                               "<text class=\"y\" x=\"%d\" y=\"%d\">%s</text>\n",
                               LEFT, y, WIDTH, LEFT - 6, y + 4, label);
    }
    for (unsigned i = 0; i <= X_TICKS; i++) {
        g_autofree char *label = format_time(time_ms * i / X_TICKS);

        g_string_append_printf(text, "<text class=\"x\" x=\"%d\" y=\"%d\">%s"
                               "</text>\n", LEFT + (int)(WIDTH * i / X_TICKS),
                               TOP + HEIGHT + 16, label);
    }
}

/* A step for each value: what is known of a row is its sum. */
static void append_line(GString *text, const ClientChartSeries *series,
                        unsigned n_steps, double max)
{
    int last = -1;

    g_string_append_printf(text, "<path class=\"line %s\" d=\"", series->css);
    for (unsigned i = 0; i < n_steps; i++) {
        int x = LEFT + (int)(WIDTH * i / n_steps);
        int to = LEFT + (int)(WIDTH * (i + 1) / n_steps);
        int y = TOP + HEIGHT - (int)(HEIGHT * series->values[i] / max);

        if (i == 0) {
            g_string_append_printf(text, "M%d %d", x, y);
        } else if (y != last) {
            g_string_append_printf(text, "V%d", y);
        }
        g_string_append_printf(text, "H%d", to);
        last = y;
    }
    g_string_append(text, "\"/>\n");
}

void client_chart_append_lines(GString *text, const ClientChartSeries *series,
                               unsigned n_series, unsigned n_steps,
                               double step_ms, ClientChartFormat format)
{
    double max = get_max(series, n_series, n_steps);
    int x = LEFT;

    if (max <= 0 || n_steps == 0) {
        g_string_append(text, "<p class=\"none\">nothing to show</p>\n");
        return;
    }
    max = round_up(max);
    begin_svg(text, TOP + HEIGHT + 46, "values over time");
    append_axes(text, max, step_ms * n_steps, format);
    for (unsigned s = 0; s < n_series; s++) {
        if (get_max(&series[s], 1, n_steps) <= 0) {
            continue;
        }
        append_line(text, &series[s], n_steps, max);
        g_string_append_printf(text, "<path class=\"line %s\" d=\"M%d %dh24\"/>"
                               "<text x=\"%d\" y=\"%d\">%s</text>\n",
                               series[s].css, x, TOP + HEIGHT + 36, x + 30,
                               TOP + HEIGHT + 40, series[s].name);
        x += 215;
    }
    g_string_append(text, "</svg>\n");
}

/* ---- heat ----------------------------------------------------------------------------- */

static uint64_t get_cell(JsonArray *heat, unsigned slice, unsigned part)
{
    return client_format_number_at(client_format_array_at(heat, slice), part);
}

static unsigned get_parts(JsonArray *heat)
{
    return client_format_get_length(client_format_array_at(heat, 0));
}

/* Of a row; few rows are high ones. */
static int get_cell_height(unsigned n_slices)
{
    return MAX(CELL_HEIGHT_MIN, HEAT_HEIGHT_MIN / (int)n_slices);
}

/* 0: no page; else 1 to LEVELS. */
static unsigned get_level(uint64_t pages, uint64_t max)
{
    return pages == 0 ? 0 : 1 + (unsigned)((double)pages * (LEVELS - 1) /
                                           (double)max);
}

/* All cells of a level are one path: a rectangle each would be a large page. */
static void append_level(GString *text, JsonArray *heat, unsigned n_parts,
                         unsigned level, uint64_t max)
{
    int height = get_cell_height(json_array_get_length(heat));

    g_string_append_printf(text, "<path class=\"heat%u\" d=\"", level);
    for (unsigned slice = 0; slice < json_array_get_length(heat); slice++) {
        for (unsigned part = 0; part < n_parts; part++) {
            int x = LEFT + (int)(WIDTH * part / n_parts);
            int to = LEFT + (int)(WIDTH * (part + 1) / n_parts);

            if (get_level(get_cell(heat, slice, part), max) == level) {
                g_string_append_printf(text, "M%d %dh%dv%dh%dz", x,
                                       TOP + (int)slice * height, to - x,
                                       height, x - to);
            }
        }
    }
    g_string_append(text, "\"/>\n");
}

static void append_heat_axes(GString *text, unsigned n_slices, double slice_ms,
                             unsigned n_parts, uint64_t part_bytes)
{
    int height = (int)n_slices * get_cell_height(n_slices);
    int bottom = TOP + height;

    for (unsigned i = 0; i <= Y_TICKS; i++) {
        g_autofree char *label = format_time(slice_ms * n_slices * i / Y_TICKS);

        g_string_append_printf(text, "<text class=\"y\" x=\"%d\" y=\"%d\">%s"
                               "</text>\n", LEFT - 6,
                               TOP + 4 + (int)(height * i / Y_TICKS), label);
    }
    for (unsigned i = 0; i <= X_TICKS; i++) {
        g_autofree char *label = units_format_size(part_bytes * n_parts * i /
                                                   X_TICKS);

        g_string_append_printf(text, "<text class=\"x\" x=\"%d\" y=\"%d\">%s"
                               "</text>\n", LEFT + (int)(WIDTH * i / X_TICKS),
                               bottom + 16, label);
    }
    g_string_append_printf(text, "<path class=\"frame\" d=\"M%d %dh%dV%dh%dz\"/>"
                           "\n", LEFT, TOP, WIDTH, bottom, -WIDTH);
}

void client_chart_append_heat(GString *text, JsonArray *heat, double slice_ms,
                              uint64_t part_bytes)
{
    unsigned n_slices = json_array_get_length(heat), n_parts = get_parts(heat);
    uint64_t max = 0;

    for (unsigned slice = 0; slice < n_slices; slice++) {
        for (unsigned part = 0; part < n_parts; part++) {
            max = MAX(max, get_cell(heat, slice, part));
        }
    }
    if (max == 0) {
        g_string_append(text, "<p class=\"none\">no page came</p>\n");
        return;
    }
    begin_svg(text, TOP + n_slices * get_cell_height(n_slices) + 26,
              "pages by place and time");
    for (unsigned level = 1; level <= LEVELS; level++) {
        append_level(text, heat, n_parts, level, max);
    }
    append_heat_axes(text, n_slices, slice_ms, n_parts, part_bytes);
    g_string_append(text, "</svg>\n");
}

/* ---- spans ---------------------------------------------------------------------------- */

void client_chart_append_spans(GString *text, const ClientChartSpan *spans,
                               unsigned n_spans)
{
    double begin = n_spans > 0 ? spans[0].from_ms : 0, end = begin;

    for (unsigned i = 0; i < n_spans; i++) {
        begin = MIN(begin, spans[i].from_ms);
        end = MAX(end, spans[i].to_ms);
    }
    if (end <= begin) {
        g_string_append(text, "<p class=\"none\">nothing to show</p>\n");
        return;
    }
    begin_svg(text, n_spans * SPAN_HEIGHT + TOP, "steps of the switchover");
    for (unsigned i = 0; i < n_spans; i++) {
        int y = (int)(i * SPAN_HEIGHT);
        int x = SPAN_LEFT + (int)(SPAN_WIDTH * (spans[i].from_ms - begin) /
                                  (end - begin));
        int width = (int)(SPAN_WIDTH * (spans[i].to_ms - spans[i].from_ms) /
                          (end - begin));
        char length[G_ASCII_DTOSTR_BUF_SIZE];

        g_ascii_formatd(length, sizeof(length), "%.1f",
                        spans[i].to_ms - spans[i].from_ms);
        g_string_append_printf(text, "<text class=\"y\" x=\"%d\" y=\"%d\">%s"
                               "</text><rect class=\"span\" x=\"%d\" y=\"%d\" "
                               "width=\"%d\" height=\"%d\"/><text x=\"%d\" "
                               "y=\"%d\">%s ms</text>\n", SPAN_LEFT - 8, y + 15,
                               spans[i].name, x, y + 3, MAX(width, 1),
                               SPAN_HEIGHT - 6, x + MAX(width, 1) + 5, y + 15,
                               length);
    }
    g_string_append(text, "</svg>\n");
}
