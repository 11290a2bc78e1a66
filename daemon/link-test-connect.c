/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-test-connect.h"

#include "daemon/link-lane.h"

typedef struct {
    Daemon *daemon;
    const LinkTestRequest *request;
    const char *id;
    unsigned lane;
    LinkTestLanes *lanes;
    GError *error;
    GThread *thread;            /* NULL: it is there already */
} Connecting;

static Stream *connect_lane(Daemon *daemon, const LinkTestRequest *request,
                            const char *id, LinkRole role, unsigned lane,
                            GCancellable *cancellable, GError **error)
{
    const Config *config = request->config;
    g_autoptr(TlsCredentials) credentials =
        daemon_get_link_credentials(daemon, config, error);
    LinkHello hello = { .version = LINK_VERSION, .role = role, .lane = lane };

    if (!credentials) {
        return NULL;
    }
    g_strlcpy(hello.daemon, config->name, sizeof(hello.daemon));
    memcpy(hello.instance, daemon->instance, sizeof(hello.instance));
    g_strlcpy(hello.migration, id, sizeof(hello.migration));
    return link_lane_connect(request->peer, credentials, &config->timeouts,
                             &hello, daemon->peer_status, cancellable, NULL,
                             error);
}

Stream *link_test_connect_main(Daemon *daemon, const LinkTestRequest *request,
                               const char *id, GCancellable *cancellable,
                               GError **error)
{
    return connect_lane(daemon, request, id, LINK_ROLE_TEST, 0, cancellable,
                        error);
}

static void *connect_thread(void *data)
{
    Connecting *self = data;
    Stream *stream = connect_lane(self->daemon, self->request, self->id,
                                  LINK_ROLE_TEST_BULK, self->lane,
                                  self->lanes->cancellable, &self->error);

    if (stream && !link_test_lanes_put(self->lanes, self->lane, &stream,
                                       &self->error)) {
        stream_free(stream);
    }
    return NULL;
}

bool link_test_connect_bulk(Daemon *daemon, const LinkTestRequest *request,
                            const char *id, unsigned n, LinkTestLanes *lanes,
                            GError **error)
{
    g_autofree Connecting *all = g_new0(Connecting, n);
    bool ok = true;

    for (unsigned i = 0; i < n; i++) {
        all[i] = (Connecting) { daemon, request, id, i, lanes, NULL, NULL };
        if (!link_test_lanes_has(lanes, i)) {
            all[i].thread = g_thread_new("connect", connect_thread, &all[i]);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        if (all[i].thread) {
            g_thread_join(all[i].thread);
        }
        if (all[i].error && ok) {
            ok = false;
            g_propagate_error(error, all[i].error);
        } else if (all[i].error) {
            g_error_free(all[i].error);
        }
    }
    return ok;
}
