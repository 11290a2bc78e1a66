/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/last-words.h"

#include "daemon/log.h"

enum {
    WORDS_MAX = 64,
    SAY_NOW_MS = 2000,
    ATTEMPT_MS = 3000,
};

typedef struct {
    LastWords *owner;
    LastWord word;
    int64_t until_us;           /* monotonic */
    bool urgent;                /* under the owner's lock */
} Speaker;

struct LastWords {
    const Daemon *daemon;       /* lent, constant */
    GCancellable *cancellable;

    GMutex lock;                /* guards all below; a leaf */
    GCond changed;
    bool stopping;
    GPtrArray *speakers;        /* those that still have to say it */
};

/* ---- one of them ---------------------------------------------------------------- */

static bool try_say(Speaker *self, GError **error)
{
    const Daemon *daemon = self->owner->daemon;
    const Config *config = self->word.config;
    ConfigTimeouts timeouts = config->timeouts;
    g_autoptr(TlsCredentials) credentials =
        daemon_get_link_credentials(daemon, config, error);
    Stream *stream;

    if (!credentials) {
        return false;
    }
    timeouts.connect_ms = MIN(timeouts.connect_ms, (unsigned)ATTEMPT_MS);
    stream = link_lane_connect(self->word.peer, credentials, &timeouts,
                               &self->word.hello, daemon->peer_status,
                               self->owner->cancellable, NULL, error);
    self->word.hello.generation++;
    stream_free(stream);
    return stream != NULL;
}

/* Until the next attempt is due; false: there is none. */
static bool pause_until(Speaker *self, int64_t due_us)
{
    LastWords *owner = self->owner;
    bool ok;

    g_mutex_lock(&owner->lock);
    while (!owner->stopping && !self->urgent &&
           g_cond_wait_until(&owner->changed, &owner->lock, due_us)) {
    }
    self->urgent = false;
    ok = !owner->stopping && g_get_monotonic_time() < self->until_us;
    g_mutex_unlock(&owner->lock);
    return ok;
}

static void say(Speaker *self)
{
    const LinkHello *hello = &self->word.hello;
    int64_t due_us = 0;

    for (unsigned attempt = 0; pause_until(self, due_us); attempt++) {
        g_autoptr(GError) error = NULL;

        due_us = g_get_monotonic_time() + link_lane_get_retry_us(attempt);
        if (try_say(self, &error)) {
            log_info(NULL, "migration %s: %s has been told that it is over",
                     hello->migration, self->word.peer->name);
            return;
        }
        if (link_lane_is_unknown(error)) {
            return;         /* it knew */
        }
        log_debug(NULL, "migration %s: %s cannot be told that it is over: %s",
                  hello->migration, self->word.peer->name, error->message);
    }
}

static void speaker_free(Speaker *self)
{
    config_unref(self->word.config);
    g_free(self);
}

static void *speaker_thread(void *data)
{
    Speaker *self = data;
    LastWords *owner = self->owner;

    say(self);
    g_mutex_lock(&owner->lock);
    if (g_ptr_array_remove(owner->speakers, self)) {
        g_cond_broadcast(&owner->changed);
    }
    g_mutex_unlock(&owner->lock);
    speaker_free(self);
    return NULL;
}

/* ---- all of them ---------------------------------------------------------------- */

static Speaker *speaker_new(LastWords *owner, const LastWord *word)
{
    Speaker *self = g_new0(Speaker, 1);

    self->owner = owner;
    self->word = *word;
    config_ref(self->word.config);
    self->until_us = g_get_monotonic_time() + word->budget_ms * 1000LL;
    return self;
}

void last_words_add(LastWords *self, const LastWord *word)
{
    g_autoptr(GError) error = NULL;
    Speaker *speaker = NULL;
    GThread *thread = NULL;

    g_mutex_lock(&self->lock);
    if (!self->stopping && self->speakers->len < WORDS_MAX) {
        speaker = speaker_new(self, word);
        g_ptr_array_add(self->speakers, speaker);
        thread = g_thread_try_new("last-words", speaker_thread, speaker, &error);
    }
    if (speaker && !thread) {
        g_ptr_array_remove(self->speakers, speaker);
        speaker_free(speaker);
    }
    g_mutex_unlock(&self->lock);
    if (thread) {
        g_thread_unref(thread);
    } else {
        log_debug(NULL, "migration %s: %s will not be told that it is over: %s",
                  word->hello.migration, word->peer->name,
                  error ? error->message : "too many wait");
    }
}

/* With the lock held. */
static unsigned hurry(LastWords *self, const ConfigPeer *peer, bool begin)
{
    unsigned n = 0;

    for (unsigned i = 0; i < self->speakers->len; i++) {
        Speaker *speaker = g_ptr_array_index(self->speakers, i);

        if (strcmp(speaker->word.peer->name, peer->name) == 0) {
            speaker->urgent |= begin;
            n++;
        }
    }
    return n;
}

void last_words_say_now(LastWords *self, const ConfigPeer *peer)
{
    int64_t until_us = g_get_monotonic_time() + SAY_NOW_MS * 1000LL;

    g_mutex_lock(&self->lock);
    hurry(self, peer, true);
    g_cond_broadcast(&self->changed);
    while (hurry(self, peer, false) > 0 && !self->stopping &&
           g_cond_wait_until(&self->changed, &self->lock, until_us)) {
    }
    g_mutex_unlock(&self->lock);
}

LastWords *last_words_new(const Daemon *daemon)
{
    LastWords *self = g_new0(LastWords, 1);

    self->daemon = daemon;
    self->cancellable = g_cancellable_new();
    self->speakers = g_ptr_array_new();
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    return self;
}

/* The threads are nobody's to join: each takes itself off the list as the last that
 * it does here. */
void last_words_free(LastWords *self)
{
    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    self->stopping = true;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->lock);
    g_cancellable_cancel(self->cancellable);
    g_mutex_lock(&self->lock);
    while (self->speakers->len > 0) {
        g_cond_wait(&self->changed, &self->lock);
    }
    g_mutex_unlock(&self->lock);
    g_ptr_array_unref(self->speakers);
    g_object_unref(self->cancellable);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
    g_free(self);
}
