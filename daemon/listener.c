/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/listener.c - which of a source QEMU's connections this one is
 *
 * Accepting, and bounding what strangers may cost, is daemon/acceptor.c.
 */
#include "daemon/listener.h"

#include <string.h>

#include "daemon/acceptor.h"
#include "wire/bytes.h"
#include "wire/error.h"
#include "wire/main-stream.h"

enum {
    MAIN_MAGIC = 0x5145564d,        /* "QEVM", QEMU migration/qemu-file-types.h */
    PENDING_MAX = MULTIFD_CHANNELS_MAX + 17,
    SILENT_MS = 100,                /* then it may be a preempt channel */
};

struct Listener {
    ListenerSetup setup;            /* constant */
    Acceptor *acceptor;
};

static bool start_tls(Listener *self, Stream *stream, GError **error)
{
    TlsPeerRules rules = { .certificate_name = self->setup.tls_client };
    g_autoptr(TlsCredentials) credentials = NULL;

    if (!self->setup.get_credentials) {
        return true;
    }
    credentials = self->setup.get_credentials(self->setup.data);
    return stream_start_tls(stream, credentials, true, &rules,
                            self->setup.handshake_ms, error);
}

static bool may_be_preempt(Listener *self)
{
    return self->setup.may_be_preempt &&
           self->setup.may_be_preempt(self->setup.data);
}

/* The first four bytes; none: it is silent, and that may be well. */
static bool read_start(Listener *self, Stream *stream, Arrival *arrival,
                       GError **error)
{
    stream_set_timeouts(stream, SILENT_MS, 0);
    while (arrival->start_len < sizeof(arrival->start)) {
        GError *failure = NULL;
        gssize n = stream_read(stream, arrival->start + arrival->start_len,
                               sizeof(arrival->start) - arrival->start_len,
                               &failure);

        if (n > 0) {
            arrival->start_len += n;
        } else if (n == 0) {
            g_set_error(error, STREAM_ERROR, STREAM_ERROR_EOF,
                        "%s: got the end of the stream after %zu bytes, "
                        "expected 4", stream_get_peer(stream),
                        arrival->start_len);
            return false;
        } else if (!g_error_matches(failure, STREAM_ERROR,
                                    STREAM_ERROR_TIMEOUT)) {
            g_propagate_error(error, failure);
            return false;
        } else {
            g_error_free(failure);
            if (arrival->start_len == 0 && may_be_preempt(self)) {
                break;
            }
        }
    }
    stream_set_timeouts(stream, 0, 0);
    return true;
}

static bool classify_start(Listener *self, Arrival *arrival, GError **error)
{
    uint32_t magic = bytes_get_be32(arrival->start);

    if (arrival->start_len == 0) {
        arrival->kind = ARRIVAL_PREEMPT;
    } else if (magic == MAIN_MAGIC ||
               main_stream_is_resumed_start(arrival->start)) {
        arrival->kind = ARRIVAL_MAIN;
    } else if (magic == MULTIFD_MAGIC) {
        arrival->kind = ARRIVAL_CHANNEL;
    } else if (may_be_preempt(self)) {
        arrival->kind = ARRIVAL_PREEMPT;
    } else {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got first bytes 0x%08x, expected 0x%08x (main channel) or "
                    "0x%08x (multifd channel)%s", magic, MAIN_MAGIC,
                    MULTIFD_MAGIC,
                    magic >> 16 == 0x1603 ? "; is the other end using TLS?" : "");
        return false;
    }
    return true;
}

/* *ret_bad_init: it is no stranger, it says that it is a multifd channel. */
static bool classify(Listener *self, Stream *stream, Arrival *arrival,
                     bool *ret_bad_init, GError **error)
{
    uint8_t buf[MULTIFD_INIT_SIZE];

    if (!read_start(self, stream, arrival, error) ||
        !classify_start(self, arrival, error)) {
        return false;
    }
    if (arrival->kind != ARRIVAL_CHANNEL) {
        return true;
    }
    memcpy(buf, arrival->start, sizeof(arrival->start));
    if (!stream_read_full(stream, buf + 4, sizeof(buf) - 4, NULL, error)) {
        return false;
    }
    *ret_bad_init = !multifd_init_decode(buf, &arrival->init, error);
    return !*ret_bad_init;
}

static bool handle(AcceptorIntake *intake, Stream **stream, void *data,
                   GError **error)
{
    Listener *self = data;
    Arrival arrival = { 0 };
    GError *refusal = NULL;
    bool bad_init = false;
    /* The acceptor bounds the time of all this. */
    bool ok = start_tls(self, *stream, &refusal) &&
              classify(self, *stream, &arrival, &bad_init, &refusal) &&
              acceptor_identified(intake, &refusal);

    if (bad_init && self->setup.refused) {
        self->setup.refused(refusal, self->setup.data);
    }
    if (refusal) {
        g_propagate_error(error, refusal);
    }
    if (ok) {
        arrival.stream = g_steal_pointer(stream);
        ok = self->setup.handler(&arrival, self->setup.data, error);
        *stream = arrival.stream;
    }
    return ok;
}

/* ---- life ------------------------------------------------------------------- */

Listener *listener_new(int fd, const ListenerSetup *setup)
{
    Listener *self = g_new0(Listener, 1);
    AcceptorSetup acceptor = {
        .name = setup->name,
        .pending_max = PENDING_MAX,
        .identify_ms = setup->first_bytes_ms +
                       (setup->get_credentials ? setup->handshake_ms : 0),
        .handler = handle,
        .data = self,
    };

    self->setup = *setup;
    self->acceptor = acceptor_new(fd, &acceptor);
    return self;
}

void listener_settle(Listener *self, unsigned timeout_ms)
{
    acceptor_settle(self->acceptor, timeout_ms);
}

void listener_free(Listener *self)
{
    if (self) {
        acceptor_free(self->acceptor);
        g_free(self);
    }
}
