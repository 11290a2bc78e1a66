/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation
 *
 * Bytes wait in `input`; `start` is where the current message begins and
 * `scan` how far we have looked.  Outside a message we skip white space and
 * 0xff, QMP's "reset your parser" byte.  A '{' or '[' starts a message; it
 * ends when as many brackets are closed as were opened.  Only then json-glib
 * sees it, so everything it must not see is refused while scanning:
 *
 *  - bytes outside strings that no JSON text has (json-glib takes comments,
 *    single quotes and hexadecimal numbers);
 *  - half surrogate pairs, on which json-glib 1.6 asserts;
 *  - \u0000, at which it would silently cut the string: 'quit\u0000x' is
 *    not the command 'quit';
 *  - deep nesting, as it recurses.
 *
 * After an error the rest of the line is skipped (QEMU resumes at the next
 * byte and so answers one mistake several times).  Garbage outside a message
 * also ends where a '{' begins, for peers that send no line ends.
 */
#include "qmp/framer.h"

#include "qmp/error.h"

#include <math.h>
#include <string.h>

#define RESET_BYTE 0xff

typedef enum Where {
    OUTSIDE,            /* between messages */
    VALUE,              /* in a message, not in a string */
    STRING,
    ESCAPE,             /* after a backslash */
    HEX,                /* in the four digits of \uXXXX */
    SKIP_LINE,          /* after an error inside a message */
    SKIP_GARBAGE,       /* after an error outside */
} Where;

struct QmpFramer {
    size_t      max_bytes;      /* constant */

    GByteArray *input;
    size_t      start;          /* of the current message, in input */
    size_t      scan;           /* next byte to look at, in input */
    uint64_t    offset;         /* in the stream, of input's first byte */
    size_t      last_bytes;
    bool        too_large;      /* sticky */

    Where       where;
    bool        is_object;      /* the message starts with '{' */
    unsigned    depth;
    unsigned    n_values;       /* upper bound: brackets and commas */
    unsigned    hex_left;
    unsigned    hex_value;
    unsigned    high_surrogate; /* waits for its low half; 0 when none */
};

/* What one scanned byte means for the message around it. */
typedef enum Step {
    STEP_ON,
    STEP_COMPLETE,
    STEP_ERROR,
} Step;

QmpFramer *qmp_framer_new(size_t max_bytes)
{
    QmpFramer *self = g_new0(QmpFramer, 1);

    g_assert(max_bytes > 0);
    self->max_bytes = max_bytes;
    self->input = g_byte_array_new();
    self->where = OUTSIDE;
    return self;
}

void qmp_framer_free(QmpFramer *self)
{
    if (!self) {
        return;
    }
    g_byte_array_unref(self->input);
    g_free(self);
}

/* Forget what was consumed, so that input never grows past one message. */
static void drop_consumed(QmpFramer *self)
{
    if (self->start > 0) {
        g_byte_array_remove_range(self->input, 0, self->start);
        self->offset += self->start;
        self->scan -= self->start;
        self->start = 0;
    }
}

void qmp_framer_feed(QmpFramer *self, const void *buf, size_t len)
{
    g_assert(len <= G_MAXUINT / 2);
    if (self->too_large || len == 0) {
        return;
    }
    drop_consumed(self);
    g_byte_array_append(self->input, buf, (guint)len);
}

size_t qmp_framer_get_last_bytes(const QmpFramer *self)
{
    return self->last_bytes;
}

bool qmp_framer_is_inside_message(const QmpFramer *self)
{
    return self->where != OUTSIDE && self->where != SKIP_GARBAGE &&
           self->where != SKIP_LINE;
}

/* A byte as a person can read it in a message: 'x', or 0x07. */
static const char *byte_name(uint8_t byte, char name[8])
{
    if (byte > 0x20 && byte < 0x7f) {
        g_snprintf(name, 8, "'%c'", byte);
    } else {
        g_snprintf(name, 8, "0x%02x", byte);
    }
    return name;
}

static Step refuse(QmpFramer *self, const char *expected, GError **error)
{
    uint8_t byte = self->input->data[self->scan];
    char name[8];

    g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                "QMP input byte %" G_GUINT64_FORMAT ": got %s, expected %s",
                self->offset + self->scan, byte_name(byte, name), expected);
    return STEP_ERROR;
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static void begin_message(QmpFramer *self, uint8_t byte)
{
    self->start = self->scan;
    self->where = VALUE;
    self->is_object = byte == '{';
    self->depth = 1;
    self->n_values = 1;
    self->high_surrogate = 0;
}

static Step step_outside(QmpFramer *self, uint8_t byte, GError **error)
{
    if (byte == '{' || byte == '[') {
        begin_message(self, byte);
        return STEP_ON;
    }
    self->start = self->scan + 1;
    if (is_space(byte) || byte == RESET_BYTE) {
        return STEP_ON;
    }
    refuse(self, "a JSON object", error);
    self->where = SKIP_GARBAGE;
    return STEP_ERROR;
}

static Step step_skip_garbage(QmpFramer *self, uint8_t byte)
{
    if (byte == '{') {
        begin_message(self, byte);
        return STEP_ON;
    }
    self->start = self->scan + 1;
    if (byte == '\n' || byte == RESET_BYTE) {
        self->where = OUTSIDE;
    }
    return STEP_ON;
}

static Step step_skip_line(QmpFramer *self, uint8_t byte)
{
    self->start = self->scan + 1;
    if (byte == '\n' || byte == RESET_BYTE) {
        self->where = OUTSIDE;
    }
    return STEP_ON;
}

static Step step_open(QmpFramer *self, GError **error)
{
    if (self->depth == QMP_FRAMER_MAX_DEPTH) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                    "QMP input byte %" G_GUINT64_FORMAT ": got nesting depth "
                    "%u, allowed at most %u", self->offset + self->scan,
                    self->depth + 1, QMP_FRAMER_MAX_DEPTH);
        return STEP_ERROR;
    }
    self->depth++;
    self->n_values++;
    return STEP_ON;
}

