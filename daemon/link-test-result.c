/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/link-test-result.h"

#include <string.h>

#include "daemon/address.h"

/* ---- paths ------------------------------------------------------------------ */

static uint32_t get_least(uint32_t a, uint32_t b)
{
    return a && b ? MIN(a, b) : MAX(a, b);
}

static LinkTestPath *find_path(LinkTestResult *self, const char *address,
                               const char *local)
{
    LinkTestPath *path;

    for (unsigned i = 0; i < self->n_paths; i++) {
        path = &self->paths[i];
        if (strcmp(path->address, address) == 0 &&
            strcmp(path->local, local) == 0) {
            return path;
        }
    }
    if (self->n_paths == LINK_TEST_RESULT_PATHS) {
        return NULL;
    }
    path = &self->paths[self->n_paths++];
    g_strlcpy(path->address, address, sizeof(path->address));
    g_strlcpy(path->local, local, sizeof(path->local));
    return path;
}

void link_test_result_add_lane(LinkTestResult *self, const Stream *stream)
{
    g_autofree char *address = address_describe_peer(stream_get_fd(stream));
    g_autofree char *local = address_describe_local_host(stream_get_fd(stream));
    LinkTestPath *path = find_path(self, address, local);
    StreamTcp tcp;

    if (!path) {
        return;
    }
    path->lanes++;
    if (stream_tcp_get(stream, &tcp)) {
        path->mtu = get_least(path->mtu, tcp.mtu);
        path->mss = get_least(path->mss, tcp.mss);
        if (tcp.least_rtt_us != UINT32_MAX) {       /* not measured yet */
            path->min_rtt_us = get_least(path->min_rtt_us, tcp.least_rtt_us);
        }
    }
}

const LinkTestStep *link_test_result_get_best(const LinkTestResult *self)
{
    const LinkTestStep *best = NULL;

    for (unsigned i = 0; i < self->n_steps; i++) {
        if (!best || self->steps[i].load.rate > best->load.rate) {
            best = &self->steps[i];
        }
    }
    return best;
}

/* ---- JSON ------------------------------------------------------------------- */


static JsonObject *rtt_to_json(const LinkTestRttSummary *rtt)
{
    JsonObject *ret = json_object_new();

    json_object_set_int_member(ret, "count", rtt->count);
    if (rtt->count > 0) {
        json_object_set_double_member(ret, "min-ms", rtt->min_us / 1000.0);
        json_object_set_double_member(ret, "median-ms", rtt->median_us / 1000.0);
        json_object_set_double_member(ret, "max-ms", rtt->max_us / 1000.0);
        json_object_set_double_member(ret, "jitter-ms", rtt->jitter_us / 1000.0);
    }
    return ret;
}

static JsonObject *step_to_json(const LinkTestStep *step)
{
    const LinkTestLoadResult *load = &step->load;
    JsonObject *ret = json_object_new();

    json_object_set_int_member(ret, "lanes", step->lanes);
    json_object_set_int_member(ret, "rate", load->rate);
    json_object_set_int_member(ret, "bytes", load->bytes);
    json_object_set_int_member(ret, "segments", load->segments);
    json_object_set_int_member(ret, "retransmits", load->retransmits);
    json_object_set_int_member(ret, "rwnd-limited", load->rwnd_limited);
    json_object_set_int_member(ret, "sndbuf-limited", load->sndbuf_limited);
    json_object_set_object_member(ret, "rtt", rtt_to_json(&step->rtt));
    return ret;
}

static JsonObject *path_to_json(const LinkTestPath *path)
{
    JsonObject *ret = json_object_new();

    json_object_set_string_member(ret, "address", path->address);
    json_object_set_string_member(ret, "local", path->local);
    json_object_set_int_member(ret, "lanes", path->lanes);
    if (path->mtu > 0) {
        json_object_set_int_member(ret, "mtu", path->mtu);
        json_object_set_int_member(ret, "mss", path->mss);
        json_object_set_double_member(ret, "rtt-ms", path->min_rtt_us / 1000.0);
    }
    return ret;
}

static JsonObject *tls_to_json(const LinkTestResult *self)
{
    JsonObject *ret = json_object_new();

    json_object_set_string_member(ret, "cipher", self->cipher);
    json_object_set_int_member(ret, "rate-here", self->tls_here);
    json_object_set_int_member(ret, "rate-there", self->tls_there);
    return ret;
}

void link_test_result_to_json(const LinkTestResult *self, JsonObject *object)
{
    JsonArray *steps = json_array_new(), *paths = json_array_new();

    for (unsigned i = 0; i < self->n_steps; i++) {
        json_array_add_object_element(steps, step_to_json(&self->steps[i]));
    }
    for (unsigned i = 0; i < self->n_paths; i++) {
        json_array_add_object_element(paths, path_to_json(&self->paths[i]));
    }
    json_object_set_object_member(object, "idle", rtt_to_json(&self->idle));
    json_object_set_array_member(object, "steps", steps);
    json_object_set_array_member(object, "paths", paths);
    if (*self->cipher) {
        json_object_set_object_member(object, "tls", tls_to_json(self));
    }
    if (*self->algorithm) {
        json_object_set_string_member(object, "congestion-control",
                                      self->algorithm);
    }
    json_object_set_int_member(object, "rate-limit", self->limit);
}
