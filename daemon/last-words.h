/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/last-words.h - telling peers of migrations that ended while the link was down
 *
 * A migration that ends at the source's side says `abort` on its main lane.  If no
 * connection carries that, the destination's side would wait for its whole outage budget;
 * so it is said in the HELLO of a connection of its own, tried until the peer has heard
 * it, or would have given up by itself.
 *
 * Thread-safe.  Nothing is kept beyond the daemon's end: its successor's first HELLO says
 * the same, by its instance.
 */
#ifndef DAEMON_LAST_WORDS_H
#define DAEMON_LAST_WORDS_H

#include "daemon/daemon.h"
#include "daemon/link-lane.h"

typedef struct {
    Config *config;             /* a reference is taken */
    const ConfigPeer *peer;     /* lent by that */
    LinkHello hello;            /* with abort; its generation is the next to be tried */
    unsigned budget_ms;
} LastWord;

LastWords *last_words_new(const Daemon *daemon);
/* What has not been said is dropped. */
void last_words_free(LastWords *self);

/* @word is copied.  No more than 64 wait; one more is dropped. */
void last_words_add(LastWords *self, const LastWord *word);
/* The peer can be reached, as somebody has seen: say now what is for it.  Waits until
 * that is done, for 2 s at most; at once when there is nothing. */
void last_words_say_now(LastWords *self, const ConfigPeer *peer);

#endif
