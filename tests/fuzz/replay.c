/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Give a fuzz target its corpus without a fuzzer: replay FILE|DIRECTORY...
 *
 * Each file is one input, in a buffer of exactly its size, so that a sanitizer
 * sees an overread.  Exit 0: every input held; 2: there was none.
 */
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned n_inputs;

static void replay_file(const char *path)
{
    g_autofree char *text = NULL;
    g_autofree uint8_t *exact = NULL;
    g_autoptr(GError) error = NULL;
    gsize len;

    if (!g_file_get_contents(path, &text, &len, &error)) {
        fprintf(stderr, "replay: %s\n", error->message);
        exit(2);
    }
    exact = g_memdup2(text, len);
    LLVMFuzzerTestOneInput(exact, len);
    n_inputs++;
}

static void replay(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    if (!dir) {
        replay_file(path);
        return;
    }
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *inner = g_build_filename(path, name, NULL);

        replay(inner);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        replay(argv[i]);
    }
    if (n_inputs == 0) {
        fprintf(stderr, "replay: got no input, expected files or directories\n");
        return 2;
    }
    return 0;
}
