/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/expiry.c - when a certificate has less than a month left
 *
 * Or a third of its life, if that is shorter: sites whose certificates live for a
 * day renew them in time, and must not be warned all day.
 */
#include "daemon/expiry.h"

#include "daemon/log.h"
#include "daemon/tls-expiry.h"

enum {
    CHECK_S = 3600,
    DAY_S = 24 * 3600,
    MONTH_S = 30 * DAY_S,
};

struct Expiry {
    Credentials *credentials;
    guint timer;
    GHashTable *warned;         /* file -> int64_t *: when */
};

static bool is_near(const TlsExpiry *expiry, int64_t now)
{
    return expiry->until - now <
           MIN((int64_t)MONTH_S, (expiry->until - expiry->from) / 3);
}

static void warn(const TlsExpiry *expiry, int64_t now)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(expiry->until);
    g_autofree char *text = g_date_time_format_iso8601(when);
    int64_t left = expiry->until - now;

    if (left <= 0) {
        log_error(LOG_ABOUT(LOG_EVENT_CERTIFICATE_EXPIRES),
                  "%s: the certificate expired at %s; nobody connects with it "
                  "any more; renew it, and reload", expiry->file, text);
    } else {
        log_warning(LOG_ABOUT(LOG_EVENT_CERTIFICATE_EXPIRES),
                    "%s: the certificate expires at %s, in %d %s; renew it, and "
                    "reload", expiry->file, text,
                    (int)(left / (left < 2 * DAY_S ? 3600 : DAY_S)),
                    left < 2 * DAY_S ? "hours" : "days");
    }
}

/* @again: also what was warned about less than a day ago. */
static unsigned check(Expiry *self, int64_t now, bool again)
{
    g_autoptr(GPtrArray) list = credentials_list_expiry(self->credentials);
    unsigned n = 0;

    for (unsigned i = 0; i < list->len; i++) {
        const TlsExpiry *expiry = g_ptr_array_index(list, i);
        const int64_t *last = g_hash_table_lookup(self->warned, expiry->file);

        if (is_near(expiry, now) && (again || !last || now - *last >= DAY_S)) {
            warn(expiry, now);
            g_hash_table_insert(self->warned, g_strdup(expiry->file),
                                g_memdup2(&now, sizeof(now)));
            n++;
        }
    }
    return n;
}

unsigned expiry_check(Expiry *self, int64_t now)
{
    return check(self, now, true);
}

static gboolean tick(void *data)
{
    check(data, g_get_real_time() / G_USEC_PER_SEC, false);
    return G_SOURCE_CONTINUE;
}

Expiry *expiry_new(Credentials *credentials)
{
    Expiry *self = g_new0(Expiry, 1);

    self->credentials = credentials;
    self->warned = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                         g_free);
    self->timer = g_timeout_add_seconds(CHECK_S, tick, self);
    return self;
}

void expiry_free(Expiry *self)
{
    if (!self) {
        return;
    }
    g_source_remove(self->timer);
    g_hash_table_unref(self->warned);
    g_free(self);
}
