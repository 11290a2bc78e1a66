/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/config-value.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "daemon/address.h"
#include "daemon/address-paths.h"
#include "daemon/config.h"
#include "daemon/limiter.h"
#include "daemon/tls.h"
#include "daemon/units.h"
#include "wire/link-pack.h"
#include "wire/method.h"
#include "wire/multifd.h"

bool config_value_fail(GError **error, const char *format, ...)
{
    g_autofree char *message = NULL, *valid = NULL;
    va_list ap;

    va_start(ap, format);
    message = g_strdup_vprintf(format, ap);
    va_end(ap);
    valid = g_utf8_make_valid(message, -1);
    g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                        valid);
    return false;
}

static bool refuse(const char *text, GError **error, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static bool refuse(const char *text, GError **error, const char *format, ...)
{
    g_autofree char *escaped = g_strescape(text, NULL);
    g_autofree char *expected = NULL;
    va_list ap;

    va_start(ap, format);
    expected = g_strdup_vprintf(format, ap);
    va_end(ap);
    return config_value_fail(error, "got '%.100s', expected %s", escaped,
                             expected);
}

bool config_value_is_name(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len > CONFIG_VALUE_MAX_NAME || !g_ascii_isalnum(name[0])) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!g_ascii_isalnum(name[i]) && !strchr("_+:@.-", name[i])) {
            return false;
        }
    }
    return true;
}

static void replace_text(char **field, char *value)
{
    g_free(*field);
    *field = value;
}