static Step step_value(QmpFramer *self, uint8_t byte, GError **error)
{
    if (byte == '"') {
        self->where = STRING;
    } else if (byte == '{' || byte == '[') {
        return step_open(self, error);
    } else if (byte == '}' || byte == ']') {
        self->depth--;
        return self->depth == 0 ? STEP_COMPLETE : STEP_ON;
    } else if (byte == ',') {
        if (++self->n_values > QMP_FRAMER_MAX_VALUES) {
            g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                        "QMP input byte %" G_GUINT64_FORMAT ": got a message "
                        "of %u values, allowed at most %u",
                        self->offset + self->scan, self->n_values,
                        QMP_FRAMER_MAX_VALUES);
            return STEP_ERROR;
        }
    } else if (!is_space(byte) && !g_ascii_isdigit(byte) &&
               (byte == 0 || !strchr(":+-.eEtrufalsn", byte))) {
        /* the letters are those of true, false and null */
        return refuse(self, "JSON", error);
    }
    return STEP_ON;
}

static Step step_string(QmpFramer *self, uint8_t byte, GError **error)
{
    if (self->high_surrogate && byte != '\\') {
        return refuse(self, "the second half of a surrogate pair", error);
    }
    if (byte < 0x20) {
        return refuse(self, "no control character in a string", error);
    }
    if (byte == '"') {
        self->where = VALUE;
    } else if (byte == '\\') {
        self->where = ESCAPE;
    }
    return STEP_ON;
}

static Step step_escape(QmpFramer *self, uint8_t byte, GError **error)
{
    if (byte == 'u') {
        self->where = HEX;
        self->hex_left = 4;
        self->hex_value = 0;
        return STEP_ON;
    }
    if (self->high_surrogate || byte == 0 || !strchr("\"\\/bfnrt", byte)) {
        return refuse(self, "a JSON escape", error);
    }
    self->where = STRING;
    return STEP_ON;
}

static Step step_hex(QmpFramer *self, uint8_t byte, GError **error)
{
    unsigned value;
    bool is_low;

    if (!g_ascii_isxdigit(byte)) {
        return refuse(self, "a hexadecimal digit", error);
    }
    self->hex_value = self->hex_value << 4 |
                      (unsigned)g_ascii_xdigit_value((char)byte);
    if (--self->hex_left > 0) {
        return STEP_ON;
    }

    value = self->hex_value;
    is_low = value >= 0xdc00 && value <= 0xdfff;
    if (value == 0) {
        return refuse(self, "no \\u0000 in a string", error);
    }
    if (is_low != (self->high_surrogate != 0)) {
        return refuse(self, "a whole surrogate pair", error);
    }
    self->high_surrogate = value >= 0xd800 && value <= 0xdbff ? value : 0;
    self->where = STRING;
    return STEP_ON;
}

