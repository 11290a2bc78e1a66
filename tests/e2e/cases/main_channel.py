# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU can put on the main channel, each with and without us in the middle."""
import os
import socket

from harness import QmpError, Skip, case, check
from harness.compare import compare
from harness.daemon import free_port
from harness.qemu import RAM_KIB
from harness.ways import way_of

NEEDS = ['daemon', 'certtool']


def rows(*ways, **more):
    """Rows of a table: 'daemon 2 3' is a way with its n and k; with a * only in full runs."""
    return [dict(kind=w.split()[0].strip('*'), n=int(w.split()[1]), k=int(w.split()[2]),
                 full=w.startswith('*'), **more) for w in ways]


def with_capabilities(t, kind, n, k, judge=lambda way: None, since=None, **capabilities):
    """Both QEMUs have them set so, which they can in version @since."""
    def body(way):
        for qemu in way.ends():
            if since:
                t.need_version(since, qemu, ', '.join(capabilities).replace('_', '-'))
            qemu.capabilities(**capabilities)
        way.begin()
        result = way.outcome()
        judge(way)
        return result
    compare(t, way_of(t, kind, n=n, k=k), body)


@case('e2e/main-channel/validate-uuid/{kind}-n{n}-k{k}', needs=NEEDS,
      table=rows('daemon 2 3', '*link 0 0', '*link 3 2'))
def validate_uuid(t, kind, n, k):
    """A section of its own right at the beginning."""
    with_capabilities(t, kind, n, k, validate_uuid=True)


@case('e2e/main-channel/xbzrle/{kind}-n{n}-k{k}', needs=NEEDS,
      table=rows('daemon 0 0', '*link 0 0', '*daemon 2 3'))
def xbzrle(t, kind, n, k):
    """Pages as differences on main; from 10.0 on not together with multifd."""
    def body(way):
        try:
            for qemu in way.ends():
                qemu.capabilities(xbzrle=True)
        except QmpError as e:
            return 'not taken (%s)' % e.error_class
        way.begin()
        return way.outcome()
    compare(t, way_of(t, kind, n=n, k=k), body)


@case('e2e/main-channel/auto-converge/{kind}-n{n}-k{k}', needs=NEEDS,
      table=rows('link 2 3', '*daemon 0 0'))
def auto_converge(t, kind, n, k):
    """A guest that writes faster than the line carries is slowed down until it fits."""
    def body(way):
        src, dst = way.ends()
        src.capabilities(auto_converge=True)
        src.parameters(max_bandwidth=24 << 20, cpu_throttle_initial=70)
        way.begin()
        return way.outcome()
    compare(t, way_of(t, kind, n=n, k=k), body)


@case('e2e/main-channel/ignore-shared/{kind}-n{n}-k{k}', needs=NEEDS,
      table=rows('daemon 2 3', '*link 0 0', '*link 3 2'))
def ignore_shared(t, kind, n, k):
    """RAM in a file that both have does not travel; the list of blocks looks different."""
    def body(way):
        path = '%s/ram-%s' % (t.dir, way.kind)
        with open(path, 'wb') as f:
            os.truncate(f.fileno(), RAM_KIB * 1024)
        memory = ['-object', 'memory-backend-file,id=ram0,size=%dk,share=on,mem-path=%s'
                  % (RAM_KIB, path), '-machine', 'memory-backend=ram0']
        for qemu in way.ends(both={'extra': memory}):
            qemu.capabilities(x_ignore_shared=True)
        way.begin()
        result = way.outcome()
        check(way.src.migration()['ram']['transferred'] < 8 << 20, 'the RAM has travelled')
        return result
    compare(t, way_of(t, kind, n=n, k=k), body)


@case('e2e/main-channel/pause-before-switchover/{kind}-n{n}-k{k}', needs=NEEDS,
      table=rows('link 3 2', '*daemon 0 0'))
def pause_before_switchover(t, kind, n, k):
    """The source stands still with all channels open until somebody says go on."""
    def body(way):
        src, dst = way.ends()
        src.capabilities(pause_before_switchover=True)
        way.begin()
        src.wait_migration('pre-switchover')
        check(not src.running() and not dst.running(), 'a guest runs')
        src.qmp.cmd('migrate-continue', state='pre-switchover')
        return way.outcome()
    compare(t, way_of(t, kind, n=n, k=k), body)


@case('e2e/main-channel/switchover-ack/{kind}-n{n}-k{k}', needs=NEEDS, full=True,
      table=rows('*daemon 2 3', '*link 3 2', '*link 0 0'))
def switchover_ack(t, kind, n, k):
    """A word on the return path without which the source does not switch over."""
    with_capabilities(t, kind, n, k, since=(8, 1), switchover_ack=True)


@case('e2e/main-channel/no-return-path/{kind}-n{n}-k{k}', needs=NEEDS,
      table=rows('daemon 2 3', '*daemon 0 0', '*link 2 3'))
def no_return_path(t, kind, n, k):
    """Carried; but the source believes bytes that only we hold, and the log says so."""
    def judge(way):
        if way.daemons:
            way.daemons[0].assert_says('warning: .*return.path')
    with_capabilities(t, kind, n, k, judge, return_path=False)


# ---- dirty bitmaps ----------------------------------------------------------------------

GRANULARITY = 65536


def disk(t, name):
    """A disk with a known node name; each QEMU has its own image."""
    path = '%s/%s.raw' % (t.dir, name)
    with open(path, 'wb') as f:
        f.truncate(64 << 20)
    return ['-drive', 'file=%s,format=raw,if=none,id=d0,node-name=disk0' % path,
            '-device', 'ide-hd,drive=d0']


