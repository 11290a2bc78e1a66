/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-record.c - reads on and on, and writes whole blocks only: where
 * something is missing, what came of the block before it is thrown away.
 */
#include "daemon/client-record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/client-format.h"
#include "daemon/units.h"
#include "wire/recording.h"

enum { PAUSE_US = 100 * 1000 };

static char *output;
static gboolean payload;

const GOptionEntry client_record_entries[] = {
    { "output", 'o', 0, G_OPTION_ARG_FILENAME, &output,
      "Write to FILE instead of standard output", "FILE" },
    { "payload", 0, 0, G_OPTION_ARG_NONE, &payload,
      "Record the guest's memory too, where the daemon permits it", NULL },
    { NULL, 0, 0, 0, NULL, NULL, NULL },
};

typedef struct {
    ClientSession *session;
    char *id;
    int fd;
    GByteArray *pending;        /* begins with a block's first byte */
    bool begun;
    int64_t next;
    uint64_t written, dropped;
} Record;

static ClientSessionExit write_all(Record *self, const uint8_t *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = write(self->fd, buf, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            client_session_complain("record: cannot write: %s",
                                    g_strerror(errno));
            return CLIENT_SESSION_FAILED;
        }
        buf += n;
        len -= n;
        self->written += n;
    }
    return CLIENT_SESSION_OK;
}

/* Whole blocks, as many as there are. */
static ClientSessionExit write_blocks(Record *self)
{
    size_t whole = 0, size;
    ClientSessionExit code;

    while ((size = recording_get_block_size(self->pending->data + whole,
                                            self->pending->len - whole)) > 0 &&
           size <= self->pending->len - whole) {
        whole += size;
    }
    code = write_all(self, self->pending->data, whole);
    g_byte_array_remove_range(self->pending, 0, whole);
    return code;
}

/* There is something to write: what the file held goes, and who else may read it. */
static ClientSessionExit begin_output(const Record *self)
{
    struct stat st;

    if (!output) {
        return CLIENT_SESSION_OK;
    }
    /* The mode first, and only then what it is for. */
    if (fstat(self->fd, &st) < 0 ||
        (S_ISREG(st.st_mode) && (fchmod(self->fd, 0600) < 0 ||
                                 ftruncate(self->fd, 0) < 0))) {
        client_session_complain("record: %s: %s", output, g_strerror(errno));
        return CLIENT_SESSION_FAILED;
    }
    return CLIENT_SESSION_OK;
}

static ClientSessionExit take_answer(Record *self, JsonObject *answer)
{
    const char *text = client_format_get_string(answer, "data");
    uint64_t dropped = client_format_get_number(answer, "dropped");
    g_autofree uint8_t *data = NULL;
    gsize len = 0;

    if (!self->begun && begin_output(self) != CLIENT_SESSION_OK) {
        return CLIENT_SESSION_FAILED;
    }
    data = g_base64_decode(text ? text : "", &len);
    if (dropped > 0) {
        g_byte_array_set_size(self->pending, 0);
        self->dropped += dropped;
    }
    g_byte_array_append(self->pending, data, len);
    self->next = client_format_get_number(answer, "next");
    if (client_format_get_string(answer, "id")) {
        /* A name is only known while it runs. */
        g_free(self->id);
        self->id = g_strdup(client_format_get_string(answer, "id"));
    }
    self->begun = true;
    return write_blocks(self);
}

static ClientSessionExit read_once(Record *self, bool *ret_more, bool *ret_idle)
{
    JsonObject *arguments = json_object_new(), *answer;
    g_autoptr(JsonNode) node = NULL;
    ClientSessionExit code;

    json_object_set_string_member(arguments, "id", self->id);
    if (self->begun) {
        json_object_set_int_member(arguments, "from", self->next);
    }
    if (payload) {
        json_object_set_boolean_member(arguments, "payload", TRUE);
    }
    code = client_session_query(self->session, "read-recording", arguments,
                                JSON_NODE_OBJECT, &node);
    if (code != CLIENT_SESSION_OK) {
        return code;
    }
    answer = json_node_get_object(node);
    *ret_more = !client_format_get_flag(answer, "ended");
    *ret_idle = self->begun &&
                client_format_get_number(answer, "next") == (uint64_t)self->next;
    return take_answer(self, answer);
}

static ClientSessionExit record(Record *self)
{
    ClientSessionExit code = CLIENT_SESSION_OK;
    bool more = true, idle = false;

    while (code == CLIENT_SESSION_OK && more) {
        if (idle) {
            g_usleep(PAUSE_US);
        }
        code = read_once(self, &more, &idle);
    }
    return code;
}

/* As it was until the daemon has answered: a name may be wrong. */
static int open_output(void)
{
    int fd;

    if (!output) {
        if (isatty(STDOUT_FILENO)) {
            client_session_complain("record: standard output is a terminal, "
                                    "expected a file or a pipe, or --output");
            return -1;
        }
        return dup(STDOUT_FILENO);
    }
    /* Headers say which memory a guest uses: for nobody else's eyes. */
    fd = open(output, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        client_session_complain("record: %s: %s", output, g_strerror(errno));
    }
    return fd;
}

static void report(const Record *self)
{
    g_autofree char *size = units_format_size(self->written);
    g_autofree char *lost = units_format_size(self->dropped);

    g_printerr("multiferry: recorded %s%s%s\n", size,
               self->dropped ? ", lost " : "", self->dropped ? lost : "");
}

ClientSessionExit client_record_run(ClientSession *session, char **args)
{
    Record self = { .session = session, .fd = open_output() };
    ClientSessionExit code = CLIENT_SESSION_USAGE;

    if (self.fd >= 0) {
        self.id = g_strdup(args[0]);
        self.pending = g_byte_array_new();
        recording_append_file_header(self.pending);
        code = record(&self);
        if (self.written > 0) {
            report(&self);
        }
        g_byte_array_unref(self.pending);
        g_free(self.id);
        close(self.fd);
    }
    g_clear_pointer(&output, g_free);
    payload = FALSE;
    return code;
}