static Step step_reset(QmpFramer *self, GError **error)
{
    g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                "QMP input byte %" G_GUINT64_FORMAT ": got 0xff, which drops "
                "the %zu bytes of an unfinished message",
                self->offset + self->scan, self->scan - self->start);
    return STEP_ERROR;
}

static Step step(QmpFramer *self, GError **error)
{
    uint8_t byte = self->input->data[self->scan];

    if (byte == RESET_BYTE && qmp_framer_is_inside_message(self)) {
        return step_reset(self, error);
    }
    switch (self->where) {
    case OUTSIDE:
        return step_outside(self, byte, error);
    case VALUE:
        return step_value(self, byte, error);
    case STRING:
        return step_string(self, byte, error);
    case ESCAPE:
        return step_escape(self, byte, error);
    case HEX:
        return step_hex(self, byte, error);
    case SKIP_LINE:
        return step_skip_line(self, byte);
    case SKIP_GARBAGE:
        return step_skip_garbage(self, byte);
    }
    g_assert_not_reached();
}

/* Numbers such as 1e999 parse as infinity, which JSON cannot say back. */
static bool is_finite(JsonNode *node)
{
    if (JSON_NODE_HOLDS_OBJECT(node)) {
        g_autoptr(GList) members =
            json_object_get_values(json_node_get_object(node));

        for (GList *l = members; l; l = l->next) {
            if (!is_finite(l->data)) {
                return false;
            }
        }
    } else if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *array = json_node_get_array(node);

        for (guint i = 0; i < json_array_get_length(array); i++) {
            if (!is_finite(json_array_get_element(array, i))) {
                return false;
            }
        }
    } else if (json_node_get_value_type(node) == G_TYPE_DOUBLE) {
        return isfinite(json_node_get_double(node));
    }
    return true;
}

/* Parse the @len bytes of a message that step() found to be whole. */
static JsonObject *parse(QmpFramer *self, size_t len, GError **error)
{
    const char *text = (const char *)self->input->data + self->start;
    uint64_t at = self->offset + self->start;
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    g_autoptr(GError) local = NULL;
    JsonNode *root;

    if (!self->is_object) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                    "QMP input byte %" G_GUINT64_FORMAT ": got an array, "
                    "expected a JSON object", at);
        return NULL;
    }
    if (!g_utf8_validate_len(text, len, NULL)) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                    "QMP input byte %" G_GUINT64_FORMAT ": got a message "
                    "that is not UTF-8", at);
        return NULL;
    }
    if (!json_parser_load_from_data(parser, text, (gssize)len, &local)) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                    "QMP input byte %" G_GUINT64_FORMAT ": JSON parse error: "
                    "%s", at, local->message);
        return NULL;
    }
    root = json_parser_get_root(parser);
    if (!root || !JSON_NODE_HOLDS_OBJECT(root) || !is_finite(root)) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_PROTOCOL,
                    "QMP input byte %" G_GUINT64_FORMAT ": JSON parse error: "
                    "%s", at, root && JSON_NODE_HOLDS_OBJECT(root) ?
                    "a number is too large" : "not an object");
        return NULL;
    }
    return json_object_ref(json_node_get_object(root));
}

/* Leave the broken message at the byte in hand. */
static void recover(QmpFramer *self)
{
    uint8_t byte = self->input->data[self->scan];

    if (qmp_framer_is_inside_message(self)) {
        self->where = byte == '\n' || byte == RESET_BYTE ? OUTSIDE : SKIP_LINE;
    }
    self->scan++;
    self->start = self->scan;
}

static bool check_size(QmpFramer *self, GError **error)
{
    if (self->scan - self->start >= self->max_bytes) {
        self->too_large = true;
    }
    if (self->too_large) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_TOO_LARGE,
                    "QMP input byte %" G_GUINT64_FORMAT ": got a message of "
                    "more than %zu bytes, allowed at most %zu",
                    self->offset + self->start, self->max_bytes,
                    self->max_bytes);
        return false;
    }
    return true;
}

bool qmp_framer_next(QmpFramer *self, JsonObject **ret, GError **error)
{
    *ret = NULL;
    while (self->scan < self->input->len) {
        Step result;

        if (!check_size(self, error)) {
            return false;
        }
        result = step(self, error);
        if (result == STEP_ERROR) {
            recover(self);
            return false;
        }
        self->scan++;
        if (result == STEP_COMPLETE) {
            self->last_bytes = self->scan - self->start;
            *ret = parse(self, self->last_bytes, error);
            self->start = self->scan;
            self->where = OUTSIDE;
            return *ret != NULL;
        }
    }
    return !self->too_large || check_size(self, error);
}