static bool text_to_bool(const char *text, bool *ret, GError **error)
{
    static const char *const words[][2] = {
        { "no", "yes" }, { "false", "true" }, { "off", "on" }, { "0", "1" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        for (unsigned value = 0; value < 2; value++) {
            if (g_ascii_strcasecmp(text, words[i][value]) == 0) {
                *ret = value;
                return true;
            }
        }
    }
    return refuse(text, error, "yes or no");
}

static bool parse_bool(const ConfigKey *key, const char *text, void *field,
                       GError **error)
{
    (void)key;
    return text_to_bool(text, field, error);
}

static char *encode_bool(const void *field)
{
    return g_strdup(*(const bool *)field ? "yes" : "no");
}

static bool parse_number(const ConfigKey *key, const char *text, void *field,
                         GError **error)
{
    uint64_t value;

    if (!g_ascii_string_to_unsigned(text, 10, key->min, key->max, &value,
                                    NULL)) {
        return refuse(text, error,
                      "a number from %" PRIu64 " to %" PRIu64, key->min,
                      key->max);
    }
    *(unsigned *)field = (unsigned)value;
    return true;
}

static char *encode_number(const void *field)
{
    return g_strdup_printf("%u", *(const unsigned *)field);
}

static bool parse_lanes(const ConfigKey *key, const char *text, void *field,
                        GError **error)
{
    uint64_t value = CONFIG_LANES_AUTO;

    if (strcmp(text, "auto") != 0 &&
        !g_ascii_string_to_unsigned(text, 10, key->min, key->max, &value,
                                    NULL)) {
        return refuse(text, error,
                      "auto or a number from %" PRIu64 " to %" PRIu64,
                      key->min, key->max);
    }
    *(unsigned *)field = (unsigned)value;
    return true;
}

static char *encode_lanes(const void *field)
{
    return *(const unsigned *)field == CONFIG_LANES_AUTO
           ? g_strdup("auto") : encode_number(field);
}

static bool parse_rate(const ConfigKey *key, const char *text, void *field,
                       GError **error)
{
    (void)key;
    return units_parse_rate(text, field, error);
}

static char *encode_rate(const void *field)
{
    return units_encode_rate(*(const uint64_t *)field);
}

/* Here 0 is "not set", so "unlimited" is another number. */
static bool parse_raised_rate(const ConfigKey *key, const char *text,
                              void *field, GError **error)
{
    uint64_t rate;

    (void)key;
    if (!units_parse_rate(text, &rate, error)) {
        return false;
    }
    *(uint64_t *)field = rate == 0 ? LIMITER_UNLIMITED : rate;
    return true;
}

static char *encode_raised_rate(const void *field)
{
    uint64_t rate = *(const uint64_t *)field;

    return rate == 0 ? NULL
                     : units_encode_rate(rate == LIMITER_UNLIMITED ? 0 : rate);
}

static bool parse_size(const ConfigKey *key, const char *text, void *field,
                       GError **error)
{
    uint64_t value;

    if (!units_parse_size(text, &value, error)) {
        return false;
    }
    if (value < key->min || value > key->max) {
        g_autofree char *min = units_encode_size(key->min);
        g_autofree char *max = units_encode_size(key->max);

        return refuse(text, error, "a size from %s to %s", min, max);
    }
    *(uint64_t *)field = value;
    return true;
}

static char *encode_size(const void *field)
{
    return units_encode_size(*(const uint64_t *)field);
}

static bool parse_time(const ConfigKey *key, const char *text, void *field,
                       GError **error)
{
    bool never = key->min == 0;
    unsigned value = 0;

    if (never && g_ascii_strcasecmp(text, "never") == 0) {
        *(unsigned *)field = 0;
        return true;
    }
    if (!units_parse_time(text, &value, error)) {
        return false;
    }
    if (value < key->min || value > key->max) {
        g_autofree char *min = units_encode_time(key->min);
        g_autofree char *max = units_encode_time(key->max);

        return refuse(text, error, "a time from %s to %s%s", min, max,
                      never ? ", or 'never'" : "");
    }
    *(unsigned *)field = value;
    return true;
}

/* 0 is only ever a field's value where "never" is allowed. */
static char *encode_time(const void *field)
{
    unsigned ms = *(const unsigned *)field;

    return ms == 0 ? g_strdup("never") : units_encode_time(ms);
}

static bool parse_handover(const ConfigKey *key, const char *text, void *field,
                           GError **error)
{
    (void)key;
    if (strcmp(text, "safe") != 0 && strcmp(text, "fast") != 0) {
        return refuse(text, error, "safe or fast");
    }
    *(Handover *)field = text[0] == 's' ? HANDOVER_SAFE : HANDOVER_FAST;
    return true;
}

static char *encode_handover(const void *field)
{
    return g_strdup(*(const Handover *)field == HANDOVER_SAFE ? "safe" :
                                                                "fast");
}

static bool parse_convergence(const ConfigKey *key, const char *text,
                              void *field, GError **error)
{
    (void)key;
    return convergence_policy_parse(text, field) ||
           refuse(text, error, CONVERGENCE_POLICIES);
}

static char *encode_convergence(const void *field)
{
    return g_strdup(convergence_policy_to_string(
        *(const ConvergencePolicy *)field));
}

static bool parse_tls_kind(const ConfigKey *key, const char *text, void *field,
                           GError **error)
{
    bool psk;

    (void)key;
    if (!text_to_bool(text, &psk, error)) {
        return false;
    }
    *(TlsKind *)field = psk ? TLS_PSK : TLS_X509;
    return true;
}

static char *encode_tls_kind(const void *field)
{
    return g_strdup(*(const TlsKind *)field == TLS_PSK ? "yes" : "no");
}

/* The methods that we can pack with; the others' payloads go on as they came. */
static bool parse_compression(const ConfigKey *key, const char *text,
                              void *field, GError **error)
{
    const Method *method = method_find(text);

    (void)key;
    if (strcmp(text, "same") != 0 && (!method || method->opaque)) {
        return refuse(text, error, "same, none, zlib or zstd");
    }
    *(const Method **)field = method;
    return true;
}

static char *encode_compression(const void *field)
{
    const Method *method = *(const Method *const *)field;

    return g_strdup(method ? method->name : "same");
}

static bool parse_zero_pages(const ConfigKey *key, const char *text,
                             void *field, GError **error)
{
    (void)key;
    if (strcmp(text, "keep") != 0 && strcmp(text, "write") != 0) {
        return refuse(text, error, "keep or write");
    }
    *(bool *)field = text[0] == 'w';
    return true;
}

static char *encode_zero_pages(const void *field)
{
    return g_strdup(*(const bool *)field ? "write" : "keep");
}

static bool parse_page_size(const ConfigKey *key, const char *text,
                            void *field, GError **error)
{
    MultifdGeometry geometry;
    uint64_t value = 0;

    (void)key;
    if (strcmp(text, "auto") != 0 &&
        (!units_parse_size(text, &value, NULL) ||
         !multifd_geometry_init(&geometry, value, NULL))) {
        return refuse(text, error, "auto, or a power of two from 1K to 64K");
    }
    *(uint64_t *)field = value;
    return true;
}

static char *encode_page_size(const void *field)
{
    uint64_t value = *(const uint64_t *)field;

    return value ? units_encode_size(value) : g_strdup("auto");
}

static bool parse_address(const ConfigKey *key, const char *text, void *field,
                          GError **error)
{
    g_autoptr(GError) cause = NULL;
    Address *address = address_parse(text, &cause);

    (void)key;
    if (!address) {
        const char *why = cause->message;

        /* Our caller says which key it is. */
        why += g_str_has_prefix(why, "address: ") ? strlen("address: ") : 0;
        return config_value_fail(error, "%s", why);
    }
    address_free(*(Address **)field);
    *(Address **)field = address;
    return true;
}

static char *encode_address(const void *field)
{
    const Address *address = *(Address *const *)field;

    return address ? g_strdup(address->text) : NULL;
}

static void clear_address(void *field)
{
    g_clear_pointer((Address **)field, address_free);
}

static bool parse_paths(const ConfigKey *key G_GNUC_UNUSED, const char *text,
                        void *field, GError **error)
{
    g_autoptr(GError) cause = NULL;
    GPtrArray *paths = address_paths_parse(text, &cause);

    if (!paths) {
        return config_value_fail(error, "%s", cause->message);
    }
    g_clear_pointer((GPtrArray **)field, g_ptr_array_unref);
    *(GPtrArray **)field = paths;
    return true;
}

static char *encode_paths(const void *field)
{
    const GPtrArray *paths = *(GPtrArray *const *)field;

    return paths ? address_paths_to_string(paths) : NULL;
}

static void clear_paths(void *field)
{
    g_clear_pointer((GPtrArray **)field, g_ptr_array_unref);
}

static bool parse_text(const ConfigKey *key, const char *text, void *field,
                       GError **error)
{
    size_t len = strlen(text);

    (void)key;
    if (len == 0 || len > CONFIG_VALUE_MAX_TEXT) {
        return refuse(text, error, "1 to %u bytes of text",
                      CONFIG_VALUE_MAX_TEXT);
    }
    for (size_t i = 0; i < len; i++) {
        if (g_ascii_iscntrl(text[i])) {
            return refuse(text, error, "text without control characters");
        }
    }
    replace_text(field, g_strdup(text));
    return true;
}

static bool parse_name(const ConfigKey *key, const char *text, void *field,
                       GError **error)
{
    (void)key;
    if (!config_value_is_name(text)) {
        return refuse(text, error, CONFIG_VALUE_NAME_RULE);
    }
    replace_text(field, g_strdup(text));
    return true;
}

static bool parse_path(const ConfigKey *key, const char *text, void *field,
                       GError **error)
{
    if (text[0] != '/') {
        return refuse(text, error, "an absolute path");
    }
    return parse_text(key, text, field, error);
}

/* Colons between the bytes, as openssl prints them, may be there. */
static bool parse_fingerprint(const ConfigKey *key, const char *text,
                              void *field, GError **error)
{
    g_autoptr(GString) value = g_string_new("sha256:");
    const char *p = text;

    (void)key;
    if (g_ascii_strncasecmp(p, "sha256:", 7) != 0) {
        return refuse(text, error, "'sha256:' and 64 hexadecimal digits");
    }
    for (p += 7; *p && value->len <= 7 + 64; p++) {
        if (g_ascii_isxdigit(*p)) {
            g_string_append_c(value, g_ascii_tolower(*p));
        } else if (*p != ':' || (value->len - 7) % 2 != 0) {
            break;
        }
    }
    if (*p || value->len != 7 + 64) {
        return refuse(text, error, "'sha256:' and 64 hexadecimal digits");
    }
    replace_text(field, g_string_free(g_steal_pointer(&value), FALSE));
    return true;
}

static bool parse_uuid(const ConfigKey *key, const char *text, void *field,
                       GError **error)
{
    (void)key;
    if (!g_uuid_string_is_valid(text)) {
        return refuse(text, error, "a UUID such as "
                      "6f0b3a52-8c1e-4a1f-9d0e-3c5b7a9e1f24");
    }
    replace_text(field, g_ascii_strdown(text, -1));
    return true;
}

static char *encode_text(const void *field)
{
    return g_strdup(*(char *const *)field);
}

static void clear_text(void *field)
{
    g_clear_pointer((char **)field, g_free);
}

static bool parse_link_compression(const ConfigKey *key G_GNUC_UNUSED,
                                   const char *text, void *field,
                                   GError **error)
{
    guint64 level;

    if (strcmp(text, "auto") == 0) {
        *(int *)field = CONFIG_COMPRESSION_AUTO;
    } else if (strcmp(text, "none") == 0) {
        *(int *)field = CONFIG_COMPRESSION_NONE;
    } else if (g_ascii_string_to_unsigned(text, 10, 1, LINK_PACK_LEVEL_MAX,
                                          &level, NULL)) {
        *(int *)field = level;
    } else {
        return refuse(text, error, "auto, none, or a level of zstd from 1 to %d",
                      LINK_PACK_LEVEL_MAX);
    }
    return true;
}

static char *encode_link_compression(const void *field)
{
    int level = *(const int *)field;

    return level == CONFIG_COMPRESSION_AUTO ? g_strdup("auto")
           : level == CONFIG_COMPRESSION_NONE ? g_strdup("none")
           : g_strdup_printf("%d", level);
}

static bool parse_rate_schedule(const ConfigKey *key G_GNUC_UNUSED,
                                const char *text, void *field, GError **error)
{
    const char *rate = strchr(text, '=');
    g_autofree char *window = g_strndup(text, rate ? (size_t)(rate - text)
                                                   : strlen(text));

    return rate_schedule_add(field, window, rate ? rate + 1 : "", error);
}

static char *encode_rate_schedule(const void *field G_GNUC_UNUSED)
{
    return NULL;
}

static void clear_rate_schedule(void *field)
{
    g_clear_pointer((RateSchedule **)field, rate_schedule_free);
}

typedef struct {
    bool (*parse)(const ConfigKey *key, const char *text, void *field,
                  GError **error);
    char *(*encode)(const void *field);
    void (*clear)(void *field);         /* NULL: nothing to free */
} Ops;

static const Ops type_ops[] = {
    [CONFIG_VALUE_BOOL]        = { parse_bool, encode_bool, NULL },
    [CONFIG_VALUE_NUMBER]      = { parse_number, encode_number, NULL },
    [CONFIG_VALUE_RATE]        = { parse_rate, encode_rate, NULL },
    [CONFIG_VALUE_SIZE]        = { parse_size, encode_size, NULL },
    [CONFIG_VALUE_TIME]        = { parse_time, encode_time, NULL },
    [CONFIG_VALUE_HANDOVER]    = { parse_handover, encode_handover, NULL },
    [CONFIG_VALUE_RAISED_RATE] = { parse_raised_rate, encode_raised_rate,
                                   NULL },
    [CONFIG_VALUE_CONVERGENCE] = { parse_convergence, encode_convergence,
                                   NULL },
    [CONFIG_VALUE_TLS_KIND]    = { parse_tls_kind, encode_tls_kind, NULL },
    [CONFIG_VALUE_COMPRESSION] = { parse_compression, encode_compression,
                                   NULL },
    [CONFIG_VALUE_ZERO_PAGES]  = { parse_zero_pages, encode_zero_pages, NULL },
    [CONFIG_VALUE_PAGE_SIZE]   = { parse_page_size, encode_page_size, NULL },
    [CONFIG_VALUE_ADDRESS]     = { parse_address, encode_address,
                                   clear_address },
    [CONFIG_VALUE_PATHS]       = { parse_paths, encode_paths, clear_paths },
    [CONFIG_VALUE_TEXT]        = { parse_text, encode_text, clear_text },
    [CONFIG_VALUE_NAME]        = { parse_name, encode_text, clear_text },
    [CONFIG_VALUE_PATH]        = { parse_path, encode_text, clear_text },
    [CONFIG_VALUE_FINGERPRINT] = { parse_fingerprint, encode_text,
                                   clear_text },
    [CONFIG_VALUE_UUID]        = { parse_uuid, encode_text, clear_text },
    [CONFIG_VALUE_LINK_COMPRESSION] = { parse_link_compression,
                                        encode_link_compression, NULL },
    [CONFIG_VALUE_LANES]       = { parse_lanes, encode_lanes, NULL },
    [CONFIG_VALUE_RATE_SCHEDULE] = { parse_rate_schedule, encode_rate_schedule,
                                     clear_rate_schedule },
};
static_assert(G_N_ELEMENTS(type_ops) == CONFIG_VALUE_N_TYPES,
              "a configuration value type has no operations");

bool config_value_parse(const ConfigKey *key, const char *text, void *self,
                        GError **error)
{
    return type_ops[key->type].parse(key, text, (char *)self + key->offset,
                                     error);
}

char *config_value_to_string(const ConfigKey *key, const void *self)
{
    return type_ops[key->type].encode((const char *)self + key->offset);
}

void config_value_clear(const ConfigKey *key, void *self)
{
    if (type_ops[key->type].clear) {
        type_ops[key->type].clear((char *)self + key->offset);
    }
}
