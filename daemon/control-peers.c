/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/control-peers.h"

#include "daemon/link-path.h"
#include "daemon/registry.h"

static JsonObject *path_to_json(const Daemon *daemon, const ConfigPeer *peer,
                                unsigned path)
{
    g_autofree char *name = link_path_to_string(peer, path);
    const char *bind = link_path_get_bind(peer, path);
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "address",
                                  link_path_get_address(peer, path)->text);
    if (bind) {
        json_object_set_string_member(object, "bind", bind);
    }
    peer_status_add_path_to_json(daemon->peer_status, peer->name, name, object);
    return object;
}

static JsonArray *paths_to_json(const Daemon *daemon, const ConfigPeer *peer)
{
    JsonArray *list = json_array_new();

    for (unsigned i = 0; i < link_path_get_count(peer); i++) {
        json_array_add_object_element(list, path_to_json(daemon, peer, i));
    }
    return list;
}

JsonObject *control_peers_to_json(Daemon *daemon, const ConfigPeer *peer)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "name", peer->name);
    if (peer->address) {
        json_object_set_string_member(object, "address", peer->address->text);
    }
    if (peer->certificate_name) {
        json_object_set_string_member(object, "certificate-name",
                                      peer->certificate_name);
    }
    if (peer->fingerprint) {
        json_object_set_string_member(object, "fingerprint",
                                      peer->fingerprint);
    }
    if (peer->psk_identity) {
        json_object_set_string_member(object, "psk-identity",
                                      peer->psk_identity);
    }
    if (peer->lanes == CONFIG_LANES_AUTO) {
        json_object_set_int_member(object, "lanes-max", peer->lanes_max);
    } else {
        json_object_set_int_member(object, "lanes", peer->lanes);
    }
    json_object_set_int_member(object, "weight", peer->weight);
    json_object_set_int_member(object, "rate", limiter_get_rate(
        daemon_get_limiter(daemon, peer)));
    json_object_set_int_member(object, "migrations", registry_count_of_peer(
        daemon->registry, peer));
    peer_status_add_to_json(daemon->peer_status, peer->name,
                            object);
    if (peer->address) {
        json_object_set_array_member(object, "paths",
                                     paths_to_json(daemon, peer));
    }
    return object;
}
