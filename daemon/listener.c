/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/listener.c - which of a source QEMU's connections this one is
 *
 * Accepting, and bounding what strangers may cost, is daemon/acceptor.c.
 */
#include "daemon/listener.h"

#include "daemon/acceptor.h"
#include "wire/bytes.h"
#include "wire/error.h"

enum {
    MAIN_MAGIC = 0x5145564d,        /* "QEVM", QEMU migration/qemu-file-types.h */
    PENDING_MAX = MULTIFD_CHANNELS_MAX + 17,
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

/* *ret_bad_init: it is no stranger, it says that it is a multifd channel. */
static bool classify(Stream *stream, Arrival *arrival, bool *ret_bad_init,
                     GError **error)
{
    uint8_t buf[MULTIFD_INIT_SIZE];
    uint32_t magic;

    if (!stream_read_full(stream, buf, 4, NULL, error)) {
        return false;
    }
    magic = bytes_get_be32(buf);
    arrival->is_main = magic == MAIN_MAGIC;
    if (arrival->is_main) {
        return true;
    }
    if (magic != MULTIFD_MAGIC) {
        g_set_error(error, WIRE_ERROR, WIRE_ERROR_PROTOCOL,
                    "got first bytes 0x%08x, expected 0x%08x (main channel) or "
                    "0x%08x (multifd channel)%s", magic, MAIN_MAGIC,
                    MULTIFD_MAGIC,
                    magic >> 16 == 0x1603 ? "; is the other end using TLS?" : "");
        return false;
    }
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
              classify(*stream, &arrival, &bad_init, &refusal) &&
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
