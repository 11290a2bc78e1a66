/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/link-test-talk.h - what is said on a link test's main lane: echoes,
 * requests, answers
 *
 * docs/link-protocol.md section 9.  One thread; blocks for as long as the stream's
 * timeouts let it.  No retransmission and no resuming: a link that breaks in a test
 * is what the test has found.
 */
#ifndef DAEMON_LINK_TEST_TALK_H
#define DAEMON_LINK_TEST_TALK_H

#include <json-glib/json-glib.h>
#include "daemon/stream.h"

typedef struct {
    Stream *stream;             /* lent; hellos are done */
    uint64_t n_out, n_in;       /* CONTROL frames */
} LinkTestTalk;

void link_test_talk_init(LinkTestTalk *self, Stream *stream);

/* The asking end: one echo, and how long it took. */
bool link_test_talk_ping(LinkTestTalk *self, uint32_t *ret_us, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Its "return", json_object_unref() it; a refusal is an error with the peer's
 * text.  @arguments may be NULL and is consumed. */
JsonObject *link_test_talk_ask(LinkTestTalk *self, const char *name,
                               JsonObject *arguments, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* The serving end: the next request, echoes before it are answered.  NULL without
 * an error: the peer has ended the test. */
JsonObject *link_test_talk_next(LinkTestTalk *self, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* @ret is consumed; NULL: @refusal is the answer. */
bool link_test_talk_answer(LinkTestTalk *self, JsonObject *request,
                           JsonObject *ret, const GError *refusal,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
