/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/tls-speed.h"

#include <stdbool.h>
#include <time.h>
#include <glib.h>
#include <gnutls/crypto.h>

enum {
    RECORD = 16 * 1024,         /* TLS's largest */
    TAG_MAX = 64,
    NONCE_MAX = 32,
    KEY_MAX = 64,
    ROUNDS = 16,                /* between two looks at the clock */
    TIME_US = 50 * 1000,
    LATEST_US = 1000 * 1000,    /* on a machine that has no time for us */
};

static int64_t get_cpu_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec * G_USEC_PER_SEC + ts.tv_nsec / 1000;
}

static bool encrypt_some(gnutls_aead_cipher_hd_t handle,
                         gnutls_cipher_algorithm_t cipher, const uint8_t *plain,
                         uint8_t *packed)
{
    uint8_t nonce[NONCE_MAX] = { 0 };
    size_t tag = gnutls_cipher_get_tag_size(cipher);

    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t len = RECORD + TAG_MAX;

        nonce[0]++;
        if (gnutls_aead_cipher_encrypt(handle, nonce,
                                       gnutls_cipher_get_iv_size(cipher), NULL,
                                       0, tag, plain, RECORD, packed,
                                       &len) < 0) {
            return false;
        }
    }
    return true;
}

static uint64_t measure(gnutls_aead_cipher_hd_t handle,
                        gnutls_cipher_algorithm_t cipher)
{
    g_autofree uint8_t *plain = g_malloc0(RECORD);
    g_autofree uint8_t *packed = g_malloc(RECORD + TAG_MAX);
    int64_t begin_us = get_cpu_us(), took_us = 0;
    int64_t latest_us = g_get_monotonic_time() + LATEST_US;
    uint64_t bytes = 0;

    while (took_us < TIME_US && g_get_monotonic_time() < latest_us) {
        if (!encrypt_some(handle, cipher, plain, packed)) {
            return 0;
        }
        bytes += ROUNDS * RECORD;
        took_us = get_cpu_us() - begin_us;
    }
    return took_us > 0 ? bytes * 1e6 / took_us : 0;
}

uint64_t tls_speed_measure(gnutls_session_t session)
{
    gnutls_cipher_algorithm_t cipher = gnutls_cipher_get(session);
    uint8_t bytes[KEY_MAX] = { 1 };
    gnutls_datum_t key = { bytes, gnutls_cipher_get_key_size(cipher) };
    gnutls_aead_cipher_hd_t handle;
    uint64_t speed;

    /* Of TLS 1.3 all are of this kind. */
    if (key.size > KEY_MAX || gnutls_cipher_get_iv_size(cipher) > NONCE_MAX ||
        gnutls_cipher_get_tag_size(cipher) == 0 ||
        gnutls_cipher_get_tag_size(cipher) > TAG_MAX ||
        gnutls_aead_cipher_init(&handle, cipher, &key) < 0) {
        return 0;
    }
    speed = measure(handle, cipher);
    gnutls_aead_cipher_deinit(handle);
    return speed;
}
