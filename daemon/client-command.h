/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon/client-command.h - the subcommands of multiferry
 */
#ifndef DAEMON_CLIENT_COMMAND_H
#define DAEMON_CLIENT_COMMAND_H

#include <glib.h>
#include "daemon/client-session.h"

typedef struct {
    const char *name;
    const char *arguments;          /* "VM --to PEER", for help */
    const char *help;               /* one sentence */
    const GOptionEntry *entries;    /* its own options; NULL: none */
    unsigned min_args, max_args;
    /* @args: what is no option, NULL-terminated, as many as allowed. */
    ClientSessionExit (*run)(ClientSession *session, char **args);
} ClientCommand;

/*
 * Parse @argv and run what it asks for.  Writes with g_print() and
 * g_printerr() only.  @argv's strings are not changed.
 */
int client_command_main(int argc, char **argv);

#endif
