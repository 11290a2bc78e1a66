/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/sync-confirm.h"

#include "daemon/worker.h"

#include <gio/gio.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { POLL_US = 1000 };

typedef struct {
    Stream *stream;             /* lent; NULL: not connected yet */
    GQueue positions;           /* bytes on the wire behind each written SYNC */
} Channel;

struct SyncConfirm {
    Exchange *exchange;
    GThread *thread;
    unsigned n;

    GMutex lock;                /* guards all below; a leaf */
    GCond changed;
    bool stopping;
    unsigned n_waiting;         /* positions in all channels */
    Channel channels[MULTIFD_CHANNELS_MAX];
};

/* Bytes that the other end's kernel has; never too many. */
static uint64_t get_received(const Stream *stream)
{
    uint64_t written = stream_get_wire_bytes_out(stream);
    int queued = 0;

    if (ioctl(stream_get_fd(stream), SIOCOUTQ, &queued) < 0 ||
        (uint64_t)queued > written) {
        return 0;
    }
    return written - queued;
}

/* How many SYNCs of the channel have arrived since the last time. */
static unsigned collect(SyncConfirm *self, Channel *channel)
{
    unsigned n = 0;
    uint64_t received;

    if (g_queue_is_empty(&channel->positions)) {
        return 0;
    }
    received = get_received(channel->stream);
    while (!g_queue_is_empty(&channel->positions) &&
           *(uint64_t *)g_queue_peek_head(&channel->positions) <= received) {
        g_free(g_queue_pop_head(&channel->positions));
        n++;
    }
    self->n_waiting -= n;
    return n;
}

static void *confirm_thread(void *data)
{
    SyncConfirm *self = data;

    g_mutex_lock(&self->lock);
    while (!self->stopping) {
        for (unsigned i = 0; i < self->n; i++) {
            unsigned n = collect(self, &self->channels[i]);

            if (n > 0) {
                g_mutex_unlock(&self->lock);
                exchange_confirm_syncs(self->exchange, i, n);
                g_mutex_lock(&self->lock);
            }
        }
        if (self->n_waiting > 0) {
            g_cond_wait_until(&self->changed, &self->lock,
                              g_get_monotonic_time() + POLL_US);
        } else if (!self->stopping) {
            g_cond_wait(&self->changed, &self->lock);
        }
    }
    g_mutex_unlock(&self->lock);
    return NULL;
}

SyncConfirm *sync_confirm_new(Exchange *exchange, unsigned n)
{
    SyncConfirm *self = g_new0(SyncConfirm, 1);

    self->exchange = exchange;
    self->n = n;
    g_mutex_init(&self->lock);
    g_cond_init(&self->changed);
    for (unsigned i = 0; i < n; i++) {
        g_queue_init(&self->channels[i].positions);
    }
    self->thread = worker_new("sync-confirm", confirm_thread, self,
                              exchange_get_cpu(exchange), NULL);
    return self;
}

void sync_confirm_add_channel(SyncConfirm *self, unsigned out, Stream *stream)
{
    g_mutex_lock(&self->lock);
    self->channels[out].stream = stream;
    g_mutex_unlock(&self->lock);
}

void sync_confirm_written(SyncConfirm *self, unsigned out)
{
    Channel *channel = &self->channels[out];
    uint64_t position;

    g_mutex_lock(&self->lock);
    position = stream_get_wire_bytes_out(channel->stream);
    g_queue_push_tail(&channel->positions,
                      g_memdup2(&position, sizeof(position)));
    self->n_waiting++;
    g_cond_signal(&self->changed);
    g_mutex_unlock(&self->lock);
}

void sync_confirm_free(SyncConfirm *self)
{
    if (!self) {
        return;
    }
    g_mutex_lock(&self->lock);
    self->stopping = true;
    g_cond_signal(&self->changed);
    g_mutex_unlock(&self->lock);
    g_thread_join(self->thread);
    for (unsigned i = 0; i < self->n; i++) {
        g_queue_clear_full(&self->channels[i].positions, g_free);
    }
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->lock);
    g_free(self);
}

bool sync_confirm_is_needed(const Stream *stream)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);
    g_autoptr(GSocketAddress) address = NULL;

    if (getpeername(stream_get_fd(stream), (struct sockaddr *)&name,
                    &len) < 0) {
        return false;
    }
    address = g_socket_address_new_from_native(&name, len);
    return address && G_IS_INET_SOCKET_ADDRESS(address) &&
           !g_inet_address_get_is_loopback(g_inet_socket_address_get_address(
               G_INET_SOCKET_ADDRESS(address)));
}
