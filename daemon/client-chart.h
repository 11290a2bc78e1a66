/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-chart.h - charts as inline SVG, for client-report.c
 *
 * Pure functions that append to a text.  Coordinates are whole numbers, so that
 * no locale gets into them.  Colours are CSS classes of the page.
 */
#ifndef DAEMON_CLIENT_CHART_H
#define DAEMON_CLIENT_CHART_H

#include <stdint.h>
#include <json-glib/json-glib.h>

typedef struct {
    const char *name;           /* for the legend */
    const char *css;            /* class of line and legend */
    const double *values;       /* one for each step of time */
} ClientChartSeries;

/* How a value of the vertical axis reads.  g_free(). */
typedef char *(*ClientChartFormat)(uint64_t value);

/* Lines over time; a series that is 0 everywhere is left out. */
void client_chart_append_lines(GString *text, const ClientChartSeries *series,
                               unsigned n_series, unsigned n_steps,
                               double step_ms, ClientChartFormat format);

/* Rows of time downwards, parts of a block to the right: query-traffic's `heat`. */
void client_chart_append_heat(GString *text, JsonArray *heat, double slice_ms,
                              uint64_t part_bytes);

typedef struct {
    const char *name;
    double from_ms, to_ms;
} ClientChartSpan;

/* One bar below the other. */
void client_chart_append_spans(GString *text, const ClientChartSpan *spans,
                               unsigned n_spans);

#endif
