/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon/client-capture-private.h - what a capture is once it is loaded */
#ifndef DAEMON_CLIENT_CAPTURE_PRIVATE_H
#define DAEMON_CLIENT_CAPTURE_PRIVATE_H

#include <stdbool.h>
#include <glib.h>

typedef struct {
    unsigned id;
    GBytes *bytes;              /* from the init packet on */
    bool headers_only;          /* payloads were not recorded */
} CaptureChannel;

typedef struct {
    GBytes *main;
    GPtrArray *channels;        /* of CaptureChannel, by id */
} CaptureFiles;

/* NULL: it cannot be read. */
CaptureFiles *client_capture_load(const char *path, GError **error);
void client_capture_unload(CaptureFiles *files);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CaptureFiles, client_capture_unload)

/* For loaders.  Takes @bytes. */
void client_capture_add_channel(CaptureFiles *files, unsigned id, GBytes *bytes,
                                bool headers_only);

#endif
