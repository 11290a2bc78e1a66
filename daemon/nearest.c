/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/nearest.h"

#include <string.h>
#include <glib.h>

/* Longer words are nobody's typing error, and cost square time. */
#define MAX_LENGTH 40u

/* Levenshtein's distance, one row of his matrix at a time. */
static unsigned get_distance(const char *a, const char *b)
{
    unsigned row[MAX_LENGTH + 1];
    size_t len_a = strlen(a), len_b = strlen(b);

    for (unsigned j = 0; j <= len_b; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; i <= len_a; i++) {
        unsigned diagonal = row[0];

        row[0] = i;
        for (unsigned j = 1; j <= len_b; j++) {
            unsigned change = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = MIN(change, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[len_b];
}

const char *nearest_find(const char *word, const char *const *known)
{
    const char *best = NULL;
    unsigned best_distance = 0;

    if (strlen(word) > MAX_LENGTH) {
        return NULL;
    }
    for (; *known; known++) {
        unsigned distance, allowed;

        if (strlen(*known) > MAX_LENGTH) {
            continue;
        }
        distance = get_distance(word, *known);
        allowed = (unsigned)strlen(*known) / 3 + 1;
        if (distance <= allowed && (!best || distance < best_distance)) {
            best = *known;
            best_distance = distance;
        }
    }
    return best;
}
