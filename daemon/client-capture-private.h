/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon/client-capture-private.h - what a capture is once it is loaded */
#ifndef DAEMON_CLIENT_CAPTURE_PRIVATE_H
#define DAEMON_CLIENT_CAPTURE_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct {
    unsigned id;
    GBytes *bytes;
    bool headers_only;          /* payloads were not recorded */
    bool has_init;              /* begins with the init packet */
    uint64_t first_epoch;       /* that it was recorded from */
} CaptureChannel;

typedef struct {
    GBytes *main;
    GPtrArray *channels;        /* of CaptureChannel, by id */
} CaptureFiles;

/* NULL: it cannot be read. */
CaptureFiles *client_capture_load(const char *path, GError **error);
void client_capture_unload(CaptureFiles *files);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CaptureFiles, client_capture_unload)

/* For loaders.  Takes @channel and its bytes. */
void client_capture_add_channel(CaptureFiles *files, CaptureChannel channel);
/* A recording, wire/recording.h, into @files. */
bool client_capture_load_recording(CaptureFiles *files, GBytes *bytes,
                                   GError **error);

#endif
