/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/log-event.h"

#include <assert.h>
#include <glib.h>

/* Made with "systemd-id128 new". */
static const char *const ids[] = {
    [LOG_EVENT_NONE] = NULL,
    [LOG_EVENT_READY] = "b66cbd62cffb401ea94aeb80ad3a30f0",
    [LOG_EVENT_START_FAILED] = "86c4b380de2e43f39e5d73c470d89825",
    [LOG_EVENT_STOPPING] = "0c44165ef36a4cbe959b1ce7e355176d",
    [LOG_EVENT_RELOADED] = "48bd1dbc1cf94d5a946e22be673e8a3d",
    [LOG_EVENT_RELOAD_FAILED] = "e19a2aab726743258218e4383cb200a8",
    [LOG_EVENT_LISTENING] = "adc602c96c2345d8b8ce2028155cb311",
    [LOG_EVENT_CLEAR_TEXT] = "be612234dd374836b9369f55680ed795",
    [LOG_EVENT_CONNECTION_REFUSED] = "170f5507cfab4b55beb9b54574d70ec2",
    [LOG_EVENT_MIGRATION_STATE] = "0025ba73dee941e1added3a2c2a4796e",
    [LOG_EVENT_MIGRATION_WARNING] = "a85ceec4f6bf4a8abf95b160f8b6b8cb",
    [LOG_EVENT_MIGRATION_COMPLETED] = "7fa365452c1b43e89aaea892ce3ff79d",
    [LOG_EVENT_MIGRATION_FAILED] = "67f3c652a61741138f0aea827e1e7f1b",
    [LOG_EVENT_MIGRATION_CANCELLED] = "8f881cd275d443e59a6518e944237879",
    [LOG_EVENT_PACKET_REJECTED] = "814d5d006ac4439b80589959a52e50a0",
    [LOG_EVENT_CERTIFICATE_EXPIRES] = "454288a5a8e84ad6925eedd832255cfa",
    [LOG_EVENT_HISTORY_FAILED] = "7ca49fc8db96452b8fef92aeaa652290",
    [LOG_EVENT_ACCESS_REFUSED] = "65289f5b3d15477e96b32aa649d22e67",
    [LOG_EVENT_ACCESS_OPEN] = "2a2a7d70e200495a88e350e48c2b9ee1",
    [LOG_EVENT_CONFIG_CHANGED] = "bf5b8ad4b7f34a4aa499ea048515d72e",
};
static_assert(G_N_ELEMENTS(ids) == LOG_EVENT_CONFIG_CHANGED + 1,
              "a kind of log line has no MESSAGE_ID");

const char *log_event_get_id(LogEvent event)
{
    return ids[event];
}
