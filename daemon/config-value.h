/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/config-value.h - one value of a configuration, text to field and back
 *
 * A ConfigKey says what a key's value is and where in its structure it goes.
 * Nothing here knows groups, files or what keys exist: that is
 * daemon/config-table.h.
 */
#ifndef DAEMON_CONFIG_VALUE_H
#define DAEMON_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

typedef enum {
    CONFIG_VALUE_BOOL,          /* bool; yes, no, true, false, on, off, 1, 0 */
    CONFIG_VALUE_NUMBER,        /* unsigned; min, max */
    CONFIG_VALUE_RATE,          /* uint64_t, bytes per second */
    CONFIG_VALUE_SIZE,          /* uint64_t; min, max */
    CONFIG_VALUE_TIME,          /* unsigned, milliseconds; min, max; "never" is
                                   0 where min is 0 */
    CONFIG_VALUE_HANDOVER,      /* Handover */
    CONFIG_VALUE_RAISED_RATE,   /* uint64_t, LIMITER_UNLIMITED; 0: not set */
    CONFIG_VALUE_CONVERGENCE,   /* ConvergencePolicy */
    CONFIG_VALUE_TLS_KIND,      /* TlsKind; as a bool, is it PSK? */
    CONFIG_VALUE_COMPRESSION,   /* const Method *; "same" is NULL */
    CONFIG_VALUE_ZERO_PAGES,    /* bool; are they written? */
    CONFIG_VALUE_PAGE_SIZE,     /* uint64_t, bytes; "auto" is 0 */
    CONFIG_VALUE_ADDRESS,       /* Address * */
    CONFIG_VALUE_PATHS,         /* GPtrArray *, see daemon/address-paths.h */
    CONFIG_VALUE_TEXT,          /* char *; one line, not empty */
    CONFIG_VALUE_NAME,          /* char *; fit for a group's or a file's name */
    CONFIG_VALUE_PATH,          /* char *; absolute */
    CONFIG_VALUE_FINGERPRINT,   /* char *; "sha256:" and lower-case hex */
    CONFIG_VALUE_UUID,          /* char *; lower case */
    CONFIG_VALUE_LINK_COMPRESSION,  /* int; auto, none, or a level: see config.h */
    CONFIG_VALUE_LANES,         /* unsigned; "auto" or a NUMBER: see config.h */
    CONFIG_VALUE_RATE_SCHEDULE, /* RateSchedule *; the key is "rate@" and a window,
                                   as text "WINDOW=RATE", which adds to it */
} ConfigValueType;

#define CONFIG_VALUE_N_TYPES (CONFIG_VALUE_RATE_SCHEDULE + 1)

typedef struct {
    const char *name;
    ConfigValueType type;
    size_t offset;              /* of the field in its structure */
    const char *initial;        /* as text; NULL: 0, no, none */
    uint64_t min, max;          /* NUMBER, SIZE (bytes), TIME (ms) */
    const char *help;           /* one sentence */
} ConfigKey;

/* The longest name and the longest text that are accepted. */
#define CONFIG_VALUE_MAX_NAME 64u
#define CONFIG_VALUE_MAX_TEXT 4096u

/* Set G_OPTION_ERROR_BAD_VALUE, as UTF-8 whatever is in the text; false. */
bool config_value_fail(GError **error, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

/* Whether @name may name a daemon, peer, VM or tunnel. */
bool config_value_is_name(const char *name);

/* What a name may be, for messages. */
#define CONFIG_VALUE_NAME_RULE \
    "1 to 64 letters, digits or any of '_+:@.-', the first a letter or digit"

/*
 * Set @key's field in @self from @text; what the field held is freed.  On
 * error ("got 'x', expected …") the field is left alone.
 */
bool config_value_parse(const ConfigKey *key, const char *text, void *self,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The field as text that config_value_parse() takes; NULL: it is not set, or a
 * RATE_SCHEDULE, which is more than one text.  g_free(). */
char *config_value_to_string(const ConfigKey *key, const void *self);

/* Free what the field holds. */
void config_value_clear(const ConfigKey *key, void *self);

#endif