def with_bitmaps(way):
    """Both QEMUs with a disk, and at the source a bitmap with some bits in it."""
    src, dst = way.ends(src={'extra': disk(way.t, way.name('src'))},
                        dst={'extra': disk(way.t, way.name('dst'))})
    for qemu in src, dst:
        qemu.capabilities(dirty_bitmaps=True)
    src.qmp.cmd('block-dirty-bitmap-add', node='disk0', name='backup0', granularity=GRANULARITY)
    for at in range(0, 64, 4):
        src.qmp.cmd('human-monitor-command',
                    command_line='qemu-io d0 "write -P 7 %dM 4k"' % at)
    return src, dst


def dirty_bytes(qemu):
    found = [b['count'] for node in qemu.qmp.cmd('query-named-block-nodes')
             for b in node.get('dirty-bitmaps', []) if b.get('name') == 'backup0']
    return found[0] if found else None


@case('e2e/main-channel/dirty-bitmaps/{kind}-n{n}-k{k}', needs=NEEDS,
      table=rows('daemon 2 3', '*daemon 0 0', '*link 3 2', '*link 0 0'))
def dirty_bitmaps(t, kind, n, k):
    """Sections of another device around all of the RAM's."""
    def body(way):
        src, dst = with_bitmaps(way)
        before = dirty_bytes(src)
        check(before == 16 * GRANULARITY, 'the source has %s dirty bytes' % before)
        way.begin()
        result = way.outcome()
        check(dirty_bytes(dst) == before, 'the destination has %s dirty bytes, expected %d'
              % (dirty_bytes(dst), before))
        return result
    compare(t, way_of(t, kind, n=n, k=k), body)


@case('e2e/main-channel/dirty-bitmaps/cancelled-{i}', needs=NEEDS, table=[
    dict(i=2), *(dict(i=i, full=True) for i in (1, 3, 4, 5, 6))])
def dirty_bitmaps_cancelled(t, i):
    """Cancelled at any moment, the destination must not wait at a marker for ever."""
    way = way_of(t, 'daemon', n=4, k=3)
    src, dst = with_bitmaps(way)
    src.parameters(max_bandwidth=16 << 20)
    dst.may_be_dead = True
    way.begin()
    src.wait_transferred(i * 5 << 20)
    src.qmp.cmd('migrate_cancel')
    t.result(way.legs, '-', way.outcome())
    dst.expect_failed_incoming()


# ---- where a source can be sent -----------------------------------------------------------

def address_of(uri):
    """The same as the channels argument has it since QEMU 8.2."""
    kind, rest = uri.split(':', 1)
    if kind == 'unix':
        return {'transport': 'socket', 'type': 'unix', 'path': rest}
    if kind == 'vsock':
        cid, port = rest.split(':')
        return {'transport': 'socket', 'type': 'vsock', 'cid': cid, 'port': port}
    host, port = rest.rsplit(':', 1)
    return {'transport': 'socket', 'type': 'inet', 'host': host.strip('[]'), 'port': port}


def by_channels(way):
    """migrate and migrate-incoming by their channels argument."""
    def channels(uri):
        return [{'channel-type': 'main', 'addr': address_of(uri)}]

    def listen(uri):
        way.dst.qmp.cmd('migrate-incoming', channels=channels(uri))
        return uri
    way.dst.listen = listen
    return lambda uri: way.src.qmp.cmd('migrate', channels=channels(uri))


@case('e2e/uri/{form}/{argument}/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(form='tcp-ipv6', argument='uri', kind='daemon', n=2, k=3),
    dict(form='tcp-ipv6', argument='uri', kind='link', n=0, k=0, full=True),
    dict(form='vsock', argument='uri', kind='daemon', n=2, k=3)] + [
    dict(form=form, argument='channels', kind=kind, n=n, k=k, full=True)
    for form, kind, n, k in (('tcp', 'daemon', 2, 3), ('unix', 'daemon', 2, 3), ('tcp', 'link', 0, 0),
                             ('unix', 'link', 3, 2), ('vsock', 'daemon', 2, 3))])
def forms(t, form, argument, kind, n, k):
    """tcp and unix by uri are what all the other cases use."""
    def body(way):
        src, dst = way.ends()
        migrate = None
        if argument == 'channels':
            for qemu in src, dst:
                t.need_version((8, 2), qemu, 'the channels argument')
            migrate = by_channels(way)
        way.listen_keys['listen'] = new_address(form, way.t.dir + '/in.sock')
        way.begin(uri=new_address(form, way.dst.dir + '/incoming.sock'), migrate=migrate)
        return way.outcome()
    if form == 'vsock':
        need_vsock()
    compare(t, way_of(t, kind, n=n, k=k), body)


def new_address(form, path):
    """Of that form, where nobody listens yet; @path is for a Unix socket."""
    return {'unix': 'unix:' + path, 'vsock': 'vsock:1:%d' % free_port(),
            'tcp': 'tcp:127.0.0.1:%d' % free_port(), 'tcp-ipv6': 'tcp:[::1]:%d' % free_port()}[form]


def need_vsock():
    """Loopback (CID 1), which is a kernel module of its own."""
    try:
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener, \
                socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as client:
            listener.bind((1, socket.VMADDR_PORT_ANY))
            listener.listen()
            client.settimeout(2)
            client.connect((1, listener.getsockname()[1]))
    except OSError as e:
        raise Skip('vsock loopback (module vsock_loopback): %s' % e) from None
