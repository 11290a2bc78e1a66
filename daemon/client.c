/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * multiferry: what an operator types to move a VM.  A client of multiferryd's
 * control socket and nothing more; all commands are in daemon/client-command.c.
 */
#include <locale.h>

#include "daemon/client-command.h"

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    return client_command_main(argc, argv);
}
