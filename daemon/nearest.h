/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/nearest.h - the known word that a mistyped one probably meant
 */
#ifndef DAEMON_NEAREST_H
#define DAEMON_NEAREST_H

/*
 * The member of @known (NULL-terminated) with the smallest edit distance to
 * @word; NULL when none is near enough to be worth a suggestion.
 */
const char *nearest_find(const char *word, const char *const *known);

#endif
