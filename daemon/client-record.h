/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon/client-record.h - the command "record": headers of a migration as pcapng */
#ifndef DAEMON_CLIENT_RECORD_H
#define DAEMON_CLIENT_RECORD_H

#include "daemon/client-session.h"

extern const GOptionEntry client_record_entries[];
ClientSessionExit client_record_run(ClientSession *session, char **args);

#endif
