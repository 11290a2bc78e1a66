# SPDX-License-Identifier: GPL-2.0-or-later
"""Two sites: dc1 beside the source, dc2 beside the destination, peers over TLS."""
from .certs import Authority, psk_directory
from .daemon import Client, Daemon, free_port, listening
from .wan import ADDRESS


def merged(groups, more):
    """Groups with the keys of more added; a key of None is taken out."""
    result = {name: dict(keys) for name, keys in groups.items()}
    for name, keys in (more or {}).items():
        result.setdefault(name, {}).update(keys)
        result[name] = {k: v for k, v in result[name].items() if v is not None}
    return result


class Sites:
    """Both daemons, running; a VM called web1 at both if QEMUs are given.

    dc1 and dc2 are groups to merge into the configurations.  through is a
    function from dc2's address to the one at which dc1 shall connect: a relay.
    Those in activated get their sockets as from systemd.
    wan is the Wan at whose two ends the daemons shall stand.
    """

    def __init__(self, t, src=None, dst=None, tls='x509', lanes=4, dc1=None, dc2=None,
                 through=None, directories=None, activated=(), env=None, args=(), wan=None):
        self.t = t
        self.ca = None
        ports = {'dc1': free_port(), 'dc2': free_port()}
        hosts = ADDRESS if wan else dict.fromkeys(ports, '127.0.0.1')
        if tls == 'x509' and not directories:
            self.ca = Authority(t, 'sites')
            directories = {name: self.ca.directory(name) for name in ports}
        elif not directories:
            directories = dict.fromkeys(ports, psk_directory(t, 'link', users=tuple(ports)))
        self.directories = directories
        self.daemons = {}
        for here, there, qemu, more in (('dc2', 'dc1', dst, dc2), ('dc1', 'dc2', src, dc1)):
            address = 'tcp:%s:%d' % (hosts[there], ports[there])
            if through and here == 'dc1':
                address = through(address)
            groups = {
                'tls': {'directory': directories[here]},
                'listen': {'link': '%s:%d' % (hosts[here], ports[here])},
                'peer ' + there: {'address': address.replace('tcp:', '')},
            }
            if lanes:
                groups['peer ' + there]['lanes'] = lanes
            if tls == 'psk':
                groups['tls'].update({'psk': 'yes', 'psk-username': here})
                groups['peer ' + there]['psk-identity'] = there
            else:
                groups['peer ' + there]['certificate-name'] = there
            if qemu:
                groups['vm web1'] = {'qmp': 'unix:' + qemu.daemon_qmp}
            sockets = ()
            if here in activated:
                sockets = (('control', listening(Daemon.path_of(t, here, 'control.sock'))),
                           ('link', listening(('127.0.0.1', ports[here]))))
            self.daemons[here] = Daemon(t, here, merged(groups, more), args, env=env,
                                        sockets=sockets, prefix=wan.inside(here) if wan else (),
                                        other_network=bool(wan))
            for _, sock in sockets:
                sock.close()        # systemd would keep it, and its file stays
        self.dc1, self.dc2 = self.daemons['dc1'], self.daemons['dc2']
        self.client = Client(t, self.dc1)
